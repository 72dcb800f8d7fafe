"""The command: `python -m tests.benchmarks`, which `make bench` runs.

Decides what a run consists of and where its results go. Refuses to know how anything is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from tests.interop.installation import PeerMissing
from tests.interop.zookeeper import StartFailed

from .building import BuildFailed
from .contenders import Contender, DriverFailed, find_contenders
from .machine import describe_run
from .report import format_time, markdown_page, text_goals, text_tables
from .results import Reached, Results
from .rounds import run_rounds, warm_up
from .servers import Server, open_null_server, open_real_server
from .workloads import KAZOO, TERZETTO, WORKLOADS, C, Effort, ServerKind, Workload

_ROOT = Path(__file__).parents[2]
_PAGES = _ROOT / "docs" / "performance"


class _Choice(NamedTuple):
    """What the command line asks for."""

    effort: Effort
    rounds: int
    server: ServerKind
    workloads: Sequence[Workload]
    clients: Sequence[str]
    output: Path | None
    profile: Workload | None
    words: Sequence[str]
    """The command line without the folder of the output."""

    @property
    def is_whole(self) -> bool:
        """Everything with everyone, as much as the documentation shows."""
        return (
            self.effort is Effort.FULL
            and self.rounds >= Effort.FULL.rounds
            and set(self.clients) == {TERZETTO, KAZOO, C}
            and list(self.workloads) == _possible(self.server)
        )


def _possible(server: ServerKind) -> list[Workload]:
    return [workload for workload in WORKLOADS if workload.reads_only or server == "zookeeper"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure terzetto, kazoo and ZooKeeper's C client side by side on one server. "
        "A whole run writes its results to docs/performance; anything less only shows them.",
    )
    names = [workload.name for workload in WORKLOADS]
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="about a minute, instead of a few")
    effort.add_argument("--tiny", action="store_true", help="seconds, to see that it runs; the numbers mean nothing")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds that count")
    parser.add_argument(
        "--server",
        choices=("zookeeper", "null"),
        default="zookeeper",
        help="null answers reads at once: a client's own cost",
    )
    parser.add_argument("--workload", action="append", choices=names, help="only this one; repeatable")
    parser.add_argument("--client", action="append", choices=(TERZETTO, KAZOO, C), help="only this one; repeatable")
    parser.add_argument("--same-core", action="store_true", help="server and client share one core")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the page and its picture go")
    parser.add_argument("--profile", choices=names, help="run terzetto alone under a profiler and show where time goes")
    return parser


def _choose(arguments: Sequence[str]) -> _Choice:
    parser = _parser()
    chosen = parser.parse_args(arguments)
    effort = Effort.QUICK if chosen.quick else Effort.TINY if chosen.tiny else Effort.FULL
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error(f"--rounds {chosen.rounds}: at least 1")
    possible = _possible(chosen.server)
    wanted = set(chosen.workload or (workload.name for workload in possible))
    if chosen.profile:
        wanted |= {chosen.profile}
    unanswerable = wanted - {workload.name for workload in possible}
    if unanswerable:
        parser.error(f"the null server answers reads only, not {', '.join(sorted(unanswerable))}")
    if chosen.same_core:
        if not hasattr(os, "sched_setaffinity"):
            parser.error("--same-core needs Linux")
        # Inherited by everything that is started from here.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return _Choice(
        effort,
        chosen.rounds or effort.rounds,
        chosen.server,
        [workload for workload in possible if workload.name in wanted],
        chosen.client or (TERZETTO, KAZOO, C),
        chosen.output,
        next((workload for workload in WORKLOADS if workload.name == chosen.profile), None),
        [word for word in arguments if word not in ("--output", str(chosen.output), f"--output={chosen.output}")],
    )


def _open_server(choice: _Choice, directory: Path) -> AbstractContextManager[Server]:
    return open_null_server(directory) if choice.server == "null" else open_real_server()


def _profile(choice: _Choice, workload: Workload, server: Server, contenders: Sequence[Contender]) -> None:
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


def _reached(choice: _Choice, results: Results) -> list[Reached]:
    """The goals are about the real server."""
    return results.goals(TERZETTO) if choice.server == "zookeeper" else []


def _show(choice: _Choice, results: Results, about: Sequence[str]) -> None:
    print("\n".join(about))
    print()
    print(text_tables(results, choice.effort))
    reached = _reached(choice, results)
    if reached:
        print()
        print(text_goals(reached))


def _write(choice: _Choice, results: Results, about: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name, title = ("results", "Results") if choice.server == "zookeeper" else ("null-server", "The clients' own cost")
    picture: str | None = f"{name}.svg"
    try:
        from .picture import draw

        draw(results, choice.effort, folder / f"{name}.svg")
    except ImportError as error:
        print(f"no picture: {error}", file=sys.stderr)
        picture = None
    words = " ".join(choice.words)
    commands = [f"make bench ARGS='{words}'" if words else "make bench", f"python -m tests.benchmarks {words}".rstrip()]
    page = markdown_page(
        results,
        choice.effort,
        title=title,
        about=about,
        commands=commands,
        reached=_reached(choice, results),
        picture=picture,
    )
    (folder / f"{name}.md").write_text(page, encoding="utf-8")
    print(f"\nwritten: {folder / name}.md", file=sys.stderr)


def _run(choice: _Choice, directory: Path) -> None:
    contenders, missing = find_contenders(directory)
    contenders = [contender for contender in contenders if contender.name in choice.clients]
    for line in missing:
        print(line, file=sys.stderr)
    if not contenders:
        sys.exit("no client to measure")
    with _open_server(choice, directory) as server:
        if choice.profile is not None:
            _profile(choice, choice.profile, server, contenders)
            return
        warm_up(server, contenders, choice.workloads, choice.effort)
        results = run_rounds(server, contenders, choice.workloads, choice.effort, choice.rounds)
        about = [
            *describe_run(server, contenders),
            f"Rounds: {choice.rounds}, after {choice.effort.uncounted_rounds} that did not count",
        ]
    _show(choice, results, about)
    folder = choice.output or (_PAGES if choice.is_whole and not missing else None)
    if folder is not None:
        _write(choice, results, about, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status (1: a client or the server failed, 3: no ZooKeeper or no compiler)."""
    choice = _choose(sys.argv[1:] if arguments is None else arguments)
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
