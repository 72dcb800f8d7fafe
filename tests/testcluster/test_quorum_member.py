"""Members of an ensemble from outside: roles, figures, read-only mode, ends; on memory streams and virtual time."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, NotReadOnlyCallError
from terzetto.client._hosts import Endpoint
from terzetto.client.errors import ConfigurationError
from terzetto.testcluster.admin import run_command
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.membership import Member
from terzetto.testcluster.memory_network import Network
from terzetto.testcluster.messages import ServerState
from terzetto.testcluster.quorum_member import described
from terzetto.testcluster.ready import Role
from terzetto.testcluster.server import ZooKeeperServer
from terzetto.testcluster.storage.memory import MemoryStorage
from tests.sim.stack_ensemble import Stack, open_stack


def figures(text: str) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in text.splitlines())


def split(stack: Stack) -> tuple[int, list[int]]:
    """The leader's sid, and those of the others."""
    leader = stack.leader
    assert leader is not None
    return leader.sid, [sid for sid in stack.machines if sid != leader.sid]


async def test_the_words_show_what_a_server_is(autojump_clock: MockClock) -> None:
    async with open_stack(3, observers=1) as stack, stack.client("c") as zk:
        await zk.create("/a", b"data")
        leader, rest = split(stack)
        follower = min(rest)
        modes = {sid: re.findall("Mode: (.*)", await stack.word(sid, b"srvr")) for sid in stack.machines}
        voters = {sid: ["leader" if sid == leader else "follower"] for sid in (1, 2, 3)}
        assert modes == {**voters, 4: ["observer"]}
        found = figures(await stack.word(leader, b"mntr"))
        assert found["zk_server_state"] == "leader"
        assert found["zk_peer_state"] == "leading - broadcast"
        assert [found[f"zk_{key}"] for key in ("quorum_size", "learners", "synced_followers")] == ["3", "3", "2"]
        assert [found[f"zk_{key}"] for key in ("synced_observers", "synced_non_voting_followers")] == ["1", "0"]
        assert 0 < int(found["zk_min_proposal_size"]) <= int(found["zk_max_proposal_size"])
        theirs = figures(await stack.word(follower, b"mntr"))
        assert theirs["zk_peer_state"] == "following - broadcast"
        assert "zk_learners" not in theirs
        assert figures(await stack.word(4, b"mntr"))["zk_peer_state"] == "observing - broadcast"
        assert "Proposal sizes last/min/max: " in await stack.word(leader, b"srvr")
        assert "Proposal sizes" not in await stack.word(follower, b"srvr")
        assert "Session Sets (1)/(1):\n1 expire at" in await stack.word(leader, b"dump")
        assert f"SessionTracker dump:\nGlobal Sessions(1):\n0x{zk.session_id:x}\t4000ms\nephemeral" in await stack.word(
            follower, b"dump"
        )
        conf = await stack.word(2, b"conf")
        assert "serverId=2\n" in conf
        assert "electionPort=3888\nquorumPort=2888\n" in conf
        assert "server.4=s4:2888:3888:observer;s4:2181\nversion=0" in conf
        assert (await zk.get("/zookeeper/config"))[0] == conf.partition("membership: \n")[2].encode()


async def test_the_admin_commands_show_it_too(autojump_clock: MockClock) -> None:
    async with open_stack(3) as stack:
        leader, (follower, _) = split(stack)
        view = stack.living(follower).view
        assert run_command(view, "leader", {})["leader_id"] == leader
        assert run_command(view, "leader", {})["is_leader"] is False
        assert run_command(stack.living(leader).view, "lead", {})["is_leader"] is True
        voting = run_command(view, "voting_view", {})["current_config"]
        assert voting["1"]["election_addresses"] == ["s1:3888"]
        assert run_command(view, "zabstate", {}) == {
            "voting": True,
            "zabstate": "broadcast",
            "command": "zabstate",
            "error": None,
        }


async def test_nobody_waits_for_the_vote_of_a_leader_that_is_dead(autojump_clock: MockClock) -> None:
    async with open_stack(3) as stack:
        for _ in range(5):
            old, _ = split(stack)
            began = trio.current_time()
            await stack.kill(old)
            await stack.until(lambda: stack.leader is not None)
            # Not even ZooKeeper's pause for a better vote.
            assert trio.current_time() - began < 0.1
            await stack.start(old)
            await stack.wait_serving()


async def test_a_server_alone_waits_for_the_others(autojump_clock: MockClock) -> None:
    async with open_stack(3, start=False) as stack:
        await stack.start(1)
        await trio.sleep(60)
        assert stack.describe() == "s1 is looking for a leader; s2 is down; s3 is down"
        assert await stack.word(1, b"ruok") == "imok"
        assert await stack.word(1, b"srvr") == "This ZooKeeper instance is not currently serving requests\n"
        await stack.start(2)
        await stack.until(lambda: stack.leader is not None, 5)


