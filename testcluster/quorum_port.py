"""The quorum port: links between leader and learners, as packets in and bytes out.

Decides how a link is accepted and dialled, how much may wait for a slow peer, and that a snapshot of any size leaves
piece by piece while everything else goes on. Refuses to know what a packet means (`peer.py`), and in which order things
become durable.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection, Listener, Transport
from terzetto.client.errors import WireError

from .messages import PacketReader, QuorumPacket
from .snapshot_body import SnapshotBody

_log = logging.getLogger(__name__)

DIAL_ATTEMPTS = 15
DIAL_PAUSE = 0.1
"""How often, and how many seconds apart, a learner tries to reach its leader. (ZooKeeper: 5 times. But Java's servers
wait a fifth of a second for better votes before they listen, where those of terzetto may know already who leads.)"""

DIAL_TIMEOUT = 5.0
"""Seconds for one attempt."""

LINKS_MAX = 256
"""Links that are open at a time; what comes beyond is closed at once."""

LEARNER_DATA_MAX = 16 * 1024 * 1024
"""Longest data of a learner's packet in bytes: a client's request, or the sessions that it has heard of."""

UNSENT_MAX = 256 * 1024 * 1024
"""Bytes that may wait for a peer to read before its link is closed."""

PIECE = 256 * 1024
"""Bytes handed to a connection at once."""

ACCEPT_PAUSE = 0.1
"""Seconds after an accept that failed."""

_LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)

Gate = Callable[[], trio.Event | None]


class Ends(Protocol):
    """Who is told what happens to links. A link is known by its number, which is never used again."""

    def link_accepted(self, link: int) -> None:
        """A server has connected."""
        ...

    def link_dialled(self, link: int) -> None:
        """What `QuorumPort.dial` was asked for."""
        ...

    def dial_failed(self, sid: int, reason: str) -> None:
        """All attempts to reach a server have failed."""
        ...

    def arrived(self, link: int, items: list[QuorumPacket | SnapshotBody]) -> None:
        """Packets, and the snapshots behind SNAP packets, in order."""
        ...

    def link_closed(self, link: int) -> None:
        """The other end has closed, is broken or speaks nonsense; not called after `hang_up`."""
        ...

    def congestion(self) -> trio.Event | None:
        """What to wait for before more is read."""
        ...


class _Link:
    """One connection between two servers."""

    __slots__ = ("connection", "is_open", "number", "queue", "scope", "sending", "unsent", "wake")

    def __init__(self, number: int, connection: Connection) -> None:
        self.number = number
        self.connection = connection
        self.queue: deque[bytes | Iterator[bytes]] = deque()
        self.unsent = 0
        self.sending = False
        self.is_open = True
        self.wake = trio.Event()
        self.scope = trio.CancelScope()


class QuorumPort:
    """One server's links to its leader, or to its learners.

    Args:
        sid: this server.
        addresses: the quorum addresses of every server of the configuration.
        transport: dials them.
        ends: is told what happens.
        gate: what to wait for before anything is done, None while the server is not paused.
    """

    def __init__(
        self, sid: int, addresses: Mapping[int, Sequence[Endpoint]], transport: Transport, ends: Ends, *, gate: Gate
    ) -> None:
        self._sid = sid
        self._addresses = addresses
        self._transport = transport
        self._ends = ends
        self._gate = gate
        self._links: dict[int, _Link] = {}
        self._touched: dict[int, None] = {}
        self._dialling = trio.CancelScope()
        self._numbers = 0
        self._nursery: trio.Nursery | None = None

    async def serve(self, listener: Listener) -> None:
        """Accepts and moves bytes until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._accept(listener, nursery)
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    # -- what is asked of it

    def dial(self, sid: int) -> None:
        """Connects to a server's quorum port, with a few attempts, and to no other any more."""
        self.revoke_dial()
        if self._nursery is not None:
            self._nursery.start_soon(self._dial, sid, self._dialling, self._nursery)

    def revoke_dial(self) -> None:
        """Gives up what `dial` has begun."""
        self._dialling.cancel()
        self._dialling = trio.CancelScope()

    def send(self, link: int, data: bytes) -> None:
        """Sends bytes behind everything that was sent before; `flush` must follow."""
        found = self._links.get(link)
        if found is not None:
            found.queue.append(data)
            found.unsent += len(data)
            self._touched[link] = None

    def send_pieces(self, link: int, pieces: Iterator[bytes]) -> None:
        """Sends a body piece by piece, each made when the one before it has left; `flush` must follow."""
        found = self._links.get(link)
        if found is not None:
            found.queue.append(pieces)
            self._touched[link] = None

    def flush(self) -> None:
        """Hands over what was sent: what the connections take at once leaves now, the rest when they do."""
        while self._touched:
            number, _ = self._touched.popitem()
            link = self._links.get(number)
            if link is None or link.sending:
                if link is not None and link.unsent > UNSENT_MAX:
                    self._lose(link, f"{link.unsent} bytes wait for it")
                continue
            self._send_at_once(link)

    def hang_up(self, link: int) -> None:
        """Closes a link. What it was sent before leaves if its connection takes it."""
        found = self._links.pop(link, None)
        if found is not None:
            found.is_open = False
            if not found.sending:
                self._send_at_once(found)
            found.scope.cancel()

    # -- sending

    def _send_at_once(self, link: _Link) -> None:
        queue = link.queue
        parts: list[bytes] = []
        while queue and isinstance(queue[0], bytes):
            parts.append(queue.popleft())  # type: ignore[arg-type]
        data = b"".join(parts)
        if data and link.connection.sends_at_once:
            try:
                sent = link.connection.send_nowait(data)
            except _LOST as error:
                self._lose(link, str(error))
                return
            link.unsent -= sent
            data = data[sent:]
        if data:
            queue.appendleft(data)
        if queue and link.is_open:
            link.sending = True
            link.wake.set()

    async def _write(self, link: _Link) -> None:
        """Sends what did not leave at once."""
        while True:
            if not link.queue:
                link.sending = False
                link.wake = trio.Event()
                await link.wake.wait()
            item = link.queue.popleft()
            for piece in _pieces(item) if isinstance(item, bytes) else item:
                await self._pass_gate()
                await link.connection.send(piece)
                if isinstance(item, bytes):
                    link.unsent -= len(piece)
                else:
                    # The next piece is made of many znodes; others are to have their turn.
                    await trio.lowlevel.checkpoint()

    # -- life of a link

    async def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        while True:
            try:
                connection = await listener.accept()
            except OSError as error:
                _log.warning("server %d cannot accept a quorum link: %s", self._sid, error)
                await trio.sleep(ACCEPT_PAUSE)
                continue
            await self._pass_gate()
            if len(self._links) >= LINKS_MAX:
                await connection.aclose()
                continue
            link = self._admit(connection)
            reader = PacketReader(LEARNER_DATA_MAX, takes_snapshots=False)
            nursery.start_soon(self._serve_link, link, reader)
            self._ends.link_accepted(link.number)

    async def _dial(self, sid: int, scope: trio.CancelScope, nursery: trio.Nursery) -> None:
        reason = "it is not in the configuration"
        with scope:
            for attempt in range(DIAL_ATTEMPTS if sid in self._addresses else 0):
                if attempt:
                    await trio.sleep(DIAL_PAUSE)
                found = await self._dial_once(sid)
                await self._pass_gate()
                if isinstance(found, str):
                    reason = found
                    continue
                link = self._admit(found)
                nursery.start_soon(self._serve_link, link, PacketReader())
                self._ends.link_dialled(link.number)
                return
            self._ends.dial_failed(sid, reason)

    async def _dial_once(self, sid: int) -> Connection | str:
        """A connection, or why there is none."""
        reason = f"no answer within {DIAL_TIMEOUT:g} s"
        with trio.move_on_after(DIAL_TIMEOUT):
            for place in self._addresses[sid]:
                try:
                    for address in await self._transport.resolve(place):
                        return await self._transport.dial(address)
                except _LOST as error:
                    reason = str(error)
        return reason

    def _admit(self, connection: Connection) -> _Link:
        self._numbers += 1
        link = self._links[self._numbers] = _Link(self._numbers, connection)
        return link

    async def _serve_link(self, link: _Link, reader: PacketReader) -> None:
        try:
            with link.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_until_lost, link)
                    await self._read(link, reader)
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await link.connection.aclose()
        self._lose(link, "the other end has closed")

    async def _write_until_lost(self, link: _Link) -> None:
        try:
            await self._write(link)
        except _LOST as error:
            self._lose(link, str(error))

    async def _read(self, link: _Link, reader: PacketReader) -> None:
        try:
            while True:
                data = await link.connection.receive()
                await self._pass_gate()
                if not data or not link.is_open:
                    return
                items = reader.feed(data)
                if items:
                    self._ends.arrived(link.number, items)
                while (congestion := self._ends.congestion()) is not None:
                    await congestion.wait()
        except _LOST:
            return
        except WireError as error:
            _log.warning("server %d closes the link to %s: %s", self._sid, link.connection.peer, error)

    def _lose(self, link: _Link, reason: str) -> None:
        """Ends a link that nobody asked to end."""
        if link.is_open:
            link.is_open = False
            self._links.pop(link.number, None)
            _log.debug("server %d loses the link to %s: %s", self._sid, link.connection.peer, reason)
            link.scope.cancel()
            self._ends.link_closed(link.number)

    async def _pass_gate(self) -> None:
        while (closed := self._gate()) is not None:
            await closed.wait()


def _pieces(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), PIECE):
        yield bytes(view[start : start + PIECE])
