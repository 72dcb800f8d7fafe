"""The watch table rule by rule: whom an event concerns, what is asked of a server, what is restored and given back.

That the rules together keep every promise on either release is shown by `test_watches_model` and
`test_watches_in_flight`.
"""

from __future__ import annotations

import pytest

from terzetto.client import AddWatchMode, EventType, WatcherType, ZnodeStat
from terzetto.client._watches import BATCH_CHARACTERS, WatchTable
from terzetto.client.wire.operations import (
    ADD_WATCH,
    EXISTS,
    GET_CHILDREN2,
    REMOVE_WATCHES,
    SET_WATCHES,
    SET_WATCHES2,
    Operation,
)

PERSISTENT, RECURSIVE = AddWatchMode.PERSISTENT, AddWatchMode.PERSISTENT_RECURSIVE


def told(found: list[tuple[str, str, dict[str, int]]]) -> list[tuple[str, str, list[str]]]:
    return [(event, path, list(watchers)) for event, path, watchers in found]


def watch(table: WatchTable, path: str, mode: AddWatchMode, watcher: str = "w") -> None:
    """Registers a persistent watch, and has the server answer."""
    operation, (_, number) = table.add_persistent(path, mode, watcher)
    table.answered(operation, path, number)


def stat(mzxid: int = 0, pzxid: int = 0) -> ZnodeStat:
    return ZnodeStat(1, mzxid, 0, 0, 0, 0, 0, 0, 0, 0, pzxid)


# --- one-shot watches


@pytest.mark.parametrize(
    ("kind", "events"),
    [
        ("data", {"CREATED", "CHANGED", "DELETED"}),
        ("exist", {"CREATED", "CHANGED", "DELETED"}),
        ("child", {"CHILD", "DELETED"}),
    ],
)
@pytest.mark.parametrize("event", ["CREATED", "CHANGED", "DELETED", "CHILD"])
def test_a_one_shot_watch_is_told_of_its_events_once(kind: str, events: set[str], event: str) -> None:
    table = WatchTable()
    table.register(kind, "/a", "w", 5)
    expected = [(event, "/a", ["w"])] if event in events else []
    assert told(table.fire(event, "/a", 9)) == expected
    assert len(table) == (event not in events)
    assert table.fire(event, "/a", 10) == []


def test_it_is_told_of_its_own_path_only() -> None:
    table = WatchTable()
    table.register("data", "/a", "w", 5)
    for path in ("/", "/a/b", "/ab"):
        assert table.fire(EventType.CHANGED, path, 9) == []


def test_the_same_watcher_is_told_once_of_what_concerns_it_twice() -> None:
    table = WatchTable()
    for kind in ("data", "child"):
        table.register(kind, "/a", "w", 5)
    watch(table, "/a", PERSISTENT)
    watch(table, "/", RECURSIVE)
    assert told(table.fire(EventType.DELETED, "/a", 9)) == [("DELETED", "/a", ["w"])]


def test_everyone_is_told_in_the_order_of_kinds() -> None:
    table = WatchTable()
    watch(table, "/a", PERSISTENT, "persistent")
    watch(table, "/", RECURSIVE, "recursive")
    table.register("child", "/a", "child", 5)
    table.register("data", "/a", "data", 5)
    assert told(table.fire(EventType.DELETED, "/a", 9)) == [
        ("DELETED", "/a", ["data", "child", "recursive", "persistent"])
    ]


# --- persistent watches


def test_a_persistent_watch_is_told_again_and_again() -> None:
    table = WatchTable()
    watch(table, "/a", PERSISTENT)
    for event in ("CREATED", "CHANGED", "CHILD", "DELETED", "CREATED"):
        assert told(table.fire(event, "/a", 9)) == [(event, "/a", ["w"])]
    assert table.fire(EventType.CHANGED, "/a/b", 9) == []


def test_a_recursive_watch_is_told_of_everything_below_and_of_no_children_events() -> None:
    table = WatchTable()
    watch(table, "/a", RECURSIVE)
    for path in ("/a", "/a/b", "/a/b/c"):
        for event in ("CREATED", "CHANGED", "DELETED"):
            assert told(table.fire(event, path, 9)) == [(event, path, ["w"])]
        assert table.fire(EventType.CHILD, path, 9) == []
    for path in ("/", "/ab", "/b"):
        assert table.fire(EventType.CHANGED, path, 9) == []


