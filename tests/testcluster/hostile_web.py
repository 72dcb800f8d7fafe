"""Hostile visitors of a WebSocket door: any HTTP, any WebSocket frames, any ZooKeeper frames in them, at any pace.

Decides what a visitor says, by its own number and the run's seed, and judges what it hears: whatever a door answers
must be right HTTP, or right WebSocket with whole ZooKeeper frames in it. Refuses to know how the door is reached.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from terzetto.client import Connection
from terzetto.client.wire import operations as o

from .hostile import TLS_HELLO, WORDS, chunks
from .port import connect_frame

KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
_HEAD_END = b"\r\n\r\n"
_PAUSE = 0.01
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_OPCODES = (_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG)
_CODES = (0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1009, 1011, 1013, 1015, 1016, 2999, 3000, 4999, 5000)
_LENGTHS = (0, 1, 125, 126, 127, 0xFFFF, 0x10000, 0x100000, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_FRAME_LENGTHS = (-1, -(2**31), 2**31 - 1, 0x100000, 0x7FFFFF, 1025, 0)
_READS = (
    o.EXISTS.frame(1, "/", False),
    o.GET_DATA.frame(2, "/zookeeper/config", False),
    o.GET_CHILDREN.frame(3, "/", True),
    o.PING.frame(-2),
)
_CLOSE_SESSION = o.CLOSE_SESSION.frame(9)
_TOKENS = (
    b"GET",
    b"POST",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/9",
    b"/",
    b"/health",
    b"/zk",
    b"\0",
    b"\r\n",
    b"\n",
    b" ",
    b":",
)


class Answer(NamedTuple):
    """What a visitor has heard.

    Attributes:
        status: of HTTP, 0 for nothing.
        closed: WebSocket's close code, `None` where there was none.
        replies: ZooKeeper frames.
        pongs: of WebSocket's.
    """

    status: int
    closed: int | None
    replies: int
    pongs: int


def websocket_frame(opcode: int, payload: bytes, *, finished: bool = True, mask: bytes = bytes(4)) -> bytes:
    """One frame of a client as it should be."""
    head = bytes([opcode | 0x80 * finished])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += struct.pack(">BH", 0x80 | 126, size)
    else:
        head += struct.pack(">BQ", 0x80 | 127, size)
    if mask == bytes(4):
        return head + mask + payload
    repeated = mask * (size // 4 + 1)
    return head + mask + bytes(a ^ b for a, b in zip(payload, repeated, strict=False))


def judge(data: bytes) -> Answer:
    """Reads all that a door has said on one connection.

    Raises:
        AssertionError: it is neither right HTTP nor right WebSocket.
    """
    if not data:
        return Answer(0, None, 0, 0)
    head, _, rest = data.partition(_HEAD_END)
    line = head.split(b"\r\n")[0]
    assert line.startswith(b"HTTP/1.1 "), data[:200]
    status = int(line[9:12])
    if status != 101:
        assert status in (200, 400, 404, 405, 426, 431, 503), line
        return Answer(status, None, 0, 0)
    closed: int | None = None
    pongs, stream, whole, position = 0, b"", True, 0
    while len(rest) - position >= 2:
        first, size = rest[position], rest[position + 1]
        start = position + 2
        if size == 126:
            start, size = start + 2, int.from_bytes(rest[start : start + 2], "big")
        elif size == 127:
            start, size = start + 8, int.from_bytes(rest[start : start + 8], "big")
        if start + size > len(rest):
            break
        payload = rest[start : start + size]
        opcode = first & 0x0F
        assert closed is None, "the door went on behind its closing frame"
        assert not first & 0x70, "the door has set a reserved bit"
        assert opcode in (_CONTINUATION, _BINARY, _CLOSE, _PONG), f"the door sent opcode {opcode}"
        if opcode == _CLOSE:
            closed = int.from_bytes(payload[:2], "big") if payload else 1005
        elif opcode == _PONG:
            pongs += 1
        else:
            assert (opcode == _CONTINUATION) is not whole
            whole = bool(first & 0x80)
            stream += payload
        position = start + size
    return Answer(101, closed, _count(stream, whole), pongs)


def _count(stream: bytes, whole: bool) -> int:
    """ZooKeeper frames in what came in messages; 0 for a four-letter word's answer."""
    found = position = 0
    while position < len(stream):
        length = int.from_bytes(stream[position : position + 4], "big", signed=True)
        if not 0 <= length < 1 << 24:
            assert found == 0, "bytes that are no frame came behind frames"
            return 0
        position += 4 + length
        found += 1
    assert position == len(stream) or not whole or found == 1, "a message has ended within a frame"
    return found


