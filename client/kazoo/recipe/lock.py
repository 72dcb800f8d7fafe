"""kazoo's blocking locks and semaphore: shells over the native ones, which hold every algorithm.

Decides what kazoo's calls and attributes mean where the native recipes have others: a cancellation that comes before
the wait it is meant for, a semaphore that is acquired twice.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from terzetto import recipes

from ..exceptions import CancelledError
from ._crossing import Crossing
from ._ownership import Ownership

if TYPE_CHECKING:
    from ..._client import ZooKeeper
    from ..client import KazooClient

log = logging.getLogger(__name__)

NativeLock = recipes.Lock | recipes.ReadLock | recipes.WriteLock
T = TypeVar("T")
NativeT = TypeVar("NativeT", bound="NativeLock | recipes.Semaphore")


def encoded(identifier: str | bytes | None) -> bytes:
    """An identifier as it is stored: UTF-8. Bytes stay as they are, where kazoo stores the text of their repr."""
    return identifier if isinstance(identifier, bytes) else str(identifier or "").encode()


class _Owner(ABC, Generic[NativeT]):
    """What locks and semaphores share.

    Attributes:
        client: the client.
        path: the recipe's path.
        data: the identifier, as bytes.
        cancelled: `cancel` was called, and no `acquire` has raised `CancelledError` for it yet.
        wake_event: set by `cancel`, and when the connection changes its state while somebody waits.
    """

    def __init__(self, client: KazooClient, path: str, identifier: str | bytes | None) -> None:
        self.client = client
        self.path = path
        self.data = encoded(identifier)
        self.cancelled = False
        self.wake_event: threading.Event = client.handler.event_object()
        self._native = Crossing(client, self._make)

    @abstractmethod
    def _make(self, zk: ZooKeeper) -> NativeT:
        """The native recipe. Runs in the loop."""

    @property
    def is_acquired(self) -> bool:
        """Whether this object owns it, now: False as soon as ownership has ended or can no longer be proved.

        Looks at the clock, not at the servers.
        """
        return self._native.look(lambda native: native.is_acquired, otherwise=False)

    @property
    def ownership(self) -> Ownership | None:
        """What this object owns, also when it was lost since; `None` between a release and the next acquisition.

        It has a fencing token, transactions that commit only while this is owned, and a wait for the loss.
        """
        native = self._native.present
        held = None if native is None else native.held
        return None if held is None else Ownership(self.client, held)

    @property
    def node(self) -> str | None:
        """Name of the owner's znode, `None` while nothing is owned."""
        held = self.ownership
        return None if held is None else held.znode.rpartition("/")[2]

    @property
    def assured_path(self) -> bool:
        """Whether this object was used on this start of the client, which makes sure of its path."""
        return self._native.is_made

    @abstractmethod
    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquires it."""

    def _take(
        self,
        acquire: Callable[[NativeT], Awaitable[T]],
        give_back: Callable[[NativeT], Awaitable[object]],
    ) -> T:
        """See `Crossing.take`; changes of the connection's state set `wake_event` meanwhile."""
        self.wake_event.clear()
        lifecycle = self.client.lifecycle
        lifecycle.watchers.add(self._state_changed)
        try:
            return self._native.take(acquire, give_back)
        finally:
            lifecycle.watchers.discard(self._state_changed)

    def _state_changed(self, state: str) -> None:
        self.wake_event.set()

    def release(self) -> bool:
        """Gives it up, and waits until a server has confirmed. False: it was not owned, or not any more."""
        if self._native.present is None:
            return False
        return self._native.call(lambda native: native.release())

    def cancel(self) -> None:
        """Ends every wait in this object's `acquire`, in any thread: it raises `CancelledError`."""
        self.cancelled = True
        self.wake_event.set()
        self._native.tell(lambda native: native.cancel())

    def __enter__(self) -> Ownership | None:
        self.acquire()
        return self.ownership

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held = self.ownership
        loss = None if held is None else held.loss
        self.release()
        if loss is not None:
            log.warning("%s was owned no more before its block ended: %s", self.path, loss)


