"""Sessions: ids, buckets, owners; and every expiry within its bound, whatever is touched when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from terzetto.testcluster.codes import SESSION_EXPIRED, SESSION_MOVED, Refused
from terzetto.testcluster.ids import first_session_id
from terzetto.testcluster.sessions import SessionTracker

TICK = 2000


def _tracker(now_ms: int = 0, server_id: int = 1) -> SessionTracker:
    return SessionTracker(server_id=server_id, tick_ms=TICK, now_ms=now_ms)


def _due(tracker: SessionTracker, now_ms: int) -> list[int]:
    return sorted(session.session_id for session in tracker.due(now_ms))


def test_ids_count_up_from_the_first() -> None:
    tracker = _tracker(now_ms=123_456, server_id=3)
    first = first_session_id(3, 123_456)
    assert [tracker.next_id() for _ in range(3)] == [first, first + 1, first + 2]


def test_ids_of_a_server_above_127_are_negative() -> None:
    assert _tracker(server_id=200).next_id() < 0


@pytest.mark.parametrize(
    ("now_ms", "timeout_ms", "due_ms"), [(0, 4000, 6000), (1, 4000, 6000), (1999, 4000, 6000), (2000, 4000, 8000)]
)
def test_a_session_is_due_at_the_tick_after_its_timeout(now_ms: int, timeout_ms: int, due_ms: int) -> None:
    tracker = _tracker()
    tracker.track(7, timeout_ms, now_ms)
    assert tracker.expiries() == {due_ms: [7]}


def _ticks(tracker: SessionTracker, start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """(time, session) of every expiry when asked at each tick."""
    return [(now, found) for now in range(start_ms, end_ms + 1, TICK) for found in _due(tracker, now)]


def test_sessions_expire_in_their_buckets_once() -> None:
    tracker = _tracker()
    tracker.track(1, 4000, 0)
    tracker.track(2, 4000, 1500)
    tracker.track(3, 8000, 0)
    assert _ticks(tracker, TICK, 20_000) == [(6000, 1), (6000, 2), (10_000, 3)]
    assert set(tracker.sessions) == {1, 2, 3}
    assert tracker.expiries() == {}


def test_a_touch_begins_the_timeout_anew() -> None:
    tracker = _tracker()
    session = tracker.track(1, 4000, 0)
    tracker.touch(session, 3000)
    assert tracker.expiries() == {8000: [1]}
    tracker.touch(session, 1000)
    assert tracker.expiries() == {8000: [1]}


def test_tracking_again_is_a_touch() -> None:
    tracker = _tracker()
    first = tracker.track(1, 4000, 0, "owner")
    assert tracker.track(1, 9000, 3000, "another") is first
    assert (first.timeout_ms, first.owner) == (4000, "owner")
    assert tracker.expiries() == {8000: [1]}


def test_a_server_that_slept_gives_everybody_a_tick() -> None:
    tracker = _tracker()
    saved = tracker.track(1, 4000, 0)
    tracker.track(2, 4000, 0)
    assert _due(tracker, 60_000) == []
    tracker.touch(saved, 60_500)
    assert tracker.next_due_ms == 62_000
    assert _due(tracker, 62_000) == [2]
    assert not saved.closing


def test_being_late_by_a_tick_is_no_sleep() -> None:
    tracker = _tracker()
    tracker.track(1, 1, 0)
    assert _due(tracker, 4000) == [1]


def test_a_due_session_is_closing_and_nothing_saves_it() -> None:
    tracker = _tracker()
    session = tracker.track(1, 4000, 0)
    assert _ticks(tracker, TICK, 6000) == [(6000, 1)]
    assert session.closing
    tracker.touch(session, 6000)
    assert tracker.expiries() == {}
    assert tracker.reopen(1, 4000, 6000) is None
    with pytest.raises(Refused) as caught:
        tracker.check(1, None)
    assert caught.value.code == SESSION_EXPIRED


def test_closing_and_removing() -> None:
    tracker = _tracker()
    tracker.track(1, 4000, 0)
    tracker.track(2, 4000, 0)
    tracker.set_closing(1)
    tracker.set_closing(99)
    assert tracker.expiries() == {6000: [2]}
    tracker.remove(1)
    tracker.remove(2)
    tracker.remove(99)
    assert (tracker.sessions, tracker.expiries()) == ({}, {})


def test_a_session_comes_back_with_a_new_timeout_and_owner() -> None:
    tracker = _tracker()
    tracker.track(1, 30_000, 0, "first")
    session = tracker.sessions[1]
    assert tracker.reopen(1, 4000, 1000, "second") is session
    assert (session.timeout_ms, session.owner) == (4000, "second")
    assert tracker.expiries() == {6000: [1]}
    assert tracker.reopen(2, 4000, 0) is None


def test_who_may_act_for_a_session() -> None:
    tracker = _tracker()
    mine, other = object(), object()
    tracker.track(1, 4000, 0, mine)
    tracker.check(1, mine)
    with pytest.raises(Refused) as caught:
        tracker.check(1, other)
    assert caught.value.code == SESSION_MOVED
    with pytest.raises(Refused) as caught:
        tracker.check(2, mine)
    assert caught.value.code == SESSION_EXPIRED


def test_a_session_without_owner_is_claimed_by_the_first() -> None:
    tracker = _tracker()
    tracker.restore([(1, 4000)], 500)
    assert tracker.expiries() == {6000: [1]}
    mine = object()
    tracker.check(1, mine)
    with pytest.raises(Refused):
        tracker.check(1, object())


class ExpiryAgainstDeadlines(RuleBasedStateMachine):
    """A session ends after its timeout and not later than a tick after, when the server is asked in time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10_000
        self.tracker = _tracker(self.now)
        self.deadlines: dict[int, int] = {}

    @rule(session_id=st.integers(1, 8), timeout=st.integers(1, 9000))
    def connect(self, session_id: int, timeout: int) -> None:
        if session_id not in self.tracker.sessions:
            self.tracker.track(session_id, timeout, self.now)
            self.deadlines[session_id] = self.now + timeout

    @precondition(lambda self: self.deadlines)
    @rule(data=st.data(), timeout=st.integers(1, 9000))
    def come_back(self, data: st.DataObject, timeout: int) -> None:
        session_id = data.draw(st.sampled_from(sorted(self.deadlines)))
        assert self.tracker.reopen(session_id, timeout, self.now) is not None
        self.deadlines[session_id] = self.now + timeout

    @precondition(lambda self: self.deadlines)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        session = self.tracker.sessions[data.draw(st.sampled_from(sorted(self.deadlines)))]
        self.tracker.touch(session, self.now)
        self.deadlines[session.session_id] = self.now + session.timeout_ms

    @rule(ms=st.integers(1, TICK))
    def wait(self, ms: int) -> None:
        self.now += ms
        if self.now < self.tracker.next_due_ms:
            return
        due = set(_due(self.tracker, self.now))
        assert all(self.deadlines[session_id] < self.now for session_id in due)
        for session_id in due:
            del self.deadlines[session_id]
            self.tracker.remove(session_id)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert set(self.tracker.sessions) == set(self.deadlines)
        in_buckets = sorted(found for bucket in self.tracker.expiries().values() for found in bucket)
        assert in_buckets == sorted(self.deadlines)
        # One tick of the bucket, and one for a caller that is late.
        assert all(deadline + 2 * TICK >= self.now for deadline in self.deadlines.values())


TestExpiryAgainstDeadlines: Any = ExpiryAgainstDeadlines.TestCase
TestExpiryAgainstDeadlines.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
