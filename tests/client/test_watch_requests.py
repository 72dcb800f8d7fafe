"""What the session asks a server about watches: removals that harm nobody, and the look back where a path was bare.

Each test is one of the races that the machine of `test_watches_in_flight` has found; most are about servers up to 3.8.
"""

from __future__ import annotations

import pytest

from terzetto.client import AddWatchMode, EventType, WatcherType
from terzetto.client.wire import Opcode
from terzetto.client.wire.operations import EXISTS, GET_CHILDREN, GET_CHILDREN2, GET_DATA

from .server_link import Code, Fault, every, nth
from .session_pair import SessionPair, Watcher
from .watch_tables import Release

PERSISTENT, RECURSIVE = AddWatchMode.PERSISTENT, AddWatchMode.PERSISTENT_RECURSIVE


@pytest.fixture(params=Release)
def pair(request: pytest.FixtureRequest) -> SessionPair:
    pair = SessionPair(release=request.param)
    pair.realm.create("/a")
    pair.connect()
    return pair


def opcodes(pair: SessionPair) -> list[int]:
    assert pair.server is not None
    return [request.opcode for request in pair.server.received]


def stop(pair: SessionPair) -> None:
    """The server goes on receiving, and works on nothing."""
    assert pair.server is not None
    pair.server.paused = True


def test_a_read_behind_a_persistent_watch_asks_for_no_watch(pair: SessionPair) -> None:
    """Up to 3.8 it would end the persistent watch."""
    stream, watcher = Watcher("stream"), Watcher("one")
    pair.add_watch("/a", PERSISTENT, stream)
    pair.read(GET_DATA, "data", "/a", watcher)
    assert pair.server is not None
    assert pair.server.received[-1].record.watch is False
    for _ in range(2):
        pair.realm.set("/a")
    pair.pump()
    assert stream.told == [("CHANGED", "/a")] * 2
    assert watcher.told == [("CHANGED", "/a")]


@pytest.mark.parametrize("kind", ["data", "exist", "child"])
def test_a_one_shot_watch_outlives_the_persistent_one_that_served_it(pair: SessionPair, kind: str) -> None:
    operation = {"data": GET_DATA, "exist": EXISTS, "child": GET_CHILDREN}[kind]
    path = "/b" if kind == "exist" else "/a"
    stream, watcher = Watcher("stream"), Watcher("one")
    pair.add_watch(path, PERSISTENT, stream)
    pair.read(operation, kind, path, watcher)
    pair.session.unwatch(path, PERSISTENT, stream)
    pair.pump()
    {"data": pair.realm.set, "exist": pair.realm.create, "child": pair.realm.delete}[kind](path)
    pair.pump()
    event = {"data": EventType.CHANGED, "exist": EventType.CREATED, "child": EventType.DELETED}[kind]
    assert watcher.told == [(event, path)]
    assert stream.events == []


def test_what_changed_while_the_path_was_bare_is_told(pair: SessionPair) -> None:
    stream, watcher, children = Watcher("stream"), Watcher("one"), Watcher("children")
    pair.add_watch("/a", PERSISTENT, stream)
    pair.read(GET_DATA, "data", "/a", watcher)
    pair.read(GET_CHILDREN, "child", "/a", children)
    pair.session.unwatch("/a", PERSISTENT, stream)
    pair.send()
    # The server has taken the watch off, and the client does not know it yet.
    pair.realm.set("/a")
    pair.realm.create("/a/b")
    pair.pump()
    assert watcher.told == [("CHANGED", "/a")]
    assert children.told == [("CHILD", "/a")]


def test_a_znode_that_went_meanwhile_is_told_as_deleted(pair: SessionPair) -> None:
    stream, watcher = Watcher("stream"), Watcher("one")
    pair.add_watch("/a", PERSISTENT, stream)
    pair.read(GET_CHILDREN2, "child", "/a", watcher)
    pair.read(GET_DATA, "data", "/a", watcher)
    pair.session.unwatch("/a", PERSISTENT, stream)
    pair.send()
    pair.realm.delete("/a")
    pair.pump()
    assert watcher.told == [("DELETED", "/a")]


def test_a_read_under_way_is_not_stripped_by_a_removal(pair: SessionPair) -> None:
    """A registration that is cancelled at once takes everything off the path, also what a read has just set."""
    watcher = Watcher("one")
    pair.submit_read(GET_DATA, "data", "/a", watcher)
    request, take_back = pair.add_watch("/a", PERSISTENT, Watcher("stream"))
    pair.session.withdraw(request)
    take_back()
    pair.pump()
    pair.realm.set("/a")
    pair.pump()
    assert watcher.told == [("CHANGED", "/a")]


def test_a_read_under_way_is_not_stripped_by_remove_watches(pair: SessionPair) -> None:
    old, new = Watcher("old"), Watcher("new")
    pair.read(GET_DATA, "data", "/a", old)
    pair.submit_read(GET_DATA, "data", "/a", new)
    found, _, effects = pair.session.unwatch_all("/a", WatcherType.DATA)
    pair.apply(effects)
    assert found
    pair.pump()
    pair.realm.set("/a")
    pair.pump()
    assert old.told == [("DATA_WATCH_REMOVED", "/a")]
    assert new.told == [("CHANGED", "/a")]


