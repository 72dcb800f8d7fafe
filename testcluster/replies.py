"""Frames that a server sends: replies to writes, errors, watch events, answers to a ConnectRequest.

Knows how outcomes look on the wire, nothing of how they came about. Replies to reads are built where the read happens.
"""

from __future__ import annotations

import struct

from terzetto.client.errors import WireError
from terzetto.client.wire import codec, multi, records as r
from terzetto.client.wire.operations import WATCH_XID, Opcode
from terzetto.client.wire.primitives import LENGTH, REPLY_PREFIX

from .codes import OK
from .connection import Request
from .datatree import DataTree
from .ids import PASSWORD_SIZE
from .txns import Txn
from .znodes import STAT

PREFIX_SIZE = REPLY_PREFIX.size - LENGTH.size
"""Bytes of a reply header, which is all that an error's frame holds."""

_STATE_CONNECTED = 3
_PREFIX_LENGTH = struct.Struct(">iiqii")
_EVENT = struct.Struct(">iiqiiii")
_INT = struct.Struct(">i")
_RESULT = struct.Struct(">i?i")
_RESULT_END = _RESULT.pack(-1, True, -1)

_pack_prefix = REPLY_PREFIX.pack
_encode_connect = codec(r.ConnectResponse).encode
_encode_short_connect = codec(r.ShortConnectResponse).encode


def header_reply(xid: int, zxid: int, err: int) -> bytes:
    """A reply without a record: an error, or the success of an operation that answers nothing."""
    return _pack_prefix(PREFIX_SIZE, xid, zxid, err)


def reply(xid: int, zxid: int, body: bytes) -> bytes:
    """A successful reply."""
    return _pack_prefix(PREFIX_SIZE + len(body), xid, zxid, OK) + body


def reply_with_error(xid: int, zxid: int, err: int, body: bytes) -> bytes:
    """The two errors that carry a record: of a multiRead with writes in it, and of a failed SASL exchange."""
    return _pack_prefix(PREFIX_SIZE + len(body), xid, zxid, err) + body


def watch_event(kind: int, path: str, zxid: int) -> bytes:
    """A notification. Its zxid is the transaction's since 3.9, -1 before and where no transaction fired it."""
    raw = path.encode()
    size = len(raw)
    return _EVENT.pack(28 + size, WATCH_XID, zxid, 0, kind, _STATE_CONNECTED, size) + raw


def connect_response(*, timeout_ms: int, session_id: int, password: bytes, read_only: bool | None) -> bytes:
    """The answer to a ConnectRequest; `read_only` is `None` for a client that did not send the byte."""
    if read_only is None:
        body = _encode_short_connect(r.ShortConnectResponse(0, timeout_ms, session_id, password))
    else:
        body = _encode_connect(r.ConnectResponse(0, timeout_ms, session_id, password, read_only))
    return LENGTH.pack(len(body)) + body


def refused_connect(has_read_only: bool, read_only: bool) -> bytes:
    """Tells a client that its session is over: all zeros. The connection is closed after it."""
    shown = read_only if has_read_only else None
    return connect_response(timeout_ms=0, session_id=0, password=bytes(PASSWORD_SIZE), read_only=shown)


def write_reply(request: Request, txn: Txn, code: int, tree: DataTree) -> bytes:
    """The reply to a write whose transaction has just been applied.

    Args:
        request: the write.
        txn: its transaction.
        code: what applying it gave.
        tree: the tree right after it.
    """
    opcode, cxid, zxid = request.opcode, request.cxid, txn.header.zxid
    if code != OK or opcode in (Opcode.DELETE, Opcode.CLOSE_SESSION):
        return _pack_prefix(PREFIX_SIZE, cxid, zxid, code)
    if opcode == Opcode.MULTI:
        return reply(cxid, zxid, _multi_body(request.body, tree))
    path: str = txn.record.path
    if opcode == Opcode.CREATE:
        raw = path.encode()
        size = len(raw)
        return _PREFIX_LENGTH.pack(PREFIX_SIZE + 4 + size, cxid, zxid, OK, size) + raw
    stat = tree.nodes[path].stat()
    if opcode in (Opcode.SET_DATA, Opcode.SET_ACL):
        return _pack_prefix(PREFIX_SIZE + STAT.size, cxid, zxid, OK) + stat
    raw = path.encode()
    size = len(raw)
    return _PREFIX_LENGTH.pack(PREFIX_SIZE + 4 + size + STAT.size, cxid, zxid, OK, size) + raw + stat


def _multi_body(body: bytes, tree: DataTree) -> bytes:
    ops = multi.decode_requests(body, 0, len(body), multi.WRITE_REQUESTS)
    results = tree.results
    if len(ops) != len(results):
        raise WireError("a multi was applied with another number of operations than it was asked with")
    parts: list[bytes] = []
    for (asked, _), (kind, err, path, stat) in zip(ops, results, strict=True):
        if kind == Opcode.ERROR:
            parts.append(_RESULT.pack(Opcode.ERROR, False, err) + _INT.pack(err))
        elif kind in (Opcode.DELETE, Opcode.CHECK):
            parts.append(_RESULT.pack(kind, False, OK))
        elif kind == Opcode.SET_DATA:
            parts.append(_RESULT.pack(kind, False, OK) + stat)
        else:
            raw = path.encode()
            # A create2 is logged as a create; since 3.7.2 and 3.8.2 it is answered as itself all the same.
            if kind == Opcode.CREATE and asked != Opcode.CREATE2:
                parts.append(_RESULT.pack(Opcode.CREATE, False, OK) + _INT.pack(len(raw)) + raw)
            else:
                parts.append(_RESULT.pack(Opcode.CREATE2, False, OK) + _INT.pack(len(raw)) + raw + stat)
    parts.append(_RESULT_END)
    return b"".join(parts)
