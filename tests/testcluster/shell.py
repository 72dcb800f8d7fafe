"""A whole server on memory streams and the clock of the test, and clients that speak in frames.

The transport is the seam's own kind of connection over trio's memory streams; the disk keeps in memory what a real one
would keep, and makes its caller wait as long as the test says.
"""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from terzetto.client._hosts import Endpoint
from terzetto.client._scopes import PlainNursery
from terzetto.client._transport import Connection, StreamConnection
from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import codec, operations as o, records as r
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.server import ZooKeeperServer
from terzetto.testcluster.storage import MemoryStorage, Storage

from .port import Event, Reply, connect_frame

ADDRESS = Endpoint("10.0.0.1", 2181, "")


class MemoryListener:
    """Where a server of the test listens."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._send, self._receive = trio.open_memory_channel[Connection](math.inf)

    def arrive(self, connection: Connection) -> None:
        self._send.send_nowait(connection)

    async def accept(self) -> Connection:
        return await self._receive.receive()

    def close(self) -> None:
        self._receive.close()


class MemoryTransport:
    """A network of one server: `dial` reaches whoever listens. In lockstep, nothing is sent before it is received."""

    def __init__(self, *, lockstep: bool = False) -> None:
        self.lockstep = lockstep
        self.listener: MemoryListener | None = None
        self._ports = 40_000

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        return [endpoint]

    async def listen(self, endpoint: Endpoint) -> MemoryListener:
        self.listener = MemoryListener(Endpoint(endpoint.host, endpoint.port or ADDRESS.port, ""))
        return self.listener

    async def dial(self, endpoint: Endpoint, ip: str = "10.0.0.9") -> Connection:
        ours, _ = self.pair(ip)
        return ours

    def pair(self, ip: str) -> tuple[StreamConnection, trio.StapledStream[Any, Any]]:
        if self.listener is None:
            raise ConnectionRefusedError("nobody listens")
        make = trio.testing.lockstep_stream_pair if self.lockstep else trio.testing.memory_stream_pair
        here, there = make()
        self._ports += 1
        self.listener.arrive(StreamConnection(there, f"{ip}:{self._ports}"))
        return StreamConnection(here, "server"), here


class Client:
    """A client of a server on a `MemoryTransport`."""

    def __init__(self, transport: MemoryTransport, ip: str = "10.0.0.9") -> None:
        self.connection, self.stream = transport.pair(ip)
        self.session_id = 0
        self.timeout_ms = 0
        self.password = b""
        self.events: list[Event] = []
        self._rest = b""
        self._xid = 0

    async def send(self, data: bytes) -> None:
        await self.connection.send(data)

    async def frame(self) -> bytes:
        """The next frame. Raises `EOFError` at the end of the stream."""
        while True:
            if len(self._rest) >= 4:
                end = 4 + int.from_bytes(self._rest[:4], "big")
                if len(self._rest) >= end:
                    frame, self._rest = self._rest[4:end], self._rest[end:]
                    return frame
            data = await self.connection.receive()
            if not data:
                raise EOFError
            self._rest += data

    async def handshake(self, **terms: Any) -> Client:
        await self.send(connect_frame(**terms))
        frame = await self.frame()
        record, _ = codec(r.ShortConnectResponse).decode(frame, 0, len(frame))
        self.session_id, self.timeout_ms, self.password = record.session_id, record.timeout, record.passwd or b""
        return self

    async def start(self, operation: o.Operation, *fields: Any) -> int:
        """Sends a request; its xid."""
        self._xid += 1
        await self.send(operation.frame(self._xid, *fields))
        return self._xid

    async def reply(self, operation: o.Operation | None = None) -> Reply:
        """The next reply; events before it go to `events`."""
        while True:
            frame = await self.frame()
            xid, zxid, err = int.from_bytes(frame[:4], "big", signed=True), *_zxid_and_err(frame)
            if xid == -1:
                record, _ = codec(r.WatcherEvent).decode(frame, 16, len(frame))
                self.events.append(Event(record.type, record.path, zxid))
                continue
            value: Any = frame[16:] or None
            if value is not None and operation is not None and operation.decode is not None and not err:
                value, _ = operation.decode(frame, 16, len(frame))
            return Reply(xid, zxid, err, value)

    async def ask(self, operation: o.Operation, *fields: Any) -> Reply:
        await self.start(operation, *fields)
        return await self.reply(operation)

    async def create(self, path: str, data: bytes = b"", flags: int = 0) -> Reply:
        return await self.ask(o.CREATE, path, data, OPEN_ACL_UNSAFE, flags)

    async def ping(self) -> Reply:
        await self.send(o.PING.frame(-2))
        return await self.reply()

    async def ended(self) -> bool:
        """Waits for the end of the stream; False when something else came."""
        try:
            await self.frame()
        except (EOFError, trio.BrokenResourceError):
            return True
        return False

    async def close(self) -> None:
        await self.connection.aclose()


def _zxid_and_err(frame: bytes) -> tuple[int, int]:
    return int.from_bytes(frame[4:12], "big", signed=True), int.from_bytes(frame[12:16], "big", signed=True)


class Disk(MemoryStorage):
    """A storage whose syncs take until `release`, as those of a busy disk."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs = 0
        self.fail: OSError | None = None
        self.running = threading.Event()
        self._free = threading.Event()
        self._free.set()

    @property
    def blocks(self) -> bool:  # type: ignore[override]
        return True

    def hold(self) -> None:
        self.running.clear()
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def sync(self) -> int:
        self.syncs += 1
        if self.fail is not None:
            raise self.fail
        durable = self.last_zxid
        count = len(self._log)
        self.running.set()
        assert self._free.wait(10.0), "nobody released the disk"
        self._synced = max(self._synced, count)
        return durable


class Shell:
    """A running server and its network."""

    def __init__(self, server: ZooKeeperServer, transport: MemoryTransport) -> None:
        self.server = server
        self.transport = transport

    async def connect(self, ip: str = "10.0.0.9", **terms: Any) -> Client:
        return await Client(self.transport, ip).handshake(**terms)

    async def say(self, word: bytes) -> str:
        """What the server answers to a four letter word."""
        client = Client(self.transport)
        await client.send(word)
        text = b""
        while data := await client.connection.receive():
            text += data
        await client.close()
        return text.decode()


@asynccontextmanager
async def serving(
    storage: Storage | None = None, *, config: ServerConfig | None = None, lockstep: bool = False, **settings: Any
) -> AsyncIterator[Shell]:
    """A server on memory streams while the block runs; it is stopped gracefully at the end."""
    options: dict[str, Any] = {"tick_ms": 2000, "four_letter_words": frozenset({"*"}), **settings}
    config = config or ServerConfig(client_port=0, admin_enabled=False, **options)
    transport = MemoryTransport(lockstep=lockstep)
    server = ZooKeeperServer(
        config, storage=storage or MemoryStorage(), transport=transport, wall_clock=lambda: 1.7e9 + trio.current_time()
    )
    async with PlainNursery() as nursery:
        await nursery.start(server.run)
        yield Shell(server, transport)
        server.stop()
