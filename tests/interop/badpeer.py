"""A server that misbehaves in one chosen way, for tests of what a client makes of it.

Decides what each kind of misbehaviour puts on the wire. Refuses to know any client and any codec of the project:
frames are packed by hand here. `serve_badly` speaks over any stream, also in memory and on virtual time;
`open_bad_peer` listens on loopback.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import trio
from trio.abc import HalfCloseableStream

from .background import DEADLINE, Bell, background_nursery
from .proxy import FrameSplitter, RecordedFrame

PING, CLOSE_SESSION = 11, -11
NO_NODE = -101
SESSION_ID = 0x1000_0000_0000_0BAD
PASSWORD = b"no such password"

Then = Literal["hold", "close", "reset"]


class Request(NamedTuple):
    """A request as far as its header says."""

    xid: int
    opcode: int
    body: bytes


class CallerLeft(Exception):
    """The client closed the connection; ends a script silently."""


class Caller:
    """One client's connection, as a script sees it.

    Attributes:
        number: the connection's number, counted from 0.
        portion: how many bytes are sent at a time; None for all at once.
    """

    def __init__(
        self, stream: HalfCloseableStream, number: int = 0, observe: Callable[[RecordedFrame], None] | None = None
    ) -> None:
        self._stream = stream
        self.number = number
        self.portion: int | None = None
        self._observe = observe
        self._splitter = FrameSplitter()
        self._frames: list[bytes] = []
        self._zxid = 0

    async def frame(self) -> bytes:
        """The client's next whole frame, without its length.

        Raises:
            CallerLeft: there is none.
        """
        while not self._frames:
            piece = await self._stream.receive_some(65536)
            if not piece:
                raise CallerLeft
            self._frames += self._splitter.feed(bytes(piece))
        body = self._frames.pop(0)
        if self._observe is not None:
            self._observe(RecordedFrame(self.number, "client", body))
        return body

    async def request(self) -> Request:
        """The client's next request."""
        body = await self.frame()
        xid, opcode = struct.unpack_from(">ii", body)
        return Request(xid, opcode, body[8:])

    async def write(self, octets: bytes) -> None:
        """Sends bytes as they are."""
        portion = self.portion or max(1, len(octets))
        for start in range(0, len(octets), portion):
            await self._stream.send_all(octets[start : start + portion])

    async def send(self, body: bytes) -> None:
        """Sends a frame."""
        await self.write(struct.pack(">i", len(body)) + body)

    async def greet(self) -> None:
        """Reads the handshake and grants the session that it asks for, with the timeout that it asks for."""
        await self.send(connect_response(await self.frame()))

    async def reply(self, xid: int, err: int = 0, body: bytes = b"") -> None:
        """Sends a reply; its zxid grows by one each time."""
        self._zxid += 1
        await self.send(struct.pack(">iqi", xid, self._zxid, err) + body)

    async def answer(self, request: Request) -> None:
        """Answers as a server with an empty tree would: pings and the end of a session properly, the rest with NoNode.

        Raises:
            CallerLeft: the request was the end of the session.
        """
        if request.opcode == PING:
            await self.reply(-2)
            return
        await self.reply(request.xid, 0 if request.opcode == CLOSE_SESSION else NO_NODE)
        if request.opcode == CLOSE_SESSION:
            raise CallerLeft

    async def end(self, then: Then) -> None:
        """Closes, resets, or neither: then reads on and says nothing more until the client leaves."""
        if then == "reset" and isinstance(self._stream, trio.SocketStream):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if then == "hold":
            while True:
                await self.frame()
        raise CallerLeft


Script = Callable[[Caller], Awaitable[None]]


def connect_response(request: bytes, *, expired: bool = False) -> bytes:
    """A ConnectResponse to a ConnectRequest: the session granted, or said to be expired as servers say it."""
    (timeout,) = struct.unpack_from(">i", request, 12)
    (session_id,) = struct.unpack_from(">q", request, 16)
    has_read_only = len(request) > 44
    granted = (timeout, session_id or SESSION_ID, PASSWORD)
    timeout, session_id, password = (0, 0, bytes(16)) if expired else granted
    return struct.pack(">iiqi", 0, timeout, session_id, 16) + password + (b"\0" if has_read_only else b"")


# -- scripts


def polite() -> Script:
    """Misbehaves in no way: for the connection after the bad one."""

    async def script(caller: Caller) -> None:
        await caller.greet()
        while True:
            await caller.answer(await caller.request())

    return script


def never_answers() -> Script:
    """Takes the connection and whatever is sent, and says nothing."""

    async def script(caller: Caller) -> None:
        await caller.end("hold")

    return script


def never_reads() -> Script:
    """Grants a session and then reads nothing more, so that the client's writes back up."""

    async def script(caller: Caller) -> None:
        await caller.greet()
        await trio.sleep_forever()

    return script


def mute_after_handshake(requests: int = 0) -> Script:
    """Grants a session, answers some requests, and from then on nothing, pings included."""

    async def script(caller: Caller) -> None:
        await caller.greet()
        for _ in range(requests):
            await caller.answer(await caller.request())
        await caller.end("hold")

    return script


