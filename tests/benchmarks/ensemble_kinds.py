"""The ensembles of the comparison: three servers, a process each, on one machine.

Decides how each is started and how one of its servers is found and killed. Refuses to know what is measured.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.interop.processes import ChildProcess, temporary_folder
from tests.interop.zookeeper import RealEnsemble, ServerOptions, StartFailed

from .processes import ServerProcess, mode_of
from .server_kinds import COMMAND, JVM_FLAGS
from .server_workloads import IN_MEMORY, JAVA, ON_DISK

SIZE = 3
TICK = 0.3
_SECONDS_MAX = 120.0
_PLACES_MAX = 1000


class EnsembleProcesses(Protocol):
    """Three servers that are configured."""

    def start(self) -> None:
        """Starts them and returns at once."""
        ...

    def servers(self) -> Sequence[ServerProcess]:
        """Each of them, once they serve."""
        ...

    def memory_pids(self) -> Sequence[int]:
        """Processes that with their children are all of it."""
        ...

    def kill(self, server: ServerProcess) -> None:
        """SIGKILL."""
        ...

    def close(self) -> None:
        """Ends all of them."""
        ...


class _Java:
    def __init__(self, directory: Path, *, force_sync: bool) -> None:
        options = ServerOptions(
            tick_time=TICK,
            zoo_cfg={"forceSync": "yes" if force_sync else "no", "preAllocSize": 65536, "snapCount": 50_000_000},
            jvm_flags=JVM_FLAGS,
        )
        self._ensemble = RealEnsemble(SIZE, options, directory=directory)

    def start(self) -> None:
        self._ensemble.start()

    def servers(self) -> Sequence[ServerProcess]:
        return list(self._ensemble.servers.values())

    def memory_pids(self) -> Sequence[int]:
        return [server.pid for server in self._ensemble.servers.values()]

    def kill(self, server: ServerProcess) -> None:
        for sid, one in self._ensemble.servers.items():
            if one is server:
                self._ensemble.kill(sid)

    def close(self) -> None:
        self._ensemble.close()


class _Member:
    """A server of `terzetto ensemble`, seen from outside."""

    def __init__(self, ensemble: _Terzetto, sid: int, port: int) -> None:
        self.sid = sid
        self.port = port
        self._ensemble = ensemble

    @property
    def pid(self) -> int:
        return self._ensemble.pid_of(self.sid)

    @property
    def running(self) -> bool:
        return self._ensemble.running

    def start(self) -> None:
        self._ensemble.start()

    def close(self) -> None:
        self._ensemble.close()

    def log_tail(self, lines: int = 40) -> str:
        return self._ensemble.log_tail(lines)


class _Terzetto:
    def __init__(self, directory: Path, *, in_memory: bool, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment
        self._process: ChildProcess | None = None
        self._reserved = _neighbours()
        base = int(self._reserved[0].getsockname()[1])
        self._members = [_Member(self, sid, base + sid - 1) for sid in range(1, SIZE + 1)]
        self._arguments = ["ensemble", "--servers", f"{SIZE}", "--base-port", f"{base}", "--tick-time", f"{TICK:g}"]
        if not in_memory:
            self._arguments += ["--data-dir", str(directory / "data"), "--set", "snapCount=50000000"]

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> None:
        command = [sys.executable, "-c", COMMAND, *self._arguments]
        self._process = ChildProcess(command, self._log, self._directory, self._environment)

    def servers(self) -> Sequence[ServerProcess]:
        return self._members

    def memory_pids(self) -> Sequence[int]:
        assert self._process is not None
        return [self._process.pid]

    def pid_of(self, sid: int) -> int:
        found = re.search(rf"server {sid} is process (\d+)", self._log.read_text(errors="replace"))
        if found is None:
            raise StartFailed(f"server {sid} has no process\n{self.log_tail()}")
        return int(found.group(1))

    def kill(self, server: ServerProcess) -> None:
        os.kill(server.pid, signal.SIGKILL)

    def close(self) -> None:
        if self._process is not None:
            # The whole group goes at once.
            self._process.kill()
        for reserving in self._reserved:
            reserving.close()

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"


def _neighbours() -> list[socket.socket]:
    """Sockets that keep ports which follow one another, as `PortReservation` does for one."""
    for _ in range(_PLACES_MAX):
        found: list[socket.socket] = []
        try:
            for number in range(SIZE):
                reserving = socket.socket()
                found.append(reserving)
                reserving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                reserving.bind(("127.0.0.1", found[0].getsockname()[1] + number if number else 0))
        except (OSError, OverflowError):
            for reserving in found:
                reserving.close()
            continue
        return found
    raise StartFailed(f"there are no {SIZE} free ports in a row")


@dataclass(frozen=True)
class EnsembleKind:
    """An ensemble that can be started again and again, each time on an empty folder.

    Attributes:
        name: one of `SERVERS`.
        environment: of its processes.
    """

    name: str
    environment: Mapping[str, str]

    @contextmanager
    def prepared(self) -> Iterator[EnsembleProcesses]:
        """Servers that are configured and not started; gone after the block, with their folder.

        Raises:
            PeerMissing: there is no ZooKeeper or no Java on this machine.
        """
        with temporary_folder("terzetto-benchmarks-ensemble-") as directory:
            ensemble = self._make(directory)
            try:
                yield ensemble
            finally:
                ensemble.close()

    def _make(self, directory: Path) -> EnsembleProcesses:
        if self.name in (IN_MEMORY, ON_DISK):
            return _Terzetto(directory, in_memory=self.name == IN_MEMORY, environment=self.environment)
        return _Java(directory, force_sync=self.name == JAVA)


def find_leader(servers: Sequence[ServerProcess]) -> ServerProcess:
    """The one that leads.

    Raises:
        StartFailed: none says so.
    """
    for server in servers:
        if mode_of(server.port) == "leader":
            return server
    raise StartFailed("no server leads")


_OPEN = """
import json, time, trio
from terzetto.testcluster import open_ensemble

