"""Runs the Python blocks of Markdown pages as they stand there.

A block is a fence marked `python`. It runs as a program; where it awaits at the top level, inside a trio task with
`trio` at hand. What a block may leave to its reader, and this module supplies:

- the address `127.0.0.1:2181` in a string stands for the test's server, as does a variable `hosts` that nobody sets;
- a variable `zk` that nobody sets is an open client of that server.

An HTML comment on the lines before a fence says how the block is meant:

    <!-- snippet: continues -->              goes on where the block before it ended, with its variables
    <!-- snippet: raises NoNodeError -->     must end with this exception
    <!-- snippet: not run, REASON -->        only to be read

Knows no particular server and no page. Every block or chain of blocks starts on an empty tree.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import trio

ADDRESS = "127.0.0.1:2181"
SECONDS_MAX = 60.0

_FENCE = re.compile(
    r"(?:^[ \t]*<!-- snippet: (?P<marker>.*?) -->[ \t]*\n\s*)?"
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,})(?:python|\{code-block\} python)[ \t]*\n"
    r"(?P<code>.*?)^(?P=indent)(?P=fence)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


class MarkerError(Exception):
    """A marker that says nothing this module knows."""


@dataclass(frozen=True)
class Block:
    """One fence: its text, the line of its first statement, and its marker."""

    page: str
    line: int
    text: str
    marker: str

    @property
    def continues(self) -> bool:
        return self.marker == "continues"

    @property
    def raises(self) -> str | None:
        return self.marker.removeprefix("raises ") if self.marker.startswith("raises ") else None

    @property
    def is_read_only(self) -> bool:
        return self.marker.startswith("not run, ")

    def syntax(self) -> ast.Module:
        """The block's tree, with the page's line numbers."""
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = cast(ast.Module, compile(self.text, self.page, "exec", flags=flags, dont_inherit=True))
        ast.increment_lineno(tree, self.line - 1)
        return tree


class Chain(tuple[Block, ...]):
    """Blocks that share their variables: a first one and those that continue it."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self[0].page}:{self[0].line}"

    @property
    def needs_client(self) -> bool:
        return "zk" in self._left_to_the_reader()

    @property
    def needs_server(self) -> bool:
        constants = (
            node.value for block in self for node in ast.walk(block.syntax()) if isinstance(node, ast.Constant)
        )
        return bool(self._left_to_the_reader() & {"zk", "hosts"}) or any(
            isinstance(value, str) and ADDRESS in value for value in constants
        )

    def _left_to_the_reader(self) -> set[str]:
        used, bound = set[str](), set[str]()
        for node in (node for block in self for node in ast.walk(block.syntax())):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
        return used - bound


def find_blocks(page: str, text: str) -> Iterator[Block]:
    """The Python blocks of a page.

    Raises:
        MarkerError: a marker that is not one of those above, or stands before no block.
    """
    used = 0
    for found in _FENCE.finditer(text):
        marker = found["marker"] or ""
        used += found["marker"] is not None
        if marker and not re.fullmatch(r"continues|raises \w+|not run, \w.*", marker):
            raise MarkerError(f"{page}: unknown marker {marker!r}")
        line = text.count("\n", 0, found.start("code")) + 1
        yield Block(page, line, textwrap.dedent(found["code"]), marker)
    if text.count("<!-- snippet:") != used:
        raise MarkerError(f"{page}: a marker stands before no Python block")


def find_chains(page: str, text: str) -> list[Chain]:
    """The blocks of a page that are to be run, in chains.

    Raises:
        MarkerError: see `find_blocks`; or a first block that continues nothing.
    """
    chains: list[list[Block]] = []
    for block in find_blocks(page, text):
        if block.is_read_only:
            continue
        if not block.continues:
            chains.append([block])
        elif chains:
            chains[-1].append(block)
        else:
            raise MarkerError(f"{page}:{block.line}: continues, but there is nothing before it")
    return [Chain(chain) for chain in chains]


def pages(root: Path) -> list[Path]:
    """README.md and every page below docs."""
    return [root / "README.md", *sorted(path for path in root.glob("docs/**/*.md") if "_build" not in path.parts)]


class _Readdress(ast.NodeTransformer):
    """Puts the test's server in the place of the address that stands in the page."""

    def __init__(self, hosts: str) -> None:
        self._hosts = hosts

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str) and ADDRESS in node.value:
            return ast.copy_location(ast.Constant(node.value.replace(ADDRESS, self._hosts)), node)
        return node


def run_chain(chain: Chain, hosts: str | None) -> None:
    """Runs the blocks of a chain in order; whatever they raise is raised, unless a marker expects it.

    Args:
        chain: what to run.
        hosts: connect string of the test's server, where one is needed.
    """
    namespace: dict[str, Any] = {"__name__": "__main__", "hosts": hosts}
    codes = [_compile(block, hosts) for block in chain]
    if chain.needs_client or any(code.co_flags & inspect.CO_COROUTINE for code in codes):
        namespace["trio"] = trio
        trio.run(_run_in_task, chain, codes, namespace)
        return
    for block, code in zip(chain, codes, strict=True):
        with _Expected(block):
            exec(code, namespace)  # noqa: S102  # running the page is the point


def _compile(block: Block, hosts: str | None) -> Any:
    tree = block.syntax()
    if hosts is not None:
        tree = _Readdress(hosts).visit(tree)
    return compile(tree, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


async def _run_in_task(chain: Chain, codes: list[Any], namespace: dict[str, Any]) -> None:
    with trio.fail_after(SECONDS_MAX):
        if chain.needs_client:
            from terzetto.client import open_zookeeper

            async with open_zookeeper(namespace["hosts"]) as zk:
                namespace["zk"] = zk
                await _run_codes(chain, codes, namespace)
        else:
            await _run_codes(chain, codes, namespace)


async def _run_codes(chain: Chain, codes: list[Any], namespace: dict[str, Any]) -> None:
    for block, code in zip(chain, codes, strict=True):
        with _Expected(block):
            result = eval(code, namespace)  # noqa: S307  # as above; gives a coroutine where the block awaits
            if inspect.iscoroutine(result):
                await result


class _Expected:
    """Accepts the exception that the block's marker names, and insists on it."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        expected = self._block.raises
        if expected is None:
            return False
        if kind is None:
            raise AssertionError(f"{self._block.page}:{self._block.line}: did not raise {expected}")
        return kind.__name__ == expected
