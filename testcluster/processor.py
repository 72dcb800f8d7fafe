"""The request processor: from a client's bytes to reads and writes, from applied transactions to replies and events.

Decides in which order a connection is answered, and nothing about what may be written: a write leaves through
`take_requests`, comes back as a transaction through `apply`, and its connection's later requests wait in between. So
the same processor serves a standalone server, a leader (prepare, propose, commit, apply) and a follower (forward,
commit, apply). It moves no bytes; clocks are arguments.

    open(peer_ip, now_ms) -> Connection         a client has connected
    receive(connection, data, now_ms)           bytes from it; b"" when the output of a `stalled` one has left
    take_requests() -> list[Request]            writes and syncs to be ordered, in order of arrival
    apply(txn, now_ms)                          a committed transaction, in zxid order
    complete_sync(request, now_ms)              everything before a sync has been applied
    take_flushable() -> list[Connection]        send `take_output()`, then close those that are `closing`
    hang_up(connection)                         the transport is gone

`now_ms` is a monotonic clock in milliseconds; `wall_ms`, which the preparer and the sweep take, counts from the epoch.
"""

from __future__ import annotations

import struct
from collections import deque

from terzetto.client.errors import WireError
from terzetto.client.values import Permissions
from terzetto.client.wire import codec, records as r
from terzetto.client.wire.operations import Opcode
from terzetto.client.wire.primitives import LENGTH

from .acl import AccessRules
from .auth import Authenticator, access_rules
from .codes import (
    MARSHALLING_ERROR,
    NOT_READ_ONLY,
    OK,
    SESSION_CLOSED_REQUIRE_SASL,
    SESSION_EXPIRED,
    SESSION_MOVED,
    UNIMPLEMENTED,
    Refused,
)
from .connection import (
    OUTPUT_HARD_MAX,
    OUTPUT_SOFT_MAX,
    READS_WAITING_MAX,
    Connection,
    Phase,
    Request,
    Traffic,
    Turn,
)
from .datatree import CHILD, DELETED, DataTree
from .ids import is_session_password, session_password
from .opcodes import IDENTIFYING, WRITES, is_orderable
from .reads import WORK_MAX, Reads
from .replies import connect_response, header_reply, refused_connect, reply, watch_event, write_reply
from .sessions import Session, SessionTracker
from .settings import ServerSettings
from .txns import Txn
from .watches import WatchTable

_HEAD = struct.Struct(">iii")
_HEAD_SIZE = 12
_HEADER_SIZE = 8
_unpack_head = _HEAD.unpack_from
_READING = frozenset({Phase.NEW, Phase.HANDSHAKING, Phase.OPEN})

_decode_connect = codec(r.ShortConnectRequest).decode
_decode_sync = codec(r.SyncRequest).decode
_encode_sync = codec(r.SyncResponse).encode


