"""A client's watches by their paths: what is seen, on which side of a chroot, and what taking one off does."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import threading
from typing import Any

import pytest

from terzetto.client.kazoo._watchers import ProgramWatch
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.protocol import connection
from terzetto.client.kazoo.protocol.states import WatchedEvent
from terzetto.testcluster import BlockingEnsemble

from .conftest import Connect

BOUND = 10.0


class Function:
    """A program's watch."""

    def __init__(self) -> None:
        self.events: list[WatchedEvent] = []
        self.called = threading.Event()

    def __call__(self, event: WatchedEvent) -> None:
        self.events.append(event)
        self.called.set()


def settle(client: KazooClient) -> None:
    """Returns when the worker has made every call that came before."""
    passed = threading.Event()
    client.handler.dispatch(passed.set)
    assert passed.wait(BOUND)


def test_watches_stand_by_their_whole_paths(client: KazooClient, connect: Connect, ensemble: BlockingEnsemble) -> None:
    client.create("/c")
    below = connect(hosts=ensemble.hosts + "/c")
    assert len(below._data_watchers) == len(below._child_watchers) == 0
    data, children, missing = Function(), Function(), Function()
    below.create("/a")
    below.get("/a", watch=data)
    below.exists("/none", watch=missing)
    below.get_children("/a", watch=children)
    below.get_children("/a", watch=children)
    assert {path: set(watching) for path, watching in below._data_watchers.items()} == {
        "/c/a": {data},
        "/c/none": {missing},
    }
    assert repr(below._child_watchers) == repr({"/c/a": {children}})
    assert "/c/a" in below._data_watchers
    assert "/a" not in below._data_watchers
    assert list(below._child_watchers["/c/a"]) == [children]
    nobody: object = below._child_watchers["/c/nobody"]
    assert nobody == set()
    assert data in below._data_watchers["/c/a"]
    assert below._data_watchers["/c/a"] | {1} == {data, 1}
    below.delete("/a")
    assert data.called.wait(BOUND)
    assert children.called.wait(BOUND)
    assert list(below._data_watchers) == ["/c/none"]
    assert len(below._child_watchers) == 0
    below.stop()
    assert list(below._data_watchers) == []


def test_one_that_is_taken_off_is_told_nothing(client: KazooClient) -> None:
    client.create("/a")
    kept, gone = Function(), Function()
    for watch in (kept, gone):
        client.get("/a", watch=watch)
    client._data_watchers["/a"].discard(gone)
    client._data_watchers["/a"].discard(print)
    assert set(client._data_watchers["/a"]) == {kept}
    client.set("/a", b"1")
    assert kept.called.wait(BOUND)
    settle(client)
    assert gone.events == []


def test_a_deletion_is_told_for_data_and_for_children(client: KazooClient) -> None:
    client.create("/a")
    watch = Function()
    client.get("/a", watch=watch)
    client.exists("/a", watch=watch)
    client.get_children("/a", watch=watch)
    client.delete("/a")
    client.sync("/a")
    settle(client)
    assert [(event.type, event.path) for event in watch.events] == [("DELETED", "/a")] * 2


def test_a_watch_is_set_by_a_read_only(client: KazooClient) -> None:
    with pytest.raises(TypeError, match="watch="):
        client._data_watchers["/a"].add(print)


def test_native_recipes_leave_none_behind(client: KazooClient) -> None:
    before = threading.Event()
    client.create("/barrier")

    def wait() -> None:
        client.Barrier("/barrier").wait(BOUND)
        before.set()

    threading.Thread(target=wait, daemon=True).start()
    while not client._data_watchers["/barrier"]:
        pass
    client.delete("/barrier")
    assert before.wait(BOUND)
    assert list(client._data_watchers) == []


def test_an_event_has_the_state_in_which_kazoo_tells_it() -> None:
    client, seen = KazooClient(), Function()
    client.handler.start()
    watch = ProgramWatch(client, seen)
    told: list[Any] = [WatchedEvent("CHANGED", "CONNECTING", "/a"), WatchedEvent("CHANGED", "CONNECTED_RO", "/a")]
    for event in told:
        watch(event)
    client.handler.stop()
    assert [event.state for event in seen.events] == ["CONNECTED", "CONNECTED_RO"]
    assert watch == ProgramWatch(client, seen)


def test_the_end_of_a_session_is_told_without_a_path_and_that_of_a_client_is_not(client: KazooClient) -> None:
    watch = Function()
    client.create("/a")
    client.get("/a", watch=watch)
    client._call(connection._SESSION_EXPIRED)
    assert watch.called.wait(BOUND)
    client.retry(client.get, "/a", watch=watch)
    client.stop()
    assert [(event.type, event.state) for event in watch.events] == [("NONE", "EXPIRED_SESSION")]
    assert watch.events[0].path is None


def test_a_watch_that_is_set_again_at_any_event_ends_with_its_client_in_silence(
    client: KazooClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.create("/a")

    def watch(_: WatchedEvent) -> None:
        client.get("/a", watch=watch)

    client.get("/a", watch=watch)
    client.restart()
    client.stop()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
