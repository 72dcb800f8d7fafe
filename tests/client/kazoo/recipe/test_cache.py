"""kazoo's cache of a tree: what it holds, whom it tells, and on which thread."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
from kazoo.recipe import cache as theirs

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError, KazooException
from terzetto.client.kazoo.protocol import connection
from terzetto.client.kazoo.recipe.cache import NodeData, TreeCache, TreeEvent

from ..conftest import Connect

BOUND = 10.0


class Told:
    """What a cache has told, in order."""

    def __init__(self, cache: TreeCache) -> None:
        self.events: queue.Queue[TreeEvent] = queue.Queue()
        self.threads: set[threading.Thread] = set()
        cache.listen(self)

    def __call__(self, event: TreeEvent) -> None:
        self.threads.add(threading.current_thread())
        self.events.put(event)

    def next(self) -> tuple[int, str | None]:
        event = self.events.get(timeout=BOUND)
        return event.event_type, None if event.event_data is None else event.event_data.path

    def until(self, event_type: int) -> None:
        while self.next()[0] != event_type:
            pass


def test_a_tree_is_told_and_held(client: KazooClient) -> None:
    client.create("/tree/a", b"1", makepath=True)
    cache = TreeCache(client, "/tree")
    told = Told(cache)
    assert cache.get_data("/tree/a") is None
    cache.start()
    try:
        assert told.next() == (TreeEvent.NODE_ADDED, "/tree")
        assert told.next() == (TreeEvent.NODE_ADDED, "/tree/a")
        assert told.next() == (TreeEvent.INITIALIZED, None)
        client.set("/tree/a", b"2")
        assert told.next() == (TreeEvent.NODE_UPDATED, "/tree/a")
        node = cache.get_data("/tree/a")
        assert isinstance(node, NodeData)
        assert (node.path, node.data, node.stat.version) == ("/tree/a", b"2", 1)
        assert cache.get_children("/tree") == frozenset({"a"})
        assert cache.get_children("/tree/none", "x") == cache.get_data("/tree/none", "x") == "x"
        client.create("/tree/a/b", b"")
        client.delete("/tree/a", recursive=True)
        assert [told.next() for _ in range(3)] == [
            (TreeEvent.NODE_ADDED, "/tree/a/b"),
            (TreeEvent.NODE_REMOVED, "/tree/a/b"),
            (TreeEvent.NODE_REMOVED, "/tree/a"),
        ]
        assert {thread.name for thread in told.threads} == {"terzetto-kazoo-callbacks"}
    finally:
        cache.close()


def test_paths_outside_are_refused(client: KazooClient) -> None:
    cache = TreeCache(client, "/tc")
    for ask in (cache.get_data, cache.get_children):
        for outside in ("/tcx", "/", "/other"):
            with pytest.raises(ValueError, match="not in the tree"):
                ask(outside)
        assert ask("/tc") is None


def test_it_lives_once(client: KazooClient) -> None:
    cache = TreeCache(client, "/once")
    cache.start()
    with pytest.raises(KazooException, match="once"):
        cache.start()
    cache.close()
    cache.close()
    with pytest.raises(KazooException, match="once"):
        cache.start()
    assert cache.get_data("/once") is None
    with pytest.raises(ConnectionClosedError):
        TreeCache(KazooClient(), "/a").start()


def test_losses_are_told_and_nothing_is_missed(client: KazooClient, connect: Connect) -> None:
    other = connect()
    cache = TreeCache(client, "/tree")
    told = Told(cache)
    cache.start()
    try:
        told.until(TreeEvent.INITIALIZED)
        for sentinel, lost in (
            (connection._CONNECTION_DROP, TreeEvent.CONNECTION_SUSPENDED),
            (connection._SESSION_EXPIRED, TreeEvent.CONNECTION_LOST),
        ):
            client._call(sentinel, None)
            told.until(lost)
            other.create("/tree/made", b"")
            seen = {told.next(), told.next()}
            assert seen == {(TreeEvent.CONNECTION_RECONNECTED, None), (TreeEvent.NODE_ADDED, "/tree/made")}
            other.delete("/tree/made")
            assert told.next() == (TreeEvent.NODE_REMOVED, "/tree/made")
    finally:
        cache.close()


def test_nothing_is_told_behind_its_end_and_it_may_end_in_a_listener(client: KazooClient) -> None:
    cache = TreeCache(client, "/tree")
    ended, told = threading.Event(), Told(cache)

    def end(event: TreeEvent) -> None:
        if event.event_type == TreeEvent.INITIALIZED:
            cache.close()
            ended.set()

    cache.listen(end)
    cache.start()
    assert ended.wait(BOUND)
    client.create("/tree/late", b"")
    marker = threading.Event()
    client.exists("/marker", watch=lambda _: marker.set())
    client.create("/marker")
    assert marker.wait(BOUND)  # the worker has come past whatever the cache had told
    assert [told.next()[0] for _ in range(told.events.qsize())] == [TreeEvent.NODE_ADDED, TreeEvent.INITIALIZED]
    assert client._data_watchers.keys() == set()


def test_what_is_told_before_start_returns_is_heard(client: KazooClient) -> None:
    heard = threading.Event()

    class Overtaken(TreeCache):
        """Whose tree is complete before `start` goes on."""

        def _spawn(self) -> None:
            super()._spawn()
            assert heard.wait(BOUND)

    def hear(event: TreeEvent) -> None:
        if event.event_type == TreeEvent.INITIALIZED:
            heard.set()

    cache = Overtaken(client, "/tree")
    cache.listen(hear)
    cache.start()
    cache.close()


def test_faults_are_told(client: KazooClient, caplog: pytest.LogCaptureFixture) -> None:
    cache, faults = TreeCache(client, "/tree"), queue.Queue[Exception]()
    told = Told(cache)

    @cache.listen
    def fail(event: TreeEvent) -> None:
        raise LookupError(event.event_type)

    assert cache.listen_fault(faults.put) == faults.put
    cache.start()
    told.until(TreeEvent.INITIALIZED)
    assert [type(faults.get(timeout=BOUND)) for _ in range(2)] == [LookupError, LookupError]
    cache.close()
    # Without anybody to tell, it is logged.
    silent = TreeCache(client, "/tree")
    silent.listen(fail)
    told = Told(silent)
    silent.start()
    told.until(TreeEvent.INITIALIZED)
    assert "a listener of the cache of /tree raised" in caplog.text
    silent.close()


def test_it_goes_on_when_the_client_is_started_again(client: KazooClient, connect: Connect) -> None:
    cache = TreeCache(client, "/tree")
    told = Told(cache)
    cache.start()
    told.until(TreeEvent.INITIALIZED)
    client.stop()
    told.until(TreeEvent.CONNECTION_LOST)
    assert cache.get_data("/tree").data == b""
    connect().create("/tree/meanwhile", b"")
    client.start()
    told.until(TreeEvent.INITIALIZED)
    assert cache.get_children("/tree") == {"meanwhile"}
    cache.close()


def test_constants_are_kazoos() -> None:
    constants: list[tuple[Any, Any]] = [(TreeCache, theirs.TreeCache), (TreeEvent, theirs.TreeEvent)]
    for ours, kazoos in constants:
        names: list[str] = [name for name in dir(kazoos) if name.isupper() and name[0] != "_"]
        assert names
        assert {name: getattr(ours, name) for name in names} == {name: getattr(kazoos, name) for name in names}
    for made in (TreeEvent(0, None), theirs.TreeEvent.make(0, None)):
        assert (made.event_type, made.event_data) == tuple(made) == (0, None)
    stat: Any = None
    for node in (NodeData("/a", b"", stat), theirs.NodeData.make("/a", b"", stat)):
        assert (node.path, node.data, node.stat) == tuple(node) == ("/a", b"", None)
