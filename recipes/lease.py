"""Leases: ownership for a length of time, by everybody's wall clock. kazoo's znodes.

Nobody has to stay connected to keep a lease, and nobody can end it: it ends when its time is over. So it rests on the
clocks of all who share it, which is why a fencing token goes with it.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import trio

from terzetto.client import (
    BadVersionError,
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    SessionMovedError,
    ThrottledOpError,
    ZooKeeper,
    ZookeeperError,
)

from ._ownership import Ownership
from ._znodes import join, make_path, native, pause_if_throttled, until_answered
from .lock import Lock

_VERSION = 1
_FORMAT = "%Y-%m-%dT%H:%M:%S"


def utcnow() -> datetime:
    """The time in kazoo's form: UTC without saying so."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


class NonBlockingLease:
    """A lease that is had at once or not at all: `if await NonBlockingLease(zk, "/leases/a", duration).obtain(): ...`.

    Args:
        client: the client.
        path: the znode below which the lease is kept.
        duration: how long it lasts; whole seconds count.
        identifier: who we are; who has the lease may renew it. The host's name if not given.
        utcnow: the clock, naive UTC.

    Attributes:
        obtained: whether the last `obtain` had it. A lease is true as long as that says so and its time is not over.
        fencing_token: of the taking: the mzxid of the lease's znode; `None` without a lease.
        ends_at: when it ends, naive UTC; `None` without a lease.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        duration: timedelta,
        identifier: str | None = None,
        utcnow: Callable[[], datetime] = utcnow,
    ) -> None:
        if not isinstance(duration, timedelta):
            raise TypeError(f"duration must be a timedelta, not {duration!r}")
        if not (identifier is None or isinstance(identifier, str)):
            raise TypeError(f"identifier must be a str or None, not {identifier!r}")
        self.client = native(client)
        self.path = path
        self.duration = duration
        self.identifier = socket.gethostname() if identifier is None else identifier
        self.obtained = False
        self.fencing_token: int | None = None
        self.ends_at: datetime | None = None
        self._utcnow = utcnow
        self._znode = join(path, "lease_holder")

    def __bool__(self) -> bool:
        return self.obtained and self.ends_at is not None and self._utcnow() < self.ends_at

    async def obtain(self) -> bool:
        """Takes the lease if nobody else has it, or renews ours. Waits for others who are looking, never for a lease.

        Raises:
            OwnershipLost: the session ended in between; ask again.
        """
        self.obtained, self.fencing_token, self.ends_at = False, None, None
        await make_path(self.client, self.path, container=False)
        async with Lock(self.client, self.path, self.identifier) as held:
            taken: bool | None = None
            while taken is None:
                taken = await self._take(held)
        self.obtained = taken
        return taken

    async def _take(self, held: Ownership) -> bool | None:
        """Whether we have it. `None`: look again."""
        version: int | None = None
        try:
            data, stat = await until_answered(self.client.get, self._znode)
            version = stat.version
            if not self._is_free(data or b""):
                return False
        except NoNodeError:
            pass
        end = (self._utcnow() + self.duration).replace(microsecond=0)
        ours = json.dumps({"version": _VERSION, "holder": self.identifier, "end": end.strftime(_FORMAT)}).encode()
        # Only whoever has the lock writes here, and the lock is checked in the same transaction.
        transaction = held.transaction()
        if version is None:
            transaction.create(self._znode, ours)
        else:
            transaction.set_data(self._znode, ours, version)
        try:
            result = (await transaction.commit())[0]
        except (ConnectionLoss, SessionMovedError, ThrottledOpError) as error:
            await pause_if_throttled(error)
            return None  # ours, if it was written: the next look renews it
        if isinstance(result, (BadVersionError, NodeExistsError, NoNodeError)):
            return None  # by somebody who asks nobody
        if isinstance(result, ZookeeperError):
            raise result
        written, stat = await until_answered(self.client.get, self._znode)
        if written != ours:
            return None
        self.fencing_token, self.ends_at = stat.mzxid, end
        return True

    def _is_free(self, data: bytes) -> bool:
        try:
            lease: dict[str, Any] = json.loads(data)
            if lease["version"] != _VERSION:
                return False  # written by a release that knows better
            return lease["holder"] == self.identifier or datetime.strptime(lease["end"], _FORMAT) <= self._utcnow()
        except (ValueError, KeyError, TypeError):
            return False

    def body(self) -> trio.CancelScope:
        """A cancel scope that ends with the lease; `with lease.body() as scope:`, `scope.cancelled_caught` tells."""
        left = (self.ends_at - self._utcnow()).total_seconds() if self and self.ends_at is not None else 0.0
        return trio.move_on_after(max(0.0, left))


class MultiNonBlockingLease:
    """One of `count` leases, whichever is free: `<path>/0` to `<path>/<count - 1>`. The arguments are kazoo's.

    Attributes:
        lease: the one obtained, `None` without one.
    """

    def __init__(
        self,
        client: ZooKeeper,
        count: int,
        path: str,
        duration: timedelta,
        identifier: str | None = None,
        utcnow: Callable[[], datetime] = utcnow,
    ) -> None:
        self.lease: NonBlockingLease | None = None
        self._leases = [
            NonBlockingLease(client, join(path, str(number)), duration, identifier, utcnow) for number in range(count)
        ]

    def __bool__(self) -> bool:
        return bool(self.lease)

    @property
    def obtained(self) -> bool:
        """Whether the last `obtain` had one."""
        return self.lease is not None and self.lease.obtained

    async def obtain(self) -> bool:
        """Takes the first lease that is free, or renews ours. Raises as `NonBlockingLease.obtain`."""
        before, self.lease = self.lease, None
        for lease in sorted(self._leases, key=lambda lease: lease is not before):
            if await lease.obtain():
                self.lease = lease
                return True
        return False
