"""A client that says exactly what it is told, over a socket, and keeps no opinion about the answers.

Decides nothing but xids. Used by the capture, which needs requests that no well-behaved client would send.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.interop.proxy import CuttableProxy

from . import jute
from .recorder import Connection

_CODES = {operation.name: code for code, operation in jute.OPERATIONS.items()}
_OUT_OF_BAND = {"ping": -2, "auth": -4}
_DEADLINE = 20.0
_NO_PASSWORD = bytes(16)


class ServerClosed(Exception):
    """The server closed the connection instead of answering."""


class RawClient:
    """One connection, one request at a time.

    Attributes:
        session: the server's answer to the handshake.
        zxid: the newest zxid that a reply has borne.
        events: the notifications so far, as [type, path].
    """

    def __init__(self, stream: trio.SocketStream, connection: Connection) -> None:
        self._stream = stream
        self._connection = connection
        self._buffer = b""
        self._xid = 0
        self.session: dict[str, Any] = {}
        self.zxid = 0
        self.events: list[list[Any]] = []

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()

    async def send(self, body: bytes, comment: str) -> None:
        """Sends a frame."""
        self._connection.comments.append(comment)
        await self._stream.send_all(struct.pack(">i", len(body)) + body)

    async def receive(self) -> bytes:
        """The next frame.

        Raises:
            ServerClosed: there is none.
        """
        with trio.fail_after(_DEADLINE):
            header = await self._exactly(4)
            return await self._exactly(struct.unpack(">i", header)[0])

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            piece = await self._stream.receive_some(65536)
            if not piece:
                raise ServerClosed
            self._buffer += piece
        result, self._buffer = self._buffer[:count], self._buffer[count:]
        return result

    async def handshake(self, comment: str = "a new session", **fields: Any) -> dict[str, Any]:
        """Sends a ConnectRequest, by default one for a new session of 10 s; `read_only=None` leaves the byte out."""
        request = {
            "protocol_version": 0,
            "last_zxid_seen": 0,
            "time_out": 10_000,
            "session_id": 0,
            "passwd": _NO_PASSWORD,
            "read_only": False,
            **fields,
        }
        if request["read_only"] is None:
            del request["read_only"]
        await self.send(jute.encode("ConnectRequest", request), comment)
        answer = await self.receive()
        if len(answer) > 16:
            self.session, _ = jute.decode("ConnectResponse", answer)
        return self.session

    async def request(self, name: str, comment: str = "", *, xid: int | None = None, **fields: Any) -> dict[str, Any]:
        """Sends a request and returns its reply's header; notifications before it go to `events`."""
        code = _CODES[name]
        record = jute.OPERATIONS[code].request
        return await self.raw(code, b"" if record is None else jute.encode(record, fields), comment, xid)

    async def raw(self, code: int, body: bytes, comment: str, xid: int | None = None) -> dict[str, Any]:
        """As `request`, with any opcode and any body."""
        if xid is None:
            operation = jute.OPERATIONS.get(code)
            xid = _OUT_OF_BAND.get(operation.name) if operation else None
        if xid is None:
            self._xid += 1
            xid = self._xid
        await self.send(jute.encode("RequestHeader", {"xid": xid, "type": code}) + body, comment)
        expected = _OUT_OF_BAND["ping"] if code == _CODES["ping"] else xid
        while (header := await self._next_header())["xid"] != expected:
            assert header["xid"] == -1, header
        return header

    async def _next_header(self) -> dict[str, Any]:
        frame = await self.receive()
        header, offset = jute.decode("ReplyHeader", frame)
        self.zxid = max(self.zxid, header["zxid"])
        if header["xid"] == -1:
            event, _ = jute.decode("WatcherEvent", frame, offset)
            self.events.append([event["type"], event["path"]])
        return dict(header)

    async def await_events(self, count: int) -> None:
        """Reads until `count` notifications have come in all."""
        while len(self.events) < count:
            assert (await self._next_header())["xid"] == -1

    async def await_close(self) -> None:
        """Reads until the server closes the connection."""
        try:
            frame = await self.receive()
        except ServerClosed:
            return
        raise AssertionError(f"the server did not close but sent {frame.hex()}")

    async def close_session(self) -> None:
        """Ends the session and waits for the server to close the connection."""
        await self.request("closeSession", "end of the session: the reply, then the server closes")
        await self.await_close()


class Capture:
    """Connects raw clients through one proxy and remembers what each connection is about."""

    def __init__(self, proxy: CuttableProxy) -> None:
        self.proxy = proxy
        self.connections: dict[int, Connection] = {}

    @asynccontextmanager
    async def connect(self, name: str) -> AsyncIterator[RawClient]:
        """A connection on which nothing was said yet; the block's end closes it."""
        host, port = self.proxy.hosts.split(":")
        number = self.proxy.accepted
        stream = await trio.open_tcp_stream(host, int(port))
        connection = self.connections[number] = Connection(name)
        async with RawClient(stream, connection) as client:
            await self.proxy.wait_until(lambda proxy: proxy.accepted > number)
            yield client
        await self.proxy.wait_until(lambda proxy: number in proxy.ends)

    @asynccontextmanager
    async def session(self, name: str, comment: str = "a new session", **fields: Any) -> AsyncIterator[RawClient]:
        """A connection with a new session, which the block's end closes properly."""
        async with self.connect(name) as client:
            await client.handshake(comment, **fields)
            yield client
            await client.close_session()


def operation(name: str, **fields: Any) -> dict[str, Any]:
    """One operation of a multi or multiRead."""
    code = _CODES[name]
    return {"type": code, "done": False, "err": -1, "record": jute.OPERATIONS[code].request, "value": fields}


TERMINATOR = {"type": -1, "done": True, "err": -1, "record": None, "value": None}
