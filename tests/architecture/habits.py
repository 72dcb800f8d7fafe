"""Habits of tests and texts: every module has its tests, no test sleeps, nothing names a machine or a workplace."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from .tree import SourceFile, SourceTree, dotted

# Product module -> the tests that cover it, where those are not its mirror image.
COVERED_ELSEWHERE: Mapping[str, str] = {
    "client/_commands.py": "tests/client/test_client.py",
    "client/_names.py": "tests/client/test_init.py",
    "client/kazoo/interfaces.py": "tests/client/kazoo/test_modules.py",
    "client/kazoo/loggingsupport.py": "tests/client/kazoo/test_modules.py",
    "client/kazoo/pytest_plugin.py": "tests/testcluster/test_pytest_plugin.py",
    "client/kazoo/version.py": "tests/client/kazoo/test_modules.py",
    "testcluster/cli/demo.py": "tests/interop/test_demo.py",
    "testcluster/cli/gateway_options.py": "tests/testcluster/cli/test_gateway.py",
    "testcluster/cli/log_lines.py": "tests/testcluster/cli/test_gateway.py",
}

# (file, function) -> why it may wait on the real clock.
REAL_WAITS: Mapping[tuple[str, str], str] = {
    ("tests/interop/zookeeper.py", "_polls"): "pause between two looks at an external process, inside a deadline",
    ("tests/interop/doors.py", "_looks"): "pause between two looks at an external process, inside a deadline",
    (
        "tests/interop/kerberos.py",
        "KerberosRealm.start",
    ): "pause between two looks at an external process, inside a deadline",
    ("tests/interop/patroni_nodes.py", "wait_until"): "pause between two looks at two nodes, inside a deadline",
    ("tests/benchmarks/processes.py", "_wait_answered"): "pause between two looks at a process, inside a deadline",
    ("tests/interop/test_zookeeper_harness.py", "_await"): "pause between two looks at a condition, inside a deadline",
    ("tests/interop/test_client_failures.py", "test_a_session_outlives_a_total_outage"): "the outage's length",
    ("tests/soak/test_client_under_faults.py", "break_things"): "how long a fault goes on",
    ("tests/soak/test_ensemble_nemesis.py", "pass_time"): "how long a fault goes on, and the pace of the load",
    ("tests/soak/test_gateway_fuzz.py", "witness"): "the pace of a client that behaves",
    ("tests/testcluster/hostile_web.py", "HostileVisitor._say"): "the pace of a hostile client; in make test virtual",
    ("tests/testcluster/test_hostile_web.py", "Fire.volley"): "virtual: what calls it has the clock",
    ("tests/testcluster/test_hostile_web.py", "under_fire"): "virtual: what calls it has the clock",
    ("tests/testcluster/cli/test_forked.py", "until"): "pause between two looks at other processes, inside a deadline",
}

_SLEEPS = re.compile(r"(?:time|asyncio)\.sleep")
_VIRTUAL = re.compile(r"(?:trio\.)?sleep")

# In pieces, so that this file does not find itself.
_MACHINE = [
    "/" + "work/",
    "/" + "root/" + r"[.\w]",
    "/" + r"home/\w+/",
    "/" + "tmp/(?:team|bash_jobs)",
    "/" + "opt/(?:wheels|py" + "pi)",
]
_WORKPLACE = [
    r"\bfarm" + r"-\w",
    r"\bissues " + r"show\b",
    r"\bshared/" + r"(?:spec|interop|hooks|design|style)",
    r"\bspec/" + r"(?:client-protocol|zab-protocol|kazoo-api|curator-recipes|performance)",
    r"\b(?:client-protocol|zab-protocol|kazoo-api|curator-recipes|style|brief)" + r"\.md\b",
    r"\bsub-?" + r"agents?\b",
    r"\bAnth" + "ropic",
    r"\bClau" + "de",
]
_REGISTRIES = [r"\bpy" + r"pi\.org", r"\bpython" + r"hosted\.org", r"\bregistry\.npm" + r"js", r"\brepo1?\.maven"]
_FORBIDDEN = re.compile("|".join(_MACHINE + _WORKPLACE + _REGISTRIES), re.IGNORECASE)


def untested_modules(tree: SourceTree) -> list[str]:
    """Product modules without a mirrored test module (`client/_x.py`: `tests/client/test_x.py`, or `test_x_*.py`)."""
    tests = {file.name for file in tree.python("tests")}
    found: list[str] = []
    for file in tree.product():
        folder, _, name = file.name.rpartition("/")
        stem = name.removesuffix(".py")
        if stem == "__init__":
            continue
        mirror = f"tests/{folder}/test_{stem.strip('_')}"
        elsewhere = COVERED_ELSEWHERE.get(file.name)
        if elsewhere is not None and elsewhere in tests:
            continue
        if not any(test == f"{mirror}.py" or test.startswith(f"{mirror}_") for test in tests):
            found.append(f"{file.name}: expected {mirror}.py, or an entry in COVERED_ELSEWHERE")
    return found


def stale_coverage_entries(tree: SourceTree) -> list[str]:
    """Entries of the table for modules that are gone. (One whose tests are gone fails as untested.)"""
    return sorted(set(COVERED_ELSEWHERE) - {file.name for file in tree.product()})


def forbidden_words(tree: SourceTree) -> list[str]:
    """Lines that name a path of somebody's machine, a tool of somebody's workplace, or a registry's host."""
    found: list[str] = []
    for path in tree.paths():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = path.relative_to(tree.root).as_posix()
        for number, line in enumerate(text.splitlines(), 1):
            word = _FORBIDDEN.search(line)
            if word:
                found.append(f"{name}:{number}: {word.group()!r}")
    return found


def sleeps(tree: SourceTree) -> Iterator[tuple[tuple[str, str], int]]:
    """Waits on the real clock in tests: ((file, outermost function), line).

    `time.sleep` always; `trio.sleep` of anything but 0 unless virtual time is at hand: the outermost function asks for
    `autojump_clock` or `mock_clock` or makes a `MockClock`, or the whole module uses the fixture.
    """
    for file in tree.python("tests"):
        whole_module = _names_virtual_time([node for node in file.tree.body if _is_pytestmark(node)])
        yield from _sleeps(file, file.tree, (), whole_module)


def _sleeps(
    file: SourceFile, node: ast.AST, outer: tuple[str, ...], virtual: bool
) -> Iterator[tuple[tuple[str, str], int]]:
    for child in ast.iter_child_nodes(node):
        path, inside_virtual = outer, virtual
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            path = (*outer, child.name)
            inside_virtual = virtual or (not isinstance(child, ast.ClassDef) and _names_virtual_time([child]))
        if isinstance(child, ast.Call):
            name = dotted(child.func)
            zero = bool(child.args) and isinstance(child.args[0], ast.Constant) and child.args[0].value == 0
            if _SLEEPS.fullmatch(name) or (_VIRTUAL.fullmatch(name) and not zero and not virtual):
                yield (file.name, ".".join(outer)), child.lineno
        yield from _sleeps(file, child, path, inside_virtual)


def _is_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(dotted(target) == "pytestmark" for target in node.targets)


def _names_virtual_time(nodes: list[ast.stmt]) -> bool:
    words = {"autojump_clock", "mock_clock", "MockClock"}
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.arg) and node.arg in words:
                return True
            if isinstance(node, ast.Constant) and node.value in words:
                return True
            if isinstance(node, ast.Name | ast.Attribute) and dotted(node).rpartition(".")[2] in words:
                return True
    return False
