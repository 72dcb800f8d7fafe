"""The servers of the comparison: how each is configured and started, and how it is loaded.

Decides that all get one and the same configuration file, as far as it can say what they are, and that the load comes
from one C program. Refuses to know what is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.interop.processes import ChildProcess, PortReservation, temporary_folder
from tests.interop.zookeeper import RealServer, ServerOptions

from .building import build
from .contenders import DriverFailed
from .processes import ServerProcess, wait_first_answer
from .results import Measurement
from .server_workloads import IN_MEMORY, JAVA, JAVA_UNSYNCED, ON_DISK, Extent, ServerWorkload
from .servers import java_release

# What ZooKeeper's own zkServer.sh gives it; all else is the JVM's own choice.
JVM_FLAGS = ("-Xmx1000m",)
_TICK = 2.0
_LOAD_SECONDS_MAX = 300.0
_FILL_DEPTH = 100
COMMAND = "import sys; from terzetto.testcluster.cli import main; sys.exit(main())"
"""What the `terzetto` command does."""
_IMPORTS = "import terzetto.testcluster.cli.running, terzetto.testcluster.quorum_member"


class TerzettoServer:
    """`terzetto server` on a folder, or `terzetto ensemble` in memory.

    Args:
        directory: where it lives.
        reserved: keeps its port.
        arguments: of the command.
        environment: added to this process's own.
    """

    def __init__(
        self,
        directory: Path,
        reserved: PortReservation | RealServer,
        arguments: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.port = reserved.port
        self._directory = directory
        self._reserved = reserved
        self._arguments = arguments
        self._environment = environment
        self._process: ChildProcess | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        log = self._directory / "server.log"
        command = [sys.executable, "-c", COMMAND, *self._arguments]
        self._process = ChildProcess(command, log, self._directory, self._environment)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
        self._reserved.close()

    def log_tail(self, lines: int = 40) -> str:
        text = (self._directory / "server.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


@dataclass(frozen=True)
class ServerKind:
    """A server that can be started again and again, each time on an empty folder.

    Attributes:
        name: one of `SERVERS`.
        description: what it is and how it is set up.
        environment: of its process.
    """

    name: str
    description: str
    environment: Mapping[str, str]

    @contextmanager
    def prepared(self) -> Iterator[ServerProcess]:
        """A server that is configured and not started; gone after the block, with its folder.

        Raises:
            PeerMissing: there is no ZooKeeper or no Java on this machine.
        """
        with temporary_folder("terzetto-benchmarks-server-") as directory:
            server = self._make(directory)
            try:
                yield server
            finally:
                server.close()

    @contextmanager
    def serving(self) -> Iterator[ServerProcess]:
        """A server that answers.

        Raises:
            PeerMissing: there is no ZooKeeper or no Java on this machine.
            StartFailed: it does not answer.
        """
        with self.prepared() as server:
            server.start()
            wait_first_answer(server)
            yield server

    def _make(self, directory: Path) -> ServerProcess:
        if self.name == IN_MEMORY:
            reservation = PortReservation()
            arguments = ["ensemble", "--base-port", str(reservation.port), "--tick-time", f"{_TICK:g}"]
            return TerzettoServer(directory, reservation, arguments, self.environment)
        java = RealServer(0, directory, _java_options(force_sync=self.name != JAVA_UNSYNCED))
        java.write_configuration()
        if self.name == ON_DISK:
            return TerzettoServer(directory, java, ["server", "zoo.cfg"], self.environment)
        return java


def _java_options(*, force_sync: bool) -> ServerOptions:
    return ServerOptions(
        tick_time=_TICK,
        zoo_cfg={
            "forceSync": "yes" if force_sync else "no",
            # As both have it when nothing is said.
            "preAllocSize": 65536,
            # A snapshot in the middle of a run would slow down whoever is measured at the time.
            "snapCount": 50_000_000,
        },
        jvm_flags=JVM_FLAGS,
    )


def find_server_kinds(directory: Path) -> list[ServerKind]:
    """All servers of the comparison.

    Args:
        directory: where Python keeps its compiled files, as an installation has them.

    Raises:
        PeerMissing: there is no Java on this machine.
    """
    environment = {"PYTHONPYCACHEPREFIX": str(directory / "pycache"), "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, "-c", _IMPORTS], env={**os.environ, **environment}, check=True)
    terzetto = f"terzetto {version('terzetto')}"
    java = f"Apache ZooKeeper on {java_release()} with {' '.join(JVM_FLAGS)}"
    return [
        ServerKind(IN_MEMORY, f"{terzetto}: `terzetto ensemble`, nothing on disk", environment),
        ServerKind(ON_DISK, f"{terzetto}: `terzetto server zoo.cfg`, each write synced before its answer", environment),
        ServerKind(JAVA_UNSYNCED, f"{java}, forceSync=no: the kernel writes when it likes", {}),
        ServerKind(JAVA, f"{java}, each write synced before its answer", {}),
    ]


class Load:
    """The load generator.

    Args:
        directory: where it is compiled to.

    Raises:
        BuildFailed: it could not be compiled.
    """

    def __init__(self, directory: Path) -> None:
        self._program = build("load.c", directory)

    def measure(self, server: ServerProcess, workload: ServerWorkload, extent: Extent) -> Measurement:
        """Runs one workload; the CPU time is the server's.

        Raises:
            DriverFailed: an answer was wrong, or did not come.
        """
        return self._run(
            server,
            [workload.request, workload.sessions, workload.depth, extent.seconds, extent.warmup_seconds, 0],
        )

    def fill(self, server: ServerProcess, znodes: int) -> None:
        """Creates znodes of the usual value below one parent.

        Raises:
            DriverFailed: an answer was wrong, or did not come.
        """
        self._run(server, ["fill", 1, min(_FILL_DEPTH, znodes), 0, 0, znodes])

    def _run(self, server: ServerProcess, plan: list[object]) -> Measurement:
        command = [str(self._program), *map(str, [server.port, *plan, server.pid])]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=os.environ, timeout=_LOAD_SECONDS_MAX, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DriverFailed(f"{' '.join(command)} did not finish in {_LOAD_SECONDS_MAX:g} s") from error
        if done.returncode != 0:
            raise DriverFailed(f"{' '.join(command)} failed: {done.stderr}\n{server.log_tail()}")
        return Measurement(**json.loads(done.stdout))
