"""The trio shell around the session: one reader, one writer and one timer for each connection, one task that dials.

Holds no protocol state: it reports to the session what happens and carries out the session's effects. A request is sent
by its own caller when nothing else is in flight; otherwise the parked writer joins all that is queued into one system
call. A caller waits by being parked and is woken by the reader itself; there is no event, channel, scope or task for an
operation.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tenacity
import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from ._backoff import FullJitter
from ._clock import Clock
from ._effects import Deliver, DropLink, Effect, SaslTurn, StateChanged
from ._hosts import Endpoint, HostList
from ._janitor import Janitor
from ._pending import Request
from ._phases import TERMINAL
from ._proof import KEEPALIVE_SHARE
from ._session import Session
from ._transport import Connection, Transport
from .errors import ClientCrashedError, KazooException
from .values import KazooState, KeeperState

log = logging.getLogger("terzetto.client")

SEND_CHUNK = 128 * 1024
"""About how many bytes go into one system call."""
PROBE_PAUSE_MIN, PROBE_PAUSE_MAX = 0.1, 60.0
"""Pauses between two searches for a server with a quorum, while connected to one without (Java's figures)."""
PROBE_TIMEOUT = 5.0
PAUSE_MAX = 5.0
"""Longest pause between two rounds over all servers, in seconds."""
FOUR_LETTER_MAX = 16 * 1024 * 1024
"""Longest answer to a four-letter word, in bytes."""

_LINK_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
_DIAL_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
_PROBE_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, KazooException)


class _NoServer(Exception):
    """A round over all servers ended without a session; the last failure is its cause."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds of the shell's waits, in seconds."""

    close: float
    give_up_after: float | None