def test_a_read_that_counted_on_a_persistent_watch_which_has_gone(pair: SessionPair) -> None:
    """Queued without a connection, so that nothing tells the server of the removal."""
    stream, watcher = Watcher("stream", survives_session=True), Watcher("one")
    pair.add_watch("/a", PERSISTENT, stream)
    pair.pump()
    pair.cut()
    pair.submit_read(GET_DATA, "data", "/a", watcher)
    pair.session.unwatch("/a", PERSISTENT, stream)
    pair.connect()
    pair.realm.set("/a")
    pair.pump()
    assert watcher.told == [("CHANGED", "/a")]


def test_a_new_persistent_watch_right_behind_the_removal_hides_no_change(pair: SessionPair) -> None:
    first, second, watcher = Watcher("first"), Watcher("second"), Watcher("one")
    pair.add_watch("/a", PERSISTENT, first)
    pair.read(GET_DATA, "data", "/a", watcher)
    pair.session.unwatch("/a", PERSISTENT, first)
    pair.send()
    pair.realm.set("/a")
    pair.add_watch("/a", PERSISTENT, second)
    pair.pump()
    assert watcher.told == [("CHANGED", "/a")]
    # It was registered later, and the look back is nobody's business but the one-shot watches'.
    assert second.events == []
    pair.realm.set("/a")
    pair.pump()
    assert second.told == [("CHANGED", "/a")]


def test_the_look_back_tells_no_stream_twice(pair: SessionPair) -> None:
    above, stream, watcher = Watcher("above"), Watcher("stream"), Watcher("one")
    pair.add_watch("/", RECURSIVE, above)
    pair.add_watch("/a", PERSISTENT, stream)
    pair.read(GET_DATA, "data", "/a", watcher)
    pair.session.unwatch("/a", PERSISTENT, stream)
    pair.send()
    pair.realm.set("/a")
    pair.pump()
    assert above.told == [("CHANGED", "/a")]
    assert watcher.told == [("CHANGED", "/a")]


def test_a_watch_is_not_told_of_what_its_own_read_has_seen(pair: SessionPair) -> None:
    stream, old, new = Watcher("stream"), Watcher("old"), Watcher("new")
    pair.add_watch("/a", PERSISTENT, stream)
    pair.read(GET_DATA, "data", "/a", old)
    pair.session.unwatch("/a", PERSISTENT, stream)
    pair.send()
    pair.realm.set("/a")
    pair.submit_read(GET_DATA, "data", "/a", new)
    pair.pump()
    assert old.told == [("CHANGED", "/a")]
    assert new.events == []
    pair.realm.set("/a")
    pair.pump()
    assert new.told == [("CHANGED", "/a")]


def test_a_look_back_that_is_lost_with_the_link_is_made_good_by_the_next(pair: SessionPair) -> None:
    """Answers that came before the loss have moved the zxid past the change."""
    stream, watcher = Watcher("stream"), Watcher("one")
    pair.add_watch("/a", PERSISTENT, stream)
    pair.read(GET_DATA, "data", "/a", watcher)
    pair.session.unwatch("/a", PERSISTENT, stream)
    pair.send()
    pair.realm.set("/a")
    pair.rules.append(nth(2, Opcode.EXISTS, Fault.CUT))
    pair.submit(EXISTS, "/", False)
    pair.send()
    pair.receive()
    assert pair.session.last_zxid == pair.realm.zxid
    pair.pump()
    assert pair.session.state == "SUSPENDED"
    assert watcher.events == []
    pair.connect()
    assert watcher.told == [("CHANGED", "/a")]


@pytest.mark.parametrize("again", [False, True])
def test_a_refused_registration_is_taken_back_at_once(pair: SessionPair, again: bool) -> None:
    """So that a read which counted on it looks for itself, though its caller has not had time to give up."""
    pair.rules.append(every(Opcode.ADD_WATCH, Code(-5)))
    watcher, stream = Watcher("one"), Watcher("stream")
    request, take_back = pair.add_watch("/a", PERSISTENT, stream)
    pair.submit_read(GET_DATA, "data", "/a", watcher)
    pair.pump()
    assert request.error is not None
    assert not pair.session.watches.covered("/a")
    if again:
        take_back()
        pair.pump()
    pair.realm.set("/a")
    pair.pump()
    assert watcher.told == [("CHANGED", "/a")]
    assert stream.events == []


def test_taking_back_one_registration_leaves_the_same_watcher_its_other_one(pair: SessionPair) -> None:
    watcher = Watcher()
    pair.add_watch("/a", PERSISTENT, watcher)
    _, take_back = pair.add_watch("/a", PERSISTENT, watcher)
    pair.pump()
    take_back()
    take_back()
    pair.pump()
    pair.realm.set("/a")
    pair.pump()
    assert watcher.told == [("CHANGED", "/a")]


