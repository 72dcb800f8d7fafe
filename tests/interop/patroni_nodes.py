"""A PostgreSQL node under Patroni: its configuration, its process, and what its REST interface says of it.

Decides how a node is set up, and that nothing of it survives the test. Refuses to know what is tested.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from .processes import PortReservation
from .programs import DROPIN, require_programs

DEADLINE = 120.0
# Patroni takes no shorter one.
TTL = 20
_PROGRAMS = ("initdb", "pg_basebackup", "pg_ctl", "pg_isready", "pg_rewind", "postgres", "psql")
_PASSWORD = "postgres"
_LOOPBACK = "127.0.0.1"
_PAUSE = 0.1


def find_postgresql() -> Path:
    """The folder with PostgreSQL's server programs. Skips where there is none; fails there in CI."""
    require_programs("patroni", "psycopg")
    # Debian's versions stand side by side, outside of the PATH.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if (on_path := shutil.which("postgres")) is not None:
        folders.append(Path(on_path).resolve().parent)
    folders = [folder for folder in folders if all((folder / program).exists() for program in _PROGRAMS)]
    text = "needs PostgreSQL: on Debian or Ubuntu apt-get install postgresql; elsewhere put its programs on the PATH"
    if os.geteuid() == 0 and shutil.which("unshare") is None:
        text, folders = "PostgreSQL refuses to run as root: needs `unshare` (util-linux), or another user", []
    if not folders:
        if os.environ.get("CI") == "true":
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    return folders[-1]


class Node:
    """One PostgreSQL server and the Patroni that keeps it.

    Args:
        name: of the member.
        hosts: ZooKeeper's connect string.
        folder: of the node's own, with a short path: PostgreSQL's socket goes there.
        bin_dir: PostgreSQL's programs.
    """

    def __init__(self, name: str, hosts: str, folder: Path, bin_dir: Path) -> None:
        self.name = name
        self._folder = folder
        self._bin = bin_dir
        self._ports = [PortReservation(_LOOPBACK), PortReservation(_LOOPBACK)]
        self._rest, self._sql = (reservation.port for reservation in self._ports)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        self._configuration = folder / "patroni.json"
        self._log = folder / "patroni.log"
        self._configuration.write_text(json.dumps(self._configure(hosts.split(","))), encoding="utf-8")

    def _configure(self, hosts: list[str]) -> dict[str, Any]:
        user = {"username": "postgres", "password": _PASSWORD}
        return {
            "scope": "batman",
            "name": self.name,
            "restapi": {"listen": f"{_LOOPBACK}:{self._rest}", "connect_address": f"{_LOOPBACK}:{self._rest}"},
            "zookeeper": {"hosts": hosts},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"fsync": "off", "wal_log_hints": "on"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"{_LOOPBACK}:{self._sql}",
                "connect_address": f"{_LOOPBACK}:{self._sql}",
                "data_dir": str(self._folder / "data"),
                "bin_dir": str(self._bin),
                "pgpass": str(self._folder / "pgpass"),
                "authentication": {"superuser": user, "replication": user, "rewind": user},
                "parameters": {"unix_socket_directories": str(self._folder), "shared_buffers": "16MB"},
                "pg_hba": [
                    "local all all trust",
                    *(f"host {what} all {_LOOPBACK}/32 trust" for what in ("all", "replication")),
                ],
            },
        }

    # -- the process

    def start(self) -> None:
        """Starts Patroni, which starts PostgreSQL."""
        # Root as the kernel sees it, so that it may read what it must; somebody else in PostgreSQL's eyes.
        other = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*other, *DROPIN, "-m", "patroni", str(self._configuration)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Ends both at once, as a machine that loses its power."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        with suppress(FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            postmaster = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(postmaster, signal.SIGQUIT)

    def close(self) -> None:
        """Ends both, and gives the ports back."""
        self.kill()
        for reservation in self._ports:
            reservation.close()

    def log_tail(self) -> str:
        """The end of Patroni's log."""
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    # -- what it says

    def _get(self, path: str, body: dict[str, str] | None = None) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{_LOOPBACK}:{self._rest}{path}", data)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def is_primary(self) -> bool:
        """Whether it holds the leader's key, and its server takes writes."""
        return self._get("/primary")[0] == 200

    @property
    def is_replica(self) -> bool:
        """Whether its server follows another one, from which it streams."""
        status, body = self._get("/replica")
        return status == 200 and json.loads(body).get("replication_state") == "streaming"

    def has_seen(self, other: Node) -> bool:
        """Whether this node has read from the store that another one streams: Patroni reads it once a round."""
        status, body = self._get("/cluster")
        members: list[dict[str, str]] = json.loads(body)["members"] if status == 200 else []
        return any(member["name"] == other.name and member["state"] == "streaming" for member in members)

    def switch_to(self, candidate: Node) -> None:
        """Has Patroni hand over to another node."""
        status, body = self._get("/switchover", {"leader": self.name, "candidate": candidate.name})
        assert status == 200, body

    def sql(self, text: str) -> str:
        """What `psql` says to some SQL."""
        command = [str(self._bin / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", _LOOPBACK, "-p", str(self._sql)]
        done = subprocess.run(
            [*command, "-U", "postgres", "-c", text], capture_output=True, text=True, check=False, timeout=DEADLINE
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def wait_until(condition: Callable[[], bool], what: str, *nodes: Node) -> None:
    """Looks until it holds.

    Raises:
        AssertionError: it did not within two minutes; the text holds the nodes' logs.
    """
    ends = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > ends:
            logs = "\n".join(f"--- {node.name}\n{node.log_tail()}" for node in nodes)
            raise AssertionError(f"not within {DEADLINE:g} s: {what}\n{logs}")
        time.sleep(_PAUSE)
