"""Watch tables: every mode, what each event uses up, and a dumb model beside them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from terzetto.testcluster.codes import MARSHALLING_ERROR, Refused
from terzetto.testcluster.watches import PERSISTENT, RECURSIVE, STANDARD, WATCHES_SIZE_MAX, WatchTable

ANY = STANDARD | PERSISTENT | RECURSIVE


class Watcher:
    def __init__(self, name: str) -> None:
        self.name = name
        self.data_watches: dict[str, int] = {}
        self.child_watches: dict[str, int] = {}
        self.watches_size = 0

    def __repr__(self) -> str:
        return self.name


@pytest.fixture
def table() -> WatchTable[Watcher]:
    return WatchTable()


@pytest.fixture
def ann() -> Watcher:
    return Watcher("ann")


@pytest.fixture
def bob() -> Watcher:
    return Watcher("bob")


Table = WatchTable[Watcher]


def test_a_data_watch_is_used_up_by_its_event(table: Table, ann: Watcher) -> None:
    table.add_data(ann, "/a")
    assert table.on_children("/a") == []
    assert table.on_node("/a") == [ann]
    assert table.on_node("/a") == []
    assert not table


def test_a_child_watch_is_used_up_by_its_event(table: Table, ann: Watcher) -> None:
    table.add_child(ann, "/a")
    assert table.on_node("/a") == []
    assert table.on_children("/a") == [ann]
    assert table.on_children("/a") == []
    assert not table


def test_a_connection_cannot_watch_without_bound(table: Table, ann: Watcher, bob: Watcher) -> None:
    ann.watches_size = WATCHES_SIZE_MAX - 1
    table.add_persistent(ann, "/ab")
    adds = [table.add_data, table.add_child, table.add_persistent, table.add_recursive]
    for add in adds:
        with pytest.raises(Refused) as refused:
            add(ann, "/c")
        assert refused.value.code == MARSHALLING_ERROR
        add(bob, "/c")
    assert (ann.data_watches, ann.child_watches) == ({"/ab": PERSISTENT}, {"/ab": PERSISTENT})
    table.remove_watcher(ann)
    assert ann.watches_size == WATCHES_SIZE_MAX - 1
    table.add_data(ann, "/c")


def test_a_deletion_is_told_once_and_uses_up_both(table: Table, ann: Watcher, bob: Watcher) -> None:
    table.add_data(ann, "/a")
    table.add_child(ann, "/a")
    table.add_child(bob, "/a")
    assert table.on_deleted("/a") == [ann, bob]
    assert not table
    assert (ann.data_watches, ann.child_watches, bob.child_watches) == ({}, {}, {})


def test_registering_twice_is_one_watch(table: Table, ann: Watcher) -> None:
    table.add_data(ann, "/a")
    table.add_data(ann, "/a")
    assert table.total == 1
    assert table.on_node("/a") == [ann]
    assert table.on_node("/a") == []


def test_a_persistent_watch_stays(table: Table, ann: Watcher) -> None:
    table.add_persistent(ann, "/a")
    for _ in range(2):
        assert table.on_node("/a") == [ann]
        assert table.on_children("/a") == [ann]
        assert table.on_deleted("/a") == [ann]
        assert table.on_node("/a/b") == []


@pytest.mark.parametrize("root", ["/", "/a", "/a/b"])
def test_a_recursive_watch_hears_of_everything_below(table: Table, ann: Watcher, root: str) -> None:
    table.add_recursive(ann, root)
    assert table.on_node("/a/b") == [ann]
    assert table.on_deleted("/a/b/c") == [ann]
    assert table.on_children("/a/b") == []
    assert table.on_node("/ab") == ([ann] if root == "/" else [])


def test_one_event_for_several_matching_watches(table: Table, ann: Watcher, bob: Watcher) -> None:
    for path in ("/", "/a", "/a/b"):
        table.add_recursive(ann, path)
    table.add_data(ann, "/a/b")
    table.add_persistent(bob, "/a/b")
    assert table.on_node("/a/b") == [ann, bob]
    assert table.on_deleted("/a/b") == [ann, bob]


def test_modes_of_one_connection_are_independent(table: Table, ann: Watcher) -> None:
    table.add_persistent(ann, "/a")
    table.add_child(ann, "/a")
    table.add_data(ann, "/a")
    table.add_recursive(ann, "/a")
    assert table.on_children("/a") == [ann]
    assert table.on_node("/a") == [ann]
    assert ann.data_watches == {"/a": PERSISTENT | RECURSIVE}
    assert ann.child_watches == {"/a": PERSISTENT}
    table.remove(ann, "/a", PERSISTENT, PERSISTENT)
    assert table.on_children("/a") == []
    assert table.on_node("/a/x") == [ann]


def test_removing_what_is_not_there_changes_nothing(table: Table, ann: Watcher, bob: Watcher) -> None:
    table.add_data(ann, "/a")
    table.remove(ann, "/a", PERSISTENT | RECURSIVE, ANY)
    table.remove(bob, "/a", ANY, ANY)
    assert table.on_node("/a") == [ann]


def test_a_connection_asks_only_for_itself(table: Table, ann: Watcher, bob: Watcher) -> None:
    table.add_data(ann, "/a")
    table.add_child(bob, "/a")
    assert table.has(ann, "/a", ANY, 0)
    assert not table.has(ann, "/a", PERSISTENT, ANY)
    assert not table.has(bob, "/a", ANY, 0)
    assert table.has(bob, "/a", ANY, ANY)
    assert not table.has(ann, "/b", ANY, ANY)


def test_a_connection_that_goes_takes_its_watches_along(table: Table, ann: Watcher, bob: Watcher) -> None:
    for watcher in (ann, bob):
        table.add_data(watcher, "/a")
        table.add_persistent(watcher, "/b")
        table.add_recursive(watcher, "/c")
    table.remove_watcher(ann)
    assert (ann.data_watches, ann.child_watches) == ({}, {})
    assert table.on_node("/a") == table.on_node("/b") == table.on_node("/c/d") == [bob]
    table.remove_watcher(bob)
    assert not table
    assert table.total == 0


def test_counting_for_the_four_letter_words(table: Table, ann: Watcher, bob: Watcher) -> None:
    table.add_data(ann, "/a")
    table.add_data(bob, "/a")
    table.add_child(ann, "/a")
    table.add_recursive(ann, "/b")
    assert dict(table.data_by_path()) == {"/a": (ann, bob), "/b": (ann,)}
    assert table.total == 4


_PATHS = st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/d"])
_MODES = st.sampled_from([STANDARD, PERSISTENT, RECURSIVE, STANDARD | PERSISTENT, ANY])


class WatchTablesAgainstSets(RuleBasedStateMachine):
    """The tables beside sets of (table, watcher, path, mode)."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Table = WatchTable()
        self.watchers = [Watcher(name) for name in ("ann", "bob", "eve")]
        self.model: set[tuple[str, Watcher, str, int]] = set()

    def _watcher(self, number: int) -> Watcher:
        return self.watchers[number]

    @rule(who=st.integers(0, 2), path=_PATHS)
    def add_data(self, who: int, path: str) -> None:
        self.table.add_data(self.watchers[who], path)
        self.model.add(("data", self.watchers[who], path, STANDARD))

    @rule(who=st.integers(0, 2), path=_PATHS)
    def add_child(self, who: int, path: str) -> None:
        self.table.add_child(self.watchers[who], path)
        self.model.add(("child", self.watchers[who], path, STANDARD))

    @rule(who=st.integers(0, 2), path=_PATHS)
    def add_persistent(self, who: int, path: str) -> None:
        self.table.add_persistent(self.watchers[who], path)
        self.model |= {(name, self.watchers[who], path, PERSISTENT) for name in ("data", "child")}

    @rule(who=st.integers(0, 2), path=_PATHS)
    def add_recursive(self, who: int, path: str) -> None:
        self.table.add_recursive(self.watchers[who], path)
        self.model.add(("data", self.watchers[who], path, RECURSIVE))

    @rule(who=st.integers(0, 2), path=_PATHS, data=_MODES, child=_MODES)
    def remove(self, who: int, path: str, data: int, child: int) -> None:
        self.table.remove(self.watchers[who], path, data, child)
        bits = {"data": data, "child": child}
        self.model = {
            entry
            for entry in self.model
            if not (entry[1:3] == (self.watchers[who], path) and entry[3] & bits[entry[0]])
        }

    @precondition(lambda self: self.model)
    @rule(who=st.integers(0, 2))
    def leave(self, who: int) -> None:
        self.table.remove_watcher(self.watchers[who])
        self.model = {entry for entry in self.model if entry[1] is not self.watchers[who]}

    def _fired(self, names: set[str], path: str) -> set[Watcher]:
        below = {
            watcher
            for _, watcher, above, mode in self.model
            if "data" in names and mode == RECURSIVE and f"{path}/".startswith(f"{above.rstrip('/')}/")
        }
        exact = {watcher for name, watcher, at, _ in self.model if name in names and at == path}
        self.model = {
            entry for entry in self.model if not (entry[0] in names and entry[2] == path and entry[3] == STANDARD)
        }
        return below | exact

    @rule(path=_PATHS)
    def change(self, path: str) -> None:
        self._check(self.table.on_node(path), self._fired({"data"}, path))

    @rule(path=_PATHS)
    def delete(self, path: str) -> None:
        self._check(self.table.on_deleted(path), self._fired({"data", "child"}, path))

    @rule(path=_PATHS)
    def change_children(self, path: str) -> None:
        self._check(self.table.on_children(path), self._fired({"child"}, path))

    def _check(self, found: list[Watcher], expected: set[Watcher]) -> None:
        assert len(found) == len(set(found))
        assert set(found) == expected

    @invariant()
    def both_hold_the_same(self) -> None:
        held = {
            (name, watcher, path, mode)
            for watcher in self.watchers
            for name, modes in (("data", watcher.data_watches), ("child", watcher.child_watches))
            for path, bits in modes.items()
            for mode in (STANDARD, PERSISTENT, RECURSIVE)
            if bits & mode
        }
        assert held == self.model
        sizes = {watcher: len("".join([*watcher.data_watches, *watcher.child_watches])) for watcher in self.watchers}
        assert sizes == {watcher: watcher.watches_size for watcher in self.watchers}
        assert bool(self.table) == bool(self.model)
        assert self.table.total == len({entry[:3] for entry in self.model})


TestWatchTablesAgainstSets: Any = WatchTablesAgainstSets.TestCase
TestWatchTablesAgainstSets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