def test_the_change_of_children_is_told_once_while_a_recursive_watch_is_on_its_way(pair: SessionPair) -> None:
    """The server reports it itself until it has the recursive watch, and no more from then on."""
    above, plain = Watcher("above"), Watcher("plain")
    pair.add_watch("/", RECURSIVE, above)
    pair.add_watch("/a", PERSISTENT, plain)
    pair.pump()
    stop(pair)
    pair.add_watch("/a", RECURSIVE, Watcher("recursive"))
    pair.send()
    pair.realm.create("/a/b")
    pair.pump()
    assert plain.told == [("CHILD", "/a")]
    assert pair.server is not None
    pair.server.resume()
    pair.pump()
    pair.realm.create("/a/c")
    pair.pump()
    assert plain.told == [("CHILD", "/a")] * 2


def test_the_change_of_children_is_not_missed_while_a_recursive_watch_leaves(pair: SessionPair) -> None:
    recursive, children = Watcher("recursive"), Watcher("children")
    pair.submit_read(GET_CHILDREN, "child", "/a", children)
    pair.add_watch("/a", RECURSIVE, recursive)
    pair.pump()
    pair.realm.create("/a/b")
    # Its event is on the way when the recursive watch is given up.
    pair.session.unwatch("/a", RECURSIVE, recursive)
    pair.pump()
    assert children.told == [("CHILD", "/a")]
    assert recursive.events == []


def test_a_recursive_watch_gives_way_without_a_change_told_twice_or_missed(pair: SessionPair) -> None:
    above, plain, recursive = Watcher("above"), Watcher("plain"), Watcher("recursive")
    pair.add_watch("/", RECURSIVE, above)
    pair.add_watch("/a", PERSISTENT, plain)
    pair.add_watch("/a", RECURSIVE, recursive)
    pair.pump()
    stop(pair)
    pair.session.unwatch("/a", RECURSIVE, recursive)
    pair.send()
    pair.realm.create("/a/b")
    pair.pump()
    assert plain.told == [("CHILD", "/a")]
    assert pair.server is not None
    pair.server.resume()
    pair.pump()
    pair.realm.create("/a/c")
    pair.pump()
    assert plain.told == [("CHILD", "/a")] * 2
    assert recursive.events == []


def test_a_stream_goes_on_seeing_changes_of_children_in_the_next_session(pair: SessionPair) -> None:
    plain, recursive = Watcher("plain", survives_session=True), Watcher("recursive", survives_session=True)
    pair.add_watch("/a", PERSISTENT, plain)
    pair.add_watch("/a", RECURSIVE, recursive)
    pair.pump()
    pair.realm.end_session(pair.session.session_id)
    pair.pump()
    pair.connect()
    pair.connect()
    pair.realm.create("/a/b")
    pair.pump()
    assert plain.told == [("CHILD", "/a")]
    assert recursive.told == [("CREATED", "/a/b")]


def test_an_ordinary_read_is_followed_by_nothing(pair: SessionPair) -> None:
    request, take_back = pair.add_watch("/b", PERSISTENT, Watcher())
    pair.pump()
    assert request.done
    take_back()
    pair.pump()
    for path in ("/a", "/b"):
        pair.read(EXISTS, "exist", path, Watcher())
    pair.pump()
    assert opcodes(pair) == [Opcode.ADD_WATCH, Opcode.REMOVE_WATCHES, Opcode.EXISTS, Opcode.EXISTS]


def test_a_removal_has_a_request_that_can_be_waited_for(pair: SessionPair) -> None:
    pair.read(GET_DATA, "data", "/a", Watcher())
    found, requests, effects = pair.session.unwatch_all("/a", WatcherType.ANY)
    pair.apply(effects)
    assert found
    assert [request.operation.opcode for request in requests] == [Opcode.REMOVE_WATCHES]
    pair.pump()
    assert requests[0].done


@pytest.mark.parametrize("lost", [False, True])
def test_a_look_back_that_is_over_does_not_hold_the_next_reconnect_back(pair: SessionPair, lost: bool) -> None:
    stream, watcher = Watcher("stream"), Watcher("one")
    pair.add_watch("/a", PERSISTENT, stream)
    pair.read(GET_DATA, "data", "/a", watcher)
    if lost:
        pair.rules.append(nth(1, Opcode.EXISTS, Fault.CUT))
    pair.session.unwatch("/a", PERSISTENT, stream)
    pair.pump()
    if lost:
        pair.connect()
    pair.realm.set("/")
    pair.call(EXISTS, "/", False)
    seen = pair.session.last_zxid
    assert seen == pair.realm.zxid
    pair.cut()
    server = pair.connect()
    assert [request.record.relative_zxid for request in server.received] == [seen]


def test_without_a_connection_nobody_is_asked(pair: SessionPair) -> None:
    watcher = Watcher(survives_session=True)
    pair.add_watch("/a", PERSISTENT, watcher)
    pair.pump()
    pair.cut()
    pair.session.unwatch("/a", PERSISTENT, watcher)
    found, requests, _ = pair.session.unwatch_all("/a", WatcherType.ANY)
    assert (found, requests) == (False, [])
    assert pair.connect().received == []
