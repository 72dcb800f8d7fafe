"""Transactions: what the servers agree on, log and apply, and the bytes of one entry.

An entry is `TxnHeader`, a record that the header's type names, and for most types a `TxnDigest`. The same bytes are a
proposal's data, a log record's payload and an entry of the committed log, so their form is ZooKeeper's (3.3 to 3.9),
with the shorter forms that older releases wrote. What a transaction does to the tree is the tree's business, and what
may become one is the preparer's.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from terzetto.client.errors import WireError
from terzetto.client.values import ACL
from terzetto.client.wire import codec
from terzetto.client.wire.operations import Opcode
from terzetto.client.wire.primitives import OPT_VECTOR, VECTOR, Bool, Buffer, Int, Long, OptStr, Str

OptAcl = Annotated[list[ACL] | None, OPT_VECTOR]

DIGEST_VERSION = 2
"""Version of the tree digest that ZooKeeper 3.6 to 3.9 compute; digests of another version are not compared."""


class TxnHeader(NamedTuple):
    """Stands before every transaction. `time` is the leader's clock, milliseconds since the epoch."""

    client_id: Long
    cxid: Int
    zxid: Long
    time: Long
    type: Int


class TxnDigest(NamedTuple):
    """Digest of the whole tree after the transaction."""

    version: Int
    tree_digest: Long


class CreateTxn(NamedTuple):
    """create (1) and create2 (15). `parent_cversion` is the parent's count of creates afterwards, -1 for "one more"."""

    path: Str
    data: Buffer
    acl: OptAcl
    ephemeral: Bool
    parent_cversion: Int


class CreateTxnV0(NamedTuple):
    """create as releases up to 3.3 logged it."""

    path: Str
    data: Buffer
    acl: OptAcl
    ephemeral: Bool


class CreateContainerTxn(NamedTuple):
    """createContainer (19)."""

    path: Str
    data: Buffer
    acl: OptAcl
    parent_cversion: Int


class CreateTTLTxn(NamedTuple):
    """createTTL (21). `ttl` in milliseconds."""

    path: Str
    data: Buffer
    acl: OptAcl
    parent_cversion: Int
    ttl: Long


class DeleteTxn(NamedTuple):
    """delete (2) and deleteContainer (20)."""

    path: Str


class SetDataTxn(NamedTuple):
    """setData (5) and reconfig (16). `version` is the new one."""

    path: Str
    data: Buffer
    version: Int


class SetACLTxn(NamedTuple):
    """setACL (7). `version` is the new aversion."""

    path: Str
    acl: OptAcl
    version: Int


class CheckVersionTxn(NamedTuple):
    """check (13), only in a multi. `version` is the current one plus one, as ZooKeeper writes it."""

    path: Str
    version: Int


class ErrorTxn(NamedTuple):
    """A write that the leader refused (-1): it changes nothing but has its zxid. `err` is the negative code."""

    err: Int


class CreateSessionTxn(NamedTuple):
    """createSession (-10). `timeout` in milliseconds; the header's client id is the new session."""

    timeout: Int


class CloseSessionTxn(NamedTuple):
    """closeSession (-11) with the session's ephemeral znodes (3.6)."""

    paths: Annotated[list[str], VECTOR]


class SubTxn(NamedTuple):
    """One operation of a multi: its type and record. A failed multi holds -1 from its failing operation on."""

    type: int
    record: Any


class MultiTxn(NamedTuple):
    """multi (14)."""

    txns: list[SubTxn]


class _WireSubTxn(NamedTuple):
    type: Int
    data: Buffer


class _WireMultiTxn(NamedTuple):
    txns: Annotated[list[_WireSubTxn], VECTOR]


class StatPersisted(NamedTuple):
    """A znode's Stat as snapshots hold it.

    `cversion` counts children ever created, not the changes that clients see; `ephemeral_owner` also says container and
    TTL (see `znodes.py`).
    """

    czxid: Long
    mzxid: Long
    ctime: Long
    mtime: Long
    version: Int
    cversion: Int
    aversion: Int
    ephemeral_owner: Long
    pzxid: Long


class SnapshotNode(NamedTuple):
    """A znode as snapshots hold it. The root's path is empty; `acl_id` -1 stands for an ACL open to everyone."""

    path: OptStr
    data: Buffer
    acl_id: Long
    stat: StatPersisted


class SnapshotAcl(NamedTuple):
    """One row of a snapshot's ACL table."""

    acl_id: Long
    acl: OptAcl


class SnapshotSession(NamedTuple):
    """One row of a snapshot's session table. `timeout` in milliseconds."""

    session_id: Long
    timeout: Int


