"""Each rule of the ledger: what is right passes, and the smallest history that breaks it is called by its name."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from terzetto.client.wire import Opcode
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.ids import make_zxid
from terzetto.testcluster.ready import Entry
from terzetto.testcluster.txns import CreateTxn, Txn, TxnDigest, TxnHeader, encode_txn

from .histories import Script, error_txn, session_txn
from .ledger import Violation

E1, E2, E3 = (make_zxid(epoch, 0) for epoch in (1, 2, 3))


def led() -> Script:
    """Server 1 leads epoch 1 with 2 and 3, and two transactions are committed on 1 and 2."""
    script = Script()
    script.lead(1, 1, 2, 3)
    script.write(1, 1, 2)
    script.write(2, 1, 2)
    return script


def test_a_history_as_it_should_be_is_accepted() -> None:
    script = led()
    ledger = script.ledger
    assert ledger.committed == E1 + 2
    assert ledger.holders(ledger.committed) == [1, 2]
    script.log(E1 + 3, 1)
    for txn in list(ledger.reference.order):
        script.log(txn.header.zxid, 3, entry=Entry(txn.header.zxid, txn, encode_txn(txn)))
    script.sync(E1 + 2, 3)
    script.lead(2, 2, 3)
    script.ledger.cut(1, E1 + 2)
    assert ledger.replicas[1].logged == E1 + 2
    assert [txn.header.zxid for txn in ledger.reference.order] == [E1 + 1, E1 + 2]


def test_histories_are_compared_along_their_epochs() -> None:
    script = led()
    ledger = script.ledger
    script.log(E1 + 3, 1)
    # Server 2 leads without it, and goes on.
    script.promise(2, 2, 3)
    ledger.founded(2, 2)
    script.log(E2 + 1, 2)
    assert ledger.within(E1 + 2, E2 + 1)
    assert not ledger.within(E1 + 3, E2 + 1)
    assert ledger.shared(E1 + 3, E2 + 1) == E1 + 2
    assert ledger.real(E2) == E1 + 2


def test_a_leader_that_stood_still_may_be_established_late() -> None:
    script = led()
    ledger = script.ledger
    for txn in list(ledger.reference.order):
        script.log(txn.header.zxid, 3, entry=Entry(txn.header.zxid, txn, encode_txn(txn)))
    script.sync(E1 + 2, 3)
    # It has a quorum for epoch 2, and stands still before it reads so; epoch 3 begins and commits.
    script.promise(2, 3, 1)
    ledger.founded(3, 2)
    script.follow(2, 3, 1)
    script.lead(3, 2, 1)
    script.write(1, 2, 1, epoch=3)
    ledger.replicas[3].applied = E1 + 2
    ledger.serves(3, 2, ledger.reference.tree, leading=True)
    # But it commits nothing.
    script.log(E2 + 1, 3)
    script.sync(E2 + 1, 3)
    with pytest.raises(Violation, match="I6"):
        ledger.committed_by(3, E2 + 1)


def two_leaders_of_an_epoch(script: Script) -> None:
    script.promise(2, 2, 3)
    script.ledger.founded(2, 2)
    script.ledger.founded(3, 2)


def an_epoch_without_a_quorum(script: Script) -> None:
    script.promise(2, 2)
    script.ledger.founded(2, 2)
    script.follow(2, 2)
    script.ledger.serves(2, 2, script.ledger.reference.tree, leading=True)


def an_accepted_epoch_that_goes_back(script: Script) -> None:
    script.promise(3, 2)
    script.promise(2, 2)


def a_current_epoch_that_was_not_promised(script: Script) -> None:
    script.follow(2, 2)


def an_epoch_offered_before_it_is_promised(script: Script) -> None:
    script.ledger.led(5, 2, 2)


def a_promise_before_it_is_on_disk(script: Script) -> None:
    script.promise(2, 2)
    script.ledger.led(5, 2, 2)
    script.ledger.told_epochs(3, 5, E1 + 1, 1)


def an_ack_below_a_promise(script: Script) -> None:
    script.promise(2, 2)
    script.ledger.acknowledged(2, 102, E1 + 2)


def an_ack_before_the_sync(script: Script) -> None:
    script.log(E1 + 3, 1, 2)
    script.ledger.acknowledged(2, 102, E1 + 3)


def a_newleader_ack_without_the_initial_history(script: Script) -> None:
    script.promise(2, 1, 3)
    script.ledger.led(203, 1, 2)
    script.ledger.founded(1, 2)
    script.ledger.acknowledged(3, 203, E2)


def a_current_epoch_without_the_initial_history(script: Script) -> None:
    script.promise(2, 1, 3)
    script.ledger.founded(1, 2)
    script.follow(2, 3)


def a_transaction_that_nobody_proposed(script: Script) -> None:
    script.log(E1 + 3, 2)


def another_transaction_under_the_same_zxid(script: Script) -> None:
    script.log(E1 + 3, 1)
    script.log(E1 + 3, 2, entry=error_txn(E1 + 3, cxid=99))


def a_gap_in_a_log(script: Script) -> None:
    script.log(E1 + 4, 1)


def a_first_transaction_on_another_history(script: Script) -> None:
    script.promise(2, 2, 3)
    script.ledger.founded(2, 2)
    entry = script.log(E2 + 1, 2)
    script.log(E2 + 1, 3, entry=entry)


def a_commit_that_is_durable_on_one(script: Script) -> None:
    script.log(E1 + 3, 1, 2)
    script.sync(E1 + 3, 1)
    script.ledger.committed_by(1, E1 + 3)


def a_commit_without_leading(script: Script) -> None:
    script.log(E1 + 3, 1, 2)
    script.sync(E1 + 3, 1, 2)
    script.ledger.retires(1)
    script.ledger.committed_by(1, E1 + 3)


def a_leader_without_what_is_committed(script: Script) -> None:
    script.promise(2, 3)
    script.ledger.founded(3, 2)


def a_committed_transaction_cut_away(script: Script) -> None:
    script.ledger.cut(1, E1 + 1)


def a_synced_transaction_lost_in_a_crash(script: Script) -> None:
    script.ledger.crashed(1, E1 + 1)


def a_vote_with_what_is_not_durable(script: Script) -> None:
    script.log(E1 + 3, 1)
    script.ledger.voted(1, E1 + 3, 1)


def a_vote_with_an_epoch_never_followed(script: Script) -> None:
    script.promise(2, 1)
    script.ledger.voted(1, E1 + 2, 2)


def an_uncommitted_transaction_applied(script: Script) -> None:
    tree = script.ledger.reference.tree
    ledger = script.ledger
    for zxid in (E1 + 1, E1 + 2):
        ledger.applied(2, ledger.transaction(zxid), tree)
    ledger.serves(2, 1, tree, leading=False)
    entry = script.log(E1 + 3, 1, 2)
    ledger.applied(2, entry.txn, tree)


def a_transaction_applied_twice(script: Script) -> None:
    ledger = script.ledger
    for _ in range(2):
        ledger.applied(2, ledger.transaction(E1 + 1), ledger.reference.tree)


def a_transaction_left_out(script: Script) -> None:
    script.ledger.applied(2, script.ledger.transaction(E1 + 2), script.ledger.reference.tree)


def a_tree_with_something_else(script: Script) -> None:
    tree = DataTree()
    txn = Txn(
        TxnHeader(1, 1, E1 + 1, 0, Opcode.CREATE), CreateTxn("/x", b"", None, ephemeral=False, parent_cversion=1), None
    )
    tree.apply(txn)
    script.ledger.applied(2, script.ledger.transaction(E1 + 1), tree)


def an_ephemeral_without_a_session(script: Script) -> None:
    tree = DataTree()
    tree.ephemerals[77] = {"/e": None}
    script.ledger.applied(2, script.ledger.transaction(E1 + 1), tree)


def a_server_that_serves_what_is_not_committed(script: Script) -> None:
    ledger = script.ledger
    ledger.retires(1)
    entry = script.log(E1 + 3, 1)
    for txn in (ledger.transaction(E1 + 1), ledger.transaction(E1 + 2), entry.txn):
        ledger.applied(1, txn, ledger.reference.tree)
    ledger.serves(1, 1, ledger.reference.tree, leading=False)


def a_digest_that_is_wrong(script: Script) -> None:
    txn = error_txn(E1 + 3, cxid=50).txn._replace(digest=TxnDigest(2, 1))
    script.log(E1 + 3, 1, 2, entry=Entry(E1 + 3, txn, encode_txn(txn)))
    script.sync(E1 + 3, 1, 2)
    script.ledger.committed_by(1, E1 + 3)


def a_session_made_twice(script: Script) -> None:
    for counter in (3, 4):
        script.log(E1 + counter, 1, 2, entry=session_txn(E1 + counter, 42))
        script.sync(E1 + counter, 1, 2)
        script.ledger.committed_by(1, E1 + counter)


def a_request_carried_out_twice(script: Script) -> None:
    script.log(E1 + 3, 1, 2, entry=error_txn(E1 + 3, cxid=2))
    script.sync(E1 + 3, 1, 2)
    script.ledger.committed_by(1, E1 + 3)


@pytest.mark.parametrize(
    ("deed", "invariant"),
    [
        (two_leaders_of_an_epoch, "I1"),
        (an_epoch_without_a_quorum, "I13"),
        (an_accepted_epoch_that_goes_back, "I2"),
        (a_current_epoch_that_was_not_promised, "I2"),
        (an_epoch_offered_before_it_is_promised, "I2"),
        (a_promise_before_it_is_on_disk, "I2"),
        (an_ack_below_a_promise, "I3"),
        (an_ack_before_the_sync, "I11"),
        (a_newleader_ack_without_the_initial_history, "I13"),
        (a_current_epoch_without_the_initial_history, "I14"),
        (a_transaction_that_nobody_proposed, "I4"),
        (another_transaction_under_the_same_zxid, "I4"),
        (a_gap_in_a_log, "I10"),
        (a_first_transaction_on_another_history, "I7"),
        (a_commit_that_is_durable_on_one, "I11"),
        (a_commit_without_leading, "I11"),
        (a_leader_without_what_is_committed, "I12"),
        (a_committed_transaction_cut_away, "I15"),
        (a_synced_transaction_lost_in_a_crash, "I17"),
        (a_vote_with_what_is_not_durable, "I17"),
        (a_vote_with_an_epoch_never_followed, "I17"),
        (an_uncommitted_transaction_applied, "I11"),
        (a_transaction_applied_twice, "I5"),
        (a_transaction_left_out, "I5"),
        (a_tree_with_something_else, "I16"),
        (an_ephemeral_without_a_session, "I19"),
        (a_server_that_serves_what_is_not_committed, "I16"),
        (a_digest_that_is_wrong, "I16"),
        (a_session_made_twice, "I19"),
        (a_request_carried_out_twice, "I18"),
    ],
)
def test_a_violation_is_found_and_named(deed: Callable[[Script], None], invariant: str) -> None:
    script = led()
    with pytest.raises(Violation) as caught:
        deed(script)
    assert caught.value.invariant == invariant


def test_a_violation_reaches_the_process_that_asked_for_the_run() -> None:
    broken = Violation("I6", "two leaders")
    arrived = pickle.loads(pickle.dumps(broken))
    assert (arrived.invariant, arrived.what, str(arrived)) == ("I6", "two leaders", "I6: two leaders")
