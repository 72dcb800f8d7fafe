"""A running server as the four letter words and the admin server see it (`figures.ServerView`). Decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from . import figures
from .config import ServerConfig
from .connection import Connection, Traffic
from .learner_link import LinkPhase
from .links import Link
from .membership import Member
from .messages import ServerState

if TYPE_CHECKING:
    from .server import ZooKeeperServer

_DEFAULT_TRACE_MASK = 306
_MODES = {
    ServerState.LOOKING: "leader-election",
    ServerState.FOLLOWING: "follower",
    ServerState.LEADING: "leader",
    ServerState.OBSERVING: "observer",
}
_DOING = {
    ServerState.FOLLOWING: "following",
    ServerState.LEADING: "leading",
    ServerState.OBSERVING: "observing",
}


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
        server = self._server
        if server.config.is_standalone:
            return "standalone"
        if server.processor.read_only:
            return "read-only"
        return _MODES[ServerState.LOOKING if server.role is None else server.role.state]

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
        member = self._server.member
        return "" if member is None else member.replica.config.text()

    @property
    def client_port(self) -> int:
        """The plain port, -1 without one."""
        return self._server.client_ports.numbers[0] or -1

    @property
    def secure_client_port(self) -> int:
        """The TLS port, -1 without one."""
        return self._server.client_ports.numbers[1] or -1

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
            "outstanding_tls_handshakes": server.client_ports.handshakes,
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
    def session_timeouts(self) -> Mapping[int, int]:
        """Timeout in milliseconds of every session that all servers know."""
        return self._server.tree.sessions

    @property
    def local_sessions(self) -> int:
        """Sessions that this server alone knows."""
        return 0

    @property
    def last_snapshot(self) -> tuple[int, float]:
        """zxid and time (seconds since the epoch) of the newest snapshot of this life, (-1, 0) before the first."""
        return self._server.journal.last_snapshot

    @property
    def quorum_figures(self) -> Mapping[str, int | str]:
        """What `mntr` says of the server's part in its ensemble."""
        server = self._server
        if server.member is None:
            return {}
        found: dict[str, int | str] = {"quorum_size": len(server.config.voters), "peer_state": self.peer_state}
        sizes = self.proposal_sizes
        if sizes is not None:
            learners = server.member.replica.peer.learners
            voters = server.member.replica.config.voters
            synced = [learner for learner in learners if learner.phase >= LinkPhase.SYNCED]
            followers = [learner for learner in synced if not learner.is_observer]
            found |= {
                "learners": len(learners),
                "synced_followers": len(followers),
                "synced_non_voting_followers": sum(learner.sid not in voters for learner in followers),
                "synced_observers": len(synced) - len(followers),
                "leader_uptime": self.uptime_ms,
                "last_proposal_size": sizes[0],
                "min_proposal_size": sizes[1],
                "max_proposal_size": sizes[2],
            }
        return found

    @property
    def peer_state(self) -> str:
        """What the server is doing and how far it has come, in ZooKeeper's words."""
        role = self._server.role
        if role is None or role.state is ServerState.LOOKING:
            return "looking - election"
        doing = _DOING[role.state]
        if role.serving:
            return f"{doing} - broadcast"
        member = self._server.member
        knows_epoch = member is not None and member.replica.peer.accepted_epoch == role.epoch
        return f"{doing} - {'synchronization' if knows_epoch else 'discovery'}"

    @property
    def proposal_sizes(self) -> tuple[int, int, int] | None:
        """Bytes of the last, the smallest and the largest proposal; -1 before the first, None where nothing is led."""
        server = self._server
        if server.member is None or server.role is None or server.role.state is not ServerState.LEADING:
            return None
        return server.member.proposal_sizes

    @property
    def leader(self) -> Member | None:
        """Who leads, as far as this server knows."""
        role = self._server.role
        sid = None if role is None else role.leader
        return next((member for member in self.config.members if member.sid == sid), None)

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
