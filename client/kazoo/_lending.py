"""Connections that may be lent to a calling thread, which then reads its own reply: no other thread is woken for it.

Decides who reads what arrives: the loop, or for as long as it is lent the thread that has borrowed it. Knows no bytes.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket

import trio

from .._hosts import Endpoint
from .._transport import RECEIVE_SIZE, Connection, SocketConnection, TcpTransport

CAN_LEND = hasattr(select, "epoll") and hasattr(os, "eventfd")
"""Only on Linux. Elsewhere the loop reads everything."""


class LendingConnection(SocketConnection):
    """A connection whose arrivals the loop awaits through an epoll object of its own, from which a thread takes them.

    `lend`, `take` and `take_back` belong to whoever keeps the loop out.
    """

    __slots__ = ("_bell", "_epoll", "_given_back", "_poll")

    def __init__(self, sock: socket.socket, peer: str) -> None:
        super().__init__(sock, peer)
        self._given_back = b""
        # Rung when something was given back, which no epoll object knows of.
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(sock, select.EPOLLIN)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    async def receive(self) -> bytes:
        """See `Connection`."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            if self._given_back:
                os.eventfd_read(self._bell)
                data, self._given_back = self._given_back, b""
                return data
            try:
                return self._recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue

    def lend(self) -> bool:
        """From here on the loop hears nothing of what arrives. False: a program has closed the socket."""
        return self._listen_for(0)

    def _listen_for(self, events: int) -> bool:
        if self._epoll.closed or self.socket.fileno() == -1:
            return False
        self._epoll.modify(self.socket, events)
        return True

    def await_arrival(self, timeout: float) -> None:
        """Blocks the borrower until something has arrived, the connection is closed, or the time is over."""
        self._poll.poll(timeout * 1000)

    def take(self) -> bytes:
        """What has arrived, for the borrower. Nothing where it is an end or an error: those are the loop's."""
        if self._given_back:
            return b""
        try:
            return self._recv(RECEIVE_SIZE)
        except OSError:
            return b""

    def give_back(self, data: bytes) -> None:
        """The borrower cannot use what it took. The loop gets it before everything that is behind it."""
        self._given_back = data
        os.eventfd_write(self._bell, 1)

    def take_back(self) -> None:
        """The loop hears again. May be called when nothing is lent, and behind the end."""
        self._listen_for(select.EPOLLIN)

    async def aclose(self) -> None:
        """See `Connection`."""
        if not self._epoll.closed:
            # Wakes a borrower.
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
            os.close(self._bell)
        await super().aclose()


class LendingTransport(TcpTransport):
    """TCP with connections that can be lent."""

    async def dial(self, endpoint: Endpoint) -> Connection:
        """See `Transport`."""
        connection = await super().dial(endpoint)
        if CAN_LEND and isinstance(connection, SocketConnection):
            return LendingConnection(connection.socket, connection.peer)
        return connection
