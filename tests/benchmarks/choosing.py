"""The command line of the benchmarks: what a run consists of.

Decides which workloads, clients and servers take part, and whether a run is a whole one. Refuses to run anything.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .gateway_workloads import GATEWAY_WORKLOADS, GatewayWorkload
from .recipe_workloads import RECIPE_WORKLOADS
from .server_workloads import SERVER_WORKLOADS, ServerWorkload
from .workloads import DROPIN, KAZOO, TERZETTO, WORKLOADS, C, Effort, ServerKind, Workload


class Choice(NamedTuple):
    """What the command line asks for.

    Attributes:
        effort: how long a run takes.
        rounds: that count.
        server: what the clients are compared on.
        workloads: of the clients.
        recipe_workloads: of those clients that have recipes.
        server_workloads: of the servers.
        gateway_workloads: of the ways to a server by WebSocket.
        clients: that take part.
        output: the folder of the results; None for the documentation's, when the run is a whole one.
        profile: only this is run, under a profiler.
        words: the command line without the folder of the output.
    """

    effort: Effort
    rounds: int
    server: ServerKind
    workloads: Sequence[Workload]
    recipe_workloads: Sequence[Workload]
    server_workloads: Sequence[ServerWorkload]
    gateway_workloads: Sequence[GatewayWorkload]
    clients: Sequence[str]
    output: Path | None
    profile: Workload | None
    words: Sequence[str]

    @property
    def is_whole(self) -> bool:
        """Everything with everyone, as much as the documentation shows."""
        return (
            self.effort is Effort.FULL
            and self.rounds >= Effort.FULL.rounds
            and set(self.clients) == {TERZETTO, DROPIN, KAZOO, C}
            and list(self.workloads) == _possible(self.server)
            and list(self.recipe_workloads) == _possible_of_recipes(self.server)
            and list(self.server_workloads) == _possible_of_servers(self.server)
            and list(self.gateway_workloads) == _possible_of_gateways(self.server)
        )


def _possible(server: ServerKind) -> list[Workload]:
    return [workload for workload in WORKLOADS if workload.reads_only or server == "zookeeper"]


def _possible_of_recipes(server: ServerKind) -> list[Workload]:
    return list(RECIPE_WORKLOADS) if server == "zookeeper" else []


def _possible_of_servers(server: ServerKind) -> list[ServerWorkload]:
    return list(SERVER_WORKLOADS) if server == "zookeeper" else []


def _possible_of_gateways(server: ServerKind) -> list[GatewayWorkload]:
    return list(GATEWAY_WORKLOADS) if server == "zookeeper" else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure terzetto, kazoo and ZooKeeper's C client side by side on one server, and terzetto's "
        "server beside Java's, and WebSockets beside TCP. A whole run writes its results to docs/performance; anything "
        "less only shows them.",
    )
    names = [workload.name for workload in (*WORKLOADS, *RECIPE_WORKLOADS)]
    server_names = [workload.name for workload in SERVER_WORKLOADS]
    server_names += [workload.name for workload in GATEWAY_WORKLOADS]
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="about six minutes, instead of half an hour")
    effort.add_argument("--tiny", action="store_true", help="seconds, to see that it runs; the numbers mean nothing")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds that count")
    parser.add_argument(
        "--server",
        choices=("zookeeper", "null"),
        default="zookeeper",
        help="what clients are compared on; null answers reads at once: a client's own cost",
    )
    parser.add_argument("--workload", action="append", choices=[*names, *server_names], help="only this; repeatable")
    parser.add_argument("--only", choices=("clients", "recipes", "servers", "gateways"), help="one part of the run")
    parser.add_argument(
        "--client", action="append", choices=(TERZETTO, DROPIN, KAZOO, C), help="only this one; repeatable"
    )
    parser.add_argument("--same-core", action="store_true", help="server and client share one core")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the page and its picture go")
    parser.add_argument("--profile", choices=names, help="run terzetto alone under a profiler and show where time goes")
    return parser


def _wanted(chosen: argparse.Namespace) -> set[str]:
    if chosen.profile:
        return {chosen.profile}
    if chosen.workload:
        return set(chosen.workload)
    wanted = set[str]()
    if chosen.only in (None, "clients"):
        wanted |= {workload.name for workload in _possible(chosen.server)}
    if chosen.only in (None, "recipes"):
        wanted |= {workload.name for workload in _possible_of_recipes(chosen.server)}
    # Whoever names clients is not after servers and gateways.
    if chosen.only in (None, "servers") and not chosen.client:
        wanted |= {workload.name for workload in _possible_of_servers(chosen.server)}
    if chosen.only in (None, "gateways") and not chosen.client:
        wanted |= {workload.name for workload in _possible_of_gateways(chosen.server)}
    return wanted


def choose(arguments: Sequence[str]) -> Choice:
    """Reads the command line; a wrong one ends the process with status 2."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    effort = Effort.QUICK if chosen.quick else Effort.TINY if chosen.tiny else Effort.FULL
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error(f"--rounds {chosen.rounds}: at least 1")
    possible, possible_of_servers = _possible(chosen.server), _possible_of_servers(chosen.server)
    possible_of_recipes = _possible_of_recipes(chosen.server)
    possible_of_gateways = _possible_of_gateways(chosen.server)
    wanted = _wanted(chosen)
    names = {workload.name for workload in (*possible, *possible_of_recipes)}
    names |= {workload.name for workload in possible_of_servers}
    names |= {workload.name for workload in possible_of_gateways}
    unanswerable = wanted - names
    if unanswerable:
        parser.error(f"the null server answers clients' reads only, not {', '.join(sorted(unanswerable))}")
    if not wanted:
        parser.error("nothing is left to be measured")
    if chosen.same_core:
        if not hasattr(os, "sched_setaffinity"):
            parser.error("--same-core needs Linux")
        # Inherited by everything that is started from here.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return Choice(
        effort,
        chosen.rounds or effort.rounds,
        chosen.server,
        [workload for workload in possible if workload.name in wanted],
        [workload for workload in possible_of_recipes if workload.name in wanted],
        [workload for workload in possible_of_servers if workload.name in wanted],
        [workload for workload in possible_of_gateways if workload.name in wanted],
        chosen.client or (TERZETTO, DROPIN, KAZOO, C),
        chosen.output,
        next((one for one in (*WORKLOADS, *RECIPE_WORKLOADS) if one.name == chosen.profile), None),
        [word for word in arguments if word not in ("--output", str(chosen.output), f"--output={chosen.output}")],
    )
