"""What is true of ownership, seen from outside: who runs, and whose ownership has ended on the servers.

Decides whether anything happened that must not. It asks neither clients nor recipes: a body says that it is entered,
passes a checkpoint and ends, and whether it still owns is read from the servers' trees, after every single step of any
task. So a body whose znode is gone and that runs on is found at that very instant, whether or not somebody else has
come yet. Bodies of stopped processes do not run; what they do when they go on is judged by itself.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import trio

from terzetto.testcluster.datatree import DataTree

from .stack_processes import Process

Trees = Callable[[], Iterable[tuple[str, DataTree]]]


class Violation(AssertionError):
    """A rule was broken.

    Attributes:
        rule: E1 to E6, see docs/design/simulation.md.
        what: what happened.
    """

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(rule, what)  # what it is made of again, in the process that asked for the run
        self.rule = rule
        self.what = what

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


@dataclass(eq=False)
class Body:
    """One term of ownership, as its owner runs it.

    Attributes:
        number: of all bodies of the run.
        process: where it runs.
        path: what is owned.
        room: how many bodies of its kind may run at once, by their weights.
        shares: it may run beside others that share (readers, leases).
        znode, token: see `Ownership`.
        czxid: of the znode.
        over: how its ownership ended on the servers, "" while it has not.
        over_zxid: of a tree in which its znode was gone.
        left: it has ended.
        shielded: it waits for something where it lets no cancellation through; what follows is a checkpoint.
        weight: how much of the room it takes.
    """

    number: int
    process: Process
    path: str
    room: int
    shares: bool
    znode: str
    czxid: int
    token: int | None
    over: str = ""
    over_zxid: int = 0
    left: bool = False
    shielded: bool = False
    weight: int = 1

    @property
    def runs(self) -> bool:
        """Neither stopped, nor in a wait of its own making that no cancellation reaches."""
        return not self.process.stopped and not self.shielded

    def __str__(self) -> str:
        return f"body {self.number} of {self.process.name}"


@dataclass
class Store:
    """Another store, which takes no token below the greatest that it has seen."""

    newest: int = 0
    refused: int = 0

    def write(self, token: int) -> bool:
        """Whether it took the write."""
        if token < self.newest:
            self.refused += 1
            return False
        self.newest = token
        return True


@dataclass(eq=False)
class Ledger(trio.abc.Instrument):
    """See the module.

    Args:
        trees: the trees of the servers that live now, by their names.

    Attributes:
        stores: another store for each path that is owned.
    """

    trees: Trees
    counts: Counter[str] = field(default_factory=Counter[str])
    inside: dict[Body, None] = field(default_factory=dict[Body, None])
    failed: trio.Event = field(default_factory=trio.Event)
    violation: Violation | None = None
    stores: defaultdict[str, Store] = field(default_factory=lambda: defaultdict[str, Store](Store))
    _trace: list[str] = field(default_factory=list[str])
    _bodies: list[Body] = field(default_factory=list[Body])
    _alive: dict[Body, None] = field(default_factory=dict[Body, None])
    _seen: dict[str, tuple[DataTree, int]] = field(default_factory=dict[str, tuple[DataTree, int]])

    # The trace --------------------------------------------------------------------------------------------------------

    def note(self, what: str) -> None:
        """Adds a line to the trace."""
        self._trace.append(f"{trio.current_time():9.4f} {what}")

    def trace(self) -> list[str]:
        """What happened, in order."""
        return list(self._trace)

    def fingerprint(self) -> str:
        """A hash of the trace."""
        return hashlib.sha256("\n".join(self._trace).encode()).hexdigest()

    def fail(self, rule: str, what: str) -> None:
        """A rule was broken."""
        self.note(f"{rule}: {what}")
        if self.violation is None:
            self.violation = Violation(rule, f"{what}, at {trio.current_time():.4f}")
            self.failed.set()

    # Bodies -----------------------------------------------------------------------------------------------------------

    def enter(
        self,
        process: Process,
        path: str,
        znode: str,
        czxid: int,
        token: int | None,
        *,
        room: int = 1,
        shares: bool,
        weight: int = 1,
    ) -> Body:
        """A body begins."""
        body = Body(len(self._bodies) + 1, process, path, room, shares, znode, czxid, token)
        body.weight = weight
        self.note(f"{body} enters {path}, token {token}")
        before = self._newest(path)
        self._bodies.append(body)
        self.inside[body] = None
        self._alive[body] = None
        self.counts["terms"] += 1
        if before is not None and before.over and before.process is not process:
            self.counts["takeovers"] += not before.left or before.process.stopped
        self._look(body)
        for other in self.inside:
            if other is body or other.path != path:
                continue
            if other.process.stopped:
                self.counts["owners beside one that is stopped"] += 1
        running = [other for other in self.inside if other.path == path and other.runs]
        sharing = [other for other in running if other.shares]
        if len(running) > 1 and (len(sharing) < len(running) or sum(other.weight for other in running) > body.room):
            self.fail("E1", f"{', '.join(map(str, running))} run at once")
        if token is not None:
            tokens = [other.token for other in self._bodies[:-1] if other.path == path and other.token is not None]
            same_term = [other.token for other in self._bodies[:-1] if other.znode == znode]
            if any(token <= other for other in tokens if other not in same_term):
                self.fail("E5", f"{body} has token {token} after {max(tokens)}")
        return body

    def _newest(self, path: str) -> Body | None:
        return next((body for body in reversed(self._bodies) if body.path == path), None)

    def leave(self, body: Body) -> None:
        """A body ends, however."""
        body.left = True
        self.inside.pop(body)
        self.note(f"{body} leaves{', having lost' if body.over else ''}")

    def passed(self, body: Body, wakes: int) -> None:
        """A checkpoint let the body pass, which it had come to when its process had gone on `wakes` times."""
        if body.over and body.process.wakes == wakes:
            self.fail("E3", f"{body} has passed a checkpoint although {body.over}")
        elif body.over:
            self.counts["steps after a stop, up to the first checkpoint"] += 1

    def wrote(self, body: Body) -> None:
        """The body writes to another store, with its token."""
        if body.token is None:
            return
        store = self.stores[body.path]
        if store.write(body.token):
            self.counts["writes to the store"] += 1
        elif body.over:
            self.counts["writes refused by the store"] += 1
        else:
            self.fail("E5", f"{body} owns, and a store has refused its token {body.token} for {store.newest}")

    # The servers ------------------------------------------------------------------------------------------------------

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio after every step: looks at what the servers have come to."""
        for name, tree in self.trees():
            seen = self._seen.get(name)
            if seen is None or seen[0] is not tree or seen[1] != tree.last_zxid:
                self._seen[name] = (tree, tree.last_zxid)
                for body in list(self._alive):
                    self._compare(body, name, tree)

    def _look(self, body: Body) -> None:
        for name, tree in self.trees():
            self._compare(body, name, tree)

    def _compare(self, body: Body, name: str, tree: DataTree) -> None:
        if body.over or tree.last_zxid < body.czxid or body.znode in tree.nodes:
            return
        body.over, body.over_zxid = f"its znode was gone in {name} at {tree.last_zxid:#x}", tree.last_zxid
        self._alive.pop(body)
        if body.left:
            return
        self.note(f"{body} has lost: {body.over}")
        self.counts["ended by the servers inside"] += 1
        if not body.runs:
            self.counts["ended by the servers while stopped"] += 1
        else:
            self.fail("E2", f"{body} runs although {body.over}")

    def judge_guarded(self, records: Iterable[tuple[int, int]]) -> None:
        """At the end: (number of the body, czxid) of everything that guarded transactions have made."""
        for number, czxid in records:
            body = self._bodies[number - 1]
            self.counts["guarded writes committed"] += 1
            if body.over and czxid > body.over_zxid:
                self.fail("E4", f"a guarded write of {body} was committed at {czxid:#x}, when {body.over}")
