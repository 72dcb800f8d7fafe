"""The contract of `Storage` as a model: any order of calls, crashes and restarts, on memory and on disk alike."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from terzetto.testcluster.storage.disk import DiskOptions, DiskStorage
from terzetto.testcluster.storage.errors import HistoryUnavailableError
from terzetto.testcluster.storage.interface import Storage
from terzetto.testcluster.storage.txnlog import LoggedTxn

from .histories import History, rows, start, take_snapshot
from .test_interface import memory_storage

_MEMBER = DiskOptions(preallocation=1 << 14, force_sync=False, replicated=True)


class StorageAgainstModel(RuleBasedStateMachine):
    """Any order of calls, crashes and restarts; the model is a list of transactions and how many are durable."""

    def make(self, directory: Path) -> Storage:
        return memory_storage(directory)

    @initialize(seed=st.integers(0, 1000))
    def open(self, seed: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="terzetto-storage-"))
        self.storage = self.make(self.directory)
        self.chance = random.Random(seed)
        self.history = History(self.chance, start(self.storage))
        self.log: list[LoggedTxn] = []
        self.durable = 0
        self.base = 0
        self.epochs = (0, 0)

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self.storage.close()
            shutil.rmtree(self.directory)

    def restart(self) -> None:
        expected = self.history.tree
        del self.log[self.durable :]
        tree = start(self.storage)
        assert tree.last_zxid == self.last
        if tree.last_zxid == expected.last_zxid:
            assert rows(tree) == rows(expected)
        self.history = History(self.chance, tree)
        accepted, current = self.epochs
        current = max(current, self.last >> 32)
        self.epochs = (max(accepted, current), current)

    @property
    def last(self) -> int:
        return self.log[-1].zxid if self.log else self.base

    @rule(count=st.integers(1, 30))
    def append(self, count: int) -> None:
        txns = self.history.grow(count)
        self.storage.append(txns)
        self.log += txns

    @rule()
    def begin_epoch(self) -> None:
        self.history.next_epoch()
        self.append(1)

    @rule()
    def sync(self) -> None:
        self.durable = len(self.log)
        assert self.storage.sync() == self.history.tree.last_zxid

    @rule()
    def snapshot(self) -> None:
        take_snapshot(self.storage, self.history.tree)
        self.durable = len(self.log)

    @rule()
    def purge(self) -> None:
        self.storage.purge()

    @rule()
    def crash(self) -> None:
        self.storage.crash()
        self.restart()

    @rule()
    def recover(self) -> None:
        """Without a crash: nothing is lost, and nothing is volatile any more."""
        self.durable = len(self.log)
        self.restart()

    @rule(back=st.integers(0, 40), epochs=st.integers(0, 1))
    def install(self, back: int, epochs: int) -> None:
        """A leader's snapshot, of an earlier moment than our last transaction too, and of another history."""
        leader = History(self.chance)
        for _ in range((self.last >> 32) + epochs):
            leader.next_epoch()
        leader.grow(max(1, (self.last & 0xFFFFFFFF) - back))
        take_snapshot(self.storage, leader.tree, replaces_history=True)
        self.log, self.durable, self.base = [], 0, leader.tree.last_zxid
        self.history = leader
        self.restart()

    @rule(accepted=st.integers(0, 2), current=st.integers(0, 2))
    def promise(self, accepted: int, current: int) -> None:
        first, second = self.epochs[0] + accepted, self.epochs[1] + current
        self.storage.write_accepted_epoch(first)
        if second <= first:
            self.storage.write_current_epoch(second)
        self.epochs = (first, min(first, second) if second <= first else self.epochs[1])

    @rule()
    def close(self) -> None:
        self.durable = len(self.log)
        self.storage.close()
        self.restart()

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.log) - 1))
        zxid = self.log[index].zxid
        try:
            self.storage.truncate_to(zxid)
        except HistoryUnavailableError:
            # Purged, or without a snapshot early enough. All is as it was, but for a sync.
            if self.storage.blocks:
                self.durable = len(self.log)
            return
        del self.log[index + 1 :]
        self.durable = len(self.log)
        self.restart()
        assert self.storage.last_zxid == zxid

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def read_on(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.log) - 1))
        try:
            txns = list(self.storage.read_after(self.log[index].zxid))
        except HistoryUnavailableError:
            assert self.storage.floor_zxid(self.log[index].zxid) != self.log[index].zxid
        else:
            assert txns == self.log[index + 1 :]
        # Files are read after a sync.
        if self.storage.blocks:
            self.durable = len(self.log)

    @invariant()
    def positions_agree(self) -> None:
        if hasattr(self, "log"):
            assert self.storage.last_zxid == self.last
            assert self.storage.durable_zxid == (self.log[self.durable - 1].zxid if self.durable else self.base)
            assert (self.storage.accepted_epoch, self.storage.current_epoch) == self.epochs


class DiskAgainstModel(StorageAgainstModel):
    """The same on files."""

    def make(self, directory: Path) -> Storage:
        return DiskStorage(directory, None, _MEMBER)


TestMemoryAgainstModel = StorageAgainstModel.TestCase
TestMemoryAgainstModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestDiskAgainstModel = DiskAgainstModel.TestCase
TestDiskAgainstModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
