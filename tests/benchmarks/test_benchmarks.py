"""The harness at tiny sizes with real servers and clients, and its arithmetic. Nothing depends on how fast they are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .__main__ import main
from .conftest import ScriptedContender
from .contenders import Contender, DriverFailed, find_contenders
from .report import format_time
from .results import Measurement, Results, percentile
from .rounds import run_rounds
from .servers import Server
from .workloads import DROPIN, GOALS, KAZOO, TERZETTO, WORKLOADS, C, Effort, Goal, Plan, Workload

PAGES = Path(__file__).parents[2] / "docs" / "performance"
PLAN = Plan("127.0.0.1:1", "read", operations=1, warmup=0, batches=1, callers=1)


def written_pages() -> dict[str, int]:
    """The pages of the documentation, and when they were written."""
    return {file.name: file.stat().st_mtime_ns for file in PAGES.glob("*")}


def _rows(page: str, workload: Workload) -> dict[str, list[str]]:
    """A workload's table on a page: the columns of each client."""
    title = workload.describe(Effort.TINY)
    start = page.index(f"### {title[0].upper()}{title[1:]}")
    table = page[start:].split("\n\n")[1]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {line[0].strip("*"): line[1:] for line in lines[2:]}


def _check_page(page: str, workloads: list[Workload]) -> None:
    for workload in workloads:
        rows = _rows(page, workload)
        assert list(rows) == [TERZETTO, DROPIN, KAZOO, C]
        for client, cells in rows.items():
            assert len(cells) == 10
            assert all(cells)
            # A client has no ratio to itself, all others have.
            assert cells.count("-") == (0 if client in (TERZETTO, DROPIN) else 3)
            assert float(cells[0].replace(",", "")) > 0


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.usefixtures("zookeeper_installed", "all_contenders")
def test_a_run_on_the_real_server_fills_every_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = written_pages()
    assert main(["--tiny", "--only", "clients", "--output", str(tmp_path)]) == 0
    _check_page((tmp_path / "results.md").read_text(encoding="utf-8"), list(WORKLOADS))
    shown = capsys.readouterr().out
    assert "Apache ZooKeeper 3." in shown
    assert shown.count("  met\n") + shown.count("  missed\n") == len(GOALS)
    assert written_pages() == before


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.usefixtures("all_contenders")
def test_a_run_on_the_null_server_measures_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--server", "null", "--output", str(tmp_path)]) == 0
    page = (tmp_path / "null-server.md").read_text(encoding="utf-8")
    _check_page(page, [workload for workload in WORKLOADS if workload.reads_only])
    assert "Goals" not in page
    assert "write" not in capsys.readouterr().out


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.usefixtures("all_contenders")
def test_a_part_of_a_run_is_only_shown(capsys: pytest.CaptureFixture[str]) -> None:
    before = written_pages()
    assert main(["--tiny", "--server", "null", "--workload", "read", "--client", "C"]) == 0
    shown = capsys.readouterr().out
    assert ("blocking read" in shown, "concurrent" in shown, TERZETTO in shown.split("Rounds:")[1]) == (
        True,
        False,
        False,
    )
    assert written_pages() == before


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.usefixtures("all_contenders")
def test_a_profile_names_functions(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--server", "null", "--profile", "pipelined-read"]) == 0
    shown = capfd.readouterr()
    assert "20 pipelined reads" in shown.out
    assert "tottime" in shown.err
    assert "_pipeline.py" in shown.err


@pytest.mark.parametrize(
    "arguments",
    [["--server", "null", "--workload", "write"], ["--rounds", "0"], ["--workload", "nonsense"], ["--quick", "--tiny"]],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_client_that_cannot_be_built_is_named_and_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "false")
    found, missing = find_contenders(tmp_path)
    assert C not in [contender.name for contender in found]
    assert any("libzookeeper-mt-dev" in line for line in missing)


def test_a_driver_that_fails_ends_the_run_with_its_words() -> None:
    failing = Contender(KAZOO, "", (sys.executable, "-ISc", "raise SystemExit('no such znode')"), {})
    with pytest.raises(DriverFailed, match="no such znode"):
        failing.measure(PLAN)


def test_the_order_turns_round_and_the_first_round_does_not_count(
    scripted_contender: ScriptedContender, journal: Path
) -> None:
    contenders = [scripted_contender(name) for name in (TERZETTO, KAZOO, C)]
    server = Server("127.0.0.1:1", "", lambda: None)
    results = run_rounds(server, contenders, WORKLOADS[:1], Effort.QUICK, rounds=2)
    forward = [TERZETTO, KAZOO, C]
    assert journal.read_text(encoding="utf-8").split() == [*reversed(forward), *forward, *reversed(forward)]
    assert {key: len(rounds) for key, rounds in results.rounds.items()} == {("read", name): 2 for name in forward}


def _results(**rates: list[float]) -> Results[Workload]:
    """One workload, with each client's operations per second in each round."""
    results = Results(WORKLOADS[:1], list(rates))
    for client, of_rounds in rates.items():
        for rate in of_rounds:
            nanoseconds = round(1e9 / rate)
            results.add(
                WORKLOADS[0],
                client,
                Measurement(operations=1, wall_ns=nanoseconds, cpu_ns=2 * nanoseconds, samples_ns=[nanoseconds]),
            )
    return results


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The machine is ten times slower in the second round; the ratio of the medians would be 200 / 10.
    results = _results(terzetto=[200, 40, 300], kazoo=[100, 10, 10])
    assert results.ratio("read", TERZETTO, KAZOO, "rate") == pytest.approx((4, 2, 30), rel=1e-3)
    assert results.median("read", TERZETTO, "rate") == pytest.approx(200)
    assert results.median("read", TERZETTO, "cpu") == pytest.approx(10_000)
    assert results.median("read", TERZETTO, "p50") == pytest.approx(5_000)


def test_goals_without_their_measurements_are_left_out() -> None:
    (reached,) = _results(terzetto=[100], kazoo=[40]).goals(GOALS)
    assert (reached.goal.base, reached.met) == (KAZOO, True)
    (reached,) = _results(terzetto=[100], kazoo=[50]).goals(GOALS)
    assert reached.ratio.median == pytest.approx(0.5)
    assert not reached.met


@pytest.mark.parametrize(("at_most", "ratio", "met"), [(True, 1.2, True), (True, 1.3, False), (False, 1.1, False)])
def test_a_goal_has_a_direction(at_most: bool, ratio: float, met: bool) -> None:
    assert Goal("read", "p50", C, 1.2, at_most).met_by(ratio) == met


@pytest.mark.parametrize(
    ("samples", "fraction", "expected"),
    [
        ([5], 0.99, 5),
        ([3, 1, 2], 0.5, 2),
        ([4, 3, 2, 1], 0.5, 2),
        (range(100), 0.99, 98),
        (range(101), 0.99, 99),
        (range(1, 11), 0.99, 10),
    ],
)
def test_percentiles_are_samples(samples: list[int], fraction: float, expected: int) -> None:
    assert percentile(samples, fraction) == expected


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (5.678, "5.68 us"),
        (166.4, "166 us"),
        (999.7, "1 ms"),
        (1234, "1.23 ms"),
        (340_000, "340 ms"),
        (2.35e6, "2.35 s"),
    ],
)
def test_times_have_the_unit_that_suits_them(microseconds: float, text: str) -> None:
    assert format_time(microseconds) == text


def test_a_plan_survives_the_command_line() -> None:
    for workload in WORKLOADS:
        plan = workload.plan("127.0.0.1:2181", Effort.FULL)
        assert Plan.from_arguments(plan.arguments()) == plan


def test_concurrent_callers_share_the_operations_without_a_rest() -> None:
    for workload in WORKLOADS:
        for sizes in workload.sizes.values():
            assert sizes.operations % workload.callers == 0


def test_every_goal_is_about_something_that_is_measured() -> None:
    assert {goal.workload for goal in GOALS} <= {workload.name for workload in WORKLOADS}
