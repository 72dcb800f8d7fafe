"""Clients on connections of any kind, a task each: TLS, memory streams on virtual time, systems without epoll.

The same links and the same turn of the server as `epoll_port.py`, over the narrow seam of the transport.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from terzetto.client._transport import Connection as Transported, Listener

from .links import UNSENT_MAX, UNSENT_PAUSE, Link, Service

PIECE = 256 * 1024
"""Bytes handed to a connection at once."""

_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)


class StreamPort:
    """A client port over a transport's listener.

    Args:
        service: the server.
        admit: whether a connection from this IP address may stay.
        turn: called after each chunk that was taken.
        secure: its connections are TLS, also where they cannot tell (a WebSocket's).
    """

    def __init__(
        self, service: Service, admit: Callable[[str], bool], turn: Callable[[], None], *, secure: bool = False
    ) -> None:
        self._service = service
        self._admit = admit
        self._turn = turn
        self._secure = secure
        self._listener: Listener | None = None
        self._links: set[_StreamLink] = set()

    def adopt(self, listener: Listener) -> None:
        """Accepts clients from a listener once `serve` runs; the port owns it."""
        self._listener = listener

    def stop_listening(self) -> None:
        """Closes the listener; the clients stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        """Drops every client."""
        self.stop_listening()
        for link in list(self._links):
            link.drop()

    async def serve(self, gate: Callable[[], trio.Event | None]) -> None:
        """Serves until cancelled. While `gate` gives an event, nothing is served before that is set."""
        async with trio.open_nursery() as nursery:
            while self._listener is not None:
                try:
                    connection = await self._listener.accept()
                except trio.ClosedResourceError:
                    break
                await self._serve_connection(connection, nursery, gate)
            # The clients outlive the listener until the server is cancelled.
            await trio.sleep_forever()

    async def _serve_connection(
        self, connection: Transported, nursery: trio.Nursery, gate: Callable[[], trio.Event | None]
    ) -> None:
        ip, port = _split_peer(connection.peer)
        if not self._admit(ip):
            await connection.aclose()
            return
        subject: str | None = getattr(connection, "certificate_subject", None)
        secure = self._secure or hasattr(connection, "certificate_subject")
        link = _StreamLink(self._service, connection, nursery, self._links, (ip, port), secure, subject)
        self._links.add(link)
        nursery.start_soon(self._read, link, gate)

    async def _read(self, link: _StreamLink, gate: Callable[[], trio.Event | None]) -> None:
        try:
            with link.scope:
                while link.is_open:
                    data = await link.transported.receive()
                    while (closed := gate()) is not None:
                        await closed.wait()
                    if not data:
                        await link.sent()
                        break
                    link.take_input(data)
                    self._turn()
                    await link.readable()
        except _BROKEN:
            pass
        finally:
            link.drop()
            with trio.CancelScope(shield=True):
                await link.transported.aclose()


def _split_peer(peer: str) -> tuple[str, int]:
    host, _, port = peer.rpartition(":")
    return (host.strip("[]").removeprefix("::ffff:") or peer), int(port) if port.isdecimal() else 0


class _StreamLink(Link):
    __slots__ = ("__weakref__", "_changed", "_links", "_nursery", "_sending", "_unsent", "scope", "transported")

    def __init__(
        self,
        service: Service,
        transported: Transported,
        nursery: trio.Nursery,
        links: set[_StreamLink],
        address: tuple[str, int],
        secure: bool,
        subject: str | None,
    ) -> None:
        super().__init__(service, *address, secure=secure, subject=subject)
        self.transported = transported
        self._nursery = nursery
        self._links = links
        self._unsent = bytearray()
        self._sending = False
        self._changed = trio.Event()
        self.scope = trio.CancelScope()

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    @property
    def interest(self) -> int:
        return (0 if self._is_stopped() else 1) + (4 if self._unsent else 0)

    def _is_stopped(self) -> bool:
        return not self.is_closing and (self.is_paused or len(self._unsent) > UNSENT_PAUSE)

    async def readable(self) -> None:
        """Waits until the server wants to read from this client."""
        while self.is_open and self._is_stopped():
            await self._changed.wait()

    async def sent(self) -> None:
        """Waits until nothing is unsent."""
        while self.is_open and self._sending:
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def set_paused(self, paused: bool) -> None:
        self.is_paused = paused
        self._tell()

    def send(self, data: bytes) -> None:
        if not self._sending and self.transported.sends_at_once:
            try:
                # Told 0, the same bytes are sent next: a WebSocket's may be on their way.
                data = data[self.transported.send_nowait(data) :]
            except _BROKEN:
                self.drop()
                return
            if not data:
                return
        self._unsent += data
        if not self._sending:
            self._sending = True
            self._nursery.start_soon(self._send_unsent)
        if len(self._unsent) > UNSENT_MAX:
            self.drop()

    async def _send_unsent(self) -> None:
        try:
            while self._unsent and self.is_open:
                # What is on its way counts as unsent.
                piece = bytes(memoryview(self._unsent)[:PIECE])
                await self.transported.send(piece)
                del self._unsent[: len(piece)]
                self._tell()
        except _BROKEN:
            self.drop()
        finally:
            self._sending = False
            self._tell()
        if self.is_closing:
            self._end_output()
        elif self.connection.stalled:
            self._service.go_on(self)

    def _end_output(self) -> None:
        if self._sending or not self.is_open:
            return
        # The seam has no half-close, so the connection ends here; its kind sends what it was given before its end.
        self.drop()

    def _close(self) -> None:
        self._links.discard(self)
        self.scope.cancel()
        self._tell()
