"""A crash before every single change of a file: whatever was done is there, or was not yet, and nothing in between.

The crash comes from the interpreter's own audit events for opening, renaming, deleting and cutting files: from the
chosen one on, each raises. So the product's code runs as it is, and the directory is left as by a process that died.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from terzetto.testcluster.storage.disk import DiskOptions, DiskStorage

from .histories import History, rebuild, replayed, rows, snapshot_pieces, start, take_snapshot

_OPTIONS = DiskOptions(preallocation=1 << 14, force_sync=True, replicated=True)
_CHANGES = frozenset({"open", "os.rename", "os.remove", "os.truncate", "os.mkdir"})


class Crash(BaseException):
    """The machine stopped here."""


class Machine:
    """Stops at a chosen change of a file below its directory, and does nothing from then on."""

    def __init__(self) -> None:
        self.directory = "\0"
        self.changes = 0
        self.stop_at: int | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES or self.stop_at is None:
            return
        # A cut is told by descriptor.
        if not isinstance(arguments[0], int) and not str(arguments[0]).startswith(self.directory):
            return
        self.changes += 1
        if self.changes > self.stop_at:
            raise Crash(f"{event} {arguments}")

    def run(self, directory: Path, stop_at: int, work: Callable[[], object]) -> bool:
        """Whether the work was done before the machine stopped."""
        self.directory, self.changes, self.stop_at = str(directory), 0, stop_at
        try:
            work()
        except Crash:
            return False
        finally:
            self.stop_at = None
        return True


_machine = Machine()
sys.addaudithook(_machine)

Prepare = Callable[[DiskStorage, History], None]
Work = Callable[[DiskStorage, History], object]


def crashes(base: Path, prepare: Prepare, work: Work) -> Iterator[tuple[bool, DiskStorage, History]]:
    """Does the work again and again, each time stopped one change later, until it is done; the storage has crashed."""
    template = base / "template"
    for stop_at in range(200):
        directory = base / str(stop_at)
        storage = DiskStorage(directory, None, _OPTIONS)
        if template.exists():
            shutil.copytree(template, directory)
            history = History(random.Random(3))
            history.tree = start(storage)
        else:
            history = History(random.Random(3))
            start(storage)
        prepare(storage, history)
        done = _machine.run(directory, stop_at, partial(work, storage, history))
        storage.crash()
        yield done, storage, history
        storage.close()
        if done:
            assert stop_at > 3, "no change of a file was seen"
            return
    raise AssertionError("the work never ended")


def recovered(storage: DiskStorage) -> dict[str, Any]:
    found = rows(rebuild(storage.recover()))
    # A second recovery finds what the first has left.
    storage.crash()
    assert rows(rebuild(storage.recover())) == found
    return found


def prefix_rows(history: History, count: int) -> dict[str, Any]:
    """The tree after the first `count` transactions of a history that began with an empty tree."""
    return rows(replayed(history.txns[:count]))


def grown(storage: DiskStorage, history: History) -> None:
    """60 more transactions, and a snapshot that was begun after the 40th and ended after the 45th."""
    storage.append(history.grow(40))
    writer = storage.begin_snapshot(history.tree.last_zxid)
    for number, piece in enumerate(snapshot_pieces(history.tree, 200)):
        writer.write(piece)
        if number < 5:
            storage.append(history.grow(1))
    writer.commit()
    storage.append(history.grow(15))
    storage.sync()


def test_first_start(tmp_path: Path) -> None:
    for stop_at in range(100):
        directory = tmp_path / str(stop_at)
        storage = DiskStorage(directory, None, _OPTIONS)
        done = _machine.run(directory, stop_at, partial(start, storage))
        storage.crash()
        tree = start(storage)
        assert tree.last_zxid == 0
        storage.append(History(random.Random(1)).grow(3))
        assert storage.sync() == 3
        storage.close()
        if done:
            assert stop_at > 5
            return
    raise AssertionError("the work never ended")


def test_appending_to_a_new_log(tmp_path: Path) -> None:
    def work(storage: DiskStorage, history: History) -> None:
        take_snapshot(storage, history.tree)
        storage.append(history.grow(5))
        storage.sync()

    for done, storage, history in crashes(tmp_path, grown, work):
        last = recovered(storage)["zxid"]
        assert last == 65 if done else last in (60, 65)
        assert rows(rebuild(storage.recover())) == prefix_rows(history, last)


def test_snapshot(tmp_path: Path) -> None:
    for _, storage, history in crashes(tmp_path, grown, lambda storage, history: take_snapshot(storage, history.tree)):
        assert recovered(storage) == rows(history.tree)


def test_purge(tmp_path: Path) -> None:
    def prepare(storage: DiskStorage, history: History) -> None:
        for _ in range(5):
            grown(storage, history)

    for done, storage, history in crashes(tmp_path, prepare, lambda storage, _: storage.purge()):
        assert recovered(storage) == rows(history.tree)
        assert done or storage.floor_zxid(0) is None or list(storage.read_after(0)) == history.txns


@pytest.mark.parametrize("zxid", [60, 50, 45, 44, 40, 39, 20, 0])
def test_truncation(tmp_path: Path, zxid: int) -> None:
    for done, storage, history in crashes(tmp_path, grown, lambda storage, _: storage.truncate_to(zxid)):
        found = recovered(storage)
        # A beginning of the old history that has at least what was to stay.
        assert found == prefix_rows(history, found["zxid"])
        assert found["zxid"] == zxid if done else found["zxid"] >= zxid
        rebuild(storage.recover())
        storage.truncate_to(zxid)
        assert recovered(storage) == prefix_rows(history, zxid)


@pytest.mark.parametrize("zxid", [70, 60, 50, 42, 40, 20])
def test_a_leaders_snapshot(tmp_path: Path, zxid: int) -> None:
    leader = History(random.Random(55))
    leader.grow(zxid)

    def work(storage: DiskStorage, _: History) -> None:
        writer = storage.begin_snapshot(zxid, replaces_history=True)
        for piece in snapshot_pieces(leader.tree):
            writer.write(piece)
        writer.commit()

    for done, storage, history in crashes(tmp_path, grown, work):
        found = recovered(storage)
        if done or found == rows(leader.tree):
            assert found == rows(leader.tree)
            leader_on = History(random.Random(1), rebuild(storage.recover()))
            leader_on.next_epoch()
            storage.append(leader_on.grow(3))
            storage.sync()
            assert recovered(storage) == rows(leader_on.tree)
        else:
            assert found == prefix_rows(history, found["zxid"])


def test_epochs(tmp_path: Path) -> None:
    def work(storage: DiskStorage, _: History) -> None:
        storage.write_accepted_epoch(5)
        storage.write_current_epoch(5)

    seen: set[tuple[int, int]] = set()
    for _, storage, _ in crashes(tmp_path, grown, work):
        start(storage)
        seen.add((storage.accepted_epoch, storage.current_epoch))
    assert seen == {(0, 0), (5, 0), (5, 5)}
