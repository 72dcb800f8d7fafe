"""kazoo's watchers: the native ones follow a znode in the loop, the program's function is called in its threads.

Decides in which thread a function is called, and that a watch outlives its client's stop and start. While a call runs
the watch waits for it; of the changes meanwhile the last is shown.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from terzetto import recipes

from ..exceptions import KazooException, SessionExpiredError
from ..handlers.utils import AsyncResult
from ..protocol.states import KazooState

if TYPE_CHECKING:
    from .._loop import Loop
    from ..client import KazooClient

FuncT = TypeVar("FuncT", bound=Callable[..., Any])

log = logging.getLogger(__name__)


_NOTHING = object()


class _Turn:
    """One call of a program's function: made in one of the program's threads, waited for in the loop."""

    def __init__(self, loop: Loop, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.result: Any = None
        self.made = trio.Event()
        self._loop = loop
        self._call = functools.partial(func, *args)

    def __call__(self) -> None:
        try:
            self.result = self._call()
        finally:
            self._loop.post(self.made.set)


class _StandingWatch(ABC):
    """What both watches share; see `DataWatch`."""

    def __init__(self, client: KazooClient, path: str, func: Callable[..., Any] | None) -> None:
        self._client = client
        self._path = path
        self._func: Callable[..., Any] | None = None
        self._stopped = False
        self._loop: Loop | None = None
        self._lock = threading.Lock()
        if func is not None:
            self(func)

    @abstractmethod
    async def _follow(self, show: Callable[..., Any], skip: Callable[[], None]) -> None:
        """Awaits `show(...)` with what the function is to be called with, until that is False. In the loop.

        Args:
            show: calls the function.
            skip: there is nothing to show at first; the thread that made the watch goes on.
        """

    def __call__(self, func: FuncT) -> FuncT:
        """Has a function called: at once in this thread, then for each change by the client's callback worker.

        What it raises at once is raised here, and nothing is watched; what it raises later is logged.

        Raises:
            KazooException: there is one already.
            TypeError: it cannot be called.
        """
        if self._func is not None:
            raise KazooException("a watch calls one function; make another watch")
        if not callable(func):
            raise TypeError(f"a watch calls a function, not {func!r}")
        self._func = func
        if self._client.lifecycle.running:
            self._call_first()
        self._client.add_listener(self._state_changed)
        if self._stopped:  # meanwhile, or at its first call
            self._client.remove_listener(self._state_changed)
        return func

    def _call_first(self) -> None:
        first = AsyncResult()
        task = self._spawn(first)
        if task is None:
            return
        try:
            turn = first.get()
            if turn is None:
                task.get()
            elif turn is not _NOTHING:
                turn()
        except SessionExpiredError:
            pass  # the client was stopped meanwhile
        except BaseException:
            self._stopped = True
            if (abandon := task.abandon) is not None:
                abandon()
            raise
        else:
            if isinstance(turn, _Turn) and turn.result is False:
                self._stopped = True

    def _state_changed(self, state: str) -> bool:
        """Called on the callback worker. A client that was started anew has another loop."""
        if state == KazooState.CONNECTED and not self._stopped:
            self._spawn(None)
        return self._stopped

    def _spawn(self, first: AsyncResult | None) -> AsyncResult | None:
        """Begins to follow in the present loop, unless that is done already."""
        loop = self._client.lifecycle.loop
        with self._lock:
            if loop is None or loop is self._loop:
                return None
            self._loop = loop
        task = loop.spawn(self._run, loop, first)
        task.rawlink(functools.partial(self._ended, first))
        return task

    async def _run(self, loop: Loop, first: AsyncResult | None) -> None:
        calls = self._client.handler.callback_queue
        func = self._func
        assert func is not None
        waiting = first

        @functools.wraps(func)
        async def show(*args: Any) -> bool:
            nonlocal waiting
            if self._stopped:
                return False  # programs set it, for want of a method that stops a watch
            turn = _Turn(loop, func, args)
            registering, waiting = waiting, None
            if registering is None:
                calls.put(turn)
            else:
                registering.set(turn)
            await turn.made.wait()
            return turn.result is not False

        def skip() -> None:
            nonlocal waiting
            registering, waiting = waiting, None
            if registering is not None:
                registering.set(_NOTHING)

        try:
            await self._follow(show, skip)
            self._stopped = True
            self._client.remove_listener(self._state_changed)
        finally:
            if waiting is not None:
                waiting.set(None)

    def _ended(self, first: AsyncResult | None, task: AsyncResult) -> None:
        if first is not None and not first.ready():
            first.set(None)  # it never began
        elif task.exception is not None and not isinstance(task.exception, SessionExpiredError) and not self._stopped:
            log.error("the watch on %s ended", self._path, exc_info=task.exception)


class DataWatch(_StandingWatch):
    """Calls a function with a znode's data, now and after each change; also a decorator, `@client.DataWatch("/a")`.

    Args:
        client: the client.
        path: the znode; it need not exist.
        func: `func(data, stat)` or `func(data, stat, event)`, chosen once by its signature; `(None, None)` for a
            znode that is missing. It stops the watch by returning False.
    """

    def __init__(
        self, client: KazooClient, path: str, func: Callable[..., Any] | None = None, *args: Any, **kwargs: Any
    ) -> None:
        if args or kwargs:
            warnings.warn("DataWatch takes no more arguments than func", DeprecationWarning, stacklevel=2)
        super().__init__(client, path, func)

    async def _follow(self, show: Callable[..., Any], skip: Callable[[], None]) -> None:
        await recipes.DataWatch(self._client.native, self._path, show).run()


class ChildrenWatch(_StandingWatch):
    """Calls a function with the names of a znode's children, now and after each change; also a decorator.

    A znode that is missing is not shown, but watched: kazoo stops without a word.

    Args:
        client: the client.
        path: the znode.
        func: `func(children)`, with `send_event` `func(children, event)`. It stops the watch by returning False.
        allow_session_lost: go on in the next session.
        send_event: give the function the event.
    """

    def __init__(
        self,
        client: KazooClient,
        path: str,
        func: Callable[..., Any] | None = None,
        allow_session_lost: bool = True,
        send_event: bool = False,
    ) -> None:
        self._allow_session_lost = allow_session_lost
        self._send_event = send_event
        super().__init__(client, path, func)

    async def _follow(self, show: Callable[..., Any], skip: Callable[[], None]) -> None:
        watch = recipes.ChildrenWatch(self._client.native, self._path, allow_session_lost=self._allow_session_lost)
        async with watch as changes:
            async for children, stat, event in changes:
                args = (children, event) if self._send_event else (children,)
                if stat is None:
                    skip()
                elif not await show(*args):
                    return


class PatientChildrenWatch:
    """Waits until a znode's children have been the same for a while.

    Args:
        client: the client.
        path: the znode, which must exist.
        time_boundary: seconds without a change after which the children count as settled.
    """

    def __init__(self, client: KazooClient, path: str, time_boundary: float = 30) -> None:
        self.client = client
        self.path = path
        self.time_boundary = time_boundary

    def start(self) -> AsyncResult:
        """Begins to wait.

        Returns:
            A result: the children, and another result that is set, to the time, at their next change.
        """
        settled, changed = self.client.handler.async_result(), self.client.handler.async_result()

        def ended(task: AsyncResult) -> None:
            if task.exception is not None:
                (changed if settled.ready() else settled).set_exception(task.exception)

        async def watch() -> None:
            async with recipes.PatientChildrenWatch(self.client.native, self.path, self.time_boundary) as patient:
                children, next_change = await patient.start()
                settled.set((children, changed))
                await next_change()
                changed.set(time.time())

        self.client.spawn_native(watch).rawlink(ended)
        return settled
