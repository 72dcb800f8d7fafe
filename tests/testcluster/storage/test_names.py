"""File names: what counts as a log or a snapshot, and what may be deleted."""

from __future__ import annotations

from hypothesis import given, strategies as st

from terzetto.testcluster.storage.names import (
    UNFINISHED_PREFIX,
    LogName,
    SnapshotName,
    log_name,
    logs,
    logs_from,
    purgeable,
    snapshot_name,
    snapshots,
)

zxids = st.integers(0, 2**63 - 1)


@given(zxids)
def test_names_are_read_as_they_are_made(zxid: int) -> None:
    assert logs([log_name(zxid)]) == [LogName(zxid, log_name(zxid))]
    for suffix in ("", ".gz", ".snappy"):
        assert snapshots([snapshot_name(zxid, suffix)]) == [SnapshotName(zxid, suffix, snapshot_name(zxid, suffix))]


def test_names_are_zookeepers() -> None:
    assert log_name(0x100000001) == "log.100000001"
    assert snapshot_name(0xAB, ".gz") == "snapshot.ab.gz"


def test_other_files_are_overlooked() -> None:
    others = ["log", "log.", "log.5.tmp", "log.xyz", "snapshot.5.tmp", "snapshot.5.zip", "acceptedEpoch", "mylog.5"]
    others += [UNFINISHED_PREFIX + log_name(5), UNFINISHED_PREFIX + snapshot_name(5)]
    assert logs(others) == []
    assert snapshots(others) == []


def test_logs_come_oldest_first_and_snapshots_newest_first() -> None:
    assert [log.zxid for log in logs(["log.10", "log.9", "log.100000001", "log.f"])] == [9, 15, 16, 0x100000001]
    names = ["snapshot.10", "snapshot.9", "snapshot.100000000", "snapshot.f.gz"]
    assert [snapshot.zxid for snapshot in snapshots(names)] == [0x100000000, 16, 15, 9]


def test_logs_behind_a_snapshot() -> None:
    found = logs(["log.1", "log.5", "log.a", "log.100000001"])

    def behind(zxid: int) -> list[int]:
        return [log.zxid for log in logs_from(found, zxid)]

    assert behind(0) == [1, 5, 10, 0x100000001]
    assert behind(3) == [1, 5, 10, 0x100000001]
    # The log that begins with the next transaction makes the one before it superfluous.
    assert behind(4) == [5, 10, 0x100000001]
    assert behind(0x100000000) == [0x100000001]
    assert behind(0x100000009) == [0x100000001]
    assert logs_from([], 3) == []


def test_a_purge_keeps_the_log_that_may_reach_behind_the_oldest_snapshot() -> None:
    found_logs = logs(["log.1", "log.5", "log.a", "log.14"])
    found_snapshots = snapshots(["snapshot.0", "snapshot.4", "snapshot.c", "snapshot.13"])
    assert purgeable(found_logs, found_snapshots, 0xC) == ["snapshot.4", "snapshot.0", "log.1", "log.5"]
    assert purgeable(found_logs, found_snapshots, 0) == []


@given(st.sets(st.integers(1, 60), max_size=12), st.sets(st.integers(0, 60), min_size=1, max_size=12), st.data())
def test_a_purge_never_takes_what_a_start_needs(first: set[int], taken: set[int], data: st.DataObject) -> None:
    found_logs, found_snapshots = logs(map(log_name, first)), snapshots(map(snapshot_name, taken))
    kept = data.draw(st.sampled_from(sorted(taken)))
    gone = set(purgeable(found_logs, found_snapshots, kept))
    for snapshot in taken:
        if snapshot >= kept:
            assert snapshot_name(snapshot) not in gone
            assert not gone.intersection(log.name for log in logs_from(found_logs, snapshot))
