"""Elections: each rule of FastLeaderElection, for one server."""

from __future__ import annotations

from itertools import pairwise

import pytest

from terzetto.testcluster.election import ASKING_MAX, FINALIZE_MS, RESEND_FIRST_MS, RESEND_MAX_MS, Election, Vote
from terzetto.testcluster.membership import Member
from terzetto.testcluster.messages import Notification, ServerState, decode_notification, encode_notification
from terzetto.testcluster.quorum import QuorumConfig, parse_config

LOOKING, FOLLOWING, LEADING, OBSERVING = ServerState
NO_VOTE = -(1 << 63)


def ensemble(voters: int, observers: int = 0, weights: dict[int, int] | None = None) -> QuorumConfig:
    members = {
        sid: Member(sid, ((f"10.0.0.{sid}", 2888, 3888),), observer=sid > voters)
        for sid in range(1, voters + observers + 1)
    }
    groups = {1: tuple(range(1, voters + 1))} if weights else {}
    return QuorumConfig(members, 0, groups, weights or {})


THREE = ensemble(3, observers=1)


def looking(leader: int, zxid: int = 0, round_number: int = 1, epoch: int = 0) -> Notification:
    return Notification(LOOKING, leader, zxid, round_number, epoch, 2, "garbage")


def started(
    sid: int = 1, zxid: int = 5, epoch: int = 0, config: QuorumConfig = THREE, *, observer: bool = False
) -> Election:
    """A server that has begun its first election at 0 ms, with what it sent taken away."""
    election = Election(sid, config, is_observer=observer)
    election.start(zxid, epoch, 0)
    election.take_sends()
    return election


def outcome(election: Election) -> Vote | None:
    """What `elected` is now; a call, so that a type checker expects it to change."""
    return election.elected


def led(election: Election, leader: int = 3, *, round_number: int = 1) -> Election:
    """The same server, FOLLOWING `leader` in epoch 2 after all have agreed."""
    for sid in THREE.voters - {election.sid}:
        election.receive(sid, looking(leader, 9, round_number, 1), 10)
    assert outcome(election) is not None
    election.settle(election.state)
    election.established(2)
    election.take_sends()
    return election


# What is sent.


def test_a_voter_begins_with_a_vote_for_itself_to_every_other_voter() -> None:
    election = Election(1, THREE, is_observer=False)
    election.start(0x100000005, 1, 0)
    sends = election.take_sends()
    assert [sid for sid, _ in sends] == [2, 3]
    assert {each for _, each in sends} == {Notification(LOOKING, 1, 0x100000005, 1, 1, 2, THREE.text())}
    assert election.take_sends() == []


def test_an_observer_votes_for_nobody() -> None:
    election = Election(4, THREE, is_observer=True)
    election.start(0x100000005, 1, 0)
    sends = election.take_sends()
    assert [sid for sid, _ in sends] == [1, 2, 3]
    assert sends[0][1][:5] == (LOOKING, NO_VOTE, NO_VOTE, 1, NO_VOTE)


def test_what_is_sent_carries_the_whole_configuration() -> None:
    election = Election(1, THREE, is_observer=False)
    election.start(1, 0, 0)
    _, notification = election.take_sends()[0]
    sent = decode_notification(encode_notification(notification))
    assert sent.version == 2
    assert sent.config is not None
    assert parse_config(sent.config) == THREE


def test_each_election_is_a_round_of_its_own() -> None:
    election = started()
    assert election.round == 1
    election.start(5, 0, 10)
    assert election.round == 2
    assert election.take_sends()[0][1].election_epoch == 2


def test_without_answers_the_vote_is_sent_again_with_growing_pauses() -> None:
    election = started()
    times: list[int] = []
    while len(times) < 6:
        due = election.next_due_ms
        assert due is not None
        election.tick(due - 1)
        assert election.take_sends() == []
        election.tick(due)
        assert [sid for sid, _ in election.take_sends()] == [2, 3]
        times.append(due)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == RESEND_FIRST_MS
    assert pauses == [400, 800, 1600, RESEND_MAX_MS, RESEND_MAX_MS]


# Votes of LOOKING servers.


