"""From a write to the transaction that is proposed: validation, in ZooKeeper's order, against what will be.

Only a leader or a standalone server prepares. Decides whether a write may happen and exactly what it does; every write
gets one transaction and one zxid, a refused one too. It applies nothing and answers nobody.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from terzetto.client import paths
from terzetto.client.errors import WireError
from terzetto.client.values import ACL, MAX_TTL_MS, Permissions
from terzetto.client.wire import codec, multi, records as r
from terzetto.client.wire.operations import Opcode

from .acl import AccessRules, NodeAcl
from .codes import (
    BAD_ARGUMENTS,
    BAD_VERSION,
    MARSHALLING_ERROR,
    NO_AUTH,
    NO_CHILDREN_FOR_EPHEMERALS,
    NO_NODE,
    NODE_EXISTS,
    NOT_EMPTY,
    QUOTA_EXCEEDED,
    RECONFIG_DISABLED,
    RUNTIME_INCONSISTENCY,
    UNIMPLEMENTED,
    Refused,
    Unprocessable,
)
from .connection import Request
from .datatree import RESERVED, DataTree
from .ids import signed32
from .outstanding import FutureZnode, OutstandingChanges
from .quotas import QUOTA_ROOT, Usage, decode_limits, decode_usage, is_fatal, limits_path, stats_path
from .sessions import SessionTracker
from .settings import ServerSettings
from .txns import (
    DIGEST_VERSION,
    CheckVersionTxn,
    CloseSessionTxn,
    CreateContainerTxn,
    CreateSessionTxn,
    CreateTTLTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetACLTxn,
    SetDataTxn,
    SubTxn,
    Txn,
    TxnDigest,
    TxnHeader,
)
from .znodes import CONTAINER_OWNER, Znode, session_of, ttl_owner

_AnyZnode = Znode | FutureZnode

_EPHEMERAL = (1, 3)
_SEQUENTIAL = (2, 3, 6)
_CONTAINER = 4
_WITH_TTL = (5, 6)
_FLAGS_MAX = 6

_CREATES = (Opcode.CREATE, Opcode.CREATE2, Opcode.CREATE_CONTAINER, Opcode.CREATE_TTL)
_TIMEOUT = struct.Struct(">i")
_ACL_CACHE_MAX = 256
_ACL_CACHED_ENTRIES_MAX = 8
_ACL_CACHED_ID_MAX = 128

_decode_create = codec(r.CreateRequest).decode
_decode_create_ttl = codec(r.CreateTTLRequest).decode
_decoders: dict[int, Callable[[bytes, int, int], tuple[Any, int]]] = {
    Opcode.CREATE: _decode_create,
    Opcode.CREATE2: _decode_create,
    Opcode.CREATE_CONTAINER: _decode_create,
    Opcode.CREATE_TTL: _decode_create_ttl,
    Opcode.DELETE: codec(r.DeleteRequest).decode,
    Opcode.SET_DATA: codec(r.SetDataRequest).decode,
    Opcode.SET_ACL: codec(r.SetACLRequest).decode,
}


class Preparer:
    """Turns writes into transactions, one after the other.

    Args:
        tree: what has been applied.
        tracker: the sessions that may act.
        access: judges ACLs.
        settings: what the operator allows.

    Attributes:
        last_zxid: the last zxid given out.
    """

    def __init__(self, tree: DataTree, tracker: SessionTracker, access: AccessRules, settings: ServerSettings) -> None:
        self._tree = tree
        self._tracker = tracker
        self._access = access
        self._settings = settings
        self._changes = OutstandingChanges(tree)
        self._acl_cache: dict[tuple[ACL, ...], NodeAcl] = {}
        self.last_zxid = tree.last_zxid
        # Of the request under preparation.
        self._request = Request(0, 0, 0, b"")
        self._zxid = 0
        self._time = 0
        self._operations: dict[int, Callable[[int, Any], Any]] = {
            Opcode.CREATE: self._create,
            Opcode.CREATE2: self._create,
            Opcode.CREATE_CONTAINER: self._create,
            Opcode.CREATE_TTL: self._create,
            Opcode.DELETE: self._delete,
            Opcode.SET_DATA: self._set_data,
            Opcode.SET_ACL: self._set_acl,
            Opcode.CHECK: self._check,
        }
        self._others: dict[int, Callable[[Request], Any]] = {
            Opcode.MULTI: self._multi,
            Opcode.CREATE_SESSION: self._create_session,
            Opcode.CLOSE_SESSION: self._close_session,
            Opcode.DELETE_CONTAINER: self._delete_container,
            Opcode.RECONFIG: self._reconfig,
        }

    def prepare(self, request: Request, wall_ms: int) -> Txn:
        """The transaction for a write; a refused one gets an error transaction.

        Args:
            request: the write, with its body still encoded.
            wall_ms: the transaction's time.
        """
        self._request = request
        self._time = wall_ms
        self.last_zxid = self._zxid = request.zxid = self.last_zxid + 1
        kind = request.opcode
        try:
            other = self._others.get(kind)
            record = self._single(request) if other is None else other(request)
        except Refused as refusal:
            return self._error(refusal.code)
        except (WireError, Unprocessable):
            return self._error(MARSHALLING_ERROR)
        header = TxnHeader(request.session_id, request.cxid, self._zxid, wall_ms, kind)
        if not self._settings.tree_digest:
            return Txn(header, record, None)
        return Txn(header, record, TxnDigest(DIGEST_VERSION, self._changes.digest))

    def refuse(self, request: Request, code: int, wall_ms: int) -> Txn:
        """The error transaction for a request that is no write: whoever forwarded it waits for one all the same."""
        self._request = request
        self._time = wall_ms
        self.last_zxid = self._zxid = request.zxid = self.last_zxid + 1
        return self._error(code)

    @property
    def outstanding(self) -> int:
        """Changes that have been prepared and not applied."""
        return len(self._changes)

    def applied(self, zxid: int) -> None:
        """The transaction `zxid` has been applied to the tree."""
        self._changes.applied(zxid)

    def _error(self, code: int) -> Txn:
        request = self._request
        header = TxnHeader(request.session_id, request.cxid, self._zxid, self._time, Opcode.ERROR)
        return Txn(header, ErrorTxn(code), None)

    def _single(self, request: Request) -> Any:
        kind, body = request.opcode, request.body
        # ZooKeeper asks for the session first, except that it decodes a create before.
        if kind in (Opcode.DELETE, Opcode.SET_DATA, Opcode.SET_ACL):
            self._tracker.check(request.session_id, request.owner)
        record, _ = _decoders[kind](body, 0, len(body))
        return self._operations[kind](kind, record)

    def _multi(self, request: Request) -> MultiTxn:
        body = request.body
        ops = multi.decode_requests(body, 0, len(body), multi.WRITE_REQUESTS)
        if any(record.path is None for _, record in ops):
            raise Unprocessable("a path in a multi is null")
        txns: list[SubTxn] = []
        refused = False
        changes = self._changes
        changes.begin()
        try:
            for asked, record in ops:
                if refused:
                    txns.append(SubTxn(Opcode.ERROR, ErrorTxn(RUNTIME_INCONSISTENCY)))
                    continue
                kind = _kind_in_multi(asked, record)
                try:
                    self._tracker.check(request.session_id, request.owner)
                    txns.append(SubTxn(kind, self._operations[kind](kind, record)))
                except Refused as refusal:
                    refused = True
                    txns.append(SubTxn(Opcode.ERROR, ErrorTxn(refusal.code)))
        except Unprocessable:
            changes.undo()
            raise
        if refused:
            changes.undo()
        else:
            changes.keep()
        return MultiTxn(txns)

    # One method an operation: (opcode, request record) to transaction record.

    def _create(self, kind: int, record: r.CreateRequest | r.CreateTTLRequest) -> Any:
        path, data, acl, flags = record[:4]
        ttl = self._checked_mode(kind, record)
        self._tracker.check(self._request.session_id, self._request.owner)
        if path is None:
            raise Unprocessable("a path is null")
        slash = path.rfind("/")
        if slash < 0 or "\0" in path:
            raise Refused(BAD_ARGUMENTS)
        node_acl = self._fixed_acl(acl)
        parent_path = path[:slash]
        changes = self._changes
        parent = changes.find(parent_path)
        if parent is None:
            raise Refused(NO_NODE)
        self._demand(parent, Permissions.CREATE)
        if flags in _SEQUENTIAL:
            path = f"{path}{parent.cversion:010d}"
        if not paths.is_valid(path) or (path.startswith(QUOTA_ROOT) and is_fatal(path, data, new=True)):
            raise Refused(BAD_ARGUMENTS)
        if path == "/" or changes.find(path) is not None:
            raise Refused(NODE_EXISTS)
        if parent.ephemeral_owner and session_of(parent.ephemeral_owner):
            raise Refused(NO_CHILDREN_FOR_EPHEMERALS)
        self._check_quota(path, Usage(1, len(data or b"")))
        zxid = self._zxid
        new_parent = FutureZnode.of(parent, zxid)
        new_parent.child_count += 1
        cversion = signed32(parent.cversion + 1)
        # The count sticks at 2**31 - 1, because the tree only ever raises it.
        if cversion > parent.cversion:
            new_parent.cversion = cversion
            new_parent.pzxid = zxid
        changes.put(parent_path, new_parent)
        stored = list(node_acl.entries)
        owner = 0
        txn: CreateTxn | CreateContainerTxn | CreateTTLTxn
        if kind == Opcode.CREATE_CONTAINER:
            owner = CONTAINER_OWNER
            txn = CreateContainerTxn(path, data, stored, cversion)
        elif kind == Opcode.CREATE_TTL:
            owner = ttl_owner(ttl)
            txn = CreateTTLTxn(path, data, stored, cversion, ttl)
        else:
            ephemeral = flags in _EPHEMERAL
            if ephemeral:
                owner = self._request.session_id
            txn = CreateTxn(path, data, stored, ephemeral, cversion)
        changes.put(path, FutureZnode(zxid, data, node_acl, self._time, owner))
        return txn

    def _checked_mode(self, kind: int, record: r.CreateRequest | r.CreateTTLRequest) -> int:
        """Checks flags against opcode and time to live; returns the latter.

        A TTL opcode without TTL flags is refused whatever the time is: ZooKeeper up to 3.9 logs such a request with a
        negative time, dies of applying it, and again of replaying it.
        """
        flags = record.flags
        if not 0 <= flags <= _FLAGS_MAX:
            raise Refused(BAD_ARGUMENTS)
        if flags in _WITH_TTL and not self._settings.extended_types:
            raise Refused(UNIMPLEMENTED)
        if kind != Opcode.CREATE_TTL or not isinstance(record, r.CreateTTLRequest):
            if flags in _WITH_TTL:
                raise Refused(BAD_ARGUMENTS)
            return 0
        if flags not in _WITH_TTL or not 1 <= record.ttl <= MAX_TTL_MS:
            raise Refused(BAD_ARGUMENTS)
        return record.ttl

    def _delete(self, _kind: int, record: r.DeleteRequest) -> DeleteTxn:
        path, version = record
        path, parent_path = _checked_for_delete(path)
        parent = self._changes.find(parent_path)
        if parent is None:
            raise Refused(NO_NODE)
        self._demand(parent, Permissions.DELETE)
        node = self._found(path)
        if version not in (-1, node.version):
            raise Refused(BAD_VERSION)
        return self._deleted(path, node, parent_path, parent)

    def _deleted(self, path: str, node: _AnyZnode, parent_path: str, parent: _AnyZnode) -> DeleteTxn:
        if node.child_count > 0:
            raise Refused(NOT_EMPTY)
        self._remove(path, node, parent_path, parent)
        return DeleteTxn(path)

    def _remove(self, path: str, node: _AnyZnode, parent_path: str, parent: _AnyZnode) -> None:
        new_parent = FutureZnode.of(parent, self._zxid)
        new_parent.child_count -= 1
        new_parent.pzxid = self._zxid
        self._changes.put(parent_path, new_parent)
        self._changes.drop(path, node, self._zxid)

    def _set_data(self, _kind: int, record: r.SetDataRequest) -> SetDataTxn:
        path, data, version = record
        key, node = self._target(path)
        if key.startswith(QUOTA_ROOT) and is_fatal(key, data, new=False):
            raise Refused(BAD_ARGUMENTS)
        self._demand(node, Permissions.WRITE)
        self._check_quota(key, Usage(0, len(data or b"") - len(node.data or b"")))
        if version not in (-1, node.version):
            raise Refused(BAD_VERSION)
        changed = FutureZnode.of(node, self._zxid)
        changed.data = data
        changed.version = signed32(node.version + 1)
        changed.mzxid = self._zxid
        changed.mtime = self._time
        self._changes.put(key, changed)
        return SetDataTxn(path or "", data, changed.version)

    def _set_acl(self, _kind: int, record: r.SetACLRequest) -> SetACLTxn:
        path, acl, version = record
        _check_path(path)
        node_acl = self._fixed_acl(acl)
        key, node = self._target(path)
        self._demand(node, Permissions.ADMIN)
        if version not in (-1, node.aversion):
            raise Refused(BAD_VERSION)
        changed = FutureZnode.of(node, self._zxid)
        changed.acl = node_acl
        changed.aversion = signed32(node.aversion + 1)
        self._changes.put(key, changed)
        return SetACLTxn(path or "", list(node_acl.entries), changed.aversion)

    def _check(self, _kind: int, record: r.CheckVersionRequest) -> CheckVersionTxn:
        path, version = record
        _, node = self._target(path)
        self._demand(node, Permissions.READ)
        if version not in (-1, node.version):
            raise Refused(BAD_VERSION)
        return CheckVersionTxn(path or "", signed32(node.version + 1))

    def _create_session(self, request: Request) -> CreateSessionTxn:
        try:
            (timeout_ms,) = _TIMEOUT.unpack_from(request.body)
        except struct.error as error:
            raise WireError("a createSession has no timeout") from error
        self._tracker.track(request.session_id, timeout_ms, request.received_ms, request.owner)
        return CreateSessionTxn(timeout_ms)

    def _close_session(self, request: Request) -> CloseSessionTxn:
        changes = self._changes
        owned = changes.ephemerals(request.session_id)
        for path in owned:
            parent_path = path[: path.rfind("/")]
            self._remove(path, self._found(path), parent_path, self._found(parent_path))
        self._tracker.set_closing(request.session_id)
        return CloseSessionTxn(owned)

    def _delete_container(self, request: Request) -> DeleteTxn:
        path, parent_path = _checked_for_delete(request.body.decode())
        node = self._found(path)
        if node.child_count == 0 and session_of(node.ephemeral_owner):
            # An ephemeral has taken the place of the container that was found empty.
            raise Refused(BAD_VERSION)
        return self._deleted(path, node, parent_path, self._found(parent_path))

    def _reconfig(self, request: Request) -> Any:
        if not self._settings.reconfig_enabled:
            raise Refused(RECONFIG_DISABLED)
        self._tracker.check(request.session_id, request.owner)
        # A server on its own has no ensemble to change.
        raise Refused(UNIMPLEMENTED)

    # What several operations ask.

    def _found(self, path: str) -> _AnyZnode:
        node = self._changes.find(path)
        if node is None:
            raise Refused(NO_NODE)
        return node

    def _target(self, path: str | None) -> tuple[str, _AnyZnode]:
        """The znode that a request names, and the path under which changes know it."""
        key = _check_path(path)
        if key == "/":
            key = ""
        return key, self._found(key)

    def _demand(self, node: _AnyZnode, permission: int) -> None:
        acl = node.acl
        if not acl.everyone & permission and not self._access.allows(acl, permission, self._request.ids):
            raise Refused(NO_AUTH)

    def _fixed_acl(self, acl: list[ACL] | None) -> NodeAcl:
        key = tuple(acl or ())
        found = self._acl_cache.get(key)
        if found is not None:
            return found
        fixed = NodeAcl(0, self._access.fixed(key, self._request.ids))
        if _is_cacheable(key):
            if len(self._acl_cache) >= _ACL_CACHE_MAX:
                self._acl_cache.clear()
            self._acl_cache[key] = fixed
        return fixed

    def _check_quota(self, path: str, grown: Usage) -> None:
        if not self._settings.enforce_quota:
            return
        nodes = self._tree.nodes
        root = self._tree.quota_root(path)
        limits = None if root is None else nodes.get(limits_path(root))
        stats = None if root is None else nodes.get(stats_path(root))
        if limits is None or stats is None:
            return
        if decode_limits(limits.data).exceeded(decode_usage(stats.data), grown):
            raise Refused(QUOTA_EXCEEDED)


def _is_cacheable(acl: tuple[ACL, ...]) -> bool:
    """Whether a list means the same for every connection (what `auth` stands for does not), and is short enough."""
    return len(acl) <= _ACL_CACHED_ENTRIES_MAX and all(
        scheme != "auth" and len(acl_id) <= _ACL_CACHED_ID_MAX for _, (scheme, acl_id) in acl
    )


def _kind_in_multi(kind: int, record: Any) -> int:
    """What an operation of a multi is: there the flags of a create decide, whatever its opcode.

    create2 is logged as create, because servers up to 3.7.1 and 3.8.1 apply no create2 inside a multi.
    """
    if kind not in _CREATES:
        return kind
    if record.flags in _WITH_TTL:
        if kind != Opcode.CREATE_TTL:
            raise Unprocessable("a create with a time to live has none")
        return kind
    return Opcode.CREATE_CONTAINER if record.flags == _CONTAINER else Opcode.CREATE


def _check_path(path: str | None) -> str:
    if path is None or not paths.is_valid(path):
        raise Refused(BAD_ARGUMENTS)
    return path


def _checked_for_delete(path: str | None) -> tuple[str, str]:
    """The path and its parent's. A path that merely names no znode is not refused here."""
    if path is None:
        raise Unprocessable("a path is null")
    slash = path.rfind("/")
    if slash < 0 or "\0" in path or path in RESERVED:
        raise Refused(BAD_ARGUMENTS)
    return path, path[:slash]
