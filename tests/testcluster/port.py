"""A client port without a network: the real state machine under the test's own clock, and clients that speak in frames.

Nothing here is a stand-in: bytes go through `Standalone` exactly as a server's shell moves them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import OPERATIONS, Opcode, codec, multi, operations as o, records as r
from terzetto.testcluster.connection import Connection
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.settings import ServerSettings
from terzetto.testcluster.standalone import Standalone
from terzetto.testcluster.txns import Txn

_LENGTH = struct.Struct(">i")
_REPLY = struct.Struct(">iqi")
WATCH_XID = -1


class Reply(NamedTuple):
    """One reply: `value` is the decoded record, `None` where there is none, bytes where the request is not known."""

    xid: int
    zxid: int
    err: int
    value: Any = None


class Event(NamedTuple):
    """One watch event."""

    type: int
    path: str
    zxid: int


def framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


def connect_frame(
    *,
    timeout_ms: int = 30_000,
    session_id: int = 0,
    password: bytes | None = bytes(16),
    last_zxid: int = 0,
    read_only: bool | None = False,
) -> bytes:
    if read_only is None:
        return framed(
            codec(r.ShortConnectRequest).encode(r.ShortConnectRequest(0, last_zxid, timeout_ms, session_id, password))
        )
    return framed(
        codec(r.ConnectRequest).encode(r.ConnectRequest(0, last_zxid, timeout_ms, session_id, password, read_only))
    )


def multi_frame(xid: int, *ops: tuple[int, Any], opcode: int = Opcode.MULTI) -> bytes:
    """A multi of any operations, also those that cannot stand in one."""
    known: dict[int, Any] = {**multi.WRITE_REQUESTS, **multi.READ_REQUESTS}
    parts = [struct.pack(">ii", xid, opcode)]
    for kind, record in ops:
        parts.append(struct.pack(">i?i", kind, False, -1))
        parts.append(codec(known[kind]).encode(record) if kind in known else b"")
    parts.append(struct.pack(">i?i", -1, True, -1))
    return framed(b"".join(parts))


class Port:
    """A server of its own. Writes are committed at once, unless within `held`."""

    def __init__(self, tree: DataTree | None = None, **settings: Any) -> None:
        self.now_ms = 1_000_000
        self.wall_ms = 1_700_000_000_000
        settings.setdefault("tick_ms", 2000)
        self.settings = ServerSettings(**settings)
        self.machine = Standalone(tree or DataTree(), self.settings, now_ms=self.now_ms)
        self.log: list[Txn] = []
        self.held: list[Txn] | None = None
        self.peers: dict[Connection, Peer] = {}

    @property
    def tree(self) -> DataTree:
        return self.machine.tree

    def open(self, peer_ip: str = "127.0.0.1", certificate_subject: str | None = None) -> Peer:
        """A connection that has said nothing yet."""
        peer = Peer(self, self.machine.open(peer_ip, self.now_ms, certificate_subject))
        self.peers[peer.connection] = peer
        return peer

    def connect(self, **terms: Any) -> Peer:
        """A connection with a session."""
        opening = {key: terms.pop(key) for key in ("peer_ip", "certificate_subject") if key in terms}
        peer = self.open(**opening)
        peer.handshake(**terms)
        assert peer.session_id, "the session was refused"
        return peer

    def pump(self) -> None:
        """What a shell does between two looks at its sockets."""
        machine = self.machine
        while True:
            txns = machine.prepare(self.wall_ms)
            self.log += txns
            if self.held is None:
                machine.commit(txns, self.now_ms)
            else:
                self.held += txns
            flushable = machine.take_flushable()
            for connection in flushable:
                peer = self.peers[connection]
                peer.take(connection.take_output())
                if connection.closing:
                    peer.closed = True
                    machine.hang_up(connection)
                elif connection.stalled:
                    machine.receive(connection, b"", self.now_ms)
            if not txns and not flushable:
                return

    @contextmanager
    def hold(self) -> Iterator[list[Txn]]:
        """Prepares and logs, but commits only at the end (or what the test commits itself)."""
        held: list[Txn] = []
        self.held = held
        yield held
        self.held = None
        self.machine.commit(held, self.now_ms)
        self.pump()

    def tick(self, ms: int, *, step_ms: int = 500) -> None:
        """Lets time pass, with sessions expiring as they should."""
        for _ in range(0, ms, step_ms):
            self.now_ms += step_ms
            self.wall_ms += step_ms
            if self.now_ms >= self.machine.next_expiry_ms:
                self.machine.expire(self.now_ms)
            self.pump()


class Peer:
    """A client of the port."""

    def __init__(self, port: Port, connection: Connection) -> None:
        self.port = port
        self.connection = connection
        self.closed = False
        self.read_only: bool | None = None
        self.session_id = 0
        self.timeout_ms = 0
        self.password: bytes | None = b""
        self.frames: list[bytes] = []
        self.events: list[Event] = []
        self._rest = b""
        self._decoders: dict[int, Callable[..., Any] | None] = {}
        self._xid = 0

    def take(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= 4:
            end = 4 + _LENGTH.unpack_from(self._rest)[0]
            if len(self._rest) < end:
                return
            self.frames.append(self._rest[4:end])
            self._rest = self._rest[end:]

    def send(self, data: bytes) -> None:
        """Any bytes."""
        self.port.machine.receive(self.connection, data, self.port.now_ms)
        self.port.pump()

    def handshake(self, **terms: Any) -> None:
        self.send(connect_frame(**terms))
        self.handshake_answer()

    def handshake_answer(self) -> None:
        if self.frames:
            frame = self.frames.pop(0)
            record, pos = codec(r.ShortConnectResponse).decode(frame, 0, len(frame))
            self.read_only = frame[pos] != 0 if pos < len(frame) else None
            self.session_id, self.timeout_ms = record.session_id, record.timeout
            self.password = record.passwd

    def frame(self, operation: o.Operation, *fields: Any) -> bytes:
        """The next request's frame; its reply will be decoded."""
        self._xid += 1
        self._decoders[self._xid] = operation.decode
        return operation.frame(self._xid, *fields)

    def expect(self, xid: int, opcode: int) -> None:
        """How the reply to a hand-made frame is to be decoded."""
        self._decoders[xid] = OPERATIONS[opcode].decode

    def replies(self) -> list[Reply]:
        """Everything that came since the last call; events go to `events`."""
        found: list[Reply] = []
        for item in self.stream():
            if isinstance(item, Event):
                self.events.append(item)
            else:
                found.append(item)
        return found

    def stream(self) -> list[Reply | Event]:
        """Replies and events in the order in which they came."""
        frames, self.frames = self.frames, []
        return [self._decoded(frame) for frame in frames]

    def _decoded(self, frame: bytes) -> Reply | Event:
        xid, zxid, err = _REPLY.unpack_from(frame)
        if xid == WATCH_XID:
            record, _ = codec(r.WatcherEvent).decode(frame, _REPLY.size, len(frame))
            assert record.state == 3
            return Event(record.type, record.path, zxid)
        body = frame[_REPLY.size :]
        decode = self._decoders.get(xid)
        if err or decode is None or not body:
            return Reply(xid, zxid, err, body or None)
        value, pos = decode(frame, _REPLY.size, len(frame))
        assert pos == len(frame)
        return Reply(xid, zxid, err, value)

    def ask(self, operation: o.Operation, *fields: Any) -> Reply:
        """One request and its reply."""
        self.send(self.frame(operation, *fields))
        (answer,) = self.replies()
        return answer

    def ask_frame(self, frame: bytes) -> Reply:
        """One hand-made request and its reply."""
        self.send(frame)
        (answer,) = self.replies()
        return answer

    def ok(self, operation: o.Operation, *fields: Any) -> Any:
        """The value of a request that succeeds."""
        answer = self.ask(operation, *fields)
        assert answer.err == 0, answer
        return answer.value

    def err(self, operation: o.Operation, *fields: Any) -> int:
        """The code of a request."""
        return self.ask(operation, *fields).err

    def multi(self, *ops: tuple[int, Any]) -> list[multi.MultiResult]:
        """The results of a multi that is answered."""
        self._xid += 1
        self.expect(self._xid, Opcode.MULTI)
        answer = self.ask_frame(multi_frame(self._xid, *ops))
        assert answer.err == 0, answer
        results: list[multi.MultiResult] = answer.value
        return results

    def create(self, path: str, data: bytes | None = b"", *, flags: int = 0, acl: Any = OPEN_ACL_UNSAFE) -> str:
        """The path of a znode that is created."""
        made: str = self.ok(o.CREATE, path, data, acl, flags).path
        return made

    def stat(self, path: str) -> Any:
        """The Stat of a znode that exists."""
        return self.ok(o.EXISTS, path, False).stat

    def take_events(self) -> list[tuple[int, str]]:
        """Types and paths of the events since the last call."""
        self.replies()
        events, self.events = self.events, []
        return [(event.type, event.path) for event in events]

    def hang_up(self) -> None:
        self.port.machine.hang_up(self.connection)
        self.closed = True


def create(
    path: str | None, data: bytes | None = b"", *, flags: int = 0, acl: Any = OPEN_ACL_UNSAFE
) -> r.CreateRequest:
    """A create as an operation of a multi."""
    return r.CreateRequest(path, data, acl, flags)
