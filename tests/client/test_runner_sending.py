"""The shell on connections that send at once: what leaves when, in which pieces, and what a caller is told of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from terzetto.client import ConnectionLoss, KazooState, RunClock, ZooKeeper, open_zookeeper
from terzetto.client.wire import Opcode
from terzetto.client.wire.operations import SET_DATA

from .memory_socket import MemorySocket, SocketTransport
from .realm import Realm
from .server_link import ServerLink


class Setting:
    """A realm, and clients of it on such connections."""

    def __init__(self) -> None:
        self.realm = Realm()
        self.realm.create("/a", b"0")
        self.transport = SocketTransport(lambda: ServerLink(self.realm))

    def open(self, **options: Any) -> AbstractAsyncContextManager[ZooKeeper]:
        given: dict[str, Any] = {"clock": RunClock(), "rng": random.Random(0), **options}
        return open_zookeeper("a", transport=self.transport, **given)

    @property
    def socket(self) -> MemorySocket:
        return self.transport.socket


@pytest.fixture
def setting() -> Setting:
    return Setting()


async def write(zk: ZooKeeper, value: bytes, errors: dict[bytes, ConnectionLoss]) -> None:
    try:
        await zk.set("/a", value)
    except ConnectionLoss as error:
        errors[value] = error


async def start_writes(
    nursery: trio.Nursery, zk: ZooKeeper, values: list[bytes], errors: dict[bytes, ConnectionLoss]
) -> None:
    """One task a value, in this order: the next one begins when the one before waits for its answer."""
    for value in values:
        nursery.start_soon(write, zk, value, errors)
        await wait_all_tasks_blocked()


async def test_a_call_that_was_cancelled_before_it_began_sends_nothing(
    setting: Setting, autojump_clock: MockClock
) -> None:
    async with setting.open() as zk:
        before = len(setting.socket.pieces)
        with trio.CancelScope() as scope:
            scope.cancel()
            await zk.exists("/a")
        assert scope.cancelled_caught
        assert len(setting.socket.pieces) == before


class Steps(trio.abc.Instrument):
    """What a measure shows whenever a task has made a step."""

    def __init__(self, measure: Callable[[], int]) -> None:
        self._measure = measure
        self.shown: dict[trio.lowlevel.Task, list[int]] = {}

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.shown.setdefault(task, []).append(self._measure())


async def test_a_lonely_request_leaves_in_its_own_call(setting: Setting, autojump_clock: MockClock) -> None:
    """In the first step of the calling task: it is not handed to the writer."""
    async with setting.open() as zk:
        link, tasks = setting.socket.link, list[trio.lowlevel.Task]()
        link.paused = True

        async def call() -> None:
            tasks.append(trio.lowlevel.current_task())
            await zk.exists("/a")

        steps = Steps(lambda: len(link.received))
        trio.lowlevel.add_instrument(steps)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await wait_all_tasks_blocked()
                link.resume()
        finally:
            trio.lowlevel.remove_instrument(steps)
        assert steps.shown[tasks[0]] == [1, 1]


async def test_requests_of_many_tasks_are_joined(setting: Setting, autojump_clock: MockClock) -> None:
    async with setting.open() as zk:
        setting.socket.link.paused = True
        pieces = setting.socket.pieces
        before = len(pieces)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(zk.exists, "/a")
            await wait_all_tasks_blocked()
            assert len(setting.socket.link.received) == 100
            assert len(pieces) - before <= 3
            setting.socket.link.resume()


async def test_a_link_that_takes_a_byte_at_a_time_carries_whole_requests_in_order(
    setting: Setting, autojump_clock: MockClock
) -> None:
    async with setting.open(session_timeout=600.0) as zk:
        socket, errors = setting.socket, dict[bytes, ConnectionLoss]()
        socket.make_room(0)
        async with trio.open_nursery() as nursery:
            await start_writes(nursery, zk, [b"1", b"2", b"3"], errors)
            sent = 0
            while setting.realm.get("/a").data != b"3":
                sent += 1
                socket.make_room(1)
                await wait_all_tasks_blocked()
        assert errors == {}
        assert [request.record.data for request in socket.link.received] == [b"1", b"2", b"3"]
        assert setting.realm.get("/a").version == 3
        assert sent == sum(map(len, socket.pieces[-sent:]))
        socket.make_room(None)


WRITE = len(SET_DATA.frame(1, "/a", b"1", -1))


@pytest.mark.parametrize("bytes_sent", range(3 * WRITE + 1))
async def test_a_broken_link_leaves_the_outcome_unknown_where_a_byte_has_left(
    setting: Setting, autojump_clock: MockClock, bytes_sent: int
) -> None:
    async with setting.open() as zk:
        socket, errors = setting.socket, dict[bytes, ConnectionLoss]()
        socket.link.paused = True
        socket.room, values = bytes_sent, [b"1", b"2", b"3"]
        async with trio.open_nursery() as nursery:
            await start_writes(nursery, zk, values, errors)
            assert errors == {}
            socket.breaks_after = 0
            socket.make_room(1)
            if bytes_sent == 3 * WRITE:
                socket.link.hang_up()
        # The request whose turn it is at a full link is in the link's hands, so a byte of it may leave at any time.
        assert [errors[value].outcome_unknown for value in values] == [bytes_sent >= i * WRITE for i in range(3)]
        assert sum(map(len, socket.pieces)) >= bytes_sent
        # The client lives on, and what was lost did not happen later.
        assert (await zk.get("/a"))[0] == b"0"


@pytest.mark.parametrize("complete", range(4))
async def test_where_the_link_is_not_full_only_what_has_left_is_in_doubt(
    setting: Setting, autojump_clock: MockClock, complete: int
) -> None:
    async with setting.open() as zk:
        socket, errors = setting.socket, dict[bytes, ConnectionLoss]()
        socket.link.paused = True
        socket.breaks_after, values = complete * WRITE, [b"1", b"2", b"3"]
        async with trio.open_nursery() as nursery:
            await start_writes(nursery, zk, values, errors)
            socket.link.hang_up()
        # What was called after the loss waits for the next connection, and is done there.
        assert {value: error.outcome_unknown for value, error in errors.items()} == {
            value: index < complete for index, value in enumerate(values[: complete + 1])
        }
        assert setting.realm.get("/a").data == (b"3" if complete < 2 else b"0")


async def test_a_call_that_waits_for_a_full_link_can_be_withdrawn(setting: Setting, autojump_clock: MockClock) -> None:
    async with setting.open() as zk:
        socket, errors = setting.socket, dict[bytes, ConnectionLoss]()
        socket.make_room(0)
        async with trio.open_nursery() as nursery:
            await start_writes(nursery, zk, [b"1"], errors)
            with trio.move_on_after(0.5):
                await zk.set("/a", b"never")
            await start_writes(nursery, zk, [b"2"], errors)
            socket.make_room(None)
        assert [request.record.data for request in socket.link.received] == [b"1", b"2"]


async def test_a_call_whose_bytes_have_begun_to_leave_may_still_happen(
    setting: Setting, autojump_clock: MockClock
) -> None:
    async with setting.open() as zk:
        socket = setting.socket
        socket.make_room(0)
        socket.make_room(5)
        with trio.move_on_after(0.5) as scope:
            await zk.set("/a", b"half")
        assert scope.cancelled_caught
        socket.make_room(None)
        assert (await zk.get("/a"))[0] == b"half"


async def test_calls_after_a_loss_go_over_the_next_connection(setting: Setting, autojump_clock: MockClock) -> None:
    async with setting.open() as zk:
        first, errors = setting.socket, dict[bytes, ConnectionLoss]()
        first.breaks_after = 0
        await write(zk, b"lost", errors)
        assert not errors[b"lost"].outcome_unknown
        assert zk.state == KazooState.SUSPENDED
        await zk.set("/a", b"kept")
        assert setting.socket is not first
        assert zk.state == KazooState.CONNECTED


class SteppingClock:
    """The run's clock, with jumps: the process was stopped."""

    def __init__(self) -> None:
        self.stopped_for = 0.0

    def now(self) -> float:
        return trio.current_time() + self.stopped_for


