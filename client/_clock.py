"""Clocks for the session. What the session calls `now` comes from one of these, in seconds, and only differences
count.
"""

from __future__ import annotations

import time
from typing import Protocol

import trio


class Clock(Protocol):
    """A clock that never goes back."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...


class BootClock:
    """Goes on while the machine sleeps, where the system has such a clock: a suspended laptop must not own a lock.

    Linux's CLOCK_BOOTTIME; elsewhere the monotonic clock, which on macOS and Windows counts most kinds of sleep.
    """

    __slots__ = ("_read",)

    def __init__(self) -> None:
        boot = getattr(time, "CLOCK_BOOTTIME", None)
        self._read = time.monotonic if boot is None else lambda: time.clock_gettime(boot)

    def now(self) -> float:
        """Seconds since boot."""
        return self._read()


class RunClock:
    """The clock of the surrounding trio run; virtual where that one is."""

    __slots__ = ()

    def now(self) -> float:
        """`trio.current_time()`."""
        return trio.current_time()
