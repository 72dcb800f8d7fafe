"""Marks everything here as soak tests, which need the real peers, and gives them the same fixtures as interop's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.interop import conftest as peers

own_ensemble = peers.own_ensemble
zookeeper_installed = peers.zookeeper_installed

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker("soak")


@pytest.fixture
def soak_seconds() -> float:
    """How long the faults go on; SOAK_SECONDS in the environment changes it."""
    return float(os.environ.get("SOAK_SECONDS", "90"))
