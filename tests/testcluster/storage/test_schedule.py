"""When a snapshot is due."""

from __future__ import annotations

import random

from terzetto.testcluster.storage.schedule import SnapshotSchedule


def gaps(schedule: SnapshotSchedule, size: int, total: int = 4000) -> list[int]:
    """Transactions from one snapshot to the next."""
    found: list[int] = []
    count = 0
    for _ in range(total):
        count += 1
        if schedule.logged(size):
            found.append(count)
            count = 0
    return found


def test_transactions_between_two_snapshots(seed: int) -> None:
    found = gaps(SnapshotSchedule(random.Random(seed), snap_count=20), 1)
    # ZooKeeper 3.8.0 with snapCount=20 takes one after 11 to 20.
    assert set(found) <= set(range(11, 21))
    assert len(set(found)) > 3


def test_bytes_between_two_snapshots(seed: int) -> None:
    found = gaps(SnapshotSchedule(random.Random(seed), snap_count=10**6, snap_size=1000), 100)
    assert set(found) <= set(range(6, 12))
    assert len(set(found)) > 2


def test_the_limit_of_bytes_can_be_off(seed: int) -> None:
    assert gaps(SnapshotSchedule(random.Random(seed), snap_count=10**6, snap_size=-1), 1 << 40) == []


def test_the_smallest_count() -> None:
    assert gaps(SnapshotSchedule(random.Random(1), snap_count=2), 1, 10) == [2, 2, 2, 2, 2]


def test_two_servers_are_not_in_step() -> None:
    found = [gaps(SnapshotSchedule(random.Random(i), snap_count=1000), 1, 20_000) for i in range(2)]
    assert found[0] != found[1]
