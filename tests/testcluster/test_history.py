"""What a server remembers of its history, and where it parts from another's."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from terzetto.testcluster import history as history_module
from terzetto.testcluster.history import History, Meeting

from .bench import entry, payload, txn, zxid


def recent(*numbers: int) -> list[tuple[int, bytes]]:
    return [(number, payload(number)) for number in numbers]


def epoch(number: int, count: int, first: int = 1) -> list[int]:
    return [zxid(number, counter) for counter in range(first, count + 1)]


def test_it_begins_with_what_the_disk_has() -> None:
    history = History(zxid(1, 3), recent(*epoch(1, 3)))
    assert history.last_logged == history.last_durable == history.applied == zxid(1, 3)
    assert [history.holds(number) for number in epoch(1, 4)] == [True, True, True, False]
    assert history.between(zxid(1, 1), zxid(1, 2)) == recent(zxid(1, 2))


def test_the_first_that_is_known_is_no_more_than_known() -> None:
    # Whether something stood between it and what a learner has is not known.
    history = History(zxid(1, 3), recent(*epoch(1, 3)))
    assert history.meeting(0, ()) == Meeting(None, is_ahead=False)
    assert history.meeting(zxid(1, 1), ()) == Meeting(zxid(1, 1), is_ahead=False)


@pytest.mark.parametrize(
    ("number", "is_next"),
    [
        (zxid(1, 3), False),
        (zxid(1, 4), True),
        (zxid(1, 5), False),
        (zxid(2, 1), True),
        (zxid(9, 1), True),
        (zxid(2, 2), False),
        (zxid(2, 0), False),
        (zxid(0, 1), False),
    ],
)
def test_counters_have_no_gaps(number: int, is_next: bool) -> None:
    assert History(zxid(1, 3)).is_next(number) is is_next


def test_an_epoch_that_names_a_snapshot_is_followed_by_its_first_transaction() -> None:
    history = History(zxid(2, 0))
    assert history.is_next(zxid(2, 1))
    history.append([entry(zxid(2, 1))])
    assert history.last_logged == zxid(2, 1)


def test_what_is_logged_is_durable_and_applied_separately() -> None:
    history = History(0)
    history.append([entry(number) for number in epoch(1, 3)])
    assert (history.last_logged, history.last_durable, history.applied) == (zxid(1, 3), 0, 0)
    history.made_durable(zxid(1, 2))
    assert history.take_committed(zxid(1, 1)) == [txn(zxid(1, 1))]
    assert (history.last_durable, history.applied) == (zxid(1, 2), zxid(1, 1))
    assert history.take_committed(zxid(1, 1)) == []
    assert history.take_committed(zxid(2, 0)) == [txn(zxid(1, 2)), txn(zxid(1, 3))]


def test_a_cut_takes_log_and_tail_with_it() -> None:
    history = History(zxid(1, 2), recent(*epoch(1, 2)))
    history.append([entry(number) for number in epoch(1, 4, 3)])
    history.truncated(zxid(1, 3))
    assert history.last_logged == history.last_durable == history.applied == zxid(1, 3)
    assert history.take_committed(zxid(1, 4)) == []
    assert not history.holds(zxid(1, 4))
    history.append([entry(zxid(2, 1))])
    assert history.between(zxid(1, 2), zxid(9, 0)) == recent(zxid(1, 3), zxid(2, 1))


def test_a_cut_behind_what_is_remembered_leaves_one_point() -> None:
    history = History(zxid(1, 9), recent(*epoch(1, 9, 5)))
    history.truncated(zxid(1, 3))
    assert history.holds(zxid(1, 3))
    assert not history.holds(zxid(1, 5))
    assert history.meeting(zxid(1, 3), ()) == Meeting(zxid(1, 3), is_ahead=False)


def test_a_snapshot_leaves_one_point() -> None:
    history = History(zxid(1, 2), recent(*epoch(1, 2)))
    history.replaced(zxid(3, 0))
    assert history.last_logged == history.last_durable == history.applied == zxid(3, 0)
    assert history.holds(zxid(3, 0))
    assert not history.holds(zxid(1, 2))


def test_the_oldest_are_forgotten() -> None:
    history = History(0, recent_max=8)
    for number in epoch(1, 100):
        history.append([entry(number)])
    known = [number for number in epoch(1, 100) if history.holds(number)]
    assert known == epoch(1, 100, 101 - len(known))
    assert 8 <= len(known) <= 12
    assert history.meeting(zxid(1, 50), ()) == Meeting(None, is_ahead=False)


@pytest.mark.parametrize("recent_max", [0, 1, 3])
def test_small_memories_work_too(recent_max: int) -> None:
    history = History(zxid(1, 5), recent(*epoch(1, 5)), recent_max=recent_max)
    for number in epoch(2, 9):
        history.append([entry(number)])
        assert history.holds(number)
        assert history.between(number, number) == []


def test_the_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "RECENT_BYTES_MAX", 10 * len(payload(1)))
    history = History(0)
    history.append([entry(number) for number in epoch(1, 100)])
    assert len([number for number in epoch(1, 100) if history.holds(number)]) <= 11
    assert history.holds(zxid(1, 100))
    assert not history.holds(zxid(1, 80))
    assert len(history.take_committed(zxid(1, 100))) == 100


# Meetings. 1:1-3, then 3:1-2.

HISTORY = [*epoch(1, 3), *epoch(3, 2)]


@pytest.mark.parametrize(
    ("number", "common", "is_ahead"),
    [
        (zxid(3, 2), zxid(3, 2), False),
        (zxid(1, 2), zxid(1, 2), False),
        (zxid(1, 4), zxid(1, 3), True),
        (zxid(3, 3), zxid(3, 2), True),
        # Of epoch 2 nothing is known here, not even how it began.
        (zxid(2, 1), None, True),
        (zxid(2, 0), None, True),
        (zxid(4, 1), None, True),
        (zxid(4, 0), None, True),
        # Both have gone through epoch 3.
        (zxid(3, 0), zxid(3, 0), False),
        (zxid(1, 0), None, False),
        (0, None, False),
        (-1, None, False),
    ],
)
def test_where_two_histories_part(number: int, common: int | None, is_ahead: bool) -> None:
    history = History(HISTORY[-1], recent(*HISTORY))
    assert history.meeting(number, ()) == Meeting(common, is_ahead)


def test_an_epoch_without_transactions_is_known_by_its_promise() -> None:
    history = History(HISTORY[-1], recent(*HISTORY))
    assert history.meeting(zxid(5, 0), (5,)) == Meeting(zxid(5, 0), is_ahead=False)
    assert history.between(zxid(5, 0), zxid(6, 0)) == []
    history.append([entry(zxid(6, 1))])
    assert history.meeting(zxid(5, 0), (5, 6)) == Meeting(zxid(5, 0), is_ahead=False)
    assert history.between(zxid(5, 0), zxid(6, 1)) == recent(zxid(6, 1))


def test_two_empty_histories_are_the_same() -> None:
    assert History(0).meeting(0, ()) == Meeting(0, is_ahead=False)
    assert History(0).meeting(-1, ()) == Meeting(None, is_ahead=False)


def test_an_epoch_that_names_a_snapshot_is_no_place_to_cut_at() -> None:
    history = History(zxid(2, 0))
    assert history.meeting(zxid(2, 1), ()) == Meeting(None, is_ahead=True)


@given(st.data())
def test_the_meeting_is_a_common_prefix(data: st.DataObject) -> None:
    """Histories as Zab makes them: an epoch's leader continues what one of them has."""
    one: list[int] = []
    other: list[int] = []
    for number in range(1, data.draw(st.integers(1, 6))):
        mine, theirs = data.draw(st.sampled_from([(1, 0), (0, 1), (1, 1)]))
        begin = data.draw(st.sampled_from([one, other])) if (mine, theirs) == (1, 1) else one if mine else other
        grown = [*begin, *epoch(number, data.draw(st.integers(1, 4)))]
        one = grown if mine else one
        other = grown[: len(grown) - data.draw(st.integers(0, 2))] if theirs else other
    history = History(one[-1] if one else 0, recent(*one), recent_max=data.draw(st.sampled_from([2, 500])))
    last = other[-1] if other else 0
    meeting = history.meeting(last, ())
    if meeting.zxid is not None:
        shared = [number for number in one if number <= meeting.zxid]
        assert other[: len(shared)] == shared
        assert meeting.is_ahead == (len(other) > len(shared))
    elif not meeting.is_ahead:
        assert last not in one or not history.holds(last)
