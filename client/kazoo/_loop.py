"""One event loop in a thread of its own, for one blocking client: how calls cross over, and that every wait ends.

Decides how a call from any thread reaches the loop and comes back, and what an interrupted one leaves behind. Knows no
ZooKeeper operation.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from .._client import ZooKeeper, core_of
from .._core import ClientCore
from .._pending import Request
from .._scopes import PlainNursery
from ..errors import ConnectionClosedError, KazooException, NoNodeError
from ..wire.primitives import REPLY_PREFIX
from ._lending import LendingConnection
from .exceptions import ForkedError
from .handlers.threading import SequentialThreadingHandler
from .handlers.utils import AsyncResult

T = TypeVar("T")

log = logging.getLogger(__name__)

FETCH_MAX = 0.5
"""How long a calling thread may keep a connection's arrivals from the loop, in seconds."""


def _tell(result: AsyncResult, value: Any, error: BaseException | None) -> None:
    try:
        if error is None:
            result.set(value)
        else:
            result.set_exception(error)
    except Exception:  # the boundary: a callback is the program's, the outcomes are everyone's
        log.exception("a callback raised")


class _Answer:
    """Takes a request's outcome from the session to the thread that waits for it."""

    __slots__ = ("_loop", "_request", "_result")

    def __init__(self, loop: Loop, request: Request, result: AsyncResult) -> None:
        self._loop = loop
        self._request = request
        self._result = result

    def completed(self, request: Request) -> None:
        """See `SessionRunner.apply`."""
        self._loop.outcomes.append((self._result, *self._outcome(request)))

    @staticmethod
    def _outcome(request: Request) -> tuple[Any, BaseException | None]:
        try:
            return request.result(), None
        except Exception as error:  # noqa: BLE001  the boundary: the outcome belongs to the thread that asked
            return None, error

    def fetch(self, timeout: float | None) -> None:
        """The thread that has sent it is about to wait."""
        if self._loop.fetch(self._request, timeout):
            _tell(self._result, *self._outcome(self._request))

    def withdraw(self) -> None:
        """Nobody waits any more. For any thread."""
        self._loop.post(self._withdraw)

    def _withdraw(self) -> None:
        self._loop.withdraw(self._request)


class _Gate(trio.abc.Instrument):
    """Open while the loop waits for something to happen, closed while anything runs in it.

    Whoever has it has what belongs to the loop for himself: its own thread, or a calling one that finds it waiting.
    """

    def __init__(self, hand_out: Callable[[], None]) -> None:
        # Re-entrant, because a finalizer may run anywhere, and call the client.
        self.lock = threading.RLock()
        self._hand_out = hand_out

    def before_io_wait(self, timeout: float) -> None:
        self.lock.release()
        self._hand_out()

    def after_io_wait(self, timeout: float) -> None:
        self.lock.acquire()


class _Task:
    """One call of `Loop.spawn` on its way to the loop, and in it."""

    def __init__(self, loop: Loop, function: Callable[[], Awaitable[Any]], result: AsyncResult) -> None:
        self.scope = trio.CancelScope()
        self._loop = loop
        self._function = function
        self._result = result

    def __call__(self) -> None:
        self._loop.begin(self)

    def refuse(self, error: KazooException) -> None:
        """The loop has ended before it began."""
        self._result.set_exception(error)

    async def run(self) -> None:
        """Runs in the loop. Whatever happens, the outcome is told: nobody may wait for one that cannot come."""
        value: Any = None
        error: BaseException | None = self._loop.closed()
        try:
            with self.scope:
                value = await self._function()
                error = None
        except Exception as raised:  # noqa: BLE001  the boundary: the outcome belongs to the thread that asked
            error = raised
        finally:
            self._loop.outcomes.append((self._result, value, error))


def _is_next(core: ClientCore, request: Request) -> bool:
    """Whether the next reply is this request's, and tells nobody else of anything."""
    queue = core.session.queue
    return bool(queue.sent) and queue.sent[0] is request and request.waiter is not None and not queue.held


def _is_reply(core: ClientCore, data: bytes, request: Request) -> bool:
    """Whether the bytes are the whole reply of a request, and nothing else: a result, or that there is no znode."""
    if len(data) < REPLY_PREFIX.size or len(core.session._frames):  # pyright: ignore[reportPrivateUsage]
        return False
    length, xid, _, err = REPLY_PREFIX.unpack_from(data)
    return bool(length == len(data) - 4 and xid == request.xid and err in (0, NoNodeError.code))


