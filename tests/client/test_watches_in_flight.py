"""Watches while requests, answers and changes are on their way: nothing is missed, a one-shot watch is told once, and
when all is quiet the server watches everything that somebody waits for. Against a server of 3.8 and one of 3.9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from terzetto.client import AddWatchMode, EventType, NoNodeError, WatcherType
from terzetto.client._pending import Request
from terzetto.client.wire import Opcode
from terzetto.client.wire.operations import EXISTS, GET_CHILDREN2, GET_DATA, Operation

from .realm import Realm
from .server_link import Received
from .session_pair import SessionPair, Watcher
from .watch_tables import Mode, Release, upwards

PATHS = ("/a", "/a/b", "/a/b/c", "/e")
PLACES = ("/", *PATHS)
PERSISTENT, RECURSIVE = AddWatchMode.PERSISTENT, AddWatchMode.PERSISTENT_RECURSIVE

paths = st.sampled_from(PATHS)
places = st.sampled_from(PLACES)
modes = st.sampled_from([PERSISTENT, RECURSIVE])
reads = st.sampled_from([(GET_DATA, "data"), (EXISTS, "exist"), (GET_CHILDREN2, "child")])


Event = tuple[str, str]


@dataclass(eq=False)
class Read:
    """One read with a one-shot watch of its own. `zxid`: when it was answered."""

    kind: str
    path: str
    watcher: Watcher
    request: Request
    zxid: int = 0

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
    """One persistent watch.

    `served`: the server has its registration. `before` and `owed`: what happened before and after that, since all was
    quiet; of the former it may be told, where others of us watched it, of the latter it must.
    """

    path: str
    mode: AddWatchMode
    watcher: Watcher
    request: Request
    take_back: Callable[[], None]
    served: bool = False
    before: list[Event] = field(default_factory=list[Event])
    owed: list[Event] = field(default_factory=list[Event])

    def concerns(self, event: str, path: str) -> bool:
        if self.mode is RECURSIVE:
            return event != EventType.CHILD and self.path in upwards(path)
        return self.path == path

    def forget(self) -> None:
        self.before.clear()
        self.owed.clear()
        self.watcher.events.clear()


def is_within(part: list[Event], whole: list[Event]) -> bool:
    """Whether the events are among the others, in their order."""
    rest = iter(whole)
    return all(event in rest for event in part)


class InFlight(RuleBasedStateMachine):
    """Requests wait unsent, unread or unanswered until a rule moves them."""

    release = Release.V38

    def __init__(self) -> None:
        super().__init__()
        self.realm = Realm()
        self.pair = SessionPair(realm=self.realm, release=self.release)
        self.pair.rules.append(self.serve)
        self.pair.connect()
        self.reads: list[Read] = []
        self.streams: list[Stream] = []
        self.count = 0
        self.recent: list[Event] = []  # since all was quiet
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
        self.recent += events
        for stream in self.streams:
            (stream.owed if stream.served else stream.before).extend(
                event for event in events if stream.concerns(*event)
            )

    # What the client does ---------------------------------------------------------------------------------------------

    @rule(read=reads, path=paths)
    def read(self, read: tuple[Operation, str], path: str) -> None:
        operation, kind = read
        watcher = self.watcher()
        request = self.pair.submit_read(operation, kind, path, watcher)
        self.reads.append(Read(kind, path, watcher, request))

    @rule(path=places, mode=modes)
    def watch(self, path: str, mode: AddWatchMode) -> None:
        watcher = self.watcher()
        request, take_back = self.pair.add_watch(path, mode, watcher)
        stream = Stream(path, mode, watcher, request, take_back)
        stream.before += [event for event in self.recent if stream.concerns(*event)]
        self.streams.append(stream)

    def serve(self, received: Received) -> None:
        """Called by the server for each request that it is about to work on."""
        for stream in self.streams:
            if received.opcode == Opcode.ADD_WATCH and received.xid == stream.request.xid:
                stream.served = True

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def unwatch(self, data: st.DataObject) -> None:
        """Also while it is still being registered: the call is cancelled."""
        stream = data.draw(st.sampled_from(self.streams))
        if not stream.request.done:
            self.pair.session.withdraw(stream.request)
        self.end(stream)
        stream.take_back()

    @rule(path=places, kind=st.sampled_from(list(WatcherType)))
    def remove(self, path: str, kind: WatcherType) -> None:
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
                self.end(stream)
                stream.take_back()
        for change, path in changes:
            self.change(change, path)
        if lost_again:
            self.pair.link_up()
            self.pair.send()
            self.pair.receive()
            self.pair.cut()
        self.pair.connect()
        self.recent.clear()
        for stream in self.streams:
            # Nothing is owed of what was missed, and it may be told what is fired for one-shot watches.
            stream.forget()

    # What must hold ---------------------------------------------------------------------------------------------------

    def end(self, stream: Stream) -> None:
        """It is watched no more. What is under way to it will not come any more; what came was right."""
        self.streams.remove(stream)
        assert is_within(stream.watcher.told, stream.before + stream.owed)

    @rule()
    def settle(self) -> None:
        pair = self.pair
        assert pair.server is not None
        pair.server.resume()
        pair.pump()
        assert pair.server is not None, "the connection was lost"
        self.check_reads()
        for stream in self.streams:
            told, early = stream.watcher.told, len(stream.watcher.told) - len(stream.owed)
            assert early >= 0, stream
            assert told[early:] == stream.owed, stream
            assert is_within(told[:early], stream.before), stream
            stream.forget()
        self.recent.clear()
        self.check_server()

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
                assert changed, read

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


@pytest.mark.slow
@pytest.mark.parametrize("machine", [InFlight, InFlight39])
def test_nothing_is_missed_whatever_is_on_its_way(machine: type[InFlight]) -> None:
    run_state_machine_as_test(machine, settings=SHORT)
