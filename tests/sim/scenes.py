"""Runs that are written by hand: a quiet ensemble in which only that happens which the script says.

The same servers, disks, network and checkers as everywhere here; what a seed would draw, the script decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster.messages import PacketType

from .clients import SimulatedClient
from .faults import Victim
from .plan import Plan
from .server import SimulatedServer
from .simulation import Simulation, contents
from .world import MILLISECOND, SECOND

BOUND = 20 * SECOND
"""Longest wait of a script."""


class Traps:
    """Strikes once at a given place."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._crashes: list[tuple[int, str]] = []
        self._cuts: list[tuple[int, PacketType, bool]] = []
        self.sprung: list[str] = []

    def crash_at(self, sid: int, point: str) -> None:
        """Server `sid` dies when it comes to that point between two disk writes."""
        self._crashes.append((sid, point))

    def cut_at(self, sid: int, kind: PacketType, *, arrives: bool = True) -> None:
        """The link breaks on which server `sid` next sends such a packet, which arrives or not."""
        self._cuts.append((sid, kind, arrives))

    def reached(self, server: Victim, point: str) -> bool:
        """See `Saboteur`."""
        if (server.sid, point) not in self._crashes:
            return False
        self._crashes.remove((server.sid, point))
        self.sprung.append(point)
        server.crash(silent=False)
        return True

    def sent(self, server: Victim, link: int, kind: int) -> None:
        """See `Saboteur`."""
        for trap in self._cuts:
            if trap[:2] == (server.sid, kind):
                self._cuts.remove(trap)
                self.sprung.append(PacketType(kind).name)
                delay = 20 * MILLISECOND if trap[2] else 0
                self._simulation.world.after(delay, self._simulation.network.sever, link)
                return


class Scene:
    """A quiet ensemble and one client that asks what it is told to.

    Args:
        voters, observers: how many servers.
        commit_log: transactions that a server remembers.
    """

    def __init__(self, voters: int = 3, observers: int = 0, *, commit_log: int = 500, tick_ms: int = 100) -> None:
        servers = voters + observers
        plan = Plan(
            voters=voters,
            observers=observers,
            clients=1,
            tick_ms=tick_ms,
            init_limit=10,
            sync_limit=5,
            commit_log=commit_log,
            drifts=(0,) * servers,
            skews_ms=(0,) * servers,
            latency=500,
            jitter=200,
            sync=1000,
            faults=(),
            fault_gap=SECOND,
            duration=0,
            client_timeout_ms=(8000,),
            client_pause=(0,),
            client_reads=(False,),
            by_bytes=True,
        )
        self.simulation = Simulation(1, plan=plan)
        self.network = self.simulation.network
        self.network.conditions.hiccup = self.network.conditions.resets = 0.0
        self.ledger = self.simulation.ledger
        self.traps = Traps(self.simulation)
        for server in self.simulation.servers.values():
            server.nemesis = self.traps
        self.client: SimulatedClient = self.simulation.clients[0]
        self._written = 0
        self._cut_off: set[int] = set()

    @property
    def answers(self) -> int:
        """Writes that were answered."""
        return self.simulation.observations.answers["write"]

    def server(self, sid: int) -> SimulatedServer:
        """One server."""
        return self.simulation.servers[sid]

    # Time.

    def start(self, *sids: int) -> None:
        """Starts servers (all, where none is named) and the client, and waits for a leader."""
        self.boot(*(sids or self.simulation.servers))
        self.client.start()
        self.lead()

    def pass_ms(self, ms: int) -> None:
        """Time passes."""
        self.simulation.pass_time(ms * MILLISECOND)

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Waits."""
        self.simulation.wait(lambda: bool(condition()), BOUND, what)

    def lead(self) -> SimulatedServer:
        """The leader, once there is one."""
        self.until(self._leader, "a leader")
        leader = self._leader()
        assert leader is not None
        return leader

    def _leader(self) -> SimulatedServer | None:
        # The last one: a deposed leader may not have noticed yet.
        leading = [server for server in self.simulation.servers.values() if server.leads]
        return max(leading, key=lambda server: server.role.epoch, default=None)

    def followers(self) -> list[int]:
        """Sids of the other voters, in order."""
        leader = self.lead().sid
        return [sid for sid in sorted(self.ledger.voters) if sid != leader]

    # What happens to servers.

    def boot(self, *sids: int) -> None:
        """Starts servers."""
        for sid in sids:
            self.server(sid).boot()

    def crash(self, *sids: int) -> None:
        """Kills servers."""
        for sid in sids:
            self.server(sid).crash(silent=False)

    def isolate(self, *sids: int) -> None:
        """Cuts servers off from all others, not from clients; they stay together."""
        self._cut_off.update(sids)
        self._for_each_pair(sids, self.network.block)

    def rejoin(self, *sids: int) -> None:
        """Takes `isolate` back; to be given the same servers."""
        self._cut_off.difference_update(sids)
        self._for_each_pair(sids, self.network.unblock)

    def _for_each_pair(self, sids: Iterable[int], act: Callable[[int, int], None]) -> None:
        for one in sids:
            for other in self.simulation.servers:
                if other not in sids:
                    act(one, other)
                    act(other, one)

    # What clients do.

    def connect(self, sid: int) -> None:
        """The client moves to a server."""
        self.client.servers[:] = [sid]
        self.client.leave()
        self.until(lambda: self.client.connected, f"a client of server {sid}")

    def ask_write(self, count: int = 1) -> None:
        """The client asks for writes, and does not wait."""
        for _ in range(count):
            self._written += 1
            self.client.ask(o.CREATE, f"/w{self._written}", b"", OPEN_ACL_UNSAFE, 0)

    def write(self, count: int = 1, *, to: int | None = None) -> None:
        """The client writes, to the leader where no server is named, and is told so."""
        self.connect(self.lead().sid if to is None else to)
        for _ in range(count):
            wanted = self.answers + 1
            self.ask_write()
            self._until_answered(wanted)

    def _until_answered(self, count: int) -> None:
        self.until(lambda: self.answers >= count, "an answer")

    def sync_and_read(self) -> None:
        """The client syncs and reads, and does not wait."""
        self.client.ask(o.SYNC, "/w1")
        self.client.ask(o.GET_DATA, "/w1", False)

    # What must be so in the end.

    def agree(self, *, down: Iterable[int] = ()) -> None:
        """All servers that are up come to the same state, which has everything that was ever acknowledged."""
        up = [sid for sid in self.simulation.servers if sid not in set(down)]
        self.until(lambda: all(self._has_all(sid) for sid in up), f"agreement of {up}")
        assert self.ledger.within(self.simulation.observations.acknowledged, self.ledger.committed)
        for sid in up:
            assert contents(self.server(sid).tree) == contents(self.ledger.reference.tree)

    def _has_all(self, sid: int) -> bool:
        replica = self.ledger.replicas[sid]
        return replica.serving and replica.applied == self.ledger.committed

    def znodes(self, sid: int) -> set[str]:
        """What the client has written, as one server has it."""
        return {path for path in self.server(sid).tree.nodes if path.startswith("/w")}

    def expected(self, *numbers: int) -> set[str]:
        """Paths of the first, second, ... write that was asked for."""
        return {f"/w{number}" for number in numbers}
