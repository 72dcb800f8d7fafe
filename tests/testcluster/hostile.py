"""Hostile bytes, made from good ones: frames of real clients and of the codec, then damaged in every way we know.

Decides what is worth sending to a server that trusts nobody. All chance comes from one `random.Random`, so that a seed
repeats it, and hypothesis may choose (`st.randoms`). Knows no server: `hostile_target.py` does.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import OPERATIONS, Opcode, codec, multi
from terzetto.client.wire.compiler import Layout, VectorOf, layout_of
from terzetto.client.wire.primitives import Blob, Scalar, Text
from tests.vectors import frames

from .port import connect_frame, framed, multi_frame

MAX_FRAME = 0xFFFFF
HEADER = 12
"""Bytes before the record: length, xid, opcode."""

_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_HEADER = struct.Struct(">ii")

EXTREMES = (-1, -2, 0, 1, 2, 7, 8, 2**31 - 1, -(2**31), 2**31 - 13, 0x00100000, 0x000FFFFF, 0x00FFFFFF, 65536, -11)
"""Lengths, counts, versions and opcodes that have broken somebody's server."""

NAMES = ("a", "b", "c", "limits", "zookeeper_limits", "zookeeper_stats", "é", "x" * 300, "\u200b", "...", "0000000001")
SYSTEM = ("/", "", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/zookeeper/quota/a/zookeeper_limits")
NO_PATHS = ("a", "/a/", "//", "/a//b", "/a/./b", "/..", "/a\0b", "/\ue000", "/\U0001f600", "/a/b/", "\0", "/" * 500)
DATA = (b"", b"data", b"count=1,bytes=-1", b"count=" + b"9" * 5000, b"\0" * 64, b"count=5,bytes=7=;byteHardLimit=3")
SCHEMES = ("world", "auth", "digest", "ip", "sasl", "x509", "super", "", "unknown", "worl\0d")
ID_TEXTS = (
    "anyone",
    "",
    "a:b",
    "a:b:c",
    ":",
    "127.0.0.1",
    "127.0.0.1/33",
    "::1",
    "CN=a,O=b",
    "CN=" + "," * 200,
    "a/b@c",
)
WORDS = (
    b"ruok",
    b"stat",
    b"mntr",
    b"cons",
    b"dump",
    b"wchp",
    b"wchc",
    b"stmk",
    b"envi",
    b"hash",
    b"isro",
    b"\xff\xf4\xff\xfd",
)
TLS_HELLO = bytes.fromhex("160301020001000001fc0303") + bytes(range(200))


@cache
def golden_frames() -> tuple[bytes, ...]:
    """Every request that a real client sent in the golden conversations, with its length."""
    return tuple(framed(frame.body) for frame in frames() if frame.sender == "client" and frame.header is not None)


@cache
def golden_greetings() -> tuple[bytes, ...]:
    """Every ConnectRequest that a real client sent."""
    return tuple(framed(frame.body) for frame in frames() if frame.sender == "client" and frame.header is None)


class HostileFrames:
    """A source of frames.

    Args:
        chance: everything is drawn from it.
        big: a share of this of the values is large, up to a whole frame.
    """

    def __init__(self, chance: random.Random, *, big: float = 0.001) -> None:
        self.chance = chance
        self._big = big
        self._opcodes = list(OPERATIONS)
        self._damages: list[Callable[[bytes], bytes]] = [
            self._flip_bits,
            self._flip_bits,
            self._replace_number,
            self._replace_number,
            self._replace_number,
            self._cut_record,
            self._cut_record,
            self._lengthen,
            self._splice,
            self._repeat_header,
            self._replace_opcode,
            self._replace_xid,
            self._cut_frame,
            self._replace_length,
        ]

    # -- good values

    def path(self) -> str | None:
        """A path: mostly one that exists or could, from a small world, so that requests meet."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.8:
            depth = chance.choice((1, 1, 1, 2, 2, 3))
            return "".join("/" + chance.choice(NAMES) for _ in range(depth))
        if kind < 0.88:
            return chance.choice(SYSTEM)
        if kind < 0.96:
            return chance.choice(NO_PATHS)
        if kind < 0.98:
            return None
        return "/" + self._text()

    def _text(self) -> str:
        chance = self.chance
        if chance.random() > 1 - self._big:
            return "x" * chance.randrange(1, MAX_FRAME)
        return "".join(
            chr(chance.choice((97, 47, 46, 0, 0xE9, 0x20AC, 0xFFFF, 0x10FFFF))) for _ in range(chance.randrange(12))
        )

    def _blob(self) -> bytes | None:
        chance = self.chance
        if chance.random() > 1 - self._big:
            return bytes(chance.randrange(1, MAX_FRAME))
        return chance.choice((None, chance.choice(DATA), chance.randbytes(chance.randrange(40))))

    def value(self, kind: Any, name: str) -> Any:
        """A value of a wire type; the field's name says what would make sense."""
        chance = self.chance
        if isinstance(kind, Layout):
            return kind.cls(*(self.value(field, inner) for inner, field in kind.fields))
        if isinstance(kind, VectorOf):
            return self._vector(kind, name)
        if isinstance(kind, Blob):
            return self._blob()
        if isinstance(kind, Text):
            return self._string(name, nullable=kind.nullable)
        assert isinstance(kind, Scalar)
        if kind.code == "?":
            return chance.random() < 0.5
        if chance.random() < 0.8:
            usual = {
                "flags": range(7),
                "version": (-1, -1, 0, 1),
                "perms": range(32),
                "mode": (0, 1),
                "type": range(1, 6),
            }
            return chance.choice(usual.get(name, (0, 1, 1000, -1)))
        return chance.randrange(-(2**31), 2**31) if kind.code == "i" else chance.randrange(-(2**63), 2**63)

    def _vector(self, kind: VectorOf, name: str) -> list[Any] | None:
        chance = self.chance
        if kind.nullable and chance.random() < 0.05:
            return None
        if name == "acl" and chance.random() < 0.75:
            return list(OPEN_ACL_UNSAFE)
        count = chance.choice((0, 1, 1, 2, 5)) if chance.random() <= 1 - self._big else 500
        return [self.value(kind.element, "path") for _ in range(count)]

    def _string(self, name: str, *, nullable: bool) -> str | None:
        chance = self.chance
        if name in ("path", "prefix_path"):
            text = self.path()
        elif name == "scheme":
            text = chance.choice(SCHEMES)
        elif name == "id":
            text = chance.choice(ID_TEXTS)
        else:
            text = self._text()
        return text if nullable or text is not None else ""

    # -- good frames

    def valid(self) -> bytes:
        """A request that a codec or a real client has made."""
        chance = self.chance
        if chance.random() < 0.25:
            return chance.choice(golden_frames())
        opcode = chance.choice(self._opcodes)
        xid = chance.choice((1, 2, 3, 0, -2, chance.randrange(2**31)))
        if opcode == Opcode.MULTI:
            return self._multi(xid, opcode, multi.WRITE_REQUESTS)
        if opcode == Opcode.MULTI_READ:
            return self._multi(xid, opcode, multi.READ_REQUESTS)
        operation = OPERATIONS[opcode]
        if operation.request is None:
            if opcode == Opcode.CLOSE_SESSION and chance.random() < 0.9:
                opcode = Opcode.PING
            return framed(_HEADER.pack(xid, opcode))
        record = self.value(layout_of(operation.request), "")
        return framed(_HEADER.pack(xid, opcode) + codec(operation.request).encode(record))

    def _multi(self, xid: int, opcode: int, allowed: dict[int, type[Any]]) -> bytes:
        chance = self.chance
        count = chance.choice((0, 1, 2, 3, 8)) if chance.random() <= 1 - self._big else 2000
        kinds = list(allowed)
        if chance.random() < 0.1:
            kinds.append(chance.choice(self._opcodes))
        ops: list[tuple[int, Any]] = []
        for _ in range(count):
            kind = chance.choice(kinds)
            cls = multi.WRITE_REQUESTS.get(kind) or multi.READ_REQUESTS.get(kind)
            ops.append((kind, None if cls is None else self.value(layout_of(cls), "")))
        return multi_frame(xid, *ops, opcode=opcode)

    def greeting(self) -> bytes:
        """A ConnectRequest, sometimes damaged."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.5:
            return connect_frame(timeout_ms=chance.choice((4000, 30_000, 0, -1, 2**31 - 1)))
        frame = chance.choice(golden_greetings())
        if kind < 0.7:
            session_id = chance.randrange(-(2**63), 2**63)
            frame = connect_frame(session_id=session_id, password=chance.choice((None, b"", bytes(16), bytes(500))))
        return self.damaged(frame) if kind > 0.6 else frame

    def noise(self) -> bytes:
        """What does not even begin like the protocol: another protocol, words behind their time, anything."""
        chance = self.chance
        return chance.choice(
            (
                TLS_HELLO,
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                chance.choice(WORDS),
                chance.choice(WORDS) + b"\n" + chance.randbytes(8),
                _INT.pack(chance.choice(EXTREMES)),
                chance.randbytes(chance.randrange(1, 60)),
            )
        )

    # -- damage

    def request(self) -> bytes:
        """One request, as it should be or damaged once or several times."""
        chance = self.chance
        frame = self.valid()
        if chance.random() < 0.45:
            return frame
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            frame = self.damaged(frame)
        return frame

    def damaged(self, frame: bytes) -> bytes:
        """A frame with one damage. Most leave the frame's length true, so that what is inside is looked at."""
        # What has no header any more cannot be damaged further.
        return frame if len(frame) < HEADER else self.chance.choice(self._damages)(frame)

    def _flip_bits(self, frame: bytes) -> bytes:
        if len(frame) == HEADER:
            return frame
        changed = bytearray(frame)
        for _ in range(self.chance.choice((1, 1, 2, 8))):
            changed[self.chance.randrange(HEADER, len(changed))] ^= 1 << self.chance.randrange(8)
        return bytes(changed)

    def _replace_number(self, frame: bytes) -> bytes:
        """Any four or eight bytes of the record: a length, a count, a version, a flag, an id."""
        width = self.chance.choice((4, 4, 4, 8))
        if len(frame) < HEADER + width:
            return frame
        position = self.chance.randrange(HEADER, len(frame) - width + 1)
        if self.chance.random() < 0.6:
            position = HEADER
        number = self.chance.choice(EXTREMES)
        packed = _INT.pack(number) if width == 4 else _LONG.pack(number << 32)
        return frame[:position] + packed + frame[position + width :]

    def _cut_record(self, frame: bytes) -> bytes:
        return framed(frame[4 : self.chance.randrange(HEADER, len(frame) + 1)])

    def _lengthen(self, frame: bytes) -> bytes:
        return framed(frame[4:] + self.chance.randbytes(self.chance.randrange(1, 40)))

    def _splice(self, frame: bytes) -> bytes:
        other = self.valid()
        here, there = self.chance.randrange(4, len(frame) + 1), self.chance.randrange(4, len(other) + 1)
        return framed((frame[4:here] + other[there:])[:MAX_FRAME])

    def _repeat_header(self, frame: bytes) -> bytes:
        return framed(frame[4:HEADER] * self.chance.randrange(2, 5) + frame[HEADER:])

    def _replace_opcode(self, frame: bytes) -> bytes:
        opcode = self.chance.choice(
            (*self._opcodes, *self._opcodes, *self._opcodes, 0, 10, 13, 20, 77, -1, -10, *EXTREMES)
        )
        return frame[:8] + _INT.pack(opcode) + frame[HEADER:]

    def _replace_xid(self, frame: bytes) -> bytes:
        return frame[:4] + _INT.pack(self.chance.choice((-1, -2, -4, -8, 0, 2**31 - 1, -(2**31)))) + frame[8:]

    def _cut_frame(self, frame: bytes) -> bytes:
        """The length stays: what comes next is taken for the rest."""
        if self.chance.random() < 0.9:
            return self._cut_record(frame)
        return frame[: self.chance.randrange(1, len(frame))]

    def _replace_length(self, frame: bytes) -> bytes:
        if self.chance.random() < 0.8:
            return self._replace_number(frame)
        length = self.chance.choice((*EXTREMES, len(frame) - 3, len(frame) - 5))
        return _INT.pack(length) + frame[4:]


def chunks(data: bytes, chance: random.Random) -> Sequence[bytes]:
    """The same bytes in portions: one, a few, or one at a time (a slow drip)."""
    kind = chance.random()
    if kind < 0.7 or len(data) < 2:
        return [data]
    if kind < 0.97 or len(data) > 200:
        cuts = sorted(chance.randrange(1, len(data)) for _ in range(chance.randrange(1, 4)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [data[i : i + 1] for i in range(len(data))]
