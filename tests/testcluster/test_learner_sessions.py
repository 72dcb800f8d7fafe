"""Sessions as a learner knows them."""

from __future__ import annotations

from terzetto.testcluster.learner_sessions import LearnerSessions
from terzetto.testcluster.sessions import SessionIds


def test_each_session_that_was_heard_of_is_told_once() -> None:
    sessions = LearnerSessions(SessionIds(2, 5))
    one, other = sessions.track(1, 4000, 0), sessions.track(2, 6000, 0)
    assert sessions.take_touches() == [(1, 4000), (2, 6000)]
    assert sessions.take_touches() == []
    for _ in range(3):
        sessions.touch(other, 10)
    sessions.touch(one, 10)
    assert sorted(sessions.take_touches()) == [(1, 4000), (2, 6000)]


def test_a_session_that_is_over_is_not_told_of() -> None:
    sessions = LearnerSessions(SessionIds(2, 5))
    sessions.track(1, 4000, 0)
    sessions.remove(1)
    sessions.remove(2)
    assert sessions.take_touches() == []
    assert sessions.sessions == {}


def test_a_confirmed_session_has_the_timeout_of_its_last_connect() -> None:
    sessions = LearnerSessions(SessionIds(2, 5))
    known = sessions.track(1, 4000, 0)
    sessions.take_touches()
    assert sessions.confirm(1, 9000, 1) is known
    assert sessions.confirm(7, 5000, 1).timeout_ms == 5000
    assert sessions.take_touches() == [(1, 9000), (7, 5000)]


def test_nothing_is_ever_due() -> None:
    sessions = LearnerSessions(SessionIds(2, 5))
    sessions.restore([(1, 4000)], 0)
    assert sessions.expiries() == {}
    assert sessions.due(10**9) == sessions.due(10**9 + 1) == []


def test_ids_go_on_where_they_were() -> None:
    ids = SessionIds(2, 5)
    first = LearnerSessions(ids).next_id()
    assert LearnerSessions(ids).next_id() == first + 1
    assert first >> 56 == 2
