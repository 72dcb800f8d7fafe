"""Jute's scalars as annotations, and the limits of one frame.

A record of the protocol is declared once, as a `NamedTuple` whose fields carry these annotations; `compiler.py` derives
the codec of both directions from the declaration. All numbers are big-endian; a length of -1 stands for null.
"""

from __future__ import annotations

import codecs
import struct
from dataclasses import dataclass
from typing import Annotated

DEFAULT_MAX_FRAME = 0xFFFFF
"""Longest frame that a server accepts by default, in bytes without the length prefix (`jute.maxbuffer`)."""

LENGTH = struct.Struct(">i")
REPLY_HEADER = struct.Struct(">iqi")
REPLY_PREFIX = struct.Struct(">iiqi")
"""Length of the frame and reply header in one: length, xid, zxid, err."""


JAVA_TEXT = "terzetto.java-text"
"""Error handler for `bytes.decode`: reads what Java writes for characters above U+FFFF, refuses what is no UTF-8.

Java's servers and clients read plain UTF-8 but write such a character as two surrogates of three bytes each (CESU-8).
Paths cannot hold them; identities in ACLs can.
"""


def _read_surrogates(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    pair = error.object[error.start : error.start + 6]
    try:
        character = pair.decode("utf-8", "surrogatepass").encode("utf-16-be", "surrogatepass").decode("utf-16-be")
    except UnicodeDecodeError:
        raise error from None
    return character, error.start + len(pair)


codecs.register_error(JAVA_TEXT, _read_surrogates)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A field of fixed width, as a `struct` format character."""

    code: str


@dataclass(frozen=True, slots=True)
class Text:
    """A string: written as UTF-8, read as UTF-8 or `JAVA_TEXT`. Null is a protocol error unless `nullable`."""

    nullable: bool


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes; null (`None`) and empty are distinct and both survive a round trip."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """A vector. A null one reads as an empty list unless `nullable`, and is not written then."""

    nullable: bool


Bool = Annotated[bool, Scalar("?")]
Int = Annotated[int, Scalar("i")]
Long = Annotated[int, Scalar("q")]
Str = Annotated[str, Text(nullable=False)]
OptStr = Annotated[str | None, Text(nullable=True)]
Buffer = Annotated[bytes | None, Blob()]
VECTOR = Sequence(nullable=False)
OPT_VECTOR = Sequence(nullable=True)
