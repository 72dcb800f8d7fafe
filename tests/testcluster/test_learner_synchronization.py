"""The learner between ACKEPOCH and UPTODATE: what is written in which order, and what a lost leader leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from terzetto.testcluster.messages import (
    PacketType as P,
    ServerState,
    decode_int,
)
from terzetto.testcluster.ready import (
    InstallSnapshot,
    Role,
    TruncateHistory,
)

from .bench import Disk, zxid
from .roles import (
    OLD,
    PROTOCOL,
    E,
    assert_gave_up,
    follower,
    kinds,
    promised,
)

# Synchronization. Durable, each before the next: history, currentEpoch, ACK of NEWLEADER, ACKs of proposals.


def test_a_server_in_step_acknowledges_the_leader_and_serves() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.DIFF, OLD[-1])
    assert kinds(bench) == ["WriteAcceptedEpoch"]
    bench.say(link, P.NEWLEADER, E, b"")
    assert bench.heard(link) == [(P.ACK, E)]
    assert bench.disk.current == 2
    assert not bench.role.serving
    bench.say(link, P.UPTODATE)
    assert bench.heard(link) == [(P.ACK, E)]
    assert bench.role == Role(ServerState.FOLLOWING, 2, 3, serving=True, may_snapshot=True)


def test_a_diff_is_on_disk_before_the_epoch_and_both_before_the_first_ack() -> None:
    """I13, I14: ZOOKEEPER-4643 wrote the epoch first, ZOOKEEPER-4646 acknowledged first."""
    bench, link = follower()
    promised(bench, link)
    bench.quick = False
    bench.say(link, P.DIFF, E)
    for number in (zxid(1, 4), zxid(1, 5)):
        bench.propose_to(link, number)
        bench.say(link, P.COMMIT, number)
    assert bench.disk.writes == []
    bench.say(link, P.NEWLEADER, E, b"")
    assert kinds(bench)[1:] == ["AppendTxns", "WriteCurrentEpoch"]
    bench.sync(1)
    assert (bench.disk.current, bench.disk.last_zxid) == (1, zxid(1, 5))
    assert bench.heard(link) == []
    bench.sync(1)
    # ZOOKEEPER-4685: a leader takes the first ACK for that of NEWLEADER.
    assert bench.heard(link) == [(P.ACK, E), (P.ACK, zxid(1, 4)), (P.ACK, zxid(1, 5))]
    assert bench.applied == OLD
    bench.say(link, P.UPTODATE)
    assert bench.applied == [*OLD, zxid(1, 4), zxid(1, 5)]


def test_what_is_committed_after_newleader_may_have_been_proposed_before() -> None:
    """ZOOKEEPER-4394: ZooKeeper 3.8.0 fails here, and votes with a stale zxid afterwards."""
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.DIFF, E)
    bench.propose_to(link, zxid(1, 4))
    bench.say(link, P.NEWLEADER, E, b"")
    bench.say(link, P.COMMIT, zxid(1, 4))
    bench.say(link, P.UPTODATE)
    assert bench.applied == [*OLD, zxid(1, 4)]
    assert bench.role.serving


def test_what_is_not_committed_is_logged_and_not_applied() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.DIFF, E)
    bench.propose_to(link, zxid(1, 4))
    bench.say(link, P.COMMIT, zxid(1, 4))
    bench.propose_to(link, zxid(2, 1))
    bench.say(link, P.NEWLEADER, E, b"")
    bench.propose_to(link, zxid(2, 2))
    bench.say(link, P.UPTODATE)
    assert bench.disk.zxids == [*OLD, zxid(1, 4), zxid(2, 1), zxid(2, 2)]
    assert bench.applied == [*OLD, zxid(1, 4)]
    bench.say(link, P.COMMIT, zxid(2, 1))
    bench.say(link, P.COMMIT, zxid(2, 2))
    assert bench.applied == bench.disk.zxids


def test_what_comes_while_the_history_is_written_waits() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.quick = False
    bench.say(link, P.DIFF, E)
    bench.say(link, P.NEWLEADER, E, b"")
    bench.propose_to(link, zxid(2, 1))
    bench.say(link, P.COMMIT, zxid(2, 1))
    bench.say(link, P.PING, 0)
    assert bench.packets(link) == []
    bench.sync()
    bench.say(link, P.UPTODATE)
    assert bench.heard(link) == [(P.ACK, E), (P.ACK, zxid(2, 1)), (P.ACK, E)]
    assert bench.applied == [*OLD, zxid(2, 1)]


@pytest.mark.parametrize("length", range(9))
@pytest.mark.parametrize("method", [P.DIFF, P.TRUNC, P.SNAP])
def test_before_newleader_a_lost_leader_takes_nothing_with_it(method: P, length: int) -> None:
    """I17: ZOOKEEPER-3642 and ZOOKEEPER-5094 left a tree in memory that was not on disk."""
    bench, link = follower()
    promised(bench, link)
    after = zxid(1, 2) if method == P.TRUNC else OLD[-1]
    script: list[Callable[[], None]] = [
        lambda: bench.say(link, method, after),
        lambda: bench.show(link, OLD) if method == P.SNAP else None,
        lambda: bench.propose_to(link, after + 1),
        lambda: bench.say(link, P.COMMIT, after + 1),
        lambda: bench.propose_to(link, after + 2),
        lambda: bench.say(link, P.COMMIT, after + 2),
        lambda: bench.propose_to(link, zxid(2, 1)),
        lambda: bench.say(link, P.COMMIT, zxid(2, 1)),
    ]
    for step in script[:length]:
        step()
    bench.close(link)
    assert kinds(bench) == ["WriteAcceptedEpoch"]
    assert bench.peer.state is ServerState.LOOKING
    assert (bench.applied, bench.disk.zxids) == (OLD, OLD)
    assert (bench.votes[-1][1].zxid, bench.votes[-1][1].peer_epoch) == (OLD[-1], 1)


def test_after_newleader_a_lost_leader_leaves_a_tail_that_the_next_one_commits() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.DIFF, E)
    bench.propose_to(link, zxid(2, 1))
    bench.say(link, P.NEWLEADER, E, b"")
    bench.close(link)
    assert (bench.applied, bench.disk.last_zxid) == (OLD, zxid(2, 1))
    assert (bench.votes[-1][1].zxid, bench.votes[-1][1].peer_epoch) == (zxid(2, 1), 2)
    bench.lose(2)
    link = bench.dialled()
    bench.say(link, P.LEADERINFO, zxid(3, 0), PROTOCOL)
    bench.say(link, P.DIFF, zxid(2, 1))
    bench.say(link, P.NEWLEADER, zxid(3, 0), b"")
    assert bench.applied == OLD
    bench.say(link, P.UPTODATE)
    assert bench.applied == [*OLD, zxid(2, 1)]


@pytest.mark.parametrize("number", [zxid(1, 0), zxid(3, 0), E + 1, -1])
def test_newleader_of_another_epoch_is_refused(number: int) -> None:
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.DIFF, E)
    bench.say(link, P.NEWLEADER, number, b"")
    assert_gave_up(bench, link)


# TRUNC.


def test_trunc_cuts_then_appends_then_enters_the_epoch() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.quick = False
    bench.say(link, P.TRUNC, zxid(1, 2))
    bench.propose_to(link, zxid(2, 1))
    bench.say(link, P.COMMIT, zxid(2, 1))
    bench.say(link, P.NEWLEADER, E, b"")
    assert bench.writes[1:] == [TruncateHistory(zxid(1, 2))]
    bench.sync(1)
    assert bench.applied == OLD[:2]
    assert kinds(bench)[2:] == ["AppendTxns", "WriteCurrentEpoch"]
    assert bench.heard(link) == []
    bench.sync()
    assert bench.heard(link) == [(P.ACK, E), (P.ACK, zxid(2, 1))]
    bench.say(link, P.UPTODATE)
    assert bench.applied == bench.disk.zxids == [*OLD[:2], zxid(2, 1)]


def test_what_the_leader_sends_again_is_not_cut_off() -> None:
    """I11, I15: ZooKeeper's leader cuts at what it has applied; what is behind may be committed all the same."""
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.TRUNC, zxid(1, 2))
    bench.propose_to(link, zxid(1, 3), zxid(1, 4))
    bench.say(link, P.COMMIT, zxid(1, 3))
    bench.say(link, P.NEWLEADER, E, b"")
    assert kinds(bench) == ["WriteAcceptedEpoch", "AppendTxns", "WriteCurrentEpoch"]
    assert bench.disk.zxids == [*OLD, zxid(1, 4)]
    assert bench.heard(link) == [(P.ACK, E), (P.ACK, zxid(1, 3)), (P.ACK, zxid(1, 4))]


