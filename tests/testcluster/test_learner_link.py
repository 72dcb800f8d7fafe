"""When a learner is overdue, and what it owes."""

from __future__ import annotations

import pytest

from terzetto.testcluster.learner_link import LearnerLink, LinkPhase

INIT_MS, SYNC_MS = 1000, 500


def link_in(phase: LinkPhase) -> LearnerLink:
    link = LearnerLink(1, 0)
    if phase != LinkPhase.GREETING:
        link.enter(phase, 0)
    return link


def overdue(link: LearnerLink, now_ms: int) -> str | None:
    return link.overdue(now_ms, init_ms=INIT_MS, sync_ms=SYNC_MS)


def test_a_learner_only_comes_closer() -> None:
    link = link_in(LinkPhase.OFFERED)
    with pytest.raises(AssertionError):
        link.enter(LinkPhase.WAITING, 1)


def test_proposals_follow_newleader() -> None:
    for phase in LinkPhase:
        link = link_in(phase)
        assert link.gets_proposals is (phase >= LinkPhase.SYNCING)
        assert not link.gets_informed
        link.is_observer = True
        assert link.gets_informed is (phase >= LinkPhase.SYNCING)
        assert not link.gets_proposals


@pytest.mark.parametrize("phase", [LinkPhase.GREETING, LinkPhase.OFFERED])
def test_discovery_has_its_time_however_much_is_said(phase: LinkPhase) -> None:
    link = link_in(phase)
    link.heard_ms = INIT_MS
    assert overdue(link, INIT_MS) is None
    assert overdue(link, INIT_MS + 1) is not None


@pytest.mark.parametrize("phase", [LinkPhase.WAITING, LinkPhase.ADMITTED, LinkPhase.SYNCED])
def test_who_waits_for_the_leader_is_not_overdue(phase: LinkPhase) -> None:
    assert overdue(link_in(phase), 100 * INIT_MS) is None


def test_synchronization_lasts_while_something_is_heard() -> None:
    link = link_in(LinkPhase.SYNCING)
    link.heard_ms = INIT_MS
    assert overdue(link, 2 * INIT_MS) is None
    assert overdue(link, 2 * INIT_MS + 1) is not None


def test_in_step_silence_has_its_limit() -> None:
    link = link_in(LinkPhase.ACTIVE)
    assert overdue(link, SYNC_MS) is None
    assert overdue(link, SYNC_MS + 1) is not None
    link.heard_ms = 10
    assert overdue(link, SYNC_MS + 10) is None


def test_one_proposal_is_watched_at_a_time() -> None:
    link = link_in(LinkPhase.ACTIVE)
    link.proposed(1, 0)
    link.proposed(2, 100)
    link.proposed(3, 200)
    link.heard_ms = 10_000
    assert overdue(link, SYNC_MS) is None
    assert overdue(link, SYNC_MS + 1) is not None
    link.acknowledged(1, 400)
    assert overdue(link, SYNC_MS + 400) is None
    assert overdue(link, SYNC_MS + 401) is not None
    link.acknowledged(2, 450)
    assert overdue(link, SYNC_MS + 401) is not None
    link.acknowledged(3, 460)
    assert overdue(link, 10_000) is None
    link.proposed(4, 10_000)
    link.heard_ms = 20_000
    assert overdue(link, 10_001 + SYNC_MS) is not None


def test_what_is_owed_is_paid_by_the_last_ack() -> None:
    link = link_in(LinkPhase.SYNCING)
    link.owed = 5
    link.acknowledged(4, 0)
    assert link.owed == 5
    link.acknowledged(5, 0)
    assert link.owed is None
