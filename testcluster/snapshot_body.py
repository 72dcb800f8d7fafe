"""The body of a SNAP: a whole tree on the wire between leader and learner, as rows and as bytes.

Decides the form (a snapshot file's tables and znodes without its header and seals, then a signature) and where the body
ends in a stream that says so nowhere else. What the rows mean, and which transactions are in them, is the tree's and
the peer's business.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from terzetto.client.errors import WireError
from terzetto.client.wire import codec

from .txns import SnapshotAcl, SnapshotNode, SnapshotSession

CHUNK_SIZE = 1 << 16
"""Bytes that `encode_snapshot_body` gathers before it gives them away, at least."""

_SIGNATURE = b"BenWasHere"
_END = b"\0\0\0\1/"
_INT = struct.Struct(">i")
_END_OF_BODY = _INT.pack(len(_SIGNATURE)) + _SIGNATURE
_SESSION_SIZE = 12
_ACL_ID_SIZE = 8
_NODE_TAIL_SIZE = 8 + 60

_encode_session = codec(SnapshotSession).encode
_encode_acl = codec(SnapshotAcl).encode
_encode_node = codec(SnapshotNode).encode
_decode_session = codec(SnapshotSession).decode
_decode_acl = codec(SnapshotAcl).decode
_decode_node = codec(SnapshotNode).decode
_int_at = _INT.unpack_from


class SnapshotBody(NamedTuple):
    """The rows of a tree: what `DataTree.load` takes besides the zxid, which stands in the SNAP packet."""

    sessions: list[SnapshotSession]
    acls: list[SnapshotAcl]
    nodes: list[SnapshotNode]


def encode_snapshot_body(
    sessions: Iterable[SnapshotSession],
    acls: Iterable[SnapshotAcl],
    nodes: Iterable[SnapshotNode],
    *,
    chunk_size: int = CHUNK_SIZE,
) -> Iterator[bytes]:
    """Yields a body piece by piece; sessions and ACLs are read at once, the znodes as the caller goes on.

    Raises:
        WireError: a row has no wire form.
    """
    parts = [*_table(list(map(_encode_session, sessions))), *_table(list(map(_encode_acl, acls)))]
    return _pieces(parts, nodes, chunk_size)


def _table(rows: list[bytes]) -> list[bytes]:
    return [_INT.pack(len(rows)), *rows]


def _pieces(parts: list[bytes], nodes: Iterable[SnapshotNode], chunk_size: int) -> Iterator[bytes]:
    size = sum(map(len, parts))
    for node in nodes:
        row = _encode_node(node)
        parts.append(row)
        size += len(row)
        if size >= chunk_size:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join([*parts, _END, _END_OF_BODY])


class SnapshotBodyReader:
    """Reads a body from consecutive pieces of a stream.

    Args:
        limit: longest string or data that a row may have.

    Attributes:
        body: the rows, once the last byte has come.
        need: bytes, from the position that `read` returned on, without which another call is in vain.
    """

    def __init__(self, limit: int) -> None:
        self.body: SnapshotBody | None = None
        self.need = 0
        self._limit = limit
        self._rows = SnapshotBody([], [], [])
        self._paths: set[str] = set()
        self._left = -1
        self._step: Callable[[bytes, int], int] = self._read_sessions

    def read(self, data: bytes, pos: int) -> int:
        """Takes what is whole in `data` from `pos` on; returns where the rest begins.

        Raises:
            WireError: this is no body of a snapshot.
        """
        self.need = 0
        while self.body is None and not self.need:
            pos = self._step(data, pos)
        return pos

    def _count(self, data: bytes, pos: int) -> int:
        """Reads how many rows a table has, once; returns the position behind it, or says what is missing."""
        if self._left >= 0:
            return pos
        if len(data) - pos < _INT.size:
            self.need = _INT.size
            return pos
        (count,) = _int_at(data, pos)
        if count < 0:
            raise WireError(f"a snapshot's table of {count} rows")
        self._left = count
        return pos + _INT.size

    def _read_sessions(self, data: bytes, pos: int) -> int:
        pos = self._count(data, pos)
        size, rows = len(data), self._rows.sessions
        while self._left > 0:
            if size - pos < _SESSION_SIZE:
                self.need = _SESSION_SIZE
                return pos
            row, pos = _decode_session(data, pos, size)
            rows.append(row)
            self._left -= 1
        if not self.need:
            self._left, self._step = -1, self._read_acls
        return pos

    def _read_acls(self, data: bytes, pos: int) -> int:
        pos = self._count(data, pos)
        while self._left > 0:
            row, pos = self._row(data, pos, self._acl_end, _decode_acl)
            if row is None:
                return pos
            self._rows.acls.append(row)
            self._left -= 1
        if not self.need:
            self._step = self._read_nodes
        return pos

    def _read_nodes(self, data: bytes, pos: int) -> int:
        size, add, paths = len(data), self._rows.nodes.append, self._paths
        while True:
            # No znode's path is "/": the root's is empty here.
            if size - pos >= len(_END) and data.startswith(_END, pos):
                self._step = self._read_signature
                return pos + len(_END)
            row, pos = self._row(data, pos, self._node_end, _decode_node)
            if row is None:
                return pos
            path = row.path
            # Before anything is written: a tree cannot be made of them, and this server's own would be lost.
            if path is None or path in paths or (path and ("/" not in path or path.rpartition("/")[0] not in paths)):
                raise WireError(f"a snapshot cannot hold a znode {path!r} here")
            paths.add(path)
            add(row)

    def _read_signature(self, data: bytes, pos: int) -> int:
        end = pos + len(_END_OF_BODY)
        if len(data) < end:
            self.need = len(_END_OF_BODY)
            return pos
        if data[pos:end] != _END_OF_BODY:
            raise WireError(f"a snapshot ends with {data[pos:end].hex()}, not with its signature")
        self.body = self._rows
        return end

    def _row(
        self, data: bytes, pos: int, end_of: Callable[[bytes, int], int], decode: Callable[[bytes, int, int], Any]
    ) -> tuple[Any, int]:
        end = end_of(data, pos)
        if end > len(data):
            self.need = end - pos
            return None, pos
        row: tuple[Any, int] = decode(data, pos, end)
        return row

    # Where a row ends, or how far it must be known to tell.

    def _text_end(self, data: bytes, pos: int) -> int:
        end = pos + _INT.size
        if end > len(data):
            return end
        length: int = _int_at(data, pos)[0]
        if not -1 <= length <= self._limit:
            raise WireError(f"a snapshot has a field of length {length}, with {self._limit} allowed")
        return end + max(length, 0)

    def _node_end(self, data: bytes, pos: int) -> int:
        end = self._text_end(data, pos)
        if end <= len(data):
            end = self._text_end(data, end)
        return end + _NODE_TAIL_SIZE if end <= len(data) else end

    def _acl_end(self, data: bytes, pos: int) -> int:
        pos += _ACL_ID_SIZE
        end = pos + _INT.size
        if end > len(data):
            return end
        (count,) = _int_at(data, pos)
        # An entry has 12 bytes at least.
        if not -1 <= count <= self._limit // 12:
            raise WireError(f"a snapshot has an ACL of {count} entries")
        for _ in range(count):
            end = self._entry_end(data, end)
            if end > len(data):
                break
        return end

    def _entry_end(self, data: bytes, pos: int) -> int:
        end = self._text_end(data, pos + _INT.size)
        return self._text_end(data, end) if end <= len(data) else end
