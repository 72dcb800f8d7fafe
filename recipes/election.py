"""Elections: one leader at a time, as a scope or as a function that runs while leading.

The queue and its znodes are a `Lock`'s: kazoo's Election, Curator's LeaderSelector. Leadership as a standing flag is
`latch`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from inspect import isawaitable
from types import TracebackType
from typing import Any

from terzetto.client import CancelledError, ZooKeeper

from ._layout import LayoutName
from ._ownership import Ownership, ProofMode, SuspendMode, is_loss
from .errors import OwnershipLost
from .lock import Lock

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


class Election:
    """Runs for leadership: `async with Election(zk, "/leader", "me") as leadership:`, or `await election.run(func)`.

    Args:
        client: the client.
        path: the znode below which the candidates stand.
        identifier: who we are, for `contenders()`.
        layout: "kazoo" or "curator" (LeaderSelector): whose znodes. All who share a path must use the same.
        proof, on_suspend, container: see `Lock`.

    Attributes:
        lock: the `Lock` behind it; `lock.held` is the `Ownership` while we lead.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        identifier: str | bytes | None = None,
        *,
        layout: LayoutName = "kazoo",
        proof: ProofMode = "quorum",
        on_suspend: SuspendMode = "wait",
        container: bool | None = None,
    ) -> None:
        self.lock = Lock(
            client, path, identifier, layout=layout, proof=proof, on_suspend=on_suspend, container=container
        )

    @property
    def path(self) -> str:
        """The znode below which the candidates stand."""
        return self.lock.path

    @property
    def is_leader(self) -> bool:
        """Whether we lead. Looks at the clock, not at the servers."""
        return self.lock.is_acquired

    async def run(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Waits for leadership, runs `func(*args, **kwargs)` once, resigns, and returns its result.

        Args:
            func: async or plain. It is cancelled when leadership is lost.
            args: its arguments.
            kwargs: its keyword arguments.

        Returns:
            Its result; `None` if `cancel()` ended the wait.

        Raises:
            ValueError: `func` cannot be called.
            OwnershipLost: leadership was lost while it ran.
        """
        if not callable(func):
            raise ValueError(f"an election runs a function, not {func!r}")
        leads = False
        try:
            async with self.lock:
                leads = True
                result = func(*args, **kwargs)
                return await result if isawaitable(result) else result
        except CancelledError:
            if leads:
                raise  # the function's own
            return None

    def cancel(self) -> None:
        """Ends every wait in this object's `run`, which returns `None`. A leader goes on."""
        self.lock.cancel()

    async def contenders(self) -> list[str]:
        """Identifiers of the leader and of those who wait, in their order."""
        return await self.lock.contenders()

    def lead(self, timeout: float | None = None) -> AbstractAsyncContextManager[Ownership]:
        """The scope with a limit for the wait, in seconds. Raises `LockTimeout`."""
        return self.lock.hold(timeout)

    async def __aenter__(self) -> Ownership:
        return await self.lock.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self.lock.__aexit__(kind, error, traceback)


class LeaderSelector(Election):
    """An election that is run for again and again: Curator's LeaderSelector with re-queueing, in Curator's layout.

    The arguments are `Election`'s.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        identifier: str | bytes | None = None,
        *,
        layout: LayoutName = "curator",
        proof: ProofMode = "quorum",
        on_suspend: SuspendMode = "wait",
        container: bool | None = None,
    ) -> None:
        super().__init__(
            client, path, identifier, layout=layout, proof=proof, on_suspend=on_suspend, container=container
        )

    async def take_turns(self, take_leadership: Callable[[Ownership], Awaitable[object]]) -> None:
        """Runs `take_leadership(leadership)` each time we lead, and queues up again when it returns. Never returns.

        It is cancelled when leadership is lost, which ends that turn and nothing else. What it raises ends all turns.
        """
        while True:
            held: Ownership | None = None
            try:
                async with self.lock as held:
                    await take_leadership(held)
            except (OwnershipLost, BaseExceptionGroup) as error:
                if held is None or not is_loss(error, self.path):
                    raise
