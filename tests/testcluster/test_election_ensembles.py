"""Elections of whole ensembles, on a network that delays, loses and restarts."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from hypothesis import given, settings, strategies as st

from terzetto.testcluster.election import FINALIZE_MS, Election
from terzetto.testcluster.messages import Notification, ServerState
from terzetto.testcluster.quorum import QuorumConfig

from .test_election import ensemble

LEADING = ServerState.LEADING


class Network:
    """Servers that elect, and links that keep order but delay, and lose what is under way when they break.

    Of discovery it has the one thing that matters here: a leader whom no quorum follows for long, and a server that
    follows one who does not lead, look again.
    """

    def __init__(self, config: QuorumConfig, chance: random.Random) -> None:
        self.config = config
        self.chance = chance
        self.now_ms = 0
        self.histories = {sid: (chance.randrange(3), chance.randrange(4)) for sid in config.members}
        self.servers: dict[int, Election] = {}
        self.links: dict[tuple[int, int], deque[tuple[int, Notification]]] = {}
        self.last_sent: dict[tuple[int, int], Notification] = {}
        self.since: dict[int, int] = {}
        self.delay_max = 1
        for sid in config.members:
            self.boot(sid)

    def boot(self, sid: int) -> None:
        """Starts a server, or starts it again with nothing but its disk."""
        self.servers[sid] = Election(sid, self.config, is_observer=sid in self.config.observers)
        for link in list(self.links):
            if sid in link:
                self.break_link(link)
        self.look(sid)

    def kill(self, sid: int) -> None:
        """The server is gone, and so is what was under way to it and from it."""
        del self.servers[sid]
        self.links = {link: queue for link, queue in self.links.items() if sid not in link}

    def look(self, sid: int) -> None:
        epoch, zxid = self.histories[sid]
        self.servers[sid].start(zxid, epoch, self.now_ms)
        self.since[sid] = self.now_ms

    def break_link(self, link: tuple[int, int]) -> None:
        """What was under way is lost; who sent it sends its last word again, as ZooKeeper's links do."""
        lost = self.links.pop(link, None)
        if lost and link in self.last_sent:
            self.post(link, self.last_sent[link])

    def post(self, link: tuple[int, int], notification: Notification) -> None:
        queue = self.links.setdefault(link, deque())
        earliest = queue[-1][0] if queue else self.now_ms
        queue.append((max(earliest, self.now_ms + self.chance.randrange(self.delay_max)), notification))
        self.last_sent[link] = notification

    def step(self) -> None:
        """One millisecond."""
        self.now_ms += 1
        for link in sorted(self.links):
            queue = self.links[link]
            while queue and queue[0][0] <= self.now_ms:
                self.servers[link[1]].receive(link[0], queue.popleft()[1], self.now_ms)
        for sid in sorted(self.servers):
            server = self.servers[sid]
            due = server.next_due_ms
            if due is not None and due <= self.now_ms:
                server.tick(self.now_ms)
            self.check(sid, server)
            for to, notification in server.take_sends():
                if to in self.servers:
                    self.post((sid, to), notification)

    def check(self, sid: int, server: Election) -> None:
        if server.elected is None:
            self.since[sid] = self.now_ms
            return
        server.settle(server.state)
        leader = self.servers.get(server.elected.leader)
        is_led = leader is not None and leader.state is LEADING and leader.vote.leader == leader.sid
        if leader is server:
            followers = [other for other, each in self.servers.items() if each.elected and each.vote.leader == sid]
            is_led = self.config.has_quorum(followers)
        if is_led:
            self.since[sid] = self.now_ms
        elif self.now_ms - self.since[sid] > 500:
            self.look(sid)

    def run(self, duration_ms: int, until: Callable[[], bool] | None = None) -> bool:
        for _ in range(duration_ms):
            self.step()
            if until is not None and until():
                return True
        return until is None

    def leader(self) -> int | None:
        """Whom everyone follows; `None` while there is no such server."""
        outcomes = {server.elected and server.vote.leader for server in self.servers.values()}
        if len(outcomes) != 1 or None in outcomes:
            return None
        (leader,) = outcomes
        assert leader is not None
        return leader if leader in self.servers and self.servers[leader].state is LEADING else None

    def is_best_of_a_quorum(self, leader: int) -> bool:
        def rank(sid: int) -> tuple[int, int, int]:
            return (*self.histories[sid], sid)

        return self.config.has_quorum([sid for sid in self.config.voters if rank(sid) <= rank(leader)])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(0, 2), st.integers(0, 2**32))
def test_everyone_agrees_on_the_best_of_a_quorum(voters: int, observers: int, seed: int) -> None:
    chance = random.Random(seed)
    network = Network(ensemble(voters, observers), chance)
    network.delay_max = chance.choice([1, 30, 300])
    for _ in range(chance.randrange(6)):
        network.run(chance.randrange(300))
        sid = chance.choice(sorted(network.servers))
        if chance.random() < 0.5:
            network.boot(sid)
        else:
            network.look(sid)
        for link in sorted(network.links):
            if chance.random() < 0.3:
                network.break_link(link)
    network.delay_max = 20
    assert network.run(20_000, lambda: network.leader() is not None)
    leader = network.leader()
    assert leader is not None
    assert network.is_best_of_a_quorum(leader)
    assert network.config.is_voter(leader)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(0, 2**32))
def test_on_a_good_network_the_best_of_all_is_elected_without_a_wait(voters: int, seed: int) -> None:
    network = Network(ensemble(voters), random.Random(seed))
    network.delay_max = 5
    assert network.run(FINALIZE_MS - 1, lambda: network.leader() is not None)
    assert network.leader() == max(network.servers, key=lambda sid: (*network.histories[sid], sid))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 7), st.integers(0, 2**32))
def test_the_survivors_of_a_leader_elect_another(voters: int, seed: int) -> None:
    chance = random.Random(seed)
    network = Network(ensemble(voters, 1), chance)
    network.delay_max = 10
    assert network.run(5000, lambda: network.leader() is not None)
    lost = network.leader()
    assert lost is not None
    network.kill(lost)
    for sid in list(network.servers):
        network.run(chance.randrange(20))
        network.look(sid)
    assert network.run(5000, lambda: network.leader() is not None)
    assert network.is_best_of_a_quorum(network.leader() or 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 5), st.integers(1, 3), st.integers(0, 2**32))
def test_a_restarted_server_joins_those_who_have_a_leader(voters: int, restarts: int, seed: int) -> None:
    chance = random.Random(seed)
    network = Network(ensemble(voters, 1), chance)
    network.delay_max = 10
    assert network.run(5000, lambda: network.leader() is not None)
    leader = network.leader()
    for server in network.servers.values():
        server.established(7)
    for _ in range(restarts):
        sid = chance.choice([sid for sid in network.servers if sid != leader])
        network.histories[sid] = (9, 9)
        network.boot(sid)
        assert network.run(5000, lambda: network.leader() is not None)
        assert network.leader() == leader
        network.servers[sid].established(7)


def test_elections_send_only_what_they_must() -> None:
    network = Network(ensemble(5, 2), random.Random(1))
    network.delay_max = 10
    sent = 0
    post = network.post

    def count(link: tuple[int, int], notification: Notification) -> None:
        nonlocal sent
        sent += 1
        post(link, notification)

    network.post = count  # type: ignore[method-assign]
    assert network.run(5000, lambda: network.leader() is not None)
    network.run(500)
    at_the_end = sent
    assert at_the_end < 200
    network.run(5000)
    assert sent == at_the_end
