"""Mutual exclusion under faults in the whole stack, one run a seed: real servers, clients and recipes.

    python -m tests.sim.exclusion SEED [--recipe NAME] [--defect NAME] [--last N] [--fingerprint]

Decides what a run is like and how it ends. What must hold is `exclusion_ledger`'s; the rules stand in
docs/design/simulation.md.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import trio
from trio.testing import MockClock

from terzetto.testcluster.datatree import DataTree

from .exclusion_contenders import PLAYS, RECORDS, Contender, Outside, Stage
from .exclusion_faults import FAULTS, Harm
from .exclusion_ledger import Ledger, Violation
from .stack_ensemble import Stack, open_stack
from .stack_processes import Process, pass_time, repeatable

HEALED_WITHIN = 40
"""How long the healed ensemble may take until two more bodies have begun, in session timeouts: some bodies are long."""

CHATTERS = 0.5
"""Share of the clients that write all the time, besides owning or waiting to own."""

FAULTS_FOR = 8.0
"""How long things go wrong, in session timeouts."""


@dataclass(frozen=True)
class Plan:
    """What one run is like.

    Attributes:
        recipe: what is contended for.
        clients: how many contend.
        tick: the servers' tick, in seconds.
        timeout: T, in seconds.
        sync_limit: in ticks.
        kinds: which faults there are.
        one_server: whether each client knows of one server only.
        quiet: whether clients write nothing besides what owning takes.
        sleeps: whether a client's machine may sleep.
    """

    recipe: str
    clients: int
    tick: float
    timeout: float
    sync_limit: int
    kinds: tuple[str, ...]
    one_server: bool = False
    quiet: bool = False
    sleeps: bool = True


def draw_plan(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(f"{seed} plan")
    kept = rng.uniform(0.3, 1.0)
    timeout = rng.choice((1.0, 2.0, 4.0))
    # Two ticks are the shortest session that a server grants, and where a proof's bound is tightest; with more of them
    # a session ends closer to its timeout.
    ticks = rng.choice((2, 2, 4, 8))
    return Plan(
        recipe=rng.choice(list(PLAYS)),
        clients=rng.choice((2, 3, 3, 4)),
        tick=timeout / ticks,
        timeout=timeout,
        sync_limit=max(2, int(ticks * rng.choice((1, 2.5)))),
        one_server=rng.random() < 0.2,
        quiet=rng.random() < 0.2,
        kinds=tuple(kind for kind in FAULTS if rng.random() < kept) or ("cut follower",),
    )


@dataclass
class Run:
    """One run.

    Attributes:
        seed: what draws everything.
        plan: what it is like.
        clock_of: what a client of a process is given as its clock.
        ledger: what happened, once it has begun.
    """

    seed: int
    plan: Plan
    clock_of: Callable[[Process], Any] = lambda process: process
    ledger: Ledger = field(default_factory=lambda: Ledger(tuple))

    def run(self) -> Counter[str]:
        """Plays the run to the end; what it reached.

        Raises:
            Violation: a rule was broken.
        """
        with repeatable(self.seed):
            trio.run(self._run, clock=MockClock(autojump_threshold=0))
        violation = self.ledger.violation
        if violation is not None:
            again = f"python -m tests.sim.exclusion {self.seed} --recipe {self.plan.recipe!r}"
            raise Violation(violation.rule, f"{violation.what} ({again})")
        return self.ledger.counts

    async def _run(self) -> None:
        plan = self.plan
        settings: dict[str, Any] = {
            "tick_ms": int(plan.tick * 1000),
            "init_limit": 10,
            "sync_limit": plan.sync_limit,
            # Often enough that a parent without contenders vanishes between two of them.
            "container_check_ms": int(plan.timeout * 200),
        }
        async with open_stack(3, seed=random.Random(f"{self.seed} stack").getrandbits(32), **settings) as stack:
            self.ledger.trees = lambda: _trees(stack)
            trio.lowlevel.add_instrument(self.ledger)
            try:
                await self._play(stack)
            finally:
                trio.lowlevel.remove_instrument(self.ledger)
                for machine in stack.machines.values():
                    machine.process.go_on()

    async def _play(self, stack: Stack) -> None:
        plan, ledger = self.plan, self.ledger
        async with stack.client("setup") as zk:
            await zk.ensure_path("/x")
            await zk.ensure_path(RECORDS)
        processes = [stack.process(f"c{number}") for number in range(plan.clients)]
        harm = Harm(stack, ledger, processes, random.Random(f"{self.seed} harm"), plan.timeout, plan.sleeps)
        stage, outside = Stage(plan.clients), Outside()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_at_violation, stack, processes, nursery.cancel_scope)
            for process in processes:
                nursery.start_soon(self._live, stack, process, stage, outside)
            nursery.start_soon(outside.come, plan.timeout / 5)
            await pass_time(plan.timeout / 2)
            await harm.run(FAULTS_FOR * plan.timeout, plan.kinds)
            ledger.note("all is whole")
            await stack.wait_serving()
            await self._goes_on(stack)
            for process in processes:
                process.go_on()
            nursery.cancel_scope.cancel()
        if ledger.violation is None:
            await stack.wait_serving()
            ledger.judge_guarded(_records(next(iter(_trees(stack)))[1]))
            ledger.counts["epochs"] += max(tree.last_zxid for _, tree in _trees(stack)) >> 32

    async def _stop_at_violation(self, stack: Stack, clients: list[Process], scope: trio.CancelScope) -> None:
        await self.ledger.failed.wait()
        scope.cancel()
        # Who is stopped cannot even be cancelled.
        for process in [*clients, *(machine.process for machine in stack.machines.values())]:
            process.go_on()

    async def _goes_on(self, stack: Stack) -> None:
        """The healed ensemble does its work again: nobody is stuck behind what the faults left."""
        counts = self.ledger.counts
        reached = ("terms", "rounds left", "barriers passed")
        before = {name: counts[name] for name in reached}
        for _ in range(10 * HEALED_WITHIN):
            if any(counts[name] >= before[name] + 2 for name in reached):
                return
            await pass_time(self.plan.timeout / 10)
        self.ledger.fail("L1", f"all is whole, and nobody gets on: {stack.describe()}")

    async def _live(self, stack: Stack, process: Process, stage: Stage, outside: Outside) -> None:
        process.enter()
        options = {"clock": self.clock_of(process), "session_timeout": self.plan.timeout, "close_timeout": 0.1}
        sid = 1 + int(process.name[1:]) % 3 if self.plan.one_server else None
        async with stack.client(process.name, sid, **options) as zk:
            rng = random.Random(f"{self.seed} {process.name}")
            contender = Contender(zk, process, self.ledger, rng, self.plan.timeout, outside, self.plan.quiet)
            stage.contenders[process.name] = contender
            async with trio.open_nursery() as nursery:
                if not self.plan.quiet and rng.random() < CHATTERS:
                    nursery.start_soon(contender.chatter)
                await PLAYS[self.plan.recipe](contender, stage)


def _trees(stack: Stack) -> Iterator[tuple[str, DataTree]]:
    for machine in stack.machines.values():
        if machine.server is not None:
            yield machine.name, machine.server.tree


def _records(tree: DataTree) -> Iterator[tuple[int, int]]:
    for path, node in tree.nodes.items():
        if path.startswith(f"{RECORDS}/"):
            yield int(node.data or b"0"), node.czxid


def run_seed(seed: int, recipe: str | None = None) -> Counter[str]:
    """Runs a seed; what it reached."""
    return Run(seed, plan_of(seed, recipe)).run()


FLOORS: dict[str, float] = {
    "terms": 3.5,
    "terms that ended by themselves": 2,
    "ended by OwnershipLost": 1,
    "ended by the servers inside": 0.1,
    "takeovers": 0.08,
    "owners stopped": 0.2,
    "owners beside one that is stopped": 0.15,
    "woken as a former owner": 0.08,
    "guarded writes committed": 6,
    "guarded writes refused": 0.02,
    "writes to the store": 20,
    "rounds left": 2,
    "barriers passed": 0.5,
    "epochs": 1.2,
    "leaders killed": 0.1,
}
"""Least count a run, on average over a batch; see docs/design/simulation.md."""


def missed(reached: Counter[str], runs: int) -> list[str]:
    """What stayed below its floor."""
    return [
        f"{name}: {reached[name]} in {runs} runs, at least {int(least * runs)}"
        for name, least in FLOORS.items()
        if reached[name] < int(least * runs)
    ]


def batch(reached: Counter[str], runs: int) -> list[str]:
    """What a batch reached, a line each."""
    return [f"{runs:12,d}  runs", *(f"{count:12,d}  {name}" for name, count in sorted(reached.items()))]


def plan_of(seed: int, recipe: str | None = None) -> Plan:
    """The plan of a seed, with another recipe if one is given."""
    from dataclasses import replace

    plan = draw_plan(seed)
    return plan if recipe is None else replace(plan, recipe=recipe)


def main() -> None:
    """Runs a seed and prints its trace."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.exclusion", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--recipe", choices=list(PLAYS), default=None)
    parser.add_argument("--last", type=int, default=None, metavar="N", help="only the last N lines of the trace")
    parser.add_argument("--fingerprint", action="store_true", help="only the hash of the trace")
    arguments = parser.parse_args()
    run = Run(arguments.seed, plan_of(arguments.seed, arguments.recipe))
    try:
        run.run()
    finally:
        if arguments.fingerprint:
            print(run.ledger.fingerprint())
        else:
            lines = run.ledger.trace()
            print(*(lines if arguments.last is None else lines[-arguments.last :]), sep="\n")
            print(run.plan, *(f"{count:12,d}  {name}" for name, count in sorted(run.ledger.counts.items())), sep="\n")


if __name__ == "__main__":
    main()
