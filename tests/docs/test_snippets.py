"""Every Python block of the README and the pages runs, and every example; the harness itself is seen to bite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from terzetto.testcluster import start_ensemble
from tests.architecture.tree import ROOT
from tests.interop.zookeeper import RealZooKeeper

from .snippets import Chain, MarkerError, find_chains, pages, run_chain


def _chains_of_all_pages() -> list[Any]:
    chains = [
        chain
        for page in pages(ROOT)
        for chain in find_chains(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))
    ]
    return [
        pytest.param(chain, id=str(chain), marks=[pytest.mark.interop] if chain.needs_server else [])
        for chain in chains
    ]


@pytest.mark.parametrize("chain", _chains_of_all_pages())
def test_snippet(chain: Chain, request: pytest.FixtureRequest) -> None:
    server: RealZooKeeper | None = request.getfixturevalue("empty_server") if chain.needs_server else None
    run_chain(chain, None if server is None else server.hosts)


def test_the_tutorial_is_followed_on_one_server_and_once_more() -> None:
    """As its reader does: no step needs an empty server, none leaves anything behind that is in the way of another."""
    chains = find_chains("docs/tutorial.md", (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    with start_ensemble(servers=1) as ensemble:
        for chain in (*chains, *chains):
            run_chain(chain, ensemble.hosts)


@pytest.mark.interop
@pytest.mark.parametrize("example", sorted((ROOT / "docs" / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example(example: Path, empty_server: RealZooKeeper) -> None:
    """An example is a program that takes the connect string as its argument and ends by itself."""
    run = subprocess.run(
        [sys.executable, "-W", "error", example, empty_server.hosts],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, ""), run.stdout + run.stderr


def _page(*blocks: str, fence: str = "```") -> list[Chain]:
    return find_chains(
        "page.md", "\n".join(f"{marker}\n{fence}python\n{code}\n{fence}\ntext" for marker, code in map(_split, blocks))
    )


def _split(block: str) -> tuple[str, str]:
    marker, separator, code = block.partition(" | ")
    return (f"<!-- snippet: {marker} -->", code) if separator else ("", marker)


def _run(chains: list[Chain]) -> None:
    for chain in chains:
        run_chain(chain, None)


def test_a_failing_block_fails_with_the_page_and_its_line() -> None:
    with pytest.raises(AssertionError) as caught:
        _run(_page("x = 1", "assert False"))
    assert str(caught.traceback[-1].path).endswith("page.md")
    assert caught.traceback[-1].lineno + 1 == 8


def test_a_failing_block_that_awaits_fails() -> None:
    with pytest.raises(AssertionError):
        _run(_page("await trio.lowlevel.checkpoint()\nassert False"))


def test_blocks_are_on_their_own_unless_they_continue() -> None:
    _run(_page("x = 1", "continues | assert x == 1"))
    with pytest.raises(NameError):
        _run(_page("x = 1", "assert x == 1"))


def test_blocks_that_await_share_their_variables_too() -> None:
    _run(_page("x = await trio.to_thread.run_sync(int)", "continues | assert x == 0"))


def test_an_expected_exception_must_come() -> None:
    _run(_page("raises ValueError | int('x')"))
    with pytest.raises(AssertionError, match="did not raise ValueError"):
        _run(_page("raises ValueError | int('1')"))
    with pytest.raises(TypeError):
        _run(_page("raises ValueError | int(None)"))


def test_what_is_only_to_be_read_is_not_run() -> None:
    assert _page("not run, it needs a Kerberos realm | 1 / 0") == []


@pytest.mark.parametrize("marker", ["skip", "not run", "not run, ", "raises", "raises two words"])
def test_an_unknown_marker_is_refused(marker: str) -> None:
    with pytest.raises(MarkerError, match="unknown marker"):
        _page(f"{marker} | pass")


def test_a_marker_without_a_block_is_refused() -> None:
    with pytest.raises(MarkerError, match="before no Python block"):
        find_chains("page.md", "<!-- snippet: continues -->\ntext\n```python\npass\n```\n")


def test_a_first_block_cannot_continue() -> None:
    with pytest.raises(MarkerError, match="nothing before it"):
        _page("continues | pass")


def test_indented_and_longer_fences_are_found() -> None:
    (chain,) = find_chains("page.md", "- item\n\n    ```python\n    if True:\n        x = 1\n    ```\n")
    assert chain[0].text == "if True:\n    x = 1\n"
    (chain,) = _page('x = """\n```\n"""', fence="````")
    assert "```" in chain[0].text


def test_other_languages_are_left_alone() -> None:
    assert find_chains("page.md", "```text\nx\n```\n```pycon\n>>> 1\n```\n```\nx\n```\n") == []


@pytest.mark.parametrize(
    ("code", "needs"),
    [
        ("print(hosts)", True),
        ("hosts = 'a:1'\nprint(hosts)", False),
        ("async def main(hosts): print(hosts)", False),
        ("await zk.get('/')", True),
        ("async with open_zookeeper('127.0.0.1:2181/chroot') as zk:\n    await zk.get('/')", True),
        ("x = '127.0.0.1:2182'", False),
    ],
)
def test_who_needs_a_server(code: str, needs: bool) -> None:
    (chain,) = _page(code)
    assert chain.needs_server == needs


_WITH_KAZOO = """
import kazoo.client

client = kazoo.client.KazooClient("127.0.0.1:2181")
client.start()
try:
    assert client.get_children("/") == ["zookeeper"]
    client.create("/left", b"behind")
finally:
    client.stop()
    client.close()
"""


@pytest.mark.interop
@pytest.mark.parametrize("time", ["first", "again"])
def test_the_address_stands_for_an_empty_server(time: str, empty_server: RealZooKeeper) -> None:
    (chain,) = _page(_WITH_KAZOO)
    run_chain(chain, empty_server.hosts)
