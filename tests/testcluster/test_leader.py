"""The leader among learners that are the test: whom it offers what, when it commits, when it gives up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from terzetto.testcluster import leader as leader_module
from terzetto.testcluster.ids import COUNTER_MAX
from terzetto.testcluster.learner_link import LinkPhase
from terzetto.testcluster.messages import (
    LearnerInfo,
    PacketType as P,
    QuorumPacket,
    ServerState,
    decode_int,
    encode_int,
    encode_learner_info,
)
from terzetto.testcluster.ready import (
    AppendTxns,
    LeadershipConfirmed,
    LearnerLeft,
    PacketArrived,
    Role,
    WriteAcceptedEpoch,
    WriteCurrentEpoch,
)

from .bench import SETTINGS, TICK_MS, Bench, Disk, payload, txn, zxid
from .roles import (
    OLD,
    E,
    answer,
    elected,
    greet,
    join,
    leading,
)

# Discovery.


def test_the_epoch_is_later_than_any_that_a_quorum_has_promised() -> None:
    bench = elected(voters=5)
    first = greet(bench, 2, accepted=6)
    assert bench.writes == []
    second = greet(bench, 3, accepted=4)
    assert bench.writes == [WriteAcceptedEpoch(7)]
    for link in (first, second):
        (offer,) = bench.packets(link)
        assert (offer.type, offer.zxid, decode_int(offer.data)) == (P.LEADERINFO, zxid(7, 0), 0x10000)


def test_the_own_promise_is_on_disk_before_it_is_offered() -> None:
    bench = elected()
    bench.quick = False
    link = greet(bench, 2)
    late = greet(bench, 3)
    assert bench.heard(link) == bench.heard(late) == []
    bench.sync()
    assert bench.heard(link) == bench.heard(late) == [(P.LEADERINFO, E)]


def test_observers_and_strangers_are_no_quorum() -> None:
    bench = elected(observers=2)
    for sid in (4, 5, 77, 78):
        greet(bench, sid)
    assert bench.writes == []
    greet(bench, 2)
    assert bench.writes == [WriteAcceptedEpoch(2)]


def test_a_learner_that_has_gone_is_not_waited_for() -> None:
    bench = elected(voters=5)
    bench.close(greet(bench, 2))
    greet(bench, 3)
    assert bench.writes == []


def test_current_epoch_is_on_disk_before_the_first_learner_is_synchronized() -> None:
    bench = elected()
    link = greet(bench, 2)
    bench.heard(link)
    bench.quick = False
    answer(bench, link)
    assert bench.writes[1:] == [WriteCurrentEpoch(2)]
    assert bench.heard(link) == []
    bench.sync()
    sent = bench.packets(link)
    assert [(packet.type, packet.zxid) for packet in sent] == [(P.DIFF, OLD[-1]), (P.NEWLEADER, E)]
    assert sent[1].data == bench.config.text().encode()


@pytest.mark.parametrize(("last", "current"), [(zxid(1, 4), 1), (OLD[-1], 2), (0, 2), (E, 2), (E, 1)])
def test_a_learner_that_is_ahead_is_refused(last: int, current: int) -> None:
    """I12: it has more than this server, so this server cannot be sure to have everything."""
    bench = elected(Disk(OLD, accepted=2, current=1))
    link = greet(bench, 2)
    answer(bench, link, last, current)
    assert "ahead" in bench.hung_up[link]
    assert not any(isinstance(write, WriteCurrentEpoch) for write in bench.writes)


def test_who_has_led_an_epoch_without_a_transaction_is_not_ahead() -> None:
    """ZooKeeper's former leaders end with the epoch itself, their followers with the transaction before it."""
    bench = elected(Disk(OLD, accepted=2, current=2))
    link = greet(bench, 2, accepted=2)
    answer(bench, link, E, 2)
    assert bench.heard(link)[1:] == [(P.DIFF, E), (P.NEWLEADER, zxid(3, 0))]


@pytest.mark.parametrize(("last", "current"), [(OLD[-1], -1), (-1, 1), (-1, -1)])
def test_who_promised_before_or_has_lost_its_history_does_not_count(last: int, current: int) -> None:
    bench = elected()
    link = greet(bench, 2)
    answer(bench, link, last, current)
    assert bench.peer.current_epoch == 1
    other = greet(bench, 3)
    answer(bench, other)
    assert bench.peer.current_epoch == 2
    assert bench.heard(link)[1][0] == (P.SNAP if last == -1 else P.DIFF)