@pytest.mark.parametrize(
    ("vote", "better"),
    [
        (looking(2, 5, 1, 1), True),
        (looking(2, 6, 1, 0), True),
        (looking(2, 5, 1, 0), True),
        (looking(2, 4, 1, 0), False),
        (looking(3, 99, 1, -1), False),
        (looking(2, -5, 1, 3), True),
    ],
)
def test_epoch_then_history_then_sid_decide_which_vote_is_better(vote: Notification, better: bool) -> None:
    election = started(sid=1, zxid=5, epoch=0)
    election.receive(2, vote, 1)
    assert (election.vote.leader == vote.leader) is better
    # A better vote is told to everyone, a worse one is corrected.
    assert [sid for sid, _ in election.take_sends()] == ([2, 3] if better else [2])


def test_the_same_vote_is_not_answered() -> None:
    election = started(sid=1)
    election.receive(2, looking(3, 9), 1)
    election.take_sends()
    election.receive(3, looking(3, 9), 2)
    assert election.take_sends() == []


def test_a_later_round_is_joined_with_the_better_of_both_votes() -> None:
    election = started(sid=1, zxid=5)
    election.receive(2, looking(2, 4, 7), 1)
    assert election.round == 7
    assert election.vote == Vote(1, 5, 7, 0)
    assert [each.election_epoch for _, each in election.take_sends()] == [7, 7]
    election.receive(3, looking(3, 9, 8), 2)
    assert election.vote == Vote(3, 9, 8, 0)


def test_votes_of_an_earlier_round_are_forgotten_with_it() -> None:
    election = started(sid=1, zxid=5)
    election.receive(2, looking(1, 5, 1), 1)
    assert election.next_due_ms == 1 + FINALIZE_MS
    election.receive(3, looking(1, 5, 2), 2)
    # Server 3 and this one agree in the new round; 2 has said nothing in it.
    assert election.next_due_ms == 2 + FINALIZE_MS
    assert outcome(election) is None


def test_a_voter_in_an_earlier_round_is_told_of_this_one() -> None:
    election = started(sid=1, zxid=5)
    election.start(5, 0, 1)
    election.take_sends()
    election.receive(2, looking(2, 9, 1), 2)
    assert election.vote.leader == 1
    assert [(sid, each.election_epoch) for sid, each in election.take_sends()] == [(2, 2)]


def test_a_quorum_waits_for_a_better_vote_and_decides() -> None:
    election = started(sid=1, zxid=5)
    election.receive(2, looking(2, 6), 10)
    assert outcome(election) is None
    assert election.next_due_ms == 10 + FINALIZE_MS
    election.tick(10 + FINALIZE_MS - 1)
    assert outcome(election) is None
    election.tick(10 + FINALIZE_MS)
    assert outcome(election) == Vote(2, 6, 1, 0)
    assert election.state is FOLLOWING
    assert election.next_due_ms is None


def test_a_better_vote_in_that_time_begins_the_wait_anew() -> None:
    election = started(sid=1, zxid=5, config=ensemble(5))
    election.receive(2, looking(2, 6), 10)
    election.receive(4, looking(2, 6), 20)
    assert election.next_due_ms == 20 + FINALIZE_MS
    election.receive(3, looking(3, 7), 100)
    election.receive(2, looking(3, 7), 110)
    assert election.next_due_ms == 110 + FINALIZE_MS
    election.tick(110 + FINALIZE_MS)
    assert outcome(election) == Vote(3, 7, 1, 0)


def test_more_of_the_same_does_not_prolong_the_wait() -> None:
    election = started(sid=1, zxid=5, config=ensemble(5))
    for at, sid in enumerate((2, 3, 4)):
        election.receive(sid, looking(2, 6), 10 + at)
    assert election.next_due_ms == 11 + FINALIZE_MS


def test_nobody_waits_when_every_voter_agrees() -> None:
    election = started(sid=1, zxid=5)
    election.receive(2, looking(2, 6), 10)
    election.receive(3, looking(2, 6), 11)
    assert outcome(election) == Vote(2, 6, 1, 0)


def test_the_elected_server_leads_and_an_observer_observes() -> None:
    election = started(sid=3, zxid=5)
    for sid in (1, 2):
        election.receive(sid, looking(3, 5), 1)
    assert election.state is LEADING
    observer = started(sid=4, observer=True)
    for sid in (1, 2, 3):
        observer.receive(sid, looking(3, 5), 1)
    assert observer.state is OBSERVING
    assert outcome(observer) == Vote(3, 5, 1, 0)


