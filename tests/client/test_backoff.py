"""The pauses between attempts: random, growing, bounded, the same for the same chance."""

from __future__ import annotations

import random

import tenacity
from hypothesis import given, strategies as st

from terzetto.client._backoff import FullJitter


@given(seed=st.integers(0, 1000), attempts=st.integers(1, 40), maximum=st.floats(0.1, 30))
def test_pauses_grow_and_stay_below_the_maximum(seed: int, attempts: int, maximum: float) -> None:
    def pause(rng: random.Random) -> list[float]:
        wait = FullJitter(rng, initial=0.1, maximum=maximum)
        state = tenacity.RetryCallState(tenacity.AsyncRetrying(), None, (), {})
        found: list[float] = []
        for number in range(1, attempts + 1):
            state.attempt_number = number
            found.append(wait(state))
        return found

    pauses = pause(random.Random(seed))
    assert all(0 <= length <= min(maximum, max(0.1, 0.1 * 2**number)) for number, length in enumerate(pauses))
    assert pauses == pause(random.Random(seed))
