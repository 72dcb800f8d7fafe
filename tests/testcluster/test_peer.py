"""Peers from start to start: roles that end, disks that are slow, crashes and cuts at every point of their life."""

from __future__ import annotations

import pytest

from terzetto.testcluster import peer as peer_module
from terzetto.testcluster.messages import (
    LearnerInfo,
    PacketType as P,
    QuorumPacket,
    ServerState,
    encode_int,
    encode_learner_info,
)
from terzetto.testcluster.peer import GUEST_PAUSE_MAX_MS
from terzetto.testcluster.ready import LearnerJoined, Role

from .bench import SETTINGS, TICK_MS, Bench, Disk, Ensemble, config, zxid

E = zxid(2, 0)
OLD = [zxid(1, 1), zxid(1, 2), zxid(1, 3)]


def info(sid: int) -> bytes:
    return encode_learner_info(LearnerInfo(sid))


# One peer.


def test_it_looks_for_a_leader_with_what_its_disk_has() -> None:
    bench = Bench(2, disk=Disk(OLD, accepted=4, current=3))
    assert bench.roles == [Role(ServerState.LOOKING, 3, None, serving=False, may_snapshot=False)]
    assert {(sid, vote.state, vote.leader, vote.zxid, vote.peer_epoch) for sid, vote in bench.votes} == {
        (sid, ServerState.LOOKING, 2, OLD[-1], 3) for sid in (1, 3)
    }
    assert (bench.peer.sid, bench.peer.leader, bench.peer.epoch) == (2, None, 3)
    assert (bench.peer.accepted_epoch, bench.peer.current_epoch) == (4, 3)
    assert bench.peer.last_proposed == bench.peer.last_committed == bench.peer.history.last_logged == OLD[-1]


def test_who_connects_before_the_election_is_over_is_kept() -> None:
    """A learner may know the outcome first, and gives up after some refusals."""
    bench = Bench(1, disk=Disk(OLD, accepted=1, current=1))
    early, silent = bench.accept(), bench.accept()
    bench.say(early, P.FOLLOWERINFO, 1 << 32, info(2))
    bench.win()
    assert bench.heard(early) == [(P.LEADERINFO, E)]
    bench.say(silent, P.FOLLOWERINFO, 1 << 32, info(3))
    assert bench.heard(silent) == [(P.LEADERINFO, E)]


def test_a_voter_that_its_leader_does_not_take_asks_less_and_less_often() -> None:
    bench = Bench(1, disk=Disk(OLD, accepted=1, current=1))
    pauses: list[int] = []
    for _ in range(9):
        bench.lose(3)
        votes, began = len(bench.votes), bench.now_ms
        bench.close(bench.dialled())
        while len(bench.votes) == votes:
            bench.wait(1)
        pauses.append(bench.now_ms - began)
    assert pauses == [0, 0, 0, 50, 100, 200, 400, 400, 400]
    bench.lose(3)
    link = bench.dialled()
    bench.say(link, P.LEADERINFO, E, encode_int(0x10000))
    bench.say(link, P.DIFF, OLD[-1])
    bench.say(link, P.NEWLEADER, E, b"")
    bench.say(link, P.UPTODATE)
    votes = len(bench.votes)
    bench.close(link)
    assert len(bench.votes) > votes, "a leader that was followed is lost: there is no time to lose"


def test_who_connects_to_somebody_that_loses_is_sent_away() -> None:
    bench = Bench(1)
    early = bench.accept()
    bench.lose(3)
    late = bench.accept()
    assert set(bench.hung_up) == {early, late}


def test_guests_have_their_time_say_one_thing_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "LINKS_MAX", 2)
    bench = Bench(1)
    talker, silent = bench.accept(), bench.accept()
    crowd = bench.accept()
    assert list(bench.hung_up) == [crowd]
    bench.say(talker, P.FOLLOWERINFO, 0, info(2))
    bench.say(talker, P.PING, 0)
    assert list(bench.hung_up) == [crowd, talker]
    bench.wait(GUEST_PAUSE_MAX_MS - 1)
    assert silent not in bench.hung_up
    bench.wait(1)
    assert silent in bench.hung_up
    gone = bench.accept()
    bench.close(gone)
    bench.wait(GUEST_PAUSE_MAX_MS)
    assert gone not in bench.hung_up


