"""A TCP proxy between a client and a real server that a test can cut, stall and read along with.

Decides what happens to the bytes on their way; recognises ZooKeeper's frames by their length prefix only, to count and
record them. Refuses to know what a frame means and which client sent it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import trio

from .background import DEADLINE, Bell, background_nursery
from .processes import PortReservation

Sender = Literal["client", "server"]

_PIECE = 65536
# A first "length" above this is no frame: a four letter word, a TLS hello, garbage. Such a connection is not recorded.
_LENGTH_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True)
class RecordedFrame:
    """One whole frame that reached the proxy; under a stall it need not have been passed on.

    Attributes:
        connection: the number of the client's connection, counted from 0.
        sender: who sent it.
        body: the frame without its length prefix.
    """

    connection: int
    sender: Sender
    body: bytes


class FrameSplitter:
    """Finds frames in a direction's bytes; gives up for good at the first impossible length."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._lost = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The frames, without their length, that these bytes complete."""
        if self._lost:
            return []
        self._rest += piece
        frames: list[bytes] = []
        while len(self._rest) >= 4:
            (length,) = struct.unpack_from(">i", self._rest)
            if not 0 <= length <= _LENGTH_LIMIT:
                self._lost = True
                break
            if len(self._rest) < 4 + length:
                break
            frames.append(bytes(self._rest[4 : 4 + length]))
            del self._rest[: 4 + length]
        return frames


class _Gate:
    """Open or shut; whoever passes waits while it is shut."""

    def __init__(self) -> None:
        self._opened = trio.Event()
        self._opened.set()

    async def passed(self) -> None:
        await self._opened.wait()

    def shut(self) -> None:
        if self._opened.is_set():
            self._opened = trio.Event()

    def open(self) -> None:
        self._opened.set()


class CuttableProxy:
    """The proxy's controls; get one from `open_proxy`.

    Attributes:
        frames: every frame of every connection, in the order in which they reached the proxy.
        accepted: how many connections clients have made so far.
        ends: who ended a connection first, by its number; "proxy" where `cut` did.
    """

    def __init__(self, target: str, nursery: trio.Nursery) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._nursery = nursery
        self._reservation = PortReservation()
        self._listener: trio.socket.SocketType | None = None
        self._live: dict[int, tuple[trio.SocketStream, trio.SocketStream]] = {}
        self._gates: dict[Sender, _Gate] = {"client": _Gate(), "server": _Gate()}
        self._changed = Bell()
        self.frames: list[RecordedFrame] = []
        self.accepted = 0
        self.ends: dict[int, Sender | Literal["proxy"]] = {}

    @property
    def hosts(self) -> str:
        """The connect string that leads through the proxy; the same for its whole life."""
        return f"127.0.0.1:{self._reservation.port}"

    @property
    def live(self) -> int:
        """How many connections are open now."""
        return len(self._live)

    def count(self, sender: Sender) -> int:
        """How many frames of that side have reached the proxy."""
        return sum(frame.sender == sender for frame in self.frames)

    # -- faults

    def cut(self, *, reset: bool = False) -> None:
        """Closes all connections at once, on both sides; new ones are still taken.

        Args:
            reset: with RST instead of FIN.
        """
        for number, streams in list(self._live.items()):
            self.ends.setdefault(number, "proxy")
            for stream in streams:
                if reset:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.socket.close()
        self._live.clear()
        self._changed.ring()

    def refuse(self) -> None:
        """From now on connection attempts are refused by the kernel. Live connections go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def accept(self) -> None:
        """Takes connections (again); returns when the port listens."""
        if self._listener is None:
            listener = trio.socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await listener.bind(("127.0.0.1", self._reservation.port))
            listener.listen(128)
            self._listener = listener
            self._nursery.start_soon(self._listen, listener)

    def stall(self, sender: Sender) -> None:
        """Passes on nothing that this side sends, on all connections, and soon reads nothing more from it."""
        self._gates[sender].shut()

    def flow(self, sender: Sender) -> None:
        """Ends `stall`: what was held back goes on, in order."""
        self._gates[sender].open()

    def close(self) -> None:
        """Cuts everything and gives the port back; `open_proxy` does it at its end."""
        self.refuse()
        self.cut()
        self._reservation.close()

    # -- waiting

    async def wait_until(self, condition: Callable[[CuttableProxy], bool], deadline: float = DEADLINE) -> None:
        """Waits for a condition on frames, connections or ends.

        Raises:
            trio.TooSlowError: not within `deadline` seconds.
        """
        await self._changed.wait_until(lambda: condition(self), deadline)

    # -- the traffic

    async def _listen(self, listener: trio.socket.SocketType) -> None:
        while True:
            try:
                accepted, _ = await listener.accept()
            except trio.ClosedResourceError:
                return
            self._nursery.start_soon(self._serve, trio.SocketStream(accepted), self.accepted)
            self.accepted += 1
            self._changed.ring()

    async def _serve(self, client: trio.SocketStream, number: int) -> None:
        async with client:
            try:
                server = await trio.open_tcp_stream(*self._target)
            except OSError:
                self.ends[number] = "server"
                self._changed.ring()
                return
            async with server:
                self._live[number] = (client, server)
                self._changed.ring()
                async with trio.open_nursery() as pumps:
                    pumps.start_soon(self._pump, number, "client", client, server)
                    pumps.start_soon(self._pump, number, "server", server, client)
                self._live.pop(number, None)
                self._changed.ring()

    async def _pump(self, number: int, sender: Sender, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        splitter = FrameSplitter()
        try:
            while piece := await source.receive_some(_PIECE):
                self.frames += [RecordedFrame(number, sender, body) for body in splitter.feed(piece)]
                self._changed.ring()
                await self._gates[sender].passed()
                await sink.send_all(piece)
            self.ends.setdefault(number, sender)
            self._changed.ring()
            await self._gates[sender].passed()
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # Cut by the test, or one side vanished: the other side's pump then ends at its own next read or write.
            self.ends.setdefault(number, sender)
            await trio.aclose_forcefully(source)
            await trio.aclose_forcefully(sink)


@asynccontextmanager
async def open_proxy(target: str) -> AsyncIterator[CuttableProxy]:
    """A proxy on a free loopback port in front of `target` ("host:port"), which need not be there yet.

    Leaving the block cuts all connections.
    """
    async with background_nursery() as nursery:
        proxy = CuttableProxy(target, nursery)
        try:
            await proxy.accept()
            yield proxy
        finally:
            proxy.close()