def test_a_promise_counts_even_if_its_learner_has_gone() -> None:
    bench = elected(voters=5)
    first, second = greet(bench, 2), greet(bench, 3)
    answer(bench, first)
    bench.close(first)
    answer(bench, second)
    assert bench.peer.current_epoch == 2


@pytest.mark.parametrize(
    "packet",
    [
        QuorumPacket(P.ACKEPOCH, 0, encode_int(0)),
        QuorumPacket(P.PING, 0),
        QuorumPacket(P.FOLLOWERINFO, 0, b"short"),
        QuorumPacket(P.FOLLOWERINFO, 0, None),
        QuorumPacket(P.FOLLOWERINFO, 0, encode_learner_info(LearnerInfo(2, 1))),
        QuorumPacket(P.FOLLOWERINFO, 0, encode_learner_info(LearnerInfo(2, config_version=1))),
        QuorumPacket(P.FOLLOWERINFO, 0, encode_learner_info(LearnerInfo(1))),
        QuorumPacket(P.FOLLOWERINFO, -2 << 32, encode_learner_info(LearnerInfo(2))),
        QuorumPacket(P.FOLLOWERINFO, 0x7FFFFFFF << 32, encode_learner_info(LearnerInfo(2))),
    ],
)
def test_who_does_not_greet_properly_is_hung_up(packet: QuorumPacket) -> None:
    bench = elected()
    link = bench.accept()
    bench.peer.packet(link, packet, bench.now_ms)
    bench.drain()
    assert link in bench.hung_up
    assert bench.peer.state is ServerState.LEADING


def test_a_learner_that_comes_late_gets_the_epoch_as_it_is() -> None:
    bench, _ = leading(observers=1)
    link = greet(bench, 4, accepted=9, observer=True)
    assert bench.heard(link) == [(P.LEADERINFO, E)]
    assert bench.peer.state is ServerState.LEADING


def test_a_voter_that_has_promised_more_gets_a_new_epoch() -> None:
    """L1: it could never follow this one; ZooKeeper leaves it out until the next election."""
    bench, _ = leading()
    link = greet(bench, 3, accepted=5)
    assert bench.peer.state is ServerState.LOOKING
    assert "promised epoch 5" in bench.hung_up[link]
    # Nor could it follow the next one, if that came without it.
    bench.win()
    greet(bench, 2, accepted=2)
    assert bench.disk.accepted == 6


def test_a_second_connection_of_a_server_replaces_the_first() -> None:
    bench, links = leading()
    greet(bench, 2)
    assert list(bench.hung_up) == [links[0]]
    assert bench.upcalls[-1] == LearnerLeft(links[0], 2)


def test_strangers_may_share_a_sid() -> None:
    bench, _ = leading()
    join(bench, -1, observer=True)
    join(bench, -1, observer=True)
    assert bench.hung_up == {}


# Broadcast.


def test_a_proposal_is_committed_by_a_quorum_in_order_and_once() -> None:
    bench, links = leading(voters=5)
    first, second = bench.propose(2)
    assert bench.heard(links[0]) == [(P.PROPOSAL, first), (P.PROPOSAL, second)]
    for link in links[:2]:
        bench.say(link, P.ACK, second)
    assert bench.applied == OLD
    bench.say(links[0], P.ACK, first)
    assert bench.applied == OLD
    bench.say(links[1], P.ACK, first)
    assert bench.applied == [*OLD, first, second]
    for link in links[2:]:
        bench.say(link, P.ACK, first)
        bench.say(link, P.ACK, second)
    for link in links[1:]:
        assert [each for each in bench.heard(link) if each[0] == P.COMMIT] == [(P.COMMIT, first), (P.COMMIT, second)]


def test_the_own_ack_counts_once_the_own_disk_has_it() -> None:
    bench, links = leading()
    bench.quick = False
    (number,) = bench.propose()
    assert bench.heard(links[0]) == [(P.PROPOSAL, number)]
    bench.say(links[0], P.ACK, number)
    assert bench.applied == OLD
    bench.sync()
    assert bench.applied == [*OLD, number]


