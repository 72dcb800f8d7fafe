"""Every watch rule of the client port, on the real ZooKeeper 3.8.0: what registers, what fires, what is restored.

3.8.0 keeps one mode for each connection, table and path, the last one wins; the client must not let that show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from terzetto.client import (
    AddWatchMode,
    EventType,
    NoNodeError,
    NoWatcherError,
    Resync,
    WatchedEvent,
    WatcherType,
    ZooKeeper,
    open_zookeeper,
)

from .proxy import CuttableProxy, open_proxy
from .zookeeper import RealZooKeeper


class Recorder:
    """A watch callback that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self._arrived = trio.Event()

    def __call__(self, event: WatchedEvent) -> None:
        self.events.append((event.type, event.path))
        self._arrived.set()

    async def wait_for(self, count: int) -> list[tuple[str, str]]:
        with trio.fail_after(15):
            while len(self.events) < count:
                self._arrived = trio.Event()
                await self._arrived.wait()
        return self.events


@asynccontextmanager
async def two_clients(server: RealZooKeeper, name: str) -> AsyncIterator[tuple[ZooKeeper, ZooKeeper]]:
    chroot = f"/watches-{name}".replace("[", "-").rstrip("]")
    async with (
        open_zookeeper(server.hosts, chroot=chroot, ensure_chroot=True) as watching,
        open_zookeeper(server.hosts, chroot=chroot) as changing,
    ):
        yield watching, changing


@pytest.fixture
async def clients(
    zookeeper: RealZooKeeper, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[ZooKeeper, ZooKeeper]]:
    async with two_clients(zookeeper, request.node.name) as pair:
        yield pair


