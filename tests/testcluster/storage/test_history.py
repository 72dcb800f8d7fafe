"""Continuity: gaps are errors, repeats are noticed, what a snapshot holds is passed over."""

from __future__ import annotations

import struct

import pytest

from terzetto.testcluster.storage.errors import MissingTxnsError
from terzetto.testcluster.storage.history import Continuity, require_order, require_snapshot_zxid
from terzetto.testcluster.storage.txnlog import LoggedTxn, logged

E1 = 1 << 32


def txn(zxid: int, body: bytes = b"") -> LoggedTxn:
    return logged(struct.pack(">qiqqi", 1, 2, zxid, 3, 1) + body)


def admitted(base: int, *zxids: int) -> list[int]:
    continuity = Continuity(base)
    return [zxid for zxid in zxids if continuity.admit(txn(zxid), "log.1", 16)]


def test_what_the_snapshot_holds_is_passed_over() -> None:
    assert admitted(3, 1, 2, 3, 4, 5) == [4, 5]
    assert admitted(E1, 1, 2, E1 + 1) == [E1 + 1]
    assert admitted(0, 1, 2, E1 + 1, E1 + 2) == [1, 2, E1 + 1, E1 + 2]


@pytest.mark.parametrize("zxids", [(2,), (1, 2, 4), (1, E1 + 2), (1, E1 + 1, E1 + 3)])
def test_a_gap_is_an_error_that_says_where(zxids: tuple[int, ...]) -> None:
    with pytest.raises(MissingTxnsError, match=rf"log.1: the transaction at byte 16 is 0x{zxids[-1]:x}, but"):
        admitted(0, *zxids)


def test_repeats_are_counted_and_kept_for_comparison() -> None:
    continuity = Continuity(1)
    assert continuity.admit(txn(2), "log.1", 16)
    # At once and with the same bytes: nothing to compare.
    assert not continuity.admit(txn(2), "log.1", 60)
    assert continuity.repeats == []
    assert continuity.admit(txn(3), "log.1", 100)
    assert not continuity.admit(txn(2, b"other"), "log.3", 200)
    assert continuity.repeated == 2
    (repeat,) = continuity.repeats
    assert repeat == (txn(2, b"other"), "log.3", 200)
    assert continuity.last_zxid == 3


def test_what_may_be_appended() -> None:
    require_order([txn(4), txn(5), txn(E1 + 1)], 3)
    require_order([], 3)
    for zxids in ((3,), (5,), (4, 6), (4, E1 + 2), (4, 4)):
        with pytest.raises(ValueError, match="does not follow"):
            require_order(map(txn, zxids), 3)


def test_what_a_snapshot_may_be_of() -> None:
    require_snapshot_zxid(3, 3)
    require_snapshot_zxid(0, 3)
    require_snapshot_zxid(E1, 3)  # a leader's, before its first transaction
    require_snapshot_zxid(77, None)
    for zxid in (4, E1 + 1):
        with pytest.raises(ValueError, match="beyond the history"):
            require_snapshot_zxid(zxid, 3)
