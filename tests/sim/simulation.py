"""One whole run: faults for a while, then a quorum is healed and must make progress, then everyone must agree.

Decides the phases and what they must reach. All parts (network, disks, servers, clients, faults, checkers) are put
together here; each of them stands in its own file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from terzetto.client.wire import Opcode
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.storage.zxids import show

from .clients import SimulatedClient
from .faults import Nemesis
from .ledger import Ledger, Violation
from .network import Conditions, Network
from .observations import Observations
from .plan import Plan, draw_plan
from .server import CLIENT_NODES, SimulatedServer, members
from .world import MILLISECOND, SECOND, World

PROGRESS_BOUND = 15 * SECOND
"""Time in which a healed quorum must have a leader that commits."""

CONVERGENCE_BOUND = 15 * SECOND
"""Time in which all servers must have the same state, once all are there and nothing disturbs them."""

_LOOK = 50 * MILLISECOND


@dataclass
class Reached:
    """What one or more runs got to, to be held against floors.

    Attributes:
        runs: how many.
        events: that happened.
        counts: of everything worth counting, by name.
    """

    runs: int = 0
    events: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])

    def add(self, other: Reached) -> None:
        """Adds another run's."""
        self.runs += other.runs
        self.events += other.events
        self.counts += other.counts

    def lines(self) -> list[str]:
        """As a table."""
        rows = [("runs", self.runs), ("events", self.events), *sorted(self.counts.items())]
        return [f"{count:>12,}  {name}" for name, count in rows]


