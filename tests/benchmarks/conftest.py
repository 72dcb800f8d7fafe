"""Which tests of the benchmarks need real peers, and drivers that say what a test wants them to say."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.conftest import zookeeper_installed

from .contenders import Contender, find_contenders

__all__ = ["zookeeper_installed"]  # pytest finds the fixture here

ScriptedContender = Callable[[str], Contender]

_SCRIPT = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n'); print(sys.argv[3])"


@pytest.fixture
def all_contenders(tmp_path: Path) -> None:
    """Skips where a client is missing; fails there in CI, where a skipped suite must not look good."""
    missing = find_contenders(tmp_path)[1]
    if missing and os.environ.get("CI") == "true":
        pytest.fail("\n".join(missing), pytrace=False)
    if missing:
        pytest.skip("; ".join(missing))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where scripted drivers note that they ran: a line with the client's name."""
    return tmp_path / "journal"


@pytest.fixture
def scripted_contender(journal: Path) -> ScriptedContender:
    """Makes a client whose driver process notes that it ran and answers with one microsecond for everything."""
    answer = json.dumps({"wall_ns": 1000, "cpu_ns": 1000, "samples_ns": [1000]})

    def make(name: str) -> Contender:
        return Contender(name, name, (sys.executable, "-ISc", _SCRIPT, str(journal), name, answer), os.environ)

    return make