class Txn(NamedTuple):
    """One entry: `record` is `None` only for a closeSession that carries no paths (before 3.6)."""

    header: TxnHeader
    record: Any
    digest: TxnDigest | None


RECORDS: dict[int, type[Any]] = {
    Opcode.CREATE: CreateTxn,
    Opcode.CREATE2: CreateTxn,
    Opcode.CREATE_CONTAINER: CreateContainerTxn,
    Opcode.CREATE_TTL: CreateTTLTxn,
    Opcode.DELETE: DeleteTxn,
    Opcode.DELETE_CONTAINER: DeleteTxn,
    Opcode.SET_DATA: SetDataTxn,
    Opcode.RECONFIG: SetDataTxn,
    Opcode.SET_ACL: SetACLTxn,
    Opcode.CHECK: CheckVersionTxn,
    Opcode.ERROR: ErrorTxn,
    Opcode.CREATE_SESSION: CreateSessionTxn,
    Opcode.CLOSE_SESSION: CloseSessionTxn,
    Opcode.MULTI: MultiTxn,
}
"""Record class of each transaction type."""

_CREATES = (Opcode.CREATE, Opcode.CREATE2)
_NEVER_IN_MULTI = (Opcode.CREATE_SESSION, Opcode.CLOSE_SESSION, Opcode.MULTI)
_encode_header = codec(TxnHeader).encode
_decode_header = codec(TxnHeader).decode
_encode_digest = codec(TxnDigest).encode
_decode_digest = codec(TxnDigest).decode
_decode_create_v1 = codec(CreateTxn).decode
_decode_create_v0 = codec(CreateTxnV0).decode
_encode_multi = codec(_WireMultiTxn).encode
_decode_multi = codec(_WireMultiTxn).decode
_encoders = {kind: codec(cls).encode for kind, cls in RECORDS.items() if cls is not MultiTxn}
_decoders = {kind: codec(cls).decode for kind, cls in RECORDS.items() if cls is not MultiTxn}


def encode_record(kind: int, record: Any) -> bytes:
    """Bytes of one record without header and digest. Raises `WireError` for a type that no transaction has."""
    if kind == Opcode.MULTI:
        return _encode_multi(_WireMultiTxn([_WireSubTxn(sub, encode_record(sub, body)) for sub, body in record.txns]))
    if record is None and kind == Opcode.CLOSE_SESSION:
        return b""
    encode = _encoders.get(kind)
    if encode is None:
        raise WireError(f"{kind} is no type of a transaction")
    return encode(record)


def encode_txn(txn: Txn) -> bytes:
    """Bytes of one entry. Raises `WireError`."""
    header, record, digest = txn
    body = _encode_header(header) + encode_record(header.type, record)
    return body if digest is None else body + _encode_digest(digest)


def decode_txn(data: bytes, start: int = 0, end: int | None = None) -> Txn:
    """The entry in `data[start:end]`. Raises `WireError`."""
    if end is None:
        end = len(data)
    header, pos = _decode_header(data, start, end)
    kind = header.type
    if kind == Opcode.CLOSE_SESSION and pos == end:
        return Txn(header, None, None)
    record, pos = _decode_record(kind, data, pos, end)
    if pos == end:
        return Txn(header, record, None)
    digest, pos = _decode_digest(data, pos, end)
    return Txn(header, record, digest)


def _decode_record(kind: int, data: bytes, pos: int, end: int) -> tuple[Any, int]:
    if kind == Opcode.MULTI:
        wire, pos = _decode_multi(data, pos, end)
        return MultiTxn([_decode_sub(sub.type, sub.data) for sub in wire.txns]), pos
    decode = _decoders.get(kind)
    if decode is None:
        raise WireError(f"{kind} is no type of a transaction")
    if kind in _CREATES:
        return _decode_create(data, pos, end)
    record: tuple[Any, int] = decode(data, pos, end)
    return record


def _decode_create(data: bytes, pos: int, end: int) -> tuple[CreateTxn, int]:
    try:
        return _decode_create_v1(data, pos, end)
    except WireError:
        old, after = _decode_create_v0(data, pos, end)
        if after != end:
            raise
        return CreateTxn(*old, -1), after


def _decode_sub(kind: int, data: bytes | None) -> SubTxn:
    if data is None:
        raise WireError(f"an operation of type {kind} in a multi has no record")
    # A record of type -1 may have the bytes of the operation it once was behind its code: servers up to 3.9 rewrite the
    # types of a failed multi in memory, and hand that on to servers that join later.
    if kind in _NEVER_IN_MULTI:
        raise WireError(f"a multi cannot hold an operation of type {kind}")
    record, _ = _decode_record(kind, data, 0, len(data))
    return SubTxn(kind, record)
