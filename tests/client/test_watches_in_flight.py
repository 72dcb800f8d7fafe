"""Watches while requests, answers and changes are on their way: nothing is missed, a one-shot watch is told once, and
when all is quiet the server watches everything that somebody waits for. Against a server of 3.8 and one of 3.9.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from terzetto.client import AddWatchMode, EventType, NoNodeError, WatcherType
from terzetto.client._pending import Request
from terzetto.client.wire.operations import EXISTS, GET_CHILDREN2, GET_DATA, Operation

from .realm import Realm
from .session_pair import SessionPair, Watcher
from .watch_tables import Mode, Release, upwards

PATHS = ("/a", "/a/b", "/a/b/c", "/e")
PLACES = ("/", *PATHS)
PERSISTENT, RECURSIVE = AddWatchMode.PERSISTENT, AddWatchMode.PERSISTENT_RECURSIVE

paths = st.sampled_from(PATHS)
places = st.sampled_from(PLACES)
modes = st.sampled_from([PERSISTENT, RECURSIVE])
reads = st.sampled_from([(GET_DATA, "data"), (EXISTS, "exist"), (GET_CHILDREN2, "child")])


@dataclass(eq=False)
class Read:
    """One read with a one-shot watch of its own. `zxid`: when it was answered; `stripped`: a removal was under way."""

    kind: str
    path: str
    watcher: Watcher
    request: Request
    zxid: int = 0
    stripped: bool = False

    def __post_init__(self) -> None:
        register = self.request.after
        assert register is not None

        def answered(request: Request, zxid: int) -> None:
            self.zxid = zxid
            register(request, zxid)

        self.request.after = answered

    def seen(self) -> int | None:
        """The zxid that would be another one after a change; `None` where there was no znode."""
        if isinstance(self.request.error, NoNodeError):
            return None
        stat = self.request.value.stat
        zxid: int = stat.pzxid if self.kind == "child" else stat.mzxid
        return zxid

    @property
    def is_registered(self) -> bool:
        error = self.request.error
        return self.request.done and (error is None or (self.kind == "exist" and isinstance(error, NoNodeError)))


@dataclass(eq=False)
class Stream:
    """One persistent watch. `owed`: what it must have been told since it was confirmed, or since the last reconnect."""

    path: str
    mode: AddWatchMode
    watcher: Watcher
    request: Request
    owed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def is_confirmed(self) -> bool:
        return self.request.done and self.request.error is None

    def concerns(self, event: str, path: str) -> bool:
        if self.mode is RECURSIVE:
            return event != EventType.CHILD and self.path in upwards(path)
        return self.path == path


class InFlight(RuleBasedStateMachine):
    """Requests wait unsent, unread or unanswered until a rule moves them."""

    release = Release.V38

    def __init__(self) -> None:
        super().__init__()
        self.realm = Realm()
        self.pair = SessionPair(realm=self.realm, release=self.release)
        self.pair.connect()
        self.reads: list[Read] = []
        self.streams: list[Stream] = []
        self.count = 0
        self.stripping: set[str] = set()  # since all was quiet
        # Every zxid that changed something which a watch of the kind on the path reports.
        self.history: dict[tuple[str, str], list[int]] = {}

    def watcher(self) -> Watcher:
        self.count += 1
        return Watcher(f"w{self.count}", survives_session=True)

    @initialize(existing=st.sets(paths))
    def begin(self, existing: set[str]) -> None:
        for path in sorted(existing):
            self.change("create", path)

    # What others do ---------------------------------------------------------------------------------------------------

    @rule(change=st.sampled_from(["create", "set", "delete"]), path=paths)
    def change(self, change: str, path: str) -> None:
        there, above = path in self.realm.znodes, path.rpartition("/")[0] or "/"
        if change == "create" and not there and above in self.realm.znodes:
            self.realm.create(path)
            events = [(EventType.CREATED, path), (EventType.CHILD, above)]
        elif change == "set" and there:
            self.realm.set(path)
            events = [(EventType.CHANGED, path)]
        elif change == "delete" and there and not self.realm.children(path):
            self.realm.delete(path)
            events = [(EventType.DELETED, path), (EventType.CHILD, above)]
        else:
            return
        self.history.setdefault(("data", path), []).append(self.realm.zxid)
        if len(events) == 2:
            for place in (above, path):
                self.history.setdefault(("child", place), []).append(self.realm.zxid)
        for stream in self.streams:
            if stream.is_confirmed:
                stream.owed += [event for event in events if stream.concerns(*event)]

    # What the client does ---------------------------------------------------------------------------------------------

    @rule(read=reads, path=paths)
    def read(self, read: tuple[Operation, str], path: str) -> None:
        operation, kind = read
        watcher = self.watcher()
        request = self.pair.submit_read(operation, kind, path, watcher)
        self.reads.append(Read(kind, path, watcher, request, stripped=path in self.stripping))

    @rule(path=places, mode=modes)
    def watch(self, path: str, mode: AddWatchMode) -> None:
        watcher = self.watcher()
        operation, fields = self.pair.session.watches.add_persistent(path, mode, watcher)
        request = self.pair.submit(operation, *fields, path=path)
        self.streams.append(Stream(path, mode, watcher, request))

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def unwatch(self, data: st.DataObject) -> None:
        """Also while it is still being registered: the call is cancelled."""
        stream = data.draw(st.sampled_from(self.streams))
        self.end(stream)
        self.strip(stream.path)
        if not stream.request.done:
            self.pair.session.withdraw(stream.request)
        self.pair.session.unwatch(stream.path, stream.mode, stream.watcher)

    @rule(path=places, kind=st.sampled_from(list(WatcherType)))
    def remove(self, path: str, kind: WatcherType) -> None:
        self.strip(path)
        _, _, effects = self.pair.session.unwatch_all(path, kind)
        self.pair.apply(effects)
        for stream in list(self.streams):
            if (EventType.PERSISTENT_WATCH_REMOVED, stream.path) in stream.watcher.told:
                stream.watcher.events.pop()
                self.end(stream)

    # What moves -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.pair.session.queue.has_output)
    @rule(whole=st.booleans())
    def send(self, whole: bool) -> None:
        self.pair.send(limit=100_000 if whole else 1)

    @precondition(lambda self: self.pair.server is not None and not self.pair.server.paused)
    @rule()
    def the_server_stops_working(self) -> None:
        assert self.pair.server is not None
        self.pair.server.paused = True

    @precondition(lambda self: self.pair.server is not None and self.pair.server.paused)
    @rule()
    def the_server_goes_on(self) -> None:
        assert self.pair.server is not None
        self.pair.server.resume()

    @rule()
    def receive(self) -> None:
        self.pair.receive()

    @rule(
        changes=st.lists(st.tuples(st.sampled_from(["create", "set", "delete"]), paths), max_size=4),
        lost_again=st.booleans(),
    )
    def reconnect(self, changes: list[tuple[str, str]], lost_again: bool) -> None:
        self.pair.cut()
        for stream in list(self.streams):
            if not stream.request.done or stream.request.error is not None:
                # The client takes back what it could not register.
                self.end(stream)
                self.strip(stream.path)
                self.pair.session.unwatch(stream.path, stream.mode, stream.watcher)
        for change, path in changes:
            self.change(change, path)
        if lost_again:
            self.pair.link_up()
            self.pair.send()
            self.pair.receive()
            self.pair.cut()
        self.pair.connect()
        for stream in self.streams:
            stream.owed.clear()
            stream.watcher.events.clear()

    # What must hold ---------------------------------------------------------------------------------------------------

    def end(self, stream: Stream) -> None:
        """It is watched no more. What is under way to it may still come or not; what came was right."""
        self.streams.remove(stream)
        told = [event for event in stream.watcher.told if event in stream.owed]
        assert told == stream.owed[: len(told)]

    def strip(self, path: str) -> None:
        self.stripping.add(path)
        for read in self.reads:
            read.stripped = read.stripped or read.path == path

    @rule()
    def settle(self) -> None:
        pair = self.pair
        assert pair.server is not None
        pair.server.resume()
        pair.pump()
        assert pair.server is not None, "the connection was lost"
        self.check_reads()
        for stream in self.streams:
            assert stream.is_confirmed
            told = stream.watcher.told
            assert told[len(told) - len(stream.owed) :] == stream.owed, stream
            stream.owed.clear()
            stream.watcher.events.clear()
        self.check_server()
        self.stripping.clear()

    def teardown(self) -> None:
        self.settle()

    def check_reads(self) -> None:
        for read in self.reads:
            assert len(read.watcher.events) <= 1, read
            if not read.is_registered:
                assert read.watcher.events == [], read
                continue
            told = [event.type for event in read.watcher.events]
            znode = self.realm.znodes.get(read.path)
            now = None if znode is None else znode.pzxid if read.kind == "child" else znode.mzxid
            if now != read.seen():
                assert told, read
            kind = "child" if read.kind == "child" else "data"
            changed = any(zxid > read.zxid for zxid in self.history.get((kind, read.path), ()))
            if told and not told[0].endswith("_REMOVED"):
                # What a removal took along is registered again with a look back, which may see what the read has seen.
                assert changed or read.stripped, read

    def check_server(self) -> None:
        """Everything that somebody waits for is watched at the server."""
        assert self.pair.server is not None
        tables, watches = self.pair.server.watches, self.pair.session.watches
        for path in PLACES:
            data, child = tables.data.modes_of(path), tables.child.modes_of(path)
            recursive = path in watches.persistent[RECURSIVE] and Mode.RECURSIVE in data
            if path in watches.persistent[RECURSIVE]:
                assert recursive
            if path in watches.persistent[PERSISTENT]:
                assert recursive or (Mode.PERSISTENT in data and Mode.PERSISTENT in child)
            if path in watches.oneshot["data"] or path in watches.oneshot["exist"]:
                assert data
            if path in watches.oneshot["child"]:
                assert recursive or child & {Mode.STANDARD, Mode.PERSISTENT}


class InFlight39(InFlight):
    release = Release.V39


SHORT = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    # Explaining a failure takes minutes here.
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("machine", [InFlight, InFlight39])
def test_nothing_is_missed_whatever_is_on_its_way(machine: type[InFlight]) -> None:
    run_state_machine_as_test(machine, settings=SHORT)
