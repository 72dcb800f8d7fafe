"""What a leader sends to learners that have something else than itself, and when it takes them for synchronized."""

from __future__ import annotations

import pytest

from terzetto.testcluster.messages import (
    PacketType as P,
    ServerState,
    encode_int,
)
from terzetto.testcluster.ready import (
    LeadershipConfirmed,
    LearnerJoined,
    Role,
)

from .bench import SETTINGS, TICK_MS, Bench, Disk, config, payload, zxid
from .roles import (
    OLD,
    E,
    answer,
    elected,
    greet,
    leading,
)

# Synchronization.


def test_it_is_established_by_a_quorum_that_has_its_history() -> None:
    bench = elected(voters=5)
    links = [greet(bench, sid) for sid in (2, 3, 4)]
    for link in links:
        answer(bench, link)
    for link in links:
        bench.packets(link)
    bench.say(links[0], P.ACK, E)
    assert not bench.role.serving
    assert bench.packets(links[0]) == []
    bench.say(links[1], P.ACK, E)
    assert bench.role == Role(ServerState.LEADING, 2, 1, serving=True, may_snapshot=True)
    assert bench.heard(links[0]) == bench.heard(links[1]) == [(P.UPTODATE, -1)]
    assert bench.upcalls == [LearnerJoined(links[0], 2), LearnerJoined(links[1], 3)]
    assert bench.heard(links[2]) == []
    bench.say(links[2], P.ACK, E)
    assert bench.heard(links[2]) == [(P.UPTODATE, -1)]
    assert (bench.peer.last_proposed, bench.peer.last_committed) == (E, E)


def test_the_second_ack_of_newleader_is_ignored() -> None:
    bench, links = leading()
    bench.say(links[0], P.ACK, E)
    assert bench.heard(links[0]) == []
    assert bench.hung_up == {}


def test_one_voter_is_a_quorum() -> None:
    bench = Bench(1, config(1), Disk(OLD, accepted=1, current=1))
    assert bench.role.serving
    assert (bench.disk.accepted, bench.disk.current) == (2, 2)
    (number,) = bench.propose()
    assert bench.applied == [*OLD, number]
    assert bench.peer.confirm_leadership(bench.now_ms) == 1
    bench.drain()
    assert bench.upcalls == [LeadershipConfirmed(1)]


def test_what_a_learner_lacks_is_sent_as_a_diff() -> None:
    bench = elected()
    link = greet(bench, 2)
    answer(bench, link, OLD[0])
    pairs = [(kind, number) for number in OLD[1:] for kind in (P.PROPOSAL, P.COMMIT)]
    sent = bench.packets(link)[1:]
    assert [(packet.type, packet.zxid) for packet in sent] == [(P.DIFF, OLD[-1]), *pairs, (P.NEWLEADER, E)]
    assert [packet.data for packet in sent if packet.type == P.PROPOSAL] == [payload(number) for number in OLD[1:]]


@pytest.mark.parametrize("last", [0, -1, zxid(1, 2), zxid(1, 5)])
def test_what_is_not_remembered_is_sent_as_a_snapshot(last: int) -> None:
    history = [zxid(1, number) for number in range(1, 21)]
    bench = elected(Disk(history, accepted=1, current=1), recent_max=10)
    link = greet(bench, 2)
    answer(bench, link, last)
    greeted = greet(bench, 3)
    answer(bench, greeted, history[-1])
    assert bench.heard(link)[1:] == [(P.SNAP, history[-1]), (P.NEWLEADER, E)]
    (body,) = bench.bodies[link]
    assert [row.session_id for row in body.sessions] == history


def test_two_empty_servers_need_no_snapshot() -> None:
    bench = elected(Disk())
    link = greet(bench, 2, accepted=0)
    answer(bench, link, 0, 0)
    assert bench.heard(link)[1:] == [(P.DIFF, 0), (P.NEWLEADER, zxid(1, 0))]


def test_a_diff_is_not_trusted_before_its_proposals_are_acknowledged() -> None:
    """I13: ZooKeeper 3.8.0 acknowledges NEWLEADER before what came by DIFF is on its disk (ZOOKEEPER-4646)."""
    bench = elected()
    link = greet(bench, 2)
    answer(bench, link, OLD[0])
    bench.say(link, P.ACK, E)
    bench.say(link, P.ACK, OLD[1])
    assert not bench.role.serving
    bench.say(link, P.ACK, OLD[2])
    assert bench.role.serving


def test_acks_of_proposals_may_come_before_that_of_newleader() -> None:
    """L1: ZOOKEEPER-4685; ZooKeeper 3.8.0's log thread may be faster."""
    bench = elected()
    link = greet(bench, 2)
    answer(bench, link, OLD[0])
    for number in (*OLD[1:], E):
        assert not bench.role.serving
        bench.say(link, P.ACK, number)
    assert bench.role.serving


