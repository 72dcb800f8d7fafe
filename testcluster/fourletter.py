"""The four letter words: what each prints, byte for byte as ZooKeeper 3.8.0 does (average latencies as 3.6 and later).

Text only. Which word may be executed is the configuration's decision, where the figures come from is `figures.py`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from . import figures
from .figures import ServerView, hexadecimal
from .links import Link

TELNET_CLOSE: Final = b"\xff\xf4\xff\xfd"
"""What telnet sends for an interrupt; it ends the connection without a word."""

_NOT_SERVING = "This ZooKeeper instance is not currently serving requests"
_ALWAYS_ANSWERED = frozenset({"ruok", "isro", "envi", "gtmk", "stmk"})
_TRACE_MASK_SIZE = 8


def is_word(head: bytes) -> bool:
    """Whether a connection's first four bytes are a word that ZooKeeper knows, allowed or not."""
    return head in _KNOWN


def answer(server: ServerView, head: bytes, argument: bytes = b"", link: Link | None = None) -> str:
    """What the server prints on a word.

    Args:
        server: whom it asks.
        head: the word's four bytes, for which `is_word` is true.
        argument: what was received with them.
        link: the connection that asks.
    """
    if head == TELNET_CLOSE:
        return ""
    word = head.decode("ascii")
    if not server.config.allows_word(word):
        return f"{word} is not executed because it is not in the whitelist.\n"
    if not server.is_serving and word not in _ALWAYS_ANSWERED:
        return _NOT_SERVING if word == "hash" else f"{_NOT_SERVING}\n"
    if word == "stmk":
        return _set_trace_mask(server, argument)
    return _WORDS[word](server)


def _ruok(server: ServerView) -> str:
    return "imok"


def _isro(server: ServerView) -> str:
    if not server.is_serving:
        return "null"
    return "ro" if server.mode == "read-only" else "rw"


def _version_line() -> str:
    return f"Zookeeper version: {figures.version_text()}\n"


def _server_lines(server: ServerView) -> str:
    traffic = server.traffic
    lines = [
        f"Latency min/avg/max: {traffic.latency_min or 0}/{figures.average(traffic)}/{traffic.latency_max}",
        f"Received: {traffic.received}",
        f"Sent: {traffic.sent}",
        f"Connections: {len(server.links)}",
        f"Outstanding: {server.outstanding}",
        f"Zxid: 0x{hexadecimal(server.last_zxid)}",
        f"Mode: {server.mode}",
        f"Node count: {server.node_count}",
    ]
    if server.proposal_sizes is not None:
        last, smallest, largest = server.proposal_sizes
        lines.append(f"Proposal sizes last/min/max: {last}/{smallest}/{largest}")
    return "\n".join(lines) + "\n"


def _read_only_line(server: ServerView) -> str:
    return "READ-ONLY mode; serving only read-only clients\n" if server.mode == "read-only" else ""


def _srvr(server: ServerView) -> str:
    return _version_line() + _read_only_line(server) + _server_lines(server)


def _stat(server: ServerView) -> str:
    clients = "".join(f" {_brief(link)})\n" for link in server.links)
    return f"{_version_line()}{_read_only_line(server)}Clients:\n{clients}\n{_server_lines(server)}"


def _brief(link: Link) -> str:
    connection = link.connection
    return (
        f"/{link.address}[{link.interest:x}](queued={figures.queued(connection)},recved={connection.traffic.received},"
        f"sent={connection.traffic.sent}"
    )


def _cons(server: ServerView) -> str:
    return "".join(f" {_brief(link)}{_details(server, link)})\n" for link in server.links) + "\n"


def _details(server: ServerView, link: Link) -> str:
    connection = link.connection
    if connection.session_id == 0:
        return ""
    established = server.wall_ms() - (server.now_ms() - connection.established_ms)
    traffic = connection.traffic
    items = [
        f"sid=0x{hexadecimal(connection.session_id)}",
        f"lop={figures.operation_name(connection.last_opcode)}",
        f"est={established}",
        f"to={connection.session_timeout_ms}",
        *([f"lcxid=0x{connection.last_cxid:x}"] if connection.last_cxid >= 0 else []),
        f"lzxid=0x{hexadecimal(connection.last_zxid)}",
        f"lresp={connection.last_response_ms}",
        f"llat={connection.last_latency_ms}",
        f"minlat={traffic.latency_min or 0}",
        f"avglat={int(traffic.latency_average)}",
        f"maxlat={traffic.latency_max}",
    ]
    return "".join(f",{item}" for item in items)


def _conf(server: ServerView) -> str:
    config = server.config
    data_dir, log_dir = figures.data_dirs(server)
    data_size, log_size = server.disk_sizes()
    pairs: list[tuple[str, object]] = [
        ("clientPort", server.client_port),
        ("secureClientPort", server.secure_client_port),
        ("dataDir", data_dir),
        ("dataDirSize", data_size),
        ("dataLogDir", log_dir),
        ("dataLogSize", log_size),
        ("tickTime", config.tick_ms),
        ("maxClientCnxns", config.max_client_connections),
        ("minSessionTimeout", config.min_session_ms),
        ("maxSessionTimeout", config.max_session_ms),
        ("clientPortListenBacklog", config.listen_backlog),
        ("serverId", config.sid),
    ]
    text = ""
    if not config.is_standalone:
        own = next(member for member in config.members if member.sid == config.sid)
        _, quorum_port, election_port = own.addresses[0]
        pairs += [
            ("initLimit", config.init_limit),
            ("syncLimit", config.sync_limit),
            ("electionAlg", 3),
            ("electionPort", election_port),
            ("quorumPort", quorum_port),
            ("peerType", int(own.observer)),
        ]
        text = f"membership: \n{server.dynamic_config}"
    return "".join(f"{key}={value}\n" for key, value in pairs) + text