class RequestProcessor:
    """The client port's state machine.

    Args:
        tree: the replicated state.
        settings: what the operator decides.
        sessions: the sessions of this server.

    Attributes:
        tree: the replicated state.
        settings: what the operator decides.
        sessions: the sessions of this server.
        access: judges ACLs.
        watches: all watches of this server's connections.
        connections: every connection that is not closed, in the order they came.
        outstanding: requests that were read and are not answered.
        serving: whether clients may have sessions here; a member of an ensemble may not always serve.
        read_only: whether writes are refused because there is no quorum.
        floor_zxid: everything up to here is in the tree although no transaction bears it: where the epoch begins.
        traffic: counters of the whole server.
        auth_failures: auth packets and SASL exchanges that failed.
    """

    def __init__(self, tree: DataTree, settings: ServerSettings, sessions: SessionTracker) -> None:
        self.tree = tree
        self.settings = settings
        self.sessions = sessions
        self.access: AccessRules = access_rules(settings)
        self.watches: WatchTable[Connection] = WatchTable()
        self.connections: dict[Connection, None] = {}
        self.outstanding = 0
        self.serving = True
        self.read_only = False
        self.floor_zxid = 0
        self.traffic = Traffic()
        self.auth_failures = 0
        self._by_session: dict[int, Connection] = {}
        self._authenticator = Authenticator(settings)
        self._reader = Reads(tree, self.watches, self.access)
        self._requests: list[Request] = []
        self._local: deque[Request] = deque()
        self._flushable: list[Connection] = []

    # Connections.

    def open(self, peer_ip: str, now_ms: int, certificate_subject: str | None = None) -> Connection:
        """A client has connected.

        Args:
            peer_ip: its address as text.
            now_ms: the clock.
            certificate_subject: RFC 2253 name in the certificate that it has shown, if any.
        """
        ids = self._authenticator.first_ids(peer_ip, certificate_subject)
        connection = Connection(peer_ip, ids, max_frame=self.settings.max_frame, now_ms=now_ms)
        connection.certificate_subject = certificate_subject
        self.connections[connection] = None
        return connection

    def is_settled(self, connection: Connection) -> bool:
        """Whether it has a session, and whatever identity the operator demands."""
        return connection.session_id != 0 and self._authenticator.is_enough(connection)

    def connection_of(self, session_id: int) -> Connection | None:
        """The connection that a session has here."""
        return self._by_session.get(session_id)

    def drop(self, connection: Connection) -> None:
        """Closes a connection without another word, once what it has been sent is flushed.

        Its session stays, its watches do not; its writes under way still happen.
        """
        if connection.closing:
            return
        connection.phase = Phase.CLOSING
        if self._by_session.get(connection.session_id) is connection:
            del self._by_session[connection.session_id]
        self.watches.remove_watcher(connection)
        if connection.waiting is not None:
            self.outstanding -= len(connection.waiting)
            connection.waiting = None
        self._flush_later(connection)

    def hang_up(self, connection: Connection) -> None:
        """The transport is gone."""
        self.drop(connection)
        connection.phase = Phase.CLOSED
        connection.out.clear()
        connection.out_size = 0
        self.connections.pop(connection, None)

    def abandon(self) -> None:
        """Drops every connection, and forgets what was to be ordered: this server cannot answer any more."""
        for connection in list(self.connections):
            self.drop(connection)
        self._requests.clear()
        self._local.clear()

    def take_flushable(self) -> list[Connection]:
        """The connections that have output, or are to be closed, since the last call."""
        flushable, self._flushable = self._flushable, []
        for connection in flushable:
            connection.must_flush = False
        return flushable

    def _flush_later(self, connection: Connection) -> None:
        if not connection.must_flush:
            connection.must_flush = True
            self._flushable.append(connection)

    def _send(self, connection: Connection, frame: bytes) -> None:
        connection.out.append(frame)
        connection.out_size += len(frame)
        connection.traffic.sent += 1
        self.traffic.sent += 1
        self._flush_later(connection)
        if connection.out_size > OUTPUT_HARD_MAX:
            connection.out.clear()
            self.drop(connection)

    # Bytes from a client.

    def receive(self, connection: Connection, data: bytes, now_ms: int) -> None:
        """Takes bytes from a client in any portions; with none, goes on where it had stalled."""
        self._reader.work = 0
        if connection.stalled:
            connection.stalled = False
            self._answer_waiting(connection, now_ms)
        if connection.phase not in _READING:
            return
        try:
            data = connection.frames.feed(data)
            used = self._consume(connection, data, now_ms) if data else 0
            if connection.phase in _READING:
                connection.frames.keep(data, used)
        except WireError:
            self.drop(connection)

    def _consume(self, connection: Connection, data: bytes, now_ms: int) -> int:
        """Handles whole frames for as long as the connection can take them; returns where the rest begins."""
        pos, size = 0, len(data)
        limit = connection.frames.limit
        while size - pos >= _HEAD_SIZE:
            if self._must_stall(connection):
                connection.stalled = True
                return pos
            if connection.phase is Phase.OPEN:
                before = pos
                pos = self._read_burst(connection, data, pos, size, now_ms)
                if pos != before:
                    continue
            length, xid, opcode = _unpack_head(data, pos)
            if not _HEADER_SIZE <= length <= limit:
                raise WireError(f"a frame of length {length} was announced")
            end = pos + LENGTH.size + length
            if end > size:
                return pos
            if connection.phase is Phase.NEW:
                self._connect(connection, data, pos + LENGTH.size, end, now_ms)
            else:
                self._submit(connection, xid, opcode, data[pos + _HEAD_SIZE : end], now_ms)
            if connection.phase not in _READING:
                return size
            pos = end
        if size - pos >= LENGTH.size and LENGTH.unpack_from(data, pos)[0] < _HEADER_SIZE:
            raise WireError("a frame without a header was announced")
        return pos

    def _must_stall(self, connection: Connection) -> bool:
        return (
            connection.phase is Phase.HANDSHAKING
            or connection.out_size > OUTPUT_SOFT_MAX
            or self._reader.work > WORK_MAX
            or (connection.waiting is not None and connection.reads_waiting > READS_WAITING_MAX)
        )

    def _read_burst(self, connection: Connection, data: bytes, pos: int, size: int, now_ms: int) -> int:
        """Answers frames for as long as they are reads that nothing has to wait for; returns where it stopped."""
        session = connection.session
        if connection.waiting is not None or session.closing:
            return pos
        if not self._authenticator.is_enough(connection):
            return pos
        reader, out, ids = self._reader, connection.out, connection.ids
        table, limit = reader.table, connection.frames.limit
        room = OUTPUT_SOFT_MAX - connection.out_size
        sent = count = xid = opcode = 0
        while size - pos >= 12 and sent <= room and reader.work <= WORK_MAX:
            length, new_xid, new_opcode = _unpack_head(data, pos)
            end = pos + 4 + length
            read = table.get(new_opcode)
            if read is None or end > size or not 8 <= length <= limit:
                break
            xid, opcode = new_xid, new_opcode
            try:
                frame = read(connection, ids, xid, data, pos + 12, end)
            except Refused as refusal:
                frame = header_reply(xid, self.tree.last_zxid, refusal.code)
            except (WireError, struct.error):
                frame = header_reply(xid, self.tree.last_zxid, MARSHALLING_ERROR)
            out.append(frame)
            sent += len(frame)
            count += 1
            pos = end
        if count:
            connection.out_size += sent
            self.sessions.touch(session, now_ms)
            for traffic in (self.traffic, connection.traffic):
                traffic.received += count
                traffic.sent += count
            self._account(connection, count, opcode, xid, now_ms, 0)
            self._flush_later(connection)
        return pos

    def _account(self, connection: Connection, count: int, opcode: int, xid: int, now_ms: int, latency_ms: int) -> None:
        self.traffic.add_answers(count, latency_ms)
        connection.traffic.add_answers(count, latency_ms)
        connection.last_opcode = opcode
        connection.last_cxid = xid
        connection.last_zxid = self.tree.last_zxid
        connection.last_response_ms = now_ms
        connection.last_latency_ms = latency_ms

    # The handshake.

    def _connect(self, connection: Connection, data: bytes, pos: int, end: int, now_ms: int) -> None:
        self.traffic.received += 1
        connection.traffic.received += 1
        (_, last_zxid, wanted_ms, session_id, password), pos = _decode_connect(data, pos, end)
        connection.sends_read_only = pos < end
        if not self._can_serve(last_zxid, wants_writes=not (pos < end and data[pos])):
            self.drop(connection)
            return
        connection.session_timeout_ms = timeout_ms = self.settings.negotiated_timeout(wanted_ms)
        connection.phase = Phase.HANDSHAKING
        if session_id == 0:
            self.begin_session(connection, timeout_ms, now_ms)
        elif is_session_password(session_id, password, self.settings.session_secret):
            self.resume_session(connection, session_id, timeout_ms, now_ms)
        else:
            self.welcome(connection, None, now_ms)

    def _can_serve(self, last_zxid: int, *, wants_writes: bool) -> bool:
        """A client that has seen more than this server, or wants to write where nobody can, is to try another one."""
        if not self.serving or (self.read_only and wants_writes):
            return False
        return last_zxid <= self.tree.last_zxid or last_zxid <= self.floor_zxid

    def begin_session(self, connection: Connection, timeout_ms: int, now_ms: int) -> None:
        """A new client wants a session: decides how it gets one."""
        self.request_session(connection, timeout_ms, now_ms)

    def request_session(self, connection: Connection, timeout_ms: int, now_ms: int) -> None:
        """Asks for a transaction that creates a session; `connection` is welcomed with it when it is applied."""
        request = Request(
            self.sessions.next_id(),
            0,
            Opcode.CREATE_SESSION,
            LENGTH.pack(timeout_ms),
            connection=connection,
            owner=self,
            received_ms=now_ms,
        )
        self._requests.append(request)

    def resume_session(self, connection: Connection, session_id: int, timeout_ms: int, now_ms: int) -> None:
        """A client has come back with a session and the right password: finds out whether the session lives."""
        self.welcome(connection, self.sessions.reopen(session_id, timeout_ms, now_ms, self), now_ms)

    def welcome(self, connection: Connection, session: Session | None, now_ms: int) -> None:
        """Answers a ConnectRequest: with the session, or with the news that it is over."""
        if session is None:
            self._send(connection, refused_connect(connection.sends_read_only, self.read_only))
            self.drop(connection)
            return
        # Only now, when the password has been found right: ZooKeeper closes the rightful connection before it looks.
        before = self._by_session.get(session.session_id)
        if before is not None:
            self.drop(before)
        self._by_session[session.session_id] = connection
        connection.session = session
        connection.session_id = session.session_id
        connection.phase = Phase.OPEN
        frame = connect_response(
            timeout_ms=connection.session_timeout_ms,
            session_id=session.session_id,
            password=session_password(session.session_id, self.settings.session_secret),
            read_only=self.read_only if connection.sends_read_only else None,
        )
        self._send(connection, frame)
        self._account(connection, 1, Opcode.CREATE_SESSION, 0, now_ms, 0)

    # Requests that are no reads to be answered at once.

    def _submit(self, connection: Connection, xid: int, opcode: int, body: bytes, now_ms: int) -> None:
        self.traffic.received += 1
        connection.traffic.received += 1
        if opcode in IDENTIFYING:
            identify = self._authenticator.auth if opcode == Opcode.AUTH else self._authenticator.sasl
            frame, stays = identify(connection, xid, body)
            self.auth_failures += not stays
            self._answer(connection, frame, xid, opcode, now_ms, stays=stays)
        elif not self._authenticator.is_enough(connection):
            frame = header_reply(xid, 0, SESSION_CLOSED_REQUIRE_SASL)
            self._answer(connection, frame, xid, opcode, now_ms, stays=False)
        elif opcode in WRITES or opcode == Opcode.SYNC:
            self._write(connection, xid, opcode, body, now_ms)
        elif opcode in self._reader.table:
            self._read_later(connection, xid, opcode, body, now_ms)
        else:
            frame = header_reply(xid, -1, UNIMPLEMENTED)
            self._answer(connection, frame, xid, opcode, now_ms, stays=False)

    def _write(self, connection: Connection, xid: int, opcode: int, body: bytes, now_ms: int) -> None:
        self.sessions.touch(connection.session, now_ms)
        code = OK
        if self.read_only and opcode != Opcode.CLOSE_SESSION:
            code = NOT_READ_ONLY
        elif not is_orderable(opcode, body):
            code = MARSHALLING_ERROR
        if code != OK:
            self._answer(connection, b"", xid, opcode, now_ms, code=code)
            return
        request = Request(
            connection.session_id,
            xid,
            opcode,
            body,
            ids=connection.ids,
            connection=connection,
            owner=self,
            received_ms=now_ms,
        )
        self._requests.append(request)
        self._append(connection, request)
        if opcode == Opcode.CLOSE_SESSION:
            connection.phase = Phase.ENDING

    def _read_later(self, connection: Connection, xid: int, opcode: int, body: bytes, now_ms: int) -> None:
        session = connection.session
        if session.closing:
            self._answer(connection, b"", xid, opcode, now_ms, code=SESSION_EXPIRED)
            return
        self.sessions.touch(session, now_ms)
        request = Request(
            connection.session_id,
            xid,
            opcode,
            body,
            ids=connection.ids,
            connection=connection,
            received_ms=now_ms,
            turn=Turn.READ,
        )
        connection.reads_waiting += 1
        self._append(connection, request)

    def _answer(
        self,
        connection: Connection,
        frame: bytes,
        xid: int,
        opcode: int,
        now_ms: int,
        *,
        code: int = OK,
        stays: bool = True,
    ) -> None:
        """Sends, in its turn, an answer that is known already: a frame, or a code with the zxid of then."""
        request = Request(
            connection.session_id, xid, opcode, frame, connection=connection, received_ms=now_ms, turn=Turn.ANSWER
        )
        request.code = code
        self._append(connection, request)
        if not stays:
            connection.phase = Phase.ENDING
        self._answer_waiting(connection, now_ms)

    def _append(self, connection: Connection, request: Request) -> None:
        self.outstanding += 1
        if connection.waiting is None:
            connection.waiting = deque((request,))
        else:
            connection.waiting.append(request)

    def _answer_waiting(self, connection: Connection, now_ms: int, *, before: Request | None = None) -> None:
        """Answers what waits, up to the next write or sync; up to `before` however much output that makes."""
        waiting = connection.waiting
        if waiting is None:
            return
        while waiting:
            request = waiting[0]
            if request.turn is Turn.ORDERED or request is before:
                return
            if before is None and (connection.out_size > OUTPUT_SOFT_MAX or self._reader.work > WORK_MAX):
                connection.stalled = True
                return
            waiting.popleft()
            self.outstanding -= 1
            self._send(connection, self._frame(connection, request))
            if connection.closing:
                return
            self._account(connection, 1, request.opcode, request.cxid, now_ms, now_ms - request.received_ms)
        connection.waiting = None
        if connection.phase is Phase.ENDING:
            self.drop(connection)

    def _frame(self, connection: Connection, request: Request) -> bytes:
        if request.turn is Turn.ANSWER:
            return request.body or header_reply(request.cxid, self.tree.last_zxid, request.code)
        connection.reads_waiting -= 1
        body = request.body
        try:
            return self._reader.table[request.opcode](connection, request.ids, request.cxid, body, 0, len(body))
        except Refused as refusal:
            return header_reply(request.cxid, self.tree.last_zxid, refusal.code)
        except (WireError, struct.error):
            return header_reply(request.cxid, self.tree.last_zxid, MARSHALLING_ERROR)

    # What is ordered.

    def take_requests(self) -> list[Request]:
        """Writes and syncs since the last call, in the order in which they came."""
        requests, self._requests = self._requests, []
        self._local.extend([each for each in requests if each.connection is not None and each.opcode != Opcode.SYNC])
        return requests

    def add_request(self, request: Request) -> None:
        """A write of the server's own: a session that is over, a container that is empty."""
        self._requests.append(request)

    def complete_sync(self, request: Request, now_ms: int) -> None:
        """Everything that was committed before the sync has been applied here."""
        (path,), _ = _decode_sync(request.body, 0, len(request.body))
        body = _encode_sync(r.SyncResponse(path))
        self._finish(request, reply(request.cxid, self.tree.last_zxid, body), now_ms)

    def answer_unordered(self, request: Request, code: int, now_ms: int) -> None:
        """Answers a write that gets no transaction."""
        if request in self._local:
            self._local.remove(request)
        self._finish(request, header_reply(request.cxid, self.tree.last_zxid, code), now_ms)

    def apply(self, txn: Txn, now_ms: int) -> None:
        """Applies a committed transaction: to the tree, watches and sessions, and to the request that asked for it."""
        header = txn.header
        request = self._local_request(txn)
        if request is not None:
            connection = request.connection
            if connection is not None and connection.waiting is not None and connection.waiting[0] is not request:
                # Reads that stand before this write must not see it.
                self._answer_waiting(connection, now_ms, before=request)
        tree = self.tree
        code = tree.apply(txn)
        if tree.events and self.watches:
            self._notify(header.zxid)
        kind = header.type
        if kind == Opcode.CREATE_SESSION:
            self._session_created(txn, request, now_ms)
            return
        if request is not None:
            self._finish_write(request, txn, code, now_ms)
        if kind == Opcode.CLOSE_SESSION:
            self._session_closed(header.client_id, request)

    def _local_request(self, txn: Txn) -> Request | None:
        """The request of this server's clients that the transaction belongs to."""
        local = self._local
        if not local:
            return None
        header, request = txn.header, local[0]
        if request.zxid:
            return local.popleft() if request.zxid == header.zxid else None
        # Prepared elsewhere: the transactions of a server's clients come back in the order in which they left. One from
        # another server, which a client has left before it came here, may have the same numbers: it is older.
        same = (request.session_id, request.cxid) == (header.client_id, header.cxid)
        if same and request.floor_zxid < header.zxid and header.type in (request.opcode, Opcode.ERROR):
            return local.popleft()
        return None

    def _notify(self, zxid: int) -> None:
        watches = self.watches
        for kind, path, acl in self.tree.events:
            if kind == CHILD:
                watchers = watches.on_children(path)
            elif kind == DELETED:
                watchers = watches.on_deleted(path)
            else:
                watchers = watches.on_node(path)
            if not watchers:
                continue
            frame = watch_event(kind, path, zxid)
            for connection in watchers:
                if self.access.allows(acl, Permissions.READ, connection.ids):
                    self._send(connection, frame)

    def _session_created(self, txn: Txn, request: Request | None, now_ms: int) -> None:
        session = self.sessions.track(txn.header.client_id, txn.record.timeout, now_ms)
        connection = None if request is None else request.connection
        if connection is not None and connection.phase is Phase.HANDSHAKING:
            self.welcome(connection, session, now_ms)

    def _session_closed(self, session_id: int, request: Request | None) -> None:
        self.sessions.remove(session_id)
        connection = self._by_session.get(session_id)
        # The one that asked for it is closed after its answer.
        if connection is not None and (request is None or request.connection is not connection):
            self.drop(connection)

    def _finish_write(self, request: Request, txn: Txn, code: int, now_ms: int) -> None:
        connection = request.connection
        if connection is None or connection.waiting is None:
            return
        moved = code == SESSION_MOVED or (
            request.opcode == Opcode.MULTI and any(result.err == SESSION_MOVED for result in self.tree.results)
        )
        if moved:
            self.drop(connection)
            return
        self._finish(request, write_reply(request, txn, code, self.tree), now_ms)

    def _finish(self, request: Request, frame: bytes, now_ms: int) -> None:
        connection = request.connection
        if connection is None or connection.waiting is None:
            return
        request.turn = Turn.ANSWER
        request.body = frame
        self._answer_waiting(connection, now_ms)