def test_proposals_that_come_together_are_one_write_and_are_acknowledged_together() -> None:
    bench, links = leading()
    bench.quick = False
    numbers = [E + 1, E + 2, E + 3]
    for number in numbers:
        bench.peer.propose(txn(number), bench.now_ms)
    bench.drain()
    (append,) = bench.disk.writes
    assert isinstance(append[1], AppendTxns)
    for number in numbers:
        bench.say(links[0], P.ACK, number)
    assert bench.applied == OLD
    bench.sync()
    assert bench.applied == [*OLD, *numbers]


def test_a_quorum_of_others_does_not_wait_for_the_leaders_disk() -> None:
    bench, links = leading()
    bench.quick = False
    (number,) = bench.propose()
    for link in links:
        bench.say(link, P.ACK, number)
    assert bench.applied == [*OLD, number]


def test_observers_are_informed_and_strangers_follow_without_a_vote() -> None:
    bench, links = leading(observers=1)
    watching = join(bench, 4, observer=True)
    stranger = join(bench, 77)
    bench.packets(watching)
    bench.packets(stranger)
    (number,) = bench.propose()
    bench.say(watching, P.ACK, number)
    bench.say(stranger, P.ACK, number)
    # The leader's own is one of two that are needed.
    assert bench.applied == OLD
    bench.say(links[0], P.ACK, number)
    (inform,) = bench.packets(watching)
    assert inform == QuorumPacket(P.INFORM, number, payload(number))
    assert bench.heard(stranger) == [(P.PROPOSAL, number), (P.COMMIT, number)]


def test_a_proposal_that_does_not_follow_is_a_bug() -> None:
    bench, _ = leading()
    with pytest.raises(ValueError, match="does not follow"):
        bench.peer.propose(txn(E + 2), bench.now_ms)


def test_who_does_not_lead_proposes_nothing() -> None:
    bench = Bench(1)
    bench.peer.propose(txn(1), bench.now_ms)
    bench.win()
    bench.peer.propose(txn(1), bench.now_ms)
    bench.drain()
    assert bench.writes == []


def test_an_epoch_ends_before_its_counter_overflows() -> None:
    """I10: ZOOKEEPER-1277."""
    bench, links = leading()
    leader = bench.peer._role  # pyright: ignore[reportPrivateUsage]
    assert isinstance(leader, leader_module.Leading)
    last = zxid(2, COUNTER_MAX)
    leader._proposals.last_proposed = last  # pyright: ignore[reportPrivateUsage]
    bench.peer.propose(txn(last + 1), bench.now_ms)
    bench.drain()
    assert bench.peer.state is ServerState.LOOKING
    assert set(bench.hung_up) == set(links)


def test_requests_and_touches_go_to_the_replica() -> None:
    bench, links = leading()
    request = QuorumPacket(P.REQUEST, -1, b"r")
    touches = QuorumPacket(P.PING, 0, b"t")
    revalidate = QuorumPacket(P.REVALIDATE, -1, b"v")
    bench.upcalls.clear()
    for packet in (request, touches, revalidate, QuorumPacket(P.PING, 0, b""), QuorumPacket(99, 0)):
        bench.peer.packet(links[0], packet, bench.now_ms)
    bench.drain()
    assert bench.upcalls == [PacketArrived(links[0], 2, packet) for packet in (request, touches, revalidate)]
    bench.peer.send_down(links[0], QuorumPacket(P.SYNC, 0))
    bench.peer.send_down(99, QuorumPacket(P.SYNC, 0))
    bench.drain()
    assert bench.heard(links[0]) == [(P.SYNC, 0)]
    bench.peer.reject(links[0], "nonsense", bench.now_ms)
    bench.drain()
    assert bench.hung_up == {links[0]: "nonsense"}


@pytest.mark.parametrize("is_synced", [False, True])
def test_requests_come_from_learners_in_step_only(is_synced: bool) -> None:
    bench = elected(voters=5)
    links = [greet(bench, 2), greet(bench, 3)]
    for link in links:
        answer(bench, link)
    if is_synced:
        bench.say(links[0], P.ACK, E)
        # Ours answers PINGs from here on.
        bench.say(links[0], P.PING, 0, b"")
        assert bench.hung_up == {}
    bench.say(links[0], P.REQUEST)
    assert links[0] in bench.hung_up


