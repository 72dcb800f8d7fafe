"""Fixtures of the recipes' tests."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.client.memory_server import MemoryEnsemble
from tests.client.server_link import ServerLink


@pytest.fixture
def ensemble(nursery: trio.Nursery, autojump_clock: MockClock) -> MemoryEnsemble:
    """Servers on memory streams, on virtual time."""
    return MemoryEnsemble(nursery)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Path of each watch event that any server has sent, in order."""
    paths: list[str] = []
    notify: Any = ServerLink._notify  # pyright: ignore[reportPrivateUsage]

    def recording(link: ServerLink, fired: tuple[int, str], zxid: int) -> None:
        paths.append(fired[1])
        notify(link, fired, zxid)

    monkeypatch.setattr(ServerLink, "_notify", recording)
    return paths
