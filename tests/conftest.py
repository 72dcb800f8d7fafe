"""What every test may rely on: a seed that is shown when it fails, and product modules under their installed names.

Knows no client and no server; their fixtures stand in the folders that use them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, and the making of one, depends on what else the machine does; how many there are does not.
settings.register_profile("terzetto", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("terzetto")

_BARE_NAMES = ("client", "recipes", "testcluster")
_seed_key = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=None, metavar="N", help="what the `seed` fixture gives, to repeat a failed run"
    )


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed for the test's own `random.Random`: new in each run, printed when the test fails, repeated with --seed."""
    given: int | None = request.config.getoption("--seed")
    value = random.SystemRandom().getrandbits(32) if given is None else given
    request.node.stash[_seed_key] = value
    return value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and _seed_key in item.stash:
        report.sections.append(("seed", f"repeat with: pytest {item.nodeid!r} --seed {item.stash[_seed_key]}"))
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run when a product folder was imported by its bare name: its classes would then exist twice."""
    bare = sorted(name for name in sys.modules if name.partition(".")[0] in _BARE_NAMES)
    if bare:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("")
            reporter.write_line(f"ERROR: imported by a bare name instead of terzetto.*: {', '.join(bare)}", red=True)
