"""A client of raw frames: sends exactly the bytes it is told to, valid or not, and reports exactly what comes back.

Decides nothing about requests. Knows framing, the handshake and the header, so that a test can tell replies from
events.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from types import TracebackType

_HEADER = struct.Struct(">iqi")
_CONNECT = struct.Struct(">iqiqi")
PING = struct.pack(">iii", 8, -2, 11)
TIMEOUT = 30.0


class Closed(Exception):
    """The server ended the connection. `frames` holds what came before that."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__(f"the server closed the connection after {len(frames)} frames")
        self.frames = frames


@dataclass(frozen=True)
class Frame:
    """One frame from the server behind the handshake."""

    xid: int
    zxid: int
    err: int
    body: bytes


@dataclass(frozen=True)
class Greeting:
    """A ConnectResponse."""

    timeout_ms: int
    session_id: int
    password: bytes
    tail: bytes


class RawClient:
    """One connection.

    Args:
        port: the server's, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def four_letter(self, word: bytes) -> str:
        """Everything that the server prints on a four letter word, on a connection that has sent nothing yet."""
        self.send(word)
        answer = b""
        while piece := self._socket.recv(65536):
            answer += piece
        return answer.decode()

    def close(self) -> None:
        """Ends the connection without a word."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes as they are; a server that has gone already is noticed at the next read."""
        try:
            self._socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            pass

    def read_frame(self) -> bytes:
        """The next frame without its length. Raises `Closed` at the end of the stream."""
        while True:
            if len(self._buffer) >= 4:
                (length,) = struct.unpack_from(">i", self._buffer)
                if len(self._buffer) >= 4 + length:
                    frame, self._buffer = self._buffer[4 : 4 + length], self._buffer[4 + length :]
                    return frame
            try:
                data = self._socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed([])
            self._buffer += data

    def connect(
        self,
        timeout_ms: int = 30_000,
        *,
        session_id: int = 0,
        password: bytes = bytes(16),
        last_zxid: int = 0,
        tail: bytes = b"\0",
        then: bytes = b"",
    ) -> Greeting:
        """Shakes hands, and sends more with it. Raises `Closed` when the server refuses without a word."""
        body = _CONNECT.pack(0, last_zxid, timeout_ms, session_id, len(password)) + password + tail
        self.send(struct.pack(">i", len(body)) + body + then)
        answer = self.read_frame()
        _, granted, given, size = struct.unpack_from(">iiqi", answer)
        return Greeting(granted, given, answer[20 : 20 + size], answer[20 + size :])

    def next_reply(self) -> Frame:
        """The next frame behind the handshake. Raises `Closed`."""
        frame = self.read_frame()
        xid, zxid, err = _HEADER.unpack_from(frame)
        return Frame(xid, zxid, err, frame[_HEADER.size :])

    def read_until(self, xid: int, replies: int = 1) -> list[Frame]:
        """Frames up to the given number of replies with this xid. Raises `Closed` with the frames until then."""
        frames: list[Frame] = []
        while True:
            try:
                frame = self.next_reply()
            except Closed:
                raise Closed(frames) from None
            frames.append(frame)
            replies -= frame.xid == xid
            if not replies:
                return frames

    def barrier(self) -> list[Frame]:
        """What the server had to say before it answered a ping. Raises `Closed` with that."""
        self.send(PING)
        return self.read_until(-2)[:-1]


def request(xid: int, opcode: int, body: bytes = b"") -> bytes:
    """A request's frame."""
    return struct.pack(">iii", 8 + len(body), xid, opcode) + body
