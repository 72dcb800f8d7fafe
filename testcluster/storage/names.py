"""The names of ZooKeeper's files, and which of them a purge may delete.

Works on names alone and opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .compression import SUFFIXES

VERSION_DIRECTORY = "version-2"
ACCEPTED_EPOCH = "acceptedEpoch"
CURRENT_EPOCH = "currentEpoch"
MYID = "myid"
INITIALIZE = "initialize"
"""In the data directory: the operator says that an empty directory is a new server's. Goes with the first start."""

RETAIN_MIN = 3
"""Fewer snapshots than this are never kept on disk (autopurge.snapRetainCount)."""

# ZooKeeper takes any name that begins with "log." or "snapshot." for one of its own, "log.5.tmp" too.
UNFINISHED_PREFIX = "unfinished-"
"""Of a file that is renamed when it is whole; ZooKeeper overlooks it."""

REPLACING_PREFIX = "replacing-"
"""Of a whole snapshot that replaces everything else, until everything else is gone."""

_LOG = re.compile(r"log\.([0-9a-fA-F]{1,16})")
_SNAPSHOT = re.compile(rf"snapshot\.([0-9a-fA-F]{{1,16}})({'|'.join(map(re.escape, SUFFIXES))})")


class SnapshotName(NamedTuple):
    """A snapshot's file name, taken apart."""

    zxid: int
    suffix: str
    name: str


class LogName(NamedTuple):
    """A log's file name, taken apart. `zxid` is its first transaction's."""

    zxid: int
    name: str


def log_name(zxid: int) -> str:
    """Of the log whose first transaction is `zxid`."""
    return f"log.{zxid:x}"


def snapshot_name(zxid: int, suffix: str = "") -> str:
    """Of the snapshot that was begun when `zxid` was the last applied transaction."""
    return f"snapshot.{zxid:x}{suffix}"


def logs(names: Iterable[str]) -> list[LogName]:
    """The logs among some files, oldest first."""
    found = (_LOG.fullmatch(name) for name in names)
    return sorted(LogName(int(match[1], 16), match[0]) for match in found if match)


def snapshots(names: Iterable[str]) -> list[SnapshotName]:
    """The snapshots among some files, newest first."""
    found = (_SNAPSHOT.fullmatch(name) for name in names)
    return sorted((SnapshotName(int(match[1], 16), match[2], match[0]) for match in found if match), reverse=True)


def logs_from(found: Sequence[LogName], zxid: int) -> list[LogName]:
    """The logs that may hold transactions behind `zxid`, oldest first."""
    # The log that holds the next transaction began with it or before it.
    before = [log for log in found if log.zxid <= zxid + 1]
    return [*before[-1:], *(log for log in found if log.zxid > zxid + 1)]


def purgeable(logs_found: Sequence[LogName], snapshots_found: Sequence[SnapshotName], oldest_kept: int) -> list[str]:
    """What is not needed to start from the snapshot `oldest_kept` or a later one.

    The newest log that began at or before that snapshot may hold transactions behind it, so it stays.
    """
    superfluous = [snapshot.name for snapshot in snapshots_found if snapshot.zxid < oldest_kept]
    return superfluous + [log.name for log in [log for log in logs_found if log.zxid <= oldest_kept][:-1]]
