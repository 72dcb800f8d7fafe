"""Elections while a voter's machine says that no server listens there: its vote is not waited for."""

from __future__ import annotations

from terzetto.testcluster.election import FINALIZE_MS

from .test_election import ensemble, looking, outcome, started


def test_a_quorum_does_not_wait_for_who_is_not_there() -> None:
    election = started(1, zxid=5)
    election.receive(2, looking(2, zxid=5), 10)
    assert outcome(election) is None
    assert election.next_due_ms == 10 + FINALIZE_MS
    election.absent(3, 20)
    elected = outcome(election)
    assert elected is not None
    assert elected.leader == 2


def test_in_whatever_order_both_are_learnt() -> None:
    election = started(1, zxid=5)
    election.absent(3, 5)
    assert outcome(election) is None
    election.receive(2, looking(2, zxid=5), 10)
    elected = outcome(election)
    assert elected is not None
    assert elected.leader == 2


def test_absence_makes_no_quorum() -> None:
    election = started(1, zxid=5)
    election.absent(2, 5)
    election.absent(3, 5)
    for now_ms in range(10, 5000, 100):
        election.tick(now_ms)
    assert outcome(election) is None


def test_who_speaks_is_there() -> None:
    election = started(1, zxid=5)
    election.absent(3, 5)
    election.receive(3, looking(3, zxid=1), 6)
    election.receive(2, looking(2, zxid=5), 10)
    # Server 3 has voted for less, and may have its say.
    assert outcome(election) is None
    election.tick(10 + FINALIZE_MS)
    assert outcome(election) is not None


def test_each_election_learns_it_anew() -> None:
    election = started(1, zxid=5)
    election.absent(3, 5)
    election.start(5, 0, 100)
    election.receive(2, looking(2, zxid=5, round_number=2), 110)
    assert outcome(election) is None


def test_others_are_still_waited_for() -> None:
    election = started(1, zxid=5, config=ensemble(5))
    election.absent(5, 5)
    election.receive(2, looking(2, zxid=5), 10)
    election.receive(3, looking(2, zxid=5), 11)
    assert outcome(election) is None
    election.absent(4, 12)
    assert outcome(election) is not None


def test_a_leader_that_is_known_is_not_elected_again() -> None:
    election = started(1, zxid=5)
    election.receive(2, looking(2, zxid=5), 10)
    election.absent(3, 20)
    elected = outcome(election)
    election.settle(election.state)
    election.absent(2, 30)
    assert outcome(election) == elected
