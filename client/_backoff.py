"""The pauses between attempts. Chance comes from a `random.Random`.

Apart from the connect string, since a server needs that and has no use for tenacity.
"""

from __future__ import annotations

import random

import tenacity
from tenacity.wait import wait_base


class FullJitter(wait_base):
    """A tenacity wait strategy: a random share of an exponentially growing pause.

    Full jitter spreads the clients of a restarted ensemble best. The first pause is short, so that the loss of one
    server of several costs little; `maximum` is short as well, so that a long outage does not end in a long wait.

    Args:
        rng: source of chance.
        initial: longest first pause, seconds.
        maximum: longest pause, seconds.
    """

    def __init__(self, rng: random.Random, *, initial: float = 0.1, maximum: float = 5.0) -> None:
        self._rng = rng
        self._pause = tenacity.wait_exponential(multiplier=initial, min=initial, max=maximum)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        return self._rng.uniform(0, self._pause(retry_state))
