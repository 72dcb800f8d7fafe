"""The suite seen from outside: a failed test shows its seed, a bare import of a product folder fails the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .tree import ROOT

pytestmark = pytest.mark.slow


def _run(folder: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    tests = folder / "tests"
    (folder / "client").mkdir()
    (folder / "client" / "__init__.py").touch()
    tests.mkdir()
    (tests / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    (tests / "test_it.py").write_text(test, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(ROOT / "pyproject.toml"),
        f"--rootdir={folder}",
        *arguments,
        str(tests),
    ]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=60, check=False)


def test_a_failed_test_shows_its_seed(tmp_path: Path) -> None:
    run = _run(tmp_path, "def test_it(seed):\n    assert seed < 0\n", "--seed", "7")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "--seed 7" in run.stdout


def test_a_passed_test_does_not(tmp_path: Path) -> None:
    run = _run(tmp_path, "def test_it(seed):\n    assert 0 <= seed < 2**32\n")
    assert run.returncode == pytest.ExitCode.OK, run.stdout
    assert "--seed" not in run.stdout


def test_a_bare_import_fails_the_run(tmp_path: Path) -> None:
    run = _run(tmp_path, "import sys\nsys.path.insert(0, '.')\nimport client\ndef test_it(): pass\n")
    assert "1 passed" in run.stdout
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "imported by a bare name instead of terzetto.*: client" in run.stdout
