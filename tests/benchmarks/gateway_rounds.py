"""A run over the ways to a server: the rounds, and who comes when.

Decides the order: the ways take turns at each workload, in reverse in every second round, and the first round does not
count; how many clients a gateway holds is measured once. Refuses to know how a gateway is started.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.testcluster.web_crowd import WebCrowd

from .contenders import Contender
from .gateway_ways import open_gateway, open_ways
from .gateway_workloads import EXTENTS, GATEWAY, SERVERS_BEHIND, Extent, GatewayWorkload
from .processes import memory_of
from .results import Reading, Results, percentile
from .rounds import say
from .server_kinds import ServerKind
from .server_workloads import IN_MEMORY
from .workloads import Effort

_PATIENCE = 30.0


def run_gateway_rounds(
    client: Contender,
    kinds: Sequence[ServerKind],
    workloads: Sequence[GatewayWorkload],
    effort: Effort,
    rounds: int,
    directory: Path,
) -> Results[GatewayWorkload]:
    """Measures reads `rounds` times, after those that do not count, and the clients that are held once.

    Args:
        client: terzetto's.
        kinds: servers; those of `SERVERS_BEHIND` are used.
        workloads: what is measured.
        effort: of the run.
        rounds: that count.
        directory: for certificates and logs.

    Raises:
        DriverFailed: one of the measurements failed.
        StartFailed: a server did not answer.
    """
    behind = [kind for kind in kinds if kind.name in SERVERS_BEHIND]
    results = Results(workloads, list(dict.fromkeys(way for workload in workloads for way in workload.ways)))
    _read(client, behind, [one for one in workloads if not one.has_lives], effort, rounds, directory, results)
    for workload in workloads:
        if workload.has_lives:
            say("clients that one gateway holds")
            results.add(workload, GATEWAY, hold(behind, EXTENTS[effort], directory / "held"))
    return results


def _read(
    client: Contender,
    kinds: Sequence[ServerKind],
    workloads: Sequence[GatewayWorkload],
    effort: Effort,
    rounds: int,
    directory: Path,
    results: Results[GatewayWorkload],
) -> None:
    if not workloads:
        return
    with ExitStack() as lives:
        ways = open_ways(lives, kinds, directory)
        client = replace(client, environment={**client.environment, **ways.environment})
        for number in range(1 - effort.uncounted_rounds, rounds + 1):
            say(f"WebSockets, round {number} of {rounds}" if number > 0 else "WebSockets, a round that does not count")
            for workload in workloads:
                assert workload.client is not None
                open_now = [way for way in workload.ways if way in ways.hosts]
                for way in open_now if number % 2 else reversed(open_now):
                    measurement = client.measure(workload.client.plan(ways.hosts[way], effort))
                    if number > 0:
                        results.add(workload, way, measurement)


def hold(kinds: Sequence[ServerKind], extent: Extent, directory: Path) -> Reading:
    """Connects clients to a gateway in front of terzetto's server and keeps them, each with a session that pings.

    Raises:
        AssertionError: a session ended, or a ping was not answered before the next.
    """
    kind = next(kind for kind in kinds if kind.name == IN_MEMORY)
    with ExitStack() as lives:
        gateway, _ = open_gateway(lives, kind, directory)
        empty = memory_of(gateway.process.pid)
        began = time.perf_counter()
        crowd = WebCrowd(int(gateway.url.rpartition(":")[2].strip("/")), extent.clients, extent.timeout)
        lives.callback(crowd.close)
        made = time.perf_counter() - began
        crowd.latencies.clear()
        crowd.run(extent.seconds)
        # Each has been answered while all the others were there.
        crowd.run(_PATIENCE, until=lambda: len(crowd.latencies) >= extent.clients)
        full = memory_of(gateway.process.pid)
        held = sum(1 for idler in crowd.idlers if idler.session_id and not idler.gone)
        pings = [round(seconds * 1e9) for seconds in crowd.latencies]
    return Reading(
        {
            "held": held,
            "ready": made * 1e6,
            "empty-pss": empty.proportional,
            "full-pss": full.proportional,
            "empty": empty.resident,
            "full": full.resident,
            "p50": percentile(pings, 0.5) / 1e3,
            "p99": percentile(pings, 0.99) / 1e3,
        }
    )
