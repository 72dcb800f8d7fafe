"""The simulated disk loses what it may lose, and nothing else."""

from __future__ import annotations

from hypothesis import given, strategies as st

from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.ids import make_zxid
from terzetto.testcluster.ready import AppendTxns, Entry, TruncateHistory, Write, WriteAcceptedEpoch, WriteCurrentEpoch

from .disk import Disk, DiskCrash
from .histories import Script, error_txn
from .world import SECOND, World

E1 = make_zxid(1, 0)


class Bench:
    """The disk of server 1, which leads epoch 1."""

    def __init__(self, seed: int = 1) -> None:
        script = Script()
        script.lead(1, 1, 2, 3)
        self.world = World(seed)
        self.points: list[str] = []
        self.deadly = ""
        self.disk = Disk(1, self.world, script.ledger, self.tap)
        self.disk.recover(DataTree())
        self.disk.storage.write_accepted_epoch(1)
        self.disk.storage.write_current_epoch(1)
        self.durable: list[int] = []
        self.failed: list[int] = []
        self.disk.on_durable = self.durable.append
        self.disk.on_failed = self.failed.append
        self._number = 0

    def tap(self, point: str) -> None:
        self.points.append(point)
        if point == self.deadly:
            self.disk.crash()
            raise DiskCrash

    def write(self, *writes: Write) -> None:
        self._number += 1
        self.disk.submit(self._number, list(writes))

    def append(self, *counters: int) -> None:
        self.write(AppendTxns([entry(counter) for counter in counters]))

    def pass_time(self, length: int = SECOND) -> None:
        for _ in self.world.run(self.world.now + length):
            pass

    def found(self) -> list[int]:
        """What a restart finds."""
        return [entry.zxid - E1 for entry in self.disk.recover(DataTree()).entries]


def entry(counter: int) -> Entry:
    return error_txn(E1 + counter, cxid=counter)


def test_what_was_synced_survives_a_crash() -> None:
    bench = Bench()
    bench.append(1, 2)
    assert not bench.durable
    bench.pass_time()
    assert bench.durable == [1]
    bench.disk.crash()
    assert bench.found() == [1, 2]


@given(st.integers(0, 300), st.integers(0, 2500))
def test_of_what_was_not_synced_a_prefix_survives(seed: int, wait: int) -> None:
    bench = Bench(seed)
    for counter in range(1, 6):
        bench.append(counter)
    bench.pass_time(wait)
    promised = len(bench.durable)
    bench.disk.crash()
    found = bench.found()
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= promised


def test_a_sync_covers_only_what_was_appended_before_it_began() -> None:
    bench = Bench()
    bench.append(1)
    bench.append(2)
    assert bench.disk.storage.last_zxid == E1 + 2
    while not bench.durable:
        bench.pass_time(10)
    assert bench.durable == [1]
    assert bench.disk.storage.durable_zxid == E1 + 1


def test_writes_are_durable_in_their_order() -> None:
    bench = Bench()
    bench.write(WriteAcceptedEpoch(2), AppendTxns([entry(1)]), WriteCurrentEpoch(2))
    bench.deadly = "before WriteCurrentEpoch"
    bench.pass_time()
    assert not bench.durable
    assert bench.points == [
        "before WriteAcceptedEpoch",
        "after WriteAcceptedEpoch",
        "before AppendTxns",
        "after AppendTxns",
        "before WriteCurrentEpoch",
    ]
    assert (bench.disk.storage.accepted_epoch, bench.disk.storage.current_epoch) == (2, 1)
    assert bench.found() == [1]


def test_what_stands_behind_an_epoch_is_not_on_the_disk_before_it() -> None:
    bench = Bench()
    bench.write(WriteAcceptedEpoch(2), AppendTxns([entry(1)]))
    assert bench.disk.storage.last_zxid == 0
    bench.deadly = "before WriteAcceptedEpoch"
    bench.pass_time()
    assert bench.disk.storage.accepted_epoch == 1
    assert bench.found() == []


def test_a_cut_that_is_not_possible_is_said_so_and_ends_its_ready() -> None:
    bench = Bench()
    bench.append(1)
    bench.write(TruncateHistory(E1 + 7), WriteAcceptedEpoch(2))
    bench.append(2)
    bench.pass_time()
    assert bench.failed == [2]
    assert bench.durable == [1, 3]
    assert bench.disk.storage.accepted_epoch == 1


def test_a_slow_disk_is_slow() -> None:
    bench = Bench()
    bench.disk.speed.slow = 500
    bench.append(1)
    bench.pass_time(SECOND // 10)
    assert not bench.durable
    bench.pass_time()
    assert bench.durable == [1]


def test_a_snapshot_is_written_in_pieces_and_may_be_fuzzy() -> None:
    bench = Bench()
    tree = DataTree()
    bench.disk.recover(tree)
    bench.disk.begin_snapshot(tree)
    bench.append(1)
    tree.apply(entry(1).txn)
    bench.pass_time()
    bench.disk.crash()
    recovered = bench.disk.recover(DataTree())
    assert recovered.tree.last_zxid == E1 + 1
    assert "inside snapshot" in bench.points
