"""A leader's snapshot holds traces of transactions that come again behind it: until then no digest can agree."""

from __future__ import annotations

import logging

import pytest

from terzetto.client.wire.operations import Opcode
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.txns import CreateTxn, Txn, TxnDigest, TxnHeader


def creates(tree: DataTree, count: int) -> list[Txn]:
    """Transactions with the digests of the tree that they were made on; they are applied to it."""
    txns: list[Txn] = []
    for zxid in range(1, count + 1):
        header = TxnHeader(1, zxid, zxid, 1000 + zxid, Opcode.CREATE)
        txn = Txn(header, CreateTxn(f"/{zxid}", b"", None, False, zxid), None)
        tree.apply(txn)
        txns.append(txn._replace(digest=TxnDigest(2, tree.digest)))
    return txns


def wrong(txn: Txn) -> Txn:
    return txn._replace(digest=TxnDigest(2, 12345))


def test_nothing_is_reported_before_replay_has_caught_up(caplog: pytest.LogCaptureFixture) -> None:
    leader = DataTree()
    txns = creates(leader, 20)
    # It was begun at 5, and had traces of everything up to 20 when it had been sent.
    learner = DataTree()
    learner.load(5, [], leader.acls.dump(), leader.walk())
    with caplog.at_level(logging.ERROR):
        for txn in txns[5:]:
            learner.apply(txn)
    assert (learner.digest_mismatches, caplog.records) == (0, [])
    assert learner.digest == leader.digest


def test_from_then_on_every_mismatch_is() -> None:
    leader = DataTree()
    txns = creates(leader, 20)
    learner = DataTree()
    exact = DataTree()
    for txn in txns[:10]:
        exact.apply(txn)
    learner.load(5, [], exact.acls.dump(), exact.walk())
    learner.apply(wrong(txns[5]))
    assert learner.digest_mismatches == 0
    for txn in txns[6:12]:
        learner.apply(txn)
    assert learner.digest_mismatches == 0
    learner.apply(wrong(txns[12]))
    assert learner.digest_mismatches == 1


def test_a_tree_that_was_not_loaded_is_exact_from_the_first_on() -> None:
    tree = DataTree()
    tree.apply(wrong(creates(DataTree(), 1)[0]))
    assert tree.digest_mismatches == 1


def test_so_is_one_from_a_snapshot_with_a_digest() -> None:
    source = DataTree()
    txns = creates(source, 3)
    tree = DataTree()
    tree.load(3, [], source.acls.dump(), source.walk(), (3, 2, source.digest))
    next_txn = txns[-1]._replace(header=txns[-1].header._replace(zxid=4), record=CreateTxn("/4", b"", None, False, 4))
    tree.apply(wrong(next_txn))
    assert tree.digest_mismatches == 1