def test_an_ensemble_of_one_elects_itself_at_once() -> None:
    election = started(sid=1, config=ensemble(1))
    assert outcome(election) == Vote(1, 5, 1, 0)
    assert election.state is LEADING


@pytest.mark.parametrize(
    ("sender", "notification"),
    [
        (4, looking(4, 9)),  # an observer's vote
        (2, looking(4, 9)),  # a vote for an observer
        (2, looking(77, 9)),  # a vote for a stranger
        (1, looking(3, 9)),  # a vote that claims to be one's own
        (2, looking(2, -1)),  # a server that does not know its history
        (2, looking(3, 9, 1 << 62)),  # a round that could not be counted up
        (2, Notification(OBSERVING, 3, 9, 1, 0)),
    ],
)
def test_votes_that_do_not_count(sender: int, notification: Notification) -> None:
    election = started(sid=1)
    election.receive(sender, notification, 1)
    assert election.vote == Vote(1, 5, 1, 0)
    assert election.round == 1
    assert election.next_due_ms == RESEND_FIRST_MS


def test_a_server_that_does_not_know_its_history_elects_nobody_but_joins() -> None:
    election = started(sid=1, zxid=-1, epoch=-1)
    for sid in (2, 3):
        election.receive(sid, looking(3, 9), 1)
    assert outcome(election) is None
    for sid, state in ((2, FOLLOWING), (3, LEADING)):
        election.receive(sid, Notification(state, 3, 9, 1, 1), 2)
    assert outcome(election) is not None
    assert election.vote.leader == 3


def test_a_server_without_weight_is_never_elected() -> None:
    election = started(sid=1, zxid=5, config=ensemble(3, weights={3: 0}))
    election.receive(3, looking(3, 9), 1)
    assert election.vote.leader == 1
    # No answer either: to a vote of that kind there could be answers without end.
    assert election.take_sends() == []


# Questions.


@pytest.mark.parametrize("sender", [4, 77, -1])
def test_a_stranger_is_answered_with_the_current_vote(sender: int) -> None:
    election = started(sid=1)
    election.receive(sender, looking(NO_VOTE, NO_VOTE, 9, NO_VOTE), 1)
    assert election.take_sends() == [(sender, Notification(LOOKING, 1, 5, 1, 0, 2, THREE.text()))]
    assert election.round == 1
    led(election)
    election.receive(sender, looking(NO_VOTE, NO_VOTE, 9, NO_VOTE), 20)
    assert election.take_sends() == [(sender, Notification(FOLLOWING, 3, 9, 1, 2, 2, THREE.text()))]


def test_a_follower_answers_a_voter_that_looks_and_nobody_else() -> None:
    election = led(started(sid=1))
    election.receive(2, looking(2, 99, 12, 7), 20)
    assert election.take_sends() == [(2, Notification(FOLLOWING, 3, 9, 1, 2, 2, THREE.text()))]
    for state in (FOLLOWING, LEADING, OBSERVING):
        election.receive(2, Notification(state, 2, 99, 12, 7), 21)
    assert election.take_sends() == []
    assert election.round == 1


def test_an_observer_never_argues_with_a_voter() -> None:
    # A voter answers whoever has no vote: two answers would follow each other for ever.
    observer = started(sid=4, observer=True)
    observer.start(0, 0, 0)
    observer.receive(3, looking(3, 9, 2), 0)
    observer.take_sends()
    observer.receive(1, looking(1, 5, 1), 1)
    observer.receive(2, looking(2, 5, 2), 1)
    assert observer.take_sends() == []


@pytest.mark.parametrize("state", [FOLLOWING, LEADING, OBSERVING])
def test_a_stranger_that_has_a_leader_is_not_answered(state: ServerState) -> None:
    election = started(sid=1)
    election.receive(4, Notification(state, 3, 9, 1, 1), 1)
    assert election.take_sends() == []