class Simulation:
    """The run of one seed.

    Args:
        seed: decides everything.
        plan: instead of the seed's own.
        server_class: what the servers are; tests of the checkers give one with a defect.

    Attributes:
        world: time, chance and the trace.
        servers: by sid.
        clients: in order.
        ledger, observations: the checkers.
    """

    def __init__(
        self, seed: int, *, plan: Plan | None = None, server_class: type[SimulatedServer] = SimulatedServer
    ) -> None:
        self.world = world = World(seed)
        self.plan = plan = plan or draw_plan(world.chance("plan"))
        self.network = Network(world, Conditions(latency=plan.latency, jitter=plan.jitter))
        config = members(plan.voters, plan.observers)
        self.ledger = Ledger(config.voters, config.observers)
        self.observations = Observations(self.ledger)
        sids = sorted(config.members)
        self.servers = {sid: server_class(sid, config, plan, world, self.network, self.ledger) for sid in sids}
        self.clients = [
            SimulatedClient(
                CLIENT_NODES + 1 + index,
                world,
                self.network,
                list(sids),
                self.observations,
                timeout_ms=plan.client_timeout_ms[index],
                pause=plan.client_pause[index],
                reads_only=plan.client_reads[index],
            )
            for index in range(plan.clients)
        ]
        self.nemesis = Nemesis(
            world,
            self.network,
            list(self.servers.values()),
            self.clients,
            kinds=plan.faults,
            gap=plan.fault_gap,
            patience_ms=plan.sync_limit * plan.tick_ms,
        )
        for server in self.servers.values():
            server.nemesis = self.nemesis
            self.network.add(server.sid, server)
        for client in self.clients:
            self.network.add(client.number, client)
        self._chance = world.chance("phases")

    def run(self) -> Reached:
        """Runs everything.

        Raises:
            Violation: something happened that must never happen.
        """
        self.start()
        self.nemesis.start()
        self.pass_time(self.plan.duration)
        self.nemesis.heal()
        if self._chance.random() < 0.5:
            self._heal_a_quorum()
        self.heal_all()
        if self._chance.random() < 0.2:
            self._restart_all()
        return self.reached()

    def start(self) -> None:
        """Starts servers and clients."""
        for server in self.servers.values():
            self.world.after(self._chance.randrange(200 * MILLISECOND), server.boot)
        for client in self.clients:
            client.start()

    def pass_time(self, length: int) -> None:
        """Lets everything happen for a while."""
        for _ in self.world.run(self.world.now + length):
            pass

    def wait(self, condition: Callable[[], bool], bound: int, what: str) -> None:
        """Lets everything happen until a condition holds, which it must within a bound."""
        deadline = self.world.now + bound
        while not condition():
            if self.world.now >= deadline:
                raise Violation("L1", f"{what}: not within {bound / SECOND} s; {self._states()}")
            self.pass_time(_LOOK)
            for client in self.clients:
                client.probe()

    def _states(self) -> str:
        return ", ".join(server.describe() for server in self.servers.values())

    def _heal_a_quorum(self) -> None:
        """Only a quorum is up; it must go on without the others."""
        voters = sorted(self.ledger.voters)
        self._chance.shuffle(voters)
        quorum = voters[: len(voters) // 2 + 1]
        for sid, server in self.servers.items():
            if sid in quorum and not server.alive:
                server.boot()
            elif sid not in quorum and server.alive:
                server.crash(silent=False)
        self.world.note("healed", quorum)
        self._demand_progress(f"a write by the quorum {quorum}")

    def heal_all(self) -> None:
        """Everybody is up; there must be progress, then quiet, then agreement."""
        for server in self.servers.values():
            if not server.alive:
                server.boot()
        self.world.note("healed", sorted(self.servers))
        self._demand_progress("a write when all are healed")
        for client in self.clients:
            client.stop()
        self.wait(self._agreed, CONVERGENCE_BOUND, "agreement of all servers")
        for server in self.servers.values():
            self._check_tree(server)

    def _demand_progress(self, what: str) -> None:
        before, told = self.ledger.committed, self.observations.answers["write"]
        self.wait(
            lambda: self.observations.acknowledged > before and self.observations.answers["write"] > told,
            PROGRESS_BOUND,
            what,
        )

    def _agreed(self) -> bool:
        committed = self.ledger.committed
        return all(
            server.alive and self.ledger.replicas[sid].serving and self.ledger.replicas[sid].applied == committed
            for sid, server in self.servers.items()
        )

    def _restart_all(self) -> None:
        """Every server dies at once; what was committed must be there again."""
        committed = self.ledger.committed
        for server in self.servers.values():
            server.crash(silent=False)
            self.world.after(self._chance.randrange(200 * MILLISECOND), server.boot)
        self.wait(self._agreed, CONVERGENCE_BOUND, "agreement after a restart of all")
        if not self.ledger.within(committed, self.ledger.committed):
            raise Violation("I11", f"{show(committed)} was committed before a restart of all, and is gone")
        for server in self.servers.values():
            self._check_tree(server)

    def _check_tree(self, server: SimulatedServer) -> None:
        """Not by its digest, but whole: ACLs, ephemerals and sessions too."""
        mine, right = contents(server.tree), contents(self.ledger.reference.tree)
        if mine != right:
            different = [key for key in {**mine, **right} if mine.get(key) != right.get(key)]
            raise Violation("I16", f"server {server.sid} ends with another tree: {different}")

    def reached(self) -> Reached:
        """What this run got to."""
        ledger = self.ledger
        counts = Counter(self.nemesis.done)
        counts["transactions committed"] = len(ledger.reference.order)
        counts["leaders established"] = len(ledger.established)
        kinds = Counter(txn.header.type for txn in ledger.reference.order)
        counts["multis committed"] = kinds[Opcode.MULTI]
        counts["containers and TTL znodes swept"] = kinds[Opcode.DELETE_CONTAINER]
        for server in self.servers.values():
            counts += server.counts
        for kind, count in self.observations.answers.items():
            counts[f"answers: {kind}"] = count
        return Reached(1, self.world.events, counts)


def contents(tree: DataTree) -> dict[str, object]:
    """Everything that a tree holds, but what each server writes into it by itself."""
    found: dict[str, object] = {
        path: (node.data, node.stat(), tuple(node.acl.entries))
        for path, node in tree.nodes.items()
        if not path.startswith("/zookeeper")
    }
    found["sessions"] = dict(tree.sessions)
    found["ephemerals"] = {owner: sorted(paths) for owner, paths in tree.ephemerals.items()}
    return found


def run_seed(seed: int) -> Reached:
    """Runs one seed; a violation says how to repeat it.

    Raises:
        Violation: with the seed.
    """
    simulation = Simulation(seed)
    try:
        return simulation.run()
    except Violation as broken:
        raise Violation(broken.invariant, f"{broken.what}, {_again(seed)}") from broken
    except Exception as error:
        error.args = (f"{error}, {_again(seed)}",)
        raise


def _again(seed: int) -> str:
    return f"seed {seed} (repeat with: python -m tests.sim {seed})"
