"""kazoo's test cases on terzetto's ensemble: a project's kazoo tests run without Java, and without an environment."""

from __future__ import annotations

from .harness import KazooTestCase as KazooTestCase, KazooTestHarness as KazooTestHarness

__all__ = ["KazooTestCase", "KazooTestHarness"]
