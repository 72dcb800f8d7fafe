"""Interleavings that broke ZooKeeper, step by step: here they do no harm. The numbers are ZooKeeper's issues.

The checkers watch as in every run; a scenario says besides how it must end.
"""

from __future__ import annotations

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster.messages import PacketType, ServerState

from .scenes import Scene


def started(voters: int = 3, observers: int = 0, *, commit_log: int = 500, writes: int = 3) -> Scene:
    """A scene in which some writes are committed everywhere."""
    scene = Scene(voters, observers, commit_log=commit_log)
    scene.start()
    if writes:
        scene.write(writes)
    scene.agree()
    return scene


def behind(scene: Scene, sid: int, writes: int) -> None:
    """A server misses some writes, and is down."""
    scene.crash(sid)
    scene.write(writes)


@pytest.mark.parametrize(
    "point",
    [
        "before AppendTxns",
        "after AppendTxns",
        "before WriteCurrentEpoch",
        "after WriteCurrentEpoch",
        "before WriteAcceptedEpoch",
        "after WriteAcceptedEpoch",
    ],
)
def test_a_follower_that_dies_between_the_writes_of_a_diff_does_not_lead_with_a_short_log(point: str) -> None:
    """4643, 4646, 4785, 3911, 3023: it had the new epoch without its history, won an election, and cut others' logs."""
    scene = started()
    victim = scene.followers()[0]
    behind(scene, victim, 5)
    # A new epoch, so that the victim has both to write.
    old = scene.lead().sid
    other = next(sid for sid in (1, 2, 3) if sid not in (victim, old))
    scene.traps.crash_at(victim, point)
    scene.crash(old)
    scene.boot(victim)
    scene.until(lambda: scene.traps.sprung, point)
    scene.boot(victim)
    scene.write(1)
    scene.crash(other)
    scene.boot(old)
    scene.write(1)
    scene.boot(other)
    scene.agree()
    assert scene.znodes(victim) == scene.expected(*range(1, 11))


def test_a_quorum_that_dies_right_after_newleader_keeps_what_it_said_it_had() -> None:
    """4646: NEWLEADER was acknowledged while the DIFF was only queued for the disk."""
    scene = started()
    victim = scene.followers()[0]
    behind(scene, victim, 5)
    scene.server(victim).disk.speed.sync = 100_000
    scene.boot(victim)
    scene.until(lambda: scene.ledger.replicas[victim].serving, "the victim in step")
    scene.crash(1, 2, 3)
    scene.boot(1, 2, 3)
    scene.agree()
    assert scene.znodes(victim) == scene.expected(*range(1, 9))


def test_a_learner_joins_while_writes_go_on() -> None:
    """4394, 4685, 962: proposals, commits and ACKs cross NEWLEADER and UPTODATE in every order."""
    scene = started()
    victim = scene.followers()[0]
    behind(scene, victim, 2)
    scene.server(victim).disk.speed.sync = 30_000
    scene.boot(victim)
    for _ in range(60):
        scene.ask_write()
        scene.pass_ms(3)
    scene.agree()
    assert scene.znodes(victim) == scene.expected(*range(1, 66))
    assert scene.server(victim).role.state is ServerState.FOLLOWING


def test_a_leader_s_unacknowledged_write_does_not_come_back_from_memory() -> None:
    """2845, 2355: a deposed leader had in its log what was not in memory, and was brought into step from memory."""
    scene = started()
    old = scene.lead().sid
    scene.connect(old)
    scene.isolate(old)
    scene.ask_write(2)
    scene.pass_ms(300)
    scene.until(lambda: scene.lead().sid != old, "another leader")
    scene.write(2)
    scene.rejoin(old)
    scene.agree()
    # Numbers 4 and 5 were asked of the old leader and never answered.
    assert scene.znodes(old) == scene.expected(1, 2, 3, 6, 7)
    scene.crash(old)
    scene.boot(old)
    scene.agree()
    assert scene.znodes(old) == scene.expected(1, 2, 3, 6, 7)


def test_a_deposed_leader_that_restarts_keeps_no_trace_of_what_was_cut_off() -> None:
    """1549, 1558: what was cut off the log stayed in a snapshot, and came back with it."""
    scene = started()
    old = scene.lead().sid
    scene.connect(old)
    scene.isolate(old)
    scene.ask_write(2)
    scene.pass_ms(300)
    scene.crash(old)
    scene.boot(old)
    scene.server(old).snapshot()
    scene.pass_ms(500)
    scene.server(old).snapshot()
    scene.write(1)
    scene.rejoin(old)
    scene.agree()
    for _ in range(2):
        scene.server(old).snapshot()
        scene.pass_ms(200)
        scene.crash(old)
        scene.boot(old)
        scene.agree()
    assert scene.znodes(old) == scene.expected(1, 2, 3, 6)