class SessionRunner:
    """Runs one session over as many connections as it takes.

    Attributes:
        session: the state machine.
        endpoint: the server connected to, `None` without a connection.
        settled: set once the first connection stands or can never stand.
        listeners: called with each new `KazooState`, in order; one that returns True is removed.
        last_error: why the last connection or attempt failed.
        round_failed: called behind each round over all servers that gave no session, if there is one.
    """

    def __init__(
        self,
        session: Session,
        transport: Transport,
        hosts: HostList,
        clock: Clock,
        rng: random.Random,
        timeouts: Timeouts,
    ) -> None:
        self.session = session
        self.transport = transport
        self.hosts = hosts
        self.clock = clock
        self.endpoint: Endpoint | None = None
        self.settled = trio.Event()
        self.listeners: dict[Callable[[str], Any], None] = {}
        self.last_error: BaseException | None = None
        self.round_failed: Callable[[], None] | None = None
        self._rng = rng
        self._run_token = trio.lowlevel.current_trio_token()
        self._told_state = session.state
        self._timeouts = timeouts
        self._scope = trio.CancelScope(shield=True)
        self._patience = trio.CancelScope()
        self._link: trio.CancelScope | None = None
        self._connection: Connection | None = None
        self._parked_writer: Task | None = None
        # The writer waits in the middle of a send; a byte from anyone else would end up inside its frame.
        self._sending = False
        self._preferred: Endpoint | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def connection(self) -> Connection | None:
        """The present one; `None` from the moment on at which it counts as lost."""
        return self._connection

    # Requests ---------------------------------------------------------------------------------------------------------

    def check_run(self) -> None:
        """Raises `RuntimeError` where another trio run is, which must not touch this one's tasks."""
        if trio.lowlevel.current_trio_token() is not self._run_token:
            raise RuntimeError(
                "this client belongs to another trio run: open one in each, or call it by trio.from_thread.run"
            )

    async def call(self, request: Request) -> Any:
        """Sends a request and waits for its outcome, by parking. A checkpoint.

        Raises:
            KazooException: the request's error, or why the session takes none.
            RuntimeError: the client belongs to another trio run.
        """
        if trio.lowlevel.current_trio_token() is not self._run_token:
            self.check_run()
        await trio.lowlevel.checkpoint_if_cancelled()
        request.waiter = current_task()
        self.submit(request)

        def leave(_: RaiseCancelT) -> Abort:
            self.session.withdraw(request)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(leave)
        if request.error is not None:
            raise request.error
        return request.value

    def submit(self, request: Request) -> None:
        """Queues a request and sends it at once if nothing is in flight. `request.waiter` learns the outcome."""
        self.session.submit(request)
        queue = self.session.queue
        if queue.open:
            if not queue.sent and queue.idle:
                self.flush()
            elif self._parked_writer is not None:
                self.wake_writer()

    def wake_writer(self) -> None:
        """Has the writer send what is queued, joined, in the next scheduler pass."""
        if self._parked_writer is not None:
            writer, self._parked_writer = self._parked_writer, None
            reschedule(writer)

    def flush(self) -> None:
        """Sends what is queued, in this very call as far as the link takes it."""
        if not self.flush_some():
            self.wake_writer()

    def flush_some(self) -> bool:
        """As `flush`, but touches no task: False when the writer is to be woken for the rest."""
        connection = self._connection
        if connection is None or self._sending:
            return True
        if not connection.sends_at_once:
            return False
        data = self.session.queue.take(SEND_CHUNK)
        if not data:
            return True
        # Read first: a process that is stopped in between must not believe that it was heard later than it was.
        now = self.clock.now()
        try:
            sent = connection.send_nowait(data)
        except OSError:
            # Not dropped here: this is the task of a caller that is about to park, which must not be woken before it
            # has. The writer meets the same error, in a task of ours.
            self.session.sent_bytes(0, now)
            return False
        self.session.sent_bytes(sent, now)
        return sent == len(data)

    def drop_link(self, error: BaseException) -> None:
        """Ends the current connection, if there is one. The session knows at once, its tasks leave a little later.

        So a call that is made after anyone could see the loss waits for the next connection.
        """
        link, self._link = self._link, None
        if link is not None:
            link.cancel()
            self.last_error = error
            self._connection = None
            # A server hangs up behind the last answer of a session; then nothing is lost.
            level = logging.DEBUG if self.session.phase in TERMINAL else logging.INFO
            log.log(level, "connection to %s lost: %s", self.endpoint, error)
            self.apply(self.session.link_lost(error, self.clock.now()))

    def apply(self, effects: list[Effect]) -> None:
        """Carries out what the session asks for, in order."""
        for effect in effects:
            if type(effect) is list:
                for request in effect:
                    waiter = request.waiter
                    if waiter is None:
                        continue
                    request.waiter = None
                    if waiter.__class__ is Task:
                        reschedule(waiter)
                    else:
                        waiter.completed(request)
            elif isinstance(effect, Deliver):
                for watcher in effect.watchers:
                    self.tell(watcher.deliver, effect.event)
            elif isinstance(effect, StateChanged):
                self._state_changed(effect)
            elif isinstance(effect, DropLink):
                self.drop_link(effect.error)
            elif isinstance(effect, SaslTurn) and self._nursery is not None:
                self._nursery.start_soon(self._take_turn, effect)

    async def _take_turn(self, turn: SaslTurn) -> None:
        """Lets a SASL mechanism wait for what it needs without anybody else waiting with it."""
        outcome = await trio.to_thread.run_sync(turn.take, abandon_on_cancel=True)
        self.apply(self.session.sasl_turn_taken(turn, outcome))
        if self.session.queue.has_output:
            self.wake_writer()

    def tell(self, callback: Callable[[Any], Any], argument: object) -> Any:
        """Calls a callback of the application's; what it raises is logged. Returns what it returns."""
        # The one place where an exception is not passed on: the callback is the application's, the reader is
        # everyone's.
        try:
            return callback(argument)
        except Exception:
            log.exception("a callback raised; argument was %r", argument)
            return None

    def _state_changed(self, change: StateChanged) -> None:
        if change.state == KazooState.CONNECTED:
            self._patience.deadline = float("inf")
            if change.keeper_state == KeeperState.CONNECTED_RO and self._nursery is not None:
                self._nursery.start_soon(self._seek_quorum)
        if change.state == KazooState.CONNECTED or self.session.phase in TERMINAL:
            self.settled.set()
        if change.state == self._told_state:
            return  # only the finer state is another
        self._told_state = change.state
        for listener in list(self.listeners):
            if self.tell(listener, change.state) is True:
                self.listeners.pop(listener, None)

    # Connections ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps a session until it is closed, or over for good. Never raises but `trio.Cancelled`.

        It is shielded from the surroundings' cancellation, so that a session can be closed in order even then; `aclose`
        ends it, and must be called.
        """
        crash: Exception | None = None
        try:
            with self._scope:
                while self.session.phase not in TERMINAL:
                    await self._keep_connected()
        except Exception as error:  # the boundary: a bug of ours must reach those who wait, not the parent's nursery
            crash = error
            log.exception("the client's background task failed")
        finally:
            self.apply(self.session.end(None if crash is None else _crashed(crash)))
            self.settled.set()

    async def _keep_connected(self) -> None:
        """Dials until a connection stands, and serves it until it is lost."""
        patience = self._timeouts.give_up_after
        if self.session.state == KazooState.LOST or patience is None:
            patience = float("inf")
        self._patience = trio.CancelScope(deadline=trio.current_time() + patience)
        with self._patience:
            retrying = tenacity.AsyncRetrying(
                sleep=trio.sleep,
                # After a total outage every session has one fresh timeout, in which we must have come back.
                wait=FullJitter(self._rng, maximum=min(PAUSE_MAX, self.session.timeout / 4)),
                retry=tenacity.retry_if_exception_type(_NoServer),
            )
            await retrying(self._round)
        if self._patience.cancelled_caught:
            self.apply(self.session.give_up(f"no server for {patience} s (give_up_after)"))
        elif self.session.phase not in TERMINAL:
            # All clients of a server that went away look for another one at this moment.
            await trio.sleep(self._rng.uniform(0, 0.1))

    async def _round(self) -> None:
        """Tries every address of every server once; returns after one of them has served us, or nothing is left to
        do.
        """
        for endpoint in self._next_round():
            timeout = self.session.timeout / len(self.hosts)
            try:
                with trio.fail_after(timeout):
                    addresses = await self.transport.resolve(endpoint)
            except _DIAL_ERRORS as error:
                self._attempt_failed(endpoint, error)
                continue
            for address in addresses:
                if await self._attempt(address, timeout) or self.session.phase in TERMINAL:
                    return
        if self.round_failed is not None:
            self.round_failed()
        raise _NoServer from self.last_error

    def _next_round(self) -> list[Endpoint]:
        order = self.hosts.next_round()
        preferred, self._preferred = self._preferred, None
        return order if preferred is None else [preferred, *order]

    async def _attempt(self, address: Endpoint, patience: float) -> bool:
        """Dials one address and serves the connection. True when the session was established on it."""
        try:
            with trio.fail_after(patience):
                connection = await self.transport.dial(address)
        except _DIAL_ERRORS as error:
            self._attempt_failed(address, error)
            return False
        self.endpoint = address
        try:
            served = await self._serve(connection, patience)
        finally:
            self.endpoint = None
        if not served and self.last_error is not None:
            self._attempt_failed(address, self.last_error)
        return served

    def _attempt_failed(self, endpoint: Endpoint, error: BaseException) -> None:
        if isinstance(error, trio.TooSlowError):
            error = TimeoutError(f"{endpoint} did not answer in time")
        elif isinstance(error, trio.BrokenResourceError) and error.__cause__ is not None:
            error = error.__cause__  # what TLS has to say
        self.last_error = error
        log.info("no session from %s: %s", endpoint, error)

    async def _serve(self, connection: Connection, patience: float) -> bool:
        """Runs one connection to its end. True when it got as far as CONNECTED."""
        established = self.session.established
        self._connection = connection
        self.session.server_name = "" if self.endpoint is None else self.endpoint.server_name
        self.session.link_up(self.clock.now(), patience)
        crashed = False
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._link = nursery.cancel_scope
                nursery.start_soon(self._guard, self._write, connection)
                nursery.start_soon(self._guard, self._read, connection)
                nursery.start_soon(self._keep_time)
        except Exception:
            # Whoever waits must learn of the crash, from `run`, and not that a connection was lost.
            crashed = True
            raise
        finally:
            if not (crashed or self._scope.cancel_called):
                self.drop_link(ConnectionError("the connection's tasks have ended"))
            self._nursery = self._link = self._connection = self._parked_writer = None
            self._sending = False
            with trio.CancelScope(shield=True):
                await connection.aclose()
        return self.session.established > established

    async def _guard(self, work: Callable[[Connection], Any], connection: Connection) -> None:
        """A failure of the link ends the link, not the client."""
        try:
            await work(connection)
        except _LINK_ERRORS as error:
            self.drop_link(error)

    async def _read(self, connection: Connection) -> None:
        session, now, receive, queue = self.session, self.clock.now, connection.receive, self.session.queue
        while True:
            data = await receive()
            if self._connection is not connection:
                return
            if not data:
                raise ConnectionResetError(f"{connection.peer} closed the connection")
            self.apply(session.receive_data(data, now()))
            if queue.has_output:
                self.wake_writer()

    async def _write(self, connection: Connection) -> None:
        session, queue, now = self.session, self.session.queue, self.clock.now
        while True:
            while queue.has_output and self._connection is connection:
                if connection.sends_at_once:
                    data, sending_at = queue.take(SEND_CHUNK), now()
                    sent = connection.send_nowait(data)
                    session.sent_bytes(sent, sending_at)
                    if sent == len(data):
                        continue
                # The link is full (or a stream): only what is handed over now counts as sent.
                data = queue.take(1 if connection.sends_at_once else SEND_CHUNK)
                session.sent_bytes(len(data), now())
                self._sending = True
                await connection.send(data)
                self._sending = False
            self._parked_writer = current_task()
            await wait_task_rescheduled(self._unpark_writer)

    def _unpark_writer(self, _: RaiseCancelT) -> Abort:
        self._parked_writer = None
        return Abort.SUCCEEDED

    async def _keep_time(self) -> None:
        session, now = self.session, self.clock.now
        while True:
            # Deadlines come nearer when a phase changes or a proof is wanted, so no sleep is longer than this; it also
            # bounds what a sleep of the machine can hide from trio's own clock.
            delay = min(session.next_deadline() - now(), session.timeout * KEEPALIVE_SHARE / 2)
            await trio.sleep(max(0.0, delay))
            # If the process was stopped, what arrived meanwhile is read before the silence is judged.
            await trio.lowlevel.checkpoint()
            self.apply(session.tick(now()))
            if session.queue.has_output:
                self.wake_writer()

    # Read-only servers and four-letter words --------------------------------------------------------------------------

    async def _seek_quorum(self) -> None:
        """Connected to a read-only server: looks for one with a quorum, and moves there."""
        pause = PROBE_PAUSE_MIN
        while True:
            await trio.sleep(pause)
            pause = min(pause * 2, PROBE_PAUSE_MAX)
            for endpoint in self.hosts.next_round():
                try:
                    with trio.fail_after(PROBE_TIMEOUT):
                        for address in await self.transport.resolve(endpoint):
                            if address != self.endpoint and await self.four_letter(address, b"isro") == b"rw":
                                self._preferred = address
                                self.drop_link(ConnectionError(f"leaving a read-only server for {address}"))
                                return
                except _PROBE_ERRORS as error:
                    log.debug("no quorum behind %s: %s", endpoint, error)

    async def four_letter(self, endpoint: Endpoint, command: bytes) -> bytes:
        """Sends a four-letter word on a connection of its own and reads the answer to its end."""
        connection = await self.transport.dial(endpoint)
        try:
            await connection.send(command)
            answer = bytearray()
            while data := await connection.receive():
                answer += data
                if len(answer) > FOUR_LETTER_MAX:
                    raise KazooException(f"the answer to {command!r} is longer than {FOUR_LETTER_MAX} bytes")
            return bytes(answer)
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()

    # End --------------------------------------------------------------------------------------------------------------

    async def aclose(self, janitor: Janitor) -> None:
        """Lets the deferred deletions finish and closes the session with the server, within `close_timeout`; ends
        `run`.

        Half of that time belongs to the close. Where there is no time at all, it is sent if the link takes it at once.
        """
        ends_at = trio.current_time() + self._timeouts.close
        with trio.CancelScope(shield=True):
            with trio.move_on_after(self._timeouts.close / 2):
                await janitor.drain()
            janitor.stop()
            request = self.session.close()
            if request is not None and not request.done:
                if self.session.queue.open:
                    self.flush()
                with trio.move_on_at(ends_at):
                    await self.wait_for(request)
        self._scope.cancel()

    async def wait_for(self, request: Request) -> None:
        """Waits for the outcome of a request that the session queued itself; its error is not raised. A checkpoint."""
        await trio.lowlevel.checkpoint_if_cancelled()
        request.waiter = current_task()
        if self.session.queue.open:
            self.flush()

        def leave(_: RaiseCancelT) -> Abort:
            request.waiter = None
            return Abort.SUCCEEDED

        await wait_task_rescheduled(leave)


def _crashed(cause: Exception) -> Callable[[], KazooException]:
    def error() -> KazooException:
        crash = ClientCrashedError(f"the client's background task failed: {cause!r}")
        crash.__cause__ = cause
        return crash

    return error
