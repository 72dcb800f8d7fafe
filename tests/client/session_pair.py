"""A `Session` wired to a server half without any I/O: bytes go back and forth when the test says so. Time is a number.

Plays the part of the shell (reports what happens, carries out effects) and keeps a log of everything the session said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from terzetto.client import AddWatchMode, KazooException, WatchedEvent
from terzetto.client._effects import Deliver, DropLink, SaslTurn, SessionConfig, StateChanged
from terzetto.client._pending import Request
from terzetto.client._phases import Phase
from terzetto.client._session import Session
from terzetto.client.wire import Operation
from terzetto.client.wire.operations import ADD_WATCH

from .realm import Realm
from .server_link import Rule, ServerLink
from .watch_tables import Release

CHUNK = 128 * 1024


@dataclass(eq=False)
class Watcher:
    """Stands for a callback or a stream; remembers what it was told."""

    name: str = "watcher"
    survives_session: bool = False
    events: list[WatchedEvent] = field(default_factory=list[WatchedEvent])

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.type, event.path) for event in self.events]


@dataclass(eq=False)
class Caller:
    """Waits for a request; the session does not look inside."""

    request: Request


class SessionPair:
    """See the module.

    Attributes:
        now: the session's clock.
        server: the server's half of the present connection.
        log: what the session told its shell, in order: requests that were completed, (event, watchers) deliveries,
            states, errors of dropped links, turns of a SASL mechanism.
    """

    def __init__(
        self, config: SessionConfig | None = None, realm: Realm | None = None, release: Release = Release.V38
    ) -> None:
        self.session = Session(config or SessionConfig())
        self.realm = realm or Realm()
        self.release = release
        self.now = 1000.0
        self.server: ServerLink | None = None
        self.rules: list[Rule] = []
        self.refused_credentials: frozenset[bytes] = frozenset()
        self.log: list[Any] = []
        self.dropped: KazooException | None = None

    # The shell's part -------------------------------------------------------------------------------------------------

    def apply(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, list):
                for request in cast("list[Request]", effect):
                    assert request.waiter is not None, "nobody waits for it"
                    request.waiter = None
                    self.log.append(request)
            elif isinstance(effect, Deliver):
                for watcher in effect.watchers:
                    watcher.events.append(effect.event)
                self.log.append((effect.event, [watcher.name for watcher in effect.watchers]))
            elif isinstance(effect, StateChanged | SaslTurn):
                self.log.append(effect)
            else:
                assert isinstance(effect, DropLink)
                self.dropped = self.dropped or effect.error
                self.log.append(effect.error)

    def submit(self, operation: Operation, *fields: Any, path: str | None = None) -> Request:
        """Queues a request that somebody waits for; `pump` sends it."""
        session = self.session
        xid = session.next_xid()
        request = Request(operation, xid, operation.frame(xid, *fields), path)
        request.waiter = Caller(request)
        session.submit(request)
        return request

    def call(self, operation: Operation, *fields: Any) -> Request:
        """As `submit`, and lets everything happen."""
        request = self.submit(operation, *fields)
        self.pump()
        return request

    def read(self, operation: Operation, kind: str, path: str, watcher: Watcher) -> Request:
        """A read that leaves a one-shot watch, as the client makes it; lets everything happen."""
        request = self.submit_read(operation, kind, path, watcher)
        self.pump()
        return request

    def submit_read(self, operation: Operation, kind: str, path: str, watcher: Watcher) -> Request:
        flag, register = self.session.watch_on_reply(kind, path, watcher)
        xid = self.session.next_xid()
        request = Request(operation, xid, operation.frame(xid, path, flag), path)
        request.after = register
        request.waiter = Caller(request)
        self.session.submit(request)
        return request

    def add_watch(self, path: str, mode: AddWatchMode, watcher: Watcher) -> tuple[Request, Callable[[], None]]:
        """Submits the registration of a persistent watch; the second value takes it back, as the client does."""
        number, answered, take_back = self.session.watch_persistent(path, mode, watcher)
        request = self.submit(ADD_WATCH, path, number, path=path)
        request.after = answered
        return request, take_back

    # The link ---------------------------------------------------------------------------------------------------------

    def connect(self, handshake_timeout: float = 5.0, **options: Any) -> ServerLink:
        """A new connection to a server of the realm; lets everything happen, also that it ends again."""
        server = self.link_up(handshake_timeout, **options)
        self.pump()
        return server

    def link_up(self, handshake_timeout: float = 5.0, **options: Any) -> ServerLink:
        """A new connection, over which nothing has gone yet."""
        self.dropped = None
        self.server = ServerLink(
            self.realm, self.release, rules=self.rules, refused_credentials=self.refused_credentials, **options
        )
        self.session.link_up(self.now, handshake_timeout)
        return self.server

    def send(self, limit: int = CHUNK, take: Callable[[bytes], int] = len) -> int:
        """One round from the client to the server; `take` says how many of the offered bytes leave."""
        data = self.session.queue.take(limit)
        count = take(data)
        self.session.sent_bytes(count, self.now)
        if self.server is not None and not self.server.closed and count:
            self.server.receive(data[:count])
        return count

    def receive(self, size: int | None = None) -> None:
        """What the server has sent, in chunks of `size` bytes."""
        assert self.server is not None
        data = self.server.take()
        size = size or max(len(data), 1)
        for start in range(0, len(data), size):
            self.apply(self.session.receive_data(data[start : start + size], self.now))

    def pump(self, size: int | None = None) -> None:
        """Moves bytes both ways until nothing moves any more; ends the link if either side wants that."""
        while self.server is not None:
            while self.session.queue.has_output and not self.server.closed:
                self.send()
            if self.server.out:
                self.receive(size)
            elif not self.session.queue.has_output or self.server.closed:
                break
        if self.server is not None and (self.dropped is not None or self.server.closed):
            self.cut(self.dropped)

    def cut(self, error: BaseException | None = None) -> None:
        """The connection goes."""
        if self.server is not None:
            self.server.hang_up()
            self.server = None
            self.apply(self.session.link_lost(error, self.now))

    def tick(self) -> None:
        self.apply(self.session.tick(self.now))

    def advance_to_deadline(self) -> float:
        """Time passes until the session wants to be looked at; returns by how much."""
        due = self.session.next_deadline()
        passed = max(due - self.now, 0.0)
        self.now += passed
        return passed

    def is_in(self, phase: Phase) -> bool:
        """A call, because type checkers believe that an attribute which was compared once keeps its value."""
        return self.session.phase is phase

    # What was said ----------------------------------------------------------------------------------------------------

    @property
    def completed(self) -> list[Request]:
        return [entry for entry in self.log if isinstance(entry, Request)]

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(entry.state, entry.keeper_state) for entry in self.log if isinstance(entry, StateChanged)]
