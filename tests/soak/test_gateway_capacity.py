"""1,000 clients with live sessions through one gateway, again and again, with what they cost it.

Every ping is answered, nothing expires, a new client is served fast among them, and when all have left the gateway
holds nothing of them: waves that come and go do not make it larger. Figures are printed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from terzetto.client import open_zookeeper
from tests.benchmarks.processes import memory_of
from tests.interop.doors import GatewayProcess
from tests.testcluster.cli.test_running import running
from tests.testcluster.web_crowd import WebCrowd

from .test_server_capacity import SPARE_FILES, figures, many_files, processor_seconds

CLIENTS = 1000
TIMEOUT = 10.0
WAVES = 3

SLOW_PING = 1.0
"""Seconds within which 99 of 100 pings must be answered, on a machine that does other things too; all of them must be
before the next one is due."""

SLOWEST_NEWCOMER = 3.0
"""Seconds from the dial to the end of the session."""

GROWTH_MAX = 100 << 20
"""Bytes of 1,000 clients. About a fifth of it is observed."""

LEAK_MAX = 12 << 20
"""Bytes by which the gateway may be larger with the last wave than with the first."""

NEWCOMERS = 10


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def newcomer(url: str) -> float:
    """A native client comes, writes, reads and leaves; the seconds that took."""

    async def visit() -> None:
        with trio.fail_after(30):
            async with open_zookeeper(url) as zk:
                path = await zk.create("/newcomer-", b"here", ephemeral=True, sequence=True)
                assert (await zk.get(path))[0] == b"here"

    begun = time.perf_counter()
    trio.run(visit)
    return time.perf_counter() - begun


def alive(port: int) -> int:
    """Connections that the server has, without the one that asks."""
    return int(figures(port)["zk_num_alive_connections"]) - 1


def wait_left(port: int) -> None:
    """Until the server has no connection of the gateway's any more."""
    end = time.monotonic() + 30
    # The gateway asks the server how it is from time to time, on connections that count too.
    while alive(port) > 0:
        assert time.monotonic() < end, f"{alive(port)} connections are left"


def test_a_thousand_clients_through_one_gateway(
    soak_seconds: float, cleanup: ExitStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Each client is two connections of the gateway's.
    files = cleanup.enter_context(many_files(2 * CLIENTS + SPARE_FILES))
    assert files >= 2 * CLIENTS + SPARE_FILES, "this process may not open enough files"
    _, hosts = cleanup.enter_context(running(["ensemble", "--tick-time", "1"]))
    gateway = GatewayProcess(cleanup, hosts, tmp_path)
    port, door, pid = int(hosts.rpartition(":")[2]), int(gateway.url.strip("/").rpartition(":")[2]), gateway.process.pid
    lines = [f"memory of the gateway: {memory_of(pid).resident / 2**20:.0f} MiB at first"]
    empty, with_all, newcomers = memory_of(pid).resident, list[int](), list[float]()
    for wave in range(1, WAVES + 1):
        begun = time.perf_counter()
        crowd = WebCrowd(door, CLIENTS, TIMEOUT)
        try:
            made = time.perf_counter() - begun
            assert alive(port) >= CLIENTS
            assert len({idler.session_id for idler in crowd.idlers}) == CLIENTS
            crowd.latencies.clear()
            used, since = processor_seconds(pid), time.perf_counter()
            crowd.run(max(soak_seconds / WAVES, 1.5 * TIMEOUT))
            idle = (processor_seconds(pid) - used) / (time.perf_counter() - since)
            with_all.append(memory_of(pid).resident)
            lines.append(
                f"wave {wave}: {CLIENTS:,} clients in {made:.1f} s, {with_all[-1] / 2**20:.0f} MiB, "
                f"{idle:.1%} of a processor; {crowd}"
            )
            assert len(crowd.latencies) >= CLIENTS
            assert statistics.quantiles(crowd.latencies, n=100)[-1] < SLOW_PING
            assert not any(idler.gone for idler in crowd.idlers)
            newcomers += [newcomer(gateway.url) for _ in range(NEWCOMERS)]
        finally:
            crowd.close()
        wait_left(port)
    lines.append(f"a newcomer: median {statistics.median(newcomers):.3f} s, slowest {max(newcomers):.3f} s")
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    log = gateway.log.read_text(encoding="utf-8")
    assert "Traceback" not in log, log[-3000:]
    assert with_all[0] - empty < GROWTH_MAX
    assert with_all[-1] - with_all[0] < LEAK_MAX
    assert max(newcomers) < SLOWEST_NEWCOMER
