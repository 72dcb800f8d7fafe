"""The client's session as a state machine: bytes and times in, bytes and effects out. Sans-IO.

Decides everything that ZooKeeper's protocol decides: the handshake, what a reconnect restores and in which order, which
request a reply answers, what fails and how when the link goes, when to ping and when to give a server up. It refuses to
know sockets, tasks and clocks: `now` comes as an argument, and who waits for a request is opaque to it.

The shell reports `link_up`, `receive_data`, `link_lost` and `tick`, sends what `queue.take` gives, and carries out the
effects that each call returns, in their order: a watch event stands before the reply that shows the change.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from ._conversation import SaslConversation
from ._effects import Deliver, DropLink, Effect, SaslTurn, SessionConfig, StateChanged, TurnOutcome
from ._handshake import NO_PASSWD, connect_frame, decode_connect_response, is_rejection
from ._liveness import Liveness
from ._pending import Request, RequestQueue, fail_all
from ._phases import TERMINAL, TRANSITIONS, Input, Phase
from ._proof import OwnershipProof
from ._watch_requests import WatchRequests
from ._watches import Watchers, WatchTable
from .errors import (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    FrameTooLargeError,
    KazooException,
    SessionExpiredError,
    WireError,
    error_from_code,
)
from .values import EVENT_TYPE_MAP, AddWatchMode, EventType, KazooState, KeeperState, WatchedEvent, WatcherType
from .wire import FrameBuffer, codec
from .wire.multi import MULTI
from .wire.operations import AUTH, AUTH_XID, CLOSE_SESSION, MAX_XID, PING, PING_XID, WATCH_XID, Operation
from .wire.primitives import REPLY_PREFIX
from .wire.records import ConnectResponse, WatcherEvent

_WATCHER_EVENT = codec(WatcherEvent)
_PING_FRAME = PING.frame(PING_XID)
_SASL_REQUIRED = -124


class Session:
    """See the module. One instance serves a client for its whole life, through all its connections and sessions."""

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.phase = Phase.DISCONNECTED
        self.state = KazooState.LOST
        self.keeper_state = KeeperState.CONNECTING
        self.session_id, self.passwd = config.client_id or (0, NO_PASSWD)
        self.last_zxid = 0
        self.is_read_only = False
        """Connected to a server without a quorum."""
        self.auth: list[tuple[str, bytes]] = list(config.auth)
        self.queue = RequestQueue(config.max_in_flight)
        self.watches = WatchTable()
        self._watch_requests = WatchRequests(self.watches, self._send_own, self._tell)
        self.proof = OwnershipProof()
        self._frames = FrameBuffer(config.max_reply_size)
        # A read-only server's session means nothing elsewhere; this is the one to resume, (0, ...) for a new one.
        self._resumable = (self.session_id, self.passwd)
        self._xid = 0
        self._refusal: Callable[[], KazooException] | None = None
        self._closing: Request | None = None
        # Changes since this zxid were missed. Frozen from the loss of a connection until all watches are restored,
        # because replies to the first batches of setWatches already carry newer zxids.
        self._missed_since: int | None = None
        self._restoring = 0
        self.established = 0
        """Connections that got as far as CONNECTED."""
        self.server_name = ""  # of the server connected to, for SASL
        self._sasl: SaslConversation | None = None
        self._liveness = Liveness(config.session_timeout)
        self._effects: list[Effect] = []

    @property
    def timeout(self) -> float:
        """Negotiated session timeout in seconds; what was asked for until then."""
        return self._liveness.timeout

    @property
    def resumable_id(self) -> int:
        """Id of the session as all servers with a quorum know it, 0 without one; a read-only server gives another."""
        return self._resumable[0]

    @property
    def _is_accepted(self) -> bool:
        return self.phase in (Phase.RESTORING, Phase.CONNECTED)

    # Requests ---------------------------------------------------------------------------------------------------------

    def next_xid(self) -> int:
        """The next request's xid: 1 to 2**31-1, then 1 again. Counts on across reconnects."""
        self._xid = xid = self._xid + 1 if self._xid < MAX_XID else 1
        return xid

    def submit(self, request: Request) -> None:
        """Queues a request behind all others.

        Raises:
            ConnectionClosedError, SessionExpiredError, AuthFailedError: the session takes no more requests.
        """
        if self._refusal is not None:
            raise self._refusal()
        self.queue.unsent.append(request)

    @property
    def is_over(self) -> bool:
        """Whether `submit` raises."""
        return self._refusal is not None

    def check_usable(self) -> None:
        """Raises what `submit` would raise."""
        if self._refusal is not None:
            raise self._refusal()

    def withdraw(self, request: Request) -> None:
        """Its caller left: unsent, it will not be sent; sent, its reply will be dropped."""
        request.waiter = None
        self.queue.withdraw(request)

    def watch_on_reply(self, kind: str, path: str, watcher: Any) -> tuple[bool, Callable[[Request, int], None]]:
        """For a read that leaves a one-shot watch: the flag to send, and what registers the watch (`Request.after`).

        `kind` is "data", "exist" or "child"; `path` absolute.
        """
        return self._watch_requests.read(kind, path, watcher)

    def watch_persistent(
        self, path: str, mode: AddWatchMode, watcher: Any
    ) -> tuple[int, Callable[[Request, int], None], Callable[[], None]]:
        """For an addWatch: the mode to send, what its answer means (`Request.after`), and what to call if it fails."""
        return self._watch_requests.add(path, mode, watcher)

    def unwatch(self, path: str, mode: AddWatchMode | None, watcher: Any) -> None:
        """Takes a persistent watcher off (mode `None`: a one-shot one) and tells the server, without waiting for its
        answer; an unknown one is ignored.
        """
        self._watch_requests.discard(path, mode, watcher)

    def unwatch_all(self, path: str, kind: WatcherType) -> tuple[bool, list[Request], list[Effect]]:
        """Takes off all watchers of a kind: (whether there were any, requests that tell the server, whom to tell)."""
        found, requests = self._watch_requests.remove(path, kind)
        return found, requests, self._take_effects()

    def _send_own(self, operation: Operation, fields: tuple[Any, ...]) -> Request | None:
        """A request of the session's own, in call order with the users'. Without a link there is nobody to ask."""
        if not self._is_accepted:
            return None
        xid = self.next_xid()
        request = Request(operation, xid, operation.frame(xid, *fields))
        self.queue.unsent.append(request)
        return request

    def _tell(self, event_type: str, path: str, watchers: Watchers) -> None:
        self._effects.append(Deliver(WatchedEvent(event_type, self.keeper_state, path), watchers))

    def authenticated(self, scheme: str, credential: bytes) -> Callable[[Request, int], None]:
        """What remembers an accepted credential for later connections (`Request.after` of an auth request)."""

        def remember(request: Request, zxid: int) -> None:
            if request.error is None and (scheme, credential) not in self.auth:
                self.auth.append((scheme, credential))

        return remember

    def close(self) -> Request | None:
        """Queues closeSession behind everything; further requests are refused. `None`: there is nothing to close."""
        if self._closing is not None or self.phase in TERMINAL:
            return self._closing
        self._refusal = _closed
        known = self.session_id if self._is_accepted else self.resumable_id
        if known == 0 or (self.established == 0 and self.phase is not Phase.RESTORING):
            return None
        xid = self.next_xid()
        self._closing = Request(CLOSE_SESSION, xid, CLOSE_SESSION.frame(xid))
        self.queue.unsent.append(self._closing)
        return self._closing

    # The link ---------------------------------------------------------------------------------------------------------

    def link_up(self, now: float, handshake_timeout: float) -> None:
        """A connection to a server is there; the connect request is the first thing to send on it."""
        self._move(Input.LINK_UP)
        self._frames = FrameBuffer(self.config.max_reply_size)
        self._liveness.link_up(now, handshake_timeout)
        self.proof.connecting(now)
        frame = connect_frame(
            self.last_zxid, self.config.session_timeout, *self._resumable, read_only=self.config.read_only
        )
        self.queue.control.append(Request(PING, PING_XID, frame))

    def sent_bytes(self, count: int, now: float) -> None:
        """Of what `queue.take` gave, `count` bytes have left."""
        if count:
            self._liveness.sent_at = now
        self.queue.sent_bytes(count, now)

    def receive_data(self, data: bytes, now: float) -> list[Effect]:
        """Bytes arrived. Never raises: what is wrong with them ends in a `DropLink`."""
        self._liveness.heard_at = now
        try:
            self._parse(self._frames.feed(data))
        except FrameTooLargeError as error:
            self.queue.reply_too_large(error)
            self._effects.append(DropLink(error))
        except WireError as error:
            self._effects.append(DropLink(error))
        return self._take_effects()

    def link_lost(self, error: BaseException | None, now: float) -> list[Effect]:
        """The connection is gone, for whatever reason. Everything submitted before fails, in order.

        A connection that was never established takes nothing with it: what waited for it waits for the next one.
        """
        if self.phase is Phase.DISCONNECTED or self.phase in TERMINAL:
            # The session ended before its link did; what has been submitted since is meant for the next one.
            return self._take_effects()
        was_connected = self.phase is Phase.CONNECTED
        self._move(Input.LINK_LOST)
        self._sasl = None
        missed_since = self._watch_requests.lost(self.last_zxid)
        if was_connected:
            self._missed_since = missed_since
        self.is_read_only = False
        sent, unsent = self.queue.lost()
        reason = "connection lost" if error is None else f"connection lost: {error}"
        if was_connected:
            self._fail(sent, lambda: ConnectionLoss(reason), outcome_unknown=True, cause=error)
            self._fail(unsent, lambda: ConnectionLoss(reason), cause=error)
            self._change_state(KazooState.SUSPENDED, KeeperState.CONNECTING)
        else:
            self.queue.unsent.extend(request for request in unsent if request is not self._closing)
        if self._closing is not None:
            # If it had arrived all the same, the next server will say that the session is over.
            self.queue.unsent.append(self._closing)
        return self._take_effects()

    def give_up(self, reason: str) -> list[Effect]:
        """The application's patience with a total outage is over: the session counts as lost."""
        if self.phase is Phase.DISCONNECTED and (self.state != KazooState.LOST or self._resumable[0]):
            self._session_lost(reason)
        return self._take_effects()

    def end(self, error: Callable[[], KazooException] | None = None) -> list[Effect]:
        """The shell stops for good: whatever waits fails, with `error` if one is given, and nothing more is taken."""
        if error is not None:
            self._refusal = error
        self._end()
        return self._take_effects()

    def _end(self) -> None:
        if self.phase is Phase.CLOSED:
            return
        refusal = self._refusal = self._refusal or _closed
        self._move(Input.CLOSED)
        sent, unsent = self.queue.lost()
        self._fail(sent, refusal, outcome_unknown=True)
        self._fail(unsent, refusal)
        if self._closing is not None:
            self._closing.done = True
            if self._closing.waiter is not None:
                self._effects.append([self._closing])
        self.proof.session_lost()
        self._change_state(KazooState.LOST, KeeperState.CLOSED)
        self._end_watches(lambda watcher: False)

    # Time -------------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When `tick` must be called at the latest."""
        if self.phase is Phase.HANDSHAKING:
            return self._liveness.ready_by
        due = self._liveness.next_deadline(self.proof.holders > 0, self.queue.has_output or self._sasl is not None)
        if self.phase is Phase.RESTORING:
            return min(due, self._liveness.ready_by)
        return min(due, self.proof.renewal_due()) if self.phase is Phase.CONNECTED else inf

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: a ping or a proof may be due, or the server has been silent for too long."""
        verdict = None
        if self.phase in (Phase.HANDSHAKING, Phase.RESTORING):
            verdict = self._liveness.unreadiness(now)
        if self._is_accepted:
            oldest = self.queue.sent[0].xid if self.queue.sent else 0
            verdict = verdict or self._liveness.silence(now) or self._liveness.stuckness(now, oldest)
            if verdict is None:
                self._keep_alive(now)
        if verdict is not None:
            self._drop(verdict)
        return self._take_effects()

    def _keep_alive(self, now: float) -> None:
        if self.phase is Phase.CONNECTED and now >= self.proof.renewal_due():
            self.queue.unsent.append(self.new_proof())
            self.proof.renewing(now)
        # A server that demands SASL takes a ping before it for a refusal to identify.
        if self._liveness.ping_due(now, self.proof.holders > 0) and not self.queue.has_output and self._sasl is None:
            self.queue.control.append(Request(PING, PING_XID, _PING_FRAME))

    def new_proof(self) -> Request:
        """An empty multi: a quorum orders it, and its answer renews the proof."""
        xid = self.next_xid()
        return Request(MULTI, xid, MULTI.frame(xid, ()))

    # Replies ----------------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        size, position = len(data), 0
        if self.phase is Phase.HANDSHAKING:
            position = self._parse_handshake(data)
            if not self._is_accepted:
                return
        done: list[Request] = []
        queue, closing = self.queue, self._closing
        sent, limit, unpack = queue.sent, self.config.max_reply_size, REPLY_PREFIX.unpack_from
        request: Request | None = None
        try:
            while size - position >= 20:
                length, xid, zxid, err = unpack(data, position)
                if not 16 <= length <= limit:
                    self._frames.checked_length(data, position)
                    raise WireError(f"a reply of {length} bytes is too short for its header of 16")
                end = position + 4 + length
                if end > size:
                    break
                if xid <= 0:
                    self._out_of_band(done, data, position + 20, end, (xid, zxid, err))
                    position = end
                    if self.phase in TERMINAL:
                        return
                    continue
                request = sent.popleft() if sent and sent[0].xid == xid else queue.answered(xid)
                if err:
                    request.error = error_from_code(err, request.path)
                else:
                    operation = request.operation
                    if operation.decode is not None:
                        try:
                            request.value, _ = operation.decode(data, position + 20, end)
                        except WireError:
                            # It was answered, but nobody can say with what: it fails with the connection.
                            sent.appendleft(request)
                            raise
                    if operation.quorum_ordered:
                        self.proof.answered(request.sent_at, request.xid, self._xid)
                position = end
                if zxid > self.last_zxid:
                    self.last_zxid = zxid
                request.done = True
                if request is closing:
                    done = self._flushed(done)
                    self._finish_close()
                    return
                if request.waiter is not None:
                    done.append(request)
                if request.after is not None:
                    request.after(request, zxid)
                if err == _SASL_REQUIRED and self.phase not in TERMINAL:
                    done = self._flushed(done)
                    self._auth_refused(AuthFailedError(f"the server demands authentication first ({err})"))
                if queue.held:
                    queue.release_held(done)
                if self.phase in TERMINAL:
                    return
            self._frames.keep(data, position)
        finally:
            if request is not None:
                self.proof.heard(request.sent_at, self._liveness.heard_at)
            if done:
                # What was answered before the error or the close was answered.
                self._effects.append(done)

    def _flushed(self, done: list[Request]) -> list[Request]:
        """Makes an effect of the answers so far, because others follow; returns where the next ones go."""
        if done:
            self._effects.append(done)
        return []

    def _out_of_band(
        self, done: list[Request], data: bytes, start: int, end: int, header: tuple[int, int, int]
    ) -> None:
        """A frame that answers no ordinary request. `done` holds the answers before it, and is emptied by an event."""
        xid, zxid, err = header
        if xid == WATCH_XID:
            event, _ = _WATCHER_EVENT.decode(data, start, end)
            event_type = EVENT_TYPE_MAP.get(event.type)
            if event_type is None or event_type == EventType.NONE:
                return  # types that servers up to 3.9 never send
            if done:
                self._effects.append(list(done))
                done.clear()
            for told_type, path, watchers in self.watches.fire(event_type, event.path, zxid):
                told = WatchedEvent(told_type, self.keeper_state, path, zxid if zxid > 0 else None)
                self._effects.append(Deliver(told, watchers))
        elif xid == AUTH_XID:
            request = self.queue.answered_early()
            if err:
                request.error = error_from_code(err, request.path)
                self._drop(ConnectionLoss("the server refused a credential, and closes the connection"))
            request.done = True
            if request.after is not None:
                request.after(request, zxid)
            self.queue.release_held(done)
        elif xid == PING_XID:
            if self.queue.pings:
                self.proof.heard(self.queue.pings.popleft(), self._liveness.heard_at)
        else:
            raise WireError(f"the server sent a reply with xid {xid}, which no request had")

    # Handshake and restoration ----------------------------------------------------------------------------------------

    def _parse_handshake(self, data: bytes) -> int:
        """Returns the position behind the server's first frame, if it is all there."""
        if len(data) < 4:
            self._frames.keep(data, 0)
            return 0
        end = 4 + self._frames.checked_length(data, 0)
        if len(data) < end:
            self._frames.keep(data, 0)
            return 0
        response = decode_connect_response(data, 4, end)
        if is_rejection(response, self._resumable[0]):
            self._session_lost("the server says that the session has expired")
            self._drop(SessionExpiredError("the server says that the session has expired"))
        else:
            self._accepted(response)
        return end

    def _accepted(self, response: ConnectResponse) -> None:
        self._move(Input.ACCEPTED)
        self.session_id = response.session_id
        self.passwd = response.passwd or NO_PASSWD
        self._liveness.accepted(response.timeout / 1000)
        self.is_read_only = response.read_only
        if not response.read_only:
            self._resumable = (self.session_id, self.passwd)
        self.proof.negotiated(self.timeout, self._liveness.heard_at)
        self.queue.pings.clear()  # the connect request stood among them
        if self.config.sasl is None:
            self._restore()
        else:
            self._sasl = SaslConversation(self.next_xid, self._say, self._identified)
            self._sasl.begin(self.config.sasl, self.server_name)

    def _say(self, said: Request | SaslTurn) -> None:
        if isinstance(said, Request):
            self.queue.control.append(said)
        else:
            self._effects.append(said)

    def sasl_turn_taken(self, turn: SaslTurn, outcome: TurnOutcome) -> list[Effect]:
        """What came of a turn that the shell was asked to take."""
        if self._sasl is not None:
            self._sasl.taken(turn, outcome)
        return self._take_effects()

    def _identified(self, error: KazooException | None) -> None:
        self._sasl = None
        if error is None:
            self._restore()
        elif isinstance(error, AuthFailedError):
            self._auth_refused(error)
        else:
            self._drop(error)

    def _restore(self) -> None:
        """Credentials first, since events of restored watches are filtered by permission; then watches; then the
        users.
        """
        since = self.last_zxid if self._missed_since is None else self._missed_since
        requests = [
            Request(AUTH, AUTH_XID, AUTH.frame(AUTH_XID, 0, scheme, credential)) for scheme, credential in self.auth
        ]
        for operation, fields in self.watches.restore(since):
            xid = self.next_xid()
            requests.append(Request(operation, xid, operation.frame(xid, *fields)))
        self._restoring = len(requests)
        for request in requests:
            request.after = self._restored_one
        self.queue.control.extend(requests)
        if not requests:
            self._restored()

    def _restored_one(self, request: Request, zxid: int) -> None:
        if request.error is not None:
            if request.operation is AUTH:
                self._auth_refused(AuthFailedError("the server refused a credential of `auth`"))
            else:
                self._drop(ConnectionLoss(f"the server refused to restore the watches: {request.error!r}"))
            return
        self._restoring -= 1
        if not self._restoring and self.phase is Phase.RESTORING:
            self._restored()

    def _restored(self) -> None:
        self._move(Input.RESTORED)
        self.established += 1
        self._missed_since = None
        self.queue.open = True
        keeper_state = KeeperState.CONNECTED_RO if self.is_read_only else KeeperState.CONNECTED
        self._change_state(KazooState.CONNECTED, keeper_state)

    # Ends -------------------------------------------------------------------------------------------------------------

    def _session_lost(self, reason: str) -> None:
        """The session is over. Nothing that was meant for it goes on to the next one."""

        def expired() -> KazooException:
            return SessionExpiredError(reason)

        self._move(Input.REJECTED)
        self._resumable = (0, NO_PASSWD)
        self.session_id, self.passwd, self.last_zxid = 0, NO_PASSWD, 0
        self._missed_since = None
        self.proof.session_lost()
        sent, unsent = self.queue.lost()
        self._fail(sent, expired, outcome_unknown=True)
        self._fail(unsent, expired)
        self._change_state(KazooState.LOST, KeeperState.EXPIRED_SESSION)
        renew = self.config.renew_session and self._closing is None
        self._end_watches(lambda watcher: renew and watcher.survives_session)
        if self._closing is not None:
            self._finish_close()
        elif renew:
            self._move(Input.RENEWED)
            self._change_state(KazooState.LOST, KeeperState.CONNECTING)
        else:
            self._refusal = expired

    def _auth_refused(self, error: KazooException) -> None:
        """The server refused a credential that every connection needs, so no connection will do."""

        def refused() -> KazooException:
            return AuthFailedError(*error.args)

        self._move(Input.AUTH_REFUSED)
        self._refusal = refused
        self.proof.session_lost()
        sent, unsent = self.queue.lost()
        self._fail(sent, refused, outcome_unknown=True)
        self._fail(unsent, refused)
        self._change_state(KazooState.LOST, KeeperState.AUTH_FAILED)
        self._end_watches(lambda watcher: False)
        self._drop(refused())

    def _finish_close(self) -> None:
        self.session_id = 0
        self._end()

    def _fail(
        self,
        requests: list[Request],
        error: Callable[[], KazooException],
        *,
        outcome_unknown: bool = False,
        cause: BaseException | None = None,
    ) -> None:
        done = fail_all(
            [request for request in requests if request is not self._closing],
            error,
            outcome_unknown=outcome_unknown,
            cause=cause,
        )
        if done:
            self._effects.append(done)

    def _end_watches(self, survives: Callable[[Any], bool]) -> None:
        for path, watchers in self.watches.end_session(survives):
            self._tell(EventType.NONE, path, watchers)

    def _drop(self, error: KazooException) -> None:
        self._effects.append(DropLink(error))

    def _change_state(self, state: str, keeper_state: str) -> None:
        changed = (state, keeper_state) != (self.state, self.keeper_state)
        self.state, self.keeper_state = state, keeper_state
        if changed:
            self._effects.append(StateChanged(state, keeper_state))

    def _move(self, event: Input) -> None:
        """The one door through which the phase changes."""
        after = TRANSITIONS[self.phase].get(event)
        if after is None:
            raise AssertionError(f"{event.name} is not possible in phase {self.phase.name}")
        self.phase = after

    def _take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects


def _closed() -> KazooException:
    return ConnectionClosedError("the client is closed")
