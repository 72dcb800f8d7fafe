"""The session under everything at once: partial sends, chunks, cancellation, lost links, lost sessions, time, the end.

Requests are writes of distinct values and reads, so that the server's history says what happened. Whatever the steps:

- callers learn their outcomes in call order, each exactly once, and after the end nobody waits;
- writes happen in call order, each at most once; one that is said not to have happened has not;
- an answer never shows a change before the event of a watch that was set before it.
"""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import HealthCheck, Phase as Stage, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from terzetto.client import ConnectionLoss, SessionExpiredError, WatchedEvent
from terzetto.client._effects import SessionConfig
from terzetto.client._pending import Request
from terzetto.client._phases import TERMINAL, Phase
from terzetto.client.wire import Opcode
from terzetto.client.wire.operations import AUTH, AUTH_XID, GET_DATA, SET_DATA

from .realm import Realm
from .server_link import Received
from .session_pair import Caller, SessionPair, Watcher
from .watch_tables import Release

PATH = "/a"
TIMEOUT = 12.0


def told_by(entry: object) -> list[str]:
    """Names of the watchers that an entry of the log tells."""
    return cast("tuple[WatchedEvent, list[str]]", entry)[1] if isinstance(entry, tuple) else []


class Sessions(RuleBasedStateMachine):
    """See the module."""

    release = Release.V38
    renew = True

    def __init__(self) -> None:
        super().__init__()
        self.realm = Realm()
        self.realm.create(PATH, b"0")
        config = SessionConfig(session_timeout=TIMEOUT, max_in_flight=4, renew_session=self.renew)
        self.pair = SessionPair(config, self.realm, self.release)
        self.pair.rules.append(self.serve)
        self.submitted: list[Request] = []
        self.values: dict[Request, bytes] = {}
        self.happened: list[bytes] = []
        self.watches: dict[Request, Watcher] = {}
        self.seen = 0

    def serve(self, received: Received) -> None:
        """Called by the server for each request that it works on."""
        if received.opcode == Opcode.SET_DATA:
            self.happened.append(received.record.data)

    @property
    def usable(self) -> bool:
        return not self.pair.session.is_over

    @property
    def linked(self) -> bool:
        return self.pair.server is not None

    # Callers ----------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.usable)
    @rule()
    def write(self) -> None:
        value = str(len(self.submitted)).encode()
        request = self.pair.submit(SET_DATA, PATH, value, -1, path=PATH)
        self.values[request] = value
        self.submitted.append(request)

    @precondition(lambda self: self.usable)
    @rule(watch=st.booleans())
    def read(self, watch: bool) -> None:
        if watch:
            watcher = Watcher(str(len(self.submitted)))
            request = self.pair.submit_read(GET_DATA, "data", PATH, watcher)
            self.watches[request] = watcher
        else:
            request = self.pair.submit(GET_DATA, PATH, False, path=PATH)
        self.submitted.append(request)

    @precondition(lambda self: self.usable)
    @rule()
    def authenticate(self) -> None:
        request = Request(AUTH, AUTH_XID, AUTH.frame(AUTH_XID, 0, "digest", b"user:password"))
        request.waiter = Caller(request)
        request.after = self.pair.session.authenticated("digest", b"user:password")
        self.pair.session.submit(request)
        self.submitted.append(request)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiting = [request for request in self.submitted if request.waiter is not None]
        if waiting:
            self.pair.session.withdraw(data.draw(st.sampled_from(waiting)))

    # The world --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.linked and self.pair.session.phase is Phase.DISCONNECTED)
    @rule(whole=st.booleans())
    def connect(self, whole: bool) -> None:
        if whole:
            self.pair.connect()
        else:
            self.pair.link_up()

    @precondition(lambda self: self.linked and self.pair.session.queue.has_output)
    @rule(limit=st.sampled_from([1, 100_000]), share=st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    def send(self, limit: int, share: float) -> None:
        self.pair.send(limit, lambda data: int(len(data) * share))

    @precondition(lambda self: self.linked)
    @rule(size=st.sampled_from([1, 7, 30, None]))
    def receive(self, size: int | None) -> None:
        self.pair.receive(size)
        self.drop_if_wanted()

    @precondition(lambda self: self.linked)
    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        assert self.pair.server is not None
        self.pair.server.paused = paused
        if not paused:
            self.pair.server.resume()

    @precondition(lambda self: self.linked)
    @rule()
    def cut(self) -> None:
        self.pair.cut(OSError("cut"))

    @rule()
    def expire(self) -> None:
        """The leader ends the session; the client learns it when it connects again."""
        self.realm.end_session(self.pair.session.session_id)

    @rule()
    def others_write(self) -> None:
        self.realm.set(PATH, b"others")

    @rule(share=st.sampled_from([0.1, 0.3, 0.7]))
    def time_passes(self, share: float) -> None:
        self.pair.now += TIMEOUT * share
        self.pair.tick()
        self.drop_if_wanted()

    def drop_if_wanted(self) -> None:
        if self.linked and self.pair.dropped is not None:
            self.pair.cut(self.pair.dropped)

    # What must hold ---------------------------------------------------------------------------------------------------

    @invariant()
    def outcomes_come_in_call_order(self) -> None:
        order = {request: index for index, request in enumerate(self.submitted)}
        indices = [order[request] for request in self.pair.completed]
        assert indices == sorted(set(indices))
        for request in self.pair.completed:
            assert request.done
            assert request.error is None or isinstance(request.error, ConnectionLoss | SessionExpiredError)

    @invariant()
    def writes_happen_in_call_order_and_once(self) -> None:
        numbers = [int(value) for value in self.happened]
        assert numbers == sorted(set(numbers))

    @invariant()
    def what_is_said_not_to_have_happened_has_not(self) -> None:
        for request, value in self.values.items():
            if request.done and request.error is None:
                assert value in self.happened
            elif request.done and not getattr(request.error, "outcome_unknown", True):
                assert value not in self.happened
        for request in self.submitted:
            if request.withdrawn and request in self.values and request in self.pair.session.queue.unsent:
                assert self.values[request] not in self.happened

    @invariant()
    def no_answer_shows_a_change_before_its_event(self) -> None:
        """Looks at what is new in the log, with the state after it; within the log the order is looked at as well."""
        log = self.pair.log
        for position in range(self.seen, len(log)):
            entry = log[position]
            if not isinstance(entry, Request) or entry.error is not None or entry.operation is not GET_DATA:
                continue
            for request, watcher in self.watches.items():
                if request not in log[:position] or request.error is not None:
                    continue
                if request.value.stat.mzxid < entry.value.stat.mzxid:
                    assert any(watcher.name in told_by(item) for item in log[:position]), (watcher, entry)
        self.seen = len(log)

    @invariant()
    def nothing_follows_the_end(self) -> None:
        if self.pair.session.phase in TERMINAL:
            assert self.pair.session.queue.idle

    def teardown(self) -> None:
        """Everybody learns an outcome, by a good connection or by the end."""
        pair = self.pair
        if pair.server is not None:
            pair.server.resume()
            pair.pump()
        for _ in range(3):
            if pair.session.phase is Phase.DISCONNECTED:
                pair.connect()
        self.check()
        waiting = [request for request in self.submitted if request.waiter is not None]
        assert waiting == []
        session_id = pair.session.session_id
        pair.session.close()
        pair.pump()
        pair.apply(pair.session.end())
        self.check()
        assert pair.session.phase is Phase.CLOSED
        assert session_id not in self.realm.sessions

    def check(self) -> None:
        self.outcomes_come_in_call_order()
        self.writes_happen_in_call_order_and_once()
        self.what_is_said_not_to_have_happened_has_not()
        self.no_answer_shows_a_change_before_its_event()


class NewerServer(Sessions):
    release = Release.V39


class WithoutRenewal(Sessions):
    renew = False


SHORT = settings(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    phases=(Stage.reuse, Stage.generate, Stage.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Sessions, NewerServer, WithoutRenewal])
def test_everything_at_once(machine: type[Sessions]) -> None:
    run_state_machine_as_test(machine, settings=SHORT)
