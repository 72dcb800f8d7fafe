"""Quotas: texts, names and limits."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies as st

from terzetto.testcluster.quotas import (
    Limits,
    Usage,
    counted_root,
    decode_limits,
    decode_usage,
    is_fatal,
    limited_root,
    limits_path,
    stats_path,
)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (b"count=4,bytes=100", Limits(4, 100, -1, -1)),
        (b"count=-1,bytes=-1=;byteHardLimit=20;countHardLimit=4", Limits(-1, -1, 4, 20)),
        (b"count=7,bytes=-1=;countHardLimit=4", Limits(7, -1, 4, -1)),
        (b"bytes=5", Limits(-1, 5, -1, -1)),
        (b"", Limits(-1, -1, -1, -1)),
        (None, Limits(-1, -1, -1, -1)),
        (b"nonsense", Limits(-1, -1, -1, -1)),
        (b"count=x,bytes=3", Limits(-1, 3, -1, -1)),
        (b"\xff\x00,count=2", Limits(2, -1, -1, -1)),
        (b"count=99999999999999999999999,bytes=1", Limits(-1, 1, -1, -1)),
    ],
)
def test_limits_as_clients_write_them(text: bytes | None, limits: Limits) -> None:
    assert decode_limits(text) == limits


@given(st.integers(-(10**17), 10**17), st.integers(-(10**17), 10**17))
def test_statistics_are_read_as_they_are_written(znodes: int, size: int) -> None:
    usage = Usage(znodes, size)
    assert decode_usage(usage.encode()) == usage


def test_the_text_of_statistics() -> None:
    assert Usage(3, 17).encode() == b"count=3,bytes=17"


@pytest.mark.parametrize("data", [b"a" * 1_000_000, b"a=" * 500_000, b"=" * 1_000_000, b"1" * 1_000_000])
def test_nonsense_of_any_length_costs_little(data: bytes) -> None:
    started = time.process_time()
    assert decode_limits(data) == Limits(-1, -1, -1, -1)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("limits", "usage", "grown", "expected"),
    [
        (Limits(-1, -1, 4, -1), Usage(3, 0), Usage(1, 0), False),
        (Limits(-1, -1, 4, -1), Usage(4, 0), Usage(1, 0), True),
        (Limits(-1, -1, 4, -1), Usage(9, 0), Usage(0, 5), False),
        (Limits(-1, -1, -1, 10), Usage(1, 8), Usage(1, 2), False),
        (Limits(-1, -1, -1, 10), Usage(1, 8), Usage(1, 3), True),
        (Limits(-1, -1, -1, 10), Usage(1, 99), Usage(1, 0), False),
        (Limits(-1, -1, -1, 10), Usage(1, 99), Usage(0, -3), True),
        (Limits(1, 1, -1, -1), Usage(5, 5), Usage(1, 1), False),
        (Limits(-1, -1, 0, -1), Usage(0, 0), Usage(1, 0), True),
    ],
)
def test_hard_limits_refuse(limits: Limits, usage: Usage, grown: Usage, expected: bool) -> None:
    assert limits.exceeded(usage, grown) is expected


@pytest.mark.parametrize(
    ("limits", "usage", "expected"),
    [
        (Limits(4, -1, -1, -1), Usage(4, 99), False),
        (Limits(4, -1, -1, -1), Usage(5, 0), True),
        (Limits(-1, 4, -1, -1), Usage(0, 5), True),
        (Limits(-1, -1, 4, -1), Usage(5, 0), True),
        (Limits(-1, -1, -1, 4), Usage(0, 5), True),
        (Limits(-1, -1, -1, -1), Usage(5, 5), False),
    ],
)
def test_every_limit_warns(limits: Limits, usage: Usage, expected: bool) -> None:
    assert limits.warned(usage) is expected


@pytest.mark.parametrize("root", ["/a", "/a/b", "/zookeeper"])
def test_the_names_under_quota(root: str) -> None:
    assert limited_root(limits_path(root)) == root
    assert counted_root(stats_path(root)) == root
    assert limited_root(stats_path(root)) is None
    assert counted_root(limits_path(root)) is None


@pytest.mark.parametrize(
    "path",
    [
        "/zookeeper/quota/zookeeper_limits",
        "/zookeeper/quotas/a/zookeeper_limits",
        "/a/zookeeper_limits",
        "/zookeeper_limits",
        "/zookeeper/quota/a/zookeeper_limit",
        "/zookeeper/quota/a",
    ],
)
def test_names_that_limit_nothing(path: str) -> None:
    assert limited_root(path) is None


STATS = "/zookeeper/quota/a/zookeeper_stats"


@pytest.mark.parametrize(
    ("path", "data", "new", "expected"),
    [
        ("/zookeeper/quota/zookeeper_limits", b"", True, True),
        ("/zookeeper/quota/zookeeper_stats", b"rubbish", True, False),
        ("/zookeeper/quota/a/zookeeper_limits", b"rubbish", True, False),
        ("/zookeeper/quota/a/zookeeper_limits", b"rubbish", False, False),
        ("/zookeeper_limits", b"", True, False),
        (STATS, b"rubbish", True, False),
        (STATS, b"rubbish", False, True),
        (STATS, b"count=", False, True),
        (STATS, b"count=1,", False, True),
        (STATS, b"count=1\n", False, True),
        (STATS, b"count=99999999999999999999", False, True),
        (STATS, None, False, True),
        (STATS, b"", False, False),
        (STATS, b"count=1,bytes=-2", False, False),
        ("/zookeeper/quota/zookeeper_stats", b"rubbish", False, True),
        ("/zookeeper/quota/a/zookeeper_statsx", b"rubbish", False, False),
        ("/a/zookeeper_stats", b"rubbish", False, False),
    ],
)
def test_writes_that_zookeeper_dies_of(path: str, data: bytes | None, new: bool, expected: bool) -> None:
    assert is_fatal(path, data, new=new) is expected
