"""ZooKeeper's transaction log as bytes: a file header, checked records, zeros to the end.

Decides the form of a record, where a log ends, and whether a bad end is a torn write (a crash cut the last write short,
so it was never acknowledged) or damage (so acknowledged transactions may be lost). Opens no file and does not know what
a transaction means beyond its zxid. Form of ZooKeeper 3.4 to 3.9:

    header   "ZKLG", int version 2, long dbid
    record   long Adler-32 of the payload, int length of the payload, payload, byte 0x42
    padding  zeros up to the preallocated size
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from zlib import adler32

from .errors import CorruptLogError

HEADER = struct.pack(">4siq", b"ZKLG", 2, 0)
"""First bytes of every log. ZooKeeper writes dbid 0 and never reads it."""

_MAGIC = HEADER[:8]
_RECORD = struct.Struct(">qi")
_ZXID = struct.Struct(">q")
# In TxnHeader: long clientId, int cxid, long zxid, long time, int type.
_ZXID_OFFSET = 12
_PAYLOAD_MIN = 32
_PAYLOAD_MAX = 1 << 28
_END = 0x42
_WRITTEN = re.compile(rb"[^\0]")
_END_BYTE = b"\x42"


class LoggedTxn(NamedTuple):
    """One transaction as logs and proposals carry it: the payload is header, record and digest, encoded once."""

    zxid: int
    payload: bytes


class TornTail(NamedTuple):
    """A write that a crash cut short, at the end of a log.

    Attributes:
        name: the file.
        offset: where the whole records end.
        size: bytes behind that which are not zero, none of them ever acknowledged.
        reason: what is missing.
    """

    name: str
    offset: int
    size: int
    reason: str


def logged(payload: bytes) -> LoggedTxn:
    """The entry whose encoded transaction is `payload`; the zxid is read from it.

    Raises:
        ValueError: the payload is shorter than a transaction's header.
    """
    if len(payload) < _PAYLOAD_MIN:
        raise ValueError(f"{len(payload)} bytes are no transaction: its header alone has {_PAYLOAD_MIN}")
    return LoggedTxn(_ZXID.unpack_from(payload, _ZXID_OFFSET)[0], payload)


def encode_records(payloads: Iterable[bytes]) -> bytes:
    """The records of some transactions, in one piece to be written at once."""
    parts: list[bytes] = []
    for payload in payloads:
        parts += (_RECORD.pack(adler32(payload), len(payload)), payload, _END_BYTE)
    return b"".join(parts)


class LogReader:
    """Iterates over the whole records of one log, once, and then knows how it ended.

    What ZooKeeper 3.8.0 takes for the end of a log (length 0, a short record, a record without its end byte) is looked
    at more closely here: it is a torn write only when a write that stopped at some byte explains everything behind
    that byte. Iteration raises `CorruptLogError` where it does not.

    Args:
        data: the file, of which zeros at the end may be left out (but none of the header's). The reader keeps no slice
            of it between two records, so it may be a window on a mapped file.
        name: the file's name, for reports.

    Attributes:
        offset: where the record that was given last begins.
        end: offset behind that record, 0 where the header is incomplete.
        torn: how the file ends, where it does not end cleanly; known when the iteration has ended.
    """

    def __init__(self, data: memoryview, name: str) -> None:
        self._data = data
        self._last_zxid = -1
        self.name = name
        self.end = 0
        self.offset = 0
        self.torn: TornTail | None = None

    def __iter__(self) -> Iterator[LoggedTxn]:
        if not self._read_header():
            return
        data, size = self._data, len(self._data)
        unpack, unpack_zxid = _RECORD.unpack_from, _ZXID.unpack_from
        position = self.end
        while position + _RECORD.size < size:
            checksum, length = unpack(data, position)
            start = position + _RECORD.size
            stop = start + length
            if length < _PAYLOAD_MIN or stop >= size or data[stop] != _END:
                break
            payload = bytes(data[start:stop])
            if adler32(payload) != checksum:
                break
            zxid = unpack_zxid(payload, _ZXID_OFFSET)[0]
            self.offset = position
            self.end = position = stop + 1
            self._last_zxid = zxid
            yield LoggedTxn(zxid, payload)
        self._judge(position)

    def _read_header(self) -> bool:
        found = bytes(self._data[: len(HEADER)])
        if found[: len(_MAGIC)] == _MAGIC and len(found) == len(HEADER):
            self.end = len(HEADER)
            return True
        # A new file may have been made, even sized, and not filled when the machine stopped.
        written = found.rstrip(b"\0")
        if not HEADER.startswith(written):
            raise self._corrupt(0, f"it begins with {found[: len(_MAGIC)].hex()}, not with {_MAGIC.hex()}")
        if _last_written(self._data, len(found)) > len(found):
            raise self._corrupt(0, "its header is incomplete, but there are bytes behind it")
        self.torn = TornTail(self.name, 0, len(written), "its header is incomplete")
        return False

    def _corrupt(self, offset: int, reason: str) -> CorruptLogError:
        return CorruptLogError(self.name, offset, reason)

    def _judge(self, position: int) -> None:
        """Explains the bytes from `position` on, where no whole record begins, as padding, torn write, or damage."""
        size = _last_written(self._data, position)
        if size == position:
            return
        checksum, length = _RECORD.unpack((bytes(self._data[position:size]) + bytes(_RECORD.size))[: _RECORD.size])
        reason = self._damage(position, size, checksum, length)
        if reason is not None:
            raise self._corrupt(position, reason)
        start = position + _RECORD.size
        missing = "its header" if size <= start else f"some of its {length} bytes"
        self.torn = TornTail(self.name, position, size - position, f"the last record misses {missing}")

    def _damage(self, position: int, size: int, checksum: int, length: int) -> str | None:
        data = self._data
        start = position + _RECORD.size
        stop = start + length
        later = self._whole_record_after(position, size)
        behind = "" if later is None else f"; a whole record follows at byte {later}"
        if checksum >> 32:
            return f"the checksum {checksum:#x} has more than 32 bits{behind}"
        if length < 0 or length > _PAYLOAD_MAX or (length < _PAYLOAD_MIN and size > start):
            return f"the record's length is {length}{behind}"
        if size > start and data[size - 1] == _END and adler32(data[start : size - 1]) == checksum:
            return f"the record's length is {length}, but {size - 1 - start} bytes match its checksum"
        if stop < size:
            return self._bad_record(start, stop, checksum) + behind
        if later is not None:
            return f"the record's length is {length}, but another record begins inside of it, at byte {later}"
        # Everything that was written lies inside this one record: a write that stopped early.
        return None

    def _bad_record(self, start: int, stop: int, checksum: int) -> str:
        found = adler32(self._data[start:stop])
        if self._data[stop] != _END:
            about = "matches" if found == checksum else "does not match either"
            return f"the record ends with byte 0x{self._data[stop]:02x} instead of 0x42; its checksum {about}"
        return f"the checksum of the record is {found:#010x}, but {checksum:#010x} stands before it"

    def _whole_record_after(self, position: int, size: int) -> int | None:
        """Offset of a whole record behind `position` that continues the history; None where there is none."""
        tail = bytes(self._data[position : min(size, position + 2 * _PAYLOAD_MAX)])
        at = 0
        # Four zero bytes are the upper half of every checksum; the length behind it is not zero.
        while (at := tail.find(b"\0\0\0\0", at + 1)) >= 0 and (written := _WRITTEN.search(tail, at)):
            at = max(at, written.start() - _RECORD.size + 1)
            if at + _RECORD.size + _PAYLOAD_MIN >= len(tail):
                break
            checksum, length = _RECORD.unpack_from(tail, at)
            start = at + _RECORD.size
            stop = start + length
            if length >= _PAYLOAD_MIN and stop < len(tail) and tail[stop] == _END:
                zxid = _ZXID.unpack_from(tail, start + _ZXID_OFFSET)[0]
                if zxid > self._last_zxid and adler32(tail[start:stop]) == checksum:
                    return position + at
        return None


def _last_written(data: memoryview, position: int) -> int:
    """Offset behind the last byte from `position` on that is not zero; `position` where all are zero."""
    block = 1 << 16
    high = len(data)
    while high > position:
        low = max(position, high - block)
        written = bytes(data[low:high]).rstrip(b"\0")
        if written:
            return low + len(written)
        high = low
    return position
