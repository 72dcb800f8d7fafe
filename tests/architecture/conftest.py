"""The tree under test, parsed once for all rules."""

from __future__ import annotations

import pytest

from .tree import ROOT, SourceTree


@pytest.fixture(scope="session")
def source_tree() -> SourceTree:
    return SourceTree(ROOT)
