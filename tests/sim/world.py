"""Time, chance and memory of one simulated run: a heap of events, a generator a concern, and the trace.

Decides the order in which things happen, and nothing about what happens. Time is a whole number of microseconds.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterator
from typing import Any

SECOND = 1_000_000
MILLISECOND = 1_000

_Event = tuple[int, int, Callable[..., None], tuple[Any, ...]]


class World:
    """The run's clock and its future.

    Args:
        seed: decides everything that is drawn.

    Attributes:
        seed: see above.
        now: microseconds since the run began.
        events: how many have happened.
        notes: what happened, as (time, what, details); the trace.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0
        self.events = 0
        self.notes: list[tuple[int, str, tuple[Any, ...]]] = []
        self._heap: list[_Event] = []
        # Breaks ties, so that two events are never compared by what they do.
        self._sequence = 0

    def chance(self, concern: str) -> random.Random:
        """A generator of its own for each concern: a draw more for one of them shifts nothing for the others."""
        return random.Random(f"{self.seed}/{concern}")

    def after(self, delay: int, action: Callable[..., None], *arguments: Any) -> None:
        """Plans an event."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, action, arguments))

    def run(self, until: int) -> Iterator[None]:
        """Lets events happen up to a time, yielding after each."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action, arguments = heapq.heappop(heap)
            self.events += 1
            action(*arguments)
            yield
        self.now = max(self.now, until)

    def note(self, what: str, *details: Any) -> None:
        """Adds to the trace. Details must not change afterwards, and must look the same in every process."""
        self.notes.append((self.now, what, details))

    def trace(self) -> Iterator[str]:
        """The trace as lines."""
        for time, what, details in self.notes:
            yield f"{time / SECOND:10.6f} {what:<10} {' '.join(map(_shown, details))}"

    def fingerprint(self) -> str:
        """A hash of the whole trace: equal for equal runs, in every process."""
        digest = hashlib.sha256()
        for line in self.trace():
            digest.update(line.encode())
        return digest.hexdigest()


def _shown(detail: Any) -> str:
    if type(detail) is int and abs(detail) > 0xFFFF:
        return hex(detail)
    return detail if isinstance(detail, str) else repr(detail)
