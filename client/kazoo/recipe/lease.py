"""kazoo's leases: asked for when the object is made, true if they were had. Shells over the native ones."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from terzetto import recipes
from terzetto.recipes.lease import utcnow

from ..exceptions import CancelledError

if TYPE_CHECKING:
    from ..client import KazooClient


class NonBlockingLease:
    """A lease that is had at once or not at all: `if client.NonBlockingLease("/leases/a", duration): ...`.

    Args:
        client: the client.
        path: the znode below which the lease is kept.
        duration: how long it lasts; whole seconds count.
        identifier: who we are; who has the lease renews it by asking again. The host's name if not given.
        utcnow: the clock, naive UTC.

    Attributes:
        obtained: whether it was had. A lease is true when that is.
        fencing_token: of the taking, `None` without a lease.
    """

    def __init__(
        self,
        client: KazooClient,
        path: str,
        duration: timedelta,
        identifier: str | None = None,
        utcnow: Callable[[], datetime] = utcnow,
    ) -> None:
        self.client = client
        self.identifier = identifier or socket.gethostname()
        self.obtained = False
        self.fencing_token: int | None = None

        async def obtain() -> None:
            lease = recipes.NonBlockingLease(client.native, path, duration, self.identifier, utcnow)
            self.obtained, self.fencing_token = await lease.obtain(), lease.fencing_token

        try:
            client.call_native(obtain)
        except CancelledError:
            pass

    def __bool__(self) -> bool:
        return self.obtained


class MultiNonBlockingLease:
    """One of `count` leases, whichever is free: `<path>/0` to `<path>/<count - 1>`. The other arguments are the same.

    Attributes:
        obtained: whether one was had.
        fencing_token: of the taking, `None` without a lease.
    """

    def __init__(
        self,
        client: KazooClient,
        count: int,
        path: str,
        duration: timedelta,
        identifier: str | None = None,
        utcnow: Callable[[], datetime] = utcnow,
    ) -> None:
        self.client = client
        self.identifier = identifier or socket.gethostname()
        self.obtained = False
        self.fencing_token: int | None = None

        async def obtain() -> None:
            leases = recipes.MultiNonBlockingLease(client.native, count, path, duration, self.identifier, utcnow)
            self.obtained = await leases.obtain()
            self.fencing_token = None if leases.lease is None else leases.lease.fencing_token

        client.call_native(obtain)

    def __bool__(self) -> bool:
        return self.obtained
