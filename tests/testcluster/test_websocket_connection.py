"""A WebSocket as a connection of the transport's kind: control frames, breaches, partial sends, the end."""

from __future__ import annotations

import tracemalloc

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto import ConnectionType
from wsproto.connection import Connection as Frames
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from terzetto.client import Connection, Endpoint
from terzetto.testcluster.memory_network import CAPACITY, Network
from terzetto.testcluster.websocket_connection import CLOSE_TIMEOUT, CONTROL_MAX, STALL_TIMEOUT, DoorConnection
from terzetto.testcluster.websocket_frames import MessageCheck

from .test_websocket_frames import CONNECT, framed

HERE = Endpoint("here", 1, "")


class Far:
    """The client's end: wsproto's frames over the same network."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.frames = Frames(ConnectionType.CLIENT)
        self.events: list[Event] = []

    async def say(self, *events: Event) -> None:
        await self.connection.send(b"".join(self.frames.send(event) for event in events))

    async def hear(self) -> Event | None:
        """The next event, `None` at the end."""
        while not self.events:
            data = await self.connection.receive()
            if not data:
                return None
            self.frames.receive_data(data)
            self.events += self.frames.events()
        return self.events.pop(0)


async def pair(network: Network, limit: int = 5000) -> tuple[DoorConnection, Far, list[bool]]:
    listener = await network.transport("here").listen(HERE)
    far = Far(await network.transport("there").dial(HERE))
    closed: list[bool] = []
    inner = await listener.accept()
    door = DoorConnection(
        inner, Frames(ConnectionType.SERVER), MessageCheck(limit), "there:1", lambda: closed.append(True)
    )
    return door, far, closed


async def test_messages_become_bytes_and_bytes_messages(autojump_clock: MockClock) -> None:
    door, far, closed = await pair(Network())
    await far.say(BytesMessage(framed(CONNECT)), BytesMessage(framed(b"a")[:3], message_finished=False))
    assert await door.receive() == framed(CONNECT) + framed(b"a")[:3]
    await far.say(BytesMessage(framed(b"a")[3:]))
    assert await door.receive() == framed(b"a")[3:]
    await door.send(framed(b"b", b"c") + b"\0\0")
    heard = await far.hear()
    assert isinstance(heard, BytesMessage)
    assert heard.data == framed(b"b", b"c")
    assert not closed
    await door.aclose()
    await door.aclose()
    assert closed == [True]
    end = await far.hear()
    assert isinstance(end, CloseConnection)
    assert end.code == 1000


async def test_pings_are_answered_between_messages(autojump_clock: MockClock) -> None:
    door, far, _ = await pair(Network())
    await far.say(Ping(b"1"), BytesMessage(framed(CONNECT)), Ping(b"2"), Pong(b"3"))
    assert await door.receive() == framed(CONNECT)
    for payload in (b"1", b"2"):
        answer = await far.hear()
        assert isinstance(answer, Pong)
        assert answer.payload == payload


async def test_many_pings_at_once_are_too_many(autojump_clock: MockClock) -> None:
    door, far, _ = await pair(Network())
    await far.say(*(Ping(b"x" * 120) for _ in range(CONTROL_MAX // 120 + 1)))
    with pytest.raises(trio.BrokenResourceError, match="pings"):
        await door.receive()


async def test_pongs_wait_for_a_send_that_is_under_way(autojump_clock: MockClock) -> None:
    door, far, _ = await pair(Network())
    data = framed(bytes(4000)) * (2 * CAPACITY // 4000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.send, data)
        await trio.testing.wait_all_tasks_blocked()
        await far.say(Ping(b"now"))
        nursery.start_soon(door.receive)
        await trio.testing.wait_all_tasks_blocked()
        received = 0
        while received < len(data):
            event = await far.hear()
            assert isinstance(event, BytesMessage), "a pong inside a message's bytes"
            received += len(event.data)
        pong = await far.hear()
        assert isinstance(pong, Pong)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (TextMessage("text"), 1003),
        (BytesMessage(b"\0\0\0"), 1007),
        (BytesMessage(framed(bytes(5001))), 1009),
    ],
)
async def test_a_breach_closes_with_its_reason(autojump_clock: MockClock, event: Event, code: int) -> None:
    door, far, _ = await pair(Network())
    await far.say(BytesMessage(framed(CONNECT)))
    assert await door.receive()
    await far.say(event)
    assert await door.receive() == b""
    assert door.refused is not None
    assert door.refused[0] == code
    told = await far.hear()
    assert isinstance(told, CloseConnection)
    assert (told.code, told.reason) == door.refused
    assert await door.receive() == b""


async def test_what_is_no_websocket_closes_as_a_breach(autojump_clock: MockClock) -> None:
    door, far, _ = await pair(Network())
    await far.connection.send(b"\x82\x04abcd")  # not masked
    assert await door.receive() == b""
    assert door.refused is not None
    assert door.refused[0] == 1002


@pytest.mark.parametrize(
    "breach", [b"\x82\x04abcd", b"\x82\x84" + bytes(4) + b"\xff" * 4, b"\x81\x81" + bytes(5), None]
)
async def test_what_follows_a_breach_is_not_kept(autojump_clock: MockClock, breach: bytes | None) -> None:
    door, far, closed = await pair(Network())
    if breach is not None:
        await far.connection.send(breach)
        assert await door.receive() == b""
    peak = 0

    async def blast() -> None:
        nonlocal peak
        for _ in range(100):
            await far.connection.send(b"\x83\x80" + bytes(CAPACITY))
            peak = max(peak, tracemalloc.get_traced_memory()[0])
        await far.connection.aclose()

    tracemalloc.start()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(blast)
            if breach is None:
                # The breach comes in the place of the answer.
                await door.close(1001, "leaving")
            else:
                await door.aclose()
    finally:
        tracemalloc.stop()
    assert closed == [True]
    assert peak < 20 * CAPACITY


async def test_a_client_that_closes_is_answered(autojump_clock: MockClock) -> None:
    door, far, _ = await pair(Network())
    await far.say(CloseConnection(1000, "done"))
    assert await door.receive() == b""
    assert door.refused is None
    answer = await far.hear()
    assert isinstance(answer, CloseConnection)
    assert answer.code == 1000
    with pytest.raises(trio.BrokenResourceError):
        await door.send(framed(b"late"))


async def test_close_waits_for_the_answer_but_not_long(autojump_clock: MockClock) -> None:
    door, far, closed = await pair(Network())
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.close, 1001, "leaving")
        told = await far.hear()
        assert isinstance(told, CloseConnection)
        assert (told.code, told.reason) == (1001, "leaving")
        await trio.testing.wait_all_tasks_blocked()
        assert not closed
        await far.say(told.response())
    assert trio.current_time() == began
    assert closed == [True]

    door, _, closed = await pair(Network())
    await door.close(1001, "leaving")
    assert trio.current_time() - began <= CLOSE_TIMEOUT + 0.1
    assert closed == [True]


@pytest.mark.parametrize("more", [b"", framed(b"more" * 50)])
async def test_what_could_not_be_sent_at_once_goes_first_later(autojump_clock: MockClock, more: bytes) -> None:
    """As `StreamPort` does it: told 0, it sends the same bytes again, with what has come since, in pieces."""
    door, far, _ = await pair(Network())
    data = framed(bytes(4000)) * (2 * CAPACITY // 4000)
    assert door.send_nowait(framed(b"first")) == len(framed(b"first"))
    assert door.send_nowait(data) == 0
    assert door.send_nowait(framed(b"another")) == 0
    received = b""

    async def receive() -> None:
        nonlocal received
        while len(received) < len(framed(b"first") + data + more):
            event = await far.hear()
            assert isinstance(event, BytesMessage)
            received += event.data

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        rest = data + more
        for start in range(0, len(rest), 300_001):
            await door.send(rest[start : start + 300_001])
    assert received == framed(b"first") + data + more


async def test_a_client_that_does_not_read_is_given_up(autojump_clock: MockClock) -> None:
    door, _, _ = await pair(Network())
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError, match="does not read"):
        await door.send(framed(bytes(4000)) * (2 * CAPACITY // 4000))
    assert trio.current_time() - began == pytest.approx(STALL_TIMEOUT)


async def test_a_pong_waits_for_the_rest_of_what_could_not_be_sent_at_once(autojump_clock: MockClock) -> None:
    door, far, _ = await pair(Network())
    data = framed(bytes(4000)) * (CAPACITY // 4000 + 1)
    assert door.send_nowait(data) == 0
    received = await far.hear()
    assert isinstance(received, BytesMessage)
    assert not received.message_finished
    await far.say(Ping(b"now"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.receive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(door.send, data)
        got = bytes(received.data)
        while len(got) < len(data):
            event = await far.hear()
            assert isinstance(event, BytesMessage), "a pong inside a message's bytes"
            got += event.data
        assert got == data
        assert isinstance(await far.hear(), Pong)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", ["close", "aclose"])
async def test_nothing_follows_half_a_frame(autojump_clock: MockClock, way: str) -> None:
    """Whoever gives up a send leaves a frame without its end: a closing frame would be taken for that end."""
    door, far, _ = await pair(Network())
    data = framed(bytes(CAPACITY + 200))
    with trio.move_on_after(1):
        await door.send(data)
    received = 0
    async with trio.open_nursery() as nursery:
        if way == "close":
            nursery.start_soon(door.close, 1001, "leaving")
        else:
            nursery.start_soon(door.aclose)
        while (event := await far.hear()) is not None:
            assert isinstance(event, BytesMessage)
            assert not any(event.data[4:]), "a closing frame inside a message"
            received += len(event.data)
    assert received <= CAPACITY


@pytest.mark.parametrize("step", [1, 2, 3, 7, 40, 90, 100_000])
async def test_however_messages_arrive_they_are_the_same_bytes(autojump_clock: MockClock, step: int) -> None:
    """Read quickly, and by wsproto where they come in pieces or with other frames between, in turn."""
    door, far, _ = await pair(Network())
    bodies = [bytes([number]) * (3 * number) for number in range(1, 90)]
    wire = bytearray(far.frames.send(BytesMessage(framed(CONNECT))))
    pings = 0
    for number, body in enumerate(bodies):
        data = framed(body)
        if number % 5 == 0:
            wire += far.frames.send(BytesMessage(data[:2], message_finished=False))
            data = data[2:]
        if number % 7 == 0:
            wire += far.frames.send(Ping(b"ping")) + far.frames.send(Pong(b"pong"))
            pings += 1
        wire += far.frames.send(BytesMessage(data))
    expected = framed(CONNECT) + framed(*bodies)
    received = b""
    async with trio.open_nursery() as nursery:

        async def say() -> None:
            for start in range(0, len(wire), step):
                await far.connection.send(bytes(wire[start : start + step]))
                if step > 1:
                    await trio.sleep(0.001)

        nursery.start_soon(say)
        while len(received) < len(expected):
            received += await door.receive()
    assert received == expected
    for _ in range(pings):
        assert isinstance(await far.hear(), Pong)


async def test_a_message_too_long_is_refused_also_when_it_is_read_quickly(autojump_clock: MockClock) -> None:
    door, far, _ = await pair(Network())
    await far.say(BytesMessage(framed(CONNECT)))
    assert await door.receive() == framed(CONNECT)
    await far.say(BytesMessage(framed(b"a")), BytesMessage(b"\0\0\xff\xff"))
    assert await door.receive() == b""
    assert door.refused is not None
    assert door.refused[0] == 1009
    await door.aclose()
    end = await far.hear()
    assert isinstance(end, CloseConnection)
    assert end.code == 1009