async def test_one_shot_watches_fire_once(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    told = Recorder()
    await watching.create("/a")
    await watching.get("/a", watch=told)
    await changing.set("/a", b"1")
    await changing.set("/a", b"2")
    await watching.sync("/a")
    assert told.events == [(EventType.CHANGED, "/a")]


@pytest.mark.parametrize("missing", [True, False])
async def test_exists_watches_what_is_and_what_is_not_there(
    clients: tuple[ZooKeeper, ZooKeeper], missing: bool
) -> None:
    watching, changing = clients
    told = Recorder()
    if not missing:
        await changing.create("/a")
        await watching.sync("/a")
    assert (await watching.exists("/a", watch=told) is None) == missing
    await (changing.create("/a") if missing else changing.delete("/a"))
    assert await told.wait_for(1) == [(EventType.CREATED if missing else EventType.DELETED, "/a")]


async def test_reads_of_missing_znodes_leave_no_watch(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    told = Recorder()
    with pytest.raises(NoNodeError):
        await watching.get("/a", watch=told)
    with pytest.raises(NoNodeError):
        await watching.get_children("/a", watch=told)
    await changing.create("/a")
    await changing.create("/a/b")
    await watching.sync("/a")
    assert told.events == []
    session = f"0x{watching.session_id:x}"
    assert session not in await watching.command("wchc")
    await watching.get("/a", watch=told)
    assert session in await watching.command("wchc")


async def test_children_watch_sees_children_only(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    told = Recorder()
    await changing.create("/p")
    await changing.create("/p/c")
    await watching.sync("/p")
    await watching.get_children("/p", watch=told)
    await changing.set("/p", b"x")
    await changing.set("/p/c", b"x")
    await changing.create("/p/c/grandchild")
    await watching.sync("/p")
    assert told.events == []
    await changing.create("/p/d")
    assert await told.wait_for(1) == [(EventType.CHILD, "/p")]


async def test_one_event_for_a_deletion_seen_twice(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    data, child = Recorder(), Recorder()
    await watching.create("/p")
    await watching.get("/p", watch=data)
    await watching.get_children("/p", watch=child)
    await changing.delete("/p")
    assert await data.wait_for(1) == await child.wait_for(1) == [(EventType.DELETED, "/p")]


async def test_the_same_callback_is_told_once_and_others_each(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    one, other = Recorder(), Recorder()
    await watching.create("/a")
    await watching.get("/a", watch=one)
    await watching.exists("/a", watch=one)
    await watching.get("/a", watch=other)
    await changing.set("/a", b"x")
    await watching.sync("/a")
    assert one.events == other.events == [(EventType.CHANGED, "/a")]


async def test_the_event_comes_before_the_reply_that_shows_the_change(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    await watching.create("/a", b"old")
    for round_ in range(50):
        told = Recorder()
        await watching.get("/a", watch=told)
        value = b"new %d" % round_
        seen: list[bool] = []

        async def read(told: Recorder = told, value: bytes = value, seen: list[bool] = seen) -> None:
            while (await watching.get("/a"))[0] != value:
                pass
            seen.append(bool(told.events))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(changing.set, "/a", value)
        assert seen == [True]


async def test_own_writes_fire_before_their_reply(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    zk, _ = clients
    told = Recorder()
    await zk.create("/a")
    await zk.get("/a", watch=told)
    await zk.set("/a", b"x")
    assert told.events == [(EventType.CHANGED, "/a")]


@pytest.mark.parametrize("mode", list(AddWatchMode))
async def test_persistent_watches(clients: tuple[ZooKeeper, ZooKeeper], mode: AddWatchMode) -> None:
    watching, changing = clients
    told = Recorder()
    await watching.add_watch("/p", mode, told)  # the path need not exist
    await changing.create("/p")
    await changing.create("/p/c")
    await changing.create("/p/c/g")
    await changing.set("/p", b"x")
    await changing.set("/p/c", b"x")
    await changing.delete("/p/c/g")
    await changing.delete("/p/c")
    await changing.delete("/p")
    await changing.create("/p")
    await watching.sync("/p")
    created, changed, deleted, child = EventType.CREATED, EventType.CHANGED, EventType.DELETED, EventType.CHILD
    if mode is AddWatchMode.PERSISTENT:
        expected = [(created, "/p"), (child, "/p"), (changed, "/p"), (child, "/p"), (deleted, "/p"), (created, "/p")]
    else:
        expected = [
            (created, "/p"),
            (created, "/p/c"),
            (created, "/p/c/g"),
            (changed, "/p"),
            (changed, "/p/c"),
            (deleted, "/p/c/g"),
            (deleted, "/p/c"),
            (deleted, "/p"),
            (created, "/p"),
        ]
    assert told.events == expected


async def test_one_shot_watches_do_not_downgrade_persistent_ones(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    lasting, data, child = Recorder(), Recorder(), Recorder()
    await watching.create("/p")
    await watching.add_watch("/p", AddWatchMode.PERSISTENT, lasting)
    await watching.get("/p", watch=data)
    await watching.get_children("/p", watch=child)
    for i in range(3):
        await changing.create(f"/p/{i}")
        await changing.set("/p", b"x")
    await watching.sync("/p")
    assert lasting.events == [(EventType.CHILD, "/p"), (EventType.CHANGED, "/p")] * 3
    assert (data.events, child.events) == ([(EventType.CHANGED, "/p")], [(EventType.CHILD, "/p")])


async def test_persistent_and_recursive_on_one_path(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    plain, deep, child = Recorder(), Recorder(), Recorder()
    await watching.create("/p")
    await watching.get_children("/p", watch=child)
    await watching.add_watch("/p", AddWatchMode.PERSISTENT, plain)
    await watching.add_watch("/p", AddWatchMode.PERSISTENT_RECURSIVE, deep)
    for _ in range(2):
        await changing.create("/p/c")
        await changing.set("/p/c", b"x")
        await changing.delete("/p/c")
    await watching.sync("/p")
    assert plain.events == [(EventType.CHILD, "/p")] * 4
    assert child.events == [(EventType.CHILD, "/p")]
    assert deep.events == [(kind, "/p/c") for kind in (EventType.CREATED, EventType.CHANGED, EventType.DELETED)] * 2


async def test_removing_one_watch_leaves_the_others(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    plain, data = Recorder(), Recorder()
    await watching.create("/p")
    await watching.add_watch("/p", AddWatchMode.PERSISTENT, plain)
    async with watching.watch("/p", recursive=True) as stream:
        await watching.get("/p", watch=data)
        await changing.create("/p/c")
        await watching.sync("/p")
    del stream
    await changing.create("/p/d")
    await changing.set("/p/d", b"unseen now")
    await changing.set("/p", b"x")
    await watching.sync("/p")
    assert plain.events == [(EventType.CHILD, "/p"), (EventType.CHILD, "/p"), (EventType.CHANGED, "/p")]
    assert data.events == [(EventType.CHANGED, "/p")]

    await watching.get_children("/p", watch=data)
    await watching.remove_watches("/p", WatcherType.PERSISTENT)
    assert plain.events[-1] == (EventType.PERSISTENT_WATCH_REMOVED, "/p")
    await changing.create("/p/e")
    await watching.sync("/p")
    assert plain.events[-1] == (EventType.PERSISTENT_WATCH_REMOVED, "/p")
    assert data.events == [(EventType.CHANGED, "/p"), (EventType.CHILD, "/p")]


@pytest.mark.parametrize(
    ("kind", "removed"),
    [
        (WatcherType.DATA, [EventType.DATA_WATCH_REMOVED]),
        (WatcherType.CHILDREN, [EventType.CHILD_WATCH_REMOVED]),
        (WatcherType.ANY, [EventType.DATA_WATCH_REMOVED, EventType.CHILD_WATCH_REMOVED]),
    ],
)
async def test_remove_watches(clients: tuple[ZooKeeper, ZooKeeper], kind: WatcherType, removed: list[str]) -> None:
    watching, changing = clients
    data, child = Recorder(), Recorder()
    await watching.create("/p")
    await watching.get("/p", watch=data)
    await watching.get_children("/p", watch=child)
    await watching.remove_watches("/p", kind)
    assert [event for event, _ in (*data.events, *child.events)] == removed
    await changing.set("/p", b"x")
    await changing.create("/p/c")
    await watching.sync("/p")
    assert [event for event, _ in data.events] == (
        [EventType.CHANGED] if kind is WatcherType.CHILDREN else [EventType.DATA_WATCH_REMOVED]
    )
    assert [event for event, _ in child.events] == (
        [EventType.CHILD] if kind is WatcherType.DATA else [EventType.CHILD_WATCH_REMOVED]
    )
    with pytest.raises(NoWatcherError):
        await watching.remove_watches("/p", kind)


async def test_watching_a_view_gives_its_paths(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, changing = clients
    told = Recorder()
    await watching.create("/app")
    view = watching.with_chroot("/app")
    await view.add_watch("/", AddWatchMode.PERSISTENT_RECURSIVE, told)
    await changing.create("/app/x")
    await changing.set("/app", b"x")
    await watching.sync("/")
    assert told.events == [(EventType.CREATED, "/x"), (EventType.CHANGED, "/")]


async def test_config_watch(clients: tuple[ZooKeeper, ZooKeeper]) -> None:
    watching, _ = clients
    told = Recorder()
    data, _ = await watching.get_config(watch=told)
    assert data == b""
    assert told.events == []


async def cut_and_wait(proxy: CuttableProxy, zk: ZooKeeper) -> None:
    """Cuts the connection, and returns once the client stands on the next one."""
    accepted = proxy.accepted
    proxy.cut()
    with trio.fail_after(15):
        await proxy.wait_until(lambda proxy: proxy.accepted > accepted)
        async for state in zk.states():
            if state == "CONNECTED" and zk.connected:
                break


async def test_watches_are_restored_and_missed_changes_reported(zookeeper: RealZooKeeper) -> None:
    async with (
        open_proxy(zookeeper.address) as proxy,
        open_zookeeper(zookeeper.hosts, chroot="/restored", ensure_chroot=True) as changing,
        open_zookeeper(zookeeper.hosts_at(proxy.hosts), chroot="/restored") as watching,
    ):
        for name in ("changed", "deleted", "kept", "parent", "recreated", "parent/gone"):
            await changing.create(f"/{name}")
        await watching.sync("/")
        told = {name: Recorder() for name in ("changed", "deleted", "kept", "created", "absent", "parent", "recreated")}
        for name in ("changed", "deleted", "kept", "recreated"):
            await watching.get(f"/{name}", watch=told[name])
        for name in ("created", "absent"):
            assert await watching.exists(f"/{name}", watch=told[name]) is None
        await watching.get_children("/parent", watch=told["parent"])

        proxy.refuse()
        proxy.cut()
        await changing.set("/changed", b"x")
        await changing.delete("/deleted")
        await changing.create("/created")
        await changing.delete("/parent/gone")
        await changing.delete("/recreated")
        await changing.create("/recreated")
        await proxy.accept()

        await watching.sync("/")
        assert told["changed"].events == [(EventType.CHANGED, "/changed")]
        assert told["deleted"].events == [(EventType.DELETED, "/deleted")]
        assert told["created"].events == [(EventType.CREATED, "/created")]
        assert told["parent"].events == [(EventType.CHILD, "/parent")]
        assert told["recreated"].events == [(EventType.CHANGED, "/recreated")]
        assert told["kept"].events == told["absent"].events == []
        await changing.set("/kept", b"x")
        await changing.create("/absent")
        await watching.sync("/")
        assert told["kept"].events == [(EventType.CHANGED, "/kept")]
        assert told["absent"].events == [(EventType.CREATED, "/absent")]


async def test_persistent_watches_survive_and_the_stream_says_resync(zookeeper: RealZooKeeper) -> None:
    async with (
        open_proxy(zookeeper.address) as proxy,
        open_zookeeper(zookeeper.hosts, chroot="/resync", ensure_chroot=True) as changing,
        open_zookeeper(zookeeper.hosts_at(proxy.hosts), chroot="/resync") as watching,
    ):
        told = Recorder()
        await watching.add_watch("/p", AddWatchMode.PERSISTENT, told)
        async with watching.watch("/p", recursive=True) as changes:
            await changing.create("/p")
            assert (await anext(changes))[:3] == (EventType.CREATED, "CONNECTED", "/p")
            proxy.refuse()
            proxy.cut()
            await changing.create("/p/missed")
            await proxy.accept()
            with trio.fail_after(15):
                assert await anext(changes) == Resync()
            await changing.create("/p/seen")
            with trio.fail_after(15):
                event = await anext(changes)
            assert isinstance(event, WatchedEvent)
            assert event.path == "/p/seen"
            await watching.sync("/")
            assert told.events == [(EventType.CREATED, "/p"), (EventType.CHILD, "/p")]


async def test_thousands_of_watches_are_restored_in_batches(zookeeper: RealZooKeeper) -> None:
    async with (
        open_proxy(zookeeper.address) as proxy,
        open_zookeeper(zookeeper.hosts, chroot="/batches", ensure_chroot=True) as changing,
        open_zookeeper(zookeeper.hosts_at(proxy.hosts), chroot="/batches") as watching,
    ):
        count, name = 3000, "a-name-long-enough-to-need-several-batches-" + "x" * 60
        told = Recorder()
        async with changing.pipeline() as pipeline:
            for i in range(count):
                await pipeline.create(f"/{name}-{i}")
        await watching.sync("/")
        async with trio.open_nursery() as nursery:
            limit = trio.CapacityLimiter(64)

            async def watch(i: int) -> None:
                async with limit:
                    await watching.get(f"/{name}-{i}", watch=told)

            for i in range(count):
                nursery.start_soon(watch, i)
        await cut_and_wait(proxy, watching)
        restoring = [frame for frame in proxy.frames if frame.sender == "client" and frame.body[4:8] == b"\0\0\0\x65"]
        if isinstance(zookeeper, RealZooKeeper):  # by WebSocket, the proxy sees no frames
            assert len(restoring) > 2
            assert len({frame.body[8:16] for frame in restoring}) == 1  # one frozen zxid
        async with changing.pipeline() as pipeline:
            for i in range(count):
                await pipeline.set(f"/{name}-{i}", b"x")
        await watching.sync("/")
        assert len(told.events) == count == len(set(told.events))


async def test_a_lost_session_ends_one_shot_watches_and_keeps_streams(zookeeper: RealZooKeeper) -> None:
    async with (
        open_proxy(zookeeper.address) as proxy,
        open_zookeeper(zookeeper.hosts, chroot="/lost", ensure_chroot=True) as changing,
        open_zookeeper(zookeeper.hosts_at(proxy.hosts), chroot="/lost") as watching,
    ):
        told = Recorder()
        first = watching.client_id
        assert first is not None
        await watching.create("/e", ephemeral=True)
        await watching.get("/", watch=told)
        async with watching.watch("/p") as changes:
            proxy.refuse()
            proxy.cut()
            # Whoever has its id and its password may end a session, which has then expired to everybody else.
            async with open_zookeeper(zookeeper.hosts, client_id=first):
                pass
            assert await changing.exists("/e") is None
            await proxy.accept()
            with trio.fail_after(15):
                assert await anext(changes) == Resync(session_lost=True)
            assert watching.session_id not in (0, first[0])
            assert told.events == [(EventType.NONE, "/")]
            await changing.create("/p")
            with trio.fail_after(15):
                event = await anext(changes)
            assert isinstance(event, WatchedEvent)
            assert (event.type, event.path) == (EventType.CREATED, "/p")
