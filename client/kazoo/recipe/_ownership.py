"""What a blocking program can ask about something it owns. Nobody can cancel a thread, so it has to ask.

The native `Ownership` says what owning means; this only takes the questions to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from terzetto.recipes import Ownership as NativeOwnership

from .._transaction import TransactionRequest
from ..exceptions import ConnectionClosedError

if TYPE_CHECKING:
    from ..client import KazooClient


class Ownership:
    """One term of ownership, from its begin to its end. Made by the recipes: `with client.Lock("/a") as held:`.

    Attributes:
        path: path of the recipe.
        znode: path of the owner's own znode.
        fencing_token: grows with every owner of this path, for other stores to compare; `None` where there is no such
            order (readers, semaphores).
    """

    def __init__(self, client: KazooClient, native: NativeOwnership) -> None:
        self.path = native.path
        self.znode = native.znode
        self.fencing_token = native.fencing_token
        self._client = client
        self._native = native

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.znode} token {self.fencing_token}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ownership) and other._native is self._native

    def __hash__(self) -> int:
        return hash(self._native)

    @property
    def loss(self) -> str | None:
        """Why this is owned no more, `None` while it is. Looks at the clock, not at the servers."""

        async def look() -> str | None:
            return self._native.loss

        return self._ask(look)

    @property
    def is_lost(self) -> bool:
        """Whether this is owned no more. Looks at the clock, not at the servers."""
        return self.loss is not None

    def _ask(self, question: Callable[[], Awaitable[str | None]]) -> str | None:
        try:
            return self._client.call_native(question)
        except ConnectionClosedError:
            return "the client is stopped"

    def check(self) -> None:
        """For long computations, between two steps.

        Raises:
            OwnershipLost: this is owned no more, as far as the clock can tell.
        """

        async def look() -> None:
            self._native.check()

        self._client.call_native(look)

    def wait_lost(self, timeout: float | None = None) -> str | None:
        """Waits until this is owned no more, for at most `timeout` seconds; the reason, or `None` while it is owned.

        For a thread beside the one that works: it can tell that one to stop.
        """

        async def wait() -> str | None:
            with trio.move_on_after(float("inf") if timeout is None else timeout):
                return await self._native.wait_lost()
            return None

        return self._ask(wait)

    def assert_owned(self) -> None:
        """Asks a quorum whether the znode is there, now.

        Raises:
            OwnershipLost: it is not.
        """
        self._client.call_native(self._native.assert_owned)

    def transaction(self) -> TransactionRequest:
        """A transaction that commits only while this is owned, whatever the clocks say. Its `commit` raises
        `OwnershipLost` otherwise, and nothing was done.
        """
        return _GuardedTransactionRequest(self._client, self._native)


class _GuardedTransactionRequest(TransactionRequest):
    """Committed by the owner's guarded transaction in place of the client's plain one."""

    def __init__(self, client: KazooClient, owner: NativeOwnership) -> None:
        super().__init__(client)
        self._owner = owner

    def _begin(self) -> Any:
        return self._owner.transaction()
