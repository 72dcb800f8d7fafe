"""Many requests from one task: submit, submit, submit, and read the results once they are there.

One task, one wake-up: an answered request only counts down, and the task is woken when the window has room again or
everything is answered. That is several times cheaper than a task for each request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, TypeVar, overload

import trio
from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

from ._pending import Request
from ._requests import Requests
from ._runner import SessionRunner
from ._watching import WatchCallback
from .errors import AuthFailedError, ConnectionLoss, KazooException, SessionExpiredError
from .values import ACL, ZnodeStat

T_co = TypeVar("T_co", covariant=True)

_ENDING = (ConnectionLoss, SessionExpiredError, AuthFailedError)

FLUSH_EVERY = 128
"""Requests that are joined into one system call while a pipeline is being filled, so that the server starts early."""
WINDOW_BYTES = 4 * 1024 * 1024
"""Bytes of requests that a pipeline keeps in flight before a submission waits."""


class PipelineResult(Protocol, Generic[T_co]):
    """Stands for the outcome of one request of a pipeline."""

    @property
    def done(self) -> bool:
        """The outcome is known."""
        ...

    def result(self) -> T_co:
        """The result. Raises the request's own error, or `RuntimeError` while the outcome is not known."""
        ...


class Pipeline:
    """Requests in flight together, in call order. Opened by `ZooKeeper.pipeline()`.

    Awaiting a submission waits only while the window is full. Results are read from the handles, at the latest when the
    block has ended; an error is raised there and nowhere else. After a lost connection everything behind it fails in
    order, also what is submitted later. Leaving by an exception or a cancellation withdraws what was not sent.
    """

    def __init__(self, runner: SessionRunner, requests: Requests, window: int) -> None:
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise ValueError(f"window must be at least 1 request, not {window!r}")
        self._runner = runner
        self._requests = requests
        self._window = window
        self._waiting: deque[Request] = deque()
        self._bytes = 0
        self._since_flush = 0
        self._used = False
        self._broken = False
        self._task: Task | None = None
        self._wake_at = 0
        self._open = False

    async def __aenter__(self) -> Pipeline:
        self._runner.check_run()
        await trio.lowlevel.checkpoint_if_cancelled()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        try:
            if kind is None and self._used:
                await self._drain(0)
            elif kind is None:
                await trio.lowlevel.checkpoint()
        finally:
            for request in self._waiting:
                self._runner.session.withdraw(request)
            self._waiting.clear()

    async def get(self, path: str) -> PipelineResult[tuple[bytes | None, ZnodeStat]]:
        """As `ZooKeeper.get`."""
        return await self._submit(self._requests.get(path))

    async def exists(self, path: str, watch: WatchCallback | None = None) -> PipelineResult[ZnodeStat | None]:
        """As `ZooKeeper.exists`."""
        return await self._submit(self._requests.exists(path, watch))

    async def get_children(self, path: str, watch: WatchCallback | None = None) -> PipelineResult[list[str]]:
        """As `ZooKeeper.get_children`."""
        return await self._submit(self._requests.get_children(path, watch))

    async def get_acls(self, path: str) -> PipelineResult[tuple[list[ACL], ZnodeStat]]:
        """As `ZooKeeper.get_acls`."""
        return await self._submit(self._requests.get_acls(path))

    @overload
    async def create(
        self,
        path: str,
        value: bytes | None = b"",
        acl: Iterable[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        *,
        include_data: Literal[False] = False,
        ttl: float | None = None,
        container: bool = False,
    ) -> PipelineResult[str]: ...
    @overload
    async def create(
        self,
        path: str,
        value: bytes | None = b"",
        acl: Iterable[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        *,
        include_data: Literal[True],
        ttl: float | None = None,
        container: bool = False,
    ) -> PipelineResult[tuple[str, ZnodeStat]]: ...
    async def create(
        self,
        path: str,
        value: bytes | None = b"",
        acl: Iterable[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        *,
        include_data: bool = False,
        ttl: float | None = None,
        container: bool = False,
    ) -> PipelineResult[Any]:
        """As `ZooKeeper.create`."""
        return await self._submit(
            self._requests.create(path, value, acl, ephemeral, sequence, include_data, ttl, container)
        )

    async def set(self, path: str, value: bytes | None, version: int = -1) -> PipelineResult[ZnodeStat]:
        """As `ZooKeeper.set`."""
        return await self._submit(self._requests.set(path, value, version))

    async def delete(self, path: str, version: int = -1) -> PipelineResult[bool]:
        """As `ZooKeeper.delete`."""
        return await self._submit(self._requests.delete(path, version))

    async def set_acls(self, path: str, acls: Iterable[ACL], version: int = -1) -> PipelineResult[ZnodeStat]:
        """As `ZooKeeper.set_acls`."""
        return await self._submit(self._requests.set_acls(path, acls, version))

    async def sync(self, path: str) -> PipelineResult[str]:
        """As `ZooKeeper.sync`."""
        return await self._submit(self._requests.sync(path))

    async def _submit(self, request: Request) -> PipelineResult[Any]:
        if not self._open:
            raise RuntimeError("the pipeline is not open: submit inside its 'async with' block")
        self._used = True
        if self._broken:
            request.error = ConnectionLoss("an earlier request of the pipeline lost its connection", path=request.path)
            request.done = True
            await trio.lowlevel.checkpoint()
            return request
        request.waiter = self
        try:
            self._runner.session.submit(request)
        except KazooException as error:
            # The session has ended for good; like any other outcome, that is for the handle to tell.
            request.waiter, request.error, request.done = None, error, True
            await trio.lowlevel.checkpoint()
            return request
        self._waiting.append(request)
        self._bytes += len(request.frame)
        self._since_flush += 1
        if self._since_flush == 1:
            # Whatever the task does next, its requests leave with the next scheduler pass.
            self._runner.wake_writer()
        if self._since_flush >= FLUSH_EVERY or len(self._waiting) >= self._window or self._bytes > WINDOW_BYTES:
            await self._make_room()
        return request

    async def _make_room(self) -> None:
        self._send()
        if len(self._waiting) >= self._window or self._bytes > WINDOW_BYTES:
            # Half the window still is in flight when the task goes on, so the link does not run dry.
            await self._drain(min(len(self._waiting), self._window) // 2)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()

    def _send(self) -> None:
        self._since_flush = 0
        if self._runner.session.queue.open:
            self._runner.flush()

    async def _drain(self, count: int) -> None:
        """Waits until at most `count` requests are unanswered."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._send()
        if len(self._waiting) > count:
            if self._task is not None:
                raise RuntimeError("a pipeline belongs to one task; another one is waiting in it")
            self._task, self._wake_at = current_task(), count
            await wait_task_rescheduled(self._stop_waiting)

    def _stop_waiting(self, _: RaiseCancelT) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    def completed(self, request: Request) -> None:
        """Called by the shell, in the order of submission, once the outcome of a request is known."""
        waiting = self._waiting
        if waiting and waiting[0] is request:
            waiting.popleft()
            self._bytes -= len(request.frame)
        if request.error is not None and isinstance(request.error, _ENDING):
            self._broken = True
        if self._task is not None and len(waiting) <= self._wake_at:
            task, self._task = self._task, None
            reschedule(task)