def test_a_recursive_watch_of_the_root_sees_everything() -> None:
    table = WatchTable()
    watch(table, "/", RECURSIVE)
    assert told(table.fire(EventType.CREATED, "/a/b", 9)) == [("CREATED", "/a/b", ["w"])]
    assert told(table.fire(EventType.CHANGED, "/", 9)) == [("CHANGED", "/", ["w"])]


def test_the_mode_that_is_asked_for_never_takes_the_other_away() -> None:
    table = WatchTable()
    assert table.add_persistent("/a", PERSISTENT, "p") == (ADD_WATCH, ("/a", 0))
    assert table.add_persistent("/a", RECURSIVE, "r") == (ADD_WATCH, ("/a", 1))
    assert table.add_persistent("/a", PERSISTENT, "q") == (ADD_WATCH, ("/a", 1))


@pytest.mark.parametrize("mode", AddWatchMode)
def test_a_path_with_a_persistent_watch_is_covered(mode: AddWatchMode) -> None:
    table = WatchTable()
    table.add_persistent("/a", mode, "w")
    assert table.covered("/a")
    assert not table.covered("/a/b")
    assert not table.covered("/")


def test_an_unhashable_watcher_leaves_no_trace() -> None:
    table = WatchTable()
    with pytest.raises(TypeError):
        table.add_persistent("/a", PERSISTENT, [])
    assert not table.covered("/a")


# --- changes of children, which a recursive registration hides up to 3.8


def test_the_change_of_children_is_derived_for_those_who_wait_for_it() -> None:
    table = WatchTable()
    watch(table, "/a", PERSISTENT, "p")
    watch(table, "/a", RECURSIVE, "r")
    table.register("child", "/a", "c", 5)
    assert told(table.fire(EventType.CREATED, "/a/b", -1)) == [
        ("CREATED", "/a/b", ["r"]),
        ("CHILD", "/a", ["c", "p"]),
    ]
    assert told(table.fire(EventType.DELETED, "/a/b", -1)) == [("DELETED", "/a/b", ["r"]), ("CHILD", "/a", ["p"])]
    assert told(table.fire(EventType.CHANGED, "/a/b", -1)) == [("CHANGED", "/a/b", ["r"])]
    assert told(table.fire(EventType.CREATED, "/a/b/c", -1)) == [("CREATED", "/a/b/c", ["r"])]


def test_a_server_that_reports_the_same_change_itself_is_not_believed_twice() -> None:
    table = WatchTable()
    watch(table, "/a", PERSISTENT, "p")
    watch(table, "/a", RECURSIVE, "r")
    assert len(table.fire(EventType.CREATED, "/a/b", 9)) == 2
    assert table.fire(EventType.CHILD, "/a", 9) == []
    assert told(table.fire(EventType.CHILD, "/a", 10)) == [("CHILD", "/a", ["p"])]


def test_nothing_is_derived_before_the_server_has_answered() -> None:
    """Its events are those of what was registered before, so it reports the change itself."""
    table = WatchTable()
    watch(table, "/", RECURSIVE, "above")
    watch(table, "/a", PERSISTENT, "p")
    operation, (path, number) = table.add_persistent("/a", RECURSIVE, "r")
    assert told(table.fire(EventType.CREATED, "/a/b", -1)) == [("CREATED", "/a/b", ["r", "above"])]
    assert told(table.fire(EventType.CHILD, "/a", -1)) == [("CHILD", "/a", ["p"])]
    table.answered(operation, path, number)
    assert told(table.fire(EventType.CREATED, "/a/c", -1))[1] == ("CHILD", "/a", ["p"])


@pytest.mark.parametrize("stays", [None, PERSISTENT])
def test_it_is_derived_until_the_server_has_given_the_recursive_watch_up(stays: AddWatchMode | None) -> None:
    table = WatchTable()
    table.register("child", "/a", "c", 5)
    watch(table, "/a", RECURSIVE, "r")
    if stays is not None:
        watch(table, "/a", stays, "p")
    commands = table.discard_persistent("/a", RECURSIVE, "r")
    expected = ["c"] if stays is None else ["c", "p"]
    assert told(table.fire(EventType.CREATED, "/a/b", -1)) == [("CHILD", "/a", expected)]
    table.register("child", "/a", "d", 5)
    table.answered(commands[0][0], "/a", commands[0][1][1])
    assert table.fire(EventType.CREATED, "/a/c", -1) == []