def test_of_what_is_cut_only_what_comes_again_is_kept() -> None:
    bench, link = follower(Disk([*OLD, zxid(1, 4)], accepted=1, current=1))
    promised(bench, link)
    bench.say(link, P.TRUNC, zxid(1, 2))
    bench.propose_to(link, zxid(1, 3), zxid(2, 1))
    bench.say(link, P.NEWLEADER, E, b"")
    assert TruncateHistory(zxid(1, 3)) in bench.writes
    assert bench.disk.zxids == [*OLD, zxid(2, 1)]


def test_a_server_that_cannot_cut_asks_the_same_leader_for_a_snapshot() -> None:
    """L1: the leader may need it, so there is no other election (found by the simulation, seed 260)."""
    bench, link = follower()
    promised(bench, link)
    bench.disk.uncuttable = True
    bench.say(link, P.TRUNC, zxid(1, 2))
    bench.propose_to(link, zxid(2, 1))
    bench.say(link, P.COMMIT, zxid(2, 1))
    bench.say(link, P.NEWLEADER, E, b"")
    assert link in bench.hung_up
    assert bench.dials == [3, 3]
    assert bench.leader() == 3
    link = bench.dialled()
    bench.say(link, P.LEADERINFO, E, PROTOCOL)
    # It promised with what it had; now nobody counts it again, nor compares.
    (_, again) = bench.packets(link)
    assert (again.type, again.zxid, decode_int(again.data)) == (P.ACKEPOCH, -1, -1)
    bench.say(link, P.SNAP, E)
    bench.show(link, OLD[:2])
    bench.say(link, P.NEWLEADER, E, b"")
    assert bench.applied == OLD[:2]
    assert bench.heard(link) == [(P.ACK, E)]


