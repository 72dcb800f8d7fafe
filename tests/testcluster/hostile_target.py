"""A server that is shot at in process, and everything that must be true of it however it is shot at.

The real state machine as a shell drives it: each transaction is logged (encoded), read back and applied to a second
tree, as a restart or a follower would. A well-behaved client is served between any two volleys. Decides how deep a
frame got, from the answer alone:

    framing     no answer: the length or the header could not be read, or more bytes are awaited
    header      the opcode is none that a client may send (-6)
    record      the record behind the header could not be read (-5)
    processor   anything else: done, or refused for what it asks
"""

from __future__ import annotations

import struct
import time
from collections import Counter, deque
from typing import Any

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster.auth import digest_id
from terzetto.testcluster.connection import OUTPUT_HARD_MAX, Connection
from terzetto.testcluster.datatree import RESERVED, DataTree
from terzetto.testcluster.digest_md5 import DigestMd5
from terzetto.testcluster.settings import ServerSettings
from terzetto.testcluster.standalone import Standalone
from terzetto.testcluster.txns import decode_txn, encode_txn

from .hostile import HostileFrames, chunks
from .port import connect_frame

TICK_MS = 2000
ZNODES_MAX = 4000
"""Znodes after which the well-behaved client tidies up: the run is to measure the server, not what it is given."""

_REPLY = struct.Struct(">iiqi")
_CREDENTIALS = b"keeper:nobody guesses this"
_UNKNOWN_OPCODE, _UNREADABLE = -6, -5
_TRANSPARENT = RESERVED | {"/zookeeper"}


def depth_of(zxid: int, code: int) -> str:
    """How far the request got that was answered so."""
    if code == _UNKNOWN_OPCODE and zxid == -1:
        return "header"
    return "record" if code == _UNREADABLE else "processor"


class Depths:
    """How deep frames got: counts by depth, and by code for those that were looked at."""

    def __init__(self) -> None:
        self.by_depth: Counter[str] = Counter()
        self.by_code: Counter[int] = Counter()

    @property
    def total(self) -> int:
        return sum(self.by_depth.values())

    def add(self, answers: list[tuple[int, int]]) -> None:
        """One frame, and the (zxid, code) of what came back; several when the damage made several of it."""
        if not answers:
            self.by_depth["framing"] += 1
        for zxid, code in answers:
            depth = depth_of(zxid, code)
            self.by_depth[depth] += 1
            if depth == "processor":
                self.by_code[code] += 1

    def share(self, depth: str) -> float:
        return self.by_depth[depth] / max(1, self.total)

    def lines(self) -> list[str]:
        found = [f"{depth:>10}: {self.by_depth[depth]:>9,} ({self.share(depth):.1%})" for depth in DEPTHS]
        refused = ", ".join(f"{code}: {count:,}" for code, count in self.by_code.most_common() if code)
        return [*found, f"  accepted: {self.by_code[0]:>9,}", f"   refused: {refused}"]


DEPTHS = ("framing", "header", "record", "processor")


class Volleys:
    """Hostile connections one after the other: each greets, more or less, sends some frames and goes.

    Attributes:
        depths: how deep the frames got.
        greetings: how connections began.
    """

    def __init__(self, target: Target, hostile: HostileFrames) -> None:
        self.target = target
        self.depths = Depths()
        self.greetings: Counter[str] = Counter()
        self._hostile = hostile
        self._shot: Shot | None = None
        self._left = 0
        self._silent = 0

    def fire(self) -> None:
        """One frame, whole or in portions."""
        shot = self._ready()
        self._left -= 1
        answers: list[tuple[int, int]] = []
        for portion in chunks(self._hostile.request(), self._hostile.chance):
            answers += shot.send(portion)
        self.depths.add(answers)
        # A length that was made larger swallows what follows, which would then not be worth its name.
        self._silent = 0 if answers else self._silent + 1
        if self._silent > 2:
            shot.hang_up()

    def _ready(self) -> Shot:
        """A connection with a session that may send something."""
        while self._shot is None or self._shot.closed or self._left <= 0:
            if self._shot is not None:
                self._shot.hang_up()
            self._left, self._silent = self._hostile.chance.choice((1, 10, 100, 1000)), 0
            self._shot = self._greet(self.target.shoot())
        return self._shot

    def _greet(self, shot: Shot) -> Shot:
        chance = self._hostile.chance
        if chance.random() < 0.9:
            for _ in range(chance.choice((1, 1, 1, 2))):
                shot.send(self._hostile.greeting())
        else:
            shot.send(self._hostile.noise())
        if shot.connection.session_id and not shot.closed:
            self.greetings["accepted"] += 1
        else:
            self.greetings["closed" if shot.closed else "silent"] += 1
            shot.hang_up()
        return shot


