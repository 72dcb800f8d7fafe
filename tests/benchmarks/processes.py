"""What a server's process shows from outside: when it first answers, and how much memory it holds.

Decides what counts as an answer (a session and a read in it, not an open port) and what counts as memory. Refuses to
know what kind of server it is.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.interop.zookeeper import StartFailed

_POLL = 0.001
# A connection that Java takes between its bind and the start of its threads is never answered.
_PATIENCE = 0.05
_DEADLINE = 60.0
_CHUNK = 4096

_CONNECT = struct.pack(">iiqiqi16sb", 45, 0, 0, 10_000, 0, 16, bytes(16), 0)
_EXISTS_ROOT = struct.pack(">iiii1sb", 14, 1, 3, 1, b"/", 0)
# A sequential one, which never exists already: one ACL, everything to world:anyone, flag 2.
_CREATE = struct.pack(">iiii8siiii5si6si", 55, 1, 1, 8, b"/waited-", 0, 1, 31, 5, b"world", 6, b"anyone", 2)
_CLOSE = struct.pack(">iii", 8, 2, -11)
_LENGTH = struct.Struct(">i")
_REPLY = struct.Struct(">iqi")


class ServerProcess(Protocol):
    """One server process on loopback; `tests.interop.zookeeper.RealServer` is one."""

    port: int

    @property
    def pid(self) -> int: ...

    @property
    def running(self) -> bool: ...

    def start(self) -> None: ...

    def close(self) -> None: ...

    def log_tail(self, lines: int = 40) -> str: ...


class Memory(NamedTuple):
    """Of a process and its children, in bytes.

    Attributes:
        proportional: what is shared counts in parts (PSS).
        resident: what is shared counts wholly (RSS).
    """

    proportional: int
    resident: int


def wait_first_answer(server: ServerProcess) -> None:
    """Returns when a server has opened a session and answered a read in it.

    Raises:
        StartFailed: it ended, or answered nothing in a minute.
    """
    _wait_answered([server], _EXISTS_ROOT)


def wait_write(servers: Sequence[ServerProcess]) -> None:
    """Returns when one of several servers has opened a session and answered a write in it.

    Raises:
        StartFailed: one ended, or none answered in a minute.
    """
    _wait_answered(servers, _CREATE)


def _wait_answered(servers: Sequence[ServerProcess], request: bytes) -> None:
    end = time.monotonic() + _DEADLINE
    asked: dict[socket.socket, bytearray] = {}
    try:
        while time.monotonic() < end:
            for server in servers:
                if not server.running:
                    raise StartFailed(f"the server ended before its first answer\n{server.log_tail()}")
            for server in servers:
                _ask(server.port, request, asked)
            if not asked:
                time.sleep(_POLL)
            elif _is_answered(asked, time.monotonic() + _PATIENCE):
                return
    finally:
        for connection in asked:
            connection.close()
    logs = "\n".join(server.log_tail() for server in servers)
    raise StartFailed(f"no answer in {_DEADLINE:g} s\n{logs}")


def _ask(port: int, request: bytes, asked: dict[socket.socket, bytearray]) -> None:
    with contextlib.suppress(OSError):
        connection = socket.create_connection(("127.0.0.1", port), 1.0)
        asked[connection] = bytearray()
        connection.sendall(_CONNECT + request)


def _is_answered(asked: dict[socket.socket, bytearray], end: float) -> bool:
    """Whether one of the connections has its answers by then. Those that were refused are dropped."""
    while asked and (left := end - time.monotonic()) > 0:
        for connection in select.select(list(asked), [], [], left)[0]:
            try:
                piece = connection.recv(_CHUNK)
            except OSError:
                piece = b""
            asked[connection] += piece
            if not piece:
                asked.pop(connection)
                connection.close()
            elif _has_both(asked[connection]):
                connection.sendall(_CLOSE)
                return True
    return False


def _has_both(data: bytearray) -> bool:
    """Whether a handshake's answer and the read's, without an error, are there."""
    if len(data) < _LENGTH.size:
        return False
    read = 2 * _LENGTH.size + _LENGTH.unpack_from(data)[0]
    return len(data) >= read + _REPLY.size and _REPLY.unpack_from(data, read)[::2] == (1, 0)


def mode_of(port: int) -> str | None:
    """What a server on loopback says it is, such as "leader"; None when it says nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
            connection.settimeout(1.0)
            connection.sendall(b"srvr")
            answer = b""
            while piece := connection.recv(_CHUNK):
                answer += piece
    except OSError:
        return None
    modes = [line.partition(": ")[2] for line in answer.decode(errors="replace").splitlines() if line[:6] == "Mode: "]
    return modes[0] if modes else None


def memory_of(pid: int) -> Memory:
    """The memory of a process and all its children; needs Linux."""
    total = Memory(0, 0)
    for one in _family(pid):
        rows = dict(
            line.split(":", 1) for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:] if ":" in line
        )
        pss, rss = (int(rows[key].split()[0]) * 1024 for key in ("Pss", "Rss"))
        total = Memory(total.proportional + pss, total.resident + rss)
    return total


def _family(pid: int) -> list[int]:
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [pid, *(one for child in children for one in _family(child))]
