"""WebSockets in the harness at tiny sizes, with real gateways. Nothing depends on how fast they are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .__main__ import main
from .choosing import choose
from .contenders import find_contenders
from .gateway_report import cells, header
from .gateway_rounds import run_gateway_rounds
from .gateway_workloads import (
    EXTENTS,
    GATEWAY,
    GATEWAY_GOALS,
    GATEWAY_WORKLOADS,
    GATEWAY_WS,
    GATEWAY_WSS,
    OWN_WS,
    TCP,
    WAYS,
    way_to,
)
from .report import text_goals
from .results import Reached, Reading, Results
from .server_kinds import find_server_kinds
from .server_workloads import IN_MEMORY, SERVER_WORKLOADS
from .test_benchmarks import written_pages
from .workloads import TERZETTO, WORKLOADS, Effort

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.usefixtures("zookeeper_installed")
@needs_linux
@pytest.mark.soak  # half a minute; what it runs has a test of its own
def test_a_run_of_all_ways_fills_every_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = written_pages()
    assert main(["--tiny", "--only", "gateways", "--output", str(tmp_path)]) == 0
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    for workload in GATEWAY_WORKLOADS:
        table = page[page.index(f"### By WebSocket: {workload.describe(Effort.TINY)}") :].split("\n\n")[1]
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        assert [line[0] for line in lines[2:]] == list(workload.ways)
        assert all(len(line) == 1 + len(header(workload)) and all(line[1:]) for line in lines)
    shown = capsys.readouterr().out
    assert shown.count("  met\n") + shown.count("  missed\n") == len(GATEWAY_GOALS)
    assert written_pages() == before


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.usefixtures("zookeeper_installed")
@needs_linux
def test_ways_take_turns_and_a_gateway_holds_clients(tmp_path: Path) -> None:
    client = next(one for one in find_contenders(tmp_path)[0] if one.name == TERZETTO)
    kinds = [kind for kind in find_server_kinds(tmp_path) if kind.name == IN_MEMORY]
    workloads = [one for one in GATEWAY_WORKLOADS if one.name in ("gateway-concurrent-read", "gateway-held")]
    results = run_gateway_rounds(client, kinds, workloads, Effort.TINY, 1, tmp_path)
    open_ways = [way_to(IN_MEMORY, way) for way in (TCP, GATEWAY_WS, GATEWAY_WSS, OWN_WS)]
    expected = [("gateway-concurrent-read", way) for way in open_ways] + [("gateway-held", GATEWAY)]
    assert list(results.rounds) == expected
    for way in open_ways:
        assert all(cells(results, workloads[0], way))
        assert results.median("gateway-concurrent-read", way, "rate") > 0
    assert results.median("gateway-held", GATEWAY, "held") == EXTENTS[Effort.TINY].clients
    assert results.median("gateway-held", GATEWAY, "full") >= results.median("gateway-held", GATEWAY, "empty") > 0
    assert results.median("gateway-held", GATEWAY, "p99") > 0
    # Goals only about what was measured.
    assert {one.goal.of for one in results.goals(GATEWAY_GOALS)} == {*open_ways[1:3], GATEWAY}


def test_a_whole_run_has_gateways_and_a_part_of_it_may_have_nothing_else() -> None:
    whole = choose([])
    assert whole.is_whole
    assert list(whole.gateway_workloads) == list(GATEWAY_WORKLOADS)
    only = choose(["--only", "gateways"])
    assert (only.workloads, only.recipe_workloads, only.server_workloads, only.is_whole) == ([], [], [], False)
    assert list(only.gateway_workloads) == list(GATEWAY_WORKLOADS)
    assert [one.name for one in choose(["--workload", "gateway-held"]).gateway_workloads] == ["gateway-held"]
    for arguments in (["--server", "null"], ["--client", "C"], ["--only", "servers"]):
        assert choose(arguments).gateway_workloads == []
    with pytest.raises(SystemExit):
        choose(["--server", "null", "--workload", "gateway-read"])


def test_ways_are_compared_with_tcp_to_the_same_server() -> None:
    names = {workload.name for workload in (*WORKLOADS, *SERVER_WORKLOADS)}
    for workload in GATEWAY_WORKLOADS:
        assert workload.name not in names
        for way in workload.ways:
            base = workload.base_of(way)
            assert base is None or (base in WAYS and base.split(", ")[0] == way.split(", ")[0])
            assert (base is None) == (way == GATEWAY or way.endswith(TCP))
    for goal in GATEWAY_GOALS:
        workload = next(one for one in GATEWAY_WORKLOADS if one.name == goal.workload)
        assert goal.of in workload.ways
        assert workload.base_of(goal.of) == goal.base


def test_clients_that_are_held_are_a_number() -> None:
    held = GATEWAY_GOALS[-1]
    results = Results(GATEWAY_WORKLOADS[-1:], [GATEWAY])
    results.add(GATEWAY_WORKLOADS[-1], GATEWAY, Reading({"held": 999}))
    (reached,) = results.goals([held])
    assert isinstance(reached, Reached)
    assert not reached.met
    assert "at least 1000" in text_goals([reached])
    assert "999" in text_goals([reached])
