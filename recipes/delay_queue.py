"""DelayQueue: an item goes when its time has come. Curator's DistributedDelayQueue.

Time is everybody's wall clock, to the millisecond. What taking and claiming an item means is `_item_queue`'s.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

from terzetto.client import ZnodeStat, ZooKeeper

from ._item_queue import ClaimedItem, ItemFound, ItemQueue, Place
from ._ownership import ProofMode, SuspendMode, Terms

_KEY = re.compile(r"\|([0-9A-Fa-f]{1,16})\|\Z")
_DUE_END = 2**63


def _key(due: float) -> str:
    """What an item's name says of its time, in seconds since 1970. Raises `ValueError`: this is no time."""
    due_ms = due * 1000
    if not 0 <= due_ms < _DUE_END:  # which is false also of what is not a number
        raise ValueError(f"an item is due at a time since 1970 that has 63 bits of milliseconds, not at {due} s")
    return f"|{round(due_ms):08X}|"


def _due_ms(key: str) -> int:
    """0 where nothing is said: what Curator has put back has lost its time, and is due."""
    found = _KEY.match(key)
    return 0 if found is None else int(found.group(1), 16)


class DelayedItem(ClaimedItem):
    """An item of a `DelayQueue`, claimed for a block. The attributes are `ClaimedItem`'s."""

    def __init__(
        self,
        zk: ZooKeeper,
        path: str,
        mark: str,
        stat: ZnodeStat,
        terms: Terms,
        item: ItemFound,
        now: Callable[[], float],
    ) -> None:
        super().__init__(zk, path, mark, stat, terms, item)
        self._now = now

    def requeue(self, delay: float | None = None) -> None:
        """When the block ends, the item goes behind the others of its time, instead of out of the queue.

        Args:
            delay: seconds from now until it is due again; not given: it is due already.
        """
        self._requeue_as(self._key if delay is None else _key(self._now() + delay))


class DelayQueue(ItemQueue[DelayedItem]):
    """A queue whose items can be had when they are due, those first that were due first, then as they came::

        queue = DelayQueue(zk, "/queues/mails", "/queues/mails-claims")
        await queue.put(b"a reminder", delay=3600)
        async with queue.claim() as item:
            await send(item.value)

    The znodes are those of Curator's DistributedDelayQueue. Each consumer goes by its own wall clock, so clocks that
    differ make items come that much earlier or later.

    Args:
        client: the client.
        path: the znode below which the items stand; made when it is missing. Not "/".
        lock_path: as of `PriorityQueue`.
        now: the wall clock, in seconds since 1970.
        proof, on_suspend: of claims, see `Lock`.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        lock_path: str | None = None,
        *,
        now: Callable[[], float] = time.time,
        proof: ProofMode = "quorum",
        on_suspend: SuspendMode = "wait",
    ) -> None:
        super().__init__(client, path, lock_path, proof=proof, on_suspend=on_suspend)
        self._now = now

    def _claimed(self, mark: str, stat: ZnodeStat, found: ItemFound) -> DelayedItem:
        return DelayedItem(self.client, self.path, mark, stat, self._terms, found, self._now)

    def _places(self, items: Iterable[tuple[str, str]]) -> list[Place]:
        # Whole milliseconds: a shorter wait could end before the clock has moved.
        now_ms = int(self._now() * 1000)
        timed = sorted(((_due_ms(key), name, key) for name, key in items), key=lambda item: item[0])
        return [Place(name, key, max(0, due - now_ms) / 1000) for due, name, key in timed]

    async def put(self, value: bytes, delay: float = 0.0, *, due: float | None = None) -> None:
        """Puts an item, once, also when the request or its reply is lost.

        Args:
            value: the item.
            delay: seconds from now until it is due.
            due: when it is due instead, in seconds since 1970.

        Raises:
            TypeError: the value is not bytes.
            ValueError: the time is before 1970, or none.
            SessionExpiredError: the session ended; `outcome_unknown` says whether the item may have been put.
        """
        await self.put_all([value], delay, due=due)

    async def put_all(self, values: Iterable[bytes], delay: float = 0.0, *, due: float | None = None) -> None:
        """Puts items, all or none. As `put`."""
        await self._put(values, _key(self._now() + delay if due is None else due))
