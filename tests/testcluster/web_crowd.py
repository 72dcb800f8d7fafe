"""The same crowd of idle clients (`crowd.py`), by WebSocket: through a gateway or at a server's own door.

Decides how a client that only connects and pings speaks WebSocket, with as little of its own cost as can be: what is
measured is the other side. Refuses to know who that is.
"""

from __future__ import annotations

import struct

from .crowd import PING, Crowd, Idler
from .port import connect_frame

_ASK = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_ACCEPTED = b"HTTP/1.1 101 "
_HEAD_END = b"\r\n\r\n"
_BINARY = 0x82


def message(payload: bytes) -> bytes:
    """A binary message of a client, shorter than 126 bytes. Masked with zeros, which leaves the bytes as they are."""
    assert len(payload) < 126
    return struct.pack(">BBI", _BINARY, 0x80 | len(payload), 0) + payload


_PING = message(PING)


class WebIdler(Idler):
    """One client with a session, behind a door."""

    def __init__(self, port: int, timeout_ms: int) -> None:
        self._head: bytes | None = b""
        self._packed = b""
        super().__init__(port, timeout_ms)

    def greet(self, timeout_ms: int) -> None:
        # The first frame may follow the handshake at once.
        self.socket.sendall(_ASK + message(connect_frame(timeout_ms=timeout_ms)))

    def ping(self) -> None:
        self.socket.send(_PING)

    def take(self, data: bytes) -> int:
        if self._head is not None:
            self._head += data
            if _HEAD_END not in self._head:
                return 0
            head, _, data = self._head.partition(_HEAD_END)
            assert head.startswith(_ACCEPTED), head
            self._head = None
        return super().take(self._unpacked(data))

    def _unpacked(self, data: bytes) -> bytes:
        data = self._packed + data
        found: list[bytes] = []
        position = 0
        while len(data) - position >= 2:
            first, length = data[position], data[position + 1]
            start = position + 2
            assert first == _BINARY, f"an idle client was told {data[position:]!r}"
            assert length < 126, "more than an idle client has asked for"
            if start + length > len(data):
                break
            found.append(data[start : start + length])
            position = start + length
        self._packed = data[position:]
        return b"".join(found)


class WebCrowd(Crowd):
    """All of them.

    Args:
        port: the door's.
        count: how many clients.
        timeout: of their sessions, in seconds.
    """

    client = WebIdler
