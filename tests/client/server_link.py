"""One connection as a ZooKeeper server of release 3.8 or 3.9 has it: frames in, frames out, faults on request. No I/O.

Decodes with the client's own codec, which golden frames of real servers pin elsewhere; everything above the codec is
written for the tests, so that a mistake of the client's session cannot be mirrored here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from terzetto.client.values import ClientInfo
from terzetto.client.wire import OPERATIONS, FrameBuffer, Opcode, codec, records as r
from terzetto.client.wire.multi import READ_REQUESTS, WRITE_REQUESTS, MultiResult, decode_requests, encode_results
from terzetto.client.wire.operations import RECORDS, WATCH_XID
from terzetto.client.wire.primitives import LENGTH, REPLY_HEADER

from .realm import CONFIG, Change, Realm, Refused
from .watch_tables import (
    CHANGED,
    CHILD,
    CREATED,
    DELETED,
    MARSHALLING,
    NO_WATCHER,
    BadWatcherType,
    ConnectionWatches,
    Fired,
    Mode,
    Release,
)

UNIMPLEMENTED = -6
AUTH_FAILED = -115
NOT_READ_ONLY = -119
_WRITES = frozenset(
    {
        Opcode.CREATE,
        Opcode.CREATE2,
        Opcode.CREATE_CONTAINER,
        Opcode.CREATE_TTL,
        Opcode.DELETE,
        Opcode.SET_DATA,
        Opcode.SET_ACL,
    }
)


class Received(NamedTuple):
    """A request as it came."""

    xid: int
    opcode: int
    record: Any

    @property
    def path(self) -> str | None:
        return getattr(self.record, "path", None)


class Fault(enum.Enum):
    """What becomes of one request instead of an answer."""

    IGNORE = enum.auto()
    """Never seen: neither done nor answered."""
    SILENCE = enum.auto()
    """Done, not answered."""
    CUT = enum.auto()
    """The connection goes before anything is done."""
    DO_AND_CUT = enum.auto()
    """Done, then the connection goes instead of the answer."""


class Code(NamedTuple):
    """Answered with this error code, not done."""

    code: int


class Raw(NamedTuple):
    """These bytes instead of an answer."""

    data: bytes


class Oversized(NamedTuple):
    """Done; the answer is announced with this length and has none of it."""

    length: int


Rule = Callable[[Received], Fault | Code | Raw | Oversized | None]


@dataclass(eq=False)
class ServerLink:
    """See the module.

    Attributes:
        out: frames for the client that nobody has fetched yet.
        closed: the server has hung up.
        rules: each is asked for each request; the first that gives a fault decides.
        received: every request that came, in order; `handshake` is the connect request.
        paused: requests are received and not worked on; `resume` works on them.
    """

    realm: Realm
    release: Release = Release.V38
    read_only: bool = False
    rules: list[Rule] = field(default_factory=list[Rule])
    on_output: Callable[[], None] = lambda: None
    refuse_handshake: bool = False
    refused_credentials: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        self.out: list[bytes] = []
        self.closed = False
        self.received: list[Received] = []
        self.handshake: r.ConnectRequest | None = None
        self.session_id = 0
        self.paused = False
        self.watches = ConnectionWatches(self.release)
        self.identities: list[tuple[str, bytes]] = []
        self._frames = FrameBuffer(1 << 24)
        self._backlog: list[Received] = []
        self.realm.watchers.append(self._changed)
        self.realm.on_session_end.append(self._session_ended)

    # Frames -----------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes from the client. Authentication overtakes what came before it in the same chunk, as on real servers."""
        for frames, start, end in self._frames.frames(data):
            if self.closed:
                continue
            if self.handshake is None:
                self._connect(codec(r.ConnectRequest).decode(frames, start, end)[0])
                continue
            header, position = codec(r.RequestHeader).decode(frames, start, end)
            record = _decode(header.type, frames, position, end)
            request = Received(header.xid, header.type, record)
            self.received.append(request)
            if header.type in (Opcode.AUTH, Opcode.SASL):
                self._work(request)
            else:
                self._backlog.append(request)
        if not self.paused:
            self.resume()

    def resume(self) -> None:
        """Works on what has come."""
        self.paused = False
        backlog, self._backlog = self._backlog, []
        for request in backlog:
            if not self.closed:
                self._work(request)

    def take(self) -> bytes:
        """Everything for the client."""
        frames, self.out = self.out, []
        return b"".join(frames)

    def hang_up(self) -> None:
        """Closes the connection; the session goes on."""
        if not self.closed:
            self.closed = True
            self.realm.watchers.remove(self._changed)
            self.realm.on_session_end.remove(self._session_ended)
            self.on_output()

    def send(self, frame: bytes) -> None:
        """Sends bytes as they are."""
        self.out.append(frame)
        self.on_output()

    def reply(self, xid: int, zxid: int, err: int, body: bytes = b"") -> None:
        content = REPLY_HEADER.pack(xid, zxid, err) + body
        self.send(LENGTH.pack(len(content)) + content)

    # Handshake --------------------------------------------------------------------------------------------------------

    def _connect(self, request: r.ConnectRequest) -> None:
        self.handshake = request
        realm = self.realm
        if self.refuse_handshake or request.last_zxid_seen > realm.zxid or (self.read_only and not request.read_only):
            self.hang_up()
            return
        if self.read_only:
            # What a server up to 3.6 does: a session of its own making that nobody else knows.
            timeout = min(max(request.timeout, realm.timeout_min_ms), realm.timeout_max_ms)
            self.session_id = 0x7E
            self._accept(r.ConnectResponse(0, timeout, self.session_id, b"r" * 16, True))
            return
        session_id = request.session_id
        if session_id == 0:
            session_id = realm.open_session(request.timeout)
        elif not realm.resume_session(session_id, request.passwd, request.timeout):
            self._accept(r.ConnectResponse(0, 0, 0, bytes(16), False))
            self.hang_up()
            return
        self.session_id = session_id
        record = realm.sessions[session_id]
        self._accept(r.ConnectResponse(0, record.timeout_ms, session_id, record.passwd, False))

    def _accept(self, response: r.ConnectResponse) -> None:
        body = codec(r.ConnectResponse).encode(response)
        self.send(LENGTH.pack(len(body)) + body)

    def _session_ended(self, session_id: int) -> None:
        if session_id == self.session_id:
            self.hang_up()

    # Requests ---------------------------------------------------------------------------------------------------------

    def _work(self, request: Received) -> None:
        fault = next((found for rule in self.rules if (found := rule(request)) is not None), None)
        if fault is Fault.IGNORE:
            return
        if fault is Fault.CUT:
            self.hang_up()
        elif isinstance(fault, Code):
            self.reply(request.xid, self.realm.zxid, fault.code)
        elif isinstance(fault, Raw):
            self.send(fault.data)
        else:
            self._answer(request, fault)

    def _answer(self, request: Received, fault: Fault | Oversized | None) -> None:
        body, err = b"", 0
        try:
            body = self._perform(request)
        except Refused as refusal:
            err = refusal.code
        if fault is Fault.DO_AND_CUT:
            self.hang_up()
        elif isinstance(fault, Oversized):
            self.send(LENGTH.pack(fault.length))
        elif fault is None and not (request.opcode != Opcode.CLOSE_SESSION and self.closed):
            zxid = 0 if request.opcode in (Opcode.AUTH, Opcode.SASL) else self.realm.zxid
            self.reply(request.xid, zxid, err, body)
        if request.opcode == Opcode.CLOSE_SESSION or (request.opcode == Opcode.AUTH and err):
            self.hang_up()

    def _perform(self, request: Received) -> bytes:
        """The body of a successful answer. Raises `Refused`."""
        opcode, record = request.opcode, request.record
        if self.read_only and (opcode in _WRITES or opcode in (Opcode.SYNC, Opcode.MULTI)):
            raise Refused(NOT_READ_ONLY)
        if opcode in _WRITES:
            return _encoded(self.realm.write(opcode, record, self.session_id))
        if opcode == Opcode.MULTI:
            return encode_results(self.realm.multi(record, self.session_id))
        if opcode == Opcode.MULTI_READ:
            return encode_results([self._read(op.opcode, op.request) for op in record])
        if opcode == Opcode.CLOSE_SESSION:
            # The connection is hung up by the caller, behind the answer.
            self.realm.on_session_end.remove(self._session_ended)
            self.realm.end_session(self.session_id)
            self.realm.on_session_end.append(self._session_ended)
            return b""
        if opcode == Opcode.AUTH:
            if record.auth in self.refused_credentials or record.scheme != "digest":
                raise Refused(AUTH_FAILED)
            self.identities.append((record.scheme, record.auth))
            return b""
        return self._watching(opcode, record) if opcode in _WATCHING else self._reading(opcode, record)

    def _read(self, opcode: int, record: Any) -> MultiResult:
        try:
            if opcode == Opcode.GET_DATA:
                response: Any = r.GetDataResponse(self.realm.get(record.path).data, self.realm.stat(record.path))
            else:
                self.realm.get(record.path)
                response = r.GetChildrenResponse(self.realm.children(record.path))
        except Refused as refusal:
            return MultiResult(Opcode.ERROR, refusal.code, None)
        return MultiResult(opcode, 0, response)

    def _reading(self, opcode: int, record: Any) -> bytes:
        if opcode == Opcode.EXISTS and record.watch:
            self.watches.data.add(record.path, Mode.STANDARD)
        response = self._response(opcode, record)
        if getattr(record, "watch", False):
            table = self.watches.child if opcode in (Opcode.GET_CHILDREN, Opcode.GET_CHILDREN2) else self.watches.data
            table.add(record.path, Mode.STANDARD)
        return _encoded(response)

    def _response(self, opcode: int, record: Any) -> Any:
        realm = self.realm
        match opcode:
            case Opcode.PING:
                return None
            case Opcode.GET_DATA:
                return r.GetDataResponse(realm.get(record.path).data, realm.stat(record.path))
            case Opcode.EXISTS:
                return r.ExistsResponse(realm.stat(record.path))
            case Opcode.GET_CHILDREN:
                realm.get(record.path)
                return r.GetChildrenResponse(realm.children(record.path))
            case Opcode.GET_CHILDREN2:
                return r.GetChildren2Response(realm.children(record.path), realm.stat(record.path))
            case Opcode.GET_ACL:
                return r.GetACLResponse(realm.get(record.path).acl, realm.stat(record.path))
            case Opcode.SYNC:
                return r.SyncResponse(record.path)
            case Opcode.GET_ALL_CHILDREN_NUMBER:
                realm.get(record.path)
                prefix = record.path.rstrip("/") + "/"
                return r.GetAllChildrenNumberResponse(sum(p.startswith(prefix) and p != "/" for p in realm.znodes))
            case Opcode.GET_EPHEMERALS:
                own = [path for path, znode in realm.znodes.items() if znode.owner == self.session_id]
                return r.GetEphemeralsResponse([path for path in own if path.startswith(record.prefix_path)])
            case Opcode.WHO_AM_I:
                names = [ClientInfo(scheme, token.decode().partition(":")[0]) for scheme, token in self.identities]
                return r.WhoAmIResponse([ClientInfo("ip", "127.0.0.1"), *names])
            case Opcode.RECONFIG:
                realm.set_config((record.new_members or record.joining_servers or "").encode())
                return r.GetDataResponse(realm.get(CONFIG).data, realm.stat(CONFIG))
            case _:
                raise Refused(UNIMPLEMENTED)

    # Watches ----------------------------------------------------------------------------------------------------------

    def _watching(self, opcode: int, record: Any) -> bytes:
        if opcode == Opcode.ADD_WATCH:
            self.watches.add_persistent(record.path, record.mode)
            return _encoded(r.ErrorResponse(0))
        if opcode == Opcode.REMOVE_WATCHES:
            try:
                if not self.watches.remove(record.path, record.type):
                    raise Refused(NO_WATCHER)
            except BadWatcherType:
                raise Refused(MARSHALLING) from None
            return b""
        self._restore_watches(record)
        if opcode == Opcode.SET_WATCHES2:
            for path in record.persistent_watches:
                self.watches.add_persistent(path, 0)
            for path in record.persistent_recursive_watches:
                self.watches.add_persistent(path, 1)
        return b""

    def _restore_watches(self, record: Any) -> None:
        znodes, since = self.realm.znodes, record.relative_zxid
        for path in record.data_watches:
            if path not in znodes:
                self._notify((DELETED, path), -1)
            elif znodes[path].mzxid > since:
                self._notify((CHANGED, path), -1)
            else:
                self.watches.data.add(path, Mode.STANDARD)
        for path in record.exist_watches:
            if path in znodes:
                self._notify((CREATED, path), -1)
            else:
                self.watches.data.add(path, Mode.STANDARD)
        for path in record.child_watches:
            if path not in znodes:
                self._notify((DELETED, path), -1)
            elif znodes[path].pzxid > since:
                self._notify((CHILD, path), -1)
            else:
                self.watches.child.add(path, Mode.STANDARD)

    def _changed(self, change: Change, zxid: int) -> None:
        kind, path = change
        tell = {"created": self.watches.created, "changed": self.watches.changed, "deleted": self.watches.deleted}
        for fired in tell[kind](path):
            self._notify(fired, zxid if self.release is Release.V39 else -1)

    def _notify(self, fired: Fired, zxid: int) -> None:
        event, path = fired
        self.reply(WATCH_XID, zxid, 0, codec(r.WatcherEvent).encode(r.WatcherEvent(event, 3, path)))


