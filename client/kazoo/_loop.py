"""One event loop in a thread of its own, for one blocking client: how calls cross over, and that every wait ends.

Decides how a call from any thread reaches the loop and comes back, and what an interrupted one leaves behind. Knows no
ZooKeeper operation.
"""

from __future__ import annotations

import functools
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
from ..errors import ConnectionClosedError, KazooException
from .exceptions import ForkedError
from .handlers.threading import SequentialThreadingHandler
from .handlers.utils import AsyncResult

T = TypeVar("T")


class _Answer:
    """Takes a request's outcome from the session to the thread that waits for it."""

    __slots__ = ("_result",)

    def __init__(self, result: AsyncResult) -> None:
        self._result = result

    def completed(self, request: Request) -> None:
        """See `SessionRunner.apply`."""
        try:
            value = request.result()
        except Exception as error:  # noqa: BLE001  the boundary: the outcome belongs to the thread that asked
            self._result.set_exception(error)
        else:
            self._result.set(value)


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
            if error is None:
                self._result.set(value)
            else:
                self._result.set_exception(error)


class Loop:
    """The thread, from its start to its end; another start of the client makes another one.

    Args:
        handler: makes results, and runs their callbacks.
    """

    def __init__(self, handler: SequentialThreadingHandler) -> None:
        self._core: ClientCore | None = None
        self._handler = handler
        self._pid = os.getpid()
        self._pending: deque[Request | _Task | Callable[[], object]] = deque()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._stop: trio.Event
        self._thread: threading.Thread | None = None
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
        try:
            trio.run(self._main, body)
        except BaseException as error:  # noqa: BLE001  reaches whoever starts or calls next
            self.crash = error
        finally:
            self._token = None
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
        token = self._token
        if token is not None:
            try:
                token.run_sync_soon(self._take, idempotent=True)
            except trio.RunFinishedError:
                pass
            else:
                return
        self._refuse_rest()

    def _take(self) -> None:
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

    def submit(self, request: Request) -> AsyncResult:
        """Sends a request; the result tells its outcome."""
        result = AsyncResult(self._handler)
        request.waiter = _Answer(result)
        result.abandon = lambda: self.post(lambda: self._withdraw(request))
        self.post(request)
        return result

    def _withdraw(self, request: Request) -> None:
        if self._core is not None and not request.done:
            self._core.session.withdraw(request)

    def spawn(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> AsyncResult:
        """Awaits `function(*args, **kwargs)` in the loop; the result tells its outcome.

        A thread that is interrupted while it waits for the result cancels it.
        """
        result = AsyncResult(self._handler)
        task = _Task(self, functools.partial(function, *args, **kwargs), result)
        result.abandon = lambda: self.post(task.scope.cancel)
        self.post(task)
        return result

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
