"""Which zxid may follow which."""

from __future__ import annotations

import pytest

from terzetto.testcluster.storage.zxids import follows, show

E1, E2 = 1 << 32, 2 << 32


@pytest.mark.parametrize(
    ("zxid", "previous", "expected"),
    [
        (1, 0, True),
        (2, 1, True),
        (2, 0, False),
        (1, 1, False),
        (0, 1, False),
        (E1 + 1, 0, True),
        (E1 + 1, 77, True),
        (E1 + 1, E1, True),
        (E2 + 1, E1 + 5, True),
        (E2 + 1, E1, True),
        # The first transaction of an epoch has counter 1, so this one had a predecessor.
        (E2 + 2, E1 + 5, False),
        (E2, E1 + 5, False),
        (E1 + 5, E2 + 1, False),
        (0, -1, False),
        (1, -1, True),
    ],
)
def test_what_follows(zxid: int, previous: int, expected: bool) -> None:
    assert follows(zxid, previous) is expected


def test_how_zxids_are_shown() -> None:
    assert show(E1 + 10) == "0x10000000a"
    assert show(-1) == "-1"
