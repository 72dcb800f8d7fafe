"""kazoo's watchers: on which thread, how often, and through lost connections, sessions and restarts."""

# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownArgumentType=false
from __future__ import annotations

import inspect
import logging
import threading
import time
from typing import Any

import kazoo.recipe.watchers as theirs
import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import KazooException, NoNodeError
from terzetto.client.kazoo.protocol.states import WatchedEvent
from terzetto.client.kazoo.recipe import watchers as ours
from terzetto.testcluster import BlockingEnsemble

from ..conftest import Connect

BOUND = 10.0


class Calls:
    """What a watch's function was called with, and on which thread; waited for one by one."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self._items: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, *item: Any) -> None:
        with self._changed:
            self._items.append(item)
            self.threads.append(threading.get_ident())
            self._changed.notify_all()

    def next(self) -> Any:
        with self._changed:
            assert self._changed.wait_for(lambda: self._items, BOUND)
            return self._items.pop(0)

    def until(self, wanted: Any) -> None:
        """Intermediate states may be skipped, or shown."""
        while self.next()[0] != wanted:
            pass

    @property
    def empty(self) -> bool:
        return not self._items


def until_listeners_are(client: KazooClient, count: int) -> None:
    ends = time.monotonic() + BOUND
    while len(client.state_listeners) > count:
        assert time.monotonic() < ends, client.state_listeners
        client.sync("/")


@pytest.mark.parametrize("name", ["DataWatch", "ChildrenWatch", "PatientChildrenWatch"])
def test_signatures_are_kazoos(name: str) -> None:
    mine, other = (inspect.signature(getattr(module, name)).parameters for module in (ours, theirs))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in other.values()]


def test_data_is_shown_now_and_after_each_change(client: KazooClient) -> None:
    calls = Calls()

    @client.DataWatch("/a")
    def watch(data: bytes | None, stat: Any) -> None:
        calls(data, stat)

    assert calls.next() == (None, None)
    assert calls.threads == [threading.get_ident()]
    client.create("/a", b"1")
    data, stat = calls.next()
    assert (data, stat) == client.get("/a")
    assert calls.threads[1] != threading.get_ident()
    client.set("/a", b"2")
    assert calls.next()[0] == b"2"
    client.delete("/a")
    assert calls.next() == (None, None)
    assert callable(watch)


def test_the_event_is_given_to_who_takes_it(client: KazooClient) -> None:
    calls = Calls()

    def watch(data: bytes | None, stat: Any, event: WatchedEvent | None) -> None:
        calls(data, event)
        raise TypeError("inside, which calls nothing a second time")

    client.create("/a", b"1")
    with pytest.raises(TypeError, match="inside"):
        client.DataWatch("/a", watch)
    assert calls.next() == (b"1", None)
    assert calls.empty
    client.set("/a", b"2")
    client.sync("/a")

    def second(data: bytes | None, stat: Any, event: WatchedEvent | None) -> None:
        calls(data, event)

    client.DataWatch("/a", second)
    assert calls.next() == (b"2", None)
    client.set("/a", b"3")
    data, event = calls.next()
    assert (data, event.type, event.path) == (b"3", "CHANGED", "/a")
    assert calls.empty


def test_a_function_stops_its_watch_by_false(client: KazooClient) -> None:
    calls = Calls()
    client.create("/a", b"1")

    def until_two(data: bytes | None, _: Any) -> bool:
        calls(data)
        return data != b"2"

    client.DataWatch("/a", until_two)
    at_once = client.DataWatch("/a", lambda data, stat: False)
    assert at_once._stopped
    calls.until(b"1")
    client.set("/a", b"2")
    calls.until(b"2")
    client.set("/a", b"3")
    client.sync("/a")
    client.restart()
    assert client.get("/a")[0] == b"3"
    assert calls.empty


def test_a_watch_that_has_stopped_is_held_by_nobody(client: KazooClient) -> None:
    calls = Calls()
    client.create("/a")
    client.DataWatch("/a", lambda data, stat: data == b"")
    client.ChildrenWatch("/a", lambda children: not children)
    client.ChildrenWatch("/", calls)
    calls.next()
    client.set("/a", b"1")
    client.create("/a/b")
    until_listeners_are(client, 1)
    client.create("/c")
    assert "c" in calls.next()[0]


@pytest.mark.parametrize("kind", ["DataWatch", "ChildrenWatch"])
def test_a_program_may_stop_a_watch_from_outside(client: KazooClient, kind: str) -> None:
    calls, others = Calls(), Calls()
    client.create("/a")
    stopped = getattr(client, kind)("/a", calls)
    getattr(client, kind)("/a", others)
    calls.next()
    others.next()
    stopped._stopped = True
    client.set("/a", b"1")
    client.create("/a/b")
    others.next()
    until_listeners_are(client, 1)
    assert calls.empty


def test_a_later_error_is_logged_and_the_watch_goes_on(client: KazooClient, caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls()

    def watch(data: bytes | None, _: Any) -> None:
        calls(data)
        if data == b"bad":
            raise ValueError("bad data")

    client.DataWatch("/a", watch)
    calls.until(None)
    with caplog.at_level(logging.ERROR):
        client.create("/a", b"bad")
        calls.until(b"bad")
        client.set("/a", b"good")
        calls.until(b"good")
    assert "bad data" in caplog.text


@pytest.mark.parametrize("how", ["drop", "expire", "restart"])
def test_watches_go_on_through_losses(
    client: KazooClient, ensemble: BlockingEnsemble, connect: Connect, how: str
) -> None:
    data, children = Calls(), Calls()
    client.create("/a", b"1")
    client.DataWatch("/a", lambda value, stat: data(value))
    client.ChildrenWatch("/a", children)
    data.until(b"1")
    children.until([])
    if how == "drop":
        ensemble.drop_connections()
    elif how == "expire":
        assert client.client_id is not None
        ensemble.expire_session(client.client_id[0])
    else:
        client.restart()
    peer = connect()
    peer.retry(peer.set, "/a", b"2")
    data.until(b"2")
    peer.retry(peer.create, "/a/b")
    children.until(["b"])


def test_children_are_shown_with_the_event(client: KazooClient) -> None:
    calls = Calls()
    client.create("/a")
    client.ChildrenWatch("/a", calls, send_event=True)
    assert calls.next() == ([], None)
    client.create("/a/b")
    names, event = calls.next()
    assert (names, event.type) == (["b"], "CHILD")


def test_a_missing_parent_is_waited_for(client: KazooClient) -> None:
    calls = Calls()
    client.ChildrenWatch("/a", calls)
    client.create("/a")
    calls.until([])
    client.create("/a/b")
    calls.until(["b"])
    client.delete("/a", recursive=True)
    client.create("/a/c", makepath=True)
    calls.until(["c"])


def test_a_watch_may_end_with_its_session(client: KazooClient, ensemble: BlockingEnsemble, connect: Connect) -> None:
    ends, stays = Calls(), Calls()
    client.create("/a")
    client.ChildrenWatch("/a", ends, allow_session_lost=False)
    client.ChildrenWatch("/a", stays)
    ends.until([])
    stays.until([])
    assert client.client_id is not None
    ensemble.expire_session(client.client_id[0])
    peer = connect()
    peer.create("/a/b")
    stays.until(["b"])
    assert ends.empty


def test_a_watch_has_one_function(client: KazooClient) -> None:
    watch = client.DataWatch("/a", lambda data, stat: None)
    with pytest.raises(KazooException, match="one function"):
        watch(lambda data, stat: None)
    with pytest.raises(TypeError, match="calls a function"):
        client.ChildrenWatch("/a", 5)  # type: ignore[arg-type]
    with pytest.warns(DeprecationWarning, match="no more arguments"):
        client.DataWatch("/a", None, True)


def test_a_watch_of_a_client_that_is_not_started_begins_with_it(ensemble: BlockingEnsemble) -> None:
    calls = Calls()
    client = KazooClient(ensemble.hosts)
    client.DataWatch("/zookeeper", lambda data, stat: calls(stat is not None))
    assert calls.empty
    with client:
        assert calls.next() == (True,)


def test_children_that_have_settled(client: KazooClient) -> None:
    client.create("/a/b", makepath=True)
    watch = ours.PatientChildrenWatch(client, "/a", time_boundary=0.01)
    children, changed = watch.start().get(timeout=BOUND)
    assert children == ["b"]
    assert not changed.ready()
    client.create("/a/c")
    assert changed.get(timeout=BOUND) > 0
    with pytest.raises(NoNodeError):
        ours.PatientChildrenWatch(client, "/none", 0.01).start().get(timeout=BOUND)
