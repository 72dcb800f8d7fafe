"""2,000 connected idle sessions and 100,000 watches on one server, with what it costs.

Every ping is answered, nothing expires by mistake, every watch fires once, and what falls silent does expire. Figures
are printed: memory of the server's process at each stage, its processor time while all are idle, and the pings' delays.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from tests.interop.rawclient import RawClient
from tests.testcluster.cli.test_running import running
from tests.testcluster.crowd import Crowd

from .test_server_fuzz import resident

SESSIONS = 2000
WATCHES = 100_000
TIMEOUT = 10.0
SILENT = 100

SPARE_FILES = 200
SLOWEST_PING = 1.0
"""Seconds, on a machine that does other things too."""

GROWTH_MAX = 150 << 20
"""Bytes that sessions and watches together may take. About a third of it is observed."""


def processor_seconds(pid: int) -> float:
    """What a process has used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def many_files(wanted: int) -> Iterator[int]:
    """Lets this process, and those that it starts, open so many files or as many as it may; gives that number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
    try:
        yield max(soft, limit)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def figures(port: int) -> dict[str, str]:
    """What `mntr` says."""
    with RawClient(port) as client:
        text = client.four_letter(b"mntr")
    return dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)


def fire(port: int, paths: list[str]) -> float:
    """Creates znodes, a hundred at a time; the seconds that took."""
    begun = time.perf_counter()
    with RawClient(port) as writer:
        writer.connect()
        for first in range(0, len(paths), 100):
            batch = paths[first : first + 100]
            writer.send(b"".join(o.CREATE.frame(1, path, b"", OPEN_ACL_UNSAFE, 0) for path in batch))
            for _ in batch:
                assert writer.next_reply().err == 0
        writer.send(o.CLOSE_SESSION.frame(2))
        assert writer.next_reply().err == 0
    return time.perf_counter() - begun


def test_idle_sessions_and_watches(soak_seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with many_files(SESSIONS + SPARE_FILES) as files, running(["ensemble", "--tick-time", "1"]) as (process, hosts):
        sessions = min(SESSIONS, files - SPARE_FILES)
        if sessions < SESSIONS:
            lines.append(f"only {sessions:,} sessions: this process may open no more than {files:,} files")
        port = int(hosts.rpartition(":")[2])
        stages = [("empty", resident(process.pid))]
        begun = time.perf_counter()
        crowd = Crowd(port, sessions, TIMEOUT)
        try:
            stages.append((f"{sessions:,} sessions", resident(process.pid)))
            lines.append(f"{sessions:,} sessions made in {time.perf_counter() - begun:.1f} s")
            each = WATCHES // sessions
            watched = [[f"/watched-{number}-{path}" for path in range(each)] for number in range(sessions)]
            crowd.watch(watched)
            stages.append((f"and {each * sessions:,} watches", resident(process.pid)))
            used, since = processor_seconds(process.pid), time.perf_counter()
            crowd.latencies.clear()
            crowd.run(max(soak_seconds / 2, 2 * TIMEOUT))
            idle = (processor_seconds(process.pid) - used) / (time.perf_counter() - since)
            lines.append(f"idle for {time.perf_counter() - since:.0f} s: {idle:.1%} of a processor; {crowd}")
            slowest = max(crowd.latencies)
            found = figures(port)
            assert int(found["zk_watch_count"]) == each * sessions
            # This question came on a connection too.
            assert int(found["zk_num_alive_connections"]) == sessions + 1
            assert int(found["zk_global_sessions"]) == sessions
            took = fire(port, [paths[0] for paths in watched])
            crowd.run(60.0, until=lambda: all(idler.events for idler in crowd.idlers))
            assert [idler.events for idler in crowd.idlers] == [paths[:1] for paths in watched]
            lines.append(f"{sessions:,} watches fired by as many creates in {took:.1f} s")
            crowd.silent.update(crowd.idlers[:SILENT])
            fell_silent = time.perf_counter()
            crowd.run(4 * TIMEOUT, until=lambda: all(idler.gone for idler in crowd.silent))
            lines.append(f"{SILENT} silent sessions expired within {time.perf_counter() - fell_silent:.1f} s")
            assert [idler for idler in crowd.idlers if idler.gone] == crowd.idlers[:SILENT]
            assert int(figures(port)["zk_global_sessions"]) == sessions - SILENT
        finally:
            crowd.close()
        with capsys.disabled():
            print("\n" + "\n".join(lines))
            print("memory: " + ", ".join(f"{stage} {size / 2**20:.0f} MiB" for stage, size in stages))
    assert sessions == SESSIONS
    assert slowest < SLOWEST_PING
    assert stages[-1][1] - stages[0][1] < GROWTH_MAX
