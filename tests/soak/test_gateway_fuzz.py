"""A million hostile inputs at a gateway's door: in process on virtual time, and over sockets against one that runs.

Inputs are HTTP requests, WebSocket frames and what is neither; most come behind a right handshake and a right session,
because noise that dies at the first byte proves nothing. It prints what became of them, and fails where few got far.
Throughout, a client that behaves is served in bounded time; at the end nothing is left, neither tasks, connections and
sessions nor memory. Repeat a failure with the seed that is printed.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import Connection, open_zookeeper
from terzetto.client._hosts import parse_hosts
from terzetto.client._transport import TcpTransport
from tests.interop.doors import GatewayProcess
from tests.testcluster.cli.test_running import running
from tests.testcluster.hostile_web import Tally, visit
from tests.testcluster.test_hostile_web import AT_ONCE, CODES, STATUSES, under_fire

from .test_gateway_capacity import wait_left
from .test_server_fuzz import resident

PARTS = range(4)
"""Each with a gateway of its own, so that none of them comes near the time after which a test counts as hung."""

INPUTS_IN_PROCESS = 245_000
INPUTS_ON_SOCKETS = 20_000
"""In process of each part: a million in all."""

WARM_UP = 20_000
GROWTH_IN_PROCESS = 24 << 20
GROWTH_ON_SOCKETS = 48 << 20
"""Bytes that may be held more than after the warm-up."""

SLOWEST_VOLLEY = 10.0
"""Seconds of processor time for a volley and the witness in it: about a thousand inputs."""

SLOWEST_ANSWER = 2.0
"""Seconds that the client that behaves may wait on sockets, on a machine that does other things too."""

PATIENCE_ON_SOCKETS = 1.5
HANDSHAKE_TIMEOUT = 0.5

SERVED_FLOOR = 0.03
"""Answers of servers for each input, at least: that many got through to one."""


def require_depths(tally: Tally) -> None:
    assert tally.statuses.keys() >= STATUSES
    assert tally.closed.keys() >= CODES
    assert tally.statuses[101] > 0.6 * tally.kinds.total()
    assert tally.replies > SERVED_FLOOR * tally.inputs


@pytest.mark.parametrize("part", PARTS)
async def test_inputs_in_process(
    part: int,
    seed: int,
    autojump_clock: MockClock,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Refusals are no news here, and pytest would keep every line of them.
    caplog.set_level(logging.ERROR, "terzetto")
    warm, slowest, number = 0, 0.0, 0
    async with under_fire() as fire:
        while fire.tally.inputs < INPUTS_IN_PROCESS:
            began = time.process_time()
            await fire.volley(seed + part, range(number, number + AT_ONCE))
            slowest = max(slowest, time.process_time() - began)
            number += AT_ONCE
            if not warm and fire.tally.inputs > WARM_UP:
                warm = resident("self")
    growth = resident("self") - warm
    with capsys.disabled():
        print(f"\nseed {seed}, part {part}, in process:")
        print("\n".join(fire.tally.lines()))
        print(f"slowest volley: {slowest:.2f} s of processor time; growth: {growth / 2**20:.1f} MiB")
    require_depths(fire.tally)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert slowest < SLOWEST_VOLLEY
    assert growth < GROWTH_IN_PROCESS


async def witness(url: str, latencies: list[float], task_status: trio.TaskStatus[None]) -> None:
    """Reads and writes on one session until cancelled."""
    async with open_zookeeper(url, session_timeout=20) as zk:
        session = zk.session_id
        await zk.create("/witness", b"0")
        task_status.started()
        number = 0
        while True:
            number += 1
            began = time.perf_counter()
            with trio.fail_after(20):
                await zk.set("/witness", b"%d" % number)
                assert (await zk.get("/witness"))[0] == b"%d" % number
            latencies.append(time.perf_counter() - began)
            assert zk.session_id == session
            await trio.sleep(0.02)


async def fire_on_sockets(url: str, seed: int, tally: Tally, pid: int) -> tuple[list[float], list[int]]:
    """Volleys at a running gateway; how long the witness waited, and the gateway's memory after each."""
    endpoint = parse_hosts(url.removeprefix("ws://").strip("/"))[0][0]

    async def dial() -> Connection:
        return await TcpTransport().dial(endpoint)

    latencies, memory = list[float](), list[int]()
    number = 0
    async with trio.open_nursery() as nursery:

        async def watch(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            await witness(url, latencies, task_status)

        await nursery.start(watch)
        while tally.inputs < INPUTS_ON_SOCKETS:
            await visit(dial, seed, range(number, number + AT_ONCE), PATIENCE_ON_SOCKETS, tally)
            number += AT_ONCE
            memory.append(resident(pid))
        nursery.cancel_scope.cancel()
    return latencies, memory


def test_inputs_on_sockets(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    with running(["ensemble", "--tick-time", "0.5"]) as (_, hosts), ExitStack() as cleanup:
        options = ["--handshake-timeout", str(HANDSHAKE_TIMEOUT)]
        gateway = GatewayProcess(cleanup, hosts, tmp_path, options)
        pid = gateway.process.pid
        latencies, memory = trio.run(partial(fire_on_sockets, gateway.url, seed, tally, pid))
        wait_left(int(hosts.rpartition(":")[2]))
        log = gateway.log.read_text(encoding="utf-8")
        assert gateway.process.running, log[-3000:]
    growth = max(memory) - memory[0]
    with capsys.disabled():
        print(f"\nseed {seed}, on sockets:")
        print("\n".join(tally.lines()))
        print(
            f"the witness: {len(latencies):,} turns, slowest {max(latencies):.3f} s; growth: {growth / 2**20:.1f} MiB"
        )
    assert "Traceback" not in log, log[log.find("Traceback") :][:3000]
    assert tally.statuses[101] > 0.5 * tally.kinds.total()
    assert len(latencies) > 20
    assert max(latencies) < SLOWEST_ANSWER
    assert growth < GROWTH_ON_SOCKETS