def test_a_learner_that_never_acknowledges_a_diff_is_trusted_after_a_while() -> None:
    """ZooKeeper 3.9.3 and later have it on disk when they acknowledge NEWLEADER, and say no more."""
    bench = elected()
    link = greet(bench, 2)
    answer(bench, link, OLD[0])
    bench.say(link, P.ACK, E)
    bench.wait(SETTINGS.sync_ms)
    assert not bench.role.serving
    bench.wait(TICK_MS)
    assert bench.role.serving


def test_a_learner_that_comes_late_need_not_acknowledge_its_diff() -> None:
    bench, links = leading()
    bench.close(links[0])
    link = greet(bench, 2)
    answer(bench, link, OLD[0])
    bench.say(link, P.ACK, E)
    assert bench.heard(link)[-1] == (P.UPTODATE, -1)


def test_the_leaders_tail_is_committed_when_it_is_established() -> None:
    bench, link = following_tail()
    bench.win()
    assert bench.applied == OLD
    learner = greet(bench, 2, accepted=2)
    answer(bench, learner, zxid(2, 1), 2)
    assert bench.applied == OLD
    assert bench.heard(learner)[1:] == [(P.DIFF, zxid(2, 1)), (P.NEWLEADER, zxid(3, 0))]
    bench.say(learner, P.ACK, zxid(3, 0))
    assert bench.applied == [*OLD, zxid(2, 1)]
    assert link not in bench.sent


def test_the_leaders_tail_is_in_the_snapshots_that_it_sends() -> None:
    bench, _ = following_tail()
    bench.win()
    learner = greet(bench, 2, accepted=2)
    other = greet(bench, 3, accepted=2)
    answer(bench, other, zxid(2, 1), 2)
    answer(bench, learner, -1, -1)
    assert bench.heard(learner)[1] == (P.SNAP, zxid(2, 1))
    assert [row.session_id for row in bench.bodies[learner][0].sessions] == [*OLD, zxid(2, 1)]


def following_tail() -> tuple[Bench, int]:
    """A server that followed until it had logged 2:1, which it has not heard to be committed."""
    bench = Bench(1, disk=Disk(OLD, accepted=1, current=1))
    bench.lose(3)
    link = bench.dialled()
    bench.say(link, P.LEADERINFO, E, encode_int(0x10000))
    bench.say(link, P.DIFF, OLD[-1])
    bench.say(link, P.NEWLEADER, E, b"")
    bench.say(link, P.UPTODATE)
    bench.propose_to(link, zxid(2, 1))
    bench.close(link)
    bench.packets(link)
    return bench, link


# A learner with something that is not in the leader's history.


def deposed(voters: int = 3) -> Bench:
    """Elected with epoch 2, without a transaction of it; 1:4 was never seen here."""
    return elected(Disk(OLD, accepted=2, current=2), voters=voters)


def test_without_which_there_is_no_quorum_a_learner_is_cut() -> None:
    bench = deposed()
    link = greet(bench, 2, accepted=2)
    answer(bench, link, zxid(1, 4), 1)
    assert bench.heard(link)[1:] == [(P.TRUNC, OLD[-1]), (P.NEWLEADER, zxid(3, 0))]


def test_with_a_quorum_of_others_a_learner_waits_for_an_established_leader() -> None:
    """ZooKeeper's learners leave a snapshot with what was cut (ZOOKEEPER-1549), so they get one that replaces it."""
    bench = deposed()
    link, other = greet(bench, 2, accepted=2), greet(bench, 3, accepted=2)
    bench.heard(link)
    bench.quick = False
    answer(bench, link, zxid(1, 4), 1)
    answer(bench, other, OLD[-1], 2)
    bench.sync()
    assert bench.heard(link) == []
    bench.say(other, P.ACK, zxid(3, 0))
    assert bench.heard(link) == [(P.SNAP, zxid(3, 0)), (P.NEWLEADER, zxid(3, 0))]
    assert [row.session_id for row in bench.bodies[link][0].sessions] == OLD


def test_who_waits_is_brought_into_step_when_the_others_go() -> None:
    bench = deposed()
    link, other = greet(bench, 2, accepted=2), greet(bench, 3, accepted=2)
    bench.quick = False
    answer(bench, link, zxid(1, 4), 1)
    answer(bench, other, OLD[-1], 2)
    bench.sync()
    bench.close(other)
    assert bench.heard(link)[1:] == [(P.TRUNC, OLD[-1]), (P.NEWLEADER, zxid(3, 0))]


def test_no_transaction_of_the_learners_epoch_no_cut() -> None:
    """I15: ZooKeeper cuts at a zxid that the learner need not have (ZOOKEEPER-1154)."""
    bench = elected(Disk(OLD, accepted=3, current=3))
    link = greet(bench, 2, accepted=3)
    answer(bench, link, zxid(2, 4), 2)
    # Behind everything that the learner has, so that it cannot come back from the learner's log.
    assert bench.heard(link)[1:] == [(P.SNAP, zxid(4, 0)), (P.NEWLEADER, zxid(4, 0))]


