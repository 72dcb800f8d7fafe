"""The tree's digest against those of transactions and snapshots: what is reported, and what is not comparable."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from terzetto.client.wire import Opcode
from terzetto.testcluster import txns as t
from terzetto.testcluster.datatree import DataTree

from .test_datatree import History


@pytest.fixture
def history() -> History:
    return History()


def _with_digest(zxid: int, digest: int, *, kind: int = Opcode.ERROR, version: int = 2) -> t.Txn:
    record: Any = t.ErrorTxn(-1) if kind == Opcode.ERROR else t.CreateSessionTxn(1)
    return t.Txn(t.TxnHeader(1, 1, zxid, 1, kind), record, t.TxnDigest(version, digest))


def test_a_digest_that_differs_is_reported(history: History, caplog: pytest.LogCaptureFixture) -> None:
    tree = history.tree
    tree.apply(_with_digest(1, tree.digest, kind=Opcode.CREATE_SESSION))
    assert tree.digest_mismatches == 0
    with caplog.at_level(logging.ERROR):
        tree.apply(_with_digest(2, tree.digest + 1, kind=Opcode.CREATE_SESSION))
    assert tree.digest_mismatches == 1
    assert "digest mismatch at zxid 0x2 (type -10)" in caplog.text


@pytest.mark.parametrize("txn", [_with_digest(1, 5, kind=Opcode.CREATE_SESSION, version=1), _with_digest(1, 5)])
def test_digests_of_another_version_and_of_errors_are_not_compared(history: History, txn: t.Txn) -> None:
    history.tree.apply(txn)
    assert history.tree.digest_mismatches == 0


def test_digests_are_compared_from_the_snapshot_s_own_on(history: History) -> None:
    history.create("/a")
    tree = DataTree()
    tree.load(1, [], history.tree.acls.dump(), history.tree.walk(), (5, 2, 12345))
    assert (tree.digest_mismatches, tree.digest_valid_from) == (0, 5)
    tree.apply(_with_digest(5, 1, kind=Opcode.CREATE_SESSION))
    assert tree.digest_mismatches == 0
    tree.apply(_with_digest(6, 1, kind=Opcode.CREATE_SESSION))
    assert tree.digest_mismatches == 1


def test_a_snapshot_whose_digest_differs_is_reported(history: History, caplog: pytest.LogCaptureFixture) -> None:
    history.create("/a")
    tree = DataTree()
    with caplog.at_level(logging.WARNING):
        tree.load(1, [], history.tree.acls.dump(), history.tree.walk(), (1, 2, 12345))
    assert tree.digest_mismatches == 1
    assert "digest mismatch in snapshot 0x1" in caplog.text
    assert "traces of the next transaction" in caplog.text
    tree.load(1, [], history.tree.acls.dump(), history.tree.walk(), (1, 1, 12345))
    assert tree.digest_mismatches == 0


def test_a_digest_that_was_not_computed_is_no_mismatch(caplog: pytest.LogCaptureFixture) -> None:
    fresh, tree = DataTree(), DataTree()
    # Of Java's first snapshot: written before the digest is computed.
    tree.load(0, [], fresh.acls.dump(), fresh.walk(), (0, 2, 0))
    assert (tree.digest_mismatches, tree.digest_valid_from, caplog.text) == (0, 0, "")
    # The same place with a number in it has to be right.
    tree.load(0, [], fresh.acls.dump(), fresh.walk(), (0, 2, 1))
    assert tree.digest_mismatches == 1
    tree.load(0, [], fresh.acls.dump(), fresh.walk(), (0, 2, fresh.digest))
    assert tree.digest_mismatches == 0


def test_traces_of_the_next_transaction_are_made_whole_by_replay(history: History) -> None:
    history.create("/a")
    before = (history.tree.last_zxid, 2, history.tree.digest)
    history.create("/a/b", parent=1)
    # Java's walk came by "/a" before, and by its new child after, the create was applied.
    tree = DataTree()
    tree.load(1, [], history.tree.acls.dump(), history.tree.walk(), before)
    assert tree.digest_mismatches == 1
    for txn in history.txns[1:]:
        tree.apply(txn)
    tree.apply(_with_digest(3, history.tree.digest, kind=Opcode.CREATE_SESSION))
    assert tree.digest_mismatches == 1
