"""Time in the session: pings, servers that fall silent or never answer, and the proof of ownership. T is 12 s here."""

from __future__ import annotations

from math import inf

import pytest

from terzetto.client import OperationTimeoutError
from terzetto.client._effects import SessionConfig
from terzetto.client._pending import Request
from terzetto.client._phases import Phase
from terzetto.client._proof import DRIFT_MARGIN
from terzetto.client.wire import Opcode
from terzetto.client.wire.multi import MULTI
from terzetto.client.wire.operations import AUTH, AUTH_XID, EXISTS, GET_DATA, SET_DATA, SYNC

from .server_link import Code, Fault, every
from .session_pair import SessionPair, Watcher

T = 12.0
HALF = T / 2 * (1 - DRIFT_MARGIN)


@pytest.fixture
def pair() -> SessionPair:
    pair = SessionPair(SessionConfig(session_timeout=T))
    pair.realm.create("/a")
    pair.connect()
    return pair


def pings(pair: SessionPair) -> int:
    assert pair.server is not None
    return sum(request.opcode == Opcode.PING for request in pair.server.received)


def run(pair: SessionPair, seconds: float) -> None:
    """Time passes, tick by tick, with a server that answers."""
    end = pair.now + seconds
    for _ in range(1000):
        if pair.session.next_deadline() > end:
            pair.now = end
            return
        pair.advance_to_deadline()
        pair.tick()
        pair.pump()
    pytest.fail("the session wants to be looked at all the time")


# --- pings


def test_an_idle_connection_is_pinged_every_third_of_the_timeout(pair: SessionPair) -> None:
    run(pair, T)
    assert pings(pair) == 3
    assert pair.is_in(Phase.CONNECTED)


def test_any_request_puts_the_ping_off(pair: SessionPair) -> None:
    for _ in range(10):
        run(pair, T / 3 - 0.5)
        pair.call(EXISTS, "/", False)
    assert pings(pair) == 0


def test_answers_alone_do_not(pair: SessionPair) -> None:
    """The server must be told of us, however much it tells."""
    watcher = Watcher()
    pair.read(GET_DATA, "data", "/a", watcher)
    assert pair.server is not None
    for _ in range(4):
        pair.server.reply(-2, 0, 0)
        run(pair, T / 3)
    assert pings(pair) == 4


def test_while_something_is_kept_it_is_every_sixth(pair: SessionPair) -> None:
    pair.session.proof.hold()
    run(pair, T / 2)
    assert pair.server is not None
    sent = [request.opcode for request in pair.server.received]
    # An empty multi each sixth is as good as a ping.
    assert sent.count(Opcode.MULTI) == 4
    assert len(sent) >= 4


def test_a_ping_does_not_stand_behind_requests_that_cannot_leave(pair: SessionPair) -> None:
    """Bytes are waiting to leave already; a ping behind them would say nothing more."""
    pair.submit(EXISTS, "/", False)
    pair.now += T / 3
    pair.tick()
    assert list(pair.session.queue.control) == []


# --- silence


def test_a_silent_server_is_given_up_after_two_thirds(pair: SessionPair) -> None:
    assert pair.server is not None
    pair.server.paused = True
    request = pair.submit(EXISTS, "/", False)
    pair.send()
    began = pair.now
    while pair.dropped is None:
        pair.advance_to_deadline()
        pair.tick()
        if pair.session.queue.has_output:
            pair.send()
    assert pair.now - began == pytest.approx(T * 2 / 3)
    assert isinstance(pair.dropped, OperationTimeoutError)
    pair.pump()
    assert type(request.error).__name__ == "ConnectionLoss"


def test_any_byte_is_a_sign_of_life(pair: SessionPair) -> None:
    """Also one that completes nothing."""
    assert pair.server is not None
    pair.server.paused = True
    for byte in (b"\x00", b"\x00", b"\x10"):
        pair.now += T / 2
        pair.apply(pair.session.receive_data(byte, pair.now))
        pair.tick()
    assert pair.dropped is None
    pair.now += T * 2 / 3
    pair.tick()
    assert pair.dropped is not None


def test_one_that_answers_pings_but_not_a_request_is_given_up_after_three_timeouts(pair: SessionPair) -> None:
    pair.rules.append(every(Opcode.EXISTS, Fault.IGNORE))
    request = pair.submit(EXISTS, "/", False)
    pair.pump()
    began = pair.now
    while pair.server is not None and pair.now - began < 10 * T:
        pair.advance_to_deadline()
        pair.tick()
        pair.pump()
    assert 3 * T <= pair.now - began <= 3 * T + 2 * T / 3
    assert type(request.error).__name__ == "ConnectionLoss"
    assert "has not been answered" in str(request.error)


def test_a_busy_connection_is_not_stuck(pair: SessionPair) -> None:
    for _ in range(100):
        pair.submit(EXISTS, "/", False)
        pair.pump()
        run(pair, T / 4)
    assert pair.is_in(Phase.CONNECTED)


@pytest.mark.parametrize("sent", [False, True])
def test_a_handshake_has_the_time_that_the_shell_gives(sent: bool) -> None:
    pair = SessionPair(SessionConfig(session_timeout=T))
    server = pair.link_up(handshake_timeout=3.0)
    server.paused = True
    if sent:
        pair.send()
    server.take()
    assert pair.session.next_deadline() == pair.now + 3.0
    pair.now += 2.9
    pair.tick()
    assert pair.dropped is None
    pair.now += 0.1
    pair.tick()
    assert isinstance(pair.dropped, OperationTimeoutError)


