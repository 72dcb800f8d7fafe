"""How long a client looks for a connection: kazoo's `connection_retry`, as a bound.

Decides when it is enough. The pauses between two rounds are the native client's; what follows from it being enough is
the client's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from .._client import ZooKeeper, core_of
from .protocol.states import KazooState
from .retry import KazooRetry


def planned(policy: KazooRetry) -> float:
    """Seconds that a policy's pauses take in all, by chance a little more or less; those of its `max_tries`."""
    left = (policy.max_tries or 1) - 1
    total, pause = 0.0, min(policy.delay, policy.max_delay)
    while left > 0 and policy.backoff > 1 and 0 < pause < policy.max_delay:
        total += pause
        pause = min(pause * policy.backoff, policy.max_delay)
        left -= 1
    return total + max(0, left) * pause


class Patience:
    """Counts rounds over all servers, and time, since the client began to look for one.

    A connection that is lost begins the count anew. Where there is one server it was the first of the rounds, as in
    kazoo: `max_tries=1` then means that a lost connection is not looked for again.

    Args:
        policy: its `max_tries` bounds the rounds, which may also take the time that its pauses would; its `deadline`
            bounds the seconds. `None`, and tries of 0 or less: no limit.
        servers: tells how many there are.
    """

    def __init__(self, policy: KazooRetry, servers: Callable[[], int]) -> None:
        tries = policy.max_tries
        self._rounds = tries if tries is not None and tries > 0 else None
        self._seconds = math.inf if policy.deadline is None else policy.deadline
        self._planned = planned(policy)
        self._began = 0.0
        self._servers = servers
        self._failed = 0
        self._scope = trio.CancelScope()

    async def wait(self, zk: ZooKeeper, stop: trio.Event) -> str | None:
        """Waits, in the client's loop, until the client is to be stopped, or until it is enough: then it says so."""
        runner = core_of(zk).runner
        if not zk.connected:
            self._begin(0)
        zk.add_listener(self._state_changed)
        runner.round_failed = self._round_failed
        with self._scope:
            await stop.wait()
        if stop.is_set():
            return None
        return f"no connection in {self._failed} rounds over all servers, {trio.current_time() - self._began:.3g} s"

    def _begin(self, failed: int) -> None:
        self._failed = failed
        self._began = trio.current_time()
        self._scope.deadline = self._began + self._seconds
        self._look()

    def _state_changed(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._scope.deadline = math.inf
        elif state == KazooState.SUSPENDED:
            self._begin(1 if self._servers() == 1 else 0)

    def _round_failed(self) -> None:
        self._failed += 1
        self._look()

    def _look(self) -> None:
        if self._rounds is not None and self._failed >= self._rounds:
            self._scope.deadline = min(self._scope.deadline, self._began + self._planned)
