"""For type checkers, who believe that a property which was true once stays true."""

from __future__ import annotations


def now(value: object) -> bool:
    """Whether the value is true at this moment."""
    return bool(value)