def _dump(server: ServerView) -> str:
    lines = ["SessionTracker dump:", *_sessions(server)]
    owners = server.ephemerals_by_session()
    lines += ["ephemeral nodes dump:", f"Sessions with Ephemerals ({len(owners)}):"]
    for session_id in figures.ordered(owners):
        lines.append(f"0x{hexadecimal(session_id)}:")
        lines += [f"\t{path}" for path in owners[session_id]]
    buckets = figures.connection_buckets(server)
    lines += ["Connections dump:", f"Connections Sets ({len(buckets)})/({sum(map(len, buckets.values()))}):"]
    for due in sorted(buckets):
        lines.append(f"{len(buckets[due])} expire at {_date(server, due)}:")
        for link in buckets[due]:
            lines.append(f"\tip: /{link.address} sessionId: 0x{hexadecimal(link.connection.session_id)}")
    return "\n".join(lines) + "\n"


def _sessions(server: ServerView) -> list[str]:
    if server.mode in ("follower", "observer"):
        # A learner knows what there is, and not when it is due.
        known = server.session_timeouts
        found = [f"0x{hexadecimal(session_id)}\t{known[session_id]}ms" for session_id in figures.ordered(known)]
        return [f"Global Sessions({len(known)}):", *found]
    sets = server.sessions_by_expiry()
    lines = [f"Session Sets ({len(sets)})/({sum(map(len, sets.values()))}):"]
    for due in sorted(sets):
        lines.append(f"{len(sets[due])} expire at {_date(server, due)}:")
        lines += [f"\t0x{hexadecimal(session_id)}" for session_id in sets[due]]
    return lines


def _date(server: ServerView, due_ms: int) -> str:
    """A time of the monotonic clock as Java prints a date."""
    wall = (server.wall_ms() + due_ms - server.now_ms()) / 1000
    moment = time.localtime(wall)
    return time.strftime(f"%a %b %d %H:%M:%S {moment.tm_zone} %Y", moment)


def _envi(server: ServerView) -> str:
    return "Environment:\n" + "".join(f"{key}={value}\n" for key, value in figures.environment(server).items())


def _wchs(server: ServerView) -> str:
    connections, paths, watches, _ = server.watch_counts()
    return f"{connections} connections watching {paths} paths\nTotal watches:{watches}\n"


def _wchc(server: ServerView) -> str:
    sessions = server.watches_by_session()
    lines: list[str] = []
    for session_id in figures.ordered(sessions):
        lines.append(f"0x{hexadecimal(session_id)}")
        lines += [f"\t{path}" for path in sessions[session_id]]
    return "".join(f"{line}\n" for line in lines) + "\n"


def _wchp(server: ServerView) -> str:
    lines: list[str] = []
    for path, sessions in server.watches_by_path().items():
        lines.append(path)
        lines += [f"\t0x{hexadecimal(session_id)}" for session_id in sessions]
    return "".join(f"{line}\n" for line in lines) + "\n"


def _dirs(server: ServerView) -> str:
    data_size, log_size = server.disk_sizes()
    return f"datadir_size: {data_size}\nlogdir_size: {log_size}\n"


def _crst(server: ServerView) -> str:
    server.reset_connection_statistics()
    return "Connection stats reset.\n"


def _srst(server: ServerView) -> str:
    server.reset_statistics()
    return "Server stats reset.\n"


def _gtmk(server: ServerView) -> str:
    return str(server.trace_mask)


def _set_trace_mask(server: ServerView, argument: bytes) -> str:
    # ZooKeeper takes the mask from the word's own packet only, and closes when it is not there.
    if len(argument) < _TRACE_MASK_SIZE:
        return ""
    server.trace_mask = int.from_bytes(argument[:_TRACE_MASK_SIZE], "big", signed=True)
    return str(server.trace_mask)


def _hash(server: ServerView) -> str:
    return "".join(f"{hexadecimal(zxid)}: {digest}\n" for zxid, digest in server.digests)


def _mntr(server: ServerView) -> str:
    return "".join(f"zk_{key}\t{value}\n" for key, value in figures.monitor(server).items())


_WORDS: Mapping[str, Callable[[ServerView], str]] = {
    "conf": _conf,
    "cons": _cons,
    "crst": _crst,
    "dirs": _dirs,
    "dump": _dump,
    "envi": _envi,
    "gtmk": _gtmk,
    "hash": _hash,
    "isro": _isro,
    "mntr": _mntr,
    "ruok": _ruok,
    "srst": _srst,
    "srvr": _srvr,
    "stat": _stat,
    "wchc": _wchc,
    "wchp": _wchp,
    "wchs": _wchs,
}

_KNOWN: Final = frozenset([*(word.encode("ascii") for word in _WORDS), b"stmk", TELNET_CLOSE])
