"""ZooKeeper's admin commands: what each gives, as a JSON object, with the names and aliases of ZooKeeper 3.8.0.

Decides which command there is and which figures are in it. Refuses to know HTTP (`admin_port.py`).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from typing import Any

from . import figures
from .figures import ServerView
from .links import Link

Answer = dict[str, Any]
Parameters = Mapping[str, str]
_Command = Callable[[ServerView, Parameters], Answer]

_NOT_SERVING = "This ZooKeeper instance is not currently serving requests"
_ALWAYS_ANSWERED = frozenset(
    {"ruok", "environment", "system_properties", "get_trace_mask", "set_trace_mask", "initial_configuration"}
)


def run_command(server: ServerView, name: str, parameters: Parameters) -> Answer:
    """Executes a command by its name or an alias; the answer always has the keys `command` and `error`."""
    command = _ALIASES.get(name, name)
    if command not in _COMMANDS:
        return {"command": command, "error": f"Unknown command: {command}"}
    if not server.is_serving and command not in _ALWAYS_ANSWERED:
        return {"command": command, "error": _NOT_SERVING}
    answer = _COMMANDS[command](server, parameters)
    return {**answer, "command": command, "error": answer.get("error")}


def command_names() -> list[str]:
    """The primary names, in the order in which the list of commands shows them."""
    return sorted(_COMMANDS)


def _configuration(server: ServerView, _: Parameters) -> Answer:
    config = server.config
    data_dir, log_dir = figures.data_dirs(server)
    answer: dict[str, Any] = {
        "client_port": server.client_port,
        "data_dir": data_dir,
        "data_log_dir": log_dir,
        "tick_time": config.tick_ms,
        "max_client_cnxns": config.max_client_connections,
        "min_session_timeout": config.min_session_ms,
        "max_session_timeout": config.max_session_ms,
        "server_id": config.sid,
        "client_port_listen_backlog": config.listen_backlog,
    }
    if not config.is_standalone:
        own = next(member for member in config.members if member.sid == config.sid)
        _host, quorum_port, election_port = own.addresses[0]
        answer |= {
            "init_limit": config.init_limit,
            "sync_limit": config.sync_limit,
            "election_alg": 3,
            "election_port": election_port,
            "quorum_port": quorum_port,
            "peer_type": int(own.observer),
        }
    return answer


def _brief(link: Link) -> Answer:
    connection = link.connection
    return {
        "remote_socket_address": link.address,
        "interest_ops": link.interest,
        "outstanding_requests": figures.queued(connection),
        "packets_received": connection.traffic.received,
        "packets_sent": connection.traffic.sent,
    }


def _full(server: ServerView, link: Link) -> Answer:
    connection = link.connection
    traffic = connection.traffic
    return {
        **_brief(link),
        "session_id": connection.session_id,
        "last_operation": figures.operation_name(connection.last_opcode),
        "established": server.wall_ms() - (server.now_ms() - connection.established_ms),
        "session_timeout": connection.session_timeout_ms,
        "last_cxid": connection.last_cxid,
        "last_zxid": connection.last_zxid,
        "last_response_time": connection.last_response_ms,
        "last_latency": connection.last_latency_ms,
        "min_latency": traffic.latency_min or 0,
        "avg_latency": int(traffic.latency_average),
        "max_latency": traffic.latency_max,
    }


def _connections(server: ServerView, _: Parameters) -> Answer:
    return {
        "connections": [_full(server, link) for link in server.links if not link.is_secure],
        "secure_connections": [_full(server, link) for link in server.links if link.is_secure],
    }


def _connection_stat_reset(server: ServerView, _: Parameters) -> Answer:
    server.reset_connection_statistics()
    return {}


def _dirs(server: ServerView, _: Parameters) -> Answer:
    data_size, log_size = server.disk_sizes()
    return {"datadir_size": data_size, "logdir_size": log_size}


def _dump(server: ServerView, _: Parameters) -> Answer:
    return {
        "expiry_time_to_session_ids": {str(due): ids for due, ids in server.sessions_by_expiry().items()},
        "session_id_to_ephemeral_paths": {str(owner): paths for owner, paths in server.ephemerals_by_session().items()},
    }


def _environment(server: ServerView, _: Parameters) -> Answer:
    return dict(figures.environment(server))


def _get_trace_mask(server: ServerView, _: Parameters) -> Answer:
    return {"tracemask": server.trace_mask}


def _set_trace_mask(server: ServerView, parameters: Parameters) -> Answer:
    text = parameters.get("traceMask")
    if text is None:
        return {"error": "setTraceMask requires long traceMask argument"}
    try:
        server.trace_mask = int(text)
    except ValueError:
        return {"error": "setTraceMask requires long traceMask argument, got " + text}
    return {"tracemask": server.trace_mask}


def _hash(server: ServerView, _: Parameters) -> Answer:
    return {"digests": [{"zxid": zxid, "digest_version": 2, "digest": digest} for zxid, digest in server.digests]}


def _initial_configuration(server: ServerView, _: Parameters) -> Answer:
    return {"initial_configuration": server.initial_configuration}


def _is_read_only(server: ServerView, _: Parameters) -> Answer:
    return {"read_only": server.mode == "read-only"}


def _last_snapshot(server: ServerView, _: Parameters) -> Answer:
    zxid, moment = server.last_snapshot
    return {"zxid": figures.hexadecimal(zxid), "timestamp": int(moment)}


def _leader(server: ServerView, _: Parameters) -> Answer:
    leader = server.leader
    if leader is None:
        # ZooKeeper's own words for a server that is no member of a quorum.
        return {"error": "server is not initialized"}
    return {
        "is_leader": leader.sid == server.config.sid,
        "leader_id": leader.sid,
        "leader_ip": leader.addresses[0][0],
    }


def _monitor(server: ServerView, _: Parameters) -> Answer:
    return dict(figures.monitor(server))


def _observers(server: ServerView, _: Parameters) -> Answer:
    return {"synced_observers": server.quorum_figures.get("synced_observers", 0), "observers": []}


def _nothing(server: ServerView, _: Parameters) -> Answer:
    return {}


def _server_stats(server: ServerView, _: Parameters) -> Answer:
    traffic, counters = server.traffic, server.counters
    data_size, log_size = server.disk_sizes()
    sizes = {
        "last_buffer_size": counters["last_response_size"],
        "min_buffer_size": counters["min_response_size"],
        "max_buffer_size": counters["max_response_size"],
    }
    return {
        "version": figures.version_text(),
        "read_only": server.mode == "read-only",
        "server_stats": {
            "packets_sent": traffic.sent,
            "packets_received": traffic.received,
            "fsync_threshold_exceed_count": 0,
            "client_response_stats": sizes,
            "data_dir_size": data_size,
            "log_dir_size": log_size,
            "provider_null": False,
            "server_state": server.mode,
            "last_processed_zxid": server.last_zxid,
            "outstanding_requests": server.outstanding,
            "avg_latency": figures.average(traffic),
            "max_latency": traffic.latency_max,
            "min_latency": traffic.latency_min or 0,
            "num_alive_client_connections": len(server.links),
            "uptime": server.uptime_ms,
            "auth_failed_count": counters["auth_failed"],
            "non_mtlsremote_conn_count": 0,
            "non_mtlslocal_conn_count": 0,
        },
        "client_response": sizes,
        "node_count": server.node_count,
    }


def _stats(server: ServerView, parameters: Parameters) -> Answer:
    return {
        **_server_stats(server, parameters),
        "connections": [_brief(link) for link in server.links if not link.is_secure],
        "secure_connections": [_brief(link) for link in server.links if link.is_secure],
    }


def _stat_reset(server: ServerView, _: Parameters) -> Answer:
    server.reset_statistics()
    return {}


def _system_properties(server: ServerView, _: Parameters) -> Answer:
    # Java's properties have no meaning here; these say the same things of Python.
    return {
        "file.encoding": sys.getfilesystemencoding(),
        "file.separator": os.sep,
        "path.separator": os.pathsep,
        "line.separator": os.linesep,
        "python.implementation": platform.python_implementation(),
        "python.version": platform.python_version(),
        "os.name": platform.system(),
        "os.version": platform.release(),
        "user.dir": os.getcwd(),
    }


def _voting_view(server: ServerView, _: Parameters) -> Answer:
    return {
        "current_config": {
            str(member.sid): {
                "server_addresses": [f"{host}:{quorum}" for host, quorum, _ in member.addresses],
                "election_addresses": [f"{host}:{election}" for host, _, election in member.addresses],
                "client_address": f"{member.client_host}:{member.client_port}" if member.client_port else "",
                "learner_type": "observer" if member.observer else "participant",
            }
            for member in server.config.voters
        }
    }


def _watches(server: ServerView, _: Parameters) -> Answer:
    return {"session_id_to_watched_paths": {str(owner): paths for owner, paths in server.watches_by_session().items()}}


def _watches_by_path(server: ServerView, _: Parameters) -> Answer:
    return {"path_to_session_ids": server.watches_by_path()}


def _watch_summary(server: ServerView, _: Parameters) -> Answer:
    connections, paths, watches, _total = server.watch_counts()
    return {"num_connections": connections, "num_paths": paths, "num_total_watches": watches}


def _zabstate(server: ServerView, _: Parameters) -> Answer:
    state = str(server.quorum_figures.get("peer_state", "")).rpartition(" - ")[2]
    own = any(member.sid == server.config.sid for member in server.config.voters)
    return {"voting": own, "zabstate": state}


_COMMANDS: Mapping[str, _Command] = {
    "configuration": _configuration,
    "connection_stat_reset": _connection_stat_reset,
    "connections": _connections,
    "dirs": _dirs,
    "dump": _dump,
    "environment": _environment,
    "get_trace_mask": _get_trace_mask,
    "hash": _hash,
    "initial_configuration": _initial_configuration,
    "is_read_only": _is_read_only,
    "last_snapshot": _last_snapshot,
    "leader": _leader,
    "monitor": _monitor,
    "observer_connection_stat_reset": _nothing,
    "observers": _observers,
    "ruok": _nothing,
    "server_stats": _server_stats,
    "set_trace_mask": _set_trace_mask,
    "stat_reset": _stat_reset,
    "stats": _stats,
    "system_properties": _system_properties,
    "voting_view": _voting_view,
    "watch_summary": _watch_summary,
    "watches": _watches,
    "watches_by_path": _watches_by_path,
    "zabstate": _zabstate,
}

_ALIASES: Mapping[str, str] = {
    "conf": "configuration",
    "config": "configuration",
    "cons": "connections",
    "crst": "connection_stat_reset",
    "env": "environment",
    "envi": "environment",
    "gtmk": "get_trace_mask",
    "icfg": "initial_configuration",
    "isro": "is_read_only",
    "lead": "leader",
    "lsnp": "last_snapshot",
    "mntr": "monitor",
    "obsr": "observers",
    "orst": "observer_connection_stat_reset",
    "srst": "stat_reset",
    "srvr": "server_stats",
    "stat": "stats",
    "stmk": "set_trace_mask",
    "sysp": "system_properties",
    "wchc": "watches",
    "wchp": "watches_by_path",
    "wchs": "watch_summary",
}