_WATCHING = frozenset({Opcode.ADD_WATCH, Opcode.REMOVE_WATCHES, Opcode.SET_WATCHES, Opcode.SET_WATCHES2})


def _decode(opcode: int, data: bytes, position: int, end: int) -> Any:
    if opcode == Opcode.MULTI:
        return decode_requests(data, position, end, WRITE_REQUESTS)
    if opcode == Opcode.MULTI_READ:
        return decode_requests(data, position, end, READ_REQUESTS)
    cls = OPERATIONS[opcode].request
    return None if cls is None else codec(cls).decode(data, position, end)[0]


def _encoded(response: Any) -> bytes:
    if response is None:
        return b""
    return RECORDS[type(response).__name__].encode(response)


def nth(number: int, opcode: int, fault: Fault | Code | Raw | Oversized) -> Rule:
    """The fault befalls the n-th request (from 1) of an opcode, and no other."""
    seen = 0

    def rule(request: Received) -> Fault | Code | Raw | Oversized | None:
        nonlocal seen
        seen += request.opcode == opcode
        return fault if request.opcode == opcode and seen == number else None

    return rule


def every(opcode: int, fault: Fault | Code | Raw | Oversized) -> Rule:
    """The fault befalls each request of an opcode."""
    return lambda request: fault if request.opcode == opcode else None
