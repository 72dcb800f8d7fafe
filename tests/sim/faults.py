"""What goes wrong in a run, and when: every fault is drawn, lasts a drawn time, and is taken back.

Decides which servers, links, disks and clocks are hit. A crash can be armed for a point between two disk writes, and a
cut for a kind of packet, so that rare places are hit often. It judges nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from terzetto.testcluster.messages import PacketType

from .clients import SimulatedClient
from .network import Network
from .world import MILLISECOND, World

CRASH_POINTS = (
    "before WriteAcceptedEpoch",
    "after WriteAcceptedEpoch",
    "before WriteCurrentEpoch",
    "after WriteCurrentEpoch",
    "before AppendTxns",
    "after AppendTxns",
    "before TruncateHistory",
    "after TruncateHistory",
    "before InstallSnapshot",
    "inside InstallSnapshot",
    "after InstallSnapshot",
    "before snapshot",
    "inside snapshot",
    "after snapshot",
)
"""Every place between two disk writes at which a server can be made to die."""

_SELDOM_REACHED = tuple(point for point in CRASH_POINTS if point.endswith(("History", "Snapshot", "snapshot")))

_CUT_AT = (
    PacketType.FOLLOWERINFO,
    PacketType.LEADERINFO,
    PacketType.ACKEPOCH,
    PacketType.DIFF,
    PacketType.TRUNC,
    PacketType.SNAP,
    PacketType.PROPOSAL,
    PacketType.COMMIT,
    PacketType.ACK,
    PacketType.NEWLEADER,
    PacketType.UPTODATE,
)


_WEIGHTS = {
    "blackout": 1,
    "arm crash": 10,
    "arm cut": 8,
    "isolate leader": 8,
    "pause leader": 8,
    "snapshot": 8,
    "clock": 2,
}


class Victim(Protocol):
    """A server, as faults know it."""

    sid: int

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        ...

    @property
    def leads(self) -> bool:
        """Whether it leads."""
        ...

    def crash(self, *, silent: bool) -> None:
        """It dies."""
        ...

    def boot(self) -> None:
        """It starts again, from its disk."""
        ...

    def pause(self) -> None:
        """It stands still; nothing is lost."""
        ...

    def resume(self) -> None:
        """It goes on."""
        ...

    def set_disk_slow(self, factor: int) -> None:
        """Its disk becomes slower; 1 is normal again."""
        ...

    def snapshot(self) -> None:
        """It writes a snapshot, if it may."""
        ...

    def shift_wall_clock(self, delta_ms: int) -> None:
        """Somebody sets its clock."""
        ...


class Saboteur(Protocol):
    """Who strikes at exact places."""

    def reached(self, server: Victim, point: str) -> bool:
        """A server is between two disk writes; whether it has died there."""
        ...

    def sent(self, server: Victim, link: int, kind: int) -> None:
        """A server has sent a packet of this kind."""
        ...


class Nemesis:
    """Draws faults until it is told to stop.

    Args:
        world: time and chance.
        network: links.
        servers: every server.
        clients: every client.
        kinds: names of the faults of this run.
        gap: mean time between two faults, in microseconds.
        patience_ms: silence after which a follower gives its leader up.

    Attributes:
        done: how often each fault happened; crashes and cuts by place.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        servers: list[Victim],
        clients: list[SimulatedClient],
        *,
        kinds: tuple[str, ...],
        gap: int,
        patience_ms: int,
    ) -> None:
        self.done: Counter[str] = Counter()
        self._world = world
        self._network = network
        self._servers = servers
        self._clients = clients
        self._random = world.chance("faults")
        self._gap = gap
        self._patience_ms = patience_ms
        self._faults: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "crash leader": self._crash_leader,
            "blackout": self._blackout,
            "arm crash": self._arm_crash,
            "arm cut": self._arm_cut,
            "pause": self._pause,
            "pause leader": self._pause_leader,
            "partition": self._partition,
            "one way": self._one_way,
            "isolate leader": self._isolate_leader,
            "cut": self._cut,
            "slow link": self._slow_link,
            "slow disk": self._slow_disk,
            "snapshot": self._snapshot,
            "clock": self._clock,
            "client leaves": self._client_leaves,
            "client sleeps": self._client_sleeps,
        }
        self._kinds = [kind for kind in self._faults if kind in kinds for _ in range(_WEIGHTS.get(kind, 4))]
        self._stopped = False
        self._armed_crashes: set[str] = set()
        self._armed_cuts: set[int] = set()
        self._undo: dict[int, Callable[[], None]] = {}
        self._next_undo = 0

    def start(self) -> None:
        """Begins to draw."""
        if self._kinds:
            self._world.after(self._pause_length(), self._strike)

    def heal(self) -> None:
        """Takes everything back; servers that are down stay down."""
        self._stopped = True
        self._armed_crashes.clear()
        self._armed_cuts.clear()
        for number in list(self._undo):
            self._take_back(number)

    def _pause_length(self) -> int:
        return 1 + int(self._random.expovariate(1 / self._gap))

    def _strike(self) -> None:
        if self._stopped:
            return
        kind = self._random.choice(self._kinds)
        self._world.note("fault", kind)
        self._faults[kind]()
        self._world.after(self._pause_length(), self._strike)

    def _later(self, shortest_ms: int, longest_ms: int, undo: Callable[[], None]) -> None:
        self._next_undo += 1
        self._undo[self._next_undo] = undo
        # Most faults are short, some are much longer than any timeout.
        length = shortest_ms + (longest_ms - shortest_ms) * self._random.random() ** 2
        self._world.after(int(length * MILLISECOND), self._take_back, self._next_undo)

    def _take_back(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            undo()

    def _living(self) -> list[Victim]:
        return [server for server in self._servers if server.alive]

    def _any_server(self) -> Victim | None:
        living = self._living()
        return self._random.choice(living) if living else None

    def _leader(self) -> Victim | None:
        return next((server for server in self._servers if server.alive and server.leads), None)

    # Crashes.

    def bring_down(self, server: Victim, where: str) -> None:
        """A server dies, and comes back later."""
        self.done[f"crash {where}"] += 1
        self._world.note("crash", server.sid, where)
        server.crash(silent=self._random.random() < 0.3)
        self._world.after(int(self._random.uniform(20, 2500) * MILLISECOND), self._restart, server)

    def _restart(self, server: Victim) -> None:
        if not server.alive and not self._stopped:
            server.boot()

    def _crash(self) -> None:
        server = self._any_server()
        if server is not None:
            self.bring_down(server, "at random")

    def _crash_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self.bring_down(leader, "leading")

    def _blackout(self) -> None:
        for server in self._living():
            self.bring_down(server, "with all others")

    def _arm_crash(self) -> None:
        self._armed_crashes.add(self._random.choice(CRASH_POINTS))
        # Places where one comes seldom wait for longer.
        self._armed_crashes.add(self._random.choice(_SELDOM_REACHED))

    def reached(self, server: Victim, point: str) -> bool:
        """A server is between two disk writes; whether it has died there."""
        if point not in self._armed_crashes:
            return False
        self._armed_crashes.discard(point)
        self.bring_down(server, point)
        return True

    # Links.

    def _arm_cut(self) -> None:
        self._armed_cuts.add(self._random.choice(_CUT_AT))

    def sent(self, server: Victim, link: int, kind: int) -> None:
        """A packet was sent."""
        if kind in self._armed_cuts:
            self._armed_cuts.discard(kind)
            self.done[f"cut at {PacketType(kind).name}"] += 1
            self._world.after(self._random.choice((0, 0, 300, 1500)), self._cut_link, link)

    def _cut(self) -> None:
        links = self._network.links()
        if links:
            self.done["cut"] += 1
            self._cut_link(self._random.choice(links)[0])

    def _cut_link(self, link: int) -> None:
        self._world.note("cut", link)
        self._network.cut(link, told=(self._random.random() < 0.7, self._random.random() < 0.7))

    def _block(self, pairs: list[tuple[int, int]], shortest_ms: int, longest_ms: int) -> None:
        self._world.note("blocked", pairs)
        for pair in pairs:
            self._network.block(*pair)

        def undo() -> None:
            self._world.note("unblocked", pairs)
            for pair in pairs:
                self._network.unblock(*pair)

        self._later(shortest_ms, longest_ms, undo)

    def _sids(self) -> list[int]:
        return [server.sid for server in self._servers]

    def _partition(self) -> None:
        self.done["partition"] += 1
        sids = self._sids()
        self._random.shuffle(sids)
        split = self._random.randrange(1, len(sids))
        self._block(
            [pair for one in sids[:split] for other in sids[split:] for pair in ((one, other), (other, one))], 50, 5000
        )

    def _one_way(self) -> None:
        self.done["one way"] += 1
        sids = self._sids()
        source = self._random.choice(sids)
        targets = [sid for sid in sids if sid != source and self._random.random() < 0.7]
        pairs = [(source, target) for target in targets]
        if self._random.random() < 0.5:
            pairs = [(target, source) for source, target in pairs]
        self._block(pairs, 50, 4000)

    def _isolate_leader(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        self.done["isolate leader"] += 1
        others = [sid for sid in self._sids() if sid != leader.sid]
        # Its clients still reach it: they must not be told anything that is not so any more.
        self._block([pair for sid in others for pair in ((sid, leader.sid), (leader.sid, sid))], 300, 5000)

    def _slow_link(self) -> None:
        self.done["slow link"] += 1
        one, other = self._random.sample(self._sids(), 2)
        self._network.slow(one, other, self._random.choice((5, 30, 150)))
        self._later(100, 4000, lambda: self._network.slow(one, other, 1))

    # Machines.

    def _pause(self) -> None:
        server = self._any_server()
        if server is not None:
            self.done["pause"] += 1
            server.pause()
            self._later(20, 4000, server.resume)

    def _pause_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self.done["pause leader"] += 1
            leader.pause()
            # Long enough for another one to be elected, short enough for its clients to be there still.
            self._later(self._patience_ms + 400, 2 * self._patience_ms + 2000, leader.resume)

    def _slow_disk(self) -> None:
        server = self._any_server()
        if server is not None:
            self.done["slow disk"] += 1
            server.set_disk_slow(self._random.choice((10, 100, 600)))
            self._later(200, 5000, lambda: server.set_disk_slow(1))

    def _snapshot(self) -> None:
        server = self._any_server()
        if server is not None:
            self.done["snapshot"] += 1
            server.snapshot()

    def _clock(self) -> None:
        server = self._any_server()
        if server is not None:
            self.done["clock"] += 1
            server.shift_wall_clock(self._random.randint(-60_000, 60_000))

    def _client_leaves(self) -> None:
        self.done["client leaves"] += 1
        self._random.choice(self._clients).leave()

    def _client_sleeps(self) -> None:
        self.done["client sleeps"] += 1
        client = self._random.choice(self._clients)
        client.sleep()
        self._later(500, 8000, client.wake)


FAULTS = (
    "crash",
    "crash leader",
    "blackout",
    "arm crash",
    "arm cut",
    "pause",
    "pause leader",
    "partition",
    "one way",
    "isolate leader",
    "cut",
    "slow link",
    "slow disk",
    "snapshot",
    "clock",
    "client leaves",
    "client sleeps",
)
"""Names of all faults."""
