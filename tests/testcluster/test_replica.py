"""Whole members together: writes through any of them, sessions that move, fail over, expire; who serves, and when."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings, strategies as st

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import Opcode, operations as o
from terzetto.testcluster.messages import PacketType, ServerState
from terzetto.testcluster.quorum import parse_config

from .members import TICK_MS, Ensemble, Server
from .port import Peer, Reply, connect_frame, create


def three(**terms: object) -> Ensemble:
    ensemble = Ensemble(3, **terms)  # type: ignore[arg-type]
    ensemble.wait_serving()
    return ensemble


def shuffled(ensemble: Ensemble) -> tuple[Peer, Peer, Peer]:
    """A client on the leader, and one on each follower."""
    leader = ensemble.leader()
    assert leader is not None
    one, other = ensemble.followers()
    return leader.connect(), one.connect(), other.connect()


def resume(peer: Peer, server: Server, **terms: object) -> Peer:
    """The client of a session comes back at another server."""
    back = server.open()
    back.handshake(session_id=peer.session_id, password=peer.password, timeout_ms=4000, **terms)
    return back


def ping(client: Peer) -> None:
    """Says that the client lives; events that come are kept."""
    client.send(client.frame(o.PING))
    assert [answer.err for answer in client.replies()] == [0]


# Serving.


@pytest.mark.parametrize(("voters", "observers"), [(1, 0), (2, 0), (3, 0), (3, 2), (5, 1)])
def test_every_member_serves(voters: int, observers: int) -> None:
    ensemble = Ensemble(voters, observers)
    leader = ensemble.wait_serving()
    clients = {sid: server.connect() for sid, server in ensemble.servers.items()}
    for sid, client in clients.items():
        assert client.create(f"/{sid}") == f"/{sid}"
        assert client.session_id >> 56 == sid
    for client in clients.values():
        assert set(client.ok(o.GET_CHILDREN, "/", False).children) == {*map(str, clients), "zookeeper"}
    ensemble.assert_equal()
    states = {sid: server.machine.role.state for sid, server in ensemble.servers.items()}
    assert states.pop(leader.sid) is ServerState.LEADING
    assert {state for sid, state in states.items() if sid > voters} <= {ServerState.OBSERVING}
    assert {state for sid, state in states.items() if sid <= voters} <= {ServerState.FOLLOWING}


def test_before_there_is_a_leader_clients_are_turned_away() -> None:
    ensemble = Ensemble(3)
    server = ensemble.servers[1]
    newcomer, stranger, patient = server.open(), server.open(), server.open()
    server.machine.receive(newcomer.connection, connect_frame(), ensemble.now_ms)
    # Nor does a server without a leader judge sessions.
    frame = connect_frame(session_id=4711, password=bytes(16))
    server.machine.receive(stranger.connection, frame, ensemble.now_ms)
    server.flush()
    for peer in (newcomer, stranger):
        assert peer.closed
        assert peer.frames == []
    # One that has not said anything yet may stay.
    ensemble.wait_serving()
    patient.handshake()
    assert patient.session_id


def test_a_member_that_loses_its_leader_drops_its_clients() -> None:
    ensemble = three()
    leader, *followers = shuffled(ensemble)
    served = ensemble.leader()
    assert served is not None
    silent = served.open()
    served.kill()
    ensemble.pump()
    assert all(client.closed for client in (leader, silent, *followers))


def test_a_leader_without_a_quorum_drops_its_clients() -> None:
    ensemble = three()
    client, *_ = shuffled(ensemble)
    deposed = ensemble.leader()
    assert deposed is not None
    ensemble.isolate(deposed.sid)
    ensemble.run(10_000, lambda: client.closed)
    assert not deposed.machine.serving
    assert deposed.machine.role.state is ServerState.LOOKING
    assert deposed.machine.connections == {}


def test_the_configuration_is_a_znode_of_every_member() -> None:
    ensemble = three()
    for server in ensemble.alive():
        value = server.connect().ok(o.GET_DATA, "/zookeeper/config", False)
        assert parse_config(value.data.decode()) == ensemble.config
        assert (value.stat.version, value.stat.mzxid) == (-1, 0)
    ensemble.assert_equal()


def test_reconfig_is_refused_everywhere() -> None:
    ensemble = three()
    for client in shuffled(ensemble):
        assert client.err(o.RECONFIG, "server.9=a:1:2", None, None, -1) == -123
    ensemble.assert_equal()


# Writes.


def test_what_one_member_acknowledges_all_members_have() -> None:
    ensemble = three()
    clients = shuffled(ensemble)
    for number, client in enumerate(clients):
        client.create(f"/{number}", b"x")
        client.ok(o.SET_DATA, f"/{number}", b"y", 0)
    for client in clients:
        assert [client.ok(o.GET_DATA, f"/{number}", False).data for number in range(3)] == [b"y"] * 3
    ensemble.assert_equal()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_kind_of_write_through_any_member(place: int) -> None:
    ensemble = three(extended_types=True)
    client = shuffled(ensemble)[place]
    assert client.create("/a") == "/a"
    made = client.ok(o.CREATE2, "/b", b"1", OPEN_ACL_UNSAFE, 0)
    assert (made.path, made.stat.version) == ("/b", 0)
    assert client.create("/s-", flags=2) == "/s-0000000002"
    assert client.ok(o.CREATE_CONTAINER, "/c", b"", OPEN_ACL_UNSAFE, 4).path == "/c"
    assert client.ok(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, 5, 10_000).path == "/t"
    assert client.ok(o.SET_DATA, "/a", b"2", -1).stat.version == 1
    assert client.ok(o.SET_ACL, "/a", OPEN_ACL_UNSAFE, 0).stat.aversion == 1
    assert client.err(o.DELETE, "/b", 7) == -103
    assert client.err(o.DELETE, "/b", 0) == 0
    assert client.err(o.DELETE, "/nobody", -1) == -101
    results = client.multi((Opcode.CREATE, create("/m")), (Opcode.CREATE, create("/m/n")))
    assert len(results) == 2
    failed = client.multi((Opcode.CREATE, create("/x")), (Opcode.CREATE, create("/m")))
    assert failed[1] != results[1]
    assert client.ok(o.GET_DATA, "/a", False).data == b"2"
    ensemble.assert_equal()


def test_answers_come_in_the_order_of_the_requests() -> None:
    ensemble = three()
    _, client, _ = shuffled(ensemble)
    frames = [client.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0)]
    frames += [client.frame(o.GET_DATA, "/a", False), client.frame(o.SET_DATA, "/a", b"2", 0)]
    frames += [client.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0), client.frame(o.GET_DATA, "/a", False)]
    frames += [client.frame(o.SYNC, "/a"), client.frame(o.DELETE, "/a", 1), client.frame(o.EXISTS, "/a", False)]
    client.send(b"".join(frames))
    replies = client.replies()
    assert [answer.xid for answer in replies] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [answer.err for answer in replies] == [0, 0, 0, -110, 0, 0, 0, -101]
    assert (replies[1].value.data, replies[4].value.data) == (b"", b"2")
    zxids = [answer.zxid for answer in replies]
    assert zxids == sorted(zxids)


@pytest.mark.parametrize("place", [0, 1])
def test_what_stands_before_a_write_does_not_see_it_even_behind_a_sync(place: int) -> None:
    # The leader asks a quorum before it answers a sync, which may take longer than to commit the write behind it.
    ensemble = three()
    client = shuffled(ensemble)[place]
    slow = ensemble.followers()[1]
    frames = [client.frame(o.SYNC, "/a"), client.frame(o.EXISTS, "/a", False), client.frame(o.SYNC, "/a")]
    frames += [client.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0), client.frame(o.EXISTS, "/a", False)]
    frames += [client.frame(o.SYNC, "/a"), client.frame(o.DELETE, "/a", -1), client.frame(o.EXISTS, "/a", False)]
    slow.slow_disk = True
    client.send(b"".join(frames))
    slow.slow_disk = False
    slow.write()
    ensemble.pump()
    replies = client.replies()
    assert [(answer.xid, answer.err) for answer in replies] == [
        (1, 0), (2, -101), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, -101)
    ]  # fmt: skip
    zxids = [answer.zxid for answer in replies]
    assert zxids == sorted(zxids)


def test_what_a_client_sends_behind_a_sync_happens_also_when_it_has_gone() -> None:
    ensemble = three()
    client = ensemble.followers()[0].connect()
    client.port.machine.receive(
        client.connection,
        client.frame(o.SYNC, "/") + client.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0),
        ensemble.now_ms,
    )
    client.port.machine.hang_up(client.connection)
    ensemble.pump()
    assert all("/a" in server.tree.nodes for server in ensemble.alive())


def test_what_a_client_asked_before_it_came_back_happens_before_what_it_asks_then() -> None:
    ensemble = three()
    leader = ensemble.leader()
    assert leader is not None
    client = leader.connect()
    client.create("/a", b"0")
    frames = [client.frame(o.SYNC, "/"), client.frame(o.SET_DATA, "/a", b"1", -1)]
    leader.machine.receive(client.connection, b"".join(frames), ensemble.now_ms)
    leader.work()
    # The sync is on its way when the client leaves, the write behind it is not yet.
    client.hang_up()
    back = leader.open()
    frame = connect_frame(session_id=client.session_id, password=client.password)
    leader.machine.receive(back.connection, frame + back.frame(o.SET_DATA, "/a", b"2", -1), ensemble.now_ms)
    ensemble.pump()
    back.handshake_answer()
    assert [answer.value.stat.version for answer in back.replies()] == [2]
    assert leader.tree.nodes["/a"].data == b"2"


def test_watches_fire_where_the_client_is() -> None:
    ensemble = three()
    writer, one, other = shuffled(ensemble)
    writer.create("/a")
    for client in (one, other):
        client.ok(o.GET_DATA, "/a", True)
        client.ok(o.GET_CHILDREN, "/", True)
    writer.ok(o.SET_DATA, "/a", b"1", -1)
    one.create("/b")
    for client in (one, other):
        assert client.take_events() == [(3, "/a"), (4, "/")]


def test_writes_go_on_while_a_minority_is_gone_and_reach_it_later() -> None:
    ensemble = Ensemble(5, 1)
    ensemble.wait_serving()
    lost, gone, *_ = ensemble.followers()
    lost.kill()
    ensemble.isolate(gone.sid)
    leader = ensemble.leader()
    assert leader is not None
    client = leader.connect()
    for number in range(30):
        client.create(f"/{number}")
    lost.start()
    ensemble.heal()
    ensemble.wait_serving()
    ensemble.assert_equal()


def test_a_whole_ensemble_restarts_with_what_it_had() -> None:
    ensemble = three()
    _, client, _ = shuffled(ensemble)
    client.create("/a", b"1")
    client.create("/mine", flags=1)
    for server in ensemble.servers.values():
        server.kill()
    for server in ensemble.servers.values():
        server.start()
    ensemble.wait_serving()
    for server in ensemble.alive():
        assert server.tree.nodes["/a"].data == b"1"
    again = resume(client, ensemble.servers[1])
    assert again.session_id == client.session_id
    assert again.stat("/mine").ephemeralOwner == client.session_id
    again.create("/b")
    ensemble.assert_equal()


# Sessions.


def test_a_session_moves_between_members() -> None:
    ensemble = three()
    peers = shuffled(ensemble)
    moving = peers[1]
    moving.create("/mine", flags=1)
    for server in [*ensemble.followers(), *ensemble.alive()]:
        moving.hang_up()
        moving = resume(moving, server)
        assert moving.session_id == peers[1].session_id
        assert moving.timeout_ms == 4000
        moving.ok(o.SET_DATA, "/mine", b"", -1)
    ensemble.assert_equal()


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (0, 1), (1, 0)])
def test_the_connection_that_a_session_has_left_may_not_write(order: tuple[int, int]) -> None:
    ensemble = three()
    leader = ensemble.leader()
    assert leader is not None
    servers = [leader, *ensemble.followers()]
    old = servers[order[0]].connect()
    new = resume(old, servers[order[1]])
    assert new.session_id == old.session_id
    old.send(old.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0))
    assert old.closed
    assert old.frames == []
    assert new.err(o.EXISTS, "/a", False) == -101
    new.create("/a")


@pytest.mark.parametrize("leads", [False, True])
def test_a_moved_client_is_not_answered_with_what_it_asked_elsewhere(leads: bool) -> None:
    # kazoo numbers its requests anew on each connection, so that both creates here have the number 1.
    ensemble = three()
    leader = ensemble.leader()
    assert leader is not None
    one, other = ensemble.followers()
    old = one.connect()
    for server in (one, other):
        server.slow_disk = True
    old.send(old.frame(o.CREATE, "/old", b"", OPEN_ACL_UNSAFE, 0))
    new = resume(old, leader if leads else other)
    assert new.session_id == old.session_id
    new.send(new.frame(o.CREATE, "/new", b"", OPEN_ACL_UNSAFE, 0))
    assert new.replies() == []
    for server in (one, other):
        server.slow_disk = False
        server.write()
    ensemble.pump()
    assert [answer.value.path for answer in new.replies()] == ["/new"]
    assert {"/old", "/new"} <= set(leader.tree.nodes)


def test_a_wrong_password_and_a_session_that_is_over_are_refused() -> None:
    ensemble = three()
    one, other = ensemble.followers()
    client = one.connect()
    thief = other.open()
    thief.handshake(session_id=client.session_id, password=bytes(16))
    assert (thief.session_id, thief.timeout_ms, thief.closed) == (0, 0, True)
    assert client.err(o.CLOSE_SESSION) == 0
    assert client.closed
    for server in ensemble.alive():
        late = resume(client, server)
        assert (late.session_id, late.timeout_ms, late.closed) == (0, 0, True)


def test_a_secret_of_the_ensemble_makes_its_passwords() -> None:
    ensemble = three(session_secret=b"shared")
    one, other = ensemble.followers()
    client = one.connect()
    assert resume(client, other).session_id == client.session_id
    assert client.password != three().followers()[0].connect().password


def test_a_client_that_has_seen_more_is_turned_away() -> None:
    ensemble = three()
    one, other = ensemble.followers()
    client = one.connect()
    zxid = client.stat("/").mzxid
    assert zxid <= other.tree.last_zxid
    assert resume(client, other, last_zxid=other.tree.last_zxid).session_id
    late = resume(client, other, last_zxid=other.tree.last_zxid + 1)
    assert late.closed
    assert late.session_id == 0


def test_a_client_may_have_seen_the_beginning_of_the_epoch() -> None:
    # ZooKeeper's leader shows it as its last zxid; there is no transaction with that number.
    ensemble = three()
    client = ensemble.followers()[0].connect()
    for server in ensemble.alive():
        server.kill()
    for server in ensemble.servers.values():
        server.start()
    leader = ensemble.wait_serving()
    epoch = leader.machine.role.epoch
    assert leader.tree.last_zxid < epoch << 32
    for server in ensemble.alive():
        assert resume(client, server, last_zxid=epoch << 32).session_id == client.session_id
        late = resume(client, server, last_zxid=(epoch << 32) + 1)
        assert late.closed


def test_a_session_expires_through_the_leader_while_its_client_is_silent_elsewhere() -> None:
    ensemble = three()
    leader, client, witness = shuffled(ensemble)
    client.create("/mine", flags=1)
    witness.ok(o.EXISTS, "/mine", True)

    def others_live() -> bool:
        for each in (leader, witness):
            ping(each)
        return client.closed

    ensemble.run(20_000, others_live)
    assert not leader.closed
    assert not witness.closed
    assert (2, "/mine") in witness.take_events()
    assert client.session_id not in ensemble.servers[1].tree.sessions
    ensemble.assert_equal()


@pytest.mark.parametrize("kind", ["pings", "reads", "writes"])
def test_whatever_a_client_sends_to_its_follower_keeps_its_session(kind: str) -> None:
    ensemble = three()
    _, client, _ = shuffled(ensemble)
    client.create("/mine", flags=1)
    for _ in range(20):
        ensemble.run(1000)
        if kind == "pings":
            ping(client)
        elif kind == "reads":
            client.ok(o.GET_DATA, "/mine", False)
        else:
            client.ok(o.SET_DATA, "/mine", b"", -1)
    assert not client.closed
    assert client.stat("/mine").ephemeralOwner == client.session_id


def test_sessions_survive_their_leader_with_a_full_timeout() -> None:
    ensemble = three()
    leader, *others = shuffled(ensemble)
    for number, client in enumerate((leader, *others)):
        client.create(f"/{number}", flags=1)
    lost = ensemble.leader()
    assert lost is not None
    ensemble.run(3500)
    lost.kill()
    ensemble.wait_serving()
    # 4 s have long passed since anyone was heard of, but not since there is this leader.
    ensemble.run(3000)
    back = [resume(client, server) for client, server in zip(others, ensemble.alive(), strict=True)]
    assert [client.session_id for client in back] == [client.session_id for client in others]
    assert set(ensemble.alive()[0].tree.ephemerals) == {client.session_id for client in (leader, *others)}

    def expired() -> bool:
        for client in back:
            ping(client)
        return leader.session_id not in ensemble.alive()[0].tree.sessions

    ensemble.run(10_000, expired)
    assert not any(client.closed for client in back)
    assert "/0" not in ensemble.alive()[0].tree.nodes
    ensemble.assert_equal()


def test_a_closed_session_takes_its_ephemerals_and_connections_with_it() -> None:
    ensemble = three()
    _, client, witness = shuffled(ensemble)
    client.create("/mine", flags=1)
    second = resume(client, ensemble.followers()[1])
    assert second.err(o.CLOSE_SESSION) == 0
    assert second.closed
    assert client.closed
    assert witness.err(o.EXISTS, "/mine", False) == -101
    ensemble.assert_equal()


def test_no_session_id_is_given_out_twice() -> None:
    ensemble = three()
    seen: set[int] = set()
    for _ in range(4):
        for server in ensemble.alive():
            for _ in range(3):
                session_id = server.connect().session_id
                assert session_id not in seen
                seen.add(session_id)
        leader = ensemble.leader()
        assert leader is not None
        leader.kill()
        ensemble.wait_serving()
        leader.start()
        ensemble.wait_serving()


# Chance.


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_no_acknowledged_write_is_lost_whatever_fails(seed: int) -> None:
    chance = random.Random(seed)
    ensemble = Ensemble(chance.choice([3, 5]), chance.choice([0, 1]))
    ensemble.wait_serving()
    acknowledged: dict[str, bytes] = {}
    clients: list[Peer] = []
    for number in range(120):
        alive = ensemble.alive()
        roll = chance.random()
        if roll < 0.1 and len(alive) > 3:
            chance.choice(alive).kill()
        elif roll < 0.2:
            dead = [server for server in ensemble.servers.values() if not server.alive]
            if dead:
                chance.choice(dead).start()
        elif roll < 0.25:
            ensemble.isolate(chance.choice(list(ensemble.servers)))
        elif roll < 0.3:
            ensemble.heal()
        elif roll < 0.5:
            ensemble.run(chance.randrange(600))
        else:
            clients = [client for client in clients if not client.closed]
            serving = [server for server in alive if server.machine.serving]
            if serving and (not clients or chance.random() < 0.3):
                client = chance.choice(serving).open()
                client.handshake()
                if client.session_id:
                    clients.append(client)
            elif clients:
                client = chance.choice(clients)
                path, data = f"/{number}", bytes([number])
                client.send(client.frame(o.CREATE, path, data, OPEN_ACL_UNSAFE, 0))
                created(client, path, data, acknowledged)
    ensemble.heal()
    for server in ensemble.servers.values():
        if not server.alive:
            server.start()
    ensemble.wait_serving(within_ms=60_000)
    ensemble.assert_equal()
    assert acknowledged
    tree = ensemble.servers[1].tree
    assert {path: tree.nodes[path].data for path in acknowledged} == acknowledged


def created(client: Peer, path: str, data: bytes, acknowledged: dict[str, bytes]) -> None:
    for answer in client.replies():
        assert isinstance(answer, Reply)
        if answer.err == 0 and answer.value is not None and answer.value.path == path:
            acknowledged[path] = data


def test_the_wires_carry_what_was_meant_to_be_tested() -> None:
    ensemble = three()
    _, client, _ = shuffled(ensemble)
    client.create("/a")
    client.ok(o.SYNC, "/")
    ensemble.run(TICK_MS * 2)
    sent = {PacketType(packet.type) for server in ensemble.alive() for packet in server.sent}
    assert {PacketType.REQUEST, PacketType.SYNC, PacketType.PROPOSAL, PacketType.ACK, PacketType.COMMIT} <= sent
    assert PacketType.PING in sent