def test_a_server_that_leaves_a_role_votes_when_everything_is_on_disk() -> None:
    """I17: nobody votes with, or forgets, what a crash could still take away or bring back."""
    bench = Bench(1, disk=Disk(OLD, accepted=1, current=1))
    bench.lose(3)
    link = bench.dialled()
    bench.say(link, P.LEADERINFO, E, encode_int(1))
    bench.say(link, P.DIFF, OLD[-1])
    bench.say(link, P.NEWLEADER, E, b"")
    bench.say(link, P.UPTODATE)
    bench.quick = False
    bench.propose_to(link, E + 1, E + 2)
    votes = len(bench.votes)
    bench.close(link)
    assert not bench.role.serving
    bench.wait(SETTINGS.init_ms)
    bench.peer.tick(bench.now_ms)
    bench.drain()
    # Nor does it answer others with the role that is over.
    bench.notify(2, ServerState.LOOKING, 2)
    assert bench.votes[votes:] == []
    bench.sync(1)
    assert bench.votes[votes:] == []
    bench.sync()
    assert [vote.zxid for _, vote in bench.votes[votes:]] == [E + 2] * 2
    assert bench.applied == OLD


def test_an_observer_that_waits_for_its_disk_does_not_want_to_be_called() -> None:
    bench = Bench(4, config(3, 1), Disk(OLD, accepted=1, current=1))
    bench.wait(200)
    bench.lose(3)
    link = bench.dialled()
    bench.quick = False
    bench.say(link, P.LEADERINFO, E, encode_int(1))
    bench.close(link)
    bench.wait(1000)
    assert bench.peer.next_due_ms is None
    votes = len(bench.votes)
    bench.sync()
    assert len(bench.votes) > votes


def test_a_leader_that_leaves_forgets_what_waited_for_its_disk() -> None:
    bench = Bench(1, disk=Disk(OLD, accepted=1, current=1))
    bench.quick = False
    bench.win()
    link = bench.accept()
    bench.say(link, P.FOLLOWERINFO, 1 << 32, info(2))
    bench.wait(SETTINGS.init_ms + TICK_MS)
    assert bench.peer.state is ServerState.LOOKING
    bench.sync()
    assert bench.heard(link) == []
    assert (bench.disk.accepted, bench.peer.accepted_epoch) == (2, 2)


def test_stray_inputs_change_nothing() -> None:
    bench = Bench(1)
    assert bench.dialled() in bench.hung_up
    bench.peer.dial_failed(3, "late", bench.now_ms)
    bench.say(77, P.PING, 0)
    bench.show(77)
    bench.close(77)
    bench.peer.durable(99, bench.now_ms)
    bench.peer.reject(77, "stray", bench.now_ms)
    bench.peer.send_down(77, QuorumPacket(P.SYNC, 0))
    bench.win()
    link = bench.accept()
    bench.show(link)
    assert link in bench.hung_up
    bench.peer.dial_failed(3, "late", bench.now_ms)
    bench.drain()
    assert bench.peer.state is ServerState.LEADING


def test_a_replica_can_reject_its_leader() -> None:
    bench = Bench(1)
    bench.lose(3)
    link = bench.dialled()
    bench.peer.reject(link + 1, "another one", bench.now_ms)
    bench.drain()
    assert bench.leader() == 3
    bench.peer.reject(link, "nonsense", bench.now_ms)
    bench.drain()
    assert bench.hung_up == {link: "nonsense"}
    assert bench.peer.state is ServerState.LOOKING


# Several.


def histories(ensemble: Ensemble) -> list[list[int]]:
    return [bench.applied for bench in ensemble.benches.values()]


def assert_alike(ensemble: Ensemble) -> None:
    """I5, I6, I10 at rest: one history, on every disk and in every tree."""
    first = histories(ensemble)[0]
    assert all(applied == first for applied in histories(ensemble))
    assert first == sorted(set(first))
    for sid, bench in ensemble.benches.items():
        assert bench.applied == ensemble.disks[sid].zxids


