"""kazoo's blocking cache of a tree: a shell over the native one, whose block lasts from `start` to `close`.

Decides on which thread listeners are called. What has changed, and what is told, is the native cache's.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from terzetto import recipes
from terzetto.recipes import NodeData, TreeEvent

from ..exceptions import ConnectionClosedError, KazooException
from ..handlers.utils import AsyncResult
from ..protocol.paths import absolute
from ..protocol.states import KazooState

if TYPE_CHECKING:
    from .._loop import Loop
    from ..client import KazooClient

log = logging.getLogger(__name__)

EventListenerT = TypeVar("EventListenerT", bound=Callable[[TreeEvent], Any])
FaultListenerT = TypeVar("FaultListenerT", bound=Callable[[Exception], Any])

__all__ = ["NodeData", "TreeCache", "TreeEvent"]


class TreeCache:
    """A copy of a tree that follows the servers, from `start` until `close`. Needs servers from 3.6 on.

    Listeners are called by the client's callback worker: each znode as NODE_ADDED, then INITIALIZED, then what changes.
    A client that is stopped and started again has them told anew.

    Args:
        client: the client, started.
        path: the root of the tree; made when it is missing.
    """

    STATE_LATENT = 0
    STATE_STARTED = 1
    STATE_CLOSED = 2

    def __init__(self, client: KazooClient, path: str) -> None:
        self._client = client
        self._path = absolute("", path)
        self._native: recipes.TreeCache | None = None
        self._task: AsyncResult | None = None
        self._loop: Loop | None = None
        self._listeners: list[Callable[[TreeEvent], Any]] = []
        self._fault_listeners: list[Callable[[Exception], Any]] = []
        self._state = self.STATE_LATENT
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begins to follow the tree. Does not wait for it: INITIALIZED tells.

        Raises:
            KazooException: it was started before, or is closed.
            ConnectionClosedError: the client is not started.
        """
        with self._lock:
            if self._state != self.STATE_LATENT:
                raise KazooException("a cache is started once; make another one")
            # First: what it tells at once is for the listeners, too.
            self._state = self.STATE_STARTED
            try:
                self._spawn()
            except BaseException:
                self._state = self.STATE_LATENT
                raise
        self._client.lifecycle.watchers.add(self._state_changed)

    def _spawn(self) -> None:
        """Begins to follow in the present loop."""
        self._loop = loop = self._client.lifecycle.running_loop()
        self._task = task = loop.spawn(self._follow)
        task.rawlink(self._ended)

    def _state_changed(self, state: str) -> None:
        """In the loop. A client that was stopped and started has another one."""
        with self._lock:
            if (
                state == KazooState.CONNECTED
                and self._state == self.STATE_STARTED
                and self._client.lifecycle.loop is not self._loop
            ):
                self._spawn()

    async def _follow(self) -> None:
        native = recipes.TreeCache(self._client.native, self._path)
        native.listen(self._told)
        # The copy of an earlier start answers until this one is complete.
        if self._native is None:
            self._native = native
        async with native:
            self._native = native
            await trio.sleep_forever()

    def _told(self, event: TreeEvent) -> None:
        self._client.handler.callback_queue.put(functools.partial(self._tell, event))

    def _tell(self, event: TreeEvent) -> None:
        """On the callback worker. Nothing is told once the cache is closed."""
        for listener in list(self._listeners):
            if self._state != self.STATE_STARTED:
                return
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  the boundary: the listener is the program's, as is who is told
                self._report("a listener of the cache of %s raised", error)

    def _ended(self, task: AsyncResult) -> None:
        error = task.exception
        if isinstance(error, Exception) and not isinstance(error, ConnectionClosedError):
            self._report("the cache of %s follows its tree no more", error)

    def _report(self, said: str, error: Exception) -> None:
        if not self._fault_listeners:
            log.error(said, self._path, exc_info=error)
        for listener in list(self._fault_listeners):
            listener(error)

    def close(self) -> None:
        """Follows the tree no more, forgets it, and tells nothing. May be called twice, also from a listener."""
        with self._lock:
            self._state = self.STATE_CLOSED
            self._client.lifecycle.watchers.discard(self._state_changed)
            task, self._task, self._native = self._task, None, None
        if task is not None and (abandon := task.abandon) is not None:
            abandon()

    def listen(self, listener: EventListenerT) -> EventListenerT:
        """Calls `listener(event)` for each event. Returns it, so it serves as a decorator."""
        self._listeners.append(listener)
        return listener

    def listen_fault(self, listener: FaultListenerT) -> FaultListenerT:
        """Calls `listener(error)` with what a listener raises, and with what ended the cache. Returns it."""
        self._fault_listeners.append(listener)
        return listener

    def get_data(self, path: str, default: Any = None) -> Any:
        """The `NodeData` of a znode in the copy, `default` for none. Sends nothing.

        Raises:
            ValueError: the path is outside of the tree.
        """
        native = self._inside(path)
        return default if native is None else native.get_data(absolute("", path), default)

    def get_children(self, path: str, default: Any = None) -> Any:
        """Names of a znode's children in the copy, as a frozenset; `default` without a znode. As `get_data`."""
        native = self._inside(path)
        return default if native is None else native.get_children(absolute("", path), default)

    def _inside(self, path: str) -> recipes.TreeCache | None:
        """The native cache, once there is one."""
        root = "/" if self._path == "/" else self._path + "/"
        if absolute("", path) != self._path and not absolute("", path).startswith(root):
            raise ValueError(f"{path!r} is not in the tree {self._path}")
        return self._native
