"""A network inside one process, whose links can be cut one by one, slowed down and broken.

Servers and clients get it as their `Transport` and know nothing of the faults. Decides what a peer notices of a fault,
which is what it would notice of a real one: across a cut nothing arrives, neither bytes nor the end of a connection nor
the answer to a dial, and everything that was sent arrives in order once the link is whole again. Time is trio's, so
that it runs on a virtual clock as well.
"""

from __future__ import annotations

import errno
import math
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection, Listener, Transport

CAPACITY = 1024 * 1024
"""Bytes that may be on their way in one direction of a connection before its sender has to wait."""

_FIRST_EPHEMERAL_PORT = 40_000


class Network:
    """Hosts, each with a name, and the links between them, one for each direction."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, int], _Listener] = {}
        self._pipes: dict[_Pipe, None] = {}
        self._cuts: Counter[tuple[str, str]] = Counter()
        self._delays: dict[tuple[str, str], float] = {}
        self._changed = trio.Event()
        self._ports = _FIRST_EPHEMERAL_PORT

    def transport(self, name: str) -> Transport:
        """How the host of this name dials and listens."""
        return _HostTransport(self, name)

    # -- faults

    def cut(self, source: str, target: str) -> None:
        """Lets nothing more through from one host to another. Cuts add up: each needs its own `mend`."""
        self._cuts[source, target] += 1

    def mend(self, source: str, target: str) -> None:
        """Takes back one `cut`."""
        self._cuts[source, target] -= 1
        if self._cuts[source, target] <= 0:
            del self._cuts[source, target]
            self._tell()

    @contextmanager
    def partition(self, one: Iterable[str], other: Iterable[str], *, one_way: bool = False) -> Iterator[None]:
        """Cuts all links between two groups of hosts while the block runs; one way, only those from the first."""
        pairs = [(a, b) for a in one for b in other]
        links = pairs if one_way else [*pairs, *((b, a) for a, b in pairs)]
        for link in links:
            self.cut(*link)
        try:
            yield
        finally:
            for link in links:
                self.mend(*link)

    def slow(self, source: str, target: str, delay: float) -> None:
        """Makes everything on a link arrive `delay` seconds after it was sent; 0 takes it back."""
        if delay > 0:
            self._delays[source, target] = delay
        else:
            self._delays.pop((source, target), None)

    def break_connections(self, one: str, other: str) -> int:
        """Resets every connection between two hosts; what is under way is lost. Returns how many there were."""
        found = [pipe for pipe in self._pipes if {pipe.source, pipe.target} == {one, other}]
        for pipe in found:
            pipe.reset()
        return len(found) // 2

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing passes."""
        return (source, target) in self._cuts

    def delay(self, source: str, target: str) -> float:
        """Seconds from one host to another."""
        return self._delays.get((source, target), 0.0)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        for pipe in list(self._pipes):
            pipe.tell()

    # -- what transports ask

    async def dial(self, source: str, endpoint: Endpoint) -> Connection:
        """See `Transport.dial`; waits while one of the two directions is cut, as for an answer that does not come."""
        target = endpoint.host
        while self.is_cut(source, target) or self.is_cut(target, source):
            await self._changed.wait()
        await trio.sleep(self.delay(source, target) + self.delay(target, source))
        listener = self._listeners.get((target, endpoint.port))
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{endpoint}: {os.strerror(errno.ECONNREFUSED)}")
        there, back = _Pipe(self, source, target), _Pipe(self, target, source)
        for pipe in (there, back):
            self._pipes[pipe] = None
        there.back, back.back = back, there
        self._ports += 1
        listener.arrive(_MemoryConnection(there, back, f"{source}:{self._ports}"))
        return _MemoryConnection(back, there, str(endpoint))

    def listen(self, name: str, endpoint: Endpoint) -> Listener:
        """See `Transport.listen`; the host is the transport's own, whatever the endpoint says."""
        port = endpoint.port
        if port == 0:
            self._ports += 1
            port = self._ports
        if (name, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{name}:{port}: {os.strerror(errno.EADDRINUSE)}")
        listener = self._listeners[name, port] = _Listener(self, Endpoint(name, port, name))
        return listener

    def forget_listener(self, endpoint: Endpoint) -> None:
        """Nobody listens there any more."""
        self._listeners.pop((endpoint.host, endpoint.port), None)

    def forget_pipe(self, pipe: _Pipe) -> None:
        """Both ends know that it has ended."""
        self._pipes.pop(pipe, None)


class _HostTransport:
    def __init__(self, network: Network, name: str) -> None:
        self._network = network
        self._name = name

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        return [endpoint]

    async def dial(self, endpoint: Endpoint) -> Connection:
        return await self._network.dial(self._name, endpoint)

    async def listen(self, endpoint: Endpoint) -> Listener:
        return self._network.listen(self._name, endpoint)


class _Listener:
    def __init__(self, network: Network, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._network = network
        self._arrivals, self._queue = trio.open_memory_channel[_MemoryConnection](math.inf)

    def arrive(self, connection: _MemoryConnection) -> None:
        self._arrivals.send_nowait(connection)

    async def accept(self) -> Connection:
        return await self._queue.receive()

    def close(self) -> None:
        self._network.forget_listener(self.endpoint)
        while True:
            # As a kernel resets what nobody accepted.
            try:
                self._queue.receive_nowait().close()
            except (trio.WouldBlock, trio.ClosedResourceError):
                break
        self._queue.close()


class _Pipe:
    """One direction of a connection: pieces with the time of their arrival, and then, perhaps, an end."""

    __slots__ = ("_chunks", "_lost", "_network", "_reader", "_size", "_writer", "back", "ended", "source", "target")

    def __init__(self, network: Network, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.ended = False
        self.back: _Pipe = self
        self._network = network
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._lost = False
        self._reader: trio.lowlevel.Task | None = None
        self._writer: trio.lowlevel.Task | None = None

    def reset(self) -> None:
        """Loses what is under way; both ends notice at once."""
        self._lost = self.ended = True
        self._chunks.clear()
        self._size = 0
        self._network.forget_pipe(self)
        self.tell()

    def tell(self) -> None:
        """Something has changed for whoever waits at one of the ends."""
        for task in (self._reader, self._writer):
            if task is not None:
                trio.lowlevel.reschedule(task)
        self._reader = self._writer = None

    # -- the writing end

    def _raise_if_broken(self) -> None:
        gone = self.back.ended and not self._network.is_cut(self.target, self.source)
        if self._lost or gone:
            raise BrokenPipeError(errno.EPIPE, f"{self.target} has closed the connection")
        if self.ended:
            raise trio.ClosedResourceError

    def send_nowait(self, data: bytes) -> int:
        self._raise_if_broken()
        piece = data[: CAPACITY - self._size]
        if piece:
            delay = self._network.delay(self.source, self.target)
            # What follows a slow piece does not overtake it.
            before = self._chunks[-1][0] if self._chunks else -math.inf
            arrival = max(trio.current_time() + delay, before) if delay or before > -math.inf else -math.inf
            self._chunks.append((arrival, piece))
            self._size += len(piece)
            if self._reader is not None:
                task, self._reader = self._reader, None
                trio.lowlevel.reschedule(task)
        return len(piece)

    async def wait_writable(self) -> None:
        while self._size >= CAPACITY:
            self._writer = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._forget_writer)
            self._raise_if_broken()

    def _forget_writer(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.tell()
        self.back.tell()
        if self.back.ended:
            # Nobody is left to be told of anything.
            self._network.forget_pipe(self)
            self._network.forget_pipe(self.back)

    # -- the reading end

    def take(self) -> bytes | None:
        """What has arrived; b"" at the end, None when it must be waited for."""
        if self._lost:
            raise ConnectionResetError(errno.ECONNRESET, f"{self.source} has reset the connection")
        if self._network.is_cut(self.source, self.target):
            return None
        pieces: list[bytes] = []
        now = trio.current_time()
        while self._chunks and self._chunks[0][0] <= now:
            pieces.append(self._chunks.popleft()[1])
        if not pieces:
            return b"" if self.ended and not self._chunks else None
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._size -= len(data)
        if self._writer is not None:
            task, self._writer = self._writer, None
            trio.lowlevel.reschedule(task)
        return data

    async def wait_readable(self) -> None:
        """Waits until something may have changed."""
        arrival = self._chunks[0][0] if self._chunks else -math.inf
        if arrival == -math.inf or self._network.is_cut(self.source, self.target):
            await self._park_reader()
            return
        with trio.CancelScope(deadline=arrival):
            await self._park_reader()

    async def _park_reader(self) -> None:
        if self._reader is not None:
            raise trio.BusyResourceError("another task receives from this connection")
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._forget_reader)

    def _forget_reader(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED


class _MemoryConnection:
    sends_at_once = True

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, peer: str) -> None:
        # Named by where the bytes of the peer come from.
        self.peer = peer
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False

    def send_nowait(self, data: bytes) -> int:
        if self._closed:
            raise trio.ClosedResourceError
        return self._outgoing.send_nowait(data)

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while True:
            view = view[self.send_nowait(bytes(view[:CAPACITY])) :]
            if not view:
                return
            await self._outgoing.wait_writable()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            data = self._incoming.take()
            if data is not None:
                return data
            await self._incoming.wait_readable()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._outgoing.end()
            self._incoming.tell()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()