@pytest.mark.parametrize("kind", [PacketType.SNAP, PacketType.NEWLEADER])
def test_a_leader_that_dies_after_a_snapshot_leaves_nothing_half_done(kind: PacketType) -> None:
    """3642: the learner had the snapshot in memory only, the next leader sent a DIFF, a restart lost the base."""
    scene = started(commit_log=4)
    victim = scene.followers()[0]
    behind(scene, victim, 20)
    leader = scene.lead().sid
    scene.traps.cut_at(leader, kind)
    scene.boot(victim)
    scene.until(lambda: scene.traps.sprung, "the cut")
    scene.crash(leader)
    scene.boot(leader)
    scene.write(1)
    scene.agree()
    scene.crash(victim)
    scene.boot(victim)
    scene.agree()
    assert scene.znodes(victim) == scene.expected(*range(1, 25))


@pytest.mark.parametrize("kind", [PacketType.DIFF, PacketType.PROPOSAL, PacketType.COMMIT, PacketType.NEWLEADER])
def test_a_synchronization_that_breaks_off_leaves_no_gap(kind: PacketType) -> None:
    """5094, 3104: what came before NEWLEADER was in memory and not in the log, and the next DIFF began behind it."""
    scene = started()
    victim = scene.followers()[0]
    behind(scene, victim, 6)
    leader = scene.lead().sid
    scene.traps.cut_at(leader, kind)
    scene.boot(victim)
    scene.until(lambda: scene.traps.sprung, "the cut")
    scene.write(2)
    scene.agree()
    scene.crash(victim)
    scene.boot(victim)
    scene.agree()
    assert scene.znodes(victim) == scene.expected(*range(1, 12))


def test_a_server_with_more_history_than_the_new_quorum_gives_it_up() -> None:
    """1154, 1156: it rejoined with a transaction that the new leader did not know, and kept it."""
    scene = started(voters=5)
    old = scene.lead().sid
    friend = scene.followers()[0]
    others = [sid for sid in range(1, 6) if sid not in (old, friend)]
    scene.connect(old)
    scene.isolate(old, friend)
    scene.ask_write(1)
    scene.pass_ms(200)
    assert scene.ledger.replicas[friend].logged == scene.ledger.replicas[old].logged > scene.ledger.committed
    scene.crash(old, friend)
    scene.until(lambda: scene.lead().sid in others, "a leader among the others")
    scene.write(1)
    scene.rejoin(old, friend)
    scene.boot(old, friend)
    scene.agree()
    assert scene.znodes(old) == scene.znodes(friend) == scene.expected(1, 2, 3, 5)


def test_a_write_that_only_a_dead_minority_has_is_committed_if_it_wins() -> None:
    """The other way round: the one server that has the write is in the quorum, so the write must be kept."""
    scene = started()
    old = scene.lead().sid
    scene.connect(old)
    scene.isolate(old)
    scene.ask_write(1)
    scene.pass_ms(100)
    scene.crash(1, 2, 3)
    scene.rejoin(old)
    scene.boot(old, next(sid for sid in (1, 2, 3) if sid != old))
    scene.lead()
    scene.boot(1, 2, 3)
    scene.agree()
    assert scene.znodes(old) == scene.expected(1, 2, 3, 4)


@pytest.mark.parametrize(
    "point",
    ["before WriteAcceptedEpoch", "after WriteAcceptedEpoch", "before WriteCurrentEpoch", "after WriteCurrentEpoch"],
)
def test_a_would_be_leader_that_dies_between_its_epoch_files_starts_again(point: str) -> None:
    """1653, 2307, 335, 790: it refused to start, or led with an epoch that nobody had promised."""
    scene = Scene()
    scene.traps.crash_at(3, point)
    scene.boot(1, 2, 3)
    scene.client.start()
    scene.until(lambda: scene.traps.sprung, point)
    scene.write(1)
    scene.boot(3)
    scene.write(1)
    scene.agree()
    assert len(scene.ledger.established) >= 1


def test_two_would_be_leaders_do_not_share_an_epoch() -> None:
    """335, 1192, 1282: the first has its promises and is cut off before it is established; the second begins."""
    scene = Scene()
    for _ in range(2):
        scene.traps.cut_at(3, PacketType.NEWLEADER, arrives=False)
    scene.boot(1, 2, 3)
    scene.client.start()
    scene.until(lambda: len(scene.traps.sprung) == 2, "both cuts")
    scene.isolate(3)
    scene.write(2)
    assert scene.lead().sid != 3
    scene.rejoin(3)
    scene.write(1)
    scene.agree()
    assert len(set(scene.ledger.established.values())) >= 1
    assert len(scene.ledger.founders) >= 2


def test_a_newcomer_finds_the_leader_of_a_running_ensemble() -> None:
    """975, 1732, 1805, 1818: it stayed LOOKING for ever, or went to lead by itself."""
    scene = Scene(5)
    scene.start(1, 2, 3)
    scene.write(3)
    # A few elections, so that rounds and epochs differ from a newcomer's.
    for _ in range(3):
        leader = scene.lead().sid
        scene.crash(leader)
        scene.boot(leader)
        scene.write(1)
    leader, epoch = scene.lead().sid, scene.lead().role.epoch
    scene.boot(4, 5)
    scene.agree()
    assert (scene.lead().sid, scene.lead().role.epoch) == (leader, epoch)


