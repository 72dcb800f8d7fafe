"""PriorityQueue: what is most urgent goes first. Curator's DistributedPriorityQueue.

What taking and claiming an item means is `_item_queue`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from terzetto.client import ZnodeStat

from ._item_queue import ClaimedItem, ItemFound, ItemQueue, Place

_PRIORITY_MIN, _PRIORITY_MAX = -(2**31), 2**31 - 1


def _key(priority: int) -> str:
    """What an item's name says of its priority: a digit for the sign, then 32 bits, so that texts sort as numbers do.

    Raises `TypeError`, `ValueError`: this is no priority.
    """
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be an int, not {priority!r}")
    if not _PRIORITY_MIN <= priority <= _PRIORITY_MAX:
        raise ValueError(f"priority must fit into 32 bits with a sign, not {priority}")
    return f"{int(priority >= 0)}{priority % 2**32:08X}"


class PriorityItem(ClaimedItem):
    """An item of a `PriorityQueue`, claimed for a block. The attributes are `ClaimedItem`'s."""

    def requeue(self, priority: int | None = None) -> None:
        """When the block ends, the item goes behind all others of its priority, instead of out of the queue.

        Args:
            priority: another one; not given: the same.
        """
        self._requeue_as(self._key if priority is None else _key(priority))


class PriorityQueue(ItemQueue[PriorityItem]):
    """A queue whose items of a smaller priority go first, and of one priority in the order in which they came::

        queue = PriorityQueue(zk, "/queues/jobs", "/queues/jobs-claims")
        await queue.put(b"job", priority=5)
        async with queue.claim() as item:
            await work_on(item.value)

    `get()` takes an item out at once; `claim()` lends it to a block, and it stays if the block fails. The znodes are
    those of Curator's DistributedPriorityQueue.

    Args:
        client: the client.
        path: the znode below which the items stand; made when it is missing. Not "/".
        lock_path: the znode below which the claims stand, Curator's `lockPath`. All who share the queue must have the
            same, or all none.
        proof, on_suspend: of claims, see `Lock`.
    """

    def _claimed(self, mark: str, stat: ZnodeStat, found: ItemFound) -> PriorityItem:
        return PriorityItem(self.client, self.path, mark, stat, self._terms, found)

    def _places(self, items: Iterable[tuple[str, str]]) -> list[Place]:
        return [Place(name, key, 0.0) for name, key in sorted(items, key=lambda item: item[1])]

    async def put(self, value: bytes, priority: int = 0) -> None:
        """Puts an item, once, also when the request or its reply is lost.

        Raises:
            TypeError: the value is not bytes, or the priority no int.
            ValueError: the priority does not fit into 32 bits.
            SessionExpiredError: the session ended; `outcome_unknown` says whether the item may have been put.
        """
        await self._put([value], _key(priority))

    async def put_all(self, values: Iterable[bytes], priority: int = 0) -> None:
        """Puts items, all or none. As `put`."""
        await self._put(values, _key(priority))
