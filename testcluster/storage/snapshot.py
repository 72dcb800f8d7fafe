"""ZooKeeper's snapshot as bytes: sessions, ACL table, znodes, and seals that tell a whole file from a part of one.

Decides the form, and what makes a snapshot good. Opens no file, and does not know how a tree holds its znodes. Form of
ZooKeeper 3.4 to 3.9:

    header    "ZKSN", int version 2, long dbid -1
    sessions  int count, SnapshotSession each
    ACLs      int count, SnapshotAcl each
    znodes    SnapshotNode each, parents before children, the root's path empty; then the string "/"
    seal      long Adler-32 of all bytes before it, the string "/"
    digest    3.6: long zxid, int version, long digest of the tree; then another seal, over everything before it
    zxid      3.9: long last processed zxid; then another seal
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from zlib import adler32

from terzetto.client.errors import WireError
from terzetto.client.wire import codec

from ..txns import SnapshotAcl, SnapshotNode, SnapshotSession
from ..znodes import node_digest
from .collection import no_collection
from .errors import CorruptSnapshotError

CHUNK_SIZE = 1 << 16
"""Bytes that `encode_snapshot` gathers before it gives them away, at least."""

_HEADER = struct.pack(">4siq", b"ZKSN", 2, -1)
_MAGIC = _HEADER[:8]
_COUNT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_END = b"\0\0\0\1/"
_SEAL = struct.Struct(">q5s")
_DIGEST = struct.Struct(">qiq")
_DIGEST_START = struct.Struct(">qi")
# The first digest that 3.6.0 wrote as a number; older ones are hexadecimal strings.
_NUMERIC_DIGEST = 2

Row = TypeVar("Row")
Decode = Callable[[bytes, int, int], tuple[Row, int]]

_MASK64 = (1 << 64) - 1

_encode_session = codec(SnapshotSession).encode
_encode_acl = codec(SnapshotAcl).encode
_encode_node = codec(SnapshotNode).encode
_decode_session = codec(SnapshotSession).decode
_decode_acl = codec(SnapshotAcl).decode
_decode_node = codec(SnapshotNode).decode


class SnapshotDigest(NamedTuple):
    """Digest of the tree when the walk over its znodes had ended, and the last zxid applied until then.

    A zxid above the snapshot's own says that the snapshot is fuzzy. An equal one does not say the opposite: a server
    that applies transactions while another thread walks (ZooKeeper 3.8.0) leaves traces of the one being applied.
    """

    zxid: int
    version: int
    tree_digest: int


# ZooKeeper 3.8.0 writes its first snapshot, of a new tree, before it computes a digest.
_NOT_COMPUTED = SnapshotDigest(0, _NUMERIC_DIGEST, 0)


@dataclass(frozen=True)
class Snapshot:
    """A whole snapshot.

    Attributes:
        zxid: all transactions up to it are in the znodes; some later ones may be. From the file's name.
        sessions: the session table.
        acls: the ACL table.
        nodes: the znodes, parents before children.
        digest: `None` where the writer kept none.
    """

    zxid: int
    sessions: list[SnapshotSession]
    acls: list[SnapshotAcl]
    nodes: list[SnapshotNode]
    digest: SnapshotDigest | None

    @property
    def reaches(self) -> int | None:
        """The last zxid that was applied when the walk ended; `None` where the snapshot does not tell."""
        return None if self.digest is None else max(self.zxid, self.digest.zxid)

    def ends_by(self, zxid: int) -> bool:
        """Whether no transaction behind `zxid`, which is in the history, can have left a trace in the znodes."""
        if self.digest is None or max(self.zxid, self.digest.zxid) != zxid:
            # There may be traces of one transaction more than the digest says, which is `zxid` at most.
            return self.reaches is not None and self.reaches < zxid
        if self.digest == _NOT_COMPUTED:
            return True
        exact = sum(_digest_of(node) for node in self.nodes) & _MASK64 == self.digest.tree_digest & _MASK64
        return exact and self.digest.zxid == zxid


def _digest_of(node: SnapshotNode) -> int:
    stat = node.stat
    times = (stat.ctime, stat.mtime)
    versions = (stat.version, stat.cversion, stat.aversion)
    fields = (stat.czxid, stat.mzxid, stat.pzxid, *times, *versions, stat.ephemeral_owner)
    return node_digest(node.path or "", node.data, fields)


def encode_snapshot(
    sessions: Iterable[SnapshotSession],
    acls: Iterable[SnapshotAcl],
    nodes: Iterable[SnapshotNode],
    digest: Callable[[], SnapshotDigest | None],
    *,
    chunk_size: int = CHUNK_SIZE,
) -> Iterator[bytes]:
    """Yields a snapshot piece by piece, reading `nodes` no further than the piece needs.

    Transactions may be applied between two pieces (a fuzzy snapshot). For that the order of reading counts: sessions
    and ACLs at once, the znodes as the caller goes on, and the digest when the last znode was given.

    Args:
        sessions: the session table.
        acls: the ACL table.
        nodes: the znodes, parents before children.
        digest: asked once, after the last znode; its `None` leaves the section out.
        chunk_size: bytes to gather before a piece is given away.

    Raises:
        WireError: a row that has no wire form.
    """
    opening = [_HEADER, *_table(list(map(_encode_session, sessions))), *_table(list(map(_encode_acl, acls)))]
    return _pieces(opening, nodes, digest, chunk_size)


def _table(rows: list[bytes]) -> list[bytes]:
    return [_COUNT.pack(len(rows)), *rows]


def _pieces(
    parts: list[bytes], nodes: Iterable[SnapshotNode], digest: Callable[[], SnapshotDigest | None], chunk_size: int
) -> Iterator[bytes]:
    checksum = 1
    size = sum(map(len, parts))
    encode = _encode_node
    for node in nodes:
        row = encode(node)
        parts.append(row)
        size += len(row)
        if size >= chunk_size:
            piece = b"".join(parts)
            checksum = adler32(piece, checksum)
            yield piece
            parts, size = [], 0
    parts.append(_END)
    piece = b"".join(parts)
    checksum = adler32(piece, checksum)
    seal = _SEAL.pack(checksum, _END)
    found = digest()
    if found is None:
        yield piece + seal
    else:
        section = _DIGEST.pack(*found)
        yield piece + seal + section + _SEAL.pack(adler32(section, adler32(seal, checksum)), _END)


def decode_snapshot(data: bytes, zxid: int, name: str) -> Snapshot:
    """Reads a whole, uncompressed snapshot and checks its seals.

    Args:
        data: the file's bytes.
        zxid: from the file's name.
        name: the file's name, for errors.

    Raises:
        CorruptSnapshotError: it is incomplete or damaged.
    """
    if not data.startswith(_MAGIC):
        raise CorruptSnapshotError(name, 0, f"it begins with {data[:8].hex() or 'nothing'}, not with {_MAGIC.hex()}")
    reading = _Reading(data, name)
    try:
        sessions = reading.table(_decode_session)
        acls = reading.table(_decode_acl)
        with no_collection():
            nodes = reading.nodes()
        reading.seal()
        digest = reading.digest()
        reading.last_processed()
    except struct.error as error:
        raise reading.corrupt(f"the file ends in the middle of something ({error})") from error
    except (WireError, ValueError) as error:
        raise reading.corrupt(str(error)) from error
    return Snapshot(zxid, sessions, acls, nodes, digest)


def is_sealed(data: bytes) -> bool:
    """Whether the last bytes are a seal over all others: a quick look that builds nothing."""
    if not data.startswith(_MAGIC) or len(data) < len(_HEADER) + _SEAL.size:
        return False
    start = len(data) - _SEAL.size
    found, end = _SEAL.unpack_from(data, start)
    return bool(end == _END and found == adler32(memoryview(data)[:start]))


class _Reading:
    """A position in a snapshot, and the checksum of all before the last seal."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        self._position = len(_HEADER)
        self._checksum = 1
        self._sealed = 0

    def corrupt(self, reason: str) -> CorruptSnapshotError:
        return CorruptSnapshotError(self._name, min(self._position, len(self._data)), reason)

    def table(self, decode: Decode[Row]) -> list[Row]:
        data, end = self._data, len(self._data)
        (count,) = _COUNT.unpack_from(data, self._position)
        if count < 0:
            raise self.corrupt(f"a table of {count} rows")
        position = self._position + _COUNT.size
        rows: list[Row] = []
        for _ in range(count):
            row, position = decode(data, position, end)
            rows.append(row)
            self._position = position
        self._position = position
        return rows

    def nodes(self) -> list[SnapshotNode]:
        data, end, position = self._data, len(self._data), self._position
        decode = _decode_node
        rows: list[SnapshotNode] = []
        add = rows.append
        try:
            # No znode's path is "/": the root's is empty here.
            while not data.startswith(_END, position):
                row, position = decode(data, position, end)
                add(row)
        finally:
            self._position = position
        self._position = position + len(_END)
        return rows

    def seal(self) -> None:
        found, end = _SEAL.unpack_from(self._data, self._position)
        window = memoryview(self._data)[self._sealed : self._position]
        self._checksum = adler32(window, self._checksum)
        if found != self._checksum:
            raise self.corrupt(f"the checksum of all before is {self._checksum:#010x}, but the seal says {found:#x}")
        if end != _END:
            raise self.corrupt(f"the seal ends with {end.hex()}, not with {_END.hex()}")
        self._sealed = self._position
        self._position += _SEAL.size

    def digest(self) -> SnapshotDigest | None:
        data = self._data
        if self._position == len(data):
            return None
        zxid, version = _DIGEST_START.unpack_from(data, self._position)
        at = self._position + _DIGEST_START.size
        if version >= _NUMERIC_DIGEST:
            (value,) = _LONG.unpack_from(data, at)
            at += _LONG.size
        else:
            (length,) = _COUNT.unpack_from(data, at)
            text = data[at + _COUNT.size : at + _COUNT.size + max(length, 0)]
            value = int(text, 16)
            at += _COUNT.size + len(text)
        self._position = at
        self.seal()
        return SnapshotDigest(zxid, version, value)

    def last_processed(self) -> None:
        # The file's name says the same; what a later release may add behind it is left alone.
        if self._position < len(self._data):
            _LONG.unpack_from(self._data, self._position)
            self._position += _LONG.size
            self.seal()
