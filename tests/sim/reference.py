"""The committed transactions, applied once more outside of all servers, and every state that they went through.

Decides what a client may be shown: the znode as it was after a given transaction. It learns of a transaction when a
leader commits it, and knows no server.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.txns import MultiTxn, Txn


class Seen(NamedTuple):
    """A znode right after a transaction; `stat` is empty where it does not exist."""

    zxid: int
    data: bytes | None
    stat: bytes
    children: tuple[str, ...]


_ABSENT = Seen(0, None, b"", ())


class Reference:
    """A tree that every committed transaction is applied to, and its past.

    Attributes:
        tree: the state after the last one.
        order: all of them.
    """

    def __init__(self) -> None:
        self.tree = DataTree()
        self.order: list[Txn] = []
        self._past: dict[str, list[Seen]] = {}
        self._sessions: list[tuple[int, dict[int, int]]] = [(0, {})]
        for path in ("/", "/zookeeper"):
            self._remember(path, 0)

    def apply(self, txn: Txn) -> None:
        """The next committed transaction."""
        tree = self.tree
        tree.apply(txn)
        self.order.append(txn)
        zxid = txn.header.zxid
        touched = {path or "/": None for _, path, _ in tree.events}
        for record in _records(txn):
            path = getattr(record, "path", None)
            if isinstance(path, str):
                touched[path] = None
                touched[path.rpartition("/")[0] or "/"] = None
        for path in touched:
            self._remember(path, zxid)
        if tree.sessions != self._sessions[-1][1]:
            self._sessions.append((zxid, dict(tree.sessions)))

    def _remember(self, path: str, zxid: int) -> None:
        node = self.tree.nodes.get(path)
        if node is None:
            seen = Seen(zxid, None, b"", ())
        else:
            names = tuple(sorted(child.rpartition("/")[2] for child in node.children or ()))
            seen = Seen(zxid, node.data, node.stat(), names)
        self._past.setdefault(path, []).append(seen)

    def at(self, path: str, zxid: int) -> Seen:
        """The znode as it was when everything up to `zxid`, and nothing more, was applied."""
        past = self._past.get(path, [])
        index = bisect_right(past, zxid, key=_zxid_of)
        return past[index - 1] if index else _ABSENT

    def sessions_at(self, zxid: int) -> dict[int, int]:
        """The session table of then."""
        return self._sessions[bisect_right(self._sessions, zxid, key=_first_of) - 1][1]


def _records(txn: Txn) -> list[object]:
    if isinstance(txn.record, MultiTxn):
        return [sub.record for sub in txn.record.txns]
    return [txn.record]


def _zxid_of(seen: Seen) -> int:
    return seen.zxid


def _first_of(entry: tuple[int, dict[int, int]]) -> int:
    return entry[0]