class _QueueLock(_Owner[NativeT], Generic[NativeT]):
    """What all locks share; see `Lock`."""

    _kind: ClassVar[Any]
    _NODE_NAME: ClassVar[str]
    _EXCLUDE_NAMES: ClassVar[list[str]]

    def __init__(
        self,
        client: KazooClient,
        path: str,
        identifier: str | bytes | None = None,
        extra_lock_patterns: Iterable[str] = (),
    ) -> None:
        super().__init__(client, path, identifier)
        self.extra_lock_patterns = tuple(extra_lock_patterns)

    def _make(self, zk: ZooKeeper) -> NativeT:
        native: NativeT = self._kind(zk, self.path, self.data, self.extra_lock_patterns)
        return native

    @property
    def create_tried(self) -> bool:
        """Whether its znode may be there."""
        return self.node is not None

    @property
    def prefix(self) -> str | None:
        """The owner's znode's name without the server's number, `None` while nothing is owned."""
        node = self.node
        return None if node is None else node[: -len("0000000000")]

    @property
    def create_path(self) -> str | None:
        """As `prefix`, with the path before it."""
        prefix = self.prefix
        return None if prefix is None else f"{self.path}/{prefix}"

    def acquire(self, blocking: bool = True, timeout: float | None = None, ephemeral: bool = True) -> bool:
        """Acquires it. A thread that is interrupted here leaves no znode behind, whatever interrupts it.

        Args:
            blocking: wait for others to release it.
            timeout: seconds for all of it, `None` for no limit; 0 tries once.
            ephemeral: its znode goes with the session; else it stays until it is released, by whomever.

        Returns:
            False: others own it and `blocking` is false, or another thread has this object.

        Raises:
            LockTimeout: not acquired within `timeout`.
            CancelledError: `cancel()` was called, here or before.
            ValueError: a timeout without blocking.
        """
        if not blocking and timeout is not None:
            raise ValueError("a timeout is for blocking acquisitions")

        async def acquire(lock: Any) -> bool:
            self._check_cancelled()
            try:
                owned: bool = await lock.acquire(blocking, timeout, ephemeral)
            except CancelledError:
                self.cancelled = False
                raise
            return owned

        return self._take(acquire, give_back=lambda lock: lock.release())

    def _check_cancelled(self) -> None:
        if self.cancelled:
            self.cancelled = False
            raise CancelledError(f"waiting for {self.path} was cancelled")

    def _get_predecessor(self, node: str) -> str | None:
        """Name of the znode for which this one of ours waits, `None` for none; of those that there are now."""
        return self._native.call(lambda lock: self._predecessor(lock, node))

    @staticmethod
    async def _predecessor(lock: Any, node: str) -> str | None:
        queue = lock._queue  # pyright: ignore[reportPrivateUsage]
        before: str | None = None
        for seat in queue.role.queue(await queue.names()):
            if seat.name == node:
                return before
            if queue.role.blocks(seat.name):
                before = seat.name
        return None

    def contenders(self) -> list[str]:
        """Identifiers of those who own it or wait for it, in the order in which they came; "" for one without."""
        return self._native.call(self._contenders)

    @staticmethod
    async def _contenders(lock: Any) -> list[str]:
        names: list[str] = await lock.contenders()
        return names


class Lock(_QueueLock[recipes.Lock]):
    """kazoo's exclusive lock: `with client.Lock("/locks/a", "me"):`. First come, first served.

    Any thread may use it, and one at a time owns it: another thread's `acquire` on the same object waits its turn. It
    is not re-entrant.

    Nothing can cancel a thread whose lock is lost. What there is instead: `is_acquired` becomes False in time, before
    anybody else can own it; `ownership` has more.

    Args:
        client: the client.
        path: the znode below which the contenders stand; made when it is missing.
        identifier: who we are, for `contenders()`.
        extra_lock_patterns: regular expressions of other contenders' names, without the number, that we wait for too.
    """

    _kind = recipes.Lock
    _NODE_NAME = "__lock__"
    _EXCLUDE_NAMES = ["__lock__"]  # noqa: RUF012  kazoo's, a list


class ReadLock(_QueueLock[recipes.ReadLock]):
    """A reader's part of a lock for many readers or one writer. The arguments are `Lock`'s."""

    _kind = recipes.ReadLock
    _NODE_NAME = "__rlock__"
    _EXCLUDE_NAMES = ["__lock__"]  # noqa: RUF012  kazoo's, a list


class WriteLock(_QueueLock[recipes.WriteLock]):
    """A writer's part of a lock for many readers or one writer. The arguments are `Lock`'s."""

    _kind = recipes.WriteLock
    _NODE_NAME = "__lock__"
    _EXCLUDE_NAMES = ["__lock__", "__rlock__"]  # noqa: RUF012  kazoo's, a list


class Semaphore(_Owner[recipes.Semaphore]):
    """kazoo's semaphore: at most `max_leases` owners at once.

    Args:
        client: the client.
        path: the znode below which the leases stand.
        identifier: who we are, for `lease_holders()`.
        max_leases: how many; all who share the path must say the same.
    """

    def __init__(
        self, client: KazooClient, path: str, identifier: str | bytes | None = None, max_leases: int = 1
    ) -> None:
        super().__init__(client, path, identifier)
        self.max_leases = max_leases
        self.lock_path = f"{path}-__lock__"

    def _make(self, zk: ZooKeeper) -> recipes.Semaphore:
        return recipes.Semaphore(zk, self.path, self.data, self.max_leases)

    @property
    def create_path(self) -> str | None:
        """Path of the lease's znode, `None` while nothing is owned."""
        held = self.ownership
        return None if held is None else held.znode

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquires a lease. Acquiring again what this object owns is True, and one release gives it up.

        Args:
            blocking: wait for others to release one.
            timeout: seconds for all of it, `None` for no limit; 0 tries once.

        Raises:
            LockTimeout: not acquired within `timeout`.
            CancelledError: `cancel()` was called meanwhile.
            ValueError: a timeout without blocking; or the path is a semaphore of another number of leases.
        """
        if not blocking and timeout is not None:
            raise ValueError("a timeout is for blocking acquisitions")

        async def acquire(semaphore: recipes.Semaphore) -> tuple[bool, bool]:
            if semaphore.is_acquired:
                return True, False
            owned = await semaphore.acquire(blocking, timeout)
            return owned, owned

        self.cancelled = False
        return self._take(acquire, give_back=lambda semaphore: semaphore.release())[0]

    def lease_holders(self) -> list[str]:
        """Identifiers of the owners, in no order; "" for one without."""
        return self._native.call(lambda semaphore: semaphore.lease_holders())