async def measure():
    began = time.perf_counter()
    async with open_ensemble(servers=%d) as ensemble:
        await ensemble.wait_serving()
        return time.perf_counter() - began

print(json.dumps(trio.run(measure)))
"""


_TEST = """
import pytest

@pytest.mark.trio
async def test_one({fixtures}):
    pass
"""


def pytest_session(environment: Mapping[str, str]) -> float:
    """Seconds that a session of pytest with one test takes more with the fixtures `zk_ensemble` and `zk` than without.

    Three sessions of each in turn; the difference of the medians.
    """
    taken: dict[str, list[float]] = {"": [], "zk_ensemble, zk": []}
    with temporary_folder("terzetto-pytest-") as folder:
        for _ in range(3):
            for fixtures, seconds in taken.items():
                test = folder / "test_one.py"
                test.write_text(_TEST.format(fixtures=fixtures))
                command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
                began = time.perf_counter()
                done = subprocess.run(
                    command,
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    env={**os.environ, **environment},
                    timeout=_SECONDS_MAX,
                    check=False,
                )
                seconds.append(time.perf_counter() - began)
                if done.returncode != 0:
                    raise StartFailed(f"pytest failed\n{done.stdout}{done.stderr}")
    without, with_fixtures = (statistics.median(seconds) for seconds in taken.values())
    return max(0.0, with_fixtures - without)


def open_in_process(environment: Mapping[str, str]) -> float:
    """Seconds until the first ensemble of a fresh process serves, from the call of `open_ensemble` on."""
    done = subprocess.run(
        [sys.executable, "-c", _OPEN % SIZE],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=_SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise StartFailed(f"open_ensemble failed\n{done.stderr}")
    return float(json.loads(done.stdout))