@pytest.mark.parametrize("kind", [P.DIFF, P.TRUNC])
def test_who_has_asked_for_a_snapshot_takes_nothing_else(kind: P) -> None:
    bench, link = follower()
    promised(bench, link)
    bench.disk.uncuttable = True
    bench.say(link, P.TRUNC, zxid(1, 2))
    bench.say(link, P.NEWLEADER, E, b"")
    link = bench.dialled()
    bench.say(link, P.LEADERINFO, E, PROTOCOL)
    bench.say(link, kind, zxid(1, 2))
    assert_gave_up(bench, link)
    # It votes, and promises to the next leader, with what it has: that may be all that is left of a transaction.
    assert bench.votes[-1][1].zxid == OLD[-1]
    bench.lose(2)
    link = bench.dialled()
    bench.heard(link)
    bench.say(link, P.LEADERINFO, zxid(3, 0), PROTOCOL)
    (answer,) = bench.packets(link)
    assert (answer.zxid, decode_int(answer.data)) == (OLD[-1], 1)


def test_a_cut_that_fails_after_the_leader_was_lost_changes_nothing() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.disk.uncuttable = True
    bench.quick = False
    bench.say(link, P.TRUNC, zxid(1, 2))
    bench.say(link, P.NEWLEADER, E, b"")
    bench.close(link)
    bench.sync()
    assert bench.dials == [3]
    assert (bench.votes[-1][1].zxid, bench.applied) == (OLD[-1], OLD)


def test_a_cut_that_the_server_has_no_leader_for_any_more_still_counts() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.quick = False
    bench.say(link, P.TRUNC, zxid(1, 2))
    bench.say(link, P.NEWLEADER, E, b"")
    votes = len(bench.votes)
    bench.close(link)
    assert bench.peer.state is ServerState.LOOKING
    assert len(bench.votes) == votes
    bench.sync()
    assert (bench.votes[-1][1].zxid, bench.applied, bench.disk.current) == (zxid(1, 2), OLD[:2], 1)


def test_a_leader_that_leads_another_epoch_by_now_hears_the_whole_truth() -> None:
    """It could not be followed without a snapshot; elected once more, it may need this server's promise."""
    bench, link = follower()
    bench.disk.uncuttable = True
    promised(bench, link)
    bench.say(link, P.TRUNC, zxid(1, 2))
    bench.say(link, P.NEWLEADER, E, b"")
    assert bench.dials == [3, 3]
    again = bench.dialled()
    bench.say(again, P.LEADERINFO, zxid(3, 0), PROTOCOL)
    *_, answer = bench.packets(again)
    assert (answer.type, answer.zxid, decode_int(answer.data)) == (P.ACKEPOCH, OLD[-1], 1)
    assert bench.disk.accepted == 3
    bench.say(again, P.DIFF, OLD[-1])
    bench.say(again, P.NEWLEADER, zxid(3, 0), b"")
    assert bench.heard(again) == [(P.ACK, zxid(3, 0))]


def test_trunc_behind_the_own_history_is_refused() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.TRUNC, zxid(1, 4))
    assert_gave_up(bench, link)


# SNAP.


