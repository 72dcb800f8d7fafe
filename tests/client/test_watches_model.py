"""Watches against a server of 3.8 and one of 3.9: whatever was registered, removed, lost and restored in which order,
each watcher is told what ZooKeeper's documentation promises it, and nothing else.

The first machine lets every step finish before the next; the model knows only the promise, so what is told must be
equal to it. The second leaves requests, answers and changes on their way; there it must hold that nothing is missed,
that a one-shot watch is told once, and that in the end the server watches everything that somebody waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from terzetto.client import AddWatchMode, EventType, WatcherType
from terzetto.client.wire import Opcode, records as r
from terzetto.client.wire.multi import MultiOp
from terzetto.client.wire.operations import EXISTS, GET_CHILDREN, GET_DATA, Operation

from .realm import Realm
from .session_pair import SessionPair, Watcher
from .watch_tables import Release, upwards

PATHS = ("/a", "/a/b", "/a/b/c", "/a/d", "/e")
PLACES = ("/", *PATHS)
PERSISTENT, RECURSIVE = AddWatchMode.PERSISTENT, AddWatchMode.PERSISTENT_RECURSIVE

paths = st.sampled_from(PATHS)
places = st.sampled_from(PLACES)
modes = st.sampled_from([PERSISTENT, RECURSIVE])
reads = st.sampled_from([(GET_DATA, "data"), (EXISTS, "exist"), (GET_CHILDREN, "child")])

Told = list[tuple[str, str]]


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


class Promise:
    """What the watchers of one client are owed, by ZooKeeper's documentation."""

    def __init__(self) -> None:
        self.data: dict[str, set[Watcher]] = {path: set() for path in PLACES}
        self.child: dict[str, set[Watcher]] = {path: set() for path in PLACES}
        self.persistent: dict[AddWatchMode, dict[str, set[Watcher]]] = {
            mode: {path: set() for path in PLACES} for mode in AddWatchMode
        }
        self.owed: dict[Watcher, Told] = {}

    def owe(self, watchers: set[Watcher], event: str, path: str) -> None:
        for watcher in watchers:
            self.owed.setdefault(watcher, []).append((event, path))

    def happened(self, event: str, path: str) -> None:
        """One znode was created, changed or deleted, on a live connection."""
        self.owe(self._concerned(event, path), event, path)
        self.data[path].clear()
        if event == EventType.DELETED:
            self.child[path].clear()
        if event != EventType.CHANGED:
            above = parent_of(path)
            self.owe(self.child[above] | self.persistent[PERSISTENT][above], EventType.CHILD, above)
            self.child[above].clear()

    def _concerned(self, event: str, path: str) -> set[Watcher]:
        found = self.data[path] | self.persistent[PERSISTENT][path]
        if event == EventType.DELETED:
            found |= self.child[path]
        for above in upwards(path):
            found |= self.persistent[RECURSIVE][above]
        return found


