"""What runs beside a block of a test: a nursery that ends with the block, and a bell to wait for what happens in it.

Decides that the block's own exception stays bare and that every wait is bounded. Refuses to know what is waited for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

DEADLINE = 20.0


@asynccontextmanager
async def background_nursery() -> AsyncIterator[trio.Nursery]:
    """Cancels its tasks when the block ends; what the block raises leaves it outside any exception group."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:  # noqa: BLE001 - raised below, where no nursery wraps it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Bell:
    """Rung at each change; whoever waits for a condition looks again."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        """Says that something has changed."""
        self._rung.set()
        self._rung = trio.Event()

    async def wait_until(self, condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
        """Waits until the condition holds.

        Raises:
            trio.TooSlowError: it did not within `deadline` seconds.
        """
        with trio.fail_after(deadline):
            while not condition():
                await self._rung.wait()
