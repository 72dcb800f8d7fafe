"""Who is told of events: `zk.watch()` streams with `Resync`, callbacks, `states()`, listeners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import (
    AddWatchMode,
    ConfigurationError,
    ConnectionClosedError,
    EventType,
    KazooState,
    NoWatcherError,
    Resync,
    StateStream,
    WatchedEvent,
    WatcherType,
    WatchStream,
    ZooKeeper,
)
from terzetto.client.wire import Opcode

from .holdings import drained, holdings, watched_by_server
from .memory_server import Door, MemoryEnsemble, pass_time, settle, until
from .server_link import Code, every
from .watch_tables import Release

Item = tuple[str, str] | Resync


async def take(stream: WatchStream, count: int) -> list[Item]:
    """The next items, each within a minute."""
    items: list[Item] = []
    for _ in range(count):
        with trio.fail_after(60):
            item = await stream.__anext__()
        items.append(item if isinstance(item, Resync) else (item.type, item.path))
    return items


async def nothing_more(stream: WatchStream) -> bool:
    with trio.move_on_after(30) as scope:
        await stream.__anext__()
    return scope.cancelled_caught


async def lose(ensemble: MemoryEnsemble, zk: ZooKeeper) -> None:
    """The connection goes and comes back."""
    established = len(ensemble.links)
    ensemble.cut()
    await until(lambda: len(ensemble.links) > established and zk.connected)


# Streams --------------------------------------------------------------------------------------------------------------


async def test_a_stream_tells_every_change_in_order(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, zk.watch("/a") as changes:
        await zk.create("/a")
        await zk.set("/a", b"1")
        await zk.create("/a/b")
        await zk.set("/a/b", b"not watched")
        await zk.delete("/a/b")
        await zk.delete("/a")
        assert await take(changes, 5) == [
            ("CREATED", "/a"),
            ("CHANGED", "/a"),
            ("CHILD", "/a"),
            ("CHILD", "/a"),
            ("DELETED", "/a"),
        ]
        assert await nothing_more(changes)


async def test_a_recursive_stream_tells_of_everything_below(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, zk.watch("/a", recursive=True) as changes:
        await zk.create("/a/b/c", makepath=True)
        await zk.set("/a/b/c", b"1")
        await zk.create("/other")
        await zk.delete("/a/b/c")
        assert await take(changes, 5) == [
            ("CREATED", "/a"),
            ("CREATED", "/a/b"),
            ("CREATED", "/a/b/c"),
            ("CHANGED", "/a/b/c"),
            ("DELETED", "/a/b/c"),
        ]
        assert await nothing_more(changes)


async def test_paths_are_those_of_the_view(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(chroot="/app", ensure_chroot=True) as zk:
        view = zk.with_chroot("/x")
        await view.ensure_path("/")
        async with view.watch("/", recursive=True) as below, zk.watch("/x") as beside:
            await view.create("/y")
            await view.set("/", b"")
            assert await take(below, 2) == [("CREATED", "/y"), ("CHANGED", "/")]
            assert await take(beside, 2) == [("CHILD", "/x"), ("CHANGED", "/x")]


async def test_an_event_is_there_before_the_reply_that_shows_the_change(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk, zk.watch("/a") as changes:
        ensemble.realm.set("/a", b"new")
        assert (await zk.get("/a"))[0] == b"new"
        # No reply comes between the event and here.
        with trio.fail_after(0):
            with trio.CancelScope(shield=True):
                assert await take(changes, 1) == [("CHANGED", "/a")]


async def test_servers_of_3_9_say_the_transaction(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.release = Release.V39
    async with ensemble.open() as zk, zk.watch("/a") as changes:
        await zk.create("/a")
        event = await changes.__anext__()
        assert isinstance(event, WatchedEvent)
        stat = await zk.exists("/a")
        assert stat is not None
        assert event.zxid == stat.czxid


async def test_a_reconnect_is_told(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, zk.watch("/a") as changes:
        await zk.create("/a")
        await lose(ensemble, zk)
        await zk.set("/a", b"1")
        assert await take(changes, 3) == [("CREATED", "/a"), Resync(), ("CHANGED", "/a")]
        await lose(ensemble, zk)
        await lose(ensemble, zk)
        assert await take(changes, 2) == [Resync(), Resync()]
        assert await nothing_more(changes)


async def test_a_lost_session_is_told_and_the_stream_goes_on_in_the_next(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, zk.watch("/a") as changes:
        first = zk.session_id
        ensemble.expire(first)
        await until(lambda: zk.connected and zk.session_id not in (0, first))
        await zk.create("/a")
        assert await take(changes, 2) == [Resync(session_lost=True), ("CREATED", "/a")]
        await lose(ensemble, zk)
        assert await take(changes, 1) == [Resync(session_lost=False)]


async def test_a_stream_opened_after_a_reconnect_is_not_told_of_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        await lose(ensemble, zk)
        async with zk.watch("/a") as changes:
            assert await nothing_more(changes)


@pytest.mark.parametrize("room", [1, 3, 10])
async def test_what_does_not_fit_is_counted(ensemble: MemoryEnsemble, autojump_clock: MockClock, room: int) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk, zk.watch("/a", max_buffered=room) as changes:
        for number in range(25):
            ensemble.realm.set("/a", b"%d" % number)
        await zk.sync("/")
        assert await take(changes, room + 1) == [("CHANGED", "/a")] * room + [Resync(dropped=25 - room)]
        ensemble.realm.delete("/a")
        assert await take(changes, 1) == [("DELETED", "/a")]
        assert await nothing_more(changes)


async def test_a_full_buffer_keeps_the_news_of_a_lost_session(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk, zk.watch("/a", max_buffered=2) as changes:
        for _ in range(4):
            ensemble.realm.set("/a")
        await zk.sync("/")
        await lose(ensemble, zk)
        first = zk.session_id
        ensemble.expire(first)
        await until(lambda: zk.connected and zk.session_id not in (0, first))
        ensemble.realm.set("/a")
        await zk.sync("/")
        assert await take(changes, 3) == [("CHANGED", "/a")] * 2 + [Resync(session_lost=True, dropped=3)]


@pytest.mark.parametrize("room", [0, -5, 1.5, True, "x"])
async def test_a_buffer_without_room_is_refused(ensemble: MemoryEnsemble, autojump_clock: MockClock, room: Any) -> None:
    async with ensemble.open() as zk:
        sent = len(ensemble.received)
        with pytest.raises(ValueError, match=f"max_buffered must be at least 1, not {room!r}"):
            async with zk.watch("/a", max_buffered=room):
                raise AssertionError("not refused")
        assert len(ensemble.received) == sent


async def test_the_iteration_ends_when_the_watch_is_removed(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, zk.watch("/a") as changes:
        await zk.create("/a")
        await zk.remove_watches("/a")
        # What had come before can still be read.
        assert [item async for item in changes] == [WatchedEvent("CREATED", "CONNECTED", "/a")]
        assert [item async for item in changes] == []


async def test_the_iteration_ends_with_an_error_when_the_client_is_closed(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    seen: list[str] = []

    async def read(zk: ZooKeeper) -> None:
        try:
            async with zk.watch("/a") as changes:
                async for item in changes:
                    seen.append("" if isinstance(item, Resync) else item.type)
        except ConnectionClosedError as error:
            seen.append(str(error))

    async with ensemble.open() as zk:
        nursery.start_soon(read, zk)
        await settle()
        await zk.create("/a")
    await settle()
    assert seen == ["CREATED", "the session ended while '/a' was watched"]


async def test_the_iteration_ends_with_an_error_when_the_session_is_lost_for_good(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(renew_session=False) as zk, zk.watch("/a") as changes:
        ensemble.expire(zk.session_id)
        for _ in range(2):
            with pytest.raises(ConnectionClosedError, match="the session ended while '/a' was watched"):
                await changes.__anext__()


async def test_the_iteration_ends_when_the_block_does(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        before = await drained(zk)
        async with zk.watch("/a") as changes:
            assert watched_by_server(ensemble.link, "/a")
        assert [item async for item in changes] == []
        assert await drained(zk) == before
        assert not watched_by_server(ensemble.link, "/a")


async def test_two_tasks_may_read_one_stream(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    seen: list[Item] = []

    async def read(changes: WatchStream) -> None:
        seen.extend(await take(changes, 1))

    async with ensemble.open() as zk, zk.watch("/a") as changes:
        async with trio.open_nursery() as inner:
            inner.start_soon(read, changes)
            inner.start_soon(read, changes)
            await settle()
            await zk.create("/a")
            await zk.delete("/a")
    assert sorted(map(str, seen)) == ["('CREATED', '/a')", "('DELETED', '/a')"]


async def test_streams_on_one_path_do_not_touch_each_other(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, zk.watch("/a") as first:
        async with zk.watch("/a") as second, zk.watch("/a", recursive=True) as third:
            await zk.create("/a")
            for stream in (first, second, third):
                assert await take(stream, 1) == [("CREATED", "/a")]
        await zk.set("/a", b"1")
        await zk.create("/a/b")
        assert await take(first, 2) == [("CHANGED", "/a"), ("CHILD", "/a")]


async def test_a_refused_watch_is_taken_back(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(every(Opcode.ADD_WATCH, Code(-6)))
    async with ensemble.open() as zk:
        before = await drained(zk)
        with pytest.raises(Exception, match="/a"):
            async with zk.watch("/a"):
                raise AssertionError("not refused")
        with pytest.raises(Exception, match="/a"):
            await zk.add_watch("/a", AddWatchMode.PERSISTENT, print)
        assert await drained(zk) == before


# Callbacks ------------------------------------------------------------------------------------------------------------


async def test_a_one_shot_callback_is_told_once_and_in_the_views_words(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    told: list[WatchedEvent] = []
    async with ensemble.open(chroot="/app", ensure_chroot=True) as zk:
        await zk.create("/a")
        await zk.get("/a", told.append)
        await zk.exists("/a", watch=told.append)
        await zk.set("/a", b"1")
        await zk.set("/a", b"2")
        await zk.sync("/")
    assert told == [WatchedEvent("CHANGED", "CONNECTED", "/a")]


async def test_callbacks_of_two_views_are_two(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[str] = []

    def tell(event: WatchedEvent) -> None:
        told.append(event.path)

    async with ensemble.open() as zk:
        await zk.create("/app/x", makepath=True)
        await zk.get("/app/x", tell)
        await zk.with_chroot("/app").get("/x", tell)
        await zk.with_chroot("/app").with_chroot("/x").get("/", tell)
        await zk.set("/app/x", b"")
        await zk.sync("/")
    assert told == ["/app/x", "/x", "/"]


async def test_a_callback_that_raises_is_logged_and_harms_nobody(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def bad(_: WatchedEvent) -> None:
        raise ZeroDivisionError("the application's")

    async with ensemble.open() as zk:
        await zk.create("/a")
        await zk.get("/a", bad)
        await zk.get("/a", lambda event: told.append(event.path))
        await zk.set("/a", b"")
        assert (await zk.get("/a"))[0] == b""
        assert zk.connected
    assert told == ["/a"]
    (record,) = [record for record in caplog.records if record.exc_info]
    assert isinstance(record.exc_info, tuple)
    assert isinstance(record.exc_info[1], ZeroDivisionError)


async def test_a_lost_session_ends_every_callback_with_a_last_word(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    told: list[tuple[str, str]] = []

    def tell(event: WatchedEvent) -> None:
        told.append((event.type, event.path))

    async with ensemble.open() as zk:
        await zk.exists("/a", tell)
        await zk.add_watch("/b", AddWatchMode.PERSISTENT, tell)
        first = zk.session_id
        ensemble.expire(first)
        await until(lambda: zk.connected and zk.session_id not in (0, first))
        assert sorted(told) == [("NONE", "/a"), ("NONE", "/b")]
        await zk.create("/a")
        await zk.create("/b")
        assert len(told) == 2


async def test_a_persistent_callback_is_told_until_it_is_removed(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    told: list[str] = []
    async with ensemble.open() as zk:
        await zk.add_watch("/a", AddWatchMode.PERSISTENT, lambda event: told.append(event.type))
        await zk.create("/a")
        await zk.set("/a", b"")
        await zk.remove_watches("/a")
        await zk.delete("/a")
        await zk.sync("/")
        with pytest.raises(NoWatcherError):
            await zk.remove_watches("/a")
    assert told == ["CREATED", "CHANGED", EventType.PERSISTENT_WATCH_REMOVED]


async def test_only_the_kind_asked_for_is_removed(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[str] = []

    def tell(event: WatchedEvent) -> None:
        told.append(event.type)

    async with ensemble.open() as zk:
        await zk.create("/a")
        await zk.get("/a", tell)
        await zk.get_children("/a", tell)
        await zk.remove_watches("/a", WatcherType.CHILDREN)
        assert told == [EventType.CHILD_WATCH_REMOVED]
        with pytest.raises(NoWatcherError) as caught:
            await zk.remove_watches("/a", WatcherType.CHILDREN)
        assert caught.value.path == "/a"
        await zk.create("/a/b")
        await zk.set("/a", b"")
        await zk.sync("/")
    assert told == [EventType.CHILD_WATCH_REMOVED, EventType.CHANGED]


async def _async_callback(_: object) -> None:
    pass


class _Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, _: object) -> None:
        pass


@pytest.mark.parametrize(
    ("watch", "message"),
    [(7, "must be a callable"), (_async_callback, "async one is never awaited"), (_Unhashable(), "must be hashable")],
)
async def test_what_cannot_be_told_is_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, watch: Any, message: str
) -> None:
    async with ensemble.open() as zk:
        sent = len(ensemble.received)
        for call in (zk.get, zk.exists, zk.get_children):
            with pytest.raises(TypeError, match=message):
                await call("/", watch)
        with pytest.raises(TypeError, match=message):
            await zk.get_config(watch)
        with pytest.raises(TypeError, match=message):
            await zk.add_watch("/", AddWatchMode.PERSISTENT, watch)
        assert len(ensemble.received) == sent
        assert holdings(zk).watches == 0


# States ---------------------------------------------------------------------------------------------------------------

Through = Callable[[], Any]


async def _through_a_loss_and_a_new_session(ensemble: MemoryEnsemble, zk: ZooKeeper) -> None:
    await lose(ensemble, zk)
    first = zk.session_id
    ensemble.expire(first)
    await until(lambda: zk.connected and zk.session_id not in (0, first))


EVERY_STATE = ["CONNECTED", "SUSPENDED", "CONNECTED", "SUSPENDED", "LOST", "CONNECTED", "LOST"]


async def test_every_state_is_told_to_every_iterator_from_where_it_began(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    prompt: list[str] = []
    ended: list[str] = []

    async def follow(stream: StateStream) -> None:
        async for state in stream:
            prompt.append(state)
        ended.append("prompt")

    async with ensemble.open() as zk:
        nursery.start_soon(follow, zk.states())
        slow = zk.states()
        await settle()
        await _through_a_loss_and_a_new_session(ensemble, zk)
        late = zk.states()
        assert [await late.__anext__()] == ["CONNECTED"]
    assert [state async for state in slow] == EVERY_STATE
    assert [state async for state in late] == ["LOST"]
    await settle()
    assert prompt == EVERY_STATE
    assert ended == ["prompt"]
    assert [state async for state in slow] == []
    assert [state async for state in zk.states()] == ["LOST"]


async def test_listeners_are_told_of_each_change_in_order(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[tuple[str, str]] = []
    async with ensemble.open() as zk:
        zk.add_listener(lambda state: told.append(("first", state)))
        zk.add_listener(lambda state: told.append(("second", state)))
        await _through_a_loss_and_a_new_session(ensemble, zk)
    assert told == [(name, state) for state in EVERY_STATE[1:] for name in ("first", "second")]


async def test_a_listener_that_returns_true_is_removed(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[str] = []

    def once(state: str) -> bool:
        told.append(state)
        return True

    def merely_truthy(state: str) -> str:
        told.append("still " + state)
        return state

    async with ensemble.open() as zk:
        before = holdings(zk).listeners
        zk.add_listener(once)
        zk.add_listener(merely_truthy)
        await lose(ensemble, zk)
        assert holdings(zk).listeners == before + 1
        assert told == ["SUSPENDED", "still SUSPENDED", "still CONNECTED"]


async def test_a_listener_that_raises_is_logged_and_harms_nobody(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def bad(_: str) -> None:
        raise ZeroDivisionError

    async with ensemble.open() as zk:
        zk.add_listener(bad)
        zk.add_listener(told.append)
        await lose(ensemble, zk)
        assert told == ["SUSPENDED", "CONNECTED"]
        assert len([record for record in caplog.records if record.exc_info]) == 2
        zk.remove_listener(bad)


async def test_a_removed_listener_is_told_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[str] = []
    async with ensemble.open() as zk:

        @zk.add_listener
        def listener(state: str) -> None:
            told.append(state)

        zk.remove_listener(listener)
        zk.remove_listener(listener)
        await lose(ensemble, zk)
    assert told == []


@pytest.mark.parametrize("listener", [None, 7, "CONNECTED", _async_callback])
async def test_what_is_no_listener_is_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, listener: Any
) -> None:
    async with ensemble.open() as zk:
        before = holdings(zk)
        with pytest.raises(ConfigurationError, match="a listener must be a"):
            zk.add_listener(listener)
        assert holdings(zk) == before


async def test_a_long_outage_is_one_suspension(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[str] = []
    async with ensemble.open() as zk:
        zk.add_listener(told.append)
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await pass_time(1000.0)
        assert told == [KazooState.SUSPENDED]
