"""The command: `python -m tests.benchmarks`, which `make bench` runs.

Decides what follows what and where the results go. Refuses to know how anything is measured.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from tests.interop.installation import PeerMissing
from tests.interop.zookeeper import StartFailed

from .building import BuildFailed
from .choosing import Choice, choose
from .contenders import Contender, DriverFailed, find_contenders
from .gateway_report import gateway_sections, gateway_tables
from .gateway_rounds import run_gateway_rounds
from .gateway_workloads import GATEWAY_GOALS, SERVERS_BEHIND, GatewayWorkload
from .machine import describe_machine, describe_server, describe_server_kinds
from .recipe_contenders import recipe_contenders
from .recipe_workloads import RECIPE_GOALS, RECIPE_WORKLOADS
from .report import Page, client_sections, format_time, markdown_page, text_goals, text_tables
from .results import Reached, Results
from .rounds import run_rounds, warm_up
from .server_kinds import Load, find_server_kinds
from .server_report import server_sections, server_tables
from .server_rounds import run_server_rounds
from .server_workloads import SERVER_GOALS, ServerWorkload
from .servers import Server, open_null_server, open_real_server
from .workloads import GOALS, TERZETTO, Workload

_ROOT = Path(__file__).parents[2]
_PAGES = _ROOT / "docs" / "performance"


class _Outcome(NamedTuple):
    """What a run has found out, of clients, of their recipes, of servers, of gateways or of several of these."""

    about: list[str]
    clients: Results[Workload] | None
    recipes: Results[Workload] | None
    servers: Results[ServerWorkload] | None
    gateways: Results[GatewayWorkload] | None
    reached: list[Reached]


def _open_server(choice: Choice, directory: Path) -> AbstractContextManager[Server]:
    return open_null_server(directory) if choice.server == "null" else open_real_server()


def _profile(choice: Choice, workload: Workload, server: Server, contenders: Sequence[Contender]) -> None:
    if workload in RECIPE_WORKLOADS:
        contenders = recipe_contenders(contenders)
    terzetto = next((contender for contender in contenders if contender.name == TERZETTO), None)
    if terzetto is None:
        sys.exit("only terzetto can be profiled, and it is not among the clients")
    warm_up(server, contenders, [workload], choice.effort)
    plan = workload.plan(server.hosts, choice.effort)
    measurement = terzetto.profile(plan)
    print(
        f"{workload.describe(choice.effort)}: {format_time(measurement.value('cpu'))} of CPU time per operation "
        f"under the profiler, {format_time(terzetto.measure(plan).value('cpu'))} without it"
    )


def _find_contenders(choice: Choice, directory: Path) -> tuple[list[Contender], bool]:
    """The clients that take part, and whether that is everyone."""
    contenders, missing = find_contenders(directory)
    contenders = [contender for contender in contenders if contender.name in choice.clients]
    for line in missing:
        print(line, file=sys.stderr)
    if not contenders:
        sys.exit("no client to measure")
    return contenders, not missing


def _run_clients(choice: Choice, directory: Path, contenders: Sequence[Contender]) -> _Outcome | None:
    with _open_server(choice, directory) as server:
        if choice.profile is not None:
            _profile(choice, choice.profile, server, contenders)
            return None
        with_recipes = recipe_contenders(contenders) if choice.recipe_workloads else []
        if not (choice.workloads or with_recipes):
            sys.exit("no client to measure: the C client has no recipes")
        results = recipes = None
        if choice.workloads:
            warm_up(server, contenders, choice.workloads, choice.effort)
            results = run_rounds(server, contenders, choice.workloads, choice.effort, choice.rounds)
        if with_recipes:
            warm_up(server, with_recipes, choice.recipe_workloads, choice.effort)
            recipes = run_rounds(server, with_recipes, choice.recipe_workloads, choice.effort, choice.rounds)
        about = describe_server(server, contenders)
    reached: list[Reached] = []
    if choice.server == "zookeeper":  # the goals are about the real server
        reached += [] if results is None else results.goals(GOALS)
        reached += [] if recipes is None else recipes.goals(RECIPE_GOALS)
    return _Outcome(about, results, recipes, None, None, reached)


def _run_servers(choice: Choice, directory: Path) -> _Outcome:
    kinds = find_server_kinds(directory)
    results = run_server_rounds(kinds, Load(directory), choice.server_workloads, choice.effort, choice.rounds)
    return _Outcome(describe_server_kinds(kinds), None, None, results, None, results.goals(SERVER_GOALS))


def _run_gateways(choice: Choice, directory: Path) -> _Outcome:
    client = next((one for one in find_contenders(directory)[0] if one.name == TERZETTO), None)
    if client is None:
        sys.exit("WebSockets are measured with terzetto, which is missing")
    kinds = [kind for kind in find_server_kinds(directory) if kind.name in SERVERS_BEHIND]
    results = run_gateway_rounds(client, kinds, choice.gateway_workloads, choice.effort, choice.rounds, directory)
    about = [f"By WebSocket: {client.version} as the client; `terzetto gateway` in front of each server"]
    if not choice.server_workloads:
        about += describe_server_kinds(kinds)
    return _Outcome(about, None, None, None, results, results.goals(GATEWAY_GOALS))


def _sections(choice: Choice, outcome: _Outcome) -> list[str]:
    parts: list[str] = []
    if outcome.clients is not None:
        parts += ["## Clients, on one server", *client_sections(outcome.clients, choice.effort)]
    if outcome.recipes is not None:
        parts += ["## Recipes, on one server", *client_sections(outcome.recipes, choice.effort)]
    if outcome.servers is not None:
        parts += ["## Servers, under one load", *server_sections(outcome.servers, choice.effort)]
    if outcome.gateways is not None:
        parts += ["## WebSockets, beside TCP", *gateway_sections(outcome.gateways, choice.effort)]
    return parts


def _show(choice: Choice, outcome: _Outcome) -> None:
    parts = ["\n".join(outcome.about)]
    if outcome.clients is not None:
        parts.append(text_tables(outcome.clients, choice.effort))
    if outcome.recipes is not None:
        parts.append(text_tables(outcome.recipes, choice.effort))
    if outcome.servers is not None:
        parts.append(server_tables(outcome.servers, choice.effort))
    if outcome.gateways is not None:
        parts.append(gateway_tables(outcome.gateways, choice.effort))
    if outcome.reached:
        parts.append(text_goals(outcome.reached))
    print("\n\n".join(parts))


def _write(choice: Choice, outcome: _Outcome, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name, title = ("results", "Results") if choice.server == "zookeeper" else ("null-server", "The clients' own cost")
    picture = None
    if outcome.clients is not None:
        try:
            from .picture import draw

            draw(outcome.clients, choice.effort, folder / f"{name}.svg")
            picture = f"{name}.svg"
        except ImportError as error:
            print(f"no picture: {error}", file=sys.stderr)
    words = " ".join(choice.words)
    commands = [f"make bench ARGS='{words}'" if words else "make bench", f"python -m tests.benchmarks {words}".rstrip()]
    page = Page(title, outcome.about, commands, picture)
    text = markdown_page(page, _sections(choice, outcome), outcome.reached)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    print(f"\nwritten: {folder / name}.md", file=sys.stderr)


def _run(choice: Choice, directory: Path) -> None:
    outcome = _Outcome(describe_machine(), None, None, None, None, [])
    everyone = True
    if choice.workloads or choice.recipe_workloads:
        contenders, everyone = _find_contenders(choice, directory)
        clients = _run_clients(choice, directory, contenders)
        if clients is None:
            return
        outcome = clients._replace(about=[*outcome.about, *clients.about])
    if choice.server_workloads:
        servers = _run_servers(choice, directory)
        outcome = outcome._replace(
            about=[*outcome.about, *servers.about], servers=servers.servers, reached=outcome.reached + servers.reached
        )
    if choice.gateway_workloads:
        gateways = _run_gateways(choice, directory)
        outcome = outcome._replace(
            about=[*outcome.about, *gateways.about],
            gateways=gateways.gateways,
            reached=outcome.reached + gateways.reached,
        )
    outcome.about.append(f"Rounds: {choice.rounds}, after {choice.effort.uncounted_rounds} that did not count")
    _show(choice, outcome)
    folder = choice.output or (_PAGES if choice.is_whole and everyone else None)
    if folder is not None:
        _write(choice, outcome, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status (1: a client or a server failed, 3: no ZooKeeper or no compiler)."""
    choice = choose(sys.argv[1:] if arguments is None else arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="terzetto-benchmarks-") as directory:
            _run(choice, Path(directory))
    except (PeerMissing, BuildFailed) as missing:
        print(f"the benchmarks need more than this machine has: {missing}", file=sys.stderr)
        return 3
    except (DriverFailed, StartFailed) as failed:
        print(failed, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
