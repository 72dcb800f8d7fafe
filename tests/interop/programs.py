"""Programs that are written for kazoo, run as they are: `python -m terzetto.client.kazoo ...`, in a process each.

Decides what happens where a program is not installed, and that each process is bounded in time. Refuses to know what
the programs do.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

DROPIN = (sys.executable, "-m", "terzetto.client.kazoo")
KAZOO = (sys.executable,)
DEADLINE = 90.0

_ROOT = Path(__file__).parents[2]


def require_programs(*distributions: str) -> None:
    """Skips where one of them is missing; fails there in CI, where a skipped suite must not look good."""
    missing: list[str] = []
    for distribution in distributions:
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            missing.append(distribution)
    if not missing:
        return
    text = (
        f"needs {', '.join(missing)}: pip install 'terzetto[programs]', or in a checkout: pip install -e '.[programs]'"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def start_program(
    prefix: Sequence[str],
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[str]:
    """Starts one in a folder of its own; `prefix` is `DROPIN` or `KAZOO`. Whoever starts it ends it."""
    return subprocess.Popen(
        [*prefix, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT), **(environment or {})},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish_program(process: subprocess.Popen[str], deadline: float = DEADLINE) -> tuple[str, str]:
    """What it wrote to standard output and standard error, once it has ended well.

    Raises:
        AssertionError: it has ended otherwise, or not in time; the text holds what it wrote.
    """
    try:
        output, errors = process.communicate(timeout=deadline)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"not done in {deadline:g} s: {process.args!r}\n{output}\n{errors}") from None
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, f"{process.args!r} ended with {process.returncode}\n{output}\n{errors}"
    return output, errors
