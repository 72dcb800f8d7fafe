"""`open_zookeeper`: arguments, the first connection and its bound, what leaves the block, and that nothing is left."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import (
    AddWatchMode,
    ClientCrashedError,
    Connection,
    ConnectionClosedError,
    ConnectionLoss,
    ConnectTimeoutError,
    Endpoint,
    KazooState,
    KeeperState,
    Listener,
    SessionExpiredError,
    ZooKeeper,
)
from terzetto.client.wire import Opcode

from .memory_server import Door, MemoryEnsemble, pass_time, settle, until
from .server_link import Fault, every

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


# What the body raises -------------------------------------------------------------------------------------------------


class OwnError(Exception):
    pass


class OwnBaseError(BaseException):
    pass


BODY_ERRORS: list[Callable[[], BaseException]] = [
    OwnError,
    OwnBaseError,
    KeyboardInterrupt,
    lambda: SystemExit(3),
    GeneratorExit,
    StopIteration,
    StopAsyncIteration,
    lambda: RuntimeError("generator raised StopIteration"),
    lambda: ConnectionLoss("the application's own"),
    lambda: ExceptionGroup("the application's", [OwnError(), ValueError()]),
    lambda: BaseExceptionGroup("the application's", [ExceptionGroup("inner", [OwnError()]), KeyboardInterrupt()]),
]


@pytest.mark.parametrize("make", BODY_ERRORS)
async def test_what_the_body_raises_leaves_unchanged(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, make: Callable[[], BaseException]
) -> None:
    error = make()
    # A coroutine around the block would turn a StopIteration into another error.
    with pytest.raises(type(error)) as caught:  # noqa: PT012
        async with ensemble.open() as zk:
            await zk.create("/mine", ephemeral=True)
            raise error
    assert caught.value is error
    assert error.__cause__ is None
    assert not ensemble.realm.sessions
    assert "/mine" not in ensemble.realm.znodes


async def test_a_group_of_the_bodys_own_nursery_is_not_wrapped_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async def fails() -> None:
        raise OwnError

    with pytest.raises(BaseExceptionGroup) as caught:
        async with ensemble.open(), trio.open_nursery() as nursery:
            nursery.start_soon(fails)
    assert [type(error) for error in caught.value.exceptions] == [OwnError]


async def test_an_error_of_a_call_leaves_bare(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async def block() -> None:
        async with ensemble.open() as zk:
            ensemble.rules.append(every(Opcode.GET_DATA, Fault.CUT))
            await zk.get("/")

    with pytest.raises(ConnectionLoss, match="connection lost") as caught:
        await block()
    assert caught.value.outcome_unknown


async def test_cancellation_passes_and_the_session_is_closed_all_the_same(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    with trio.CancelScope() as scope:
        async with ensemble.open() as zk:
            await zk.create("/mine", ephemeral=True)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert ensemble.opcodes()[-1] == Opcode.CLOSE_SESSION
    assert not ensemble.realm.sessions


async def test_a_deadline_around_the_block_is_kept_to_the_moment(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async def block() -> None:
        with trio.fail_after(2.5):
            async with ensemble.open():
                await trio.sleep_forever()

    start = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await block()
    assert trio.current_time() == start + 2.5
    assert not ensemble.realm.sessions


async def test_an_error_while_cancelled_leaves_unchanged(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    error = OwnError()

    async def block() -> None:
        with trio.CancelScope() as scope:
            async with ensemble.open():
                scope.cancel()
                try:
                    await trio.lowlevel.checkpoint()
                finally:
                    raise error

    with pytest.raises(OwnError) as caught:
        await block()
    assert caught.value is error


async def test_no_task_outlives_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    await settle()
    before = trio.lowlevel.current_statistics().tasks_living
    async with ensemble.open(track_ensemble=True) as zk:
        await zk.get("/")
        assert trio.lowlevel.current_statistics().tasks_living > before
    await settle()
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_a_call_behind_the_block_is_refused(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        pass
    sent = len(ensemble.received)
    with pytest.raises(ConnectionClosedError, match="the client is closed"):
        await zk.get("/")
    with pytest.raises(RuntimeError, match="closed"):
        zk.defer_delete("/a")
    assert (zk.state, zk.client_state, zk.connected) == (KazooState.LOST, KeeperState.CLOSED, False)
    assert (zk.session_id, zk.client_id) == (0, None)
    assert len(ensemble.received) == sent


async def test_a_call_still_under_way_at_the_end_fails_as_closed(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    errors: list[BaseException] = []

    async def reads(zk: ZooKeeper) -> None:
        try:
            await zk.get("/")
        except SessionExpiredError as error:
            errors.append(error)

    async with ensemble.open() as zk:
        ensemble.rules.append(lambda _: Fault.IGNORE)
        nursery.start_soon(reads, zk)
        await settle()
    await settle()
    assert [type(error) for error in errors] == [ConnectionClosedError]


# A crash of the shell -------------------------------------------------------------------------------------------------


class Defective:
    """A connection that breaks with an error that no network has, once it is told to."""

    sends_at_once = False

    def __init__(self, connection: Connection) -> None:
        self.peer = connection.peer
        self.error: RuntimeError | None = None
        self._connection = connection

    def send_nowait(self, data: bytes) -> int:
        return self._connection.send_nowait(data)

    async def send(self, data: bytes) -> None:
        await self._connection.send(data)

    async def receive(self) -> bytes:
        data = await self._connection.receive()
        if self.error is not None:
            raise self.error
        return data

    async def aclose(self) -> None:
        await self._connection.aclose()


class DefectiveTransport:
    def __init__(self, ensemble: MemoryEnsemble) -> None:
        self._ensemble = ensemble
        self.connections: list[Defective] = []
        self.dial_error: Exception | None = None

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        return await self._ensemble.resolve(endpoint)

    async def listen(self, endpoint: Endpoint) -> Listener:
        return await self._ensemble.listen(endpoint)

    async def dial(self, endpoint: Endpoint) -> Connection:
        if self.dial_error is not None:
            raise self.dial_error
        self.connections.append(Defective(await self._ensemble.dial(endpoint)))
        return self.connections[-1]


def _root_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        (error,) = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return error


async def test_a_crash_reaches_those_who_wait_and_all_later_calls(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    transport = DefectiveTransport(ensemble)
    errors: list[ClientCrashedError] = []

    async def waits(zk: ZooKeeper) -> None:
        try:
            await zk.get("/")
        except ClientCrashedError as error:
            errors.append(error)

    async with ensemble.open(transport=transport) as zk:
        ensemble.latency = 1.0
        defect = RuntimeError("a bug in the transport")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits, zk)
            nursery.start_soon(waits, zk)
            transport.connections[0].error = defect
        with pytest.raises(ClientCrashedError, match="a bug in the transport"):
            await zk.get("/")
        assert zk.state == KazooState.LOST
    assert len(errors) == 2
    for error in errors:
        assert error.__cause__ is not None
        assert _root_cause(error.__cause__) is defect
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


async def test_a_crash_before_the_first_connection_leaves_from_the_block(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    transport = DefectiveTransport(ensemble)
    transport.dial_error = RuntimeError("cannot dial")
    with pytest.raises(ClientCrashedError, match="cannot dial") as caught:
        async with ensemble.open(transport=transport):
            raise AssertionError("not connected")
    assert caught.value.__cause__ is transport.dial_error


async def test_the_body_may_go_on_after_a_crash_and_its_error_wins(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    transport = DefectiveTransport(ensemble)

    async def block() -> None:
        async with ensemble.open(transport=transport) as zk:
            transport.connections[0].error = RuntimeError("bug")
            with pytest.raises(ClientCrashedError):
                await zk.get("/")
            await pass_time(1)
            raise OwnError

    with pytest.raises(OwnError):
        await block()


# Bounds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", [Door.HANGS, Door.SILENT, Door.REFUSES])
@pytest.mark.parametrize("limit", [None, 3.25])
async def test_the_first_connection_is_bounded(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, door: Door, limit: float | None
) -> None:
    ensemble.shut(door)
    start = trio.current_time()
    options = {} if limit is None else {"connect_timeout": limit}
    with pytest.raises(ConnectTimeoutError, match=r"no server of a:2181, b:2181 gave a session within") as caught:
        async with ensemble.open("a,b", **options):
            raise AssertionError("not connected")
    assert trio.current_time() - start == (limit or 15.0)
    assert str(limit or 15.0) in str(caught.value)
    if door is Door.REFUSES:
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_without_a_bound_the_block_begins_at_once_and_its_calls_wait(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.shut(Door.REFUSES)
    async with ensemble.open("a,b/missing", connect_timeout=None) as zk:
        assert (zk.connected, zk.state, zk.client_state) == (False, "LOST", "CONNECTING")
        zk.check_usable()
        with trio.move_on_after(60.0) as patience:
            await zk.exists("/")
        assert patience.cancelled_caught
        assert isinstance(zk.last_error, ConnectionRefusedError)
        ensemble.shut(Door.OPEN)
        assert await zk.exists("/") is None
        assert zk.connected
    with pytest.raises(ConnectionClosedError):
        zk.check_usable()


async def test_a_hanging_server_does_not_keep_the_client_from_the_next(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.doors.update(a=Door.HANGS, b=Door.SILENT)
    start = trio.current_time()
    async with ensemble.open("a,b,c", randomize_hosts=False, session_timeout=6.0) as zk:
        assert zk.connected
        # A share of the session timeout each.
        assert trio.current_time() - start == pytest.approx(4.0)
    assert [host for _, host in ensemble.dials] == ["a", "b", "c"]


async def test_a_server_that_stops_answering_costs_at_most_close_timeout(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(close_timeout=2.0, session_timeout=60.0):
        ensemble.rules.append(lambda _: Fault.IGNORE)
        start = trio.current_time()
    assert trio.current_time() - start == 2.0


async def test_close_does_not_wait_longer_than_the_answer_takes(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(close_timeout=2.0):
        ensemble.latency = 0.5
        start = trio.current_time()
    assert trio.current_time() - start == 0.5
    assert not ensemble.realm.sessions


async def test_close_without_a_connection_is_bounded_too(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(close_timeout=3.0) as zk:
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        start = trio.current_time()
    assert trio.current_time() - start == 3.0


async def test_the_last_state_is_told_however_the_client_ends(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    # Whether the runner or the reader of the states goes first is chance.
    for _ in range(12):
        seen: list[str] = []

        async def follow(zk: ZooKeeper, seen: list[str] = seen) -> None:
            async for state in zk.states():
                seen.append(state)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                async with ensemble.open(close_timeout=0.1) as zk:
                    nursery.start_soon(follow, zk)
                    await settle()
                    ensemble.shut(Door.REFUSES)
                    ensemble.cut()
                    await settle()
                    assert zk.state == KazooState.SUSPENDED
        assert seen == [KazooState.CONNECTED, KazooState.SUSPENDED, KazooState.LOST]
        ensemble.shut(Door.OPEN)


async def test_a_read_only_servers_session_is_not_closed_elsewhere(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.read_only.add("a")
    async with ensemble.open("a", read_only=True, close_timeout=3.0) as zk:
        ensemble.cut()
        ensemble.read_only.clear()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        start, links = trio.current_time(), len(ensemble.links)
    # There is nothing to close, so nobody is waited for.
    assert trio.current_time() == start
    assert len(ensemble.links) == links


async def test_another_trio_run_is_told_so_and_harms_nothing(nursery: trio.Nursery) -> None:
    ensemble = MemoryEnsemble(nursery)
    async with ensemble.open() as zk:

        async def pipelined() -> None:
            async with zk.pipeline() as p:
                await p.get("/")

        async def deferred() -> None:
            zk.defer_delete("/a")

        async def watched() -> None:
            await zk.add_watch("/a", AddWatchMode.PERSISTENT, print)

        async def unwatched() -> None:
            await zk.remove_watches("/a")

        async def read() -> None:
            await zk.get("/")

        def elsewhere() -> None:
            for call in (read, pipelined, deferred, watched, unwatched):
                with pytest.raises(RuntimeError, match="this client belongs to another trio run"):
                    trio.run(call)

        sent = len(ensemble.received)
        await trio.to_thread.run_sync(elsewhere)
        assert len(ensemble.received) == sent
        assert await zk.exists("/") is not None


async def test_close_within_its_bound_uses_a_server_that_comes_back(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with ensemble.open(close_timeout=30.0) as zk:
        await zk.create("/mine", ephemeral=True)
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)

        async def come_back() -> None:
            await pass_time(2.0)
            ensemble.shut(Door.OPEN)

        nursery.start_soon(come_back)
    assert "/mine" not in ensemble.realm.znodes


async def test_only_a_servers_word_ends_a_session(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(session_timeout=4.0) as zk:
        session_id = zk.session_id
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await pass_time(3600.0)
        assert zk.state == KazooState.SUSPENDED
        ensemble.shut(Door.OPEN)
        await zk.get("/")
        assert zk.session_id == session_id


async def test_give_up_after_ends_a_session_without_any_server(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=4.0, give_up_after=20.0) as zk:
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        start = trio.current_time()
        with pytest.raises(SessionExpiredError, match=r"no server for 20\.0 s \(give_up_after\)"):
            await zk.get("/")
        assert zk.state == KazooState.LOST
        # Behind a loss stands a pause of at most 0.1 s, so that the clients of a server do not all dial at once.
        assert 20.0 <= trio.current_time() - start <= 20.1
        ensemble.shut(Door.OPEN)
        await zk.get("/")
        assert zk.state == KazooState.CONNECTED


async def test_give_up_after_counts_anew_after_each_connection(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(give_up_after=5.0) as zk:
        states = zk.states()
        for _ in range(3):
            ensemble.shut(Door.REFUSES)
            ensemble.cut()
            await pass_time(3.0)
            ensemble.shut(Door.OPEN)
            await zk.get("/")
        seen = [await anext_of(states) for _ in range(7)]
    assert KazooState.LOST not in seen


async def anext_of(stream: Any) -> Any:
    return await stream.__anext__()