@pytest.mark.parametrize("kind", [WatcherType.DATA, WatcherType.CHILDREN, WatcherType.PERSISTENT])
def test_other_removals_leave_the_recursive_watch(kind: WatcherType) -> None:
    table = WatchTable()
    watch(table, "/a", RECURSIVE, "r")
    table.register("child", "/a", "c", 5)
    table.answered(REMOVE_WATCHES, "/a", kind)
    assert told(table.fire(EventType.CREATED, "/a/b", -1))[1] == ("CHILD", "/a", ["c"])


def test_where_the_server_gives_no_zxid_no_two_changes_are_the_same() -> None:
    table = WatchTable()
    watch(table, "/a", PERSISTENT, "p")
    watch(table, "/a", RECURSIVE, "r")
    table.fire(EventType.CREATED, "/a/b", -1)
    assert told(table.fire(EventType.CHILD, "/a", -1)) == [("CHILD", "/a", ["p"])]
    table.fire(EventType.CREATED, "/a/c", 0)
    assert told(table.fire(EventType.CHILD, "/a", 0)) == [("CHILD", "/a", ["p"])]
    table.fire(EventType.CREATED, "/a/d", 1)
    assert table.fire(EventType.CHILD, "/a", 1) == []


# --- taking back


@pytest.mark.parametrize("mode", AddWatchMode)
def test_the_last_persistent_watch_is_removed_at_the_server(mode: AddWatchMode) -> None:
    table = WatchTable()
    for watcher in ("v", "w"):
        watch(table, "/a", mode, watcher)
    assert table.discard_persistent("/a", mode, "v") == []
    assert table.bared == 0
    assert table.discard_persistent("/a", mode, "w") == [(REMOVE_WATCHES, ("/a", int(WatcherType.ANY)))]
    assert table.bared == 1
    assert len(table) == 0


def test_what_is_not_registered_cannot_be_taken_back() -> None:
    table = WatchTable()
    watch(table, "/a", PERSISTENT)
    assert table.discard_persistent("/a", RECURSIVE, "w") == []
    assert table.discard_persistent("/a", PERSISTENT, "v") == []
    assert table.discard_persistent("/b", PERSISTENT, "w") == []
    assert len(table) == 1


def test_a_watcher_that_was_registered_twice_must_be_taken_back_twice() -> None:
    table = WatchTable()
    for _ in range(2):
        watch(table, "/a", PERSISTENT)
    assert table.discard_persistent("/a", PERSISTENT, "w") == []
    assert told(table.fire(EventType.CHANGED, "/a", 9)) == [("CHANGED", "/a", ["w"])]
    assert table.discard_persistent("/a", PERSISTENT, "w") == [(REMOVE_WATCHES, ("/a", 3))]


def test_a_plain_watch_goes_silently_while_a_recursive_one_stays() -> None:
    table = WatchTable()
    watch(table, "/a", PERSISTENT, "p")
    watch(table, "/a", RECURSIVE, "r")
    assert table.discard_persistent("/a", PERSISTENT, "p") == []
    assert table.discard_persistent("/a", RECURSIVE, "r") == [(REMOVE_WATCHES, ("/a", 3))]


def test_a_recursive_watch_gives_way_to_a_plain_one_without_a_gap() -> None:
    table = WatchTable()
    watch(table, "/a", PERSISTENT, "p")
    watch(table, "/a", RECURSIVE, "r")
    assert table.discard_persistent("/a", RECURSIVE, "r") == [(ADD_WATCH, ("/a", 0)), (REMOVE_WATCHES, ("/a", 5))]
    assert table.bared == 0


# --- removing by kind


@pytest.fixture
def full() -> WatchTable:
    table = WatchTable()
    table.register("data", "/a", "data", 5)
    table.register("child", "/a", "child", 5)
    table.register("exist", "/b", "exist", 5)
    return table


@pytest.mark.parametrize(
    ("kind", "events"),
    [
        (WatcherType.DATA, [("DATA_WATCH_REMOVED", ["data"])]),
        (WatcherType.CHILDREN, [("CHILD_WATCH_REMOVED", ["child"])]),
        (WatcherType.ANY, [("DATA_WATCH_REMOVED", ["data"]), ("CHILD_WATCH_REMOVED", ["child"])]),
        (WatcherType.PERSISTENT, []),
        (WatcherType.PERSISTENT_RECURSIVE, []),
    ],
)
def test_one_shot_watches_are_removed_by_kind(
    full: WatchTable, kind: WatcherType, events: list[tuple[str, list[str]]]
) -> None:
    found, commands = full.remove("/a", kind)
    assert [(event, list(watchers)) for event, watchers in found] == events
    assert commands == ([(REMOVE_WATCHES, ("/a", int(kind)))] if events else [])
    assert full.remove("/a", kind) == ([], [])


