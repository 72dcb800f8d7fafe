"""What is measured of servers, how much of it, and what is to be reached.

Decides the workloads with their sizes, which servers take part in each, and the goals: like is compared with like, a
server that waits for its disk with one that does, a server in memory with one that leaves syncing to the kernel.
Refuses to know how a server is started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .workloads import Effort, Goal

IN_MEMORY, ON_DISK = "terzetto in memory", "terzetto on disk"
JAVA_UNSYNCED, JAVA = "Java without sync", "Java"
SERVERS = (IN_MEMORY, ON_DISK, JAVA_UNSYNCED, JAVA)

SESSIONS = 64
DEEP = 500


class Extent(NamedTuple):
    """How much a run does.

    Attributes:
        seconds: that a load is measured.
        warmup_seconds: that it runs before.
        starts: of each server, in a round.
        znodes: that fill a tree.
        lives: rounds in which whole lives are measured, of which each takes long: of servers that are filled, and of
            ensembles.
        ensemble_warmup_seconds: that a load of an ensemble runs before it is measured; its servers are fresh.
    """

    seconds: float
    warmup_seconds: float
    starts: int
    znodes: int
    lives: int
    ensemble_warmup_seconds: float


EXTENTS = {
    Effort.FULL: Extent(1.5, 0.5, 3, 100_000, 3, 4.0),
    Effort.QUICK: Extent(0.6, 0.3, 1, 20_000, 1, 1.5),
    Effort.TINY: Extent(0.05, 0.0, 1, 200, 1, 0.0),
}


@dataclass(frozen=True)
class ServerWorkload:
    """One thing that is measured of servers.

    Attributes:
        name: on the command line.
        title: as people read it.
        kind: how it is measured.
        servers: those that take part.
        request: what is sent, of a load.
        sessions: that send it.
        depth: requests that each session has in flight.
    """

    name: str
    title: str
    kind: Literal["start", "memory", "load", "ensemble", "in-process", "pytest"]
    servers: tuple[str, ...]
    request: Literal["read", "write"] = "read"
    sessions: int = 1
    depth: int = 1

    @property
    def has_lives(self) -> bool:
        """It is not measured in each round."""
        return self.kind in ("memory", "ensemble", "pytest")

    def base_of(self, server: str) -> str | None:
        """The server that it is compared with: Java's that syncs as it does, or else Java's as it is by default."""
        if server in (JAVA, JAVA_UNSYNCED) or JAVA not in self.servers:
            return None
        return JAVA_UNSYNCED if server == IN_MEMORY and JAVA_UNSYNCED in self.servers else JAVA

    def describe(self, effort: Effort) -> str:
        """The title with the size of the run."""
        return self.title.format(znodes=f"{EXTENTS[effort].znodes:,}")


_READERS = (IN_MEMORY, JAVA)
_STARTERS = (IN_MEMORY, ON_DISK, JAVA)

SERVER_WORKLOADS = (
    ServerWorkload("server-start", "a server's start, to the first answered request", "start", _STARTERS),
    ServerWorkload("server-memory", "a server's memory, empty and with {znodes} znodes", "memory", _STARTERS),
    ServerWorkload("server-read", "reads of 1 session, one at a time", "load", _READERS),
    ServerWorkload(
        "server-read-many", f"reads of {SESSIONS} sessions, one at a time each", "load", _READERS, sessions=SESSIONS
    ),
    ServerWorkload("server-read-deep", f"reads of 1 session, {DEEP} in flight", "load", _READERS, depth=DEEP),
    ServerWorkload("server-write", "writes of 1 session, one at a time", "load", SERVERS, "write"),
    ServerWorkload(
        "server-write-many",
        f"writes of {SESSIONS} sessions, one at a time each",
        "load",
        SERVERS,
        "write",
        sessions=SESSIONS,
    ),
    ServerWorkload("server-write-deep", f"writes of 1 session, {DEEP} in flight", "load", SERVERS, "write", depth=DEEP),
    ServerWorkload(
        "ensemble",
        f"an ensemble of three, {DEEP} writes in flight to its leader",
        "ensemble",
        SERVERS,
        "write",
        depth=DEEP,
    ),
    ServerWorkload("ensemble-in-process", "an ensemble of three inside a process", "in-process", (IN_MEMORY,)),
    ServerWorkload("pytest-session", "what the fixtures add to a session of pytest", "pytest", (IN_MEMORY,)),
)


def _ensemble_goals(of: str, base: str) -> tuple[Goal, ...]:
    return (
        Goal("ensemble", "ready", base, 0.3, at_most=True, of=of),
        Goal("ensemble", "empty-pss", base, 0.3, at_most=True, of=of),
        Goal("ensemble", "failover", base, 0.5, at_most=True, of=of),
        Goal("ensemble", "rate", base, 0.5, at_most=False, of=of),
    )


def _write_goals(workload: str) -> tuple[Goal, Goal]:
    return (
        Goal(workload, "rate", JAVA_UNSYNCED, 0.5, at_most=False, of=IN_MEMORY),
        Goal(workload, "rate", JAVA, 0.5, at_most=False, of=ON_DISK),
    )


SERVER_GOALS = (
    Goal("server-start", "ready", JAVA, 0.25, at_most=True, of=IN_MEMORY),
    Goal("server-start", "ready", JAVA, 0.25, at_most=True, of=ON_DISK),
    Goal("server-memory", "empty", JAVA, 0.5, at_most=True, of=IN_MEMORY),
    Goal("server-memory", "empty", JAVA, 0.5, at_most=True, of=ON_DISK),
    Goal("server-read-many", "rate", JAVA, 0.7, at_most=False, of=IN_MEMORY),
    Goal("server-read-deep", "rate", JAVA, 5.0, at_most=False, of=IN_MEMORY),
    *_write_goals("server-write"),
    *_write_goals("server-write-many"),
    *_write_goals("server-write-deep"),
    *_ensemble_goals(IN_MEMORY, JAVA_UNSYNCED),
    *_ensemble_goals(ON_DISK, JAVA),
    Goal("ensemble-in-process", "ready", None, 150_000, at_most=True, of=IN_MEMORY),
    Goal("pytest-session", "ready", None, 500_000, at_most=True, of=IN_MEMORY),
)