def test_a_server_that_was_given_a_snapshot_sends_no_diff_over_the_gap_behind_it() -> None:
    """2846, 4925: its older log, or its list of committed transactions, had a hole."""
    scene = started(commit_log=4)
    behind_first, behind_second = scene.followers()
    scene.crash(behind_second)
    scene.write(2)
    scene.crash(behind_first)
    scene.boot(behind_second)
    scene.write(20)
    # The first gets a snapshot, then leads, and brings the second into step.
    scene.boot(behind_first)
    scene.agree()
    scene.crash(behind_second)
    scene.write(2)
    scene.crash(scene.lead().sid)
    scene.boot(1, 2, 3)
    scene.write(1)
    scene.agree()
    for sid in (1, 2, 3):
        scene.crash(sid)
        scene.boot(sid)
        scene.agree()
        assert scene.znodes(sid) == scene.expected(*range(1, 29))


def test_ephemerals_and_sessions_that_came_during_a_synchronization_end_like_others() -> None:
    """1367, 1319: sessions received in a DIFF were not tracked, so their ephemerals never expired."""
    scene = started()
    victim, other = scene.followers()
    scene.crash(victim)
    scene.connect(other)
    scene.client.ask(o.CREATE, "/wephemeral", b"", OPEN_ACL_UNSAFE, 1)
    scene.pass_ms(200)
    scene.boot(victim)
    scene.agree()
    assert "/wephemeral" in scene.znodes(victim)
    scene.crash(scene.lead().sid)
    scene.client.sleep()
    session_id = scene.client.session_id
    scene.boot(1, 2, 3)
    scene.until(lambda: session_id in scene.ledger.sessions_closing, "the end of the session")
    scene.agree()
    for sid in (1, 2, 3):
        assert "/wephemeral" not in scene.znodes(sid)
        assert session_id not in scene.server(sid).tree.sessions


def test_a_deposed_leader_that_has_not_noticed_answers_no_sync() -> None:
    """ZooKeeper's own leader would: with data from before writes that others were told of."""
    scene = started()
    old = scene.lead().sid
    scene.connect(old)
    reads = scene.simulation.observations.answers["read"]
    scene.isolate(old)
    scene.server(old).pause()
    scene.until(
        lambda: (scene.lead().sid != old and not scene.server(old).alive) or _others_lead(scene, old), "another leader"
    )
    before = scene.ledger.committed
    # It goes on, and finds the sync before it finds out that its followers have left.
    scene.sync_and_read()
    scene.pass_ms(50)
    scene.server(old).resume()
    scene.pass_ms(200)
    assert scene.simulation.observations.answers["sync"] == 0
    assert scene.simulation.observations.answers["read"] == reads
    assert before == scene.ledger.committed
    scene.rejoin(old)
    scene.agree()


def test_a_deposed_leader_that_has_not_noticed_ends_no_session() -> None:
    """ZooKeeper's own leader would: it does not know a session that was made under its successor."""
    scene = started()
    old = scene.lead().sid
    scene.connect(old)
    scene.isolate(old)
    scene.server(old).pause()
    scene.until(lambda: _others_lead(scene, old), "another leader")
    # The client gives up its session and gets a new one from those who go on; it has seen no zxid with it.
    scene.client.forget_session()
    scene.connect(next(sid for sid in (1, 2, 3) if sid != old))
    session_id = scene.client.session_id
    scene.client.servers[:] = [old]
    scene.client.leave()
    scene.pass_ms(200)
    scene.server(old).resume()
    scene.pass_ms(300)
    scene.rejoin(old)
    scene.connect(old)
    assert scene.client.session_id == session_id
    assert scene.simulation.observations.answers["expiry"] == 0


def _others_lead(scene: Scene, old: int) -> bool:
    return any(server.leads for sid, server in scene.simulation.servers.items() if sid != old)


def test_an_observer_follows_and_never_counts() -> None:
    """A quorum is one of voters: with an observer in place of the second of three voters nothing is committed."""
    scene = started(observers=1)
    scene.agree()
    assert scene.znodes(4) == scene.expected(1, 2, 3)
    leader = scene.lead().sid
    scene.connect(leader)
    committed = scene.ledger.committed
    scene.crash(*scene.followers())
    scene.ask_write()
    scene.pass_ms(1500)
    assert scene.ledger.committed == committed
    assert not scene.server(leader).leads
    scene.boot(1, 2, 3)
    scene.write(1)
    scene.agree()
    assert scene.znodes(4) >= scene.expected(1, 2, 3, 5)


def test_all_die_at_once_again_and_again() -> None:
    """Whatever was acknowledged is there after any number of total crashes."""
    scene = started(writes=1)
    for _ in range(5):
        scene.ask_write(3)
        scene.crash(1, 2, 3)
        scene.boot(1, 2, 3)
        scene.write(1)
    scene.agree()
