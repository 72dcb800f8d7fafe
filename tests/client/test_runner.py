"""The shell's own risks: a link that breaks under a caller's hands, one that takes nothing, one that never stands."""

from __future__ import annotations

import logging
import socket
import struct
from itertools import pairwise

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from terzetto.client import (
    Connection,
    ConnectionLoss,
    Endpoint,
    KazooState,
    Listener,
    RunClock,
    StreamConnection,
    TcpTransport,
    open_zookeeper,
)
from terzetto.client._client import core_of
from terzetto.client._transport import SocketConnection
from terzetto.testcluster import open_ensemble
from tests.interop import badpeer
from tests.interop.badpeer import open_bad_peer

from .memory_server import Door, MemoryEnsemble, pass_time, until

GREETING = struct.pack(">iiiqi16sB", 37, 0, 6000, 0x1234, 16, bytes(16), 0)


class Breakable(TcpTransport):
    """Remembers the sockets it dialled, so that a test can break them."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: list[socket.socket] = []

    async def dial(self, endpoint: Endpoint) -> Connection:
        connection = await super().dial(endpoint)
        assert isinstance(connection, SocketConnection)
        self.sockets.append(connection.socket)
        return connection


@pytest.mark.parametrize("call_number", [1, 2])
async def test_a_send_that_fails_at_once_wakes_its_caller_once(call_number: int) -> None:
    """The request goes out in the caller's own task, which has not parked yet when the send fails."""
    transport = Breakable()
    async with (
        open_bad_peer(badpeer.polite()) as peer,
        open_zookeeper(peer.hosts, transport=transport, close_timeout=1.0) as zk,
    ):
        for _ in range(call_number):
            await zk.exists("/a")
        transport.sockets[-1].shutdown(socket.SHUT_WR)
        with trio.CancelScope() as scope:
            with pytest.raises(ConnectionLoss) as caught:
                await zk.exists("/b")
            assert not caught.value.outcome_unknown  # not a byte has left
            scope.cancel()
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert await zk.exists("/c") is None


async def test_a_listener_may_cancel_the_caller_whose_send_failed() -> None:
    transport = Breakable()
    async with (
        open_bad_peer(badpeer.polite()) as peer,
        open_zookeeper(peer.hosts, transport=transport, close_timeout=1.0) as zk,
    ):
        with trio.CancelScope() as scope:
            zk.add_listener(lambda state: scope.cancel() if state == KazooState.SUSPENDED else None)
            transport.sockets[-1].shutdown(socket.SHUT_WR)
            with pytest.raises((ConnectionLoss, trio.Cancelled)):
                await zk.exists("/b")
        assert await zk.exists("/c") is None


class Stuffed:
    """A transport to a server that grants a session and then reads nothing; the link holds one piece at a time."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.dials: list[float] = []

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        return [endpoint]

    async def dial(self, endpoint: Endpoint) -> Connection:
        self.dials.append(trio.current_time())
        ours, theirs = trio.testing.lockstep_stream_pair()

        async def serve() -> None:
            await theirs.receive_some(1000)
            await theirs.send_all(GREETING)
            await trio.sleep_forever()

        self._nursery.start_soon(serve)
        return StreamConnection(ours, str(endpoint))

    async def listen(self, endpoint: Endpoint) -> Listener:
        raise OSError("nobody listens here")


async def test_a_link_that_takes_nothing_is_given_up_and_time_goes_on(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A ping that is due and cannot go must not be looked at again and again: virtual time would stand still."""
    transport = Stuffed(nursery)
    async with open_zookeeper("a", transport=transport, clock=RunClock(), close_timeout=0.0) as zk:
        failed_at: list[float] = []

        async def call() -> None:
            with pytest.raises(ConnectionLoss):
                await zk.exists("/a")
            failed_at.append(trio.current_time())

        async with trio.open_nursery() as callers:
            for _ in range(3):
                callers.start_soon(call)
    # Two thirds of the six seconds that the server granted.
    assert failed_at == [pytest.approx(4.0, abs=0.01)] * 3


async def test_a_server_that_hangs_up_in_the_handshake_fails_nobody(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """As every server does during an election: calls made while suspended wait on."""
    async with ensemble.open() as zk:
        ensemble.cut_after = 4  # of the answer to the next connect request
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(zk.create, "/waited")
            for _ in range(3):
                await until(lambda: ensemble.cut_after is None)
                assert zk.state == KazooState.SUSPENDED
                ensemble.cut_after = 4
            ensemble.cut_after = None
        assert await zk.exists("/waited") is not None


async def test_a_state_is_told_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        states: list[str] = []
        zk.add_listener(states.append)
        ensemble.expire(zk.session_id)
        ensemble.cut()
        await until(lambda: states and states[-1] == KazooState.CONNECTED)
    assert states == [KazooState.SUSPENDED, KazooState.LOST, KazooState.CONNECTED, KazooState.LOST]


async def test_what_a_callback_raises_is_logged_and_nothing_else(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with ensemble.open() as zk:

        def fail(_: object) -> None:
            raise ValueError("the application's")

        await zk.exists("/a", watch=fail)
        await zk.create("/a")
        assert (await zk.get("/a"))[0] == b""
    assert "a callback raised" in caplog.text
    assert "the application's" in caplog.text


async def test_pauses_between_rounds_are_short_beside_the_session(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """After a total outage every session has one fresh timeout, in which its client must come back."""
    async with ensemble.open(session_timeout=8.0) as zk:
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        await pass_time(100.0)
        times = [at for at, _ in ensemble.dials]
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert max(pauses[-5:]) <= 2.0
        assert len(times) < 200
        ensemble.shut(Door.OPEN)
        await until(lambda: zk.state == KazooState.CONNECTED)


async def test_rounds_over_all_servers_that_fail_are_told(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        runner = core_of(zk).runner
        dialled: list[int] = []
        runner.round_failed = lambda: dialled.append(len(ensemble.dials))
        before = len(ensemble.dials)
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: len(dialled) == 3)
        assert dialled == [before + len(runner.hosts) * failed for failed in (1, 2, 3)]
        ensemble.shut(Door.OPEN)
        await until(lambda: zk.connected)
        assert len(dialled) == 3


async def test_an_orderly_end_is_no_loss_to_log(caplog: pytest.LogCaptureFixture) -> None:
    """A server hangs up behind the last answer of a session."""
    caplog.set_level(logging.DEBUG, logger="terzetto.client")
    async with open_ensemble() as ensemble:
        async with open_zookeeper(ensemble.hosts) as zk:
            await zk.exists("/")
        losses = [record.levelno for record in caplog.records if "lost" in record.message]
        assert set(losses) <= {logging.DEBUG}
