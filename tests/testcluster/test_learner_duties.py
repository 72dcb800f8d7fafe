"""A learner's duties: what waits for the leader's word, and what it does with words that nobody waits for."""

from __future__ import annotations

import logging

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster.connection import Phase
from terzetto.testcluster.messages import (
    PacketType,
    QuorumPacket,
    RevalidationReply,
    decode_request,
    decode_revalidation,
    decode_touches,
    encode_revalidation_reply,
)

from .members import TICK_MS, Ensemble, Server
from .port import Peer, connect_frame


@pytest.fixture(params=["follower", "observer"])
def learner(request: pytest.FixtureRequest) -> Server:
    ensemble = Ensemble(3, 1)
    ensemble.wait_serving()
    return ensemble.servers[4] if request.param == "observer" else ensemble.followers()[0]


def leader_of(learner: Server) -> Server:
    leader = learner.ensemble.leader()
    assert leader is not None
    return leader


def say(learner: Server, packet: QuorumPacket) -> None:
    """The leader sends a packet of the test's making."""
    leader = leader_of(learner)
    for link, wire in leader.wires.items():
        if wire.to is learner:
            leader.machine.peer.send_down(link, packet)
    learner.ensemble.pump()


def come_back(client: Peer, server: Server) -> Peer:
    """Says hello with a session, and lets nobody answer yet."""
    peer = server.open()
    frame = connect_frame(session_id=client.session_id, password=client.password, timeout_ms=4000)
    server.machine.receive(peer.connection, frame, server.now_ms)
    return peer


def test_writes_go_to_the_leader_as_they_came(learner: Server) -> None:
    client = learner.connect()
    learner.sent.clear()
    assert client.err(o.AUTH, 0, "digest", b"ben:secret") == 0
    client.create("/a", b"1")
    client.ok(o.SYNC, "/a")
    requests = [packet for packet in learner.sent if packet.type == PacketType.REQUEST]
    assert [decode_request(packet.data)[:3] for packet in requests] == [
        (client.session_id, 2, 1),
        (client.session_id, 3, 9),
    ]
    assert {packet.zxid for packet in requests} == {-1}
    schemes = [[held.scheme for held in packet.authinfo or ()] for packet in requests]
    assert schemes == [["ip", "digest"]] * 2


def test_a_hello_with_a_session_waits_for_the_leader(learner: Server) -> None:
    client = leader_of(learner).connect()
    peer = come_back(client, learner)
    assert peer.connection.phase is Phase.HANDSHAKING
    learner.sent.clear()
    learner.work()
    assert peer.frames == []
    (asked,) = [packet for packet in learner.sent if packet.type == PacketType.REVALIDATE]
    assert (asked.zxid, decode_revalidation(asked.data)) == (-1, (client.session_id, 4000))
    learner.ensemble.pump()
    peer.handshake_answer()
    assert (peer.session_id, peer.timeout_ms) == (client.session_id, 4000)


def test_several_hellos_with_one_session_are_answered_in_turn(learner: Server) -> None:
    client = leader_of(learner).connect()
    first, second = come_back(client, learner), come_back(client, learner)
    learner.ensemble.pump()
    assert (len(first.frames), len(second.frames)) == (1, 1)
    assert first.closed
    assert not second.closed


def test_who_has_gone_before_the_answer_is_not_missed(learner: Server) -> None:
    client = leader_of(learner).connect()
    gone, there = come_back(client, learner), come_back(client, learner)
    gone.hang_up()
    learner.ensemble.pump()
    there.handshake_answer()
    assert there.session_id == client.session_id


def test_nobody_is_connected_who_has_gone_before_the_answer(learner: Server) -> None:
    client = leader_of(learner).connect()
    gone = come_back(client, learner)
    gone.hang_up()
    learner.ensemble.pump()
    assert learner.machine.connection_of(client.session_id) is None
    assert learner.machine.connections == {}


@pytest.mark.parametrize(
    "packet",
    [
        QuorumPacket(PacketType.SYNC, 0),
        QuorumPacket(PacketType.REVALIDATE, -1, encode_revalidation_reply(RevalidationReply(99, True))),
    ],
)
def test_answers_that_nobody_waits_for_are_left_alone(
    learner: Server, packet: QuorumPacket, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "terzetto.testcluster.learner_duties"):
        say(learner, packet)
    assert "nobody has asked for" in caplog.text
    assert learner.machine.serving
    assert learner.connect().create("/a") == "/a"


def test_an_answer_that_makes_no_sense_costs_the_leader_its_learner(learner: Server) -> None:
    client = learner.connect()
    say(learner, QuorumPacket(PacketType.REVALIDATE, -1, b"?"))
    assert client.closed
    learner.ensemble.wait_serving()


def told(learner: Server) -> list[tuple[int, int]]:
    """What the learner tells with its answers to pings, in two ticks."""
    learner.sent.clear()
    learner.ensemble.run(TICK_MS * 2)
    answers = [packet for packet in learner.sent if packet.type == PacketType.PING]
    assert answers
    return [touch for packet in answers for touch in decode_touches(packet.data)]


def test_clients_that_were_heard_of_are_told_with_the_ping(learner: Server) -> None:
    client, silent = learner.connect(), learner.connect()
    assert sorted(told(learner)) == [(client.session_id, 4000), (silent.session_id, 4000)]
    assert told(learner) == []
    client.send(client.frame(o.PING) + client.frame(o.PING))
    assert told(learner) == [(client.session_id, 4000)]
    assert told(learner) == []


def test_a_learner_judges_no_session(learner: Server) -> None:
    client = learner.connect()
    assert learner.machine.sessions.expiries() == {}
    leader_of(learner).machine.sessions.set_closing(client.session_id)
    # Reads need no judgement; a write gets the leader's.
    assert client.err(o.EXISTS, "/a", False) == -101
    assert client.err(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0) == -112


def test_what_a_lost_leader_left_open_is_not_answered_by_the_next(learner: Server) -> None:
    ensemble = learner.ensemble
    client = learner.connect()
    client_2 = learner.connect()
    waiting = come_back(client, learner)
    lost = leader_of(learner)
    learner.machine.receive(client_2.connection, client_2.frame(o.SYNC, "/"), ensemble.now_ms)
    learner.machine.receive(
        client_2.connection, client_2.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0), ensemble.now_ms
    )
    lost.kill()
    ensemble.pump()
    assert waiting.closed
    assert client_2.closed
    ensemble.wait_serving()
    assert waiting.frames == client_2.frames == []
    again = learner.connect()
    assert again.create("/b") == "/b"
    assert again.ok(o.SYNC, "/").path == "/"
