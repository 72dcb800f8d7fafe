"""The proof of ownership by numbers: what proves, for how long, when it is renewed, and what ends it."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, strategies as st

from terzetto.client._liveness import PING_SHARE
from terzetto.client._proof import (
    DRIFT_MARGIN,
    FIRST_PROOF_SHARE,
    KEEPALIVE_SHARE,
    PROOF_SHARE,
    RENEWAL_SHARE,
    OwnershipProof,
)


def proof_of(timeout: float = 12.0) -> OwnershipProof:
    proof = OwnershipProof()
    proof.negotiated(timeout)
    return proof


HALF_A_TICK = 1 / 4
"""Of the timeout, at most: a server grants no less than two ticks."""


def test_the_leader_expires_no_earlier_than_the_proof_ends() -> None:
    """What the leader knows of the session when a proof is sent is a ping old, and half a tick for the report of it."""
    assert 1 - KEEPALIVE_SHARE - HALF_A_TICK > PROOF_SHARE
    assert 1 - PING_SHARE - HALF_A_TICK >= FIRST_PROOF_SHARE - 1e-9
    assert PROOF_SHARE - RENEWAL_SHARE > KEEPALIVE_SHARE  # a renewal has time to be answered
    assert 0 < DRIFT_MARGIN < 0.1


def test_there_is_none_at_first() -> None:
    proof = proof_of()
    assert (proof.deadline, proof.proven_at) == (-inf, -inf)


def test_it_counts_from_the_sending() -> None:
    proof = proof_of(12.0)
    proof.answered(100.0)
    assert proof.proven_at == 100.0
    assert proof.deadline == pytest.approx(100.0 + 5.0 * (1 - DRIFT_MARGIN))


def test_it_holds_for_longer_once_it_has_been_kept_for_a_while() -> None:
    proof = proof_of(12.0)
    proof.hold(100.0)
    proof.hold(101.9)  # a second holder changes nothing
    proof.answered(101.9)
    assert proof.deadline == pytest.approx(101.9 + 5.0 * (1 - DRIFT_MARGIN))
    proof.answered(102.0)  # pings every sixth, from 100 on
    assert proof.deadline == pytest.approx(102.0 + 6.0 * (1 - DRIFT_MARGIN))
    proof.release()
    proof.answered(103.0)
    assert proof.deadline == pytest.approx(103.0 + 6.0 * (1 - DRIFT_MARGIN))
    proof.release()
    proof.answered(110.0)
    assert proof.deadline == pytest.approx(110.0 + 5.0 * (1 - DRIFT_MARGIN))


def test_a_new_connection_of_a_held_proof_has_just_touched_the_session() -> None:
    proof = proof_of(12.0)
    proof.hold(100.0)
    proof.negotiated(12.0)
    proof.answered(100.5)
    assert proof.deadline == pytest.approx(100.5 + 6.0 * (1 - DRIFT_MARGIN))


def test_an_older_answer_does_not_shorten_it() -> None:
    proof = proof_of()
    proof.answered(100.0)
    before = proof.deadline
    proof.answered(99.0)
    assert (proof.deadline, proof.proven_at) == (before, 100.0)


def test_a_reconnect_proves_nothing() -> None:
    proof = proof_of(12.0)
    proof.answered(100.0)
    before = proof.deadline
    proof.negotiated(120.0)
    assert proof.deadline == before
    fresh = proof_of()
    fresh.negotiated(12.0)
    assert fresh.deadline == -inf


def test_a_reconnect_with_a_shorter_timeout_shortens_it() -> None:
    proof = proof_of(12.0)
    proof.answered(100.0)
    proof.negotiated(4.0)
    assert proof.deadline == pytest.approx(100.0 + 4.0 * 5 / 12 * (1 - DRIFT_MARGIN))


def test_the_end_of_the_session_ends_it() -> None:
    proof = proof_of()
    proof.answered(100.0)
    proof.renewing(101.0)
    proof.session_lost()
    assert (proof.deadline, proof.proven_at) == (-inf, -inf)
    proof.holders = 1
    assert proof.renewal_due() == -inf


def test_nobody_wants_it_nothing_is_due() -> None:
    proof = proof_of()
    proof.answered(100.0)
    assert proof.renewal_due() == inf


def test_it_is_renewed_after_a_quarter_of_the_timeout() -> None:
    proof = proof_of(12.0)
    proof.holders = 1
    assert proof.renewal_due() == -inf  # there is none yet, so at once
    proof.answered(100.0)
    assert proof.renewal_due() == 103.0
    proof.renewing(103.0)
    assert proof.renewal_due() == 106.0
    proof.answered(103.0)
    assert proof.renewal_due() == 106.0


def test_after_a_reconnect_it_is_renewed_at_once_or_when_it_would_have_been() -> None:
    proof = proof_of(12.0)
    proof.holders = 1
    proof.answered(100.0)
    proof.renewing(103.0)
    proof.negotiated(12.0)
    assert proof.renewal_due() == 103.0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("answered"), st.floats(0, 1000)),
            st.tuples(st.just("negotiated"), st.floats(0.1, 100)),
            st.tuples(st.just("lost"), st.just(0.0)),
        )
    )
)
def test_it_never_holds_longer_than_some_answered_request_allows(steps: list[tuple[str, float]]) -> None:
    proof = proof_of(10.0)
    timeout, newest, allowed = 10.0, -inf, -inf
    for step, number in steps:
        if step == "answered":
            proof.answered(number)
            if number > newest:
                newest = number
                allowed = max(allowed, number + timeout / 2)
        elif step == "negotiated":
            proof.negotiated(number)
            timeout = number
            if newest > -inf:
                allowed = min(allowed, newest + timeout / 2)
        else:
            proof.session_lost()
            newest = allowed = -inf
        assert proof.deadline <= allowed
        assert proof.proven_at == newest
