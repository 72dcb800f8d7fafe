"""What errors say, and that they can be carried elsewhere."""

from __future__ import annotations

import pickle

import pytest

from terzetto.client import KazooException
from terzetto.recipes import ConfigParseError, LayoutConflictError, OwnershipLost


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigParseError("/a", 3, ValueError("why")), "version 3 of /a cannot be parsed: why"),
        (OwnershipLost("/a", "why"), "/a is no longer owned: why"),
        (
            LayoutConflictError("/a", "x-lock-0000000001", "kazoo"),
            "/a is in use by 'x-lock-0000000001', which is not a contender of the layout 'kazoo'",
        ),
    ],
)
def test_errors_name_what_they_are_about(error: KazooException, text: str) -> None:
    assert str(error) == text
    assert isinstance(error, KazooException)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == text
    assert vars(copy) == vars(error)
