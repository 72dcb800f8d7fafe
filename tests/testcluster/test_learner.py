"""The learner against a leader that is the test: what it promises, logs, acknowledges and endures (Zab 1.0)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from terzetto.testcluster import learner as learner_module
from terzetto.testcluster.messages import (
    LearnerInfo,
    PacketType as P,
    QuorumPacket,
    ServerState,
    decode_int,
    decode_learner_info,
    encode_packet,
)
from terzetto.testcluster.ready import (
    AppendTxns,
    PacketArrived,
    Role,
    WriteAcceptedEpoch,
    WriteCurrentEpoch,
)

from .bench import SETTINGS, TICK_MS, TOUCHES, Bench, Disk, payload, zxid
from .roles import (
    OLD,
    PROTOCOL,
    E,
    assert_gave_up,
    follower,
    in_step,
    observer,
    promised,
)

# Dialling and discovery.


def test_a_follower_says_who_it_is_and_what_it_has_promised() -> None:
    bench, link = follower()
    (packet,) = bench.packets(link)
    assert (packet.type, packet.zxid) == (P.FOLLOWERINFO, zxid(1, 0))
    assert decode_learner_info(packet.data) == LearnerInfo(1, 0x10000, 0)
    assert bench.role == Role(ServerState.FOLLOWING, 1, 3, serving=False, may_snapshot=False)


def test_a_fresh_follower_greets_as_zookeeper_does() -> None:
    bench, link = follower(Disk())
    captured = "0000000b 0000000000000000 00000014 0000000000000001 00010000 0000000000000000 ffffffff"
    assert encode_packet(bench.packets(link)[0]) == bytes.fromhex(captured)


def test_an_observer_says_that_it_is_one() -> None:
    bench, link = observer()
    assert [packet.type for packet in bench.packets(link)] == [P.OBSERVERINFO]
    assert bench.role.state is ServerState.OBSERVING


def test_the_promise_is_on_disk_before_the_leader_hears_of_it() -> None:
    bench, link = follower()
    bench.heard(link)
    bench.quick = False
    bench.say(link, P.LEADERINFO, E, PROTOCOL)
    assert bench.writes == [WriteAcceptedEpoch(2)]
    assert bench.heard(link) == []
    bench.sync()
    (answer,) = bench.packets(link)
    assert (answer.type, answer.zxid, decode_int(answer.data)) == (P.ACKEPOCH, OLD[-1], 1)
    assert bench.disk.accepted == 2


def test_a_promise_made_before_is_not_made_again() -> None:
    bench, link = follower(Disk(OLD, accepted=2, current=1))
    bench.heard(link)
    bench.say(link, P.LEADERINFO, E, PROTOCOL)
    (answer,) = bench.packets(link)
    assert (answer.zxid, decode_int(answer.data)) == (OLD[-1], -1)
    assert bench.writes == []


def test_a_leader_of_an_earlier_epoch_is_not_followed() -> None:
    bench, link = follower(Disk(OLD, accepted=3, current=1))
    bench.say(link, P.LEADERINFO, E, PROTOCOL)
    assert_gave_up(bench, link)
    assert bench.writes == []


@pytest.mark.parametrize(
    ("kind", "number", "data"),
    [
        (P.NEWLEADER, E, b""),
        (P.DIFF, E, None),
        (P.LEADERINFO, E, None),
        (P.LEADERINFO, -1, PROTOCOL),
        (P.LEADERINFO, zxid(0x7FFFFFFF, 0), PROTOCOL),
        (P.PING, 0, None),
    ],
)
def test_who_does_not_offer_an_epoch_is_no_leader(kind: P, number: int, data: bytes | None) -> None:
    bench, link = follower()
    bench.say(link, kind, number, data)
    assert_gave_up(bench, link)


def test_the_leader_is_dialled_five_times() -> None:
    bench = Bench(1)
    bench.lose(3)
    for attempt in range(1, 6):
        assert bench.dials == [3] * attempt
        assert bench.peer.state is ServerState.FOLLOWING
        bench.peer.dial_failed(3, "refused", bench.now_ms)
        bench.drain()
        bench.wait(100)
    assert bench.peer.state is ServerState.LOOKING
    assert bench.dials == [3] * 5


def test_a_dial_that_never_ends_is_given_up() -> None:
    bench = Bench(1)
    bench.lose(3)
    bench.wait(SETTINGS.init_ms)
    assert bench.leader() == 3
    bench.wait(TICK_MS)
    assert bench.leader() is None
    late = bench.dialled()
    assert late in bench.hung_up


def test_a_second_dial_is_hung_up() -> None:
    bench, _ = follower()
    assert bench.dialled() in bench.hung_up
    assert bench.peer.state is ServerState.FOLLOWING


# Broadcast.


def test_a_proposal_is_acknowledged_when_it_is_on_disk() -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.quick = False
    bench.propose_to(link, zxid(2, 1), zxid(2, 2))
    assert bench.heard(link) == []
    bench.sync(1)
    assert bench.heard(link) == [(P.ACK, zxid(2, 1))]
    bench.sync()
    assert bench.heard(link) == [(P.ACK, zxid(2, 2))]
    assert bench.applied == OLD


def test_a_commit_is_applied_even_before_the_own_disk_has_it() -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.quick = False
    bench.propose_to(link, zxid(2, 1))
    bench.say(link, P.COMMIT, zxid(2, 1))
    assert bench.applied == [*OLD, zxid(2, 1)]
    assert bench.heard(link) == []


def test_a_commit_that_comes_twice_changes_nothing() -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.propose_to(link, zxid(2, 1))
    bench.say(link, P.COMMIT, zxid(2, 1))
    bench.say(link, P.COMMIT, zxid(2, 1))
    assert bench.applied == [*OLD, zxid(2, 1)]
    assert bench.role.serving


def test_a_proposal_that_is_known_is_acknowledged_and_not_logged_again() -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.propose_to(link, zxid(2, 1), zxid(2, 1))
    assert bench.heard(link) == [(P.ACK, zxid(2, 1))] * 2
    assert bench.disk.zxids == [*OLD, zxid(2, 1)]


@pytest.mark.parametrize("number", [zxid(2, 2), zxid(3, 1), -5])
def test_a_gap_costs_the_leader_its_follower(number: int) -> None:
    """I10: ZooKeeper before 3.9.4 only warns."""
    bench, link = follower()
    in_step(bench, link)
    bench.propose_to(link, number)
    assert_gave_up(bench, link)
    assert bench.disk.zxids == OLD


@pytest.mark.parametrize("phase", ["gathered", "in step"])
def test_a_commit_of_nothing_costs_the_leader_its_follower(phase: str) -> None:
    bench, link = follower()
    if phase == "gathered":
        promised(bench, link)
        bench.say(link, P.DIFF, E)
    else:
        in_step(bench, link)
    bench.say(link, P.COMMIT, zxid(2, 1))
    assert_gave_up(bench, link)


@pytest.mark.parametrize("data", [None, b"", b"\0" * 31, payload(zxid(2, 1))[:-1]])
def test_a_proposal_that_cannot_be_read_costs_the_leader_its_follower(data: bytes | None) -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.say(link, P.PROPOSAL, zxid(2, 1), data)
    assert_gave_up(bench, link)


def test_a_reconfiguration_is_committed_like_anything_else() -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.propose_to(link, zxid(2, 1))
    bench.say(link, P.COMMITANDACTIVATE, zxid(2, 1), bytes(8))
    assert bench.applied == [*OLD, zxid(2, 1)]


def test_a_ping_is_echoed_at_once_with_touches() -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.quick = False
    bench.propose_to(link, zxid(2, 1))
    bench.say(link, P.PING, 77)
    assert bench.packets(link) == [QuorumPacket(P.PING, 77, TOUCHES)]


def test_a_ping_before_newleader_has_no_answer() -> None:
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.DIFF, E)
    bench.say(link, P.PING, 1)
    assert bench.packets(link) == []
    assert bench.peer.state is ServerState.FOLLOWING


def test_what_the_replica_understands_goes_there() -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.say(link, P.SYNC, 0)
    bench.say(link, P.REVALIDATE, -1, b"x")
    assert bench.upcalls == [
        PacketArrived(link, 3, QuorumPacket(P.SYNC, 0)),
        PacketArrived(link, 3, QuorumPacket(P.REVALIDATE, -1, b"x")),
    ]


def test_what_comes_on_another_link_is_nobodys() -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.say(link + 1, P.PROPOSAL, 0, None)
    bench.show(link + 1)
    bench.close(link + 1)
    bench.peer.dial_failed(3, "late", bench.now_ms)
    bench.drain()
    assert bench.role.serving


def test_proposals_that_come_together_are_one_write_and_one_ack_each() -> None:
    bench, link = follower()
    in_step(bench, link)
    bench.quick = False
    numbers = [zxid(2, 1), zxid(2, 2), zxid(2, 3)]
    for number in numbers:
        bench.peer.packet(link, QuorumPacket(P.PROPOSAL, number, payload(number)), bench.now_ms)
    bench.drain()
    assert len(bench.disk.writes) == 1
    bench.sync()
    assert bench.heard(link) == [(P.ACK, number) for number in numbers]


def test_packets_of_unknown_types_are_ignored() -> None:
    bench, link = follower()
    in_step(bench, link)
    for kind in (99, P.UPTODATE, P.FOLLOWERINFO):
        bench.peer.packet(link, QuorumPacket(kind, 0), bench.now_ms)
        bench.drain()
    assert bench.role.serving


def test_requests_go_to_the_leader_while_it_is_followed() -> None:
    bench, link = follower()
    request = QuorumPacket(P.REQUEST, -1, b"request")
    bench.peer.send_up(request)
    in_step(bench, link)
    bench.peer.send_up(request)
    bench.drain()
    assert bench.packets(link) == [request]
    bench.close(link)
    bench.peer.send_up(request)
    bench.drain()
    assert bench.packets(link) == []


# Observers.


def test_an_observer_logs_and_applies_what_it_is_told_and_acknowledges_nothing() -> None:
    bench, link = observer()
    promised(bench, link)
    bench.say(link, P.DIFF, E)
    bench.propose_to(link, zxid(1, 4))
    bench.say(link, P.COMMIT, zxid(1, 4))
    bench.say(link, P.NEWLEADER, E, b"")
    bench.say(link, P.INFORM, zxid(2, 1), payload(zxid(2, 1)))
    bench.say(link, P.UPTODATE)
    bench.say(link, P.INFORM, zxid(2, 2), payload(zxid(2, 2)))
    bench.say(link, P.INFORMANDACTIVATE, zxid(2, 3), bytes(8) + payload(zxid(2, 3)))
    assert bench.heard(link) == [(P.ACK, E), (P.ACK, E)]
    assert bench.applied == bench.disk.zxids == [*OLD, zxid(1, 4), zxid(2, 1), zxid(2, 2), zxid(2, 3)]


def test_an_observer_waits_a_moment_before_it_asks_for_another_leader() -> None:
    bench, link = observer()
    in_step(bench, link)
    votes = len(bench.votes)
    bench.close(link)
    assert len(bench.votes) == votes
    bench.wait(200)
    assert len(bench.votes) > votes


# Patience.


def test_a_silent_leader_is_given_up_after_sync_limit() -> None:
    bench, link = follower()
    in_step(bench, link)
    for _ in range(3):
        bench.wait(SETTINGS.sync_ms - 1)
        bench.say(link, P.PING, 0)
    bench.wait(SETTINGS.sync_ms)
    assert bench.role.serving
    bench.wait(1)
    assert_gave_up(bench, link)


@pytest.mark.parametrize("phase", range(4))
def test_before_it_is_in_step_a_silent_leader_has_init_limit(phase: int) -> None:
    bench, link = follower()
    steps: list[Callable[[], None]] = [
        lambda: promised(bench, link),
        lambda: bench.say(link, P.DIFF, E),
        lambda: bench.say(link, P.NEWLEADER, E, b""),
    ]
    for step in steps[:phase]:
        step()
    bench.wait(SETTINGS.init_ms)
    assert bench.peer.state is ServerState.FOLLOWING
    bench.wait(1)
    assert_gave_up(bench, link)


# Leaders of bad will.


def test_what_a_leader_sends_ahead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "PENDING_MAX", 10)
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.DIFF, E)
    bench.quick = False
    bench.say(link, P.NEWLEADER, E, b"")
    for _ in range(10):
        bench.say(link, P.PING, 0)
    assert bench.peer.state is ServerState.FOLLOWING
    bench.say(link, P.PING, 0)
    assert link in bench.hung_up


def test_the_bytes_before_newleader_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(payload(1))
    monkeypatch.setattr(learner_module, "PENDING_BYTES_MAX", 3 * size)
    bench, link = follower()
    promised(bench, link)
    bench.say(link, P.DIFF, E)
    bench.propose_to(link, *(zxid(1, number) for number in (4, 5, 6)))
    assert bench.peer.state is ServerState.FOLLOWING
    bench.propose_to(link, zxid(1, 7))
    assert_gave_up(bench, link)


PACKETS = st.builds(
    QuorumPacket,
    st.one_of(st.integers(0, 20), st.integers(-(1 << 31), (1 << 31) - 1)),
    st.one_of(st.sampled_from([*OLD, E, E + 1, E + 2, zxid(1, 4), -1, 0]), st.integers(-(1 << 63), (1 << 63) - 1)),
    st.one_of(st.none(), st.binary(max_size=40), st.sampled_from([PROTOCOL, payload(zxid(1, 4)), payload(E + 1)])),
)


@settings(deadline=None)
@given(st.integers(0, 4), st.lists(PACKETS, max_size=12))
def test_whatever_a_leader_says_the_worst_is_that_it_is_left(phase: int, packets: list[QuorumPacket]) -> None:
    bench, link = follower()
    steps: list[Callable[[], None]] = [
        lambda: promised(bench, link),
        lambda: bench.say(link, P.DIFF, E),
        lambda: bench.say(link, P.NEWLEADER, E, b""),
        lambda: bench.say(link, P.UPTODATE),
    ]
    for step in steps[:phase]:
        step()
    for packet in packets:
        bench.peer.packet(link, packet, bench.now_ms)
        bench.drain()
    state = bench.peer.state
    assert (state is ServerState.LOOKING) == (link in bench.hung_up)
    # I2, I10.
    assert bench.disk.current <= bench.disk.accepted
    assert bench.disk.zxids == sorted(set(bench.disk.zxids))
    appended = [entry.zxid for write in bench.writes if isinstance(write, AppendTxns) for entry in write.entries]
    epochs = [write.epoch for write in bench.writes if isinstance(write, WriteCurrentEpoch)]
    assert appended == sorted(set(appended))
    assert epochs == sorted(set(epochs))
