"""The replicated state: znodes, ACLs, ephemerals, sessions, quota statistics and the tree's digest.

Decides what a transaction does, live and in replay, by rules that converge when transactions are applied to a tree that
has some of them already (a fuzzy snapshot). It judges nothing: whatever is in a transaction was allowed by the leader.
It knows neither connections nor watches; `events` says what they need to know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from terzetto.client.values import ACL, ANYONE_ID_UNSAFE, Permissions
from terzetto.client.wire.operations import Opcode

from .acl import OPEN_ACL, AclTable, NodeAcl
from .codes import NO_NODE, NODE_EXISTS, OK, RUNTIME_INCONSISTENCY
from .ids import signed32
from .quotas import QUOTA_ROOT, Usage, counted_root, decode_limits, decode_usage, limited_root, limits_path, stats_path
from .txns import (
    DIGEST_VERSION,
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
    SnapshotAcl,
    SnapshotNode,
    SnapshotSession,
    Txn,
    TxnHeader,
)
from .znodes import CONTAINER_OWNER, Znode, node_digest, session_of, ttl_owner

logger = logging.getLogger("terzetto.testcluster.datatree")

CREATED = 1
DELETED = 2
CHANGED = 3
CHILD = 4

ROOT = ""
SYSTEM = "/zookeeper"
CONFIG = "/zookeeper/config"
RESERVED = frozenset({ROOT, "/", SYSTEM, QUOTA_ROOT, CONFIG})
"""Znodes that every tree has and nobody can delete."""

Event = tuple[int, str, NodeAcl]
"""What happened to which znode, and the ACL that says who may learn of it."""


class CorruptTreeError(ValueError):
    """The rows of a snapshot do not form a tree."""


class SubResult(NamedTuple):
    """Outcome of one operation of a multi; the Stat is the one right after it, where the znode still is."""

    type: int
    err: int
    path: str
    stat: bytes


class DataTree:
    """A tree of znodes and the sessions that go with it.

    Attributes:
        nodes: every znode by full path; the root under "" and, as ZooKeeper has it, again under "/".
        ephemerals: session id to the paths of its ephemeral znodes.
        containers: paths of container znodes.
        ttls: paths of TTL znodes.
        sessions: session id to its timeout in milliseconds.
        last_zxid: the highest zxid applied.
        digest: the tree digest now.
        digest_valid_from: digests of transactions are compared after this zxid.
        digest_mismatches: transactions, and snapshots, whose digest was not the tree's.
        data_size: characters of all paths plus bytes of all data.
        events: what the last transaction did, for watches.
        results: outcomes of the operations of the last transaction, when it was a multi.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Znode] = {}
        self.acls = AclTable()
        self.ephemerals: dict[int, dict[str, None]] = {}
        self.containers: dict[str, None] = {}
        self.ttls: dict[str, None] = {}
        self.sessions: dict[int, int] = {}
        self.last_zxid = 0
        self.digest = 0
        self.digest_valid_from = 0
        self.digest_mismatches = 0
        self.data_size = 0
        # Not after a snapshot that does not say how late its last trace is, such as a leader's over the wire: until a
        # digest agrees, replay has not caught up with it.
        self._is_exact = True
        self.events: list[Event] = []
        self.results: list[SubResult] = []
        self._quota_roots: dict[str, None] = {}
        self._appliers: dict[int, Callable[[TxnHeader, Any], int]] = {
            Opcode.CREATE: self._apply_create,
            Opcode.CREATE2: self._apply_create,
            Opcode.CREATE_CONTAINER: self._apply_create_container,
            Opcode.CREATE_TTL: self._apply_create_ttl,
            Opcode.DELETE: self._apply_delete,
            Opcode.DELETE_CONTAINER: self._apply_delete,
            Opcode.SET_DATA: self._apply_set_data,
            Opcode.RECONFIG: self._apply_set_data,
            Opcode.SET_ACL: self._apply_set_acl,
            Opcode.CHECK: self._apply_check,
            Opcode.ERROR: self._apply_error,
            Opcode.CREATE_SESSION: self._apply_create_session,
            Opcode.CLOSE_SESSION: self._apply_close_session,
            Opcode.MULTI: self._apply_multi,
        }
        self._grow_built_in()

    def _grow_built_in(self) -> None:
        for path in (ROOT, SYSTEM, QUOTA_ROOT, CONFIG):
            if path in self.nodes:
                continue
            acl = self.acls.intern([ACL(Permissions.READ, ANYONE_ID_UNSAFE)]) if path == CONFIG else OPEN_ACL
            node = Znode(b"", acl, 0, 0, 0)
            # ZooKeeper gives this one its ACL by a setACL of version -1.
            node.aversion = -1 if path == CONFIG else 0
            if path != ROOT:
                self._adopt(path, node)
            self._enter(path, node)
        self.nodes["/"] = self.nodes[ROOT]

    def _adopt(self, path: str, node: Znode) -> None:
        parent = self.nodes[path.rpartition("/")[0]]
        if parent.children is None:
            parent.children = {}
        parent.children[path] = node

    def _enter(self, path: str, node: Znode) -> None:
        """Puts a complete znode into every index but its parent's."""
        self.nodes[path] = node
        node.digest = node_digest(path, node.data, node.digest_fields())
        self.digest += node.digest
        self.data_size += len(path) + len(node.data or b"")
        owner = node.ephemeral_owner
        if owner:
            session = session_of(owner)
            if session:
                self.ephemerals.setdefault(session, {})[path] = None
            elif owner == CONTAINER_OWNER:
                self.containers[path] = None
            else:
                self.ttls[path] = None

    def _leave(self, path: str, node: Znode) -> None:
        """The reverse of `_enter`."""
        del self.nodes[path]
        self.digest -= node.digest
        self.data_size -= len(path) + len(node.data or b"")
        self.acls.release(node.acl)
        owner = node.ephemeral_owner
        if owner:
            session = session_of(owner)
            if session:
                owned = self.ephemerals[session]
                del owned[path]
                if not owned:
                    del self.ephemerals[session]
            elif owner == CONTAINER_OWNER:
                del self.containers[path]
            else:
                del self.ttls[path]

    def _redigest(self, path: str, node: Znode) -> None:
        digest = node_digest(path, node.data, node.digest_fields())
        self.digest += digest - node.digest
        node.digest = digest

    def apply(self, txn: Txn) -> int:
        """Applies a transaction; returns the code that its request is answered with.

        Refusals are results, never exceptions: in replay a transaction may find its work done.
        """
        header, record, digest = txn
        self.events = []
        code = self._appliers[header.type](header, record)
        zxid = header.zxid
        if zxid > self.last_zxid:
            self.last_zxid = zxid
        if digest is not None and zxid > self.digest_valid_from:
            if digest.tree_digest == self.digest:
                self._is_exact = True
            elif self._is_exact:
                self._report_mismatch(txn)
        return code

    def _report_mismatch(self, txn: Txn) -> None:
        # ZooKeeper may leave the digest of what it had begun on a transaction that it then made an error.
        if txn.digest is not None and txn.digest.version == DIGEST_VERSION and txn.header.type != Opcode.ERROR:
            self.digest_mismatches += 1
            logger.error(
                "digest mismatch at zxid %#x (type %d): %d in the transaction, %d in the tree",
                txn.header.zxid,
                txn.header.type,
                txn.digest.tree_digest,
                self.digest,
            )

    # One applier a transaction type: (header, record) to code.

    def _apply_create(self, header: TxnHeader, record: CreateTxn) -> int:
        path, data, acl, ephemeral, parent_cversion = record
        owner = header.client_id if ephemeral else 0
        return self._create(header, path, data, acl, owner, parent_cversion)

    def _apply_create_container(self, header: TxnHeader, record: CreateContainerTxn) -> int:
        path, data, acl, parent_cversion = record
        return self._create(header, path, data, acl, CONTAINER_OWNER, parent_cversion)

    def _apply_create_ttl(self, header: TxnHeader, record: CreateTTLTxn) -> int:
        path, data, acl, parent_cversion, ttl = record
        return self._create(header, path, data, acl, ttl_owner(ttl), parent_cversion)

    def _create(
        self,
        header: TxnHeader,
        path: str,
        data: bytes | None,
        acl: Iterable[ACL] | None,
        owner: int,
        parent_cversion: int,
    ) -> int:
        parent_path = path[: path.rfind("/")]
        nodes = self.nodes
        parent = nodes.get(parent_path)
        if parent is None:
            return NO_NODE
        zxid = header.zxid
        if parent_cversion == -1:
            parent_cversion = signed32(parent.cversion + 1)
        # Only ever raised: the parent may come from a snapshot that saw later children.
        if parent_cversion > parent.cversion:
            parent.cversion = parent_cversion
            parent.pzxid = zxid
            self._redigest(parent_path, parent)
        node_acl = OPEN_ACL if acl is None else self.acls.intern(acl)
        if path in nodes:
            self._keep_existing(nodes[path], node_acl)
            return NODE_EXISTS
        node = Znode(data, node_acl, zxid, header.time, owner)
        if parent.children is None:
            parent.children = {path: node}
        else:
            parent.children[path] = node
        self._enter(path, node)
        self.events.append((CREATED, path, node_acl))
        self.events.append((CHILD, parent_path or "/", parent.acl))
        if self._quota_roots or parent_path.startswith(QUOTA_ROOT):
            self._count_created(path, data)
        return OK

    def _keep_existing(self, node: Znode, acl: NodeAcl) -> None:
        if node.acl.is_undefined:
            node.acl, acl = acl, node.acl
        self.acls.release(acl)

    def _apply_delete(self, header: TxnHeader, record: DeleteTxn) -> int:
        return self._delete(header.zxid, record.path)

    def _delete(self, zxid: int, path: str) -> int:
        parent_path = path[: path.rfind("/")]
        parent = self.nodes.get(parent_path)
        if parent is None:
            return NO_NODE
        children = parent.children
        if children is not None and children.pop(path, None) is not None and not children:
            parent.children = None
        if zxid > parent.pzxid:
            parent.pzxid = zxid
            self._redigest(parent_path, parent)
        node = self.nodes.get(path)
        if node is None:
            return NO_NODE
        self._leave(path, node)
        self.events.append((DELETED, path, node.acl))
        self.events.append((CHILD, parent_path or "/", parent.acl))
        if self._quota_roots:
            self._quota_roots.pop(limited_root(path) or "", None)
            self._count(path, -1, -len(node.data or b""))
        return OK

    def _apply_set_data(self, header: TxnHeader, record: SetDataTxn) -> int:
        path, data, version = record
        node = self.nodes.get(path)
        if node is None:
            return NO_NODE
        grown = len(data or b"") - len(node.data or b"")
        node.data = data
        node.version = version
        node.mzxid = header.zxid
        node.mtime = header.time
        self._redigest(path, node)
        self.data_size += grown
        self.events.append((CHANGED, path, node.acl))
        if self._quota_roots:
            self._count(path, 0, grown)
        return OK

    def _apply_set_acl(self, _header: TxnHeader, record: SetACLTxn) -> int:
        path, acl, version = record
        node = self.nodes.get(path)
        if node is None:
            return NO_NODE
        old, node.acl = node.acl, OPEN_ACL if acl is None else self.acls.intern(acl)
        self.acls.release(old)
        node.aversion = version
        self._redigest(path, node)
        return OK

    def _apply_check(self, _header: TxnHeader, _record: Any) -> int:
        return OK

    def _apply_error(self, _header: TxnHeader, record: ErrorTxn) -> int:
        return record.err

    def _apply_create_session(self, header: TxnHeader, record: CreateSessionTxn) -> int:
        self.sessions[header.client_id] = record.timeout
        return OK

    def _apply_close_session(self, header: TxnHeader, record: CloseSessionTxn | None) -> int:
        session_id = header.client_id
        self.sessions.pop(session_id, None)
        if record is not None:
            for path in record.paths:
                self._delete(header.zxid, path)
        for path in list(self.ephemerals.get(session_id, ())):
            self._delete(header.zxid, path)
        return OK

    def _apply_multi(self, header: TxnHeader, record: MultiTxn) -> int:
        failed = any(kind == Opcode.ERROR for kind, _ in record.txns)
        self.results = self._failures(record) if failed else [self._apply_sub(header, *sub) for sub in record.txns]
        return OK

    def _failures(self, record: MultiTxn) -> list[SubResult]:
        results: list[SubResult] = []
        code = OK
        for kind, body in record.txns:
            if kind == Opcode.ERROR and code == OK:
                code = body.err
                results.append(SubResult(Opcode.ERROR, code, "", b""))
            else:
                results.append(SubResult(Opcode.ERROR, OK if code == OK else RUNTIME_INCONSISTENCY, "", b""))
        return results

    def _apply_sub(self, header: TxnHeader, kind: int, record: Any) -> SubResult:
        code = self._appliers[kind](header, record)
        path: str = record.path
        node = self.nodes.get(path)
        return SubResult(kind, code, path, b"" if node is None else node.stat())

    # Quotas: statistics are kept here, as a side effect that no transaction describes.

    def quota_root(self, path: str) -> str | None:
        """The nearest znode at or above `path` that has limits."""
        roots = self._quota_roots
        while path:
            if path in roots:
                return path
            path = path[: path.rfind("/")]
        return None

    def _count_created(self, path: str, data: bytes | None) -> None:
        limited = limited_root(path)
        if limited is not None:
            self._quota_roots[limited] = None
        counted = counted_root(path)
        if counted is not None:
            self._recount(counted)
        self._count(path, 1, len(data or b""))

    def _recount(self, root: str) -> None:
        stats = self.nodes.get(stats_path(root))
        if stats is not None:
            znodes, size = 0, 0
            for _, node in self._subtree(root):
                znodes += 1
                size += len(node.data or b"")
            self._write_statistics(stats, Usage(znodes, size))

    def _write_statistics(self, stats: Znode, usage: Usage) -> None:
        text = usage.encode()
        self.data_size += len(text) - len(stats.data or b"")
        stats.data = text

    def _count(self, path: str, znodes: int, size: int) -> None:
        root = self.quota_root(path)
        stats = None if root is None else self.nodes.get(stats_path(root))
        if root is None or stats is None:
            return
        before = decode_usage(stats.data)
        usage = Usage(before.znodes + znodes, before.size + size)
        self._write_statistics(stats, usage)
        limits = self.nodes.get(limits_path(root))
        if limits is not None and decode_limits(limits.data).warned(usage):
            logger.warning("quota of %s passed: %s, limits %s", root, usage, limits.data)

    def _subtree(self, path: str) -> Iterator[tuple[str, Znode]]:
        """Parents before children. The tree may change between two steps: what is gone by then is left out."""
        stack = [path]
        while stack:
            path = stack.pop()
            node = self.nodes.get(path)
            if node is None:
                continue
            children = node.children
            if children:
                stack.extend(reversed(children))
            yield path, node

    def count_descendants(self, path: str) -> int:
        """Znodes below `path`, which exists."""
        node = self.nodes[path]
        if node is self.nodes[ROOT]:
            # ZooKeeper counts the keys of its index that start with "/", its second name for the root among them.
            return len(self.nodes) - (1 if path == ROOT else 2)
        return sum(1 for _ in self._subtree(path)) - 1

    # Snapshots.

    def walk(self) -> Iterator[SnapshotNode]:
        """The rows of a snapshot: parents first, the root's path empty. Transactions may be applied meanwhile."""
        for path, node in self._subtree(ROOT):
            yield SnapshotNode(path, node.data, node.acl.acl_id, node.persisted())

    def load(
        self,
        zxid: int,
        sessions: Iterable[SnapshotSession],
        acls: Iterable[SnapshotAcl],
        nodes: Iterable[SnapshotNode],
        digest: tuple[int, int, int] | None = None,
    ) -> None:
        """Replaces everything by a snapshot.

        Args:
            zxid: the zxid that names the snapshot.
            sessions: its session table.
            acls: its ACL table.
            nodes: its znodes, parents first.
            digest: its digest section (zxid, version, tree digest), `None` where it has none.

        Raises:
            CorruptTreeError: a znode comes without its parent, or twice.
        """
        self.nodes.clear()
        self.ephemerals.clear()
        self.containers.clear()
        self.ttls.clear()
        self._quota_roots.clear()
        self.digest = self.digest_mismatches = self.data_size = 0
        self.events, self.results = [], []
        self.sessions = dict(sessions)
        self.acls.load(acls)
        for row in nodes:
            self._load_row(row)
        self._grow_built_in()
        self.last_zxid = zxid
        self.digest_valid_from = zxid
        self._is_exact = digest is not None
        if digest is not None:
            self._check_loaded(zxid, *digest)
        for path, _ in self._subtree(QUOTA_ROOT):
            root = limited_root(path)
            if root is not None:
                self._quota_roots[root] = None
                self._recount(root)

    def _load_row(self, row: SnapshotNode) -> None:
        path = row.path
        if path is None or path in self.nodes or (path and "/" not in path):
            raise CorruptTreeError(f"a snapshot cannot hold a znode {path!r} here")
        parent_path = path.rpartition("/")[0]
        if path and parent_path not in self.nodes:
            raise CorruptTreeError(f"the snapshot has no parent for {path!r}")
        node = Znode.restore(row.data, self.acls.use(row.acl_id), row.stat)
        if path:
            self._adopt(path, node)
        self._enter(path, node)

    def _check_loaded(self, snapshot_zxid: int, zxid: int, version: int, digest: int) -> None:
        # A digest taken later than the name of the file belongs to a tree that replay has yet to reach.
        self.digest_valid_from = max(snapshot_zxid, zxid)
        if zxid != snapshot_zxid or version != DIGEST_VERSION or digest == self.digest:
            return
        # ZooKeeper 3.8.0 writes the first snapshot of a new server before it computes a digest, and 0 in its place.
        if (zxid, digest) == (0, 0):
            return
        # No reason to refuse the snapshot, whose seal was right: ZooKeeper applies while it writes, so traces of the
        # transaction behind `zxid` may be in it, and replay makes them whole. Digests of transactions judge the rest.
        self.digest_mismatches += 1
        logger.warning(
            "digest mismatch in snapshot %#x: %d there, %d in the tree; it may hold traces of the next transaction",
            zxid,
            digest,
            self.digest,
        )

    def finish_recovery(self) -> None:
        """After the last replayed transaction: drops what no session owns and no znode uses."""
        for session_id in [owner for owner in self.ephemerals if owner not in self.sessions]:
            for path in list(self.ephemerals.get(session_id, ())):
                self._delete(self.last_zxid, path)
        self.events = []
        self.acls.purge()

    def set_config(self, text: bytes, *, version: int, wall_ms: int) -> None:
        """Writes /zookeeper/config from the server's own configuration: no transaction, and no part of the digest."""
        node = self.nodes.get(CONFIG)
        if node is None:  # a leader that lets it be deleted is no reason to stop
            return
        self.data_size += len(text) - len(node.data or b"")
        node.data = text
        node.version = node.aversion = -1
        node.mzxid = version
        node.mtime = wall_ms
