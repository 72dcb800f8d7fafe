"""When a server is pinged and when it is given up, by numbers."""

from __future__ import annotations

import pytest

from terzetto.client import OperationTimeoutError
from terzetto.client._liveness import Liveness


def accepted(now: float = 100.0, timeout: float = 12.0) -> Liveness:
    liveness = Liveness(30.0)
    liveness.link_up(now, 5.0)
    liveness.accepted(timeout)
    return liveness


def test_the_handshake_has_a_bound() -> None:
    liveness = Liveness(30.0)
    liveness.link_up(100.0, 5.0)
    assert liveness.unreadiness(104.9) is None
    assert isinstance(liveness.unreadiness(105.0), OperationTimeoutError)


def test_what_follows_the_handshake_has_one_of_its_own() -> None:
    liveness = Liveness(30.0)
    liveness.link_up(100.0, 5.0)
    liveness.heard_at = 104.0
    liveness.accepted(12.0)
    assert liveness.timeout == 12.0
    assert liveness.unreadiness(115.9) is None
    assert liveness.unreadiness(116.0) is not None


def test_a_ping_is_due_a_third_of_the_timeout_after_the_last_send() -> None:
    liveness = accepted()
    assert liveness.next_deadline(False, blocked=False) == 104.0
    assert not liveness.ping_due(103.9, False)
    assert liveness.ping_due(104.0, False)
    liveness.sent_at = 103.0
    assert not liveness.ping_due(104.0, False)


def test_an_owner_pings_after_a_sixth() -> None:
    liveness = accepted()
    assert liveness.next_deadline(True, blocked=False) == 102.0
    assert liveness.ping_due(102.0, True)
    assert not liveness.ping_due(101.9, True)


def test_a_server_is_given_up_after_two_thirds_of_silence() -> None:
    liveness = accepted()
    liveness.sent_at = 107.0
    assert liveness.next_deadline(False, blocked=False) == 108.0
    assert liveness.silence(107.9) is None
    error = liveness.silence(108.0)
    assert isinstance(error, OperationTimeoutError)
    assert "nothing heard from the server for 8.000 s" in str(error)
    liveness.heard_at = 107.0
    assert liveness.silence(108.0) is None


def test_a_request_may_stay_unanswered_for_three_timeouts() -> None:
    liveness = accepted()
    assert liveness.stuckness(100.0, 7) is None
    assert liveness.stuckness(135.9, 7) is None
    error = liveness.stuckness(136.0, 7)
    assert isinstance(error, OperationTimeoutError)
    assert "request 7 has not been answered for 36.000 s" in str(error)


@pytest.mark.parametrize("other", [0, 8])
def test_it_counts_from_when_that_request_became_the_oldest(other: int) -> None:
    liveness = accepted()
    liveness.stuckness(100.0, 7)
    liveness.stuckness(120.0, other)
    assert liveness.stuckness(136.0, other) is None
    assert liveness.stuckness(137.0, 7) is None
    assert liveness.stuckness(172.9, 7) is None
    assert liveness.stuckness(173.0, 7) is not None


def test_an_idle_connection_is_never_stuck() -> None:
    liveness = accepted()
    assert liveness.stuckness(100.0, 0) is None
    assert liveness.stuckness(1e9, 0) is None


def test_a_new_connection_begins_afresh() -> None:
    liveness = accepted()
    liveness.stuckness(100.0, 7)
    liveness.link_up(130.0, 5.0)
    assert liveness.stuckness(140.0, 7) is None
    assert liveness.silence(131.0) is None


def test_a_link_that_takes_nothing_is_looked_at_when_its_silence_counts() -> None:
    """A ping that cannot leave is due for ever; to wait for it would be not to wait at all."""
    liveness = accepted()
    assert liveness.next_deadline(False, blocked=True) == liveness.next_deadline(True, blocked=True) == 108.0
