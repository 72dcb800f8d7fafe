"""The proof of ownership by numbers: what proves, for how long, when it is renewed, and what ends it."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, strategies as st

from terzetto.client._proof import (
    AMPLE_SHARE,
    DRIFT_MARGIN,
    HEARD_SPACING,
    KEEPALIVE_SHARE,
    LATE_SHARE,
    PROOF_SHARE,
    RENEWAL_SHARE,
    REPORT_SHARE,
    OwnershipProof,
)
from terzetto.client.wire.operations import MAX_XID

T = 12.0
HALF = T * PROOF_SHARE * (1 - DRIFT_MARGIN)
WHOLE = T * (1 - LATE_SHARE) * (1 - DRIFT_MARGIN)
REPORT = T * REPORT_SHARE * (1 + DRIFT_MARGIN)


class Connection:
    """Requests one after the other on a connection that was accepted at 100."""

    def __init__(self, timeout: float = T, asked_at: float = 100.0) -> None:
        self.proof = OwnershipProof()
        self.xid = 0
        self.connect(asked_at, timeout)

    def connect(self, asked_at: float, timeout: float = T) -> None:
        self.proof.connecting(asked_at)
        self.proof.negotiated(timeout, asked_at)

    def read(self, sent_at: float, answered_at: float | None = None) -> None:
        self.xid += 1
        self.proof.heard(sent_at, sent_at if answered_at is None else answered_at)

    def write(self, sent_at: float, answered_at: float | None = None, others: int = 0) -> None:
        """`others` more requests were made before the answer came."""
        self.xid += 1
        self.proof.answered(sent_at, self.xid, self.xid + others)
        self.proof.heard(sent_at, sent_at if answered_at is None else answered_at)


def test_the_shares_fit_together() -> None:
    # A kept proof rests on a request that was answered half a timeout before the last one; then comes the next renewal.
    oldest = 3 * RENEWAL_SHARE
    assert 2 * RENEWAL_SHARE > REPORT_SHARE * (1 + DRIFT_MARGIN) + HEARD_SPACING
    left = (1 - LATE_SHARE) * (1 - DRIFT_MARGIN) - oldest
    assert left - RENEWAL_SHARE > AMPLE_SHARE
    assert PROOF_SHARE * (1 - DRIFT_MARGIN) > AMPLE_SHARE
    # An idle client has sent a ping in the third before the quarter before: two requests prove enough to begin.
    assert (1 - LATE_SHARE) * (1 - DRIFT_MARGIN) - REPORT_SHARE * (
        1 + DRIFT_MARGIN
    ) - 1 / 3 - HEARD_SPACING > AMPLE_SHARE
    assert 0 < DRIFT_MARGIN < 0.1
    assert KEEPALIVE_SHARE <= RENEWAL_SHARE


def test_there_is_none_at_first() -> None:
    proof = Connection().proof
    assert (proof.deadline, proof.proven_at, proof.told_at) == (-inf, -inf, -inf)


def test_on_a_new_connection_one_request_is_enough() -> None:
    """The leader was asked for the session a moment ago."""
    connection = Connection()
    connection.write(101.0, 101.5)
    proof = connection.proof
    assert (proof.proven_at, proof.told_at) == (101.0, 100.0)
    assert proof.deadline == pytest.approx(101.0 + HALF)  # from the sending, not from the answer


def test_of_a_connection_that_was_accepted_long_ago_it_proves_little() -> None:
    connection = Connection()
    connection.write(109.0)
    assert connection.proof.deadline == pytest.approx(100.0 + WHOLE)


def test_later_on_it_takes_two() -> None:
    connection = Connection()
    connection.write(100.0)
    connection.read(120.0)
    connection.read(129.0)
    connection.write(130.0)
    assert connection.proof.told_at == 100.0
    connection.write(130.1)
    # The second read may have been reported or not; the first one has.
    assert connection.proof.told_at == 120.0
    assert connection.proof.deadline == pytest.approx(min(130.1 + HALF, 120.0 + WHOLE))


@pytest.mark.parametrize(("answered_at", "told_at"), [(130.0 - REPORT, 120.0), (130.0 - REPORT + 0.01, 100.0)])
def test_what_was_answered_half_a_tick_before_the_first_of_them_was_reported(
    answered_at: float, told_at: float
) -> None:
    connection = Connection()
    connection.write(100.0)
    connection.read(120.0, answered_at)
    connection.write(130.0)
    connection.write(130.1)
    assert connection.proof.told_at == told_at


def test_the_second_must_be_made_after_the_answer_to_the_first() -> None:
    connection = Connection()
    connection.write(100.0)
    connection.read(120.0)
    connection.write(130.0, others=1)
    connection.write(130.0)
    assert connection.proof.told_at == 100.0
    connection.write(130.1)
    assert connection.proof.told_at == 120.0


def test_xids_begin_anew() -> None:
    connection = Connection()
    connection.xid = MAX_XID - 2
    connection.write(100.0)
    connection.read(120.0)
    connection.xid = MAX_XID - 1
    connection.write(130.0)
    connection.xid = 0
    connection.write(130.1)
    assert connection.proof.told_at == 120.0


def test_what_one_connection_has_heard_the_next_one_cannot_report() -> None:
    connection = Connection()
    connection.write(100.0)
    connection.read(110.0)
    connection.write(115.0)
    connection.connect(116.0)
    assert connection.proof.told_at == 100.0
    connection.write(116.5)
    assert connection.proof.told_at == 116.0


def test_writes_one_after_the_other_keep_it() -> None:
    connection = Connection()
    now = 100.0
    for _ in range(30):
        now += T * RENEWAL_SHARE
        connection.write(now, now + 0.1)
        assert connection.proof.deadline - now > T * (AMPLE_SHARE + RENEWAL_SHARE)


def test_an_older_answer_does_not_shorten_it() -> None:
    connection = Connection()
    connection.write(101.0)
    before = connection.proof.deadline
    connection.write(100.5)
    assert (connection.proof.deadline, connection.proof.proven_at) == (before, 101.0)


def test_a_reconnect_proves_nothing() -> None:
    connection = Connection()
    connection.write(100.0)
    before = connection.proof.deadline
    connection.connect(101.0, 120.0)
    assert connection.proof.deadline == before
    fresh = Connection()
    fresh.connect(101.0)
    assert fresh.proof.deadline == -inf


def test_a_reconnect_with_a_shorter_timeout_shortens_it() -> None:
    connection = Connection()
    connection.write(100.0)
    connection.connect(101.0, 4.0)
    assert connection.proof.deadline == pytest.approx(100.0 + 4.0 * PROOF_SHARE * (1 - DRIFT_MARGIN))


def test_the_end_of_the_session_ends_it() -> None:
    connection = Connection()
    connection.write(100.0)
    proof = connection.proof
    proof.renewing(101.0)
    proof.session_lost()
    assert (proof.deadline, proof.proven_at, proof.told_at) == (-inf, -inf, -inf)
    proof.hold()
    assert proof.renewal_due() == -inf


def test_nobody_wants_it_nothing_is_due() -> None:
    connection = Connection()
    connection.write(100.0)
    assert connection.proof.renewal_due() == inf


def test_it_is_renewed_after_a_sixth_of_the_timeout() -> None:
    connection = Connection()
    proof = connection.proof
    proof.hold()
    proof.hold()
    assert proof.renewal_due() == -inf  # there is none yet, so at once
    connection.write(100.0)
    assert proof.renewal_due() == 102.0
    proof.renewing(102.0)
    assert proof.renewal_due() == 105.0  # pings come in between
    connection.write(102.0)
    assert proof.renewal_due() == 104.0
    proof.release()
    assert proof.renewal_due() == 104.0
    proof.release()
    assert proof.renewal_due() == inf


def test_after_a_reconnect_it_is_renewed_at_once_or_when_it_would_have_been() -> None:
    connection = Connection()
    proof = connection.proof
    proof.hold()
    connection.write(100.0)
    proof.renewing(102.0)
    connection.connect(102.5)
    assert proof.renewal_due() == 102.0


def test_few_of_many_answers_are_remembered() -> None:
    connection = Connection()
    for index in range(10_000):
        connection.read(100.0 + index / 100)
    assert len(connection.proof._heard) <= 1 / HEARD_SPACING + 2  # pyright: ignore[reportPrivateUsage]
    connection.write(200.0)
    connection.write(200.1)
    assert 200.0 - REPORT - T * HEARD_SPACING - 0.01 <= connection.proof.told_at <= 200.0 - REPORT


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, float, float]]:
    """Requests on connections, one after the other or overlapping: kind, sent, answered, in the order of answers."""
    now, steps = 100.0, list[tuple[str, float, float]]()
    for _ in range(draw(st.integers(1, 40))):
        kind = draw(st.sampled_from(["read", "write", "write", "write", "connect"]))
        sent_at = now + draw(st.floats(0, 4.0))
        answered_at = sent_at + draw(st.floats(0, 4.0))
        now = sent_at if draw(st.booleans()) and kind != "connect" else answered_at
        steps.append((kind, sent_at, answered_at))
    return steps


@given(histories())
def test_it_never_holds_longer_than_a_leader_that_hears_as_late_as_possible(
    steps: list[tuple[str, float, float]],
) -> None:
    """The leader's pings come half a tick apart, and as late as they may; it hears what is replied to them, in order.

    What the leader was told before the last request came to it is the sending of some request that was answered so long
    before another one that a ping came in between; the proof must not claim more.
    """
    connection = Connection()
    heard: list[tuple[float, float]] = [(100.0, 100.0)]
    asked: list[tuple[float, float]] = []
    told = 100.0
    for kind, sent_at, answered_at in steps:
        if kind == "connect":
            connection.connect(sent_at)
            heard, asked, told = [(sent_at, answered_at)], [], max(told, sent_at)
            continue
        if kind == "read":
            connection.read(sent_at, answered_at)
        else:
            # Whoever was made before this answer has been asked for already.
            connection.write(sent_at, answered_at)
            for first_sent, first_answered in asked:
                if first_answered <= sent_at:
                    before = [u for u, v in heard if v <= first_sent - T * REPORT_SHARE]
                    told = max([told, *before])
            asked.append((sent_at, answered_at))
        heard.append((sent_at, answered_at))
        if connection.proof.told_at > -inf and kind == "write":
            overlapping = any(first_answered > sent_at for _, first_answered in asked[:-1])
            assert overlapping or connection.proof.told_at <= told + 1e-9
            assert connection.proof.deadline <= connection.proof.proven_at + T / 2
            assert connection.proof.deadline <= connection.proof.told_at + T