def test_an_observer_is_never_needed() -> None:
    bench = elected(Disk(OLD, accepted=2, current=2), observers=1)
    watching = greet(bench, 4, accepted=2, observer=True)
    link = greet(bench, 2, accepted=2)
    bench.heard(watching)
    answer(bench, link, OLD[-1], 2)
    answer(bench, watching, zxid(1, 4), 1)
    bench.wait(TICK_MS)
    assert bench.heard(watching) == []
    bench.say(link, P.ACK, zxid(3, 0))
    assert bench.heard(watching) == [(P.SNAP, zxid(3, 0)), (P.NEWLEADER, zxid(3, 0))]


def test_an_epoch_that_both_have_seen_begins_alike() -> None:
    """A server that has led without a proposal, or got a snapshot, may end with the epoch itself."""
    bench = elected(Disk([*OLD, zxid(2, 1)], accepted=2, current=2))
    link = greet(bench, 2, accepted=2)
    answer(bench, link, E, 2)
    assert bench.heard(link)[1:4] == [(P.DIFF, zxid(2, 1)), (P.PROPOSAL, zxid(2, 1)), (P.COMMIT, zxid(2, 1))]


def test_an_epoch_that_only_the_learner_has_seen_may_begin_otherwise() -> None:
    bench = elected(Disk([*OLD, zxid(3, 1)], accepted=3, current=3))
    link, other = greet(bench, 2, accepted=3), greet(bench, 3, accepted=3)
    answer(bench, other, zxid(3, 1), 3)
    bench.say(other, P.ACK, zxid(4, 0))
    answer(bench, link, E, 2)
    assert bench.heard(link)[1:] == [(P.SNAP, zxid(4, 0)), (P.NEWLEADER, zxid(4, 0))]


def test_histories_later_than_the_leaders_are_refused() -> None:
    bench, _ = leading()
    for last in (zxid(2, 1), zxid(3, 0), -2):
        link = greet(bench, 77)
        answer(bench, link, last, -1)
        assert link in bench.hung_up


# Learners that come while proposals are under way.


def test_outstanding_proposals_are_sent_behind_newleader() -> None:
    """ZOOKEEPER-4394: ZooKeeper 3.8.0 cannot commit behind NEWLEADER what was proposed before it."""
    bench, links = leading(voters=5)
    bench.propose(2)
    for link in links[:2]:
        bench.say(link, P.ACK, E + 1)
    assert bench.peer.last_committed == E + 1
    bench.close(links[3])
    link = greet(bench, 5)
    answer(bench, link)
    diff = [(P.DIFF, E + 1), (P.PROPOSAL, E + 1), (P.COMMIT, E + 1), (P.NEWLEADER, E)]
    assert bench.heard(link)[1:] == [*diff, (P.PROPOSAL, E + 2)]
    bench.propose()
    for other in links[:2]:
        bench.say(other, P.ACK, E + 2)
    assert bench.heard(link) == [(P.PROPOSAL, E + 3), (P.COMMIT, E + 2)]
    bench.say(link, P.ACK, E)
    assert bench.heard(link) == [(P.UPTODATE, -1)]


def test_what_a_learner_has_logged_already_counts_when_it_comes_back() -> None:
    bench, links = leading(voters=5)
    bench.propose(2)
    bench.say(links[0], P.ACK, E + 1)
    bench.close(links[1])
    link = greet(bench, 3, accepted=2)
    answer(bench, link, E + 2, -1)
    # 2:1 has a quorum now, 2:2 has not: the learner cannot be in step with what is not committed.
    assert bench.peer.last_committed == E + 1
    assert bench.heard(link)[1:] == []
    bench.say(links[0], P.ACK, E + 2)
    assert bench.heard(link) == [(P.DIFF, E + 2), (P.NEWLEADER, E)]


def test_what_a_learner_has_lost_does_not_count_any_more() -> None:
    """I11: ZooKeeper counts an ACK on, while it has its sender cut off what the ACK was for."""
    bench, links = leading(voters=5)
    bench.propose()
    bench.say(links[0], P.ACK, E + 1)
    link = greet(bench, 2, accepted=2)
    answer(bench, link, OLD[-1], -1)
    bench.say(links[1], P.ACK, E + 1)
    assert bench.peer.last_committed == E
    bench.say(link, P.ACK, E)
    bench.say(link, P.ACK, E + 1)
    assert bench.peer.last_committed == E + 1


def test_an_ack_on_a_link_that_was_replaced_does_not_count() -> None:
    bench, links = leading(voters=5)
    bench.propose()
    greet(bench, 2)
    bench.say(links[0], P.ACK, E + 1)
    bench.say(links[1], P.ACK, E + 1)
    assert bench.peer.last_committed == E