def test_restoring_has_a_timeout_of_its_own() -> None:
    """The server answers pings all the time, so silence is not what ends it."""
    pair = SessionPair(SessionConfig(session_timeout=T, auth=(("digest", b"a:1"),)))
    pair.rules.append(every(Opcode.AUTH, Fault.IGNORE))
    pair.connect()
    assert pair.is_in(Phase.RESTORING)
    began = pair.now
    while pair.server is not None and pair.now - began < 10 * T:
        pair.advance_to_deadline()
        pair.tick()
        pair.pump()
    assert pair.now - began == pytest.approx(T)
    assert pair.is_in(Phase.DISCONNECTED)


def test_nothing_is_due_without_a_connection(pair: SessionPair) -> None:
    pair.cut()
    assert pair.session.next_deadline() == inf
    pair.now += 1e6
    pair.tick()
    assert pair.dropped is None
    pair.apply(pair.session.end())
    assert pair.session.next_deadline() == inf


def test_a_link_that_takes_nothing_is_not_looked_at_all_the_time(pair: SessionPair) -> None:
    """A ping that cannot leave stays due; the next look is when the silence counts."""
    pair.submit(EXISTS, "/", False)
    looks = 0
    while pair.dropped is None:
        assert pair.advance_to_deadline() > 0 or looks == 0
        pair.tick()
        looks += 1
        assert looks < 20
    assert pair.now == 1000.0 + T * 2 / 3


# --- the proof


def test_nothing_is_proven_at_first(pair: SessionPair) -> None:
    assert pair.session.proof.deadline == -inf


@pytest.mark.parametrize(
    ("operation", "fields"),
    [(EXISTS, ("/", False)), (GET_DATA, ("/a", False)), (SYNC, ("/",))],
    ids=["exists", "get", "sync"],
)
def test_what_no_quorum_orders_proves_nothing(pair: SessionPair, operation: object, fields: tuple[object, ...]) -> None:
    pair.call(operation, *fields)  # type: ignore[arg-type]
    assert pair.session.proof.deadline == -inf


def test_neither_do_pings_and_credentials(pair: SessionPair) -> None:
    run(pair, T)
    request = Request(AUTH, AUTH_XID, AUTH.frame(AUTH_XID, 0, "digest", b"a:1"))
    request.waiter = "somebody"
    pair.session.submit(request)
    pair.pump()
    assert request.done
    assert pair.session.proof.deadline == -inf


def test_neither_does_what_failed(pair: SessionPair) -> None:
    pair.rules.append(every(Opcode.SET_DATA, Code(-119)))
    pair.call(SET_DATA, "/a", b"", -1)
    assert pair.session.proof.deadline == -inf


@pytest.mark.parametrize(("operation", "fields"), [(SET_DATA, ("/a", b"", -1)), (MULTI, ((),))], ids=["set", "multi"])
def test_a_write_proves_from_when_it_was_sent(pair: SessionPair, operation: object, fields: tuple[object, ...]) -> None:
    pair.session.proof.hold()
    run(pair, T / 6)
    request = pair.submit(operation, *fields)  # type: ignore[arg-type]
    pair.now += 0.5
    sent_at = pair.now
    pair.send()
    pair.now += 0.5
    pair.receive()
    assert request.done
    assert pair.session.proof.proven_at == sent_at
    assert pair.session.proof.deadline == pytest.approx(sent_at + HALF)


def test_the_keepalive_renews_it_every_sixth(pair: SessionPair) -> None:
    proof = pair.session.proof
    proof.hold()
    pair.tick()
    pair.pump()
    began = pair.now
    assert proof.proven_at == began
    for index in range(1, 7):
        run(pair, T / 6)
        assert proof.proven_at == pytest.approx(began + index * T / 6)
    proof.release()
    run(pair, T)
    assert proof.proven_at == pytest.approx(began + T)


def test_writes_of_the_session_make_the_keepalive_needless(pair: SessionPair) -> None:
    pair.session.proof.hold()
    pair.call(SET_DATA, "/a", b"", -1)
    for _ in range(10):
        run(pair, T / 7)
        pair.call(SET_DATA, "/a", b"", -1)
    assert pair.server is not None
    assert Opcode.MULTI not in [request.opcode for request in pair.server.received]


def test_an_answer_of_another_connection_proves_nothing(pair: SessionPair) -> None:
    proof = pair.session.proof
    pair.call(SET_DATA, "/a", b"", -1)
    before = proof.deadline
    pair.rules.append(every(Opcode.SET_DATA, Fault.DO_AND_CUT))
    pair.now += 1.0
    pair.call(SET_DATA, "/a", b"", -1)
    pair.rules.clear()
    pair.connect()
    assert proof.deadline <= before


def test_a_lost_session_ends_it(pair: SessionPair) -> None:
    pair.call(SET_DATA, "/a", b"", -1)
    pair.realm.end_session(pair.session.session_id)
    pair.pump()
    assert pair.session.proof.deadline > -inf
    pair.connect()
    assert pair.session.proof.deadline == -inf


@pytest.mark.parametrize("how", ["closed", "refused"])
def test_so_does_the_end(pair: SessionPair, how: str) -> None:
    pair.call(SET_DATA, "/a", b"", -1)
    if how == "closed":
        pair.apply(pair.session.end())
    else:
        pair.rules.append(every(Opcode.EXISTS, Code(-124)))
        pair.call(EXISTS, "/", False)
    assert pair.session.proof.deadline == -inf


def test_a_keepalive_that_is_not_answered_is_not_repeated_at_once(pair: SessionPair) -> None:
    pair.session.proof.hold()
    assert pair.server is not None
    pair.server.paused = True
    for _ in range(3):
        pair.tick()
        pair.pump()
    assert [request.opcode for request in pair.server.received].count(Opcode.MULTI) == 1