def test_exist_watches_are_data_watches(full: WatchTable) -> None:
    found, _ = full.remove("/b", WatcherType.DATA)
    assert [(event, list(watchers)) for event, watchers in found] == [("DATA_WATCH_REMOVED", ["exist"])]


@pytest.mark.parametrize("kind", [WatcherType.DATA, WatcherType.CHILDREN])
def test_what_a_persistent_watch_serves_is_not_removed_at_the_server(full: WatchTable, kind: WatcherType) -> None:
    """Up to 3.8 that would take half of the persistent watch away."""
    watch(full, "/a", PERSISTENT, "p")
    found, commands = full.remove("/a", kind)
    assert found != []
    assert commands == []


@pytest.mark.parametrize("kind", [WatcherType.PERSISTENT, WatcherType.ANY])
def test_all_registrations_of_a_watcher_go(kind: WatcherType) -> None:
    table = WatchTable()
    for _ in range(3):
        watch(table, "/a", PERSISTENT)
    found, commands = table.remove("/a", kind)
    assert [(event, list(watchers)) for event, watchers in found] == [("PERSISTENT_WATCH_REMOVED", ["w"])]
    assert commands == [(REMOVE_WATCHES, ("/a", 3))]
    assert len(table) == 0


def test_everything_goes_by_one_removal() -> None:
    table = WatchTable()
    table.register("data", "/a", "d", 5)
    watch(table, "/a", PERSISTENT, "p")
    watch(table, "/a", RECURSIVE, "r")
    found, commands = table.remove("/a", WatcherType.ANY)
    assert [event for event, _ in found] == ["DATA_WATCH_REMOVED"] + ["PERSISTENT_WATCH_REMOVED"] * 2
    assert commands == [(REMOVE_WATCHES, ("/a", 3))]


# --- looking back


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        (WatcherType.ANY, [(EXISTS, ("/a", True)), (GET_CHILDREN2, ("/a", True))]),
        (WatcherType.DATA, [(EXISTS, ("/a", True))]),
        (WatcherType.CHILDREN, [(GET_CHILDREN2, ("/a", True))]),
    ],
)
def test_what_was_stripped_is_registered_again(
    full: WatchTable, kind: WatcherType, commands: list[tuple[Operation, tuple[str, bool]]]
) -> None:
    assert full.look_back("/a", kind) == commands


def test_where_a_persistent_watch_serves_nothing_is_registered_again(full: WatchTable) -> None:
    full.add_persistent("/a", PERSISTENT, "p")
    assert full.look_back("/a", WatcherType.ANY) == [(EXISTS, ("/a", False))]


def test_there_is_nothing_to_look_back_for_without_one_shot_watches(full: WatchTable) -> None:
    assert full.look_back("/c", WatcherType.ANY) == []
    full.add_persistent("/c", PERSISTENT, "p")
    assert full.look_back("/c", WatcherType.ANY) == []


def test_only_those_are_told_whose_read_has_not_seen_it() -> None:
    table = WatchTable()
    table.register("data", "/a", "old", 5)
    table.register("data", "/a", "new", 9)
    table.register("child", "/a", "old", 5)
    assert table.missed("/a", stat(mzxid=5, pzxid=5)) == []
    assert [(event, list(who)) for event, who in table.missed("/a", stat(mzxid=9, pzxid=6))] == [
        ("CHANGED", ["old"]),
        ("CHILD", ["old"]),
    ]
    assert told(table.fire(EventType.CHANGED, "/a", 10)) == [("CHANGED", "/a", ["new"])]


def test_a_watcher_given_to_two_reads_counts_by_the_older() -> None:
    table = WatchTable()
    for zxid in (5, 9, 7):
        table.register("data", "/a", "w", zxid)
    assert table.missed("/a", stat(mzxid=6)) == [("CHANGED", {"w": 5})]


def test_a_znode_that_is_gone_concerns_data_and_children_once(full: WatchTable) -> None:
    full.register("child", "/a", "data", 5)
    assert [(event, list(who)) for event, who in full.missed("/a", None)] == [("DELETED", ["data", "child"])]
    assert full.missed("/b", None) == []
    assert full.look_back("/a", WatcherType.ANY) == []
    assert full.restore(7) == [(SET_WATCHES, (7, [], ["/b"], []))]


