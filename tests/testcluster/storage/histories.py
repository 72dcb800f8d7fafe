"""Histories for storages: random transactions with right digests, and trees to compare what comes back.

Decides what a plausible history is. The trees are the product's own, so what a storage loses, doubles or reorders shows
as another digest.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from terzetto.client.values import ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id, ZnodeStat
from terzetto.client.wire import codec
from terzetto.client.wire.operations import Opcode
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.ids import make_zxid
from terzetto.testcluster.storage.interface import Recovery, Storage
from terzetto.testcluster.storage.snapshot import SnapshotDigest, encode_snapshot
from terzetto.testcluster.storage.txnlog import LoggedTxn
from terzetto.testcluster.txns import (
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
    SnapshotSession,
    SubTxn,
    Txn,
    TxnDigest,
    TxnHeader,
    decode_txn,
    encode_txn,
)
from tests.vectors.disk import GoldenZnode

FIRST_TIME = 1_600_000_000_000


class History:
    """Grows a tree by random writes and keeps the transactions.

    Args:
        chance: decides what is written.
        tree: to go on from; a new one by default.

    Attributes:
        tree: after the last transaction.
        txns: all so far, as a log holds them.
    """

    def __init__(self, chance: random.Random, tree: DataTree | None = None) -> None:
        self.tree = DataTree() if tree is None else tree
        self.txns: list[LoggedTxn] = []
        self._chance = chance
        self._epoch, self._counter = self.tree.last_zxid >> 32, self.tree.last_zxid & 0xFFFFFFFF
        self._names = 0

    def next_epoch(self) -> None:
        """Lets the next transaction be the first of the next epoch."""
        self._epoch, self._counter = self._epoch + 1, 0

    def grow(self, count: int) -> list[LoggedTxn]:
        """Appends and returns `count` more transactions."""
        return [self._append(*self._choose()) for _ in range(count)]

    def create(self, path: str, data: bytes = b"") -> LoggedTxn:
        """Appends and returns the create of one znode."""
        return self._append(Opcode.CREATE, 1, CreateTxn(path, data, OPEN_ACL_UNSAFE, False, self._cversion(path)))

    def set_data(self, path: str, data: bytes) -> LoggedTxn:
        """Appends and returns a change of one znode."""
        return self._append(Opcode.SET_DATA, 1, SetDataTxn(path, data, self.tree.nodes[path].version + 1))

    def _cversion(self, path: str) -> int:
        """The parent's count of creates after the create of `path`: absolute, so that it can be applied twice."""
        return self.tree.nodes[path.rpartition("/")[0]].cversion + 1

    def _append(self, kind: int, session: int, record: Any) -> LoggedTxn:
        self._counter += 1
        zxid = make_zxid(self._epoch, self._counter)
        header = TxnHeader(session, zxid & 0xFFFF, zxid, FIRST_TIME + len(self.txns), kind)
        self.tree.apply(Txn(header, record, None))
        digest = None if kind == Opcode.ERROR else TxnDigest(DIGEST_VERSION, self.tree.digest)
        logged = LoggedTxn(zxid, encode_txn(Txn(header, record, digest)))
        self.txns.append(logged)
        return logged

    def _paths(self) -> list[str]:
        return [path for path in self.tree.nodes if len(path) > 1 and not path.startswith("/zookeeper")]

    def _new_path(self) -> str:
        self._names += 1
        parents = [path for path in self._paths() if not self.tree.nodes[path].ephemeral_owner]
        parent = self._chance.choice([*parents, ""])
        return f"{parent}/n{self.tree.last_zxid:x}-{self._names}"

    def _data(self) -> bytes | None:
        return self._chance.choice([None, b"", self._chance.randbytes(self._chance.randrange(1, 200))])

    def _choose(self) -> tuple[int, int, Any]:
        session = self._chance.choice([*self.tree.sessions, self._chance.randrange(1, 9)])
        lives = session in self.tree.sessions
        acl: list[ACL] = self._chance.choice([OPEN_ACL_UNSAFE, READ_ACL_UNSAFE])
        existing = self._paths()
        path = self._chance.choice(existing) if existing else None
        kind = self._chance.randrange(10)
        if kind == 0:
            return Opcode.CREATE_SESSION, session, CreateSessionTxn(self._chance.randrange(40_000, 60_000))
        if kind == 1 and lives:
            return Opcode.CLOSE_SESSION, session, CloseSessionTxn(list(self.tree.ephemerals.get(session, ())))
        if kind == 2:
            return Opcode.ERROR, session, ErrorTxn(-110)
        if kind == 3 and path is not None:
            return Opcode.SET_DATA, session, SetDataTxn(path, self._data(), self.tree.nodes[path].version + 1)
        if kind == 4 and path is not None:
            return Opcode.SET_ACL, session, SetACLTxn(path, acl, self.tree.nodes[path].aversion + 1)
        if kind == 5 and path is not None and not self.tree.nodes[path].children:
            return Opcode.DELETE, session, DeleteTxn(path)
        created = self._new_path()
        cversion = self._cversion(created)
        if kind == 6:
            made = SubTxn(Opcode.CREATE, CreateTxn(created, b"", acl, False, cversion))
            changed = SubTxn(Opcode.SET_DATA, SetDataTxn(created, self._data(), 1))
            return Opcode.MULTI, session, MultiTxn([made, changed])
        if kind == 7:
            return Opcode.CREATE_CONTAINER, session, CreateContainerTxn(created, self._data(), acl, cversion)
        if kind == 8 and not lives:
            ttl = self._chance.randrange(10**7, 10**9)
            return Opcode.CREATE_TTL, session, CreateTTLTxn(created, self._data(), acl, cversion, ttl)
        return Opcode.CREATE, session, CreateTxn(created, self._data(), acl, lives and kind == 8, cversion)


