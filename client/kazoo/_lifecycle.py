"""The life of a blocking client: start, stop, states and listeners. Every wait here has a bound.

Decides when the loop runs and what the program is told of the session's states. Sends no request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import trio

from .._client import ZooKeeper, core_of
from ._loop import Loop
from .exceptions import ConfigurationError, ConnectionClosedError
from .handlers.threading import SequentialThreadingHandler
from .protocol.states import KazooState, KeeperState

CLOSE_TIMEOUT = 5.0
"""Bound for closing a session in order, in seconds."""

OUTAGE_TIMEOUT = 0.5
"""Bound for closing a session in order where there is no connection when the client is stopped, in seconds."""

ABORT_TIMEOUT = 5.0
"""Bound for a loop that is ended by force, in seconds, behind `CLOSE_TIMEOUT`."""

Listener = Callable[[str], Any]
Opener = Callable[[trio.Event, Callable[[ZooKeeper], None]], Any]


class Lifecycle:
    """Starts and stops the loop, and tells listeners.

    Args:
        handler: on whose worker listeners run, behind the watch callbacks that came before.
        logger: told of changes of the state, and of listeners that raise.

    Attributes:
        live: set while connected.
        settled: set while it is known whether a start succeeds: connected, or never again.
        stopped: set before a start and behind a stop.
        expects_loss: the session was ended on purpose; SUSPENDED is not told on the way to LOST.
        gave_up: no connection is looked for any more, and the loop ends.
        state_listeners: called with a `KazooState` at each change.
        watchers: the same for recipes: called in the loop, where they must not block.
        close_timeout: bound for closing the session in order, in seconds; read at each start and stop.
    """

    def __init__(self, handler: SequentialThreadingHandler, logger: logging.Logger) -> None:
        self.live = threading.Event()
        self.settled = threading.Event()
        self.stopped = threading.Event()
        self.stopped.set()
        self.expects_loss = False
        self.gave_up = False
        self.state_listeners: set[Listener] = set()
        self.watchers: set[Listener] = set()
        self.close_timeout = CLOSE_TIMEOUT
        self.loop: Loop | None = None
        self.native: ZooKeeper | None = None
        self._handler = handler
        self._logger = logger
        self._lock = threading.RLock()
        self._told = KazooState.LOST
        self._ending: Loop | None = None

    @property
    def _stop_timeout(self) -> float:
        return 2 * self.close_timeout + ABORT_TIMEOUT

    @property
    def running(self) -> bool:
        """Between `start` and `stop`."""
        return self.loop is not None

    @property
    def state(self) -> str:
        """One of `KazooState`."""
        native = self.native
        return KazooState.LOST if native is None or self.loop is None else native.state

    @property
    def keeper_state(self) -> str:
        """One of `KeeperState`."""
        native = self.native
        return KeeperState.CLOSED if native is None or self.loop is None else native.client_state

    def start(self, opener: Opener) -> threading.Event:
        """Starts the loop unless it runs; returns `live`. A client that has failed for good is started anew."""
        with self._lock:
            if self.loop is not None:
                self.loop.check_process()
                if not (self.gave_up or self.loop.ended.is_set() or (self.native is not None and self.native.is_over)):
                    return self.live
                self.stop()
            if self._ending is not None:
                # Its last state is told before the first one of its successor.
                self._ending.join(self._stop_timeout)
            self.settled.clear()
            self.stopped.clear()
            self.expects_loss = self.gave_up = False
            self._handler.start()
            loop = Loop(self._handler)
            begun = threading.Event()

            async def body(stop: trio.Event) -> None:
                begun.set()
                try:
                    await opener(stop, lambda native: self._opened(loop, native))
                finally:
                    self._tell(KazooState.LOST)
                    self.settled.set()

            self.loop = loop
            try:
                loop.start(body)
            except BaseException:  # an interrupt; a loop that has not begun cannot be told to stop
                while not (begun.is_set() or loop.ended.is_set()):
                    begun.wait(0.05)
                self.stop()
                raise
            if loop.crash is not None:
                self.stop()
                raise loop.crash
            return self.live

    def _opened(self, loop: Loop, native: ZooKeeper) -> None:
        self.native = native
        native.add_listener(self._tell)
        loop.serve(native)
        loop.spawn(self._settle, native)

    def give_up(self, reason: str) -> None:
        """Has the session count as lost, in the loop, which ends next."""
        assert self.native is not None
        self.gave_up = True  # before a listener is told, which may start the client again
        runner = core_of(self.native).runner
        runner.apply(runner.session.give_up(reason))

    def _end_session(self) -> None:
        """In the loop. A close that waits for a server ends, where there still is none; the servers end the session."""
        if self.native is not None and not self.live.is_set():
            runner = core_of(self.native).runner
            runner.apply(runner.session.end())

    async def _settle(self, native: ZooKeeper) -> None:
        """A client that is refused at once never changes its state: LOST it was, and LOST it is."""
        await core_of(native).runner.settled.wait()
        if native.is_over:
            self.settled.set()

    def _tell(self, state: str) -> None:
        """Runs in the loop at each change of the native client's state."""
        if self.loop is not None:
            self.loop.hand_out()  # a lost connection's requests have failed before anyone is told of the loss
        if state == KazooState.CONNECTED:
            self.live.set()
            self.settled.set()
        else:
            self.live.clear()
            native = self.native
            if native is not None and native.is_over:
                self.settled.set()
            else:
                self.settled.clear()
        if state == KazooState.SUSPENDED and self.expects_loss:
            return
        self.expects_loss = False
        if state != self._told:
            self._told = state
            self._log(state)
            for watcher in list(self.watchers):
                watcher(state)
            # Those of now: one that is added later was not there when the state changed.
            told = list(self.state_listeners)
            self._handler.callback_queue.put(lambda: self._call_listeners(told, state))

    def _log(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._logger.info("connected, state %s", self.keeper_state)
        elif state == KazooState.SUSPENDED:
            self._logger.warning("connection lost: %s", self.last_error)
        elif self.running:
            self._logger.warning("session lost")
        else:
            self._logger.info("session closed")

    def _call_listeners(self, told: list[Listener], state: str) -> None:
        for listener in told:
            if listener not in self.state_listeners:
                continue
            try:
                done = listener(state) is True
            except Exception:  # the boundary: a listener is the program's, the others must be told all the same
                self._logger.exception("a state listener raised")
                continue
            if done:
                self.state_listeners.discard(listener)

    def check_usable(self) -> None:
        """Raises what a call would raise now, if the client is over for good."""
        if self.native is not None:
            self.native.check_usable()

    @property
    def last_error(self) -> BaseException | None:
        """Why the last connection, or attempt at one, failed."""
        return None if self.native is None else self.native.last_error

    def stop(self) -> None:
        """Closes the session in order where that is possible in time, and ends both loop and workers in any case.

        May be called from a callback, a listener, and twice.
        """
        with self._lock:
            loop = self.loop
            if loop is None:
                return
            loop.check_process()
            self.loop, self._ending = None, loop
        loop.stop()
        if not self.live.is_set() and not loop.join(OUTAGE_TIMEOUT):
            loop.post(self._end_session)
        if not loop.join(2 * self.close_timeout):
            loop.abort()
            loop.join(ABORT_TIMEOUT)
        with self._lock:
            if self.running:
                return  # a callback has started it again meanwhile, and the workers are its
            self._ending = None
            self.live.clear()
            self.stopped.set()
            workers = self._handler.close()
        self._handler.join(workers)

    def running_loop(self) -> Loop:
        """The loop.

        Raises:
            ConnectionClosedError: the client is not started, or stopped.
            ForkedError: it was started in another process.
        """
        loop = self.loop
        if loop is None or self.native is None:
            raise ConnectionClosedError("the client is not started")
        loop.check_process()
        return loop

    def add_listener(self, listener: Listener) -> None:
        """Has a listener called at each change of the state; one that returns True is removed.

        Raises:
            ConfigurationError: it cannot be called.
        """
        if not callable(listener):
            raise ConfigurationError(f"a listener must be a callable that takes a state, not {listener!r}")
        self.state_listeners.add(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Takes a listener off; an unknown one is ignored."""
        self.state_listeners.discard(listener)
