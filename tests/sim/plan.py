"""The parameters of one run, drawn from its seed: how many servers and clients, their timing, what goes wrong and when.

Every seed gets its own mixture (a run in which few kinds of faults happen reaches other places than one with all).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .faults import FAULTS
from .world import MILLISECOND, SECOND


@dataclass(frozen=True)
class Plan:
    """What one run is like. Times in microseconds where the name does not say otherwise.

    Attributes:
        voters, observers, clients: how many.
        tick_ms, init_limit, sync_limit: as in zoo.cfg.
        commit_log: committed transactions that a server remembers for learners that come late.
        drifts: how fast each server's clocks run, in parts per thousand.
        skews_ms: how far off each server's wall clock is.
        latency, jitter: of messages.
        sync: of a log.
        faults: which kinds happen.
        fault_gap: mean time between two.
        duration: how long they happen.
        client_timeout_ms, client_pause: of each client.
        client_reads: which clients only read, and sync.
        by_bytes: whether packets are encoded and cut into pieces on their way.
    """

    voters: int
    observers: int
    clients: int
    tick_ms: int
    init_limit: int
    sync_limit: int
    commit_log: int
    drifts: tuple[int, ...]
    skews_ms: tuple[int, ...]
    latency: int
    jitter: int
    sync: int
    faults: tuple[str, ...]
    fault_gap: int
    duration: int
    client_timeout_ms: tuple[int, ...]
    client_pause: tuple[int, ...]
    client_reads: tuple[bool, ...]
    by_bytes: bool


def draw_plan(chance: random.Random) -> Plan:
    """The plan of a seed."""
    voters = chance.choice((3, 3, 3, 3, 5))
    observers = chance.choice((0, 0, 1)) if voters == 3 else chance.choice((0, 0, 0, 1))
    clients = chance.choice((2, 3, 3, 4))
    tick_ms = chance.choice((100, 200, 200, 400))
    kept = chance.uniform(0.35, 1.0)
    faults = tuple(fault for fault in FAULTS if chance.random() < kept) or ("crash",)
    servers = voters + observers
    return Plan(
        voters=voters,
        observers=observers,
        clients=clients,
        tick_ms=tick_ms,
        init_limit=chance.choice((5, 10)),
        sync_limit=chance.choice((3, 5)),
        commit_log=chance.choice((3, 8, 20, 500)),
        drifts=tuple(chance.randint(-50, 50) for _ in range(servers)),
        skews_ms=tuple(chance.randint(-100_000, 100_000) for _ in range(servers)),
        latency=chance.choice((100, 300, 2000)),
        jitter=chance.choice((100, 1000, 10_000)),
        sync=chance.choice((200, 1500, 8000)),
        faults=faults,
        fault_gap=chance.choice((100, 250, 600)) * MILLISECOND,
        duration=chance.choice((5, 8, 12)) * SECOND,
        client_timeout_ms=tuple(chance.choice((600, 1500, 4000, 8000)) for _ in range(clients)),
        client_pause=tuple(chance.choice((30, 60, 150)) * MILLISECOND for _ in range(clients)),
        # The first one writes.
        client_reads=tuple(index > 0 and chance.random() < 0.2 for index in range(clients)),
        by_bytes=chance.random() < 0.1,
    )