class HostileVisitor:
    """One visitor.

    Args:
        dial: gives a connection to the door.
        chance: everything is drawn from it.
        patience: seconds after which the visitor goes where nobody closes.

    Attributes:
        kind: what it does.
        inputs: HTTP requests, WebSocket frames and other pieces that it has sent.
        answer: what it heard.
    """

    def __init__(self, dial: Callable[[], Awaitable[Connection]], chance: random.Random, patience: float) -> None:
        self._dial = dial
        self._chance = chance
        self._patience = patience
        self._heard = bytearray()
        self.inputs = 0
        self.answer = Answer(0, None, 0, 0)
        shapes: dict[str, tuple[float, Callable[[], list[bytes]]]] = {
            "frames": (0.72, self._frames),
            "tiny": (0.04, self._tiny),
            "pings": (0.02, self._pings),
            "http": (0.14, self._http),
            "raw": (0.03, self._raw),
            "half": (0.02, self._half),
            "slow": (0.01, self._slow),
            "deaf": (0.02, self._frames),
        }
        (self.kind,) = chance.choices(list(shapes), [share for share, _ in shapes.values()])
        self._shape = shapes[self.kind][1]

    async def run(self) -> None:
        """Comes, says everything, hears what there is to be heard, and goes."""
        connection = await self._dial()
        try:
            with trio.move_on_after(self._patience):
                async with trio.open_nursery() as nursery:
                    if self.kind != "deaf":
                        nursery.start_soon(self._hear, connection, nursery.cancel_scope)
                    await self._say(connection)
                    if self.kind == "deaf" or self._chance.random() < 0.1:
                        nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()
        self.answer = judge(bytes(self._heard))

    async def _say(self, connection: Connection) -> None:
        pieces = self._shape()
        self.inputs = len(pieces)
        try:
            if self.kind in ("tiny", "slow"):
                for piece in pieces:
                    await connection.send(piece)
                    await trio.sleep(self._patience / 20 if self.kind == "slow" else 0)
                return
            while pieces:
                # What breaks the rules takes with it what came just before; the rest is to get through to a server.
                count = self._chance.choice((1, 2, 5, 100))
                for portion in chunks(b"".join(pieces[:count]), self._chance):
                    await connection.send(portion)
                del pieces[:count]
                await trio.sleep(_PAUSE)
        except _BROKEN:
            pass

    async def _hear(self, connection: Connection, scope: trio.CancelScope) -> None:
        try:
            while data := await connection.receive():
                self._heard += data
        except _BROKEN:
            pass
        scope.cancel()

    # -- HTTP

    def _head(self) -> bytes:
        chance = self._chance
        lines = {
            b"Host": b"door",
            b"Upgrade": b"websocket",
            b"Connection": b"Upgrade",
            b"Sec-WebSocket-Key": KEY,
            b"Sec-WebSocket-Version": b"13",
        }
        if chance.random() < 0.1:
            lines[b"Sec-WebSocket-Extensions"] = b"permessage-deflate; client_max_window_bits"
        if chance.random() < 0.05:
            lines[b"Sec-WebSocket-Protocol"] = b"zookeeper, chat"
        return self._request(b"GET / HTTP/1.1", lines)

    @staticmethod
    def _request(line: bytes, headers: dict[bytes, bytes]) -> bytes:
        return b"\r\n".join([line, *(name + b": " + value for name, value in headers.items())]) + _HEAD_END

    def _http(self) -> list[bytes]:
        chance = self._chance
        kind = chance.random()
        if kind < 0.15:
            method = chance.choice([b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"CONNECT", b"get"])
            path = chance.choice([b"/health", b"/", b"/zk", b"/health?x=1", b"*", b"http://door/health", b"/\xff"])
            return [self._request(method + b" " + path + b" HTTP/1.1", {b"Host": b"door"})]
        if kind < 0.2:
            return [self._head()[:-4] + b"\r\nX: " + b"x" * chance.randrange(30_000) + _HEAD_END]
        if kind < 0.25:
            body = {b"Host": b"door", b"Transfer-Encoding": b"chunked"}
            return [self._request(b"POST / HTTP/1.1", body) + b"ffffffffff\r\n" + chance.randbytes(50)]
        if kind < 0.3:
            # Requests behind a request.
            return [self._request(b"GET /health HTTP/1.1", {b"Host": b"door"})] * chance.randrange(2, 6)
        head = bytearray(self._head())
        for _ in range(chance.randrange(1, 5)):
            where = chance.randrange(len(head))
            how = chance.randrange(4)
            if how == 0:
                head[where] = chance.randrange(256)
            elif how == 1:
                del head[where : where + chance.randrange(1, 20)]
            elif how == 2:
                head[where:where] = chance.choice(_TOKENS)
            else:
                other = chance.randrange(len(head))
                head[where:where] = head[other : other + chance.randrange(60)]
            if not head:
                break
        return [bytes(head)]

    def _raw(self) -> list[bytes]:
        chance = self._chance
        return [
            chance.choice(
                [TLS_HELLO, chance.choice(WORDS), connect_frame(), chance.randbytes(chance.randrange(1, 400))]
            )
            for _ in range(chance.randrange(1, 4))
        ]

    def _half(self) -> list[bytes]:
        head = self._head()
        return [head[: self._chance.randrange(1, len(head))]]

    def _slow(self) -> list[bytes]:
        """A piece now and then; it never comes to an end."""
        data = self._head()[:-2] if self._chance.random() < 0.5 else self._head() + self._good(connect_frame())[:-3]
        step = max(1, len(data) // 15)
        return [data[at : at + step] for at in range(0, len(data), step)]

    # -- WebSocket

    def _good(self, payload: bytes, opcode: int = _BINARY, *, finished: bool = True) -> bytes:
        mask = self._chance.randbytes(4) if len(payload) < 200 else bytes(4)
        return websocket_frame(opcode, payload, finished=finished, mask=mask)

    def _pings(self) -> list[bytes]:
        """More than a door keeps answers to, where nobody reads them."""
        count = self._chance.randrange(1, 300)
        return [self._head(), *(self._good(bytes(self._chance.randrange(126)), _PING) for _ in range(count))]

    def _tiny(self) -> list[bytes]:
        """One message of ZooKeeper's in fragments of a byte."""
        data = connect_frame(timeout_ms=4000) + b"".join(self._chance.choices(_READS, k=2))
        last = len(data) - 1
        fragments = [
            self._good(data[at : at + 1], _BINARY if at == 0 else _CONTINUATION, finished=at == last)
            for at in range(len(data))
        ]
        return [self._head(), *fragments]

    def _frames(self) -> list[bytes]:
        """A session, or what might become one, and frames until one of them must break it, or until it is closed."""
        chance = self._chance
        pieces = [self._head()]
        if chance.random() < 0.95:
            pieces.append(self._good(connect_frame(timeout_ms=4000)))
        elif chance.random() < 0.5:
            pieces.append(self._good(chance.choice(WORDS)))
        for _ in range(chance.randrange(1, 60)):
            kind = chance.random()
            if kind < 0.80:
                pieces += self._allowed()
            elif kind < 0.97:
                pieces.append(self._good(chance.randbytes(chance.randrange(20)), chance.choice((_PING, _PONG))))
            else:
                pieces.append(self._forbidden())
        pieces.append(self._good(_CLOSE_SESSION))
        pieces.append(self._closing(1000))
        return pieces

    def _allowed(self) -> list[bytes]:
        """Whole frames in a message, perhaps in fragments, with control frames in between."""
        chance = self._chance
        data = b"".join(chance.choices(_READS, k=chance.choice((1, 1, 1, 2, 9))))
        if chance.random() < 0.3:
            # Bits within a frame are the server's business.
            damaged = bytearray(data)
            damaged[chance.randrange(4, 12)] ^= 1 << chance.randrange(8)
            data = bytes(damaged)
        if chance.random() < 0.7:
            return [self._good(data)]
        cut = chance.randrange(len(data) + 1)
        pieces = [self._good(data[:cut], finished=False)]
        if chance.random() < 0.5:
            pieces.append(self._good(b"between", _PING))
        return [*pieces, self._good(data[cut:], _CONTINUATION)]

    def _closing(self, code: int) -> bytes:
        return self._good(struct.pack(">H", code), _CLOSE)

    def _forbidden(self) -> bytes:
        chance = self._chance
        read = chance.choice(_READS)
        kind = chance.randrange(16)
        if kind == 0:
            return bytes([0x80 | _BINARY, len(read)]) + read  # without a mask
        if kind == 1:
            return bytes([0x80 | _BINARY | chance.choice((0x10, 0x20, 0x40, 0x70)), 0x80]) + bytes(4)
        if kind == 2:
            return bytes([0x80 | chance.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), 0x80]) + bytes(4)
        if kind == 3:
            return struct.pack(">BBH", 0x80 | chance.choice((_PING, _PONG, _CLOSE)), 0xFE, 126) + bytes(130)
        if kind == 4:
            return self._good(b"x", chance.choice((_PING, _PONG, _CLOSE)), finished=False)
        if kind == 5:
            return self._good(read, _CONTINUATION)
        if kind == 6:
            return self._good(read, finished=False) + self._good(read)
        if kind == 7:
            code = chance.choice(_CODES)
            return self._good(struct.pack(">H", code) + chance.choice((b"", b"bye", b"\xff\xfe")), _CLOSE)
        if kind == 8:
            return self._good(b"\x03", _CLOSE)
        if kind == 9:
            return self._good(chance.choice((b"text", "é".encode()[:1], b"\xff", b"")), _TEXT)
        if kind == 10:
            head = struct.pack(">BBQ", 0x80 | _BINARY, 0xFF, chance.choice(_LENGTHS))
            return head + bytes(4) + read
        if kind == 11:
            return self._good(struct.pack(">i", chance.choice(_FRAME_LENGTHS)) + read)
        if kind == 12:
            return self._good(read[: chance.randrange(len(read))])
        if kind == 13:
            return self._good(read + chance.randbytes(chance.randrange(1, 4)))
        if kind == 14:
            return self._good(chance.choice((b"", *WORDS)))
        return chance.randbytes(chance.randrange(1, 60))