class Answers:
    """What the server sends on one connection, taken apart: (zxid, code) of each reply, and a count of events."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, int]] = []
        self.events = 0
        self._rest = b""
        self._greeted = False

    def feed(self, data: bytes) -> None:
        data = self._rest + data
        position = 0
        while len(data) - position >= 4:
            length = int.from_bytes(data[position : position + 4], "big")
            end = position + 4 + length
            if end > len(data):
                break
            self._take(data, position, end)
            position = end
        self._rest = data[position:]

    def _take(self, data: bytes, position: int, end: int) -> None:
        if not self._greeted:
            self._greeted = True
            return
        _, xid, zxid, code = _REPLY.unpack_from(data, position)
        # An event has 12 bytes and a path behind its header. A reply to a request with the xid -1 may look alike.
        if xid == -1 and code == 0 and end - position > 20 and data[position + 24 : position + 28] == b"\0\0\0\3":
            self.events += 1
        else:
            self.replies.append((zxid, code))


class Shot:
    """One hostile connection."""

    def __init__(self, target: Target, connection: Connection) -> None:
        self.connection = connection
        self.answers = Answers()
        self.closed = False
        self._target = target

    def send(self, data: bytes) -> list[tuple[int, int]]:
        """Sends bytes; what was answered, as (zxid, code)."""
        self.answers.replies.clear()
        if not self.closed:
            self._target.receive(self.connection, data)
        return self.answers.replies

    def hang_up(self) -> None:
        if not self.closed:
            self._target.drop(self.connection)


class Target:
    """A server, its log, a second tree that is made of the log, and one client that only does what it may.

    Attributes:
        slowest: the most processor time (seconds of this thread) that one portion of bytes took.
        slow: those bytes, as far as they fit.
    """

    def __init__(self, **settings: Any) -> None:
        self.now_ms = 1_000_000
        self.wall_ms = 1_700_000_000_000
        self.settings = ServerSettings(
            tick_ms=TICK_MS,
            extended_types=True,
            session_secret=b"secret",
            sasl_acls=True,
            x509_acls=True,
            digest_super=digest_id(_CREDENTIALS),
            sasl_exchange=DigestMd5({"bob": "pw"}, bytes),
            **settings,
        )
        self.machine = Standalone(DataTree(), self.settings, now_ms=self.now_ms)
        self.replica = DataTree()
        self.shots: dict[Connection, Shot] = {}
        self.slowest = 0.0
        self.slow = b""
        self.txns = 0
        self._keeper = self.shoot()
        self._keeper.send(connect_frame(timeout_ms=40_000))
        self._expect(o.AUTH.frame(-4, 0, "digest", _CREDENTIALS), 0)
        self._expect(o.CREATE.frame(1, "/keeper", b"", OPEN_ACL_UNSAFE, 0), 0)

    @property
    def tree(self) -> DataTree:
        return self.machine.tree

    # -- what a shell does

    def shoot(self) -> Shot:
        """A new connection."""
        connection = self.machine.open("127.0.0.1", self.now_ms)
        shot = self.shots[connection] = Shot(self, connection)
        return shot

    def drop(self, connection: Connection) -> None:
        self.machine.hang_up(connection)
        self.shots.pop(connection).closed = True

    def receive(self, connection: Connection, data: bytes) -> None:
        before = time.thread_time()
        self.machine.receive(connection, data, self.now_ms)
        self.pump()
        took = time.thread_time() - before
        if took > self.slowest:
            self.slowest, self.slow = took, data[:200]

    def pump(self) -> None:
        """Orders, logs, applies and sends until nothing is left to do."""
        machine = self.machine
        while True:
            txns = machine.prepare(self.wall_ms)
            for txn in txns:
                self.replica.apply(decode_txn(encode_txn(txn)))
            self.txns += len(txns)
            machine.commit(txns, self.now_ms)
            flushable = machine.take_flushable()
            for connection in flushable:
                self._flush(connection)
            if not txns and not flushable:
                return

    def _flush(self, connection: Connection) -> None:
        assert connection.out_size <= OUTPUT_HARD_MAX
        shot = self.shots.get(connection)
        if shot is None:
            return
        shot.answers.feed(connection.take_output())
        if connection.closing:
            self.drop(connection)
        elif connection.stalled:
            self.machine.receive(connection, b"", self.now_ms)

    # -- the well-behaved client

    def _expect(self, frame: bytes, code: int) -> None:
        found = self._keeper.send(frame)
        assert [each for _, each in found] == [code], f"the well-behaved client got {found}, not {code}"

    def serve(self) -> None:
        """The well-behaved client does one of everything. Then time passes, and idle sessions expire."""
        self._expect(o.PING.frame(-2), 0)
        self._expect(o.SET_DATA.frame(2, "/keeper", b"data", -1), 0)
        self._expect(o.GET_DATA.frame(3, "/keeper", False), 0)
        self._expect(o.CREATE.frame(4, "/keeper/e", b"", OPEN_ACL_UNSAFE, 1), 0)
        self._expect(o.DELETE.frame(5, "/keeper/e", -1), 0)
        if len(self.tree.nodes) > ZNODES_MAX:
            self._tidy()

    def _tidy(self) -> None:
        """Deletes what the others have made, children first, as a client."""
        kept = {"/keeper", *_TRANSPARENT}
        waiting = deque(path for path in reversed(list(self.tree.nodes)) if path not in kept)
        while waiting:
            path = waiting.popleft()
            answers = [code for _, code in self._keeper.send(o.DELETE.frame(6, path, -1))]
            if answers == [-111]:
                waiting.append(path)
            else:
                assert answers in ([0], [-101]), (path, answers)

    def let_time_pass(self, ms: int) -> None:
        """Idle sessions expire; the well-behaved one pings, and opens the root that somebody may have closed."""
        for _ in range(0, ms, TICK_MS):
            self.now_ms += TICK_MS
            self.wall_ms += TICK_MS
            self._expect(o.PING.frame(-2), 0)
            self._expect(o.SET_ACL.frame(7, "/", OPEN_ACL_UNSAFE, -1), 0)
            self.machine.expire(self.now_ms)
            self.machine.sweep(self.wall_ms)
            self.pump()

    # -- what must be true

    def check(self) -> None:
        """The tree is what its log says, its digest what its znodes say, and nobody waits."""
        tree, replica = self.tree, self.replica
        assert self.machine.outstanding == 0
        assert self.machine.preparer.outstanding == 0
        assert (tree.digest_mismatches, replica.digest_mismatches) == (0, 0)
        assert (tree.digest, len(tree.nodes)) == (replica.digest, len(replica.nodes))
        assert tree.sessions == replica.sessions
        reloaded = DataTree()
        reloaded.load(tree.last_zxid, [], tree.acls.dump(), tree.walk(), None)
        assert (reloaded.digest, len(reloaded.nodes), reloaded.data_size) == (
            tree.digest,
            len(tree.nodes),
            tree.data_size,
        )
        assert len(self.machine.connections) == len(self.shots)

    def finish(self) -> None:
        """Everybody leaves, and nothing is left of them."""
        for shot in list(self.shots.values()):
            if shot is not self._keeper:
                shot.hang_up()
        self.pump()
        self.let_time_pass(60_000)
        self.serve()
        self.check()
        assert self.machine.watches.total == 0
        assert list(self.tree.sessions) == [self._keeper.connection.session_id]
        assert list(self.machine.connections) == [self._keeper.connection]
        assert not self.tree.ephemerals
