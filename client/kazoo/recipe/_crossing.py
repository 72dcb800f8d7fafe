"""From a blocking recipe to the native one in the client's loop: one way across, typed, for all of them.

A blocking recipe outlives the sessions of its client (`stop`, `start`) and keeps no native object of an earlier one.
Knows no recipe.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from ..._client import ZooKeeper
from ..exceptions import ConnectionClosedError
from ..handlers.utils import AsyncResult

if TYPE_CHECKING:
    from ..client import KazooClient

NativeT = TypeVar("NativeT")
T = TypeVar("T")


class Crossing(Generic[NativeT]):
    """One native recipe as a blocking one reaches it: `crossing.call(lambda lock: lock.release())`.

    Args:
        client: the blocking client.
        make: makes the native recipe, anew for each start of the client; runs in the loop.
    """

    def __init__(self, client: KazooClient, make: Callable[[ZooKeeper], NativeT]) -> None:
        self._client = client
        self._make = make
        self._zk: ZooKeeper | None = None
        self._native: NativeT | None = None

    @property
    def present(self) -> NativeT | None:
        """The native recipe, `None` before the first call, and once the client it was made on is gone."""
        lifecycle = self._client.lifecycle
        return self._native if lifecycle.running and lifecycle.native is self._zk else None

    @property
    def is_made(self) -> bool:
        """Whether it was used on this start of the client; the first use makes sure of what it needs."""
        return self.present is not None

    def native(self) -> NativeT:
        """The native recipe on the present native client. In the loop only."""
        zk = self._client.native
        if self._native is None or self._zk is not zk:
            self._zk, self._native = zk, self._make(zk)
        return self._native

    async def _run(self, step: Callable[[NativeT], Awaitable[T]]) -> T:
        return await step(self.native())

    def spawn(self, step: Callable[[NativeT], Awaitable[object]]) -> AsyncResult:
        """Begins `await step(native)` in the loop; the result tells its outcome."""
        return self._client.spawn_native(self._run, step)

    def call(self, step: Callable[[NativeT], Awaitable[T]]) -> T:
        """Waits for `await step(native)`. A thread that is interrupted meanwhile cancels it."""
        value: T = self.spawn(step).get()
        return value

    def take(self, step: Callable[[NativeT], Awaitable[T]], give_back: Callable[[NativeT], Awaitable[object]]) -> T:
        """As `call`, for a step that takes something: `give_back` follows if the thread was interrupted too late.

        Args:
            step: what it returns is true where something was taken.
            give_back: undoes it.
        """
        result = self.spawn(step)

        def undo(late: AsyncResult) -> None:
            if late.value:
                with suppress(ConnectionClosedError):  # then it went with its session
                    self.spawn(give_back)

        try:
            value: T = result.get()
        except BaseException:
            result.rawlink(undo)
            raise
        return value

    def tell(self, step: Callable[[NativeT], object]) -> None:
        """Has `step(native)` called in the loop, before whatever crosses over after it. Does not wait.

        Nothing is called where no native recipe was made yet.
        """
        present, loop = self.present, self._client.lifecycle.loop
        if present is not None and loop is not None:
            loop.check_process()
            loop.post(lambda: step(present))

    def look(self, question: Callable[[NativeT], T], otherwise: T) -> T:
        """What `question(native)` says in the loop, where the clock is; `otherwise` without a running client.

        Never creates the native recipe: there is nothing to ask one that was never used.
        """

        async def ask() -> T:
            present = self.present
            return otherwise if present is None else question(present)

        if self.present is None:
            return otherwise
        try:
            return self._client.call_native(ask)
        except ConnectionClosedError:
            return otherwise
