"""What will be: changes on top of the tree, taken back and applied."""

from __future__ import annotations

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import Opcode
from terzetto.testcluster.acl import OPEN_ACL
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.outstanding import FutureZnode, OutstandingChanges
from terzetto.testcluster.txns import CreateTxn, DeleteTxn, Txn, TxnHeader


@pytest.fixture
def tree() -> DataTree:
    tree = DataTree()
    _create(tree, 1, "/a", b"one")
    return tree


def _create(tree: DataTree, zxid: int, path: str, data: bytes, *, ephemeral: bool = False) -> None:
    record = CreateTxn(path, data, OPEN_ACL_UNSAFE, ephemeral, -1)
    assert tree.apply(Txn(TxnHeader(77, 1, zxid, 1000, Opcode.CREATE), record, None)) == 0


def _new(zxid: int, data: bytes = b"", owner: int = 0) -> FutureZnode:
    return FutureZnode(zxid, data, OPEN_ACL, 1000, owner)


def test_what_is_not_changed_is_the_tree_s(tree: DataTree) -> None:
    changes = OutstandingChanges(tree)
    assert changes.find("/a") is tree.nodes["/a"]
    assert changes.find("/b") is None
    assert (len(changes), changes.digest) == (0, tree.digest)


def test_a_copy_is_equal_and_apart(tree: DataTree) -> None:
    node = tree.nodes[""]
    copy = FutureZnode.of(node, 9)
    assert (copy.zxid, copy.exists) == (9, True)
    assert copy.digest_fields() == node.digest_fields()
    assert (copy.child_count, copy.data, copy.acl, copy.digest) == (2, b"", node.acl, node.digest)
    copy.cversion += 1
    assert copy.cversion != node.cversion


def test_the_latest_change_counts(tree: DataTree) -> None:
    changes = OutstandingChanges(tree)
    first, second = _new(2), _new(3, b"x")
    changes.put("/b", first)
    changes.put("/b", second)
    assert changes.find("/b") is second
    changes.drop("/b", second, 4)
    assert changes.find("/b") is None
    assert changes.digest == tree.digest + first.digest


def test_dropping_restores_the_digest(tree: DataTree) -> None:
    changes = OutstandingChanges(tree)
    node = _new(2)
    changes.put("/b", node)
    assert changes.digest == tree.digest + node.digest != tree.digest
    changes.drop("/b", node, 3)
    assert changes.digest == tree.digest


def test_changes_are_forgotten_as_they_are_applied(tree: DataTree) -> None:
    changes = OutstandingChanges(tree)
    changes.drop("/a", tree.nodes["/a"], 2)
    changes.put("/a", _new(3))
    tree.apply(Txn(TxnHeader(1, 1, 2, 1, Opcode.DELETE), DeleteTxn("/a"), None))
    changes.applied(2)
    assert len(changes) == 1
    assert isinstance(changes.find("/a"), FutureZnode)
    _create(tree, 3, "/a", b"")
    changes.applied(3)
    assert len(changes) == 0
    assert changes.find("/a") is tree.nodes["/a"]
    assert changes.digest == tree.digest


def test_what_was_begun_can_be_undone(tree: DataTree) -> None:
    changes = OutstandingChanges(tree)
    kept = _new(2, b"kept")
    changes.put("/b", kept)
    digest = changes.digest
    changes.begin()
    changes.put("/b", FutureZnode.of(kept, 3))
    changes.drop("/a", tree.nodes["/a"], 3)
    changes.put("/c", _new(3))
    changes.put("/c", _new(3, b"again"))
    changes.undo()
    assert (changes.digest, len(changes)) == (digest, 1)
    assert changes.find("/b") is kept
    assert changes.find("/a") is tree.nodes["/a"]
    assert changes.find("/c") is None


def test_what_is_kept_is_not_undone(tree: DataTree) -> None:
    changes = OutstandingChanges(tree)
    changes.begin()
    changes.put("/b", _new(2))
    changes.keep()
    changes.begin()
    changes.undo()
    assert changes.find("/b") is not None
    assert len(changes) == 1


def test_undo_takes_back_only_what_followed_begin(tree: DataTree) -> None:
    changes = OutstandingChanges(tree)
    changes.put("/b", _new(2))
    changes.begin()
    changes.keep()
    digest = changes.digest
    changes.put("/c", _new(3))
    changes.begin()
    changes.undo()
    assert changes.digest != digest
    assert changes.find("/c") is not None


def test_the_ephemerals_that_a_session_will_own(tree: DataTree) -> None:
    _create(tree, 2, "/e1", b"", ephemeral=True)
    _create(tree, 3, "/e2", b"", ephemeral=True)
    changes = OutstandingChanges(tree)
    changes.drop("/e1", tree.nodes["/e1"], 4)
    changes.put("/e3", _new(5, owner=77))
    changes.put("/e4", _new(6, owner=78))
    changes.put("/e2", FutureZnode.of(tree.nodes["/e2"], 7))
    assert sorted(changes.ephemerals(77)) == ["/e2", "/e3"]
    assert changes.ephemerals(78) == ["/e4"]
    assert changes.ephemerals(79) == []
