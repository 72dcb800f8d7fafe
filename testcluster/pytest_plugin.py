"""pytest fixtures: an ensemble for the test session, and a client with a chroot of its own for each test.

Decides what tests share and what each has to itself. Loaded by every pytest run of an environment that has terzetto, so
it imports nothing but pytest until a fixture is asked for.

    zk_ensemble   the ensemble, shared by the session: a `BlockingEnsemble`
    zk_chroot     a path that no other test has
    zk            a connected `ZooKeeper` below that path, for tests that pytest-trio runs; deleted behind the test

`--zk-servers N`, or `zk_servers` in the configuration file, says how many servers there are; `zk_tick_time` is their
tick in seconds.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from terzetto.client import ZooKeeper

    from .ensemble import BlockingEnsemble

DEFAULT_SERVERS = 3

_numbers = itertools.count(1)
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--zk-servers`, and the settings `zk_servers` and `zk_tick_time`."""
    group = parser.getgroup("terzetto", "ZooKeeper ensembles of terzetto")
    group.addoption(
        "--zk-servers",
        metavar="N",
        help=f"servers of the fixture zk_ensemble (default: the setting zk_servers, else {DEFAULT_SERVERS})",
    )
    parser.addini("zk_servers", "servers of the fixture zk_ensemble", default=str(DEFAULT_SERVERS))
    parser.addini("zk_tick_time", "tick of the fixture zk_ensemble, in seconds", default="")


def _servers(config: pytest.Config) -> int:
    given = config.getoption("--zk-servers")
    text = str(config.getini("zk_servers") if given is None else given)
    if not (text.isascii() and text.isdigit() and int(text)):
        raise pytest.UsageError(f"zk_servers must be a positive number of servers, not {text!r}")
    return int(text)


def _tick_time(config: pytest.Config) -> float | None:
    text = str(config.getini("zk_tick_time"))
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = 0.0
    if seconds is not None and not seconds > 0:
        raise pytest.UsageError(f"zk_tick_time must be a positive number of seconds, not {text!r}")
    return seconds


@pytest.fixture(scope="session")
def zk_ensemble(pytestconfig: pytest.Config) -> Iterator[BlockingEnsemble]:
    """An ensemble for the whole session, in memory, on free ports; under pytest-xdist one a worker.

    Its methods kill, pause and cut off servers. What a test leaves broken is healed before the next test that uses
    `zk_chroot` or `zk`.
    """
    from .ensemble import start_ensemble
    from .loopback import DEFAULT_TICK

    with start_ensemble(_servers(pytestconfig), tick_time=_tick_time(pytestconfig) or DEFAULT_TICK) as ensemble:
        yield ensemble


@pytest.fixture
def zk_chroot(zk_ensemble: BlockingEnsemble, request: pytest.FixtureRequest) -> str:
    """A path of the test's own, made of its name; the znode does not exist yet."""
    zk_ensemble.heal()
    name = _NO_NAME.sub("-", request.node.name).strip(".-")[:100]
    return f"/{next(_numbers)}-{name}"


if importlib.util.find_spec("pytest_trio") is None:

    @pytest.fixture
    def zk() -> None:
        """Says what is missing."""
        pytest.fail("the fixture zk needs pytest-trio: python -m pip install 'terzetto[pytest]'", pytrace=False)

else:

    @pytest.fixture
    async def zk(zk_ensemble: BlockingEnsemble, zk_chroot: str) -> AsyncIterator[ZooKeeper]:
        """A client below `zk_chroot`, connected. For tests run by pytest-trio, on the real clock.

        It cannot be used together with `autojump_clock`: the ensemble's time does not jump.
        """
        import trio

        from terzetto.client import open_zookeeper

        async with open_zookeeper(zk_ensemble.hosts, chroot=zk_chroot, ensure_chroot=True) as client:
            yield client
        await trio.to_thread.run_sync(zk_ensemble.heal)
        async with open_zookeeper(zk_ensemble.hosts) as client:
            await client.delete(zk_chroot, recursive=True)
