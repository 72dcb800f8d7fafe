"""A run over the servers: the rounds, and who comes when.

Decides the order: the servers take turns at each workload, in reverse in every second round, and the first round does
not count. Those that are loaded live as long as the run; starts and memory are of processes of their own. Refuses to
know how a server is started.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from .ensemble_kinds import EnsembleKind, find_leader, open_in_process, pytest_session
from .processes import ServerProcess, memory_of, wait_first_answer, wait_write
from .results import Measured, Reading, Results
from .rounds import say
from .server_kinds import Load, ServerKind
from .server_workloads import EXTENTS, Extent, ServerWorkload
from .workloads import Effort


def run_server_rounds(
    kinds: Sequence[ServerKind], load: Load, workloads: Sequence[ServerWorkload], effort: Effort, rounds: int
) -> Results[ServerWorkload]:
    """Measures everything `rounds` times, after those that do not count; memory not so often.

    Raises:
        DriverFailed: one of the measurements failed.
        StartFailed: a server did not answer.
    """
    results = Results(workloads, [kind.name for kind in kinds])
    extent = EXTENTS[effort]
    with ExitStack() as lives:
        loaded = {name for workload in workloads if workload.kind == "load" for name in workload.servers}
        serving = {kind.name: lives.enter_context(kind.serving()) for kind in kinds if kind.name in loaded}
        for number in range(1 - effort.uncounted_rounds, rounds + 1):
            say(f"servers, round {number} of {rounds}" if number > 0 else "servers, a round that does not count")
            for workload in workloads:
                if workload.has_lives and not 0 < number <= extent.lives:
                    continue
                chosen = [kind for kind in kinds if kind.name in workload.servers]
                for kind in chosen if number % 2 else reversed(chosen):
                    measurement = _measure(kind, workload, extent, load, serving)
                    if number > 0:
                        results.add(workload, kind.name, measurement)
    return results


def _measure(
    kind: ServerKind, workload: ServerWorkload, extent: Extent, load: Load, serving: Mapping[str, ServerProcess]
) -> Measured:
    if workload.kind == "load":
        return load.measure(serving[kind.name], workload, extent)
    if workload.kind == "in-process":
        return Reading({"ready": open_in_process(kind.environment) * 1e6})
    if workload.kind == "pytest":
        return Reading({"ready": pytest_session(kind.environment) * 1e6})
    if workload.kind == "ensemble":
        return _ensemble(EnsembleKind(kind.name, kind.environment), workload, extent, load)
    return _starts(kind, extent.starts) if workload.kind == "start" else _memory(kind, extent.znodes, load)


def _starts(kind: ServerKind, times: int) -> Reading:
    microseconds: list[float] = []
    for _ in range(times):
        with kind.prepared() as server:
            began = time.perf_counter()
            server.start()
            wait_first_answer(server)
            microseconds.append((time.perf_counter() - began) * 1e6)
    return Reading({"ready": statistics.median(microseconds)})


def _memory(kind: ServerKind, znodes: int, load: Load) -> Reading:
    with kind.serving() as server:
        empty = memory_of(server.pid)
        load.fill(server, znodes)
        full = memory_of(server.pid)
    return Reading(
        {
            "empty": empty.resident,
            "empty-pss": empty.proportional,
            "full": full.resident,
            "full-pss": full.proportional,
        }
    )


def _ensemble(kind: EnsembleKind, workload: ServerWorkload, extent: Extent, load: Load) -> Reading:
    with kind.prepared() as ensemble:
        began = time.perf_counter()
        ensemble.start()
        for server in ensemble.servers():
            wait_first_answer(server)
        ready = time.perf_counter() - began
        memory = [memory_of(pid) for pid in ensemble.memory_pids()]
        leader = find_leader(ensemble.servers())
        writes = load.measure(leader, workload, extent._replace(warmup_seconds=extent.ensemble_warmup_seconds))
        began = time.perf_counter()
        ensemble.kill(leader)
        wait_write([server for server in ensemble.servers() if server is not leader])
        failover = time.perf_counter() - began
    return Reading(
        {
            "ready": ready * 1e6,
            "empty-pss": sum(one.proportional for one in memory),
            "failover": failover * 1e6,
            "rate": writes.value("rate"),
        }
    )
