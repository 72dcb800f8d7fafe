"""Quotas: the text of limit and statistics znodes, and the arithmetic of limits.

Knows the names under /zookeeper/quota and what their data says (ZooKeeper 3.4 to 3.9). Which znodes count, and when a
write is refused, is decided by the tree and the preparer that ask.
"""

from __future__ import annotations

import re
from typing import NamedTuple

QUOTA_ROOT = "/zookeeper/quota"
LIMITS_NAME = "zookeeper_limits"
STATS_NAME = "zookeeper_stats"

_TEXT_MAX = 1024
_SEPARATORS = re.compile("[,;]+")
_STATISTICS = re.compile(rb"(?:[A-Za-z]+=-?[0-9]{1,18}(?:,[A-Za-z]+=-?[0-9]{1,18})*)?\Z")
_NUMBER = re.compile(r"-?[0-9]{1,18}\Z")


class Usage(NamedTuple):
    """What a subtree with a quota holds, its root included."""

    znodes: int
    size: int

    def encode(self) -> bytes:
        """The text of a statistics znode."""
        return f"count={self.znodes},bytes={self.size}".encode()


class Limits(NamedTuple):
    """What a subtree may hold. -1 is no limit; soft limits only warn."""

    znodes: int
    size: int
    znodes_hard: int
    size_hard: int

    def exceeded(self, usage: Usage, grown: Usage) -> bool:
        """Whether a change would go over a hard limit. A limit is asked only by a change of what it limits."""
        return (grown.znodes != 0 and -1 < self.znodes_hard < usage.znodes + grown.znodes) or (
            grown.size != 0 and -1 < self.size_hard < usage.size + grown.size
        )

    def warned(self, usage: Usage) -> bool:
        """Whether a limit, soft or hard, has been passed."""
        return (-1 < self.znodes < usage.znodes or -1 < self.size < usage.size) or (
            -1 < self.znodes_hard < usage.znodes or -1 < self.size_hard < usage.size
        )


def _pairs(data: bytes | None) -> dict[str, int]:
    # Whoever writes nonsense into a quota znode sets no limit with it; Java throws while it applies the next write.
    pairs: dict[str, int] = {}
    for pair in _SEPARATORS.split((data or b"")[:_TEXT_MAX].decode("latin-1")):
        name, _, number = pair.rstrip("=").partition("=")
        if _NUMBER.match(number):
            pairs[name] = int(number)
    return pairs


def decode_usage(data: bytes | None) -> Usage:
    """The data of a statistics znode."""
    pairs = _pairs(data)
    return Usage(pairs.get("count", -1), pairs.get("bytes", -1))


def decode_limits(data: bytes | None) -> Limits:
    """The data of a limits znode: "count=N,bytes=M", then "=;byteHardLimit=..;countHardLimit=.." since 3.7."""
    pairs = _pairs(data)
    return Limits(
        pairs.get("count", -1),
        pairs.get("bytes", -1),
        pairs.get("countHardLimit", -1),
        pairs.get("byteHardLimit", -1),
    )


def is_fatal(path: str, data: bytes | None, *, new: bool) -> bool:
    """Whether ZooKeeper would die of a write (3.8.0: of applying it, of the next write, and of replaying it).

    Limits directly under /zookeeper/quota name no subtree; statistics that are no numbers cannot be brought up to date.

    Args:
        path: the znode.
        data: what is to be written.
        new: whether the znode is created; the data of new statistics is not looked at, but replaced.
    """
    if new:
        return path == f"{QUOTA_ROOT}/{LIMITS_NAME}"
    is_statistics = path.startswith(QUOTA_ROOT + "/") and path.endswith("/" + STATS_NAME)
    return is_statistics and (data is None or not _STATISTICS.match(data))


def limits_path(root: str) -> str:
    """Where the limits of the subtree at `root` stand."""
    return f"{QUOTA_ROOT}{root}/{LIMITS_NAME}"


def stats_path(root: str) -> str:
    """Where the statistics of the subtree at `root` stand."""
    return f"{QUOTA_ROOT}{root}/{STATS_NAME}"


def limited_root(path: str) -> str | None:
    """The subtree that a znode under /zookeeper/quota sets limits for, `None` when it sets none."""
    return _root_of(path, LIMITS_NAME)


def counted_root(path: str) -> str | None:
    """The subtree that a znode under /zookeeper/quota counts, `None` when it counts none."""
    return _root_of(path, STATS_NAME)


def _root_of(path: str, name: str) -> str | None:
    parent, _, last = path.rpartition("/")
    if last != name or not parent.startswith(QUOTA_ROOT + "/"):
        # Limits directly under /zookeeper/quota name no subtree.
        return None
    return parent[len(QUOTA_ROOT) :]