def test_a_znode_that_has_appeared(full: WatchTable) -> None:
    assert [(event, list(who)) for event, who in full.missed("/b", stat(mzxid=1))] == [("CREATED", ["exist"])]


# --- restoring


def test_nothing_is_restored_where_nothing_is_registered() -> None:
    assert WatchTable().restore(7) == []


def test_one_shot_watches_alone_need_the_old_request(full: WatchTable) -> None:
    assert full.restore(7) == [(SET_WATCHES, (7, ["/a"], ["/b"], ["/a"]))]


def test_persistent_watches_need_the_new_one(full: WatchTable) -> None:
    watch(full, "/a", PERSISTENT, "p")
    watch(full, "/c", RECURSIVE, "r")
    assert full.restore(7) == [(SET_WATCHES2, (7, ["/a"], ["/b"], ["/a"], ["/a"], ["/c"]))]


def test_a_path_with_both_is_restored_as_recursive() -> None:
    table = WatchTable()
    watch(table, "/a", PERSISTENT, "p")
    watch(table, "/a", RECURSIVE, "r")
    assert table.restore(7) == [(SET_WATCHES2, (7, [], [], [], [], ["/a"]))]
    # The new connection has it from the answer on, and no event comes before that.
    assert told(table.fire(EventType.CREATED, "/a/b", -1))[1] == ("CHILD", "/a", ["p"])


def test_many_are_restored_in_batches_that_look_at_the_same_zxid() -> None:
    table = WatchTable()
    paths = [f"/{index:04d}" + "x" * 995 for index in range(300)]
    for index, path in enumerate(paths):
        table.register(("data", "exist", "child")[index % 3], path, "w", 5)
    watch(table, "/p", PERSISTENT)
    commands = table.restore(7)
    assert len(commands) == 3
    assert {fields[0] for _, fields in commands} == {7}
    assert {operation for operation, _ in commands} == {SET_WATCHES2}
    batches = [[path for paths_of_kind in fields[1:] for path in paths_of_kind] for _, fields in commands]
    assert all(sum(map(len, batch)) <= BATCH_CHARACTERS for batch in batches)
    restored = [path for batch in batches for path in batch]
    assert sorted(restored) == sorted([*paths, "/p"])


def test_a_path_longer_than_a_batch_has_one_of_its_own() -> None:
    table = WatchTable()
    for name in ("a", "b"):
        table.register("data", "/" + name * (BATCH_CHARACTERS + 5), "w", 5)
    table.register("data", "/c", "w", 5)
    assert [[len(path) for path in fields[1]] for _, fields in table.restore(7)] == [
        [BATCH_CHARACTERS + 6],
        [BATCH_CHARACTERS + 6],
        [2],
    ]


def test_a_new_connection_reports_what_was_restored_on_it_and_nothing_else() -> None:
    """A recursive watch that was given up without a connection is not there any more, one that was added is."""
    table = WatchTable()
    watch(table, "/a", RECURSIVE, "r")
    watch(table, "/a", PERSISTENT, "p")
    table.discard_persistent("/a", RECURSIVE, "r")
    table.add_persistent("/b", RECURSIVE, "r")
    table.add_persistent("/b", PERSISTENT, "p")
    table.restore(7)
    assert table.fire(EventType.CREATED, "/a/x", -1) == []
    assert told(table.fire(EventType.CREATED, "/b/x", -1)) == [("CREATED", "/b/x", ["r"]), ("CHILD", "/b", ["p"])]


# --- the end of the session


def test_only_what_survives_stays() -> None:
    table = WatchTable()
    table.register("data", "/a", "w", 5)
    table.register("child", "/a", "w", 5)
    watch(table, "/a", PERSISTENT, "callback")
    watch(table, "/a", PERSISTENT, "stream")
    watch(table, "/b", RECURSIVE, "callback")
    ended = table.end_session("stream".__eq__)
    assert [(path, list(watchers)) for path, watchers in ended] == [("/a", ["w", "callback"]), ("/b", ["callback"])]
    assert len(table) == 1
    assert table.restore(0) == [(SET_WATCHES2, (0, [], [], [], ["/a"], []))]
    assert not table.covered("/b")


def test_nothing_is_derived_any_more_after_it() -> None:
    table = WatchTable()
    watch(table, "/a", RECURSIVE, "r")
    table.end_session("none".__eq__)
    table.register("child", "/a", "c", 5)
    assert table.fire(EventType.CREATED, "/a/b", -1) == []
