"""kazoo's transaction: what is collected, and what is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from terzetto.client.kazoo._transaction import Operation
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError

from .conftest import Connect


def test_operations_are_collected_without_a_connection() -> None:
    transaction = KazooClient().transaction()
    transaction.create("/a/", sequence=True)
    transaction.delete("b")
    assert transaction.operations == [
        Operation("create", ("/a/", b"", None, False, True)),
        Operation("delete", ("/b", -1)),
    ]
    assert not transaction.committed


WRONG: list[Callable[[Any], object]] = [
    lambda t: t.create(None),
    lambda t: t.create("/a", None),
    lambda t: t.create("/a", acl=5),
    lambda t: t.create("/a", ephemeral=1),
    lambda t: t.create("/a", sequence="x"),
    lambda t: t.delete(3),
    lambda t: t.delete("/a", "1"),
    lambda t: t.set_data("/a", "text"),
    lambda t: t.set_data("/a", b"", "1"),
    lambda t: t.check("/a", None),
    lambda t: t.check(b"/a", 1),
]


@pytest.mark.parametrize("add", WRONG)
def test_wrong_types_are_refused_at_once(add: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError):
        add(KazooClient().transaction())


def test_nothing_follows_a_commit(client: KazooClient) -> None:
    transaction = client.transaction()
    assert transaction.commit() == []
    assert transaction.committed
    for call in (transaction.commit, transaction.commit_async, lambda: transaction.delete("/a")):
        with pytest.raises(ValueError, match="committed already"):
            call()


def test_a_block_that_raises_commits_nothing(client: KazooClient) -> None:
    def work() -> None:
        with client.transaction() as transaction:
            transaction.create("/never")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert client.exists("/never") is None


def test_a_path_that_no_server_takes_fails_as_on_a_server(client: KazooClient) -> None:
    transaction = client.transaction()
    transaction.create("/before")
    transaction.create("/bad\x01")
    transaction.create("/behind")
    names = [type(result).__name__ for result in transaction.commit()]
    assert names == ["RolledBackError", "BadArgumentsError", "RuntimeInconsistency"]
    assert client.exists("/before") is None


def test_a_client_that_is_stopped_is_told_by_the_result(connect: Connect) -> None:
    client = connect()
    transaction = client.transaction()
    transaction.create("/late")
    client.stop()
    result = transaction.commit_async()
    with pytest.raises(ConnectionClosedError):
        result.get(timeout=10)
    with pytest.raises(ConnectionClosedError), client.transaction() as empty:
        empty.delete("/late")
