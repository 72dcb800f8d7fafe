"""Two PostgreSQL nodes under Patroni, unchanged, on the drop-in: bootstrap, a switchover on demand, and a failover
when the leader dies. On both kinds of server.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .patroni_nodes import Node, find_postgresql, wait_until

pytestmark = pytest.mark.soak


@pytest.fixture
def nodes(hosts_of_either_kind: str) -> Iterator[tuple[Node, Node]]:
    bin_dir = find_postgresql()
    # A Unix socket's path is short, pytest's folders are not.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    made = (
        Node("one", hosts_of_either_kind, folder / "1", bin_dir),
        Node("two", hosts_of_either_kind, folder / "2", bin_dir),
    )
    yield made
    for node in made:
        node.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_switchover_and_failover(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.start()
    wait_until(lambda: one.is_primary, "the first node leads", one)
    one.sql("create table kept (number int)")
    one.sql("insert into kept values (1)")
    two.start()
    wait_until(lambda: two.is_replica, "the second node follows", one, two)

    wait_until(lambda: one.has_seen(two), "the leader knows whom it may hand over to", one, two)
    one.switch_to(two)
    wait_until(lambda: two.is_primary and one.is_replica, "the nodes have changed places", one, two)
    two.sql("insert into kept values (2)")
    wait_until(lambda: one.sql("select max(number) from kept") == "2", "the write is replicated", one, two)

    two.kill()
    assert not one.is_primary
    wait_until(lambda: one.is_primary, "the survivor leads", one, two)
    one.sql("insert into kept values (3)")
    assert one.sql("select string_agg(number::text, ',' order by number) from kept") == "1,2,3"

    two.start()
    wait_until(lambda: two.is_replica, "the dead node has come back, and follows", one, two)
    wait_until(lambda: two.sql("select count(*) from kept") == "3", "it has what it missed", one, two)
    assert one.is_primary
