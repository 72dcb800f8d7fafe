"""A deposed leader comes back with a transaction that nobody else has: it must go, in both directions and for good.

ZooKeeper cuts the log of such a server, and leaves snapshots that have what was cut (ZOOKEEPER-1549). So terzetto's
leader sends Java's learners a snapshot of its own instead; Java's leader cuts terzetto's.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError

from .mixed import JAVA, TERZETTO, MixedEnsemble, tree_of
from .zookeeper import START_DEADLINE, RealServer, ServerOptions

OPTIONS = ServerOptions(zoo_cfg={"initLimit": 60, "syncLimit": 40})
NO_ANSWER_SECONDS = 2.0
"""How long a write is waited for that cannot be acknowledged."""

_CONNECTED_WITHIN = 30.0


def client_of(server: RealServer) -> Any:
    client: Any = KazooClient(hosts=server.address, timeout=20.0)
    client.start(_CONNECTED_WITHIN)
    return client


def await_logged(server: RealServer, path: str) -> None:
    """Waits until a path stands in the server's transaction log, while nobody acknowledges it."""
    ends_at = time.monotonic() + START_DEADLINE
    while not logged(server, path):
        assert time.monotonic() < ends_at, f"server {server.sid} does not log {path}"


def logged(server: RealServer, path: str) -> bool:
    """Whether a path stands in the server's transaction log."""
    logs = (server.directory / "data").rglob("log.*")
    return any(path.encode() in log.read_bytes() for log in logs)


def write(server: RealServer, *paths: str) -> None:
    client = client_of(server)
    try:
        for path in paths:
            client.create(path, b"")
    finally:
        client.stop()
        client.close()


def write_in_vain(ensemble: MixedEnsemble, leader: RealServer, path: str) -> None:
    """The leader logs a write that its followers never see; then all servers die."""
    client = client_of(leader)
    try:
        followers = [server for server in ensemble.servers.values() if server is not leader]
        for follower in followers:
            follower.pause()
        pending = client.create_async(path, b"")
        with pytest.raises(KazooTimeoutError):
            pending.get(timeout=NO_ANSWER_SECONDS)
        await_logged(leader, path)
        for server in [*followers, leader]:
            server.kill()
    finally:
        client.stop()
        client.close()
    assert not any(logged(follower, path) for follower in followers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "writes", "method"),
    [
        ((TERZETTO, TERZETTO, JAVA), False, "Getting a snapshot from leader"),
        pytest.param((TERZETTO, TERZETTO, JAVA), True, "Getting a snapshot from leader", marks=pytest.mark.soak),
        ((JAVA, JAVA, TERZETTO), False, "brought into step by TRUNC"),
        # ZooKeeper's leader cuts only while it has no transaction of a later epoch.
        pytest.param((JAVA, JAVA, TERZETTO), True, "brought into step by SNAP", marks=pytest.mark.soak),
    ],
    ids=["Java led", "Java led and others write", "terzetto led", "terzetto led and others write"],
)
def test_what_only_a_deposed_leader_has_is_gone_for_good(
    kinds: tuple[str, ...], writes: bool, method: str, zookeeper_installed: None, tmp_path: Path
) -> None:
    with MixedEnsemble(kinds, OPTIONS, tmp_path) as ensemble:
        old = ensemble.leader()
        assert old.sid == 3
        write(old, "/a", "/b")
        write_in_vain(ensemble, old, "/lost")
        others = [ensemble[1], ensemble[2]]
        for server in others:
            server.start()
        others[0].wait_serving()
        if writes:
            write(others[0], "/c")
        old.start()
        # It comes back with its memory lost, then once more with what it has on disk by then.
        for _ in range(2):
            ensemble.wait_serving()
            expected = tree_of(others[0])
            assert expected.keys() >= {"/a", "/b"}
            assert "/lost" not in expected
            assert tree_of(old) == expected
            assert method in (old.directory / "server.log").read_text()
            old.kill()
            old.start()
        ensemble.wait_serving()
        assert tree_of(old) == tree_of(others[1])
        write(old, "/d")
        assert "/d" in tree_of(others[0])