def test_three_servers_find_a_leader_and_order_writes() -> None:
    ensemble = Ensemble(3)
    leader = ensemble.run_until_serving()
    assert (leader.sid, leader.role.epoch) == (3, 1)
    joined = {upcall.sid for upcall in leader.upcalls if isinstance(upcall, LearnerJoined)}
    assert joined == {1, 2}
    numbers = leader.propose(5)
    ensemble.settle()
    assert histories(ensemble) == [numbers] * 3
    assert numbers == [zxid(1, counter) for counter in range(1, 6)]


def test_observers_follow() -> None:
    ensemble = Ensemble(3, 2)
    leader = ensemble.run_until_serving()
    numbers = leader.propose(3)
    ensemble.settle()
    assert histories(ensemble) == [numbers] * 5
    ensemble.crash(5)
    numbers += leader.propose(2)
    ensemble.start(5)
    ensemble.run_until_serving()
    assert_alike(ensemble)


def test_an_idle_ensemble_stays_as_it_is() -> None:
    ensemble = Ensemble(3, 1)
    ensemble.run_until_serving()
    roles = [len(bench.roles) for bench in ensemble.benches.values()]
    ensemble.run(60 * TICK_MS)
    assert [len(bench.roles) for bench in ensemble.benches.values()] == roles


def test_the_leader_dies_and_the_work_goes_on() -> None:
    ensemble = Ensemble(3)
    leader = ensemble.run_until_serving()
    leader.propose(3)
    ensemble.settle()
    ensemble.crash(3)
    leader = ensemble.run_until_serving(1, 2)
    assert (leader.sid, leader.role.epoch) == (2, 2)
    leader.propose(3)
    ensemble.settle()
    ensemble.start(3)
    ensemble.run_until_serving()
    leader.propose()
    ensemble.settle()
    assert_alike(ensemble)
    assert len(leader.applied) == 7


def test_a_deposed_leader_loses_what_nobody_has_seen() -> None:
    """I15, I16: ZOOKEEPER-1549."""
    ensemble = Ensemble(3)
    old = ensemble.run_until_serving()
    old.propose(2)
    ensemble.settle()
    ensemble.isolate(old.sid)
    lost = old.propose(3)
    assert ensemble.disks[old.sid].zxids[-3:] == lost
    new = ensemble.run_until_serving(1, 2)
    new.propose(2)
    ensemble.heal()
    ensemble.run_until_serving()
    assert_alike(ensemble)
    assert not set(lost) & set(old.applied)


def test_a_deposed_leader_that_restarts_loses_it_too() -> None:
    ensemble = Ensemble(3)
    old = ensemble.run_until_serving()
    old.propose(2)
    ensemble.settle()
    ensemble.isolate(3)
    lost = old.propose(3)
    ensemble.crash(3)
    ensemble.start(3)
    assert ensemble.benches[3].applied[-3:] == lost
    ensemble.run_until_serving(1, 2).propose(2)
    ensemble.heal()
    ensemble.run_until_serving()
    assert_alike(ensemble)


def test_what_one_other_server_has_logged_may_survive() -> None:
    """Logged by a minority, never acknowledged to anybody: the next leader has it, so it is committed."""
    ensemble = Ensemble(3)
    old = ensemble.run_until_serving()
    (number,) = old.propose()
    # The proposal reaches server 2 only; its ACK gets lost with the leader.
    ensemble.cut(3, 1)
    ensemble.step()
    ensemble.crash(3)
    new = ensemble.run_until_serving(1, 2)
    assert new.sid == 2
    assert histories(ensemble) == [[number]] * 2


def test_no_quorum_no_service() -> None:
    ensemble = Ensemble(3)
    leader = ensemble.run_until_serving()
    ensemble.crash(1)
    ensemble.crash(2)
    ensemble.run(3 * TICK_MS)
    assert ensemble.serving() == []
    assert leader.peer.state is ServerState.LOOKING
    ensemble.start(1)
    ensemble.run_until_serving(1, 3)


def test_a_server_that_was_away_for_long_gets_a_snapshot() -> None:
    ensemble = Ensemble(3)
    ensemble.crash(1)
    leader = ensemble.run_until_serving(2, 3)
    for _ in range(80):
        leader.propose(10)
        ensemble.settle()
    ensemble.start(1)
    ensemble.run_until_serving()
    assert ensemble.disks[1].base == leader.applied[-1]
    leader.propose()
    ensemble.settle()
    assert_alike(ensemble)


