"""Election ports against one another, and against peers of good and bad will that speak in bytes, on memory streams."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from terzetto.client._hosts import Endpoint
from terzetto.client._scopes import PlainNursery
from terzetto.client._transport import Connection
from terzetto.testcluster.election_port import ANONYMOUS_SID, GREETING_MAX, STRANGERS_MAX, ElectionPort
from terzetto.testcluster.memory_network import Network
from terzetto.testcluster.messages import NOTIFICATION_MAX, Hello, decode_hello, encode_hello

# `until` sleeps.
pytestmark = pytest.mark.usefixtures("autojump_clock")

PORT = 3888


def place(sid: int) -> Endpoint:
    return Endpoint(f"s{sid}", PORT, f"s{sid}")


class Server:
    """An election port and what it has received."""

    def __init__(self, network: Network, sid: int, sids: tuple[int, ...]) -> None:
        self.sid = sid
        self.heard: list[tuple[int, bytes]] = []
        self.refused: list[int] = []
        self.gate: trio.Event | None = None
        self.transport = network.transport(f"s{sid}")
        addresses = {each: (place(each),) for each in sids}
        self.port = ElectionPort(
            sid,
            addresses,
            self.transport,
            self._take,
            self.refused.append,
            handshake_timeout=2.0,
            gate=lambda: self.gate,
        )

    def _take(self, sid: int, message: bytes) -> None:
        self.heard.append((sid, message))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listener = await self.transport.listen(place(self.sid))
        task_status.started()
        try:
            await self.port.serve(listener)
        finally:
            listener.close()


@asynccontextmanager
async def serving(network: Network, *sids: int, known: tuple[int, ...] | None = None) -> AsyncIterator[list[Server]]:
    servers = [Server(network, sid, known or sids) for sid in sids]
    async with PlainNursery() as nursery:
        for server in servers:
            await nursery.start(server.run)
        yield servers
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, on virtual time
            await trio.sleep(0.01)


class Stranger:
    """A peer that speaks in bytes."""

    def __init__(self, network: Network, name: str) -> None:
        self.transport = network.transport(name)

    async def dial(self, sid: int, opening: bytes = b"") -> Connection:
        connection = await self.transport.dial(place(sid))
        if opening:
            await connection.send(opening)
        return connection


def framed(message: bytes) -> bytes:
    return struct.pack(">i", len(message)) + message


def hello(sid: int) -> bytes:
    return encode_hello(Hello(sid, ((f"s{sid}", PORT),)))


async def read_hello(connection: Connection) -> tuple[Hello, bytes]:
    data = b""
    while (found := decode_hello(data)) is None:
        piece = await connection.receive()
        assert piece, "the connection ended"
        data += piece
    return found[0], data[found[1] :]


@pytest.mark.parametrize("first", [1, 2])
async def test_messages_reach_the_other_whoever_begins(first: int, autojump_clock: MockClock) -> None:
    async with serving(Network(), 1, 2) as servers:
        sender, receiver = (servers[0], servers[1]) if first == 1 else (servers[1], servers[0])
        sender.port.send(receiver.sid, b"vote")
        await until(lambda: receiver.heard == [(first, b"vote")])
        # Both ways over the one connection that there is.
        receiver.port.send(sender.sid, b"answer")
        await until(lambda: sender.heard == [(receiver.sid, b"answer")])
        assert servers[0].port.connected == {2}
        assert servers[1].port.connected == {1}


async def test_many_at_once_end_with_one_connection_each(autojump_clock: MockClock) -> None:
    async with serving(Network(), 1, 2, 3, 4, 5) as servers:
        for server in servers:
            for sid in range(1, 6):
                server.port.send(sid, b"from %d" % server.sid)
        expected = {(sid, b"from %d" % sid) for sid in range(1, 6)}
        await until(
            lambda: all({*server.heard} == expected - {(server.sid, b"from %d" % server.sid)} for server in servers)
        )
        await trio.sleep(60)
        for server in servers:
            assert server.port.connected == {1, 2, 3, 4, 5} - {server.sid}


async def test_of_unsent_messages_only_the_last_counts(autojump_clock: MockClock) -> None:
    network = Network()
    async with serving(network, 2, known=(1, 2)) as (two,):
        two.port.send(1, b"old")
        await trio.sleep(10)
        two.port.send(1, b"new")
        async with serving(network, 1, known=(1, 2)) as (one,):
            await until(lambda: one.heard == [(2, b"new")])


async def test_a_new_connection_begins_with_the_last_message(autojump_clock: MockClock) -> None:
    network = Network()
    async with serving(network, 1, 2) as (one, two):
        two.port.send(1, b"vote")
        await until(lambda: one.heard == [(2, b"vote")])
        assert network.break_connections("s1", "s2") == 1
        await until(lambda: not one.port.connected and not two.port.connected)
        one.port.send(2, b"are you there?")
        await until(lambda: one.heard == [(2, b"vote"), (2, b"vote")] and two.heard == [(1, b"are you there?")])


async def test_only_a_refusal_says_that_a_server_is_not_there(autojump_clock: MockClock) -> None:
    network = Network()
    async with serving(network, 2, known=(1, 2)) as (two,):
        two.port.send(1, b"vote")
        await until(lambda: two.refused == [1])
        async with serving(network, 1, known=(1, 2)) as (one,):
            await until(lambda: bool(one.heard))
        two.refused.clear()
        with network.partition({"s1"}, {"s2"}):
            two.port.send(1, b"vote")
            await trio.sleep(100)
            assert two.refused == []


async def test_after_a_partition_the_waiting_message_arrives(autojump_clock: MockClock) -> None:
    network = Network()
    async with serving(network, 1, 2) as (one, two):
        with network.partition({"s1"}, {"s2"}):
            two.port.send(1, b"first")
            await trio.sleep(100)
            two.port.send(1, b"second")
            await trio.sleep(100)
            assert one.heard == []
        await until(lambda: one.heard == [(2, b"second")])


async def test_a_smaller_sid_is_dialled_back_at_the_address_it_gives(autojump_clock: MockClock) -> None:
    network = Network()
    stranger = Stranger(network, "elsewhere")
    listener = await stranger.transport.listen(Endpoint("elsewhere", 99, ""))
    async with serving(network, 5) as (five,):
        dialled = await stranger.dial(5, encode_hello(Hello(3, (("elsewhere", 99),))))
        assert await dialled.receive() == b""
        back = await listener.accept()
        greeting, _ = await read_hello(back)
        assert greeting == Hello(5, (("s5", PORT),))
        await back.send(framed(b"I am not in your configuration"))
        await until(lambda: five.heard == [(3, b"I am not in your configuration")])
        five.port.send(3, b"so what")
        assert await back.receive() == framed(b"so what")


async def test_who_has_no_sid_is_told_apart_by_a_negative_one(autojump_clock: MockClock) -> None:
    network = Network()
    stranger = Stranger(network, "observer")
    listener = await stranger.transport.listen(Endpoint("observer", 99, ""))
    async with serving(network, 5) as (five,):

        async def ask() -> Connection:
            await stranger.dial(5, encode_hello(Hello(ANONYMOUS_SID, (("observer", 99),))))
            back = await listener.accept()
            await read_hello(back)
            await back.send(framed(b"who leads?"))
            return back

        await ask()
        await until(lambda: len(five.heard) == 1)
        back = await ask()
        await until(lambda: five.heard == [(-1, b"who leads?"), (-2, b"who leads?")])
        five.port.send(-2, b"nobody")
        assert await back.receive() == framed(b"nobody")


@pytest.mark.parametrize("speaker", [1, 9])
async def test_a_false_address_in_a_hello_hides_no_configured_server(speaker: int, autojump_clock: MockClock) -> None:
    network = Network()
    liar = Stranger(network, "liar")
    trap = await liar.transport.listen(Endpoint("liar", 99, ""))
    async with serving(network, 5, speaker, known=(1, 5, 9)) as (five, real):
        lie = await liar.dial(5, encode_hello(Hello(speaker, (("liar", 99),))))
        await trio.sleep(1)
        await lie.aclose()
        # What is sent into a connection whose end nobody has seen yet is lost with it; elections say it again.
        await trio.testing.wait_all_tasks_blocked()
        five.port.send(speaker, b"where are you")
        await until(lambda: real.heard == [(5, b"where are you")])
    trap.close()


async def test_a_wildcard_in_a_hello_gives_way_to_the_configuration(autojump_clock: MockClock) -> None:
    network = Network()
    one = Stranger(network, "s1")
    listener = await one.transport.listen(place(1))
    async with serving(network, 5, known=(1, 5)):
        await one.dial(5, encode_hello(Hello(1, (("0.0.0.0", 1),))))
        greeting, _ = await read_hello(await listener.accept())
        assert greeting.sid == 5
        # One whom nobody knows and who gives no address cannot be answered.
        nobody = await one.dial(5, encode_hello(Hello(2, (("0.0.0.0", 1),))))
        assert await nobody.receive() == b""


async def test_every_form_of_a_hello_in_any_pieces(autojump_clock: MockClock) -> None:
    network = Network()
    stranger = Stranger(network, "s9")
    forms = [hello(9), encode_hello(Hello(9, (("s9", PORT), ("s9", 1))), many=True), struct.pack(">q", 9)]
    async with serving(network, 5, known=(5, 9)) as (five,):
        connections: list[Connection] = []
        for number, form in enumerate(forms):
            connection = await stranger.dial(5)
            connections.append(connection)
            for octet in form + framed(b"%d" % number):
                await connection.send(bytes([octet]))
                await trio.testing.wait_all_tasks_blocked()
            await until(lambda: len(five.heard) == number + 1)  # noqa: B023
        assert five.heard == [(9, b"0"), (9, b"1"), (9, b"2")]
        # The newest of them is the one that counts.
        five.port.send(9, b"still there")
        assert await connections[-1].receive() == framed(b"still there")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: s5\r\n\r\n",
        struct.pack(">qqi", -65536, 9, 0),
        struct.pack(">qqi", -65536, 9, 1 << 30),
        struct.pack(">qqi", -3, 9, 4) + b"a:1x",
        struct.pack(">qqi", -65536, 9, 4) + b"\xff\xff\xff\xff",
        hello(5),
        hello(9) + struct.pack(">i", 0),
        hello(9) + struct.pack(">i", -1),
        hello(9) + struct.pack(">i", NOTIFICATION_MAX + 1),
    ],
)
async def test_nonsense_ends_its_own_connection_only(octets: bytes, autojump_clock: MockClock) -> None:
    network = Network()
    stranger = Stranger(network, "hostile")
    async with serving(network, 5, 7) as (five, seven):
        connection = await stranger.dial(5, octets)
        if not octets:
            await connection.aclose()
        else:
            assert await connection.receive() == b""
        seven.port.send(5, b"vote")
        await until(lambda: five.heard == [(7, b"vote")])


async def test_silent_connections_are_bounded_in_number_and_time(autojump_clock: MockClock) -> None:
    network = Network()
    stranger = Stranger(network, "hostile")
    async with serving(network, 5, 7) as (five, seven):
        silent = [await stranger.dial(5) for _ in range(GREETING_MAX + 1)]
        began = trio.current_time()
        assert await silent[-1].receive() == b""
        assert trio.current_time() == began
        assert await silent[0].receive() == b""
        assert trio.current_time() == pytest.approx(began + 2)
        seven.port.send(5, b"vote")
        await until(lambda: five.heard == [(7, b"vote")])


async def test_strangers_are_bounded(autojump_clock: MockClock) -> None:
    network = Network()
    stranger = Stranger(network, "s9")
    async with serving(network, 5) as (five,):
        kept = [await stranger.dial(5, hello(100 + number)) for number in range(STRANGERS_MAX)]
        await until(lambda: len(five.port.connected) == STRANGERS_MAX)
        refused = await stranger.dial(5, hello(99))
        assert await refused.receive() == b""
        await kept[0].aclose()
        await until(lambda: len(five.port.connected) < STRANGERS_MAX)
        await stranger.dial(5, hello(99) + framed(b"now"))
        await until(lambda: five.heard == [(99, b"now")])


async def test_a_paused_server_neither_hears_nor_speaks(autojump_clock: MockClock) -> None:
    async with serving(Network(), 1, 2) as (one, two):
        two.port.send(1, b"before")
        await until(lambda: one.heard == [(2, b"before")])
        gate = one.gate = trio.Event()
        two.port.send(1, b"meanwhile")
        one.port.send(2, b"held")
        await trio.sleep(100)
        assert (len(one.heard), len(two.heard)) == (1, 0)
        one.gate = None
        gate.set()
        await until(lambda: one.heard[1:] == [(2, b"meanwhile")] and two.heard == [(1, b"held")])
