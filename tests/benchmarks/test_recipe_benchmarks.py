"""The comparison of recipes at tiny sizes, with a real server and clients. Nothing depends on how fast they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from .__main__ import main
from .choosing import choose
from .conftest import ScriptedContender
from .contenders import Contender
from .recipe_contenders import recipe_contenders
from .recipe_workloads import (
    RECIPE_GOALS,
    RECIPE_WORKLOADS,
    check_children,
    tree_groups,
    tree_path,
)
from .test_benchmarks import written_pages
from .workloads import DROPIN, KAZOO, TERZETTO, WORKLOADS, C, Effort, Plan


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.usefixtures("zookeeper_installed", "all_contenders")
@pytest.mark.parametrize(
    ("chosen", "clients"),
    [
        (["lock", "tree-cache"], [TERZETTO, KAZOO]),
        pytest.param([one.name for one in RECIPE_WORKLOADS], [TERZETTO, DROPIN, KAZOO], marks=pytest.mark.soak),
    ],
)
def test_recipes_are_measured_beside_kazoo_s(
    chosen: list[str], clients: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written_pages()
    arguments = [f"--workload={name}" for name in chosen] + [f"--client={name}" for name in clients]
    assert main(["--tiny", *arguments, "--output", str(tmp_path)]) == 0
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "## Recipes, on one server" in page
    for workload in [one for one in RECIPE_WORKLOADS if one.name in chosen]:
        title = workload.describe(Effort.TINY)
        table = page[page.index(f"### {title[0].upper()}{title[1:]}") :].split("\n\n")[1]
        rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        assert [row[0] for row in rows] == clients
        assert all(float(row[1].replace(",", "")) > 0 for row in rows)
    shown = capsys.readouterr().out
    assert shown.count("  met\n") + shown.count("  missed\n") == len(RECIPE_GOALS)
    assert written_pages() == before


def test_clients_without_recipes_are_left_out(scripted_contender: ScriptedContender) -> None:
    terzetto = Contender(TERZETTO, "", ("python", "-m", "tests.benchmarks.drive_terzetto"), {})
    drop_in = Contender(DROPIN, "", ("python", "-m", "terzetto.client.kazoo", "-m", "tests.benchmarks.drive_kazoo"), {})
    found = recipe_contenders([terzetto, drop_in, scripted_contender(C)])
    assert [(one.name, one.command[-1]) for one in found] == [
        (TERZETTO, "tests.benchmarks.drive_terzetto_recipes"),
        (DROPIN, "tests.benchmarks.drive_kazoo_recipes"),
    ]
    assert found[1].command[:3] == drop_in.command[:3]


def test_a_whole_run_has_recipes_and_one_on_the_null_server_has_none() -> None:
    whole = choose([])
    assert whole.is_whole
    assert list(whole.recipe_workloads) == list(RECIPE_WORKLOADS)
    assert choose(["--server", "null"]).recipe_workloads == []
    only = choose(["--only", "recipes"])
    assert (only.workloads, only.server_workloads, only.is_whole) == ([], [], False)
    assert choose(["--workload", "lock"]).recipe_workloads == [RECIPE_WORKLOADS[0]]
    assert choose(["--profile", "queue"]).profile is RECIPE_WORKLOADS[2]


def test_names_of_workloads_are_their_own() -> None:
    names = [workload.name for workload in (*WORKLOADS, *RECIPE_WORKLOADS)]
    assert len(set(names)) == len(names)
    assert {goal.workload for goal in RECIPE_GOALS} <= set(names)
    for workload in RECIPE_WORKLOADS:
        assert Plan.from_arguments(workload.plan("h:1", Effort.FULL).arguments()).workload == workload.name
        assert all(sizes.operations % workload.callers == 0 for sizes in workload.sizes.values())
        assert all(sizes.warmup % workload.callers == 0 for sizes in workload.sizes.values())


@pytest.mark.parametrize("znodes", [20, 200, 1_000, 10_000])
def test_the_cached_tree_has_as_many_znodes_as_it_says(znodes: int) -> None:
    groups = tree_groups(znodes)
    items = [item for of_one in groups.values() for item in of_one]
    assert len(set(items)) == len(items) == znodes
    assert all(group.startswith(f"{tree_path(znodes)}/") for group in groups)
    assert all(item.startswith(f"{group}/") for group, of_one in groups.items() for item in of_one)


def test_a_cache_that_is_not_complete_is_noticed() -> None:
    check_children({"a", "b"}, ["/x/a", "/x/b"])
    for names in (None, set[str](), {"a"}):
        with pytest.raises(RuntimeError, match="are not the names"):
            check_children(names, ["/x/a", "/x/b"])
