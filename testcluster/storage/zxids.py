"""Which zxid may come after which, and how zxids are shown."""

from __future__ import annotations

from ..ids import counter_of, epoch_of


def follows(zxid: int, previous: int) -> bool:
    """Whether `zxid` may come directly after `previous` in a history: the next counter, or the first of a later epoch.

    Zab gives an epoch's transactions contiguous counters from 1 (ZooKeeper 3.8.0 does so standalone, in epoch 0, too:
    a refused write has its zxid and its log entry like any other).
    """
    if epoch_of(zxid) == epoch_of(previous):
        return zxid == previous + 1
    return epoch_of(zxid) > epoch_of(previous) and counter_of(zxid) == 1


def show(zxid: int) -> str:
    """As ZooKeeper's logs and file names show it: hexadecimal."""
    return f"0x{zxid:x}" if zxid >= 0 else str(zxid)
