"""A connection that sends at once, as a raw socket does: it takes what fits, and says how much that was.

The server half behind it works on bytes the moment they arrive. Decides how much the link takes, and when it breaks.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from terzetto.client import Connection, Endpoint, Listener

from .server_link import ServerLink


class MemorySocket:
    """See the module.

    Attributes:
        link: the server's half.
        room: bytes that the link takes until it is full; `None` for no bound.
        breaks_after: bytes after which every send fails; `None` for never.
        after_send: called when bytes have arrived, before the sender learns of it.
        pieces: every piece that was taken, in order.
    """

    sends_at_once = True

    def __init__(self, link: ServerLink, peer: str) -> None:
        self.link = link
        self.peer = peer
        self.room: int | None = None
        self.breaks_after: int | None = None
        self.after_send: Callable[[], None] = lambda: None
        self.pieces: list[bytes] = []
        self._arrived = trio.Event()
        self._room_made = trio.Event()
        self._closed = False
        link.on_output = self._on_output

    def _on_output(self) -> None:
        self._arrived.set()

    def make_room(self, count: int | None) -> None:
        """The peer has read; so much more fits."""
        self.room = None if count is None else (self.room or 0) + count
        self._room_made.set()
        self._room_made = trio.Event()

    def send_nowait(self, data: bytes) -> int:
        fits = len(data) if self.room is None else min(self.room, len(data))
        if self.breaks_after is not None:
            fits = min(fits, self.breaks_after)
            if data and not self.breaks_after:
                raise BrokenPipeError("the link broke")
            self.breaks_after -= fits
        if self.room is not None:
            self.room -= fits
        if fits:
            self.pieces.append(data[:fits])
            self.link.receive(data[:fits])
            self.after_send()
        return fits

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while data:
            room_made = self._room_made
            sent = self.send_nowait(data)
            data = data[sent:]
            if data:
                await room_made.wait()

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError
            data = self.link.take()
            if data or self.link.closed:
                return data
            self._arrived = trio.Event()
            await self._arrived.wait()

    async def aclose(self) -> None:
        self._closed = True
        self.link.hang_up()
        self._arrived.set()
        await trio.lowlevel.checkpoint()


class SocketTransport:
    """Dials a new `MemorySocket` to a link of the test's making.

    Attributes:
        sockets: every connection, oldest first.
        on_dial: called with each new connection before anything goes over it.
    """

    def __init__(self, make_link: Callable[[], ServerLink]) -> None:
        self._make_link = make_link
        self.sockets: list[MemorySocket] = []
        self.on_dial: Callable[[MemorySocket], None] = lambda _: None

    @property
    def socket(self) -> MemorySocket:
        """The newest connection."""
        return self.sockets[-1]

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        await trio.lowlevel.checkpoint()
        return [endpoint]

    async def dial(self, endpoint: Endpoint) -> Connection:
        await trio.lowlevel.checkpoint()
        connection = MemorySocket(self._make_link(), str(endpoint))
        self.sockets.append(connection)
        self.on_dial(connection)
        return connection

    async def listen(self, endpoint: Endpoint) -> Listener:
        raise OSError("nobody listens on memory")
