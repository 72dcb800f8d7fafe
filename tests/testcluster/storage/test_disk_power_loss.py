"""The power goes at any moment: whatever the medium has kept, what was promised is there, and all there is sound."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.storage.disk import DiskOptions, DiskStorage

from .histories import History, rebuild, replayed, rows, snapshot_pieces, start, take_snapshot
from .power_loss import KILLED, LOST, OUTCOMES, Medium, matters, recorder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="flushes are made in other ways elsewhere")

_OPTIONS = DiskOptions(preallocation=1 << 13, replicated=True)

Work = Callable[[DiskStorage, History], None]


class Wreck(NamedTuple):
    """What was left once: the storage on it, what had been promised by then, and whether the work was done."""

    storage: DiskStorage
    promises: list[object]
    done: bool


def storage_in(folder: Path, split: bool) -> DiskStorage:
    return DiskStorage(folder, folder / "logs" if split else None, _OPTIONS)


def grown(base: Path, *, split: bool = False) -> tuple[Path, History]:
    """A directory with 60 transactions in two logs, and a fuzzy snapshot begun at 40; closed."""
    storage, history = storage_in(base / "template", split), History(random.Random(3))
    start(storage)
    storage.append(history.grow(40))
    writer = storage.begin_snapshot(40)
    for number, piece in enumerate(snapshot_pieces(history.tree, 200)):
        writer.write(piece)
        if number < 5:
            storage.append(history.grow(1))
    writer.commit()
    storage.append(history.grow(15))
    storage.close()
    return base / "template", history


def wrecks(
    base: Path, chance: random.Random, template: Path | None, history: History, work: Work, *, split: bool = False
) -> Iterator[Wreck]:
    """Does the work once, and gives what a loss of power at each moment of it could leave."""
    directory = base / "live"
    if template is None:
        directory.mkdir()
    else:
        shutil.copytree(template, directory)
    medium, storage = Medium(directory), storage_in(directory, split)
    with recorder.recording(directory):
        if template is not None:
            start(storage)
        work(storage, history)
    changes = list(recorder.changes)
    storage.crash()
    assert len(changes) > 8, "no change of a file was seen"
    promises: list[object] = []
    for number in range(len(changes) + 1):
        # Two of the five for each moment, others in the next run.
        looked_at = chance.sample(OUTCOMES, 2) if number == 0 or matters(changes[number - 1]) else ()
        for outcome in looked_at:
            target = base / f"{number}-{outcome}"
            medium.leave(outcome, chance, target)
            found = storage_in(target, split)
            yield Wreck(found, promises, number == len(changes))
            found.close()
            shutil.rmtree(target)
        if number < len(changes):
            medium.apply(changes[number])
            if changes[number].kind == "promise":
                promises.append(changes[number].data)


def last_of(promises: list[object]) -> int:
    return max((promise for promise in promises if isinstance(promise, int)), default=0)


def sound(wreck: Wreck) -> DataTree:
    """The tree that a wreck recovers to, which a second recovery finds again."""
    tree = rebuild(wreck.storage.recover())
    wreck.storage.crash()
    assert rows(rebuild(wreck.storage.recover())) == rows(tree)
    return tree


def prefix(history: History, zxid: int) -> dict[str, object]:
    return rows(replayed(history.txns[:zxid]))


def append_and_promise(storage: DiskStorage, history: History, count: int) -> None:
    storage.append(history.grow(count))
    recorder.promise(storage.sync())


def first_start(storage: DiskStorage, history: History) -> None:
    start(storage)
    recorder.promise("started")
    for _ in range(3):
        append_and_promise(storage, history, 2)


def appends(storage: DiskStorage, history: History) -> None:
    for count in (1, 5, 30, 1):
        append_and_promise(storage, history, count)
    storage.append(history.grow(3))


def snapshots(storage: DiskStorage, history: History) -> None:
    append_and_promise(storage, history, 5)
    storage.append(history.grow(2))
    take_snapshot(storage, history.tree)
    recorder.promise(storage.durable_zxid)
    append_and_promise(storage, history, 5)


def purges(storage: DiskStorage, history: History) -> None:
    for _ in range(4):
        append_and_promise(storage, history, 4)
        take_snapshot(storage, history.tree)
    storage.purge()
    append_and_promise(storage, history, 4)


@pytest.mark.slow
@pytest.mark.parametrize("work", [first_start, appends, snapshots, purges])
def test_what_was_promised_is_there(tmp_path: Path, seed: int, work: Work) -> None:
    template, history = (None, History(random.Random(3))) if work is first_start else grown(tmp_path)
    known = len(history.txns)
    for wreck in wrecks(tmp_path, random.Random(seed), template, history, work):
        tree = sound(wreck)
        assert max(known, last_of(wreck.promises)) <= tree.last_zxid <= len(history.txns)
        assert rows(tree) == prefix(history, tree.last_zxid)


@pytest.mark.slow
def test_what_a_restart_has_read_is_there_although_nobody_had_synced_it(tmp_path: Path, seed: int) -> None:
    """First the process is killed, and another one reads what the system still holds; then the power goes."""
    chance = random.Random(seed)
    template, history = grown(tmp_path)
    directory = tmp_path / "live"
    shutil.copytree(template, directory)
    medium, storage = Medium(directory), storage_in(directory, False)
    with recorder.recording(directory):
        start(storage)
        for count in (1, 5, 3):
            append_and_promise(storage, history, count)
        take_snapshot(storage, history.tree)
        append_and_promise(storage, history, 2)
    changes = list(recorder.changes)
    storage.crash()
    read: set[int] = set()
    for number, change in enumerate(changes):
        medium.apply(change)
        if not matters(change):
            continue
        killed, left = tmp_path / f"killed-{number}", tmp_path / f"left-{number}"
        medium.leave(KILLED, chance, killed)
        after, restarted = medium.at(killed), storage_in(killed, False)
        with recorder.recording(killed):
            tree = start(restarted)
        restarted.crash()
        for later in recorder.changes:
            after.apply(later)
        after.leave(LOST, chance, left)
        found = storage_in(left, False)
        assert rows(rebuild(found.recover())) == rows(tree)
        found.crash()
        read.add(tree.last_zxid)
    assert len(read) > 3


@pytest.mark.slow
@pytest.mark.parametrize("zxid", [58, 45, 44, 40, 20])
def test_a_cut(tmp_path: Path, seed: int, zxid: int) -> None:
    template, history = grown(tmp_path)
    other: list[History] = []

    def work(storage: DiskStorage, _: History) -> None:
        storage.truncate_to(zxid)
        recorder.promise("cut")
        # Another history goes on from there.
        other.append(History(random.Random(8), start(storage)))
        other[0].next_epoch()
        append_and_promise(storage, other[0], 4)

    for wreck in wrecks(tmp_path, random.Random(seed), template, history, work):
        tree = sound(wreck)
        if tree.last_zxid >> 32:
            assert rows(tree) == rows(replayed([*history.txns[:zxid], *other[0].txns[: tree.last_zxid & 0xFF]]))
        else:
            assert rows(tree) == prefix(history, tree.last_zxid)
            assert tree.last_zxid >= zxid
            assert "cut" not in wreck.promises or tree.last_zxid == zxid
        assert last_of(wreck.promises) <= tree.last_zxid


@pytest.mark.slow
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("zxid", [70, 60, 42, 20])
def test_a_leaders_snapshot(tmp_path: Path, seed: int, zxid: int, split: bool) -> None:
    """Also one that is older than the own log: its records, which come behind it, never come back."""
    template, history = grown(tmp_path, split=split)
    leader = History(random.Random(55))
    leader.grow(zxid)
    installed = rows(leader.tree)

    def work(storage: DiskStorage, _: History) -> None:
        writer = storage.begin_snapshot(zxid, replaces_history=True)
        for piece in snapshot_pieces(leader.tree, 300):
            writer.write(piece)
        writer.commit()
        recorder.promise("installed")
        start(storage)
        leader.next_epoch()
        append_and_promise(storage, leader, 4)

    for wreck in wrecks(tmp_path, random.Random(seed), template, history, work, split=split):
        tree = sound(wreck)
        assert last_of(wreck.promises) <= tree.last_zxid
        if tree.last_zxid >> 32:
            assert rows(tree) == rows(replayed([*leader.txns[: zxid + (tree.last_zxid & 0xFF)]]))
        elif "installed" in wreck.promises:
            assert rows(tree) == installed
        else:
            assert rows(tree) in (installed, prefix(history, 60))


@pytest.mark.slow
def test_epochs(tmp_path: Path, seed: int) -> None:
    template, history = grown(tmp_path)

    def work(storage: DiskStorage, _: History) -> None:
        for epoch in (1, 2, 5):
            storage.write_accepted_epoch(epoch)
            recorder.promise(("accepted", epoch))
            storage.write_current_epoch(epoch)
            recorder.promise(("current", epoch))

    for wreck in wrecks(tmp_path, random.Random(seed), template, history, work):
        sound(wreck)
        promised: dict[str, int] = dict(cast("list[tuple[str, int]]", wreck.promises))
        assert wreck.storage.accepted_epoch >= promised.get("accepted", 0)
        assert wreck.storage.accepted_epoch >= wreck.storage.current_epoch >= promised.get("current", 0)
