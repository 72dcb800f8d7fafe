"""The servers that are measured against: a real ZooKeeper set up for speed, or one that does nothing.

Decides the real server's settings and when it is at rest. Refuses to know who measures what.
"""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop.installation import find_java
from tests.interop.zookeeper import RealZooKeeper, ServerOptions

from .building import build

JVM_FLAGS = ("-Xms1g", "-Xmx1g")
_SETTLE_SECONDS_MAX = 60.0

_OPTIONS = ServerOptions(
    tick_time=2.0,
    zoo_cfg={
        # As ZooKeeper has it when nothing is said: log files grow in steps of 64 MiB.
        "preAllocSize": 65536,
        # A snapshot in the middle of a run would slow down whoever is measured at the time.
        "snapCount": 50_000_000,
    },
    # The end of a session is one transaction, which names all its ephemeral znodes.
    jvm_properties={"jute.maxbuffer": 16 * 1024 * 1024},
    jvm_flags=JVM_FLAGS,
)


@dataclass(frozen=True)
class Server:
    """A server to measure against.

    Attributes:
        hosts: the connect string.
        description: what it is and how it is set up, a line.
        settle: returns when it has nothing left to do.
    """

    hosts: str
    description: str
    settle: Callable[[], None]


@contextmanager
def open_real_server() -> Iterator[Server]:
    """Apache ZooKeeper, alone, with the JVM's own choice of collector and compilers.

    Raises:
        PeerMissing: there is none on this machine.
        StartFailed: it did not start.
    """
    with RealZooKeeper(_OPTIONS) as zookeeper:
        yield Server(
            zookeeper.hosts,
            f"Apache ZooKeeper {zookeeper.version()} standalone on {java_release()} with {' '.join(JVM_FLAGS)}, "
            "data on the disk of the temporary folder, forceSync=no",
            lambda: _settle(zookeeper),
        )


def java_release() -> str:
    """Such as "Java 17.0.15".

    Raises:
        PeerMissing: there is no Java on this machine.
    """
    said = subprocess.run([find_java(), "-version"], capture_output=True, text=True, check=True).stderr
    release = re.search(r'version "([^"]+)"', said)
    return f"Java {release.group(1)}" if release else "Java"


def _settle(zookeeper: RealZooKeeper) -> None:
    """Waits until the sessions of those who have left are gone, with their ephemeral znodes."""
    end = time.monotonic() + _SETTLE_SECONDS_MAX
    while time.monotonic() < end:
        state = dict(line.split("\t", 1) for line in zookeeper.four_letter("mntr").splitlines() if "\t" in line)
        # One connection is this question's own.
        busy = (int(state["zk_num_alive_connections"]) - 1, int(state["zk_ephemerals_count"]))
        if max(busy) <= 0 and int(state["zk_outstanding_requests"]) == 0:
            return
    raise TimeoutError(f"the server was not at rest after {_SETTLE_SECONDS_MAX:g} s")


@contextmanager
def open_null_server(directory: Path) -> Iterator[Server]:
    """The C program that answers getData at once, so that what is measured is the client's own cost.

    Args:
        directory: where it is compiled to.

    Raises:
        BuildFailed: it could not be compiled.
    """
    program = build("null_server.c", directory)
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening, tempfile.TemporaryFile() as log:
        listening.setblocking(False)
        number = listening.fileno()
        # It ends with its standard input, thus also with this process.
        with subprocess.Popen(
            [str(program), str(number)], stdin=subprocess.PIPE, stderr=log, pass_fds=[number]
        ) as process:
            try:
                port: int = listening.getsockname()[1]
                yield Server(f"127.0.0.1:{port}", "a C program that answers every read at once", lambda: None)
            finally:
                process.kill()