def test_acks_of_other_epochs_count_for_nothing() -> None:
    bench = elected()
    link = greet(bench, 2)
    answer(bench, link)
    for number in (0, zxid(1, 0), zxid(3, 0)):
        bench.say(link, P.ACK, number)
    assert not bench.role.serving
    bench.say(link, P.ACK, E)
    assert bench.role.serving


def test_who_is_connected_can_be_seen() -> None:
    bench, links = leading()
    stranger = bench.accept()
    assert [(each.link, each.sid, each.phase) for each in bench.peer.learners] == [
        (links[0], 2, LinkPhase.ACTIVE),
        (links[1], 3, LinkPhase.ACTIVE),
        (stranger, -1, LinkPhase.GREETING),
    ]
    assert Bench(1).peer.learners == []


# Liveness.


@pytest.mark.parametrize("phase", range(3))
def test_every_phase_before_it_leads_has_init_limit(phase: int) -> None:
    bench = elected()
    link = greet(bench, 2) if phase > 0 else 0
    if phase > 1:
        answer(bench, link)
    bench.wait(SETTINGS.init_ms)
    assert bench.leader() == 1
    bench.wait(TICK_MS)
    assert bench.leader() is None


def test_without_a_quorum_in_step_it_gives_up() -> None:
    bench, links = leading()
    bench.close(links[0])
    bench.wait(TICK_MS * 2)
    assert bench.role.serving
    bench.close(links[1])
    bench.wait(TICK_MS + TICK_MS // 2)
    assert bench.role == Role(ServerState.LOOKING, 2, None, serving=False, may_snapshot=False)


def test_a_learner_that_comes_back_at_once_is_not_missed() -> None:
    bench, links = leading()
    bench.close(links[0])
    bench.close(links[1])
    greet(bench, 2)
    bench.wait(TICK_MS * 3)
    assert bench.role.serving


def test_a_learner_that_keeps_coming_and_never_follows_is_no_quorum() -> None:
    bench, links = leading()
    for link in links:
        bench.close(link)
    for _ in range(60):
        greet(bench, 2)
        bench.wait(TICK_MS // 4)
    assert not bench.role.serving


def test_a_silent_learner_is_hung_up_after_sync_limit() -> None:
    bench, links = leading()
    for _ in range(4):
        bench.wait(SETTINGS.sync_ms // 2)
        bench.say(links[0], P.PING, 0, b"")
    assert bench.hung_up == {links[1]: "it was silent for too long"}
    assert bench.role.serving


def test_a_learner_that_answers_pings_and_acknowledges_nothing_is_hung_up() -> None:
    bench, links = leading()
    (number,) = bench.propose()
    bench.say(links[1], P.ACK, number)
    for _ in range(13):
        bench.wait(TICK_MS // 2)
        for link in links:
            bench.say(link, P.PING, 0, b"")
    assert bench.hung_up == {links[0]: "it did not acknowledge a proposal in time"}


def test_every_ack_gives_the_next_one_its_time() -> None:
    bench, links = leading()
    owed: list[int] = []
    for _ in range(20):
        owed += bench.propose()
        bench.wait(TICK_MS)
        bench.say(links[1], P.ACK, owed[-1])
        bench.say(links[0], P.ACK, owed[max(len(owed) - 4, 0)])
    assert bench.hung_up == {}


@pytest.mark.parametrize("phase", ["greeting", "offered", "syncing"])
def test_a_learner_that_stands_still_on_its_way_is_hung_up(phase: str) -> None:
    bench, links = leading()
    link = bench.accept() if phase == "greeting" else greet(bench, 77)
    if phase == "syncing":
        answer(bench, link)
    for _ in range(2 * SETTINGS.init_limit + 1):
        assert bench.hung_up == {}
        bench.wait(TICK_MS // 2)
        for other in links:
            bench.say(other, P.PING, 0, b"")
    assert list(bench.hung_up) == [link]


def test_pings_begin_with_newleader_and_come_twice_a_tick() -> None:
    """Before DIFF, TRUNC or SNAP a PING ends ZooKeeper 3.8.0's process."""
    bench = elected()
    link = greet(bench, 2)
    bench.wait(TICK_MS)
    answer(bench, link, OLD[-1])
    assert P.PING not in [packet.type for packet in bench.packets(link)]
    bench.wait(TICK_MS)
    assert [packet.type for packet in bench.packets(link)] == [P.PING, P.PING]


# The proof that it still leads.


def confirmed(bench: Bench) -> list[int]:
    return [upcall.round for upcall in bench.upcalls if isinstance(upcall, LeadershipConfirmed)]


def test_leadership_is_confirmed_by_a_quorum_that_answers_afterwards() -> None:
    bench, links = leading(voters=5, observers=1)
    watching = join(bench, 6, observer=True)
    number = bench.peer.confirm_leadership(bench.now_ms)
    bench.drain()
    (ping,) = [packet for packet in bench.packets(links[0]) if packet.type == P.PING]
    bench.say(watching, P.PING, ping.zxid, b"")
    bench.say(links[0], P.PING, ping.zxid - 1, b"")
    bench.say(links[0], P.PING, ping.zxid, b"")
    bench.say(links[0], P.PING, ping.zxid, b"")
    assert confirmed(bench) == []
    bench.say(links[1], P.PING, ping.zxid, b"")
    assert confirmed(bench) == [number]
    bench.say(links[2], P.PING, ping.zxid, b"")
    assert confirmed(bench) == [number]


def test_who_asks_during_a_round_gets_the_next_one() -> None:
    bench, links = leading()
    first = bench.peer.confirm_leadership(bench.now_ms)
    second = bench.peer.confirm_leadership(bench.now_ms)
    assert bench.peer.confirm_leadership(bench.now_ms) == second == first + 1
    bench.drain()
    assert [packet.zxid for packet in bench.packets(links[0])] == [first]
    bench.say(links[0], P.PING, first, b"")
    assert confirmed(bench) == [first]
    assert [packet.zxid for packet in bench.packets(links[0])] == [second]
    # The answer to the first round, from another voter, says nothing about the second.
    bench.say(links[1], P.PING, first, b"")
    assert confirmed(bench) == [first]
    bench.say(links[1], P.PING, second, b"")
    assert confirmed(bench) == [first, second]


def test_who_does_not_lead_confirms_nothing() -> None:
    bench = Bench(1)
    assert bench.peer.confirm_leadership(bench.now_ms) == 0
    bench.win()
    bench.peer.confirm_leadership(bench.now_ms)
    bench.drain()
    assert confirmed(bench) == []


# Learners of bad will.


def test_links_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_module, "LINKS_MAX", 3)
    bench, _ = leading()
    bench.accept()
    assert bench.accept() in bench.hung_up


PACKETS = st.builds(
    QuorumPacket,
    st.one_of(st.integers(0, 20), st.integers(-(1 << 31), (1 << 31) - 1)),
    st.one_of(st.sampled_from([*OLD, E, E + 1, E + 2, 1 << 32, -1, 0]), st.integers(-(1 << 63), (1 << 63) - 1)),
    st.one_of(
        st.none(),
        st.binary(max_size=30),
        st.sampled_from([encode_learner_info(LearnerInfo(9)), encode_int(1), encode_int(-1)]),
    ),
)


@settings(deadline=None)
@given(st.integers(0, 3), st.lists(PACKETS, max_size=12))
def test_whatever_a_stranger_says_the_worst_is_that_it_is_hung_up(phase: int, packets: list[QuorumPacket]) -> None:
    bench, links = leading()
    link = bench.accept()
    if phase > 0:
        bench.say(link, P.OBSERVERINFO, 1 << 32, encode_learner_info(LearnerInfo(9)))
    if phase > 1:
        answer(bench, link)
    if phase > 2:
        bench.say(link, P.ACK, E)
    for packet in packets:
        if packet.type in (P.FOLLOWERINFO, P.OBSERVERINFO) and packet.data and packet.data[7:8] in (b"\2", b"\3"):
            continue
        bench.peer.packet(link, packet, bench.now_ms)
        bench.drain()
    assert set(bench.hung_up) <= {link}
    (number,) = bench.propose()
    assert bench.applied == OLD
    bench.say(links[0], P.ACK, number)
    assert bench.applied == [*OLD, number]
