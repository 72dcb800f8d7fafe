"""The bytes in which Curator's queues keep their items: one znode holds one item, or several that came together.

A version, each item behind a mark and its length, and an end mark. Plain bytes; knows no queue.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

_VERSION = b"\x00\x01\x00\x01"
_ITEM, _END = 1, 2
_HEAD = struct.Struct(">Bi")


def pack_items(values: Iterable[bytes]) -> bytes:
    """A znode's data for these items."""
    frame = bytearray(_VERSION)
    for value in values:
        frame += _HEAD.pack(_ITEM, len(value))
        frame += value
    frame.append(_END)
    return bytes(frame)


def unpack_items(data: bytes) -> list[bytes]:
    """The items in a znode's data. What follows the end mark is not looked at, as in Curator.

    Raises:
        ValueError: this is no such data.
    """
    if not data.startswith(_VERSION):
        raise ValueError(f"the data do not begin with {_VERSION.hex()}, but with {data[:4].hex() or 'nothing'}")
    found: list[bytes] = []
    at = len(_VERSION)
    while data[at : at + 1] != bytes([_END]):
        if len(data) < at + _HEAD.size:
            raise ValueError("the data end before their end mark")
        mark, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if mark != _ITEM:
            raise ValueError(f"an item begins with the mark {_ITEM}, not {mark}")
        if not 0 <= length <= len(data) - at:
            raise ValueError(f"an item of {length} bytes, where {len(data) - at} are left")
        found.append(data[at : at + length])
        at += length
    return found
