"""Cancels a recipe at each of its checkpoints and looks for what it has left behind. Knows no recipe.

    await walk(ensemble, work, leaves={"/locks"}, raises=(OwnershipLost,))

`work(zk)` is one whole use of the recipe, with its own waits for others made short by `prepare`. It is run again and
again, cancelled at its first checkpoint, at its second, and so on until it ends by itself: at once, so that a request
is withdrawn; while the request is under way, so that the server does it all the same; and after the connection was
lost. After each run the client must hold nothing more than before, and no znode may be left but those named. What the
janitor has still to delete counts once it is done.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection

import trio

from terzetto.client import ConnectionLoss, KazooState, ZooKeeper
from tests.client.holdings import Holdings, holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until

Work = Callable[[ZooKeeper], Awaitable[object]]


class Harm(enum.Enum):
    """What is done to the work."""

    AT_ONCE = "cancelled at"
    IN_FLIGHT = "cancelled while the request was under way at"
    SUSPENDED = "without a connection at"


class _StepCounter(trio.abc.Instrument):
    """Calls `reached` when the current task has yielded `steps` times more."""

    def __init__(self, steps: int, reached: Callable[[], object]) -> None:
        self._task = trio.lowlevel.current_task()
        self._left = steps
        self._reached = reached
        if steps == 0:
            reached()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._reached()


def forget_tree(ensemble: MemoryEnsemble) -> None:
    """Deletes every znode; the counter of sequential ones starts anew."""
    realm = ensemble.realm
    for path in sorted(realm.znodes, key=len, reverse=True):
        if path != "/" and not path.startswith("/zookeeper"):
            realm.delete(path)


def tree(ensemble: MemoryEnsemble) -> set[str]:
    """Every znode but the root and ZooKeeper's own."""
    return {path for path in ensemble.realm.znodes if path != "/" and not path.startswith("/zookeeper")}


async def walk(
    ensemble: MemoryEnsemble,
    work: Work,
    *,
    leaves: Collection[str] = (),
    prepare: Callable[[], object] = lambda: None,
    may_leave: Callable[[str], bool] = lambda path: False,
    raises: tuple[type[Exception], ...] = (),
    latency: float = 0.25,
) -> int:
    """See the module; returns the number of checkpoints. Raises `AssertionError` that names the checkpoint.

    Args:
        ensemble: the servers.
        work: one use of the recipe.
        leaves: znodes that may stay (parents that a recipe makes once and for all).
        prepare: called before each run, with an empty tree; makes what the work needs.
        may_leave: the same as `leaves`, as a condition on the path.
        raises: what an interrupted run may end in instead of the cancellation: that is the recipe's answer to a lost
            connection.
        latency: of the servers, so that requests can be cancelled while they are under way.
    """
    steps = 0
    for harm in Harm:
        steps = 0
        while True:
            place = f"{harm.value} checkpoint {steps}"
            ensemble.latency = 0.0
            forget_tree(ensemble)
            async with ensemble.open() as zk:
                before, tasks = await at_rest(zk), trio.lowlevel.current_statistics().tasks_living
                prepare()
                given = tree(ensemble)
                ensemble.latency = latency
                reached = await _interrupted(ensemble, zk, steps, work, harm, raises)
                ensemble.shut(Door.OPEN)
                ensemble.latency = 0.0
                # What the servers were still late with is theirs; then only tasks of ours can be left.
                await pass_time(2 * latency)
                after = await at_rest(zk)
                assert after == before, f"{place}: the client holds {after}, before {before}"
                left = {path for path in tree(ensemble) - given if not (path in leaves or may_leave(path))}
                assert not left, f"{place}: znodes are left: {sorted(left)}"
                assert trio.lowlevel.current_statistics().tasks_living == tasks, f"{place}: a task is left"
            if not reached:
                break
            steps += 1
        assert steps > 0, "the work has no checkpoint"
    return steps


async def at_rest(zk: ZooKeeper) -> Holdings:
    """What the client holds once the janitor is done and everything sent was answered."""
    await settle()
    await until(lambda: not holdings(zk).deletions)
    while True:
        try:
            await zk.sync("/")
            return holdings(zk)
        except ConnectionLoss:
            continue  # the next call waits for a connection


async def _interrupted(
    ensemble: MemoryEnsemble,
    zk: ZooKeeper,
    steps: int,
    work: Work,
    harm: Harm,
    raises: tuple[type[Exception], ...],
) -> bool:
    """Runs the work up to its checkpoint number `steps`; False when it had no more than that many."""
    reached = False
    with trio.CancelScope() as scope:

        def interrupt() -> None:
            nonlocal reached
            reached = True
            if harm is Harm.IN_FLIGHT:
                # It has been sent by then, and not been worked on.
                scope.deadline = trio.current_time() + ensemble.latency / 2
            elif harm is Harm.SUSPENDED:
                ensemble.shut(Door.REFUSES)
                ensemble.cut()
                # Long enough to see the loss, and to try again.
                scope.deadline = trio.current_time() + 0.5
            else:
                scope.cancel()

        counter = _StepCounter(steps, interrupt)
        trio.lowlevel.add_instrument(counter)
        try:
            await work(zk)
        except raises:
            assert reached, "uninterrupted, the work must not fail"
        finally:
            trio.lowlevel.remove_instrument(counter)
    if harm is Harm.SUSPENDED and reached:
        await until(lambda: zk.state == KazooState.SUSPENDED)
    return reached