def garbage(octets: bytes = b"HTTP/1.1 400 Bad\r\n\r\n", *, greeted: bool = False, then: Then = "hold") -> Script:
    """Sends bytes that are no frame, in place of the handshake's answer or (`greeted`) of the first request's."""

    async def script(caller: Caller) -> None:
        if greeted:
            await caller.greet()
        await caller.frame()
        await caller.write(octets)
        await caller.end(then)

    return script


def oversized_length(length: int = 0x7FFFFFFF, *, greeted: bool = False, then: Then = "hold") -> Script:
    """Announces a frame of that length, sends eight bytes of it; negative lengths do too."""
    return garbage(struct.pack(">i", length) + bytes(8), greeted=greeted, then=then)


def half_frame(*, greeted: bool = False, then: Then = "hold") -> Script:
    """Sends the first half of a correct answer, to the handshake or (`greeted`) to the first request."""

    async def script(caller: Caller) -> None:
        if greeted:
            await caller.greet()
            request = await caller.request()
            body = struct.pack(">iqi", request.xid, 1, NO_NODE)
        else:
            body = connect_response(await caller.frame())
        whole = struct.pack(">i", len(body)) + body
        await caller.write(whole[: len(whole) // 2])
        await caller.end(then)

    return script


def unknown_error(code: int = -4711) -> Script:
    """Answers every request but pings with an error code that no release has."""

    async def script(caller: Caller) -> None:
        await caller.greet()
        while True:
            request = await caller.request()
            if request.opcode in (PING, CLOSE_SESSION):
                await caller.answer(request)
            else:
                await caller.reply(request.xid, code)

    return script


def wrong_xid(offset: int = 1000) -> Script:
    """Answers the first request, pings aside, with another's xid."""

    async def script(caller: Caller) -> None:
        await caller.greet()
        while (request := await caller.request()).opcode == PING:
            await caller.answer(request)
        await caller.reply(request.xid + offset, NO_NODE)
        await caller.end("hold")

    return script


def unasked_reply(xid: int = 1) -> Script:
    """Sends a reply although nothing was asked."""

    async def script(caller: Caller) -> None:
        await caller.greet()
        await caller.reply(xid)
        await caller.end("hold")

    return script


def truncated_record(body: bytes = b"\x00\x00\x00") -> Script:
    """Answers the first request, pings aside, with success and a record that ends early."""

    async def script(caller: Caller) -> None:
        await caller.greet()
        while (request := await caller.request()).opcode == PING:
            await caller.answer(request)
        await caller.reply(request.xid, 0, body)
        await caller.end("hold")

    return script


def closes_after(requests: int, *, then: Then = "close") -> Script:
    """Answers some requests, pings included, and closes (or resets) when it has read one more."""

    async def script(caller: Caller) -> None:
        await caller.greet()
        for _ in range(requests):
            await caller.answer(await caller.request())
        await caller.request()
        await caller.end(then)

    return script


def expires_session() -> Script:
    """Answers the handshake as a server does that does not know the session, then closes."""

    async def script(caller: Caller) -> None:
        await caller.send(connect_response(await caller.frame(), expired=True))
        await caller.end("close")

    return script


def dribbles() -> Script:
    """Is polite, but sends each byte by itself."""

    async def script(caller: Caller) -> None:
        caller.portion = 1
        await polite()(caller)

    return script


# -- serving


async def serve_badly(stream: HalfCloseableStream, script: Script) -> None:
    """Runs a script over one connection and closes it, whatever the client does meanwhile."""
    await _serve(Caller(stream), stream, script)


async def _serve(caller: Caller, stream: HalfCloseableStream, script: Script) -> None:
    async with stream:
        try:
            await script(caller)
        except (CallerLeft, trio.BrokenResourceError, trio.ClosedResourceError):
            pass


@dataclass
class BadPeer:
    """A listening bad peer; get one from `open_bad_peer`.

    Attributes:
        hosts: the connect string.
        accepted: how many connections clients have made so far.
        left: how many of them are over.
        frames: the clients' frames that the scripts have read, handshakes included.
    """

    hosts: str
    accepted: int
    left: int
    frames: list[RecordedFrame]
    _bell: Bell

    async def wait_until(self, condition: Callable[[BadPeer], bool], deadline: float = DEADLINE) -> None:
        """Waits for a condition on connections or frames.

        Raises:
            trio.TooSlowError: it did not hold within `deadline` seconds.
        """
        await self._bell.wait_until(lambda: condition(self), deadline)


@asynccontextmanager
async def open_bad_peer(*scripts: Script) -> AsyncIterator[BadPeer]:
    """Listens on a free loopback port; connection n gets script n, further ones the last script again."""
    if not scripts:
        raise ValueError("open_bad_peer needs a script")
    async with background_nursery() as nursery:
        bell = Bell()
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        peer = BadPeer(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}", 0, 0, [], bell)

        def observe(frame: RecordedFrame) -> None:
            peer.frames.append(frame)
            bell.ring()

        async def serve(stream: trio.SocketStream) -> None:
            number = peer.accepted
            peer.accepted += 1
            bell.ring()
            await _serve(Caller(stream, number, observe), stream, scripts[min(number, len(scripts) - 1)])
            peer.left += 1
            bell.ring()

        await nursery.start(trio.serve_listeners, serve, listeners)
        yield peer
