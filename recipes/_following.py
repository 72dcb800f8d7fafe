"""What recipes share that follow znodes instead of owning them: reads in whatever session there is, and newest values.

A follower outlives its session. What it reads, it reads again in the next one; only a client that is over ends it.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from inspect import Parameter, isawaitable, signature
from math import isnan
from types import TracebackType
from typing import Any, Generic, TypeVar

import trio

from terzetto.client import PlainNursery, SessionExpiredError, WatchedEvent, ZooKeeper

from ._ownership import leaves_of
from ._znodes import until_answered

if sys.version_info < (3, 11):  # trio depends on the backport there
    from exceptiongroup import BaseExceptionGroup

T = TypeVar("T")
StandingT = TypeVar("StandingT", bound="Standing")


async def in_any_session(zk: ZooKeeper, call: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
    """Awaits `call(*args, **kwargs)` until a server has answered it, in the next session where the present one ends.

    Only for what may be repeated, and means the same in every session.

    Raises:
        SessionExpiredError: the client is over (closed, or its only session lost).
        ZookeeperError: the server's refusal.
    """
    while True:
        try:
            return await until_answered(call, *args, **kwargs)
        except SessionExpiredError:
            if zk.is_over:
                raise


def _says_the_end(error: BaseException) -> bool:
    """Whether it says nothing but that the client is over."""
    return all(isinstance(leaf, SessionExpiredError) for leaf in leaves_of(error))


async def one_end(block: Awaitable[T], body: BaseException | None = None) -> T | None:
    """Enters or leaves a block in which everybody finds out at once that the client is over: no group leaves then.

    Args:
        block: what its `__aenter__` or `__aexit__` has returned.
        body: what the body has raised, if it has; it leaves unchanged.
    """
    try:
        return await block
    except BaseExceptionGroup as group:
        if not _says_the_end(group):
            raise
        if body is not None and _says_the_end(body):
            return None  # Python goes on raising it.
        first = leaves_of(group)[0]
        raise first from first.__cause__


class Standing(ABC):
    """A recipe that works in the background of its block: `async with` it, once."""

    _block: AbstractAsyncContextManager[None] | None = None

    @abstractmethod
    def _running(self) -> AbstractAsyncContextManager[None]:
        """Works until it is left."""

    async def __aenter__(self: StandingT) -> StandingT:  # noqa: PYI019 - Python 3.10 has no Self
        if self._block is not None:
            raise RuntimeError(f"a {type(self).__name__} is entered once; make another one")
        self._block = self._running()
        await one_end(self._block.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._block is not None
        return await one_end(self._block.__aexit__(kind, error, traceback), error)


class Rearmed:
    """One-shot watches on one path, set again by each read: whether anything was told since the last one.

    Attributes:
        event: what was told last.
    """

    def __init__(self, zk: ZooKeeper, path: str) -> None:
        self._zk = zk
        self._path = path
        self._told = trio.Event()
        self.event: WatchedEvent | None = None

    def told(self, event: WatchedEvent) -> None:
        """The callable for the reads."""
        self.event = event
        self._told.set()

    def arm(self) -> None:
        """Before a read: what is told from now on counts."""
        if self._told.is_set():
            self._told = trio.Event()

    async def wait(self) -> None:
        """Returns once a watch has fired, or the session is over."""
        await self._told.wait()

    def take_back(self) -> None:
        """Nothing is told any more."""
        self._zk.forget_watch(self._path, self.told)


def looks_once(timeout: float | None) -> bool:
    """Whether a call with this limit only looks at what there is, and waits for nothing but the answers.

    Raises:
        TypeError: the limit is neither a number of seconds nor `None`.
        ValueError: it is not a number.
    """
    if timeout is None:
        return False
    if not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    if isnan(timeout):
        raise ValueError(f"timeout must be a number of seconds or None, not {timeout!r}")
    return timeout <= 0


def within(timeout: float | None) -> trio.CancelScope:
    """A scope for so many seconds. `None` is no limit, and neither is what `looks_once`: it could never look."""
    return trio.move_on_after(float("inf") if timeout is None or looks_once(timeout) else timeout)


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Returns when the first of them does; the others are cancelled."""
    async with PlainNursery() as nursery:

        async def wait(one: Callable[[], Awaitable[object]]) -> None:
            await one()
            nursery.cancel_scope.cancel()

        for one in waits:
            nursery.start_soon(wait, one)


class Latest(Generic[T]):
    """A value and its changes. Whoever is slow sees the newest only, so nothing piles up.

    Attributes:
        value: the value.
        version: how often it has changed.
        is_final: it will not change any more.
    """

    def __init__(self, value: T) -> None:
        self.value = value
        self.version = 0
        self.is_final = False
        self._changed = trio.Event()

    def put(self, value: T) -> None:
        """There is another value."""
        self.value = value
        self.tell()

    def tell(self) -> None:
        """What can be seen through the value has changed."""
        self.version += 1
        self._wake()

    def finish(self) -> None:
        """The block in which it changed has ended. Wakes whoever waits: nothing else would."""
        self.is_final = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        """Returns after the next change, or when it is final. Not for a value that is final already."""
        await self._changed.wait()


class LatestStream(Generic[T]):
    """The value at once, then whenever it has changed since it was read here, until it is final."""

    def __init__(self, latest: Latest[Any], read: Callable[[], T]) -> None:
        self._latest = latest
        self._read = read
        self._seen = -1

    def __aiter__(self) -> LatestStream[T]:
        return self

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint()
        while self._seen == self._latest.version:
            if self._latest.is_final:
                raise StopAsyncIteration
            await self._latest.wait_changed()
        self._seen = self._latest.version
        return self._read()


async def call_back(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a user's function, async or plain, and returns its result."""
    result = function(*args)
    return await result if isawaitable(result) else result


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many positional arguments; True where Python cannot tell."""
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        return True
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters) >= count
