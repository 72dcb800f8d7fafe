"""kazoo's known faults, each shown to be absent here, on the real server; and the operations that it lacks. The numbers
are those of the page `docs/recipes/known-faults.md`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio

from terzetto.client import (
    AddWatchMode,
    AuthFailedError,
    BadVersionError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EventType,
    ReadChildren,
    ReadData,
    RolledBackError,
    RuntimeInconsistency,
    UnknownServerError,
    WatchedEvent,
    ZooKeeper,
    open_zookeeper,
)

from . import badpeer
from .badpeer import open_bad_peer
from .proxy import open_proxy
from .zookeeper import RealZooKeeper


async def test_a_chroot_ends_at_an_element(zookeeper: RealZooKeeper) -> None:
    """kazoo turns "/app-other" under the chroot "/app" into "-other"."""
    async with open_zookeeper(zookeeper.hosts, chroot="/app", ensure_chroot=True) as zk:
        assert zk.unchroot("/app-other") == "/app-other"
        assert zk.unchroot("/app/other") == "/other"
        assert zk.unchroot("/app") == "/"


async def test_a_chroot_of_several_levels_is_made(zookeeper: RealZooKeeper) -> None:
    """kazoo can only make the last element."""
    async with open_zookeeper(zookeeper.hosts, chroot="/several/levels/deep", ensure_chroot=True) as zk:
        assert await zk.create("/a/b", makepath=True) == "/a/b"


async def test_an_unknown_error_code_does_not_hang_its_caller() -> None:
    async with open_bad_peer(badpeer.unknown_error(-999)) as peer:
        with trio.fail_after(10):
            async with open_zookeeper(peer.hosts, close_timeout=1.0) as zk:
                with pytest.raises(UnknownServerError):
                    await zk.get("/a")


async def test_a_watch_outlives_a_reconnect(zookeeper: RealZooKeeper) -> None:
    """kazoo drops all watches when a connection is lost."""
    async with open_proxy(zookeeper.address) as proxy, open_zookeeper(proxy.hosts) as zk:
        events: list[WatchedEvent] = []
        path = await zk.create("/outlives-", sequence=True)
        await zk.get(path, watch=events.append)
        proxy.cut()
        await zk.retry(zk.sync, path)
        await zk.set(path, b"x")
        assert [event.type for event in events] == [EventType.CHANGED]


async def test_credentials_are_in_no_log_and_no_repr(
    zookeeper: RealZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    """kazoo prints the password at level DEBUG."""
    caplog.set_level(logging.DEBUG)
    async with open_zookeeper(zookeeper.hosts, auth=[("digest", "user:first-secret")]) as zk:
        await zk.add_auth("digest", "user:second-secret")
        with pytest.raises(AuthFailedError) as caught:
            await zk.add_auth("nonsense", "user:third-secret")
        await zk.sync("/")
        passwd = zk.session_passwd
        shown = caplog.text + repr(zk) + repr(caught.value)
    with pytest.raises(TypeError) as wrong:
        async with open_zookeeper(zookeeper.hosts) as zk:
            await zk.add_auth("digest", ["fourth-secret"])  # type: ignore[arg-type]
    shown += str(wrong.value)
    assert "secret" not in shown
    assert passwd.hex() not in shown
    assert repr(passwd) not in shown


async def test_opening_and_closing_do_not_race(zookeeper: RealZooKeeper) -> None:
    """kazoo hangs when it is started twice, or started while suspended, and its stop has no bound."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def open_and_leave(patience: float) -> None:
                with trio.move_on_after(patience):
                    async with open_zookeeper(zookeeper.hosts) as zk:
                        await zk.exists("/")
                        await trio.sleep_forever()

            # Cancelled at all stages: while dialling, in the handshake, connected.
            for i in range(60):
                nursery.start_soon(open_and_leave, i * 0.002)
    async with open_zookeeper(zookeeper.hosts) as zk:
        # The server hears of each end a moment later.
        with trio.fail_after(30):
            while await _connections(zk) >= 20:
                await zk.sync("/")


async def _connections(zk: ZooKeeper) -> int:
    lines = (await zk.command("mntr")).splitlines()
    return int(next(line for line in lines if "alive_connections" in line).split()[1])


async def test_opening_while_no_server_answers_is_bounded() -> None:
    """kazoo's start(timeout=1) took 6 s under a session timeout of 6 s."""
    async with open_bad_peer(badpeer.never_answers()) as peer:
        began = trio.current_time()
        with pytest.raises(ConnectTimeoutError):
            async with open_zookeeper(peer.hosts, connect_timeout=0.5, session_timeout=30.0):
                pytest.fail("the block must not begin")
        assert trio.current_time() - began < 15.0


async def test_a_call_after_the_end_is_a_clear_error(zookeeper: RealZooKeeper) -> None:
    async with open_zookeeper(zookeeper.hosts) as zk:
        pass
    with pytest.raises(ConnectionClosedError):
        await zk.get("/")
    assert (zk.state, zk.connected) == ("LOST", False)


async def test_long_answers_of_commands_are_whole(zookeeper: RealZooKeeper) -> None:
    """kazoo cuts them at one receive of 8192 bytes."""
    async with open_zookeeper(zookeeper.hosts) as zk:
        answer = await zk.command(b"mntr")
    assert len(answer) > 8192
    assert answer.endswith("\n")