class Tally:
    """What became of the visitors.

    Attributes:
        inputs: that were sent.
        kinds: of visitors.
        statuses: of HTTP, 0 for none.
        closed: close codes; `None` where the connection ended without one.
        replies: ZooKeeper frames that came back.
    """

    def __init__(self) -> None:
        self.inputs = 0
        self.kinds: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.closed: Counter[int | None] = Counter()
        self.replies = 0

    def add(self, visitor: HostileVisitor) -> None:
        """One more has left."""
        answer = visitor.answer
        self.inputs += visitor.inputs
        self.kinds[visitor.kind] += 1
        self.statuses[answer.status] += 1
        if answer.status == 101:
            self.closed[answer.closed] += 1
        self.replies += answer.replies

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.inputs:,} inputs of {self.kinds.total():,} visitors: {dict(self.kinds.most_common())}",
            f"HTTP: {dict(self.statuses.most_common())}; WebSocket: {dict(self.closed.most_common())}",
            f"{self.replies:,} answers of servers",
        ]


async def visit(
    dial: Callable[[], Awaitable[Connection]], seed: int, numbers: range, patience: float, tally: Tally
) -> None:
    """Visitors of these numbers, all at once."""
    visitors = [HostileVisitor(dial, random.Random(f"{seed}/{number}"), patience) for number in numbers]
    async with trio.open_nursery() as nursery:
        for visitor in visitors:
            nursery.start_soon(visitor.run)
    for visitor in visitors:
        tally.add(visitor)
