"""The clock of an ensemble inside a process: it stands still while the process, or its thread, does not get to run.

Servers in one event loop are all kept from it together: by a machine that is busy, by a debugger, by SIGSTOP. To them
it would look as if everybody else had been silent for so long, and they would give up their leader, their followers and
the sessions of their clients, none of whom has done anything. Decides how much time counts between two looks at the
clock. Refuses to know what it is asked for, and what a server does whose own clockwork is paused: it goes on then.
"""

from __future__ import annotations

import trio

LOOKS_EACH_TICK = 4
"""How often the loop looks at the clock by itself; two missed looks count, all further ones have not taken place."""


class OwnTime:
    """A monotonic clock in seconds, for one event loop. Call it for the time.

    Args:
        tick: the servers' tick, in seconds.
    """

    def __init__(self, tick: float) -> None:
        self._pace = tick / LOOKS_EACH_TICK
        self._most = 2 * self._pace
        self._looked_at = trio.current_time()
        self._lost = 0.0

    def __call__(self) -> float:
        now = trio.current_time()
        self._lost += max(0.0, now - self._looked_at - self._most)
        self._looked_at = now
        return now - self._lost

    async def run(self) -> None:
        """Looks at the clock all the while, so that time passes also where nobody asks for it. Never returns."""
        while True:
            await trio.sleep(self._pace)
            self()
