"""The tree as it will be once every prepared transaction has been applied.

Holds, for each znode that a prepared transaction changes, how it will look. Knows nothing of requests and permissions:
the preparer validates against what it finds here, and records here what it decides.
"""

from __future__ import annotations

from collections import deque

from .acl import NodeAcl
from .datatree import DataTree
from .znodes import Znode, ZnodeFields, node_digest


class FutureZnode(ZnodeFields):
    """A znode as a prepared transaction will leave it.

    Attributes:
        zxid: of that transaction.
        exists: whether it will be there at all.
        child_count: how many children it will have.
    """

    __slots__ = ("child_count", "exists", "zxid")

    def __init__(self, zxid: int, data: bytes | None, acl: NodeAcl, time: int, owner: int) -> None:
        super().__init__(data, acl, zxid, time, owner)
        self.zxid = zxid
        self.exists = True
        self.child_count = 0

    @classmethod
    def of(cls, node: Znode | FutureZnode, zxid: int) -> FutureZnode:
        """A copy to be changed by the transaction `zxid`."""
        copy = cls.__new__(cls)
        copy.zxid = zxid
        copy.exists = True
        copy.child_count = node.child_count
        copy.data = node.data
        copy.acl = node.acl
        copy.czxid = node.czxid
        copy.mzxid = node.mzxid
        copy.pzxid = node.pzxid
        copy.ctime = node.ctime
        copy.mtime = node.mtime
        copy.version = node.version
        copy.cversion = node.cversion
        copy.aversion = node.aversion
        copy.ephemeral_owner = node.ephemeral_owner
        copy.digest = node.digest
        return copy


class OutstandingChanges:
    """What prepared transactions will have changed, the latest state a path.

    Attributes:
        digest: the tree digest once all of them are applied.
    """

    def __init__(self, tree: DataTree) -> None:
        self._tree = tree
        self._latest: dict[str, FutureZnode] = {}
        self._order: deque[tuple[int, str]] = deque()
        self._undo: list[tuple[str, FutureZnode | None]] | None = None
        self._digest_before = 0
        self.digest = tree.digest

    def __len__(self) -> int:
        return len(self._order)

    def find(self, path: str) -> Znode | FutureZnode | None:
        """The znode as it will be, `None` where there will be none. The root's path is the empty one."""
        found = self._latest.get(path)
        if found is None:
            return self._tree.nodes.get(path)
        return found if found.exists else None

    def _record(self, path: str, node: FutureZnode) -> None:
        if self._undo is not None:
            self._undo.append((path, self._latest.get(path)))
        self._latest[path] = node
        self._order.append((node.zxid, path))

    def put(self, path: str, node: FutureZnode) -> None:
        """A znode that is new, or a changed copy of one that `find` gave."""
        self._record(path, node)
        digest = node_digest(path, node.data, node.digest_fields())
        # A new znode has no digest yet, a copy has its original's.
        self.digest += digest - node.digest
        node.digest = digest

    def drop(self, path: str, node: Znode | FutureZnode, zxid: int) -> None:
        """The znode that `find` gave will be gone."""
        gone = FutureZnode(zxid, None, node.acl, 0, 0)
        gone.exists = False
        self._record(path, gone)
        self.digest -= node.digest

    def begin(self) -> None:
        """What follows can be undone, until `keep`."""
        self._undo = []
        self._digest_before = self.digest

    def keep(self) -> None:
        """What followed `begin` stays."""
        self._undo = None

    def undo(self) -> None:
        """What followed `begin` does not happen."""
        for path, before in reversed(self._undo or ()):
            if before is None:
                del self._latest[path]
            else:
                self._latest[path] = before
            self._order.pop()
        self.digest = self._digest_before
        self._undo = None

    def applied(self, zxid: int) -> None:
        """The tree has everything up to `zxid` itself."""
        order, latest = self._order, self._latest
        while order and order[0][0] <= zxid:
            path = order.popleft()[1]
            node = latest.get(path)
            if node is not None and node.zxid <= zxid:
                del latest[path]
        if not order:
            self.digest = self._tree.digest

    def ephemerals(self, session_id: int) -> list[str]:
        """Paths of the ephemeral znodes that the session will own."""
        latest = self._latest
        owned = [path for path in self._tree.ephemerals.get(session_id, ()) if path not in latest]
        owned += [path for path, node in latest.items() if node.exists and node.ephemeral_owner == session_id]
        return owned