class Loop:
    """The thread, from its start to its end; another start of the client makes another one.

    Args:
        handler: makes results, and runs their callbacks.
    """

    def __init__(self, handler: SequentialThreadingHandler) -> None:
        self._core: ClientCore | None = None
        self._handler = handler
        self._gate = _Gate(self.hand_out)
        self.outcomes: deque[tuple[AsyncResult, Any, BaseException | None]] = deque()
        """What has come out in this pass of the loop. It is told at the pass's end: a thread that is woken earlier
        would only wait for the interpreter, and for the gate."""
        self._pid = os.getpid()
        self._pending: deque[Request | _Task | Callable[[], object]] = deque()
        self._lent = False
        """A calling thread reads what arrives."""
        self._called = False
        """The loop has been told that something is pending, and has not looked yet."""
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._stop: trio.Event
        self._thread: threading.Thread | None = None
        self._ident: int | None = None
        self._began = threading.Event()
        self.ended = threading.Event()
        """The thread is through, whatever happened in it."""
        self.crash: BaseException | None = None

    # -- the thread

    def start(self, body: Callable[[trio.Event], Awaitable[None]]) -> None:
        """Starts the thread, in which `body(stop)` runs. Returns when that has called `serve`, or has failed.

        Args:
            body: ends when the event is set, or when the client is over.
        """
        self._thread = threading.Thread(target=self._run, args=(body,), name="terzetto-kazoo-loop", daemon=True)
        self._thread.start()
        self._began.wait()

    def _run(self, body: Callable[[trio.Event], Awaitable[None]]) -> None:
        self._ident = threading.get_ident()
        try:
            with self._gate.lock:
                trio.run(self._main, body, instruments=[self._gate])
        except BaseException as error:  # noqa: BLE001  reaches whoever starts or calls next
            self.crash = error
        finally:
            self._token = None
            self.hand_out()
            self._began.set()
            self.ended.set()
            self._refuse_rest()

    async def _main(self, body: Callable[[trio.Event], Awaitable[None]]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        with self._scope:
            async with PlainNursery() as nursery:
                self._nursery = nursery
                try:
                    await body(self._stop)
                finally:
                    self._nursery = None
                    nursery.cancel_scope.cancel()

    def serve(self, native: ZooKeeper) -> None:
        """Takes calls for this client from now on. Called by the body."""
        self._core = core_of(native)
        self._began.set()

    def stop(self) -> None:
        """Has the body end in order. Does not wait."""
        self.post(self._set_stop)

    def _set_stop(self) -> None:
        self._stop.set()

    def abort(self) -> None:
        """Has everything in the loop end now. Does not wait."""
        self.post(self._scope.cancel)

    def join(self, timeout: float) -> bool:
        """Waits for the end of the thread, for at most `timeout` seconds; not at all in the thread itself."""
        if self.is_inside or self._thread is None:
            return False
        return self.ended.wait(timeout)

    @property
    def is_inside(self) -> bool:
        """Whether the caller is in the loop's own thread, where nothing may block."""
        return threading.current_thread() is self._thread

    # -- crossing over

    def check_process(self) -> None:
        """Raises `ForkedError` in another process than the one that started the loop."""
        if os.getpid() != self._pid:
            raise ForkedError(
                f"this client was started in process {self._pid} and cannot be used in its child {os.getpid()}: "
                "a connection does not survive a fork. Start a client of its own in each process."
            )

    def closed(self) -> KazooException:
        """What a call gets that came too late."""
        error = ConnectionClosedError("the client is stopped")
        error.__cause__ = self.crash
        return error

    def post(self, call: Request | _Task | Callable[[], object]) -> None:
        """Hands a request, or a plain call, to the loop. Thread-safe; what one thread posts keeps its order."""
        self._pending.append(call)
        if self._called:
            return
        token = self._token
        if token is not None:
            try:
                self._called = True
                token.run_sync_soon(self._take)
            except trio.RunFinishedError:
                self._called = False
            except BaseException:
                # An interrupt. Others may rely on the loop having been told.
                self._called = False
                with contextlib.suppress(ValueError):
                    self._pending.remove(call)
                token.run_sync_soon(self._take)
                raise
            else:
                return
        self._refuse_rest()

    def _take(self) -> None:
        # Before the look: what is appended behind it calls again.
        self._called = False
        pending = self._pending
        core = self._core
        submitted = False
        while pending:
            item = pending.popleft()
            if not isinstance(item, Request):
                item()
                continue
            try:
                assert core is not None  # requests are built on it
                core.session.submit(item)
                submitted = True
            except KazooException as error:
                item.error, item.done = error, True
                item.waiter.completed(item)
        if submitted and core is not None and core.session.queue.open:
            if core.session.queue.idle:
                core.runner.flush()
            else:
                core.runner.wake_writer()

    def _refuse_rest(self) -> None:
        while self._pending:
            item = self._pending.popleft()
            if isinstance(item, Request):
                item.error, item.done = self.closed(), True
                item.waiter.completed(item)
            elif isinstance(item, _Task):
                item.refuse(self.closed())
        self.hand_out()

    def hand_out(self) -> None:
        """Tells the outcomes so far to whoever waits for them."""
        outcomes = self.outcomes
        while outcomes:
            try:
                result, value, error = outcomes.popleft()
            except IndexError:
                return  # the loop has ended, and another thread does the same
            _tell(result, value, error)

    def submit(self, request: Request, result: AsyncResult | None = None) -> AsyncResult:
        """Sends a request; the result, a new one if not given, tells its outcome."""
        if result is None:
            result = AsyncResult(self._handler)
        request.waiter = answer = _Answer(self, request, result)
        result.abandon = answer.withdraw
        if self._send_here(request):
            result.fetch = answer.fetch
        else:
            self.post(request)
        return result

    def _send_here(self, request: Request) -> bool:
        """Sends a request from the calling thread, if the loop waits and nothing else is on its way.

        That spares the loop a pass, and the machine a change of threads. What is on its way already goes first: then,
        and to be joined with it, the request is left to the loop.
        """
        core = self._core
        if core is None or self._pending or threading.get_ident() == self._ident:
            return False
        session, runner = core.session, core.runner
        queue = session.queue
        if not (queue.open and queue.idle):
            return False
        with self._gate.lock:
            if self._pending or not (queue.open and queue.idle):
                return False
            try:
                session.submit(request)
                done = runner.flush_some()
            except KazooException:
                return False  # it is over; the loop says why
            except BaseException:
                # An interrupt in the midst of it: nobody can say how much of the frame has left.
                self.post(lambda: runner.drop_link(ConnectionError("interrupted while a request was sent")))
                raise
        if not done:
            self.post(runner.wake_writer)
        return True

    def fetch(self, request: Request, timeout: float | None) -> bool:
        """Reads a reply in the thread that waits for it, and that has sent the request, unless others are on their way.

        That spares waking the loop, and being woken by it. Whatever else arrives is left to the loop. Returns when
        something has arrived, at the latest after `FETCH_MAX` seconds.

        Returns:
            Whether the reply was read, and the request is done. Then nobody else tells its outcome.
        """
        core = self._core
        connection = None if core is None else core.runner.connection
        if core is None or not isinstance(connection, LendingConnection) or threading.get_ident() == self._ident:
            return False
        reading = done = False
        try:
            with self._gate.lock:
                if self._lent or core.runner.connection is not connection or not _is_next(core, request):
                    return False
                if not connection.lend():
                    return False
                self._lent = True
            connection.await_arrival(FETCH_MAX if timeout is None else max(0.0, min(timeout, FETCH_MAX)))
            with self._gate.lock:
                reading = True
                if core.runner.connection is connection:
                    done = self._read(core, connection, request)
                connection.take_back()
                self._lent = False
        except BaseException:
            # An interrupt. In the midst of reading nobody can say how much of the stream is gone.
            self.post(functools.partial(self._end_loan, core, connection, broken=reading))
            raise
        return done

    def _read(self, core: ClientCore, connection: LendingConnection, request: Request) -> bool:
        session, runner = core.session, core.runner
        data = connection.take()
        if not data:
            return False
        if not (_is_next(core, request) and _is_reply(core, data, request)):
            connection.give_back(data)
            return False
        effects = session.receive_data(data, runner.clock.now())
        if session.queue.has_output:
            self.post(runner.wake_writer)
        if effects == [[request]]:
            request.waiter = None
            return True
        self.post(lambda: runner.apply(effects))
        return False

    def _end_loan(self, core: ClientCore, connection: LendingConnection, *, broken: bool) -> None:
        self._lent = False
        connection.take_back()
        if broken and core.runner.connection is connection:
            core.runner.drop_link(ConnectionError("interrupted while a reply was read"))

    def withdraw(self, request: Request) -> None:
        """Nobody waits for a request any more. Runs in the loop."""
        if self._core is not None and not request.done:
            self._core.session.withdraw(request)

    def spawn(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> AsyncResult:
        """Awaits `function(*args, **kwargs)` in the loop; the result tells its outcome.

        A thread that is interrupted while it waits for the result cancels it.

        Raises:
            ForkedError: called in another process.
        """
        result = AsyncResult(self._handler)
        self.spawn_for(result, functools.partial(function, *args, **kwargs))
        return result

    def spawn_for(self, result: AsyncResult, function: Callable[[], Awaitable[Any]]) -> None:
        """As `spawn`; the result is the caller's."""
        self.check_process()
        task = _Task(self, function, result)
        result.abandon = lambda: self.post(task.scope.cancel)
        self.post(task)

    def begin(self, task: _Task) -> None:
        """Starts a task of `spawn`, in the loop."""
        if self._nursery is None:
            task.refuse(self.closed())
        else:
            self._nursery.start_soon(task.run)

    def call(self, function: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """As `spawn`, and waits for the outcome.

        Raises:
            KazooException: called in the loop's own thread, which would wait for itself.
        """
        if self.is_inside:
            raise KazooException("a blocking call in the client's own loop would wait for itself")
        value: T = self.spawn(function, *args, **kwargs).get()
        return value
