"""kazoo's `SequentialThreadingHandler`: watch callbacks on one thread in their order, completions on another.

Decides on which thread a program's callbacks run and that stopping is bounded. The network is not its business: a
client's connection lives in a thread of its own.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ..protocol.states import Callback
from .utils import (
    AsyncResult,
    KazooTimeoutError,
    create_socket_pair,
    create_tcp_connection,
    create_tcp_socket,
    selector_select,
)

__all__ = ["AsyncResult", "KazooTimeoutError", "SequentialThreadingHandler"]

log = logging.getLogger(__name__)

STOP_TIMEOUT = 5.0
"""Bound for a callback that runs while its handler is stopped, in seconds; it goes on by itself behind that."""


class _End:
    """Stands in a queue behind the last call before a `close`."""


class CallQueue:
    """Calls that one daemon thread makes, in order. The thread lives from the first call to `close`.

    One that is still in a call when the queue is started again goes on with it: two never work at once.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], Any] | _End] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()
        self._open = False
        self._end: _End | None = None

    def start(self) -> None:
        """Takes calls from now on, also those that were put before."""
        with self._lock:
            self._open = True
            self._end = None
            if not self._calls.empty():
                self._launch()

    def put(self, call: Callable[[], Any]) -> None:
        """Has `call()` made in its turn."""
        self._calls.put(call)
        if self._worker is None and self._open:
            with self._lock:
                if self._open:
                    self._launch()

    def _launch(self) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._run, args=(self._calls,), name=self._name, daemon=True)
            self._worker.start()

    def _run(self, calls: queue.SimpleQueue[Callable[[], Any] | _End]) -> None:
        while True:
            call = calls.get()
            if isinstance(call, _End):
                if self._is_over(call):
                    return
                continue
            try:
                call()
            except BaseException:  # the boundary: the callback is the program's, also its `sys.exit`; others wait
                log.exception("a callback raised")

    def _is_over(self, end: _End) -> bool:
        """Whether the calling worker has come to its end, and not just by one that a later start has made void."""
        with self._lock:
            if self._worker is not threading.current_thread():
                return True
            if end is self._end:
                self._worker = None
            return end is self._end

    def close(self) -> threading.Thread | None:
        """Has the worker end behind the calls that were put. Does not wait; returns the worker, if there is one."""
        with self._lock:
            self._open = False
            if self._worker is not None:
                self._end = _End()
                self._calls.put(self._end)
            return self._worker

    def join(self, worker: threading.Thread | None, timeout: float) -> None:
        """Waits for the end of the worker that `close` has returned, for at most `timeout` seconds.

        Does not wait in a call that the worker makes: it ends when that has returned.
        """
        if worker is None or worker is threading.current_thread():
            return
        worker.join(timeout)
        with self._lock:
            if self._open or not worker.is_alive() or worker is not self._worker:
                return
            # What it has not come to it makes later, beside its successor.
            self._worker = None
            self._calls = queue.SimpleQueue()
        log.warning("%s still runs a callback %g s after it was told to stop", self._name, timeout)

    def empty(self) -> bool:
        """Whether no call waits."""
        return self._calls.empty()

    def qsize(self) -> int:
        """Calls that wait, about."""
        return self._calls.qsize()


class SequentialThreadingHandler:
    """The threads behind a client's callbacks, and the blocking primitives that go with threads.

    Attributes:
        running: between `start` and `stop`.
        callback_queue: watch callbacks and state listeners.
        completion_queue: callbacks of results.
    """

    name = "sequential_threading_handler"
    timeout_exception = KazooTimeoutError
    queue_impl = queue.Queue
    queue_empty = queue.Empty
    # The very function: a program's KazooRetry(sleep_func=time.sleep) must be found to be in keeping with it.
    sleep_func = staticmethod(time.sleep)

    def __init__(self) -> None:
        self.callback_queue = CallQueue("terzetto-kazoo-callbacks")
        self.completion_queue = CallQueue("terzetto-kazoo-completions")
        self._running = False
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether the workers take calls."""
        return self._running

    def start(self) -> None:
        """Starts the workers. May be called twice."""
        with self._lock:
            if self._running:
                return
            self._running = True
            self.callback_queue.start()
            self.completion_queue.start()

    def stop(self) -> None:
        """Stops the workers once they have made the calls that wait, within a bound. May be called from a callback."""
        self.join(self.close())

    def close(self) -> list[threading.Thread | None]:
        """The first half of `stop`, which does not wait. A `start` may follow at once."""
        with self._lock:
            if not self._running:
                return []
            self._running = False
            return [self.callback_queue.close(), self.completion_queue.close()]

    def join(self, workers: list[threading.Thread | None]) -> None:
        """The second half of `stop`: waits for what `close` has returned, within a bound."""
        ends = time.monotonic() + STOP_TIMEOUT
        for calls, worker in zip((self.callback_queue, self.completion_queue), workers, strict=False):
            calls.join(worker, max(0.0, ends - time.monotonic()))

    def select(self, *args: Any, **kwargs: Any) -> tuple[list[Any], list[Any], list[Any]]:
        """See `selector_select`."""
        return selector_select(*args, **kwargs)

    def socket(self) -> sockets.socket:
        """A TCP socket."""
        made: sockets.socket = create_tcp_socket(sockets)
        return made

    def create_connection(self, *args: Any, **kwargs: Any) -> sockets.socket:
        """See `create_tcp_connection`."""
        connected: sockets.socket = create_tcp_connection(sockets, *args, **kwargs)
        return connected

    def create_socket_pair(self) -> tuple[sockets.socket, sockets.socket]:
        """Two connected sockets."""
        return create_socket_pair(sockets)

    def event_object(self) -> threading.Event:
        """An event."""
        return threading.Event()

    def lock_object(self) -> threading.Lock:
        """A lock."""
        return threading.Lock()

    def rlock_object(self) -> contextlib.AbstractContextManager[bool]:
        """A re-entrant lock."""
        return threading.RLock()

    def async_result(self) -> AsyncResult:
        """A result without an outcome."""
        return AsyncResult(self)

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> threading.Thread:
        """Runs a function on a daemon thread of its own."""
        thread = threading.Thread(target=func, args=args, kwargs=kwargs, daemon=True)
        thread.start()
        return thread

    def dispatch_callback(self, callback: Callback) -> None:
        """Has a callback called on the worker for watches."""
        self.callback_queue.put(lambda: callback.func(*callback.args))

    def dispatch(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> None:
        """As `dispatch_callback`, for a plain call."""
        self.callback_queue.put(lambda: func(*args))
