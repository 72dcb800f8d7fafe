"""What is measured of recipes, how much of it, and what is to be reached. Beside kazoo only: the C client has none.

Decides the workloads with their sizes, and their goals. Refuses to know any client.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .workloads import KAZOO, PATH, Effort, Goal, Sizes, Workload

CONTENDERS = 50
"""Tasks or threads that hand a lock around, each with a lock object of its own, all on one session."""

LOCK_PATH = f"{PATH}-lock"
QUEUE_PATH = f"{PATH}-queue"
TREE_FANOUT = 100
"""Children of a znode in the cached tree, which has two levels."""

_TREE_ZNODES = {Effort.FULL: 10_000, Effort.QUICK: 10_000, Effort.TINY: 200}


def tree_path(znodes: int) -> str:
    """The root of the cached tree, which has so many grandchildren. Who comes first makes it, and it stays."""
    return f"{PATH}-tree-{znodes}"


def tree_groups(znodes: int) -> Mapping[str, list[str]]:
    """Paths of the children of its root, and of their children."""
    root = tree_path(znodes)
    groups = max(1, znodes // TREE_FANOUT)
    return {
        f"{root}/{group}": [f"{root}/{group}/{item}" for item in range(group, znodes, groups)]
        for group in range(groups)
    }


def check_children(names: Collection[str] | None, paths: Collection[str]) -> None:
    """A cache that is not complete when it says so would make a fast one out of a wrong one.

    Raises:
        RuntimeError: these are not the names of those paths.
    """
    if names is None or set(names) != {path.rpartition("/")[2] for path in paths}:
        raise RuntimeError(f"{names} are not the names of {paths}")


RECIPE_WORKLOADS = (
    Workload(
        "lock",
        "acquire and release a lock that nobody else wants",
        "acquisition with its release",
        {Effort.FULL: Sizes(1_500, 200), Effort.QUICK: Sizes(400, 100), Effort.TINY: Sizes(5, 1)},
    ),
    Workload(
        "lock-contended",
        f"{CONTENDERS} contenders hand a lock around",
        "acquisition with its wait",
        {
            Effort.FULL: Sizes(CONTENDERS * 20, CONTENDERS),
            Effort.QUICK: Sizes(CONTENDERS * 8, CONTENDERS),
            Effort.TINY: Sizes(CONTENDERS, 0),
        },
        callers=CONTENDERS,
    ),
    Workload(
        "queue",
        "put an item into a queue and get it out again",
        "item",
        {Effort.FULL: Sizes(1_000, 100), Effort.QUICK: Sizes(300, 50), Effort.TINY: Sizes(5, 1)},
    ),
    Workload(
        "tree-cache",
        "a TreeCache of {operations} znodes gets ready (p50, p99: of all of them)",
        "cache",
        {
            effort: Sizes(znodes, znodes // 10, 1 if effort is Effort.TINY else 2)
            for effort, znodes in _TREE_ZNODES.items()
        },
    ),
)

RECIPE_GOALS = (Goal("lock", "rate", KAZOO, 2.5, at_most=False),)
