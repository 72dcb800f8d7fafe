"""kazoo's blocking SetPartitioner: a shell over the native one, whose block lasts until `finish` or FAILURE.

Decides in which thread the program's function divides the set. What the states mean is the native recipe's; nobody can
cancel a thread, so a lost connection asks for the items at once, and a lost session is the end, as in kazoo.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from terzetto import recipes
from terzetto.recipes import PartitionState

from ..exceptions import ConnectionClosedError
from ..handlers.utils import AsyncResult
from ._crossing import Crossing

if TYPE_CHECKING:
    from ..._client import ZooKeeper
    from ..client import KazooClient

log = logging.getLogger(__name__)

PartitionFunction = Callable[[str, list[str], Collection[Any]], Iterable[Any]]

__all__ = ["PartitionState", "SetPartitioner"]


class SetPartitioner:
    """Divides a set among all who make one on the same path; the object joins them when it is made::

        partitioner = client.SetPartitioner("/work", ("a", "b", "c"))
        while not partitioner.failed:
            if partitioner.release:
                partitioner.release_set()
            elif partitioner.acquired:
                work_on(list(partitioner))
            else:
                partitioner.wait_for_acquire()

    Args:
        client: the client, started.
        path: the znode below which all of it stands; made when it is missing.
        set: the items: sortable, unless there is a `partition_func`, and told apart by their texts.
        partition_func: `partition_func(identifier, members, set)` gives this member's items; called in a thread of its
            own. All members must use the same.
        identifier: who we are. If not given, one that no other member has.
        time_boundary: seconds for which the members must have been the same before the set is divided.
        max_reaction_time: taken for kazoo's sake. A change among the members ends the wait for an item at once.
        state_change_event: `set()` is called on it at each change of the state; one of the client's if not given.

    Raises:
        ConnectionClosedError: the client is not started.
    """

    def __init__(
        self,
        client: KazooClient,
        path: str,
        set: Collection[Any],
        partition_func: PartitionFunction | None = None,
        identifier: str | None = None,
        time_boundary: float = 30,
        max_reaction_time: float = 1,
        state_change_event: Any = None,
    ) -> None:
        self.state_change_event = state_change_event or client.handler.event_object()
        self._path = path

        async def divide(identifier: str, members: list[str], items: Collection[Any]) -> Iterable[Any]:
            assert partition_func is not None
            call = functools.partial(partition_func, identifier, members, items)
            return await trio.to_thread.run_sync(call, abandon_on_cancel=True)

        def make(zk: ZooKeeper) -> recipes.SetPartitioner:
            return recipes.SetPartitioner(
                zk,
                path,
                set,
                None if partition_func is None else divide,
                identifier,
                time_boundary,
                max_reaction_time,
                self.state_change_event,
                allow_session_lost=False,
                on_suspend="cancel",
            )

        self._native = Crossing(client, make)
        joined: AsyncResult = client.handler.async_result()

        async def stay(native: recipes.SetPartitioner) -> None:
            async with native:
                joined.set(native)
                while not native.failed:
                    await native.wait_state_changed()

        def ended(task: AsyncResult) -> None:
            if not joined.ready():
                joined(task)
            elif task.exception is not None and not isinstance(task.exception, ConnectionClosedError):
                log.error("the division of %s has failed", path, exc_info=task.exception)

        task = self._native.spawn(stay)
        task.rawlink(ended)
        try:
            self._member: recipes.SetPartitioner = joined.get()
        except BaseException:
            if (abandon := task.abandon) is not None:
                abandon()
            raise

    @property
    def state(self) -> str:
        """One of `PartitionState`."""
        return self._native.look(lambda native: native.state, otherwise=PartitionState.FAILURE)

    @property
    def state_id(self) -> int:
        """Grows with each change of the state."""
        return self._member.state_id

    @property
    def failed(self) -> bool:
        """Whether it is over: finished, or the session is lost, or the client was stopped."""
        return self.state == PartitionState.FAILURE

    @property
    def release(self) -> bool:
        """Whether the items are to be released, by `release_set()`."""
        return self.state == PartitionState.RELEASE

    @property
    def allocating(self) -> bool:
        """Whether the division is under way."""
        return self.state == PartitionState.ALLOCATING

    @property
    def acquired(self) -> bool:
        """Whether the items are ours. Looks at the clock: items that can no longer be proved ours are not."""
        return self.state == PartitionState.ACQUIRED

    def __iter__(self) -> Iterator[Any]:
        """The items that are ours, until they are released or lost."""
        nothing: list[Any] = []
        return iter(self._native.look(list, otherwise=nothing))

    def wait_for_acquire(self, timeout: float | None = 30) -> None:
        """Waits as long as the set is being divided, for at most `timeout` seconds."""
        self._call(lambda native: native.wait_for_acquire(timeout))

    def release_set(self) -> None:
        """Releases the items, and begins the next division."""
        self._call(lambda native: native.release_set())

    def finish(self) -> None:
        """Releases the items and leaves the others."""
        self._call(lambda native: native.finish())

    def _call(self, step: Callable[[recipes.SetPartitioner], Any]) -> None:
        """Does nothing once the client it was made on is gone: it failed with that."""
        if self._native.present is not None:
            with suppress(ConnectionClosedError):
                self._native.call(step)
