"""Compressed snapshots: ZooKeeper names the method by the file's suffix and wraps the whole stream.

Decides which suffixes are read (none, .gz, .snappy) and written (none, .gz). Opens no file. Snappy is decoded here, so
that a copy of a directory starts whatever it was written with; there is no encoder, because in Python alone it would
be slower than gzip and pack worse.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import Protocol

SUFFIXES = ("", ".gz", ".snappy")
"""Of snapshots that can be read."""

WRITTEN_METHODS = ("", "gz")
"""Of snapshots that can be written."""

_GZIP_WBITS = 31
# What the Java library puts before the raw Snappy blocks, each of which has its length before it.
_SNAPPY_MAGIC = b"\x82SNAPPY\0"
_SNAPPY_HEADER = struct.Struct(">8sii")
_LENGTH = struct.Struct(">i")
# The Java library cuts its stream into blocks of 32 KiB unless told otherwise; this bounds a damaged length only.
_BLOCK_MAX = 1 << 26


class Compressor(Protocol):
    """What `zlib.compressobj` offers, in as far as it is needed here."""

    def compress(self, data: bytes, /) -> bytes:
        """Takes a piece; gives what can be written already."""
        ...

    def flush(self) -> bytes:
        """Gives the rest; nothing can be taken after that."""
        ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def suffix_of(method: str) -> str:
    """The suffix of snapshots that are written with a method of `WRITTEN_METHODS`.

    Raises:
        ValueError: there is no such method here.
    """
    if method not in WRITTEN_METHODS:
        raise ValueError(f"snapshots cannot be written with {method!r}: the methods are {WRITTEN_METHODS}")
    return f".{method}" if method else ""


def compressor(method: str) -> Compressor:
    """A new stream of a method of `WRITTEN_METHODS`."""
    if suffix_of(method):
        return zlib.compressobj(wbits=_GZIP_WBITS)
    return _Plain()


def decompress(data: bytes, suffix: str) -> bytes:
    """The stream inside a whole file.

    Raises:
        ValueError: the bytes are not of this method, or incomplete.
    """
    if suffix == ".gz":
        try:
            return gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"the gzip stream is damaged: {error}") from error
    if suffix == ".snappy":
        return _read_snappy(data)
    return data


def _read_snappy(data: bytes) -> bytes:
    if len(data) < _SNAPPY_HEADER.size or not data.startswith(_SNAPPY_MAGIC):
        raise ValueError("the snappy stream has no header")
    blocks: list[bytes] = []
    position = _SNAPPY_HEADER.size
    while position < len(data):
        if position + _LENGTH.size > len(data):
            raise ValueError("the snappy stream ends in the middle of a length")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if not 0 <= length <= len(data) - position:
            raise ValueError(f"the snappy stream announces a block of {length} bytes and has {len(data) - position}")
        blocks.append(decode_snappy_block(data[position : position + length]))
        position += length
    return b"".join(blocks)


def decode_snappy_block(block: bytes) -> bytes:
    """One raw Snappy block: a length, then literals and copies of what stands already in the output.

    Raises:
        ValueError: it is no such block.
    """
    try:
        size, position = _varint(block)
        if size > _BLOCK_MAX:
            raise ValueError(f"a snappy block of {size} bytes is over the limit of {_BLOCK_MAX}")
        output = bytearray()
        while position < len(block):
            position = _element(block, position, output)
            if len(output) > size:
                raise ValueError(f"a snappy block is longer than the {size} bytes it announces")
    except IndexError as error:
        raise ValueError("a snappy block ends in the middle of an element") from error
    if len(output) != size:
        raise ValueError(f"a snappy block holds {len(output)} bytes and announces {size}")
    return bytes(output)


def _varint(block: bytes) -> tuple[int, int]:
    value = 0
    for position in range(5):
        byte = block[position]
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, position + 1
    raise ValueError("a snappy block begins with no length")


def _element(block: bytes, position: int, output: bytearray) -> int:
    """Carries out the element at `position`; returns the position behind it."""
    tag = block[position]
    kind = tag & 3
    position += 1
    if kind == 0:
        length = tag >> 2
        if length >= 60:
            width = length - 59
            length = int.from_bytes(_exactly(block, position, width), "little")
            position += width
        output += _exactly(block, position, length + 1)
        return position + length + 1
    if kind == 1:
        length = (tag >> 2 & 7) + 4
        offset = (tag >> 5) << 8 | block[position]
        width = 1
    else:
        length = (tag >> 2) + 1
        width = 2 if kind == 2 else 4
        offset = int.from_bytes(_exactly(block, position, width), "little")
    _copy(output, offset, length)
    return position + width


def _exactly(block: bytes, position: int, length: int) -> bytes:
    piece = block[position : position + length]
    if len(piece) != length:
        raise IndexError(position)
    return piece


def _copy(output: bytearray, offset: int, length: int) -> None:
    if not 0 < offset <= len(output):
        raise ValueError(f"a snappy copy reaches {offset} bytes back, where there are {len(output)}")
    start = len(output) - offset
    if offset >= length:
        output += output[start : start + length]
    else:
        # A copy that runs into its own output repeats a pattern.
        pattern = bytes(output[start:])
        output += (pattern * (length // offset + 1))[:length]
