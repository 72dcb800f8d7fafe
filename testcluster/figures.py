"""What a server tells about itself, gathered once for both the four letter words and the admin server.

Decides names and meanings of the figures (ZooKeeper's). Refuses to know how either of the two prints them.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from terzetto.client.wire import Opcode

from .config import ServerConfig
from .connection import Connection, Traffic
from .links import Link
from .membership import Member

PROTOCOL_RELEASE = "3.9.0"
"""The ZooKeeper release whose behaviour clients may count on when they read the version."""

_OPERATION_NAMES: Mapping[int, str] = {
    Opcode.CREATE_SESSION: "SESS",
    Opcode.PING: "PING",
    Opcode.CREATE: "CREA",
    Opcode.CREATE2: "CREA",
    Opcode.CREATE_CONTAINER: "CREA",
    Opcode.CREATE_TTL: "CREA",
    Opcode.DELETE: "DELE",
    Opcode.DELETE_CONTAINER: "DELE",
    Opcode.SET_DATA: "SETD",
    Opcode.SET_ACL: "SETA",
    Opcode.GET_ACL: "GETA",
    Opcode.GET_DATA: "GETD",
    Opcode.GET_CHILDREN: "GETC",
    Opcode.GET_CHILDREN2: "GETC",
    Opcode.EXISTS: "EXIS",
    Opcode.SYNC: "SYNC",
    Opcode.MULTI: "MULT",
    Opcode.MULTI_READ: "MLTR",
    Opcode.CHECK: "CHEC",
    Opcode.SET_WATCHES: "SETW",
    Opcode.SET_WATCHES2: "STW2",
    Opcode.ADD_WATCH: "ADDW",
    Opcode.CHECK_WATCHES: "CHKW",
    Opcode.REMOVE_WATCHES: "REMW",
    Opcode.GET_EPHEMERALS: "GETE",
    Opcode.GET_ALL_CHILDREN_NUMBER: "GETACN",
    Opcode.WHO_AM_I: "HOMI",
    Opcode.RECONFIG: "RECO",
    Opcode.CLOSE_SESSION: "CLOS",
}

CONNECTION_BUCKET_MS = 10_000
"""ZooKeeper sorts connections by expiry in steps of this."""


class ServerView(Protocol):
    """What a server shows.

    Attributes:
        mode: "standalone", "leader", "follower", "observer" or "read-only".
        is_serving: whether clients are served now.
        dynamic_config: the text of the quorum's configuration, empty on a standalone server.
        session_timeouts: timeout in milliseconds of every session that all servers know.
        quorum_figures: what `mntr` says of a server's part in its ensemble, nothing on a standalone server.
        proposal_sizes: bytes of the last, the smallest and the largest proposal, of a leader only.
        leader: who leads, as far as this server knows.
    """

    trace_mask: int

    @property
    def config(self) -> ServerConfig: ...
    @property
    def mode(self) -> str: ...
    @property
    def is_serving(self) -> bool: ...
    @property
    def dynamic_config(self) -> str: ...
    @property
    def initial_configuration(self) -> str: ...
    @property
    def client_port(self) -> int: ...
    @property
    def secure_client_port(self) -> int: ...
    @property
    def links(self) -> Collection[Link]: ...
    @property
    def last_zxid(self) -> int: ...
    @property
    def node_count(self) -> int: ...
    @property
    def data_size(self) -> int: ...
    @property
    def digests(self) -> Sequence[tuple[int, int]]: ...
    @property
    def outstanding(self) -> int: ...
    @property
    def uptime_ms(self) -> int: ...
    @property
    def traffic(self) -> Traffic: ...
    @property
    def counters(self) -> Mapping[str, int]: ...
    @property
    def global_sessions(self) -> int: ...
    @property
    def session_timeouts(self) -> Mapping[int, int]: ...
    @property
    def local_sessions(self) -> int: ...
    @property
    def last_snapshot(self) -> tuple[int, float]: ...
    @property
    def quorum_figures(self) -> Mapping[str, int | str]: ...
    @property
    def proposal_sizes(self) -> tuple[int, int, int] | None: ...
    @property
    def leader(self) -> Member | None: ...

    def now_ms(self) -> int: ...
    def wall_ms(self) -> int: ...
    def disk_sizes(self) -> tuple[int, int]: ...
    def sessions_by_expiry(self) -> dict[int, list[int]]: ...
    def ephemerals_by_session(self) -> dict[int, list[str]]: ...
    def watches_by_session(self) -> dict[int, list[str]]: ...
    def watches_by_path(self) -> dict[str, list[int]]: ...
    def watch_counts(self) -> tuple[int, int, int, int]:
        """Connections that watch, paths watched and watches, all for data and existence; and all watches there are."""
        ...

    def reset_statistics(self) -> None: ...
    def reset_connection_statistics(self) -> None: ...


@functools.cache
def version_text() -> str:
    """The version line's text in ZooKeeper's form: release, commit (here terzetto's own version), date of the build."""
    from importlib import metadata  # a tenth of the time that a server takes to start

    try:
        own = metadata.version("terzetto")
    except metadata.PackageNotFoundError:
        own = "unpackaged"
    built = time.gmtime(Path(__file__).stat().st_mtime)
    return f"{PROTOCOL_RELEASE}-terzetto-{own}, built on {time.strftime('%Y-%m-%d %H:%M UTC', built)}"


def hexadecimal(number: int) -> str:
    """A zxid or session id as Java prints a long in hexadecimal."""
    return f"{number & (1 << 64) - 1:x}"


def average(traffic: Traffic) -> float:
    """Average latency with at most four decimals, 0.0 before the first request."""
    return round(float(traffic.latency_average), 4)


def queued(connection: Connection) -> int:
    """Requests of a connection that are not answered yet."""
    return len(connection.waiting) if connection.waiting else 0


def operation_name(opcode: int | None) -> str:
    """An operation as `cons` abbreviates it."""
    return _OPERATION_NAMES.get(opcode, "UNKN") if opcode is not None else "NA"


def data_dirs(server: ServerView) -> tuple[str, str]:
    """Where snapshots and logs are, as ZooKeeper shows it; empty for a server that keeps all in memory."""
    config = server.config
    return _version_2(config.data_dir), _version_2(config.data_log_dir)


def _version_2(base: Path | None) -> str:
    return "" if base is None else str(base / "version-2")


def directory_size(path: Path | None) -> int:
    """Bytes in the files of a data directory's version-2."""
    if path is None:
        return 0
    total = 0
    try:
        for entry in os.scandir(path / "version-2"):
            if entry.is_file():
                total += entry.stat().st_size
    except FileNotFoundError:
        # Not written yet, or a file was purged while this looked.
        return total
    return total


def environment(server: ServerView) -> dict[str, str]:
    """The keys of `envi`; those that speak of Java speak of Python here."""
    import platform
    import resource
    import socket
    import tempfile

    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    total = pages * page
    return {
        "zookeeper.version": version_text(),
        "host.name": socket.gethostname(),
        "java.version": f"Python {platform.python_version()}",
        "java.vendor": platform.python_implementation(),
        "java.home": sys.prefix,
        "java.class.path": os.pathsep.join(sys.path),
        "java.library.path": "",
        "java.io.tmpdir": tempfile.gettempdir(),
        "java.compiler": "<NA>",
        "os.name": platform.system(),
        "os.arch": {"x86_64": "amd64"}.get(platform.machine(), platform.machine()),
        "os.version": platform.release(),
        "user.name": _user_name(),
        "user.home": str(Path.home()),
        "user.dir": str(Path.cwd()),
        "os.memory.free": _megabytes(total - used),
        "os.memory.max": _megabytes(total),
        "os.memory.total": _megabytes(total),
    }


def _user_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return str(os.getuid())


def _megabytes(size: int) -> str:
    return f"{size >> 20}MB"


def file_descriptors() -> tuple[int, int]:
    """Open files of the process, and how many it may open; -1 where the system does not say."""
    import resource

    try:
        opened = len(os.listdir("/proc/self/fd"))
    except OSError:
        opened = -1
    return opened, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connection_buckets(server: ServerView) -> dict[int, list[Link]]:
    """Connections by the time, on the monotonic clock, at which silence would end them."""
    buckets: dict[int, list[Link]] = {}
    for link in server.links:
        connection = link.connection
        silence = connection.session_timeout_ms or server.config.handshake_timeout_ms
        heard = max(connection.established_ms, connection.last_response_ms)
        due = (heard + silence) // CONNECTION_BUCKET_MS + 1
        buckets.setdefault(due * CONNECTION_BUCKET_MS, []).append(link)
    return buckets


def monitor(server: ServerView) -> dict[str, int | float | str]:
    """The keys of `mntr` without their prefix."""
    counters, traffic = server.counters, server.traffic
    opened, allowed = file_descriptors()
    ephemerals = server.ephemerals_by_session()
    figures: dict[str, int | float | str] = {
        "version": version_text(),
        "server_state": server.mode,
        "ephemerals_count": sum(len(paths) for paths in ephemerals.values()),
        "num_alive_connections": len(server.links),
        "avg_latency": average(traffic),
        "outstanding_requests": server.outstanding,
        "znode_count": server.node_count,
        "global_sessions": server.global_sessions,
        "non_mtls_remote_conn_count": 0,
        "last_client_response_size": counters["last_response_size"],
        "packets_sent": traffic.sent,
        "packets_received": traffic.received,
        "max_client_response_size": counters["max_response_size"],
        "connection_drop_probability": 0.0,
        "watch_count": server.watch_counts()[3],
        "auth_failed_count": counters["auth_failed"],
        "min_latency": traffic.latency_min or 0,
        "max_file_descriptor_count": allowed,
        "approximate_data_size": server.data_size,
        "open_file_descriptor_count": opened,
        "local_sessions": server.local_sessions,
        "uptime": server.uptime_ms,
        "max_latency": traffic.latency_max,
        "outstanding_tls_handshake": counters["outstanding_tls_handshakes"],
        "min_client_response_size": counters["min_response_size"],
        "non_mtls_local_conn_count": 0,
        "connection_rejected": counters["connections_rejected"],
        "sessionless_connections_expired": counters["sessionless_expired"],
        "bytes_received_count": counters["bytes_received"],
        "response_bytes": counters["bytes_sent"],
        "digest_mismatches_count": counters["digest_mismatches"],
        "snap_count": counters["snapshots"],
    }
    return figures | dict(server.quorum_figures)


def ordered(ids: Iterable[int]) -> list[int]:
    """Session ids in the order in which they were given out."""
    return sorted(ids, key=lambda number: number & (1 << 64) - 1)