def test_a_snapshot_is_installed_with_everything_that_was_committed_behind_it() -> None:
    """I11: a leader may not have applied yet, so not have in its tree, what this server has helped to commit."""
    bench, link = follower()
    promised(bench, link)
    bench.quick = False
    bench.say(link, P.SNAP, zxid(1, 2))
    bench.show(link, OLD[:2])
    for number in (zxid(1, 3), zxid(1, 4), zxid(2, 1)):
        bench.propose_to(link, number)
    bench.say(link, P.COMMIT, zxid(1, 3))
    bench.say(link, P.COMMIT, zxid(1, 4))
    bench.say(link, P.NEWLEADER, E, b"")
    (install,) = bench.writes[1:]
    assert isinstance(install, InstallSnapshot)
    assert (install.zxid, install.last_zxid) == (zxid(1, 2), zxid(1, 4))
    assert [entry.zxid for entry in install.entries] == [zxid(1, 3), zxid(1, 4)]
    bench.sync(1)
    assert kinds(bench)[2:] == ["AppendTxns", "WriteCurrentEpoch"]
    assert bench.heard(link) == []
    bench.sync()
    acks = [(P.ACK, number) for number in (E, zxid(1, 3), zxid(1, 4), zxid(2, 1))]
    assert bench.heard(link) == acks
    bench.say(link, P.UPTODATE)
    assert bench.applied == [*OLD, zxid(1, 4)]
    bench.say(link, P.COMMIT, zxid(2, 1))
    assert bench.applied == bench.disk.zxids


def test_proposals_that_the_snapshot_has_already_are_tolerated() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.SNAP, zxid(1, 9))
    bench.show(link, [zxid(1, 9)])
    bench.propose_to(link, zxid(1, 8), zxid(1, 9), zxid(1, 10))
    bench.say(link, P.COMMIT, zxid(1, 8))
    bench.say(link, P.NEWLEADER, E, b"")
    assert bench.disk.zxids == [zxid(1, 9), zxid(1, 10)]
    assert bench.peer.state is ServerState.FOLLOWING


def test_a_snapshot_that_bears_the_epoch_is_followed_by_its_first_transaction() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.SNAP, E)
    bench.show(link, OLD)
    bench.say(link, P.NEWLEADER, E, b"")
    bench.propose_to(link, zxid(2, 1))
    assert bench.heard(link) == [(P.ACK, E), (P.ACK, zxid(2, 1))]


def test_a_snapshot_that_bears_the_epoch_says_so_even_if_the_leader_is_lost_at_once() -> None:
    """I17: a restart would take the epoch from the snapshot (found by the simulation, seed 1081)."""
    bench, link = follower()
    promised(bench, link)
    bench.quick = False
    bench.say(link, P.SNAP, E)
    bench.show(link, OLD)
    bench.say(link, P.NEWLEADER, E, b"")
    bench.close(link)
    bench.sync()
    bench.quick = True
    assert (bench.votes[-1][1].zxid, bench.votes[-1][1].peer_epoch) == (E, 2)
    # ZooKeeper would not start with the file as it is, so the next leader's epoch is written, whichever it is.
    bench.lose(3)
    link = bench.dialled()
    promised(bench, link)
    bench.say(link, P.DIFF, E)
    bench.say(link, P.NEWLEADER, E, b"")
    bench.sync()
    assert bench.disk.current == 2
    assert bench.heard(link)[-1] == (P.ACK, E)


def test_newleader_before_the_snapshot_is_refused() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.SNAP, E)
    bench.say(link, P.NEWLEADER, E, b"")
    assert_gave_up(bench, link)
    assert kinds(bench) == ["WriteAcceptedEpoch"]


def test_a_snapshot_that_was_not_announced_is_refused() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.show(link, OLD)
    assert_gave_up(bench, link)


def test_a_server_that_has_lost_its_disk_takes_nothing_but_a_snapshot() -> None:
    empty = Disk(accepted=-1, current=-1, base=-1)
    bench, link = follower(empty)
    assert bench.heard(link) == [(P.FOLLOWERINFO, -(1 << 32))]
    bench.say(link, P.LEADERINFO, E, PROTOCOL)
    (answer,) = bench.packets(link)
    assert (answer.zxid, decode_int(answer.data)) == (-1, -1)
    bench.say(link, P.DIFF, 0)
    assert_gave_up(bench, link)
    bench.lose(3)
    link = bench.dialled()
    bench.say(link, P.LEADERINFO, E, PROTOCOL)
    bench.say(link, P.SNAP, 0)
    bench.show(link)
    bench.say(link, P.NEWLEADER, E, b"")
    assert bench.heard(link)[-1] == (P.ACK, E)
    assert bench.disk.base == 0