@pytest.mark.parametrize("joined", [False, True])
async def test_a_process_stopped_right_behind_a_send_is_not_heard_later_than_it_was(
    setting: Setting, autojump_clock: MockClock, joined: bool
) -> None:
    """The proof of ownership counts from before the send, whoever does it: the caller or the writer."""
    clock = SteppingClock()
    async with setting.open(clock=clock, session_timeout=12.0) as zk:
        socket, arrived = setting.socket, list[float]()

        def stop() -> None:
            if socket.link.received and socket.link.received[-1].opcode == Opcode.SET_DATA:
                arrived.append(clock.now())
                clock.stopped_for += 5.0

        socket.after_send = stop
        async with trio.open_nursery() as nursery:
            if joined:
                socket.link.paused = True
                nursery.start_soon(zk.exists, "/a")
                await wait_all_tasks_blocked()
            nursery.start_soon(zk.set, "/a", b"1")
            await wait_all_tasks_blocked()
            socket.link.resume()
        assert len(arrived) == 1
        assert arrived[0] < zk.keep_proof().deadline <= arrived[0] + 6.0


async def test_the_close_leaves_even_where_there_is_no_time_to_wait(
    setting: Setting, autojump_clock: MockClock
) -> None:
    async with setting.open(close_timeout=0.0) as zk:
        assert zk.session_id in setting.realm.sessions
    assert setting.realm.sessions == {}


async def test_a_full_link_does_not_keep_the_client_from_ending(setting: Setting, autojump_clock: MockClock) -> None:
    began = 0.0
    async with setting.open(close_timeout=3.0, session_timeout=600.0) as zk:
        setting.socket.make_room(0)
        began = trio.current_time()
        assert zk.connected
    assert trio.current_time() - began == pytest.approx(3.0, abs=0.01)
