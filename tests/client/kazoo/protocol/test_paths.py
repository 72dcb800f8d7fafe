"""Paths, compared with kazoo's own functions."""

from __future__ import annotations

from typing import Any

import kazoo.protocol.paths as theirs
import pytest
from hypothesis import given, strategies as st

from terzetto.client.kazoo.protocol import paths as ours

# Private by name, and called by programs all the same.
ROOT, PREFIX = (getattr(ours, name) for name in ("_norm_root", "_prefix_root"))

PATHS = st.text(alphabet="/ab.\u00e9", max_size=8)


def outcome(call: Any, *args: Any, **kwargs: Any) -> object:
    try:
        return call(*args, **kwargs)
    except ValueError:
        return ValueError


@given(PATHS, st.booleans())
def test_normpath(path: str, trailing: bool) -> None:
    assert outcome(ours.normpath, path, trailing) == outcome(theirs.normpath, path, trailing)


@given(PATHS, PATHS, PATHS)
def test_join(first: str, second: str, third: str) -> None:
    assert ours.join(first) == theirs.join(first)
    assert ours.join(first, second, third) == theirs.join(first, second, third)


@given(PATHS, PATHS, st.booleans())
def test_roots(root: str, path: str, trailing: bool) -> None:
    assert outcome(ROOT, root) == outcome(theirs._norm_root, root)
    assert outcome(PREFIX, root, path, trailing) == outcome(theirs._prefix_root, root, path, trailing)


@given(PATHS)
def test_parts(path: str) -> None:
    assert ours.isabs(path) == theirs.isabs(path)
    assert ours.basename(path) == theirs.basename(path)


def test_a_relative_element_is_named() -> None:
    with pytest.raises(ValueError, match=r"'/a/\.\./b'"):
        ours.normpath("/a/../b")