async def test_without_a_quorum_reads_are_served_to_those_who_want_no_more(autojump_clock: MockClock) -> None:
    async with open_stack(3, read_only_mode=True) as stack:
        leader, (follower, other) = split(stack)
        async with stack.client("writer") as zk:
            await zk.create("/a", b"data")
            await zk.sync("/a")
        async with stack.client("reader", follower) as zk:
            await zk.sync("/a")
        await stack.kill(leader)
        await stack.kill(other)
        async with stack.client("reader", follower, read_only=True) as zk:
            assert (await zk.get("/a"))[0] == b"data"
            with pytest.raises(NotReadOnlyCallError):
                await zk.create("/b")
            assert "Mode: read-only" in await stack.word(follower, b"srvr")
            assert await stack.word(follower, b"isro") == "ro"
            assert stack.describe().count("is looking for a leader, serves reads") == 1
            await stack.start(leader)
            await stack.until(lambda: stack.leader is not None, 30)
            with trio.fail_after(60):
                while True:
                    try:
                        await zk.create("/b")
                        break
                    except (ConnectionLoss, NotReadOnlyCallError):
                        await trio.sleep(0.1)
        assert await stack.word(follower, b"isro") == "rw"


async def test_a_graceful_end_answers_what_was_received(autojump_clock: MockClock) -> None:
    async with open_stack(3) as stack:
        leader, (follower, _) = split(stack)
        async with stack.client("c", follower) as zk:
            await zk.create("/a")
            server, ended = stack.living(follower), stack.machines[follower].ended
            server.stop()
            await ended.wait()
            assert not server.is_serving
            assert server.has_ended
        assert stack.leader is stack.machines[leader]


async def test_hostile_bytes_take_no_port_down(autojump_clock: MockClock) -> None:
    async with open_stack(3) as stack, stack.client("c") as zk:
        leader, _ = split(stack)
        hostile = stack.network.transport("hostile")
        for port in (2888, 3888):
            for octets in (b"", b"\0" * 64, b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 300):
                connection = await hostile.dial(Endpoint(f"s{leader}", port, ""))
                if octets:
                    await connection.send(octets)
                await connection.aclose()
        await zk.create("/a")
        await stack.kill(1)
        await stack.start(1)
        await stack.wait_serving()
        assert stack.leader is stack.machines[leader]


async def test_a_port_that_cannot_be_had_is_named_after_some_attempts(autojump_clock: MockClock) -> None:
    network = Network()
    members = tuple(Member(sid, ((f"s{sid}", 2888, 3888),)) for sid in (1, 2, 3))
    config = ServerConfig(
        client_port=2181, sid=1, members=members, init_limit=10, sync_limit=5, admin_enabled=False, tick_ms=200
    )
    transport = network.transport("s1")
    taken = await transport.listen(Endpoint("s1", 3888, ""))
    server = ZooKeeperServer(config, storage=MemoryStorage(), transport=transport)
    began = trio.current_time()
    with pytest.raises(OSError, match="cannot listen at s1:3888"):
        await server.run()
    assert trio.current_time() == pytest.approx(began + 2)
    # It may be let go of in between.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ZooKeeperServer(config, storage=MemoryStorage(), transport=transport).run)
        await trio.sleep(0.5)
        taken.close()
        await trio.sleep(1)
        await (await network.transport("x").dial(Endpoint("s1", 3888, ""))).aclose()
        nursery.cancel_scope.cancel()


async def test_members_that_are_no_ensemble_are_refused(autojump_clock: MockClock) -> None:
    members = tuple(Member(sid, ((f"s{sid}", 2888, 3888),), observer=True) for sid in (1, 2))
    config = ServerConfig(client_port=2181, sid=1, members=members, admin_enabled=False)
    server = ZooKeeperServer(config, storage=MemoryStorage(), transport=Network().transport("s1"))
    with pytest.raises(ConfigurationError, match="no ensemble: no server of the configuration votes"):
        await server.run()


def test_roles_in_words() -> None:
    words = {
        Role(ServerState.LOOKING, 3, None, serving=False, may_snapshot=False): "is looking for a leader",
        Role(ServerState.LEADING, 3, 1, serving=True, may_snapshot=True): "leads in epoch 3",
        Role(ServerState.FOLLOWING, 3, 1, serving=False, may_snapshot=True): (
            "follows server 1 in epoch 3 and does not serve yet"
        ),
        Role(ServerState.OBSERVING, 4, 2, serving=True, may_snapshot=True): "observes server 2 in epoch 4",
    }
    assert {role: described(role) for role in words} == words
