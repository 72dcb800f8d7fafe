"""Below trio-websocket: who reads at which moment, and that nobody waits for bytes that another one has taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request

from terzetto.client import Connection, Endpoint
from terzetto.client._hosts import parse_hosts
from terzetto.client._websocket import WebSocketTransport
from terzetto.client._websocket_stream import ANSWER_MAX, WatchedStream
from terzetto.testcluster.memory_network import CAPACITY, Network

FAR = Endpoint("far", 1, "far")
HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


@asynccontextmanager
async def pair(head: bytes = HEAD) -> AsyncIterator[tuple[WatchedStream, Connection]]:
    """A stream whose handshake is over, and the far end of it."""
    network = Network()
    listener = await network.transport("far").listen(FAR)
    near = await network.transport("near").dial(FAR)
    far = await listener.accept()
    stream = WatchedStream(near)
    await far.send(head)
    assert await stream.receive_some() == head
    stream.is_bounded = False
    yield stream, far
    await stream.aclose()
    await far.aclose()
    listener.close()


async def test_a_reader_stops_behind_a_message_and_goes_on_with_what_it_is_handed(autojump_clock: MockClock) -> None:
    told: list[bytes] = []
    async with pair() as (stream, far), trio.open_nursery() as nursery:
        parked = 0

        def count() -> None:
            nonlocal parked
            parked += 1

        stream.on_park = count

        async def read() -> None:
            while data := await stream.receive_some():
                told.append(data)

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert parked == 1
        # Half a message: the reader wants the rest of it, and then stops again.
        stream.hand(b"\x82\x02x")
        assert not stream.is_parked
        await wait_all_tasks_blocked()
        await far.send(b"y\x89\x00")
        await wait_all_tasks_blocked()
        assert told == [b"\x82\x02x", b"y\x89\x00"]
        assert stream.walk.messages == 1
        assert parked == 2
        await far.send(b"\x82\x01z")
        assert await stream.read() == b"\x82\x01z"
        stream.release()
        await far.send(b"\x82\x01!")
        await wait_all_tasks_blocked()
        assert told[2:] == [b"\x82\x01!"]
        assert parked == 2
        await far.aclose()
    assert stream.ended.is_set()
    assert stream.failure is None


@pytest.mark.parametrize("found", [b"", trio.BrokenResourceError("cut")])
async def test_an_end_is_handed_on(autojump_clock: MockClock, found: bytes | BaseException) -> None:
    async with pair() as (stream, _), trio.open_nursery() as nursery:
        ends: list[object] = []

        async def read() -> None:
            try:
                ends.append(await stream.receive_some())
            except trio.BrokenResourceError as error:
                ends.append(error)

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        stream.hand(found)
        await wait_all_tasks_blocked()
        assert ends == [found]


async def test_a_reader_that_waits_ends_with_the_stream(autojump_clock: MockClock) -> None:
    async with pair() as (stream, _), trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await stream.aclose()


async def test_nobody_else_reads_where_it_is_not_known_where_frames_begin(autojump_clock: MockClock) -> None:
    async with pair(HEAD + b"\x82") as (stream, far):
        await far.send(b"\x01x")
        assert await stream.receive_some() == b"\x01x"
        assert not stream.is_parked


async def test_an_answer_is_bounded(autojump_clock: MockClock) -> None:
    async with pair() as (stream, far):
        stream.is_bounded = True
        await far.send(bytes(ANSWER_MAX))
        with trio.fail_after(10):
            while await stream.receive_some():
                pass
        assert "is longer than" in str(stream.failure)


# Through a whole connection ------------------------------------------------------------------------------------------


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Connection, Connection, WSConnection]]:
    """A client's connection, the bytes' connection at its far end, and a WebSocket on that."""
    endpoint = parse_hosts("ws://far:80/")[0][0]
    network = Network()
    listener = await network.transport("far").listen(Endpoint("far", 80, "far"))
    async with trio.open_nursery() as links:
        transport = WebSocketTransport(network.transport("near"), network.transport("near"))
        transport.run_links_in(links)
        far = WSConnection(ConnectionType.SERVER)
        near: list[Connection] = []

        async def dial() -> None:
            near.append(await transport.dial(endpoint))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            inner = await listener.accept()
            far.receive_data(await inner.receive())
            assert isinstance(next(far.events()), Request)
            await inner.send(far.send(AcceptConnection()))
        yield near[0], inner, far


@settings(max_examples=60, deadline=None)
@given(
    messages=st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=3), max_size=8),
    long=st.integers(0, 8),
    pings=st.sets(st.integers(0, 20)),
    cuts=st.lists(st.integers(1, 400), max_size=30),
    waits=st.lists(st.booleans(), min_size=1, max_size=10),
    end=st.sampled_from(["closes", "cut", "given up"]),
)
def test_whatever_way_messages_are_read_they_come_in_order(
    messages: list[list[bytes]], long: int, pings: set[int], cuts: list[int], waits: list[bool], end: str
) -> None:
    """Plain ones come past trio-websocket, others through it: fragments, pings between them, and bytes cut anywhere."""
    if long < len(messages):
        messages[long] = [bytes(70_000), b"end"]

    async def talk() -> None:
        async with linked() as (connection, inner, far):
            stream, frames = b"", 0
            for pieces in messages:
                for number, piece in enumerate(pieces, 1):
                    stream += far.send(BytesMessage(data=piece, message_finished=number == len(pieces)))
                    frames += 1
                    if frames in pings:
                        stream += far.send(Ping(b"%d" % frames))
            if end == "closes":
                stream += far.send(CloseConnection(code=1000))
            received, pongs = b"", list[bytes]()

            async def send() -> None:
                rest, position = stream, 0
                for cut in [*cuts, len(stream)]:
                    await inner.send(rest[:cut])
                    rest = rest[cut:]
                    position += 1
                    if waits[position % len(waits)]:
                        await wait_all_tasks_blocked()
                if end == "cut":
                    await wait_all_tasks_blocked()
                    await inner.aclose()

            async def hear() -> None:
                with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                    while data := await inner.receive():
                        far.receive_data(data)
                        pongs.extend(bytes(event.payload) for event in far.events() if isinstance(event, Pong))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                nursery.start_soon(hear)
                wanted = sum(len(piece) for pieces in messages for piece in pieces)
                with suppress(ConnectionResetError):
                    while (end != "given up" or len(received) < wanted) and (data := await connection.receive()):
                        received += data
                if end == "given up":
                    with trio.fail_after(5):
                        await connection.aclose()
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert received == b"".join(b"".join(pieces) for pieces in messages)
            if end == "closes":
                assert pongs == [b"%d" % number for number in sorted(pings) if 0 < number <= frames]
            await connection.aclose()
            await inner.aclose()

    trio.run(talk, clock=MockClock(autojump_threshold=0.05))


async def test_what_goes_out_at_once_waits_behind_what_could_not(autojump_clock: MockClock) -> None:
    """A message that the link takes in part is sent to its end before a pong or another message."""
    async with linked() as (connection, inner, far):
        assert connection.sends_at_once
        piece = (CAPACITY // 8).to_bytes(4, "big") + bytes(CAPACITY // 8)
        sent = 0
        while connection.send_nowait(piece) == len(piece):
            sent += 1
        assert sent == 8  # the last one in part
        await inner.send(far.send(Ping(b"now")))
        await wait_all_tasks_blocked()
        assert connection.send_nowait(piece) == 0
        received, pongs = 0, list[bytes]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.receive)
            nursery.start_soon(connection.send, piece)
            while received < 9 * len(piece) or not pongs:
                far.receive_data(await inner.receive())
                for event in far.events():
                    if isinstance(event, Pong):
                        pongs.append(bytes(event.payload))
                    else:
                        assert isinstance(event, BytesMessage)
                        received += len(event.data)
            nursery.cancel_scope.cancel()
        assert (received, pongs) == (9 * len(piece), [b"now"])
        assert connection.send_nowait(piece[:4]) == 4
        await inner.aclose()
        await wait_all_tasks_blocked()
        assert connection.send_nowait(piece) == 0
        with pytest.raises(OSError, match="cut the connection"):
            await connection.send(piece)
        await connection.aclose()


async def test_nothing_follows_half_a_frame(autojump_clock: MockClock) -> None:
    """A send that was given up leaves a frame without its end; a closing frame would be taken for the end."""
    async with linked() as (connection, inner, far):
        request = (CAPACITY - 4).to_bytes(4, "big") + bytes(CAPACITY - 4)
        with trio.move_on_after(1):
            await connection.send(request)
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.aclose)
            while data := await inner.receive():
                far.receive_data(data)
                for event in far.events():
                    assert isinstance(event, BytesMessage)
                    assert not event.message_finished
                    received += event.data
        assert received == request[: len(received)]


@pytest.mark.parametrize("is_read", [True, False])
async def test_the_answer_to_a_closing_frame_is_not_waited_for_in_vain(
    autojump_clock: MockClock, is_read: bool
) -> None:
    async with linked() as (connection, inner, far), trio.open_nursery() as nursery:
        ends: list[bytes] = []

        async def answer() -> None:
            while data := await inner.receive():
                far.receive_data(data)
                for event in far.events():
                    if isinstance(event, CloseConnection):
                        await inner.send(far.send(event.response()))

        async def read() -> None:
            with suppress(ConnectionResetError):
                while data := await connection.receive():
                    ends.append(data)
            ends.append(b"")

        await inner.send(far.send(BytesMessage(data=b"hello")))
        assert await connection.receive() == b"hello"
        await wait_all_tasks_blocked()
        nursery.start_soon(answer)
        if is_read:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
        begun = trio.current_time()
        await connection.aclose()
        assert trio.current_time() == begun
        await inner.aclose()
        await wait_all_tasks_blocked()
        assert ends == [b""] * is_read
        nursery.cancel_scope.cancel()