class Settled(RuleBasedStateMachine):
    """Every step is finished before the next begins."""

    release = Release.V38

    def __init__(self) -> None:
        super().__init__()
        self.realm = Realm()
        self.pair = SessionPair(realm=self.realm, release=self.release)
        self.promise = Promise()
        self.watchers = 0
        self.pair.connect()

    def watcher(self) -> Watcher:
        self.watchers += 1
        watcher = Watcher(f"w{self.watchers}", survives_session=True)
        self.promise.owed[watcher] = []
        return watcher

    def do(self, change: str, path: str) -> str | None:
        """One change by somebody else, if it is possible; returns the event that it is."""
        there = path in self.realm.znodes
        if change == "create" and not there and parent_of(path) in self.realm.znodes:
            self.realm.create(path)
            return EventType.CREATED
        if change == "set" and there:
            self.realm.set(path)
            return EventType.CHANGED
        if change == "delete" and there and not self.realm.children(path):
            self.realm.delete(path)
            return EventType.DELETED
        return None

    @initialize(existing=st.sets(paths))
    def begin(self, existing: set[str]) -> None:
        for path in sorted(existing):
            self.do("create", path)

    @rule(change=st.sampled_from(["create", "set", "delete"]), path=paths)
    def change(self, change: str, path: str) -> None:
        event = self.do(change, path)
        self.pair.pump()
        if event is not None:
            self.promise.happened(event, path)

    @rule(changes=st.lists(st.tuples(st.sampled_from(["create", "set", "delete"]), paths), min_size=2, max_size=4))
    def change_together(self, changes: list[tuple[str, str]]) -> None:
        """Several changes in one transaction, so with one zxid."""
        build: dict[str, Callable[[str], MultiOp]] = {
            "create": lambda path: MultiOp(Opcode.CREATE, r.CreateRequest(path, b"", [], 0)),
            "set": lambda path: MultiOp(Opcode.SET_DATA, r.SetDataRequest(path, b"x", -1)),
            "delete": lambda path: MultiOp(Opcode.DELETE, r.DeleteRequest(path, -1)),
        }
        ops = [build[change](path) for change, path in changes]
        results = self.realm.multi(ops, 0)
        self.pair.pump()
        if all(result.type != Opcode.ERROR for result in results):
            events = {"create": EventType.CREATED, "set": EventType.CHANGED, "delete": EventType.DELETED}
            for change, path in changes:
                self.promise.happened(events[change], path)

    @rule(read=reads, path=paths, again=st.booleans())
    def read(self, read: tuple[Operation, str], path: str, again: bool) -> None:
        """`again`: the same watcher is given to two reads, and must be told once of what concerns both."""
        watcher = self.watcher()
        self._read(read, path, watcher)
        if again:
            self._read((GET_CHILDREN, "child"), path, watcher)

    def _read(self, read: tuple[Operation, str], path: str, watcher: Watcher) -> None:
        operation, kind = read
        self.pair.read(operation, kind, path, watcher)
        if path in self.realm.znodes or kind == "exist":
            table = self.promise.child if kind == "child" else self.promise.data
            table[path].add(watcher)

    @rule(path=places, mode=modes)
    def watch(self, path: str, mode: AddWatchMode) -> None:
        watcher = self.watcher()
        self.pair.add_watch(path, mode, watcher)
        self.pair.pump()
        self.promise.persistent[mode][path].add(watcher)

    @rule(path=places, mode=modes, sent=st.booleans())
    def change_ones_mind(self, path: str, mode: AddWatchMode, sent: bool) -> None:
        """A registration is cancelled, before or after it was sent."""
        watcher = self.watcher()
        request, take_back = self.pair.add_watch(path, mode, watcher)
        if sent:
            self.pair.send()
        self.pair.session.withdraw(request)
        take_back()
        self.pair.pump()

    @rule(data=st.data(), path=places, mode=modes)
    def unwatch(self, data: st.DataObject, path: str, mode: AddWatchMode) -> None:
        registered = self.promise.persistent[mode][path]
        if registered:
            watcher = data.draw(st.sampled_from(sorted(registered, key=lambda watcher: watcher.name)))
            self.pair.session.unwatch(path, mode, watcher)
            self.pair.pump()
            registered.discard(watcher)

    @rule(path=places, kind=st.sampled_from(list(WatcherType)))
    def remove(self, path: str, kind: WatcherType) -> None:
        promise = self.promise
        found, _, effects = self.pair.session.unwatch_all(path, kind)
        self.pair.apply(effects)
        self.pair.pump()
        taken: list[tuple[set[Watcher], str]] = []
        if kind in (WatcherType.DATA, WatcherType.ANY):
            taken.append((promise.data[path], EventType.DATA_WATCH_REMOVED))
        if kind in (WatcherType.CHILDREN, WatcherType.ANY):
            taken.append((promise.child[path], EventType.CHILD_WATCH_REMOVED))
        for mode, number in ((PERSISTENT, WatcherType.PERSISTENT), (RECURSIVE, WatcherType.PERSISTENT_RECURSIVE)):
            if kind in (number, WatcherType.ANY):
                taken.append((promise.persistent[mode][path], EventType.PERSISTENT_WATCH_REMOVED))
        assert found == any(watchers for watchers, _ in taken)
        for watchers, event in taken:
            promise.owe(watchers, event, path)
            watchers.clear()

    @rule(changes=st.lists(st.tuples(st.sampled_from(["create", "set", "delete"]), paths), max_size=6))
    def be_away(self, changes: list[tuple[str, str]]) -> None:
        """The connection is lost; some things happen; it is there again."""
        promise, realm = self.promise, self.realm
        before = {path: (znode.mzxid, znode.pzxid) for path, znode in realm.znodes.items()}
        self.pair.cut()
        happened = [(event, path) for change, path in changes if (event := self.do(change, path))]
        self.pair.connect()
        missed: dict[Watcher, list[set[tuple[str, str]]]] = {}
        for path in PLACES:
            for kind, watchers in (("data", promise.data[path]), ("child", promise.child[path])):
                possible = set(happened_to(path, before, realm, kind))
                for watcher in watchers:
                    missed.setdefault(watcher, []).append(possible)
                if possible:
                    watchers.clear()
        for watcher, changes_of in missed.items():
            told = watcher.told[len(promise.owed[watcher]) :]
            assert set(told) <= {event for events in changes_of for event in events}
            assert len(told) == len(set(told))
            assert bool(told) == any(changes_of)
            promise.owed[watcher] += told
        for watcher in (w for table in promise.persistent.values() for watchers in table.values() for w in watchers):
            # Nothing is promised of what was missed. It is told what is fired for the one-shot watches.
            told = watcher.told[len(promise.owed[watcher]) :]
            assert not told or happened
            promise.owed[watcher] += told

    @invariant()
    def everyone_was_told_what_was_promised(self) -> None:
        for watcher, owed in self.promise.owed.items():
            assert watcher.told == owed, watcher


def happened_to(path: str, before: dict[str, tuple[int, int]], realm: Realm, kind: str) -> Iterator[tuple[str, str]]:
    """What a one-shot watch on the path may be told after an absence."""
    znode = realm.znodes.get(path)
    if znode is None:
        if path in before:
            yield EventType.DELETED, path
            if kind == "child" and before[path]:
                yield EventType.CHILD, path
    elif path not in before:
        yield EventType.CREATED, path
    elif kind == "data" and znode.mzxid != before[path][0]:
        yield EventType.CHANGED, path
    elif kind == "child" and znode.pzxid != before[path][1]:
        yield EventType.CHILD, path


class Settled39(Settled):
    release = Release.V39


SHORT = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    # Explaining a failure takes minutes here.
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Settled, Settled39])
def test_everyone_is_told_what_was_promised(machine: type[Settled]) -> None:
    run_state_machine_as_test(machine, settings=SHORT)
