"""`python -m terzetto.client.kazoo`: programs run as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "import sys, kazoo.client, neighbour\nprint(kazoo.client.KazooClient.__module__, sys.argv[1:], __name__)\n"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "terzetto.client.kazoo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("")
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def test_a_script_runs(folder: Path) -> None:
    done = run(str(folder / "program.py"), "-x", "1", cwd=folder.parent)
    assert (done.stdout, done.stderr) == ("terzetto.client.kazoo.client ['-x', '1'] __main__\n", "")


def test_a_module_runs(folder: Path) -> None:
    done = run("-m", "program", "a", cwd=folder)
    assert (done.stdout, done.stderr) == ("terzetto.client.kazoo.client ['a'] __main__\n", "")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "usage"),
        (["--help"], 0, "Runs a program"),
        (["-m"], 2, "name of a module"),
        (["none.py"], 2, "there is no file 'none.py'"),
    ],
)
def test_what_cannot_be_run_is_said(folder: Path, arguments: list[str], status: int, said: str) -> None:
    done = run(*arguments, cwd=folder)
    assert done.returncode == status
    assert said in done.stderr