def test_two_would_be_leaders_of_one_epoch_do_not_both_win() -> None:
    """I1: each has a quorum that greets it; a server promises the epoch to one of them only."""
    first, second = Bench(4, config(5)), Bench(5, config(5))
    for bench in (first, second):
        bench.win()
        for sid in (1, 2):
            link = bench.accept()
            bench.say(link, P.FOLLOWERINFO, 0, info(sid))
    assert first.disk.accepted == second.disk.accepted == 1
    # Servers 1 and 2 promise to the first; to the second they can only say that they have promised before.
    for link in (1, 2):
        first.say(link, P.ACKEPOCH, 0, encode_int(0))
        second.say(link, P.ACKEPOCH, 0, encode_int(-1))
    assert first.disk.current == 1
    assert second.disk.current == 0


@pytest.mark.parametrize("sid", [1, 3])
@pytest.mark.parametrize("count", range(0, 60, 2))
def test_a_crash_after_any_message_of_the_start_loses_nothing(count: int, sid: int) -> None:
    """Election, discovery and synchronization of servers with unlike histories, cut short after every message."""
    disks = [
        Disk(OLD[:1], accepted=1, current=1),
        Disk(OLD, accepted=2, current=1),
        Disk([*OLD[:2]], accepted=1, current=1),
    ]
    ensemble = Ensemble(3, disks=disks)
    ensemble.delivery_limit = count
    ensemble.run(0)
    ensemble.delivery_limit = None
    ensemble.crash(sid)
    ensemble.start(sid)
    leader = ensemble.run_until_serving(ms=90_000)
    assert leader.applied == OLD
    leader.propose(2)
    ensemble.settle()
    assert_alike(ensemble)


@pytest.mark.parametrize("count", range(0, 60, 3))
def test_links_cut_after_any_message_are_made_again(count: int) -> None:
    disks = [
        Disk([*OLD, zxid(1, 4)], accepted=2, current=1),
        Disk([*OLD[:2]], accepted=2, current=2),
        Disk([*OLD[:2], E + 1], accepted=2, current=2),
    ]
    ensemble = Ensemble(3, disks=disks)
    ensemble.delivery_limit = count
    ensemble.run(0)
    ensemble.delivery_limit = None
    was_established = ensemble.leader is not None
    ensemble.cut(1, 3)
    ensemble.cut(2, 3)
    ensemble.cut(1, 2)
    ensemble.heal()
    leader = ensemble.run_until_serving(ms=90_000)
    # 1:3 and 1:4 were left behind by epoch 2; what only server 3 has is committed once it leads.
    assert leader.applied in ([*OLD[:2], E + 1], *(() if was_established else (OLD[:2],)))
    leader.propose(2)
    ensemble.settle()
    assert_alike(ensemble)


@pytest.mark.parametrize("written", range(12))
@pytest.mark.parametrize("sid", [1, 2, 3])
def test_a_crash_between_any_two_disk_writes_loses_nothing_acknowledged(written: int, sid: int) -> None:
    """I11, I14: ZOOKEEPER-4643, ZOOKEEPER-1653. Server 1 must be cut, server 2 lacks something."""
    disks = [
        Disk([*OLD[:2], OLD[2]], accepted=1, current=1),
        Disk(OLD[:2], accepted=2, current=2),
        Disk([*OLD[:2], E + 1, E + 2], accepted=2, current=2),
    ]
    ensemble = Ensemble(3, disks=disks)
    slow = ensemble.benches[sid]
    slow.quick = False
    ensemble.settle()
    for _ in range(written):
        slow.sync(1)
        ensemble.settle()
    acknowledged = list(ensemble.leader.applied) if ensemble.leader is not None else []
    ensemble.crash(sid)
    assert ensemble.disks[sid].current <= ensemble.disks[sid].accepted
    ensemble.start(sid)
    leader = ensemble.run_until_serving(ms=90_000)
    assert leader.applied[: len(acknowledged)] == acknowledged
    assert leader.applied == [*OLD[:2], E + 1, E + 2]
    leader.propose(2)
    ensemble.settle()
    assert_alike(ensemble)
