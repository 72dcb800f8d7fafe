"""Thousands of idle clients of one server, in one thread: they connect, watch, ping, and note what they are told.

Decides when each pings (its own turn within a third of the session's time, as clients do). Refuses to know what the
server is made of; it listens on loopback.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence

from terzetto.client.wire import operations as o

from .port import connect_frame

HOST = "127.0.0.1"
PATIENCE = 30.0
"""Seconds after which a server that does not answer has failed."""

_HEADER = struct.Struct(">iiqi")
PING = o.PING.frame(-2)
_PING_XID, _EVENT_XID = -2, -1


class Idler:
    """One client with a session.

    Attributes:
        session_id: its session's.
        pinged: when (monotonic) the ping was sent that is not answered yet.
        events: paths of the watch events that it was told.
        answers: error codes of what it asked, pings left out.
        gone: the server has closed its connection.
    """

    def __init__(self, port: int, timeout_ms: int) -> None:
        self.socket = socket.create_connection((HOST, port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.session_id = 0
        self.pinged: float | None = None
        self.events: list[str] = []
        self.answers: list[int] = []
        self.gone = False
        self._rest = b""
        self.greet(timeout_ms)

    def greet(self, timeout_ms: int) -> None:
        """Asks for a session."""
        self.socket.sendall(connect_frame(timeout_ms=timeout_ms))

    def ping(self) -> None:
        """Sends a ping."""
        self.socket.send(PING)

    def take(self, data: bytes) -> int:
        """Takes bytes; returns how many pings they answer."""
        data = self._rest + data
        position = pongs = 0
        while len(data) - position >= 4:
            end = position + 4 + int.from_bytes(data[position : position + 4], "big")
            if end > len(data):
                break
            pongs += self._take_frame(data, position, end)
            position = end
        self._rest = data[position:]
        return pongs

    def _take_frame(self, data: bytes, position: int, end: int) -> int:
        if not self.session_id:
            self.session_id = int.from_bytes(data[position + 12 : position + 20], "big")
            return 0
        _, xid, _, code = _HEADER.unpack_from(data, position)
        if xid == _PING_XID:
            return 1
        if xid == _EVENT_XID:
            self.events.append(data[position + 32 : end].decode())
        else:
            self.answers.append(code)
        return 0


class Crowd:
    """All of them.

    Args:
        port: the server's.
        count: how many clients.
        timeout: of their sessions, in seconds.

    Attributes:
        idlers: the clients; the silent ones among them send no pings.
        silent: those that were told to be.
        latencies: of every ping, in seconds.
        client: how each of them speaks.
    """

    client: type[Idler] = Idler

    def __init__(self, port: int, count: int, timeout: float) -> None:
        self.latencies: list[float] = []
        self.silent: set[Idler] = set()
        self.idlers: list[Idler] = []
        self._pause = timeout / 3
        self._selector = selectors.DefaultSelector()
        self._turns: list[tuple[float, int]] = []
        try:
            for _ in range(count):
                self._admit(self.client(port, round(timeout * 1000)), count)
        except BaseException:
            self.close()
            raise
        self.run(PATIENCE, until=lambda: all(idler.session_id for idler in self.idlers))

    def _admit(self, idler: Idler, count: int) -> None:
        number = len(self.idlers)
        idler.socket.setblocking(False)
        self.idlers.append(idler)
        self._selector.register(idler.socket, selectors.EVENT_READ, idler)
        # Each has a moment of its own, so that they do not ping all at once.
        heapq.heappush(self._turns, (time.monotonic() + self._pause * number / count, number))
        self._pass(0.0)

    def close(self) -> None:
        """Everybody leaves without a word."""
        self._selector.close()
        for idler in self.idlers:
            idler.socket.close()

    def watch(self, paths: Sequence[Sequence[str]]) -> None:
        """Each watches some znodes that do not exist, by one request."""
        for idler, watched in zip(self.idlers, paths, strict=True):
            idler.answers.clear()
            idler.socket.setblocking(True)
            idler.socket.sendall(o.SET_WATCHES.frame(1, 0, [], list(watched), []))
            idler.socket.setblocking(False)
        self.run(PATIENCE, until=lambda: all(idler.answers for idler in self.idlers))
        assert all(idler.answers == [0] for idler in self.idlers)

    def run(self, seconds: float, *, until: Callable[[], bool] | None = None) -> None:
        """Pings and listens for so long, or until something is true; fails when it is not true by then."""
        end = time.monotonic() + seconds
        looked = 0.0
        while (now := time.monotonic()) < end:
            # Looking at thousands of clients takes longer than hearing from one.
            if until is not None and now > looked + 0.02:
                looked = now
                if until():
                    return
            self._pass(min(0.02, end - now))
        assert until is None or until(), f"not within {seconds:g} s"

    def _pass(self, wait: float) -> None:
        now = time.monotonic()
        while self._turns and self._turns[0][0] <= now:
            due, number = heapq.heappop(self._turns)
            # Whoever was kept from its turn for longer than that pings once, and not twice at once.
            heapq.heappush(self._turns, (due + self._pause if due + self._pause > now else now + self._pause, number))
            self._ping(self.idlers[number], now)
        for key, _ in self._selector.select(wait):
            self._hear(key.data)

    def _ping(self, idler: Idler, now: float) -> None:
        if idler.gone or idler in self.silent:
            return
        assert idler.pinged is None, f"no answer to a ping in {self._pause:g} s"
        idler.pinged = now
        idler.ping()

    def _hear(self, idler: Idler) -> None:
        try:
            data = idler.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            idler.gone = True
            self._selector.unregister(idler.socket)
            assert idler in self.silent, f"session {idler.session_id:#x} was ended although it pinged"
            return
        if idler.take(data) and idler.pinged is not None:
            self.latencies.append(time.monotonic() - idler.pinged)
            idler.pinged = None

    def __str__(self) -> str:
        found = sorted(self.latencies)
        median, most, slowest = (1000 * found[int(share * (len(found) - 1))] for share in (0.5, 0.99, 1.0))
        return f"{len(found):,} pings answered: median {median:.2f} ms, 99 % {most:.1f} ms, slowest {slowest:.0f} ms"
