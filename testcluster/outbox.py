"""Where a peer's work gathers until it is taken, and what waits for the disk.

Decides how work is cut into portions, so that nothing of one role is carried out under another, and when a write counts
as durable. It knows no protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .ready import AppendTxns, Entry, InstallSnapshot, Ready, Role, Send, TruncateHistory, Upcall, Write
from .txns import Txn


class _Waiting(NamedTuple):
    number: int
    action: Callable[[], None]
    outlives_role: bool


class Outbox:
    """The Readys of one peer, the oldest first."""

    def __init__(self) -> None:
        self._finished: deque[Ready] = deque()
        self._current = Ready(1)
        self._taken = 0
        # Invariant: numbers of Readys; what is not behind `_durable` was written and may still be lost.
        self._last_write = 0
        self._durable = 0
        self._waiting: deque[_Waiting] = deque()

    # In.

    def write(self, write: Write) -> None:
        """To be written after everything before."""
        if self._current.applies and isinstance(write, TruncateHistory | InstallSnapshot):
            self._cut()
        self._current.writes.append(write)
        self._last_write = self._current.number

    def append(self, entries: list[Entry]) -> None:
        """More of the history; what comes together is one write."""
        writes = self._current.writes
        if writes and isinstance(writes[-1], AppendTxns):
            writes[-1].entries.extend(entries)
        else:
            self.write(AppendTxns(list(entries)))

    def apply(self, txns: list[Txn]) -> None:
        """Committed transactions for the tree."""
        if self._current.role is not None:
            self._cut()
        self._current.applies += txns

    def become(self, role: Role) -> None:
        """The server changes its role."""
        if self._current.role is not None or self._current.upcalls:
            self._cut()
        self._current.role = role

    def call(self, upcall: Upcall) -> None:
        """Something for the replica."""
        self._current.upcalls.append(upcall)

    def send(self, send: Send) -> None:
        """Something for the network."""
        self._current.sends.append(send)

    def _cut(self) -> None:
        self._finished.append(self._current)
        self._current = Ready(self._current.number + 1)

    # Out.

    def take(self) -> Ready | None:
        """The next portion of work, None when there is none."""
        if not self._finished:
            current = self._current
            if not (current.writes or current.applies or current.role or current.upcalls or current.sends):
                return None
            self._cut()
        ready = self._finished.popleft()
        self._taken = ready.number
        return ready

    @property
    def number(self) -> int:
        """Of the Ready that is being made."""
        return self._current.number

    # What waits for the disk.

    @property
    def is_durable(self) -> bool:
        """Whether nothing that was written can be lost any more."""
        return self._durable >= self._last_write

    def when_durable(self, action: Callable[[], None], *, outlives_role: bool = False) -> None:
        """Does something once everything written so far is durable; at once where it is.

        Args:
            action: in the order of these calls.
            outlives_role: whether it is to be done even if the role has ended by then.
        """
        if self.is_durable and not self._waiting:
            action()
        else:
            self._waiting.append(_Waiting(self._last_write, action, outlives_role))

    def durable(self, number: int) -> None:
        """The writes of all Readys up to this one are durable."""
        # What was not taken cannot have been written.
        self._durable = max(self._durable, min(number, self._taken))
        waiting = self._waiting
        while waiting and waiting[0].number <= self._durable:
            waiting.popleft().action()

    def not_written(self, number: int) -> None:
        """The writes of this Ready are not to be; those of the Readys before it are durable."""
        self.durable(number - 1)
        self._waiting = deque(waiting for waiting in self._waiting if waiting.number != number)
        self.durable(number)

    def end_role(self) -> None:
        """What waits for the disk on behalf of a role is not to happen any more."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting.outlives_role)