def rows(tree: DataTree) -> dict[str, Any]:
    """What two equal trees have in common, whatever the order of their znodes and the numbers of their ACLs."""
    acls = {row.acl_id: tuple(row.acl or ()) for row in tree.acls.dump()}
    nodes = {row.path: (row.data, acls.get(row.acl_id), row.stat) for row in tree.walk()}
    return {"zxid": tree.last_zxid, "digest": tree.digest, "sessions": dict(tree.sessions), "nodes": nodes}


def as_golden(tree: DataTree) -> dict[str, GoldenZnode]:
    """A tree in the form that the golden directories are described in."""
    acls = {row.acl_id: row.acl for row in tree.acls.dump()}
    ids = {row.path: row.acl_id for row in tree.walk()}
    found: dict[str, GoldenZnode] = {}
    for path, node in tree.nodes.items():
        if path:
            stat, _ = codec(ZnodeStat).decode(node.stat(), 0, 68)
            acl = acls.get(ids["" if path == "/" else path]) or [ACL(31, Id("world", "anyone"))]
            found[path] = GoldenZnode(node.data, tuple(stat), tuple((perms, who.scheme, who.id) for perms, who in acl))
    return found


def replayed(txns: Iterable[LoggedTxn]) -> DataTree:
    """The tree after some transactions from the first on."""
    tree = DataTree()
    for txn in txns:
        tree.apply(decode_txn(txn.payload))
    tree.finish_recovery()
    return tree


def take_snapshot(storage: Storage, tree: DataTree, *, replaces_history: bool = False) -> None:
    """Writes a snapshot of a tree that stands still."""
    writer = storage.begin_snapshot(tree.last_zxid, replaces_history=replaces_history)
    for piece in snapshot_pieces(tree):
        writer.write(piece)
    writer.commit()


def snapshot_pieces(tree: DataTree, chunk_size: int = 1 << 16) -> Iterable[bytes]:
    """The snapshot of a tree, piece by piece."""
    return encode_snapshot(
        [SnapshotSession(*row) for row in tree.sessions.items()],
        tree.acls.dump(),
        tree.walk(),
        lambda: SnapshotDigest(tree.last_zxid, DIGEST_VERSION, tree.digest),
        chunk_size=chunk_size,
    )


def rebuild(recovery: Recovery, *, exact: bool = True) -> DataTree:
    """The tree that a recovery leads to; every digest on the way was right.

    Args:
        recovery: not read yet.
        exact: the snapshot's own digest too. A Java server may leave traces of one transaction more in a snapshot.
    """
    tree = DataTree()
    snapshot = recovery.snapshot
    if snapshot is not None:
        tree.load(snapshot.zxid, snapshot.sessions, snapshot.acls, snapshot.nodes, digest=snapshot.digest)
    if not exact:
        tree.digest_mismatches = 0
    for txn in recovery.txns:
        tree.apply(recovery.decode(txn))
    tree.finish_recovery()
    assert tree.digest_mismatches == 0
    return tree


def start(storage: Storage) -> DataTree:
    """Recovers a storage, and gives a new one its first snapshot; returns the tree."""
    recovery = storage.recover()
    tree = rebuild(recovery)
    if recovery.snapshot is None:
        take_snapshot(storage, tree)
    return tree
