"""Fixtures of the client's tests."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from .memory_server import MemoryEnsemble


@pytest.fixture
def ensemble(nursery: trio.Nursery, autojump_clock: MockClock) -> MemoryEnsemble:
    """Servers on memory streams, on virtual time."""
    return MemoryEnsemble(nursery)