def test_an_observer_that_has_a_leader_does_not_answer_a_voter_that_looks() -> None:
    # The voter would answer that, for ever: ZooKeeper's do.
    observer = started(sid=4, observer=True)
    for sid in (1, 2, 3):
        observer.receive(sid, looking(3, 5), 1)
    observer.settle(OBSERVING)
    observer.take_sends()
    observer.receive(1, looking(1, 5, 2), 2)
    assert observer.take_sends() == []


def test_who_asked_too_early_is_told_the_outcome() -> None:
    election = started(sid=1)
    for sender in range(100, 100 + ASKING_MAX + 5):
        election.receive(sender, looking(NO_VOTE), 1)
    election.take_sends()
    for sid in (2, 3):
        election.receive(sid, looking(3, 9), 2)
    election.take_sends()
    election.settle(FOLLOWING)
    told = election.take_sends()
    assert [sid for sid, _ in told] == list(range(100, 100 + ASKING_MAX))
    assert {each[:3] for _, each in told} == {(FOLLOWING, 3, 9)}
    election.start(5, 0, 3)
    election.take_sends()
    for sid in (2, 3):
        election.receive(sid, looking(3, 9, 2), 4)
    election.take_sends()
    election.settle(FOLLOWING)
    assert election.take_sends() == []


# Votes of servers that have a leader.


def test_a_newcomer_joins_a_running_ensemble_of_any_round() -> None:
    election = started(sid=1, zxid=5)
    election.receive(2, Notification(FOLLOWING, 3, 9, 41, 2), 1)
    assert outcome(election) is None
    election.receive(3, Notification(LEADING, 3, 9, 41, 2), 2)
    assert outcome(election) == Vote(3, 9, 41, 2)
    assert election.round == 41
    election.start(5, 0, 3)
    assert election.round == 42


def test_followers_alone_do_not_make_a_leader() -> None:
    election = started(sid=1, config=ensemble(5))
    for sid in (2, 3, 4):
        election.receive(sid, Notification(FOLLOWING, 5, 9, 41, 2), 1)
    assert outcome(election) is None
    election.receive(5, Notification(FOLLOWING, 5, 9, 41, 2), 2)
    assert outcome(election) is None
    election.receive(5, Notification(LEADING, 5, 9, 41, 2), 3)
    assert outcome(election) is not None


def test_a_leader_alone_is_no_quorum() -> None:
    election = started(sid=1)
    election.receive(3, Notification(LEADING, 3, 9, 41, 2), 1)
    assert outcome(election) is None


def test_followers_of_different_epochs_do_not_agree() -> None:
    election = started(sid=1)
    election.receive(3, Notification(LEADING, 3, 9, 41, 2), 1)
    election.receive(2, Notification(FOLLOWING, 3, 9, 41, 1), 1)
    assert outcome(election) is None
    election.receive(2, Notification(FOLLOWING, 3, 8, 40, 2), 1)
    assert outcome(election) is not None


def test_the_form_without_a_version_says_nothing_of_the_epoch() -> None:
    election = started(sid=1)
    election.receive(3, Notification(LEADING, 3, 9, 41, 2), 1)
    election.receive(2, Notification(FOLLOWING, 3, 9, 41, 1, 0), 1)
    assert outcome(election) is not None


def test_in_the_same_round_the_epoch_of_a_settled_vote_does_not_matter() -> None:
    election = started(sid=1)
    election.receive(3, Notification(LEADING, 3, 9, 1, 2), 1)
    election.receive(2, Notification(FOLLOWING, 3, 9, 1, 1), 1)
    assert outcome(election) == Vote(3, 9, 1, 1)


def test_a_server_that_restarted_is_led_back_to_its_leadership_in_the_same_round_only() -> None:
    election = started(sid=3, zxid=9)
    for sid in (1, 2):
        election.receive(sid, Notification(FOLLOWING, 3, 9, 41, 2), 1)
    assert outcome(election) is None
    for sid in (1, 2):
        election.receive(sid, Notification(FOLLOWING, 3, 9, 1, 2), 1)
    assert outcome(election) is not None
    assert election.state is LEADING


def test_after_the_election_the_vote_has_the_epoch_of_the_leader() -> None:
    election = led(started(sid=1))
    assert election.vote == Vote(3, 9, 1, 2)
    assert outcome(election) == Vote(3, 9, 1, 1)
