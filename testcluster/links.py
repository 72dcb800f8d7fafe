"""A client's connection between its transport and the request processor.

Decides what is read before the processor sees a byte (four letter words), when a client is not read from, how much
output may wait for a slow reader and how a connection ends without losing its last reply. Refuses to know what a
request means, and what carries the bytes: `epoll_port.py` and `stream_port.py` do.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .connection import Connection

UNSENT_PAUSE = 1024 * 1024
"""Bytes a client may leave unread before the server reads no more of its requests."""

UNSENT_MAX = 64 * 1024 * 1024
"""Bytes a client may leave unread before it is dropped: watch events pile up whether it asks for more or not."""

LINGER_MS = 2000
"""How long the server waits for the client's end of file after its own, so that no reset overtakes the last reply."""

WORD_SIZE = 4


class Service(Protocol):
    """What a link needs of its server."""

    bytes_sent: int

    def now_ms(self) -> int:
        """The monotonic clock."""
        ...

    def open_connection(self, link: Link) -> Connection:
        """Registers a new link; gives the processor's side of it."""
        ...

    def receive(self, link: Link, data: bytes) -> None:
        """Takes bytes that are the protocol's."""
        ...

    def is_word(self, head: bytes) -> bool:
        """Whether a connection's first four bytes are a four letter word."""
        ...

    def answer_word(self, link: Link, word: bytes, argument: bytes) -> bytes:
        """The answer to a four letter word."""
        ...

    def go_on(self, link: Link) -> None:
        """Everything that was unsent has left, and the processor may have input that waits for that."""
        ...

    def close_connection(self, link: Link) -> None:
        """Forgets a link whose transport is gone."""
        ...


class Link(abc.ABC):
    """One accepted connection.

    Attributes:
        ip: the client's address.
        address: the client's address and port, as ZooKeeper prints them.
        is_secure: it came through the TLS port.
        connection: the processor's side.
        deadline_ms: when it must have a session, or, once it is closing, must be gone.
        is_closing: nothing more is read; it ends when its output has left.
        is_open: the transport exists.
        is_paused: the server does not read from it now.
    """

    __slots__ = (
        "_head",
        "_service",
        "address",
        "connection",
        "deadline_ms",
        "ip",
        "is_closing",
        "is_open",
        "is_paused",
        "is_secure",
        "subject",
    )

    def __init__(
        self, service: Service, ip: str, port: int, *, secure: bool = False, subject: str | None = None
    ) -> None:
        self._service = service
        self._head: bytes | None = b""
        self.ip = ip
        self.address = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
        self.is_secure = secure
        self.subject = subject
        self.is_closing = False
        self.is_open = True
        self.is_paused = False
        self.deadline_ms = 0
        self.connection = service.open_connection(self)

    def take_input(self, data: bytes) -> None:
        """Takes a received chunk."""
        if self.is_closing:
            return
        if self._head is not None:
            data = self._first_bytes(self._head + data)
            if not data:
                return
        self._service.receive(self, data)

    def _first_bytes(self, head: bytes) -> bytes:
        """Keeps a four letter word from the processor; gives the bytes that are for it."""
        if len(head) < WORD_SIZE:
            self._head = head
            return b""
        self._head = None
        if not self._service.is_word(head[:WORD_SIZE]):
            return head
        answer = self._service.answer_word(self, head[:WORD_SIZE], head[WORD_SIZE:])
        if answer:
            self.send(answer)
        self.finish()
        return b""

    def flush(self) -> None:
        """Sends what the processor has for the client, in one piece."""
        connection = self.connection
        if self.is_open:
            data = connection.take_output()
            if data:
                self._service.bytes_sent += len(data)
                self.send(data)
            if connection.closing and not self.is_closing:
                self.finish()

    def finish(self) -> None:
        """Reads nothing more, and ends the connection when the output has left."""
        if self.is_open and not self.is_closing:
            self.is_closing = True
            self.deadline_ms = self._service.now_ms() + LINGER_MS
            self._end_output()

    def drop(self) -> None:
        """Ends the connection at once; what was not sent is lost. May be called twice."""
        if self.is_open:
            self.is_open = False
            self.is_closing = True
            self._close()
            self._service.close_connection(self)

    @property
    @abc.abstractmethod
    def unsent(self) -> int:
        """Bytes of output that wait for the client to read."""

    @property
    @abc.abstractmethod
    def interest(self) -> int:
        """What the transport waits for, as Java's selection keys number it: 1 to read, 4 to write, 5 both."""

    @abc.abstractmethod
    def send(self, data: bytes) -> None:
        """Sends at once what the transport takes and keeps the rest for later."""

    @abc.abstractmethod
    def set_paused(self, paused: bool) -> None:
        """Reads no more, or again."""

    @abc.abstractmethod
    def _end_output(self) -> None:
        """Sends the end of file behind what is still unsent."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Closes the transport without waiting."""