async def test_a_sequential_znode_of_a_transaction_keeps_its_slash(zookeeper: RealZooKeeper) -> None:
    """kazoo creates a sibling instead of a child."""
    async with open_zookeeper(zookeeper.hosts, chroot="/slash", ensure_chroot=True) as zk:
        await zk.delete("/", recursive=True)
        await zk.ensure_path("/f")
        transaction = zk.transaction()
        transaction.create("/f/", sequence=True)
        assert await transaction.commit() == ["/f/0000000000"]


async def test_kazoo_18_a_transaction_has_a_result_for_each_operation(zookeeper: RealZooKeeper) -> None:
    """kazoo skips results that are false, so that those behind them stand for the wrong operations."""
    async with open_zookeeper(zookeeper.hosts, chroot="/results", ensure_chroot=True) as zk:
        await zk.delete("/", recursive=True)
        await zk.ensure_path("/a")
        transaction = zk.transaction()
        transaction.check("/a", 0)
        transaction.create("/a/b", b"")
        transaction.set_data("/a", b"", 0)
        transaction.delete("/a/b")
        transaction.create("/a/c")
        results = await transaction.commit()
        assert [results[0], results[1], results[3], results[4]] == [True, "/a/b", True, "/a/c"]
        assert results[2].version == 1
        transaction = zk.transaction()
        transaction.check("/a", 1)
        transaction.set_data("/a", b"", 0)
        transaction.delete("/a")
        kinds: list[object] = [type(result) for result in await transaction.commit()]
        assert kinds == [RolledBackError, BadVersionError, RuntimeInconsistency]


# Operations that kazoo lacks ------------------------------------------------------------------------------------------


async def _persistent_watch(zk: ZooKeeper) -> None:
    events: list[WatchedEvent] = []
    await zk.add_watch("/a", AddWatchMode.PERSISTENT, events.append)
    for data in (b"1", b"2"):
        await zk.set("/a", data)
    assert [event.type for event in events] == [EventType.CHANGED] * 2


async def _recursive_watch(zk: ZooKeeper) -> None:
    async with zk.watch("/", recursive=True) as changes:
        await zk.create("/a/b/c", makepath=True)
        found = [await anext(changes) for _ in range(2)]
        assert found == [WatchedEvent("CREATED", "CONNECTED", path) for path in ("/a/b", "/a/b/c")]


async def _remove_watches(zk: ZooKeeper) -> None:
    events: list[WatchedEvent] = []
    await zk.get("/a", watch=events.append)
    await zk.remove_watches("/a")
    await zk.set("/a", b"1")
    assert EventType.CHANGED not in [event.type for event in events]


async def _container(zk: ZooKeeper) -> None:
    await zk.create("/c", container=True)
    assert await zk.create("/c/d") == "/c/d"


async def _ttl(zk: ZooKeeper) -> None:
    assert await zk.create("/t", ttl=60.0) == "/t"
    assert (await zk.create("/s", ttl=60.0, sequence=True)).startswith("/s0")


async def _multi_read(zk: ZooKeeper) -> None:
    data, names = await zk.multi_read([ReadData("/a"), ReadChildren("/")])
    assert data[0] == b""
    assert names == ["a"]


async def _multi_with_container(zk: ZooKeeper) -> None:
    transaction = zk.transaction()
    transaction.create("/c", container=True)
    transaction.create("/c/t", ttl=60.0)
    assert await transaction.commit() == ["/c", "/c/t"]


async def _ephemerals(zk: ZooKeeper) -> None:
    await zk.create("/e", ephemeral=True)
    assert await zk.get_ephemerals() == ["/e"]


async def _descendants(zk: ZooKeeper) -> None:
    await zk.create("/a/b/c", makepath=True)
    assert await zk.count_descendants("/a") == 2


async def _who_am_i(zk: ZooKeeper) -> None:
    assert "ip" in [scheme for scheme, _ in await zk.who_am_i()]


async def _configuration(zk: ZooKeeper) -> None:
    data, _ = await zk.get_config()
    assert data is not None


async def _children_with_data(zk: ZooKeeper) -> None:
    async with zk.pipeline() as pipeline:
        handles = [await pipeline.get(f"/{name}") for name in await zk.get_children("/")]
    assert [handle.result()[0] for handle in handles] == [b""]


LACKED: dict[str, Callable[[ZooKeeper], Awaitable[None]]] = {
    "persistent watches": _persistent_watch,
    "recursive watches": _recursive_watch,
    "removing watches": _remove_watches,
    "container znodes": _container,
    "TTL znodes": _ttl,
    "multiRead": _multi_read,
    "containers and TTLs in a transaction": _multi_with_container,
    "getEphemerals": _ephemerals,
    "getAllChildrenNumber": _descendants,
    "whoAmI": _who_am_i,
    "the configuration": _configuration,
    "many reads at once": _children_with_data,
}


@pytest.mark.parametrize("operation", LACKED)
async def test_kazoo_lacks(zookeeper: RealZooKeeper, operation: str) -> None:
    chroot = f"/lacks/{list(LACKED).index(operation)}"
    async with open_zookeeper(zookeeper.hosts, chroot=chroot, ensure_chroot=True) as zk:
        await zk.create("/a")
        await LACKED[operation](zk)
        await zk.delete("/", recursive=True)
