"""A running server as the four letter words and the admin server see it (`figures.ServerView`). Decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from . import figures
from .config import ServerConfig
from .connection import Connection, Traffic
from .links import Link

if TYPE_CHECKING:
    from .server import ZooKeeperServer

_DEFAULT_TRACE_MASK = 306


class View:
    """What one server shows of itself.

    Args:
        server: the server; what its start creates is asked for only while it serves.
    """

    def __init__(self, server: ZooKeeperServer) -> None:
        self._server = server
        self.trace_mask = _DEFAULT_TRACE_MASK

    @property
    def config(self) -> ServerConfig:
        """Its configuration."""
        return self._server.config

    @property
    def mode(self) -> str:
        """What it is in its ensemble."""
        return "standalone"

    @property
    def is_serving(self) -> bool:
        """Whether clients are served."""
        return self._server.is_serving

    @property
    def initial_configuration(self) -> str:
        """The configuration file's text, empty without one."""
        return self._server.config.text

    @property
    def dynamic_config(self) -> str:
        """The quorum's configuration."""
        return ""

    @property
    def client_port(self) -> int:
        """The plain port, -1 without one."""
        return self._server.ports[0] or -1

    @property
    def secure_client_port(self) -> int:
        """The TLS port, -1 without one."""
        return self._server.ports[1] or -1

    @property
    def links(self) -> Collection[Link]:
        """Every connection, that of the asker too."""
        return self._server.links.values()

    @property
    def last_zxid(self) -> int:
        """The last transaction applied."""
        return self._server.tree.last_zxid

    @property
    def node_count(self) -> int:
        """Znodes as ZooKeeper counts them: the root stands in the table under two names."""
        return len(self._server.tree.nodes)

    @property
    def data_size(self) -> int:
        """Bytes of all paths and data, the root's second name too."""
        return self._server.tree.data_size + 1

    @property
    def digests(self) -> Sequence[tuple[int, int]]:
        """(zxid, tree digest) of every 128th transaction."""
        return self._server.digests

    @property
    def outstanding(self) -> int:
        """Requests not answered yet."""
        return self._server.processor.outstanding

    @property
    def uptime_ms(self) -> int:
        """Since the server began to serve."""
        return self._server.now_ms() - self._server.started_ms

    @property
    def traffic(self) -> Traffic:
        """Packets and latencies."""
        return self._server.processor.traffic

    @property
    def counters(self) -> Mapping[str, int]:
        """Everything else that is counted."""
        server = self._server
        return {
            # Of single replies nothing is measured here; -1 is what ZooKeeper shows before its first.
            "last_response_size": -1,
            "min_response_size": -1,
            "max_response_size": -1,
            "auth_failed": server.processor.auth_failures,
            "outstanding_tls_handshakes": server.tls_handshakes,
            "connections_rejected": server.connections_rejected,
            "sessionless_expired": server.sessionless_expired,
            "bytes_received": server.bytes_received,
            "bytes_sent": server.bytes_sent,
            "digest_mismatches": server.tree.digest_mismatches,
            "snapshots": server.journal.snapshots_written,
        }

    @property
    def global_sessions(self) -> int:
        """Sessions that all servers know."""
        return len(self._server.tree.sessions)

    @property
    def local_sessions(self) -> int:
        """Sessions that this server alone knows."""
        return 0

    @property
    def last_snapshot(self) -> tuple[int, float]:
        """zxid and time (seconds since the epoch) of the newest snapshot of this life, (-1, 0) before the first."""
        return self._server.journal.last_snapshot

    def now_ms(self) -> int:
        """The monotonic clock."""
        return self._server.now_ms()

    def wall_ms(self) -> int:
        """The wall clock."""
        return self._server.wall_ms()

    def disk_sizes(self) -> tuple[int, int]:
        """Bytes of snapshots and of logs; ZooKeeper counts both in both where they share a directory."""
        config = self._server.config
        return figures.directory_size(config.data_dir), figures.directory_size(config.data_log_dir)

    def sessions_by_expiry(self) -> dict[int, list[int]]:
        """Session ids by the time at which they are due, on the monotonic clock in milliseconds."""
        return self._server.processor.sessions.expiries()

    def ephemerals_by_session(self) -> dict[int, list[str]]:
        """Paths of ephemeral znodes by their owner."""
        return {owner: list(paths) for owner, paths in self._server.tree.ephemerals.items() if paths}

    def watches_by_session(self) -> dict[int, list[str]]:
        """Paths watched for data by session."""
        found: dict[int, list[str]] = {}
        for path, sessions in self.watches_by_path().items():
            for session_id in sessions:
                found.setdefault(session_id, []).append(path)
        return found

    def watches_by_path(self) -> dict[str, list[int]]:
        """Sessions that watch a path for data, by path."""
        found: dict[str, list[int]] = {}
        for path, watchers in self._server.processor.watches.data_by_path():
            found[path] = figures.ordered(w.session_id for w in watchers if isinstance(w, Connection))
        return found

    def watch_counts(self) -> tuple[int, int, int, int]:
        """Connections that watch, paths watched and watches, of data; and all watches there are."""
        watchers: set[object] = set()
        paths = watches = 0
        for _, found in self._server.processor.watches.data_by_path():
            watchers.update(found)
            paths += 1
            watches += len(found)
        return len(watchers), paths, watches, self._server.processor.watches.total

    def reset_statistics(self) -> None:
        """As `srst`."""
        self._server.processor.traffic.reset()

    def reset_connection_statistics(self) -> None:
        """As `crst`."""
        for connection in self._server.links:
            connection.traffic.reset()
