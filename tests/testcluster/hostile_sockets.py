"""Hostile clients on real sockets, and one that behaves and measures how long it waits.

Decides how connections are abused: bursts of damaged frames, other protocols, a byte at a time, answers never read,
ends without a word. Which frames is `hostile.py`'s business, and how deep they got is judged as in `hostile_target.py`.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from tests.interop.rawclient import Closed, RawClient

from .hostile import MAX_FRAME, TLS_HELLO, WORDS, HostileFrames, chunks
from .hostile_target import Answers, Depths
from .port import connect_frame

CREDENTIALS = b"keeper:nobody guesses this"
HOST = "127.0.0.1"
PATIENCE = 20.0
"""Seconds after which a server that neither answers nor closes has hung."""

_SWALLOWED = 0.05
_RESET = struct.pack("ii", 1, 0)
_FLUSH = b"\xff" * (MAX_FRAME + 16)
_READERS = 3
_DRIPS = 20


class SocketVolleys:
    """Connections one after the other, each with a burst of frames.

    Args:
        port: the server's.
        hostile: where frames come from.

    Attributes:
        depths: how deep the frames got.
        swallowed: frames that stood behind one that broke its connection: sent, and of no account.
    """

    def __init__(self, port: int, hostile: HostileFrames) -> None:
        self._port = port
        self._hostile = hostile
        self._drips: list[socket.socket] = []
        self._deaf: list[socket.socket] = []
        self.depths = Depths()
        self.swallowed = 0
        self.oddities = 0

    def close(self) -> None:
        """Leaves."""
        for sock in (*self._drips, *self._deaf):
            sock.close()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection((HOST, self._port), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def fire(self, count: int) -> None:
        """One connection with a session and `count` frames, read to its end."""
        chance = self._hostile.chance
        with self._connect() as sock:
            burst = b"".join(self._hostile.request() for _ in range(count))
            try:
                sock.sendall(connect_frame(timeout_ms=4000))
                for portion in chunks(burst, chance):
                    sock.sendall(portion)
                sock.sendall(o.CLOSE_SESSION.frame(9))
            except OSError:
                pass  # It was closed in the middle; what it had answered can be read.
            if chance.random() < 0.05:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self.swallowed += count
                return
            answers = self._read_to_end(sock)
        replies = answers.replies[:count]
        missing = count - len(replies)
        for reply in replies:
            self.depths.add([reply])
        if missing:
            self.depths.add([])
            self.swallowed += missing - 1

    @staticmethod
    def _read_to_end(sock: socket.socket) -> Answers:
        answers = Answers()
        sock.settimeout(_SWALLOWED)
        while True:
            try:
                data = sock.recv(1 << 16)
            except TimeoutError:
                assert sock.gettimeout() == _SWALLOWED, "the server neither answers nor closes"
                # A length that is too large waits for more than we have: this fills every frame, and is none.
                sock.settimeout(PATIENCE)
                with contextlib.suppress(OSError):
                    sock.sendall(_FLUSH)
                continue
            except OSError:
                return answers
            if not data:
                return answers
            answers.feed(data)

    # -- what is no burst of frames

    def annoy(self) -> None:
        """One of everything else that clients do."""
        self.oddities += 1
        chance = self._hostile.chance
        kind = chance.choice((self._speak_otherwise, self._leave, self._drip, self._stay_deaf))
        kind()

    def _speak_otherwise(self) -> None:
        """TLS on the plain port, HTTP, words with and without something behind them; the answer is read or not."""
        chance = self._hostile.chance
        with self._connect() as sock:
            data = chance.choice((TLS_HELLO, self._hostile.noise(), chance.choice(WORDS), self._hostile.greeting()))
            with contextlib.suppress(OSError):
                sock.sendall(data)
                if chance.random() < 0.5:
                    sock.settimeout(_SWALLOWED)
                    sock.recv(1 << 16)

    def _leave(self) -> None:
        """A greeting, or less, and gone: by a reset or not."""
        chance = self._hostile.chance
        with self._connect() as sock:
            with contextlib.suppress(OSError):
                sock.sendall(self._hostile.greeting()[: chance.randrange(60)])
            if chance.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def _drip(self) -> None:
        """Many connections get a byte each; the oldest are given up."""
        if len(self._drips) < _DRIPS:
            self._drips.append(self._connect())
        for sock in list(self._drips):
            try:
                sock.send(connect_frame()[:1] if self._hostile.chance.random() < 0.9 else b"\xff")
            except OSError:
                self._drips.remove(sock)
                sock.close()

    def _stay_deaf(self) -> None:
        """Asks for everything, watches everything and reads nothing."""
        if len(self._deaf) >= _READERS:
            self._deaf.pop(0).close()
        sock = self._connect()
        sock.setblocking(False)
        self._deaf.append(sock)
        asked = b"".join(o.GET_CHILDREN.frame(number, "/", True) for number in range(3000))
        with contextlib.suppress(OSError):
            sock.send(connect_frame(timeout_ms=60_000) + o.ADD_WATCH.frame(1, "/", 1) + asked)


class Witness:
    """A well-behaved client in a thread of its own: pings, writes, reads, and notes how long each took (seconds)."""

    def __init__(self, port: int) -> None:
        self.latencies: list[float] = []
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._client = RawClient(port)
        self._client.connect(timeout_ms=30_000)
        self._ask(o.AUTH.frame(-4, 0, "digest", CREDENTIALS), 0)
        # Another witness may have been here.
        self._client.send(o.CREATE.frame(1, "/keeper", b"", OPEN_ACL_UNSAFE, 0))
        assert self._client.next_reply().err in (0, -110)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _ask(self, frame: bytes, code: int) -> None:
        self._client.send(frame)
        found = self._client.next_reply().err
        assert found == code, f"{frame!r}: {found}, not {code}"

    def _timed(self, frame: bytes) -> None:
        before = time.perf_counter()
        self._ask(frame, 0)
        self.latencies.append(time.perf_counter() - before)

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.01):
                self._timed(o.PING.frame(-2))
                self._timed(o.SET_DATA.frame(2, "/keeper", b"data", -1))
                self._timed(o.GET_DATA.frame(3, "/keeper", False))
                # What others may have closed for everybody.
                self._ask(o.SET_ACL.frame(4, "/", OPEN_ACL_UNSAFE, -1), 0)
        except (AssertionError, OSError, Closed) as error:
            self._failure = error

    def __str__(self) -> str:
        median, most, slowest = (self.quantile(share) * 1000 for share in (0.5, 0.99, 1.0))
        answers = f"{len(self.latencies):,} answers"
        return f"{answers}: median {median:.2f} ms, 99 % {most:.1f} ms, slowest {slowest:.0f} ms"

    def quantile(self, share: float) -> float:
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]

    def finish(self) -> None:
        """Ends the thread. Raises what it failed with."""
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the well-behaved client waits for ever"
        self._client.close()
        if self._failure is not None:
            raise AssertionError("the well-behaved client was not served") from self._failure


@contextmanager
def under_fire(port: int, chance: random.Random) -> Iterator[tuple[SocketVolleys, Witness]]:
    """Hostile clients and a witness, who must have been served all the time."""
    volleys = SocketVolleys(port, HostileFrames(chance))
    try:
        witness = Witness(port)
        try:
            yield volleys, witness
        finally:
            witness.finish()
    finally:
        volleys.close()


def fire_until(volleys: SocketVolleys, total: int) -> None:
    """Bursts of all lengths, and everything else in between, until so many frames were judged in all."""
    chance = random.Random(1)
    while volleys.depths.total < total:
        volleys.fire(chance.choice((1, 3, 10, 30, 100)))
        if chance.random() < 0.2:
            volleys.annoy()
