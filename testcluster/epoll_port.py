"""All plain TCP clients of one server on one private epoll object, served inline by one task (Linux).

A task a connection costs a task switch and an epoll_ctl for every message; here trio waits for the epoll object
alone, which is level-triggered, so that a pass may stop anywhere and the next one goes on. A pass reads at most one
chunk of each ready connection, lets the server take its turn once for all, and so answers each chunk by one write.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from .links import UNSENT_MAX, UNSENT_PAUSE, Link, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 64 * 1024
"""Bytes read from a connection in one pass."""

EVENTS_PER_PASS = 64
"""Connections served in one pass, so that the first of them does not wait for thousands behind it."""

ACCEPTS_PER_PASS = 64

# A peer that goes away between its arrival and our accept, or a shortage that passes, is no reason to stop listening.
_ACCEPT_AGAIN = {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR}
ACCEPT_LATER = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept fails with for want of resources."""

ACCEPT_PAUSE = 0.1
"""Seconds until it is tried again."""


class EpollPort:
    """The plain client port of one server.

    Args:
        service: the server.
        admit: whether a connection from this IP address may stay.
        turn: called once a pass, after the input was taken.
    """

    def __init__(self, service: Service, admit: Callable[[str], bool], turn: Callable[[], None]) -> None:
        self._service = service
        self._admit = admit
        self._turn = turn
        self._epoll = select.epoll()
        self._listeners: dict[int, socket.socket] = {}
        self._links: dict[int, _EpollLink] = {}

    def adopt(self, listener: socket.socket) -> None:
        """Accepts clients from a listening socket from now on; the port owns it."""
        listener.setblocking(False)
        self._listeners[listener.fileno()] = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def stop_listening(self) -> None:
        """Closes the listening sockets; the clients stay."""
        for fd, listener in self._listeners.items():
            self._epoll.unregister(fd)
            listener.close()
        self._listeners.clear()

    def close(self) -> None:
        """Drops every client and closes the epoll object."""
        self.stop_listening()
        for link in list(self._links.values()):
            link.drop()
        if not self._epoll.closed:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()

    async def serve(self, gate: Callable[[], trio.Event | None]) -> None:
        """Serves until cancelled. While `gate` gives an event, nothing is served before that is set."""
        fd = self._epoll.fileno()
        async with trio.open_nursery() as nursery:
            while True:
                # Always a checkpoint, also while more is ready than one pass may serve.
                await trio.lowlevel.wait_readable(fd)
                while (closed := gate()) is not None:
                    await closed.wait()
                for listener in self.serve_pass():
                    nursery.start_soon(self._accept_later, listener)

    def serve_pass(self) -> list[socket.socket]:
        """Serves what is ready now, without waiting; returns listeners that had to stop for want of resources."""
        exhausted: list[socket.socket] = []
        for fd, mask in self._epoll.poll(0, EVENTS_PER_PASS):
            link = self._links.get(fd)
            if link is not None:
                link.ready(mask)
                continue
            listener = self._listeners.get(fd)
            if listener is not None and not self._accept(listener):
                exhausted.append(listener)
        self._turn()
        return exhausted

    def drain(self) -> None:
        """Reads everything that clients have sent so far, a chunk of each."""
        seen: set[int] = set()
        while True:
            events = [(fd, mask) for fd, mask in self._epoll.poll(0, len(self._links) + 16) if fd not in seen]
            if not events:
                return
            for fd, mask in events:
                seen.add(fd)
                link = self._links.get(fd)
                if link is not None:
                    link.ready(mask)
            self._turn()

    def _accept(self, listener: socket.socket) -> bool:
        for sock, address in _arrivals(listener):
            if sock is None:
                self._epoll.modify(listener.fileno(), 0)
                return False
            ip = address[0].removeprefix("::ffff:")
            if not self._admit(ip):
                sock.close()
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _EpollLink(self._service, self._epoll, self._links, sock, ip, address[1])
            self._links[sock.fileno()] = link
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        return True

    async def _accept_later(self, listener: socket.socket) -> None:
        await trio.sleep(ACCEPT_PAUSE)
        if listener.fileno() != -1:
            self._epoll.modify(listener.fileno(), select.EPOLLIN)


def _arrivals(listener: socket.socket) -> Iterator[tuple[socket.socket | None, tuple[str, int]]]:
    """New connections, at most a pass's worth; a None at the end says that there are no resources for more."""
    for _ in range(ACCEPTS_PER_PASS):
        try:
            sock, address = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in ACCEPT_LATER:
                yield None, ("", 0)
                return
            if error.errno not in _ACCEPT_AGAIN:
                raise
        else:
            yield sock, (address[0], address[1])


class _EpollLink(Link):
    __slots__ = ("_deaf", "_ended", "_epoll", "_fd", "_links", "_mask", "_recv", "_socket", "_unsent")

    def __init__(
        self,
        service: Service,
        epoll: select.epoll,
        links: dict[int, _EpollLink],
        sock: socket.socket,
        ip: str,
        port: int,
    ) -> None:
        super().__init__(service, ip, port)
        self._epoll = epoll
        self._links = links
        self._socket = sock
        self._recv = sock.recv
        self._fd = sock.fileno()
        self._mask = select.EPOLLIN
        self._unsent = bytearray()
        self._ended = False
        self._deaf = False

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    @property
    def interest(self) -> int:
        return (1 if self._mask & select.EPOLLIN else 0) + (4 if self._mask & select.EPOLLOUT else 0)

    def ready(self, mask: int) -> None:
        """Does what the epoll object says can be done without waiting."""
        if mask & select.EPOLLOUT:
            self._send_unsent()
        if mask & select.EPOLLIN and self.is_open:
            try:
                data = self._recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self.drop()
                return
            if data:
                self.take_input(data)
            elif self.is_closing and self._unsent:
                # The client has said all it wanted and still reads (`echo mntr | nc`).
                self._deaf = True
                self._wait_for()
            else:
                self.drop()
        elif mask & (select.EPOLLHUP | select.EPOLLERR):
            self.drop()

    def send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            if len(self._unsent) > UNSENT_MAX:
                self.drop()
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.drop()
            return
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            self._wait_for()

    def _send_unsent(self) -> None:
        try:
            # A copy of a bounded piece: slicing the whole rest again and again would cost quadratic time.
            sent = self._socket.send(bytes(memoryview(self._unsent)[: 16 * CHUNK]))
        except BlockingIOError:
            return
        except OSError:
            self.drop()
            return
        del self._unsent[:sent]
        if not self._unsent and self.is_closing:
            self._shut_output()
            if self._deaf:
                self.drop()
        elif not self._unsent and self.connection.stalled:
            self._service.go_on(self)
        self._wait_for()

    def set_paused(self, paused: bool) -> None:
        self.is_paused = paused
        self._wait_for()

    def _end_output(self) -> None:
        if not self._unsent:
            self._shut_output()
        self._wait_for()

    def _shut_output(self) -> None:
        if not self._ended and self.is_open:
            self._ended = True
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError:
                self.drop()

    def _wait_for(self) -> None:
        if not self.is_open:
            return
        mask = select.EPOLLOUT if self._unsent else 0
        # A closing connection is read to its end of file; what comes before that is thrown away.
        if not self._deaf and (self.is_closing or not (self.is_paused or len(self._unsent) > UNSENT_PAUSE)):
            mask |= select.EPOLLIN
        if mask != self._mask:
            self._mask = mask
            self._epoll.modify(self._fd, mask)

    def _close(self) -> None:
        self._links.pop(self._fd, None)
        if not self._epoll.closed:
            self._epoll.unregister(self._fd)
        self._socket.close()
