"""What a lost link, a lost session and a close make of requests: who fails with what, who waits, and in which order."""

from __future__ import annotations

from functools import partial

import pytest

from terzetto.client import AuthFailedError, ConnectionLoss, SessionExpiredError
from terzetto.client._effects import SessionConfig
from terzetto.client._pending import Request
from terzetto.client._phases import Phase
from terzetto.client.wire import Opcode
from terzetto.client.wire.operations import AUTH, AUTH_XID, EXISTS, GET_DATA, SET_DATA

from .server_link import Code, Fault, every, nth
from .session_pair import SessionPair, Watcher

SECRET = b"user:password"


@pytest.fixture
def pair() -> SessionPair:
    pair = SessionPair()
    pair.realm.create("/a", b"data")
    pair.connect()
    pair.log.clear()
    return pair


def unknown(request: Request) -> bool:
    assert isinstance(request.error, ConnectionLoss)
    return request.error.outcome_unknown


def submit_auth(pair: SessionPair, credential: bytes = SECRET) -> Request:
    request = Request(AUTH, AUTH_XID, AUTH.frame(AUTH_XID, 0, "digest", credential))
    request.waiter = "somebody"
    request.after = pair.session.authenticated("digest", credential)
    pair.session.submit(request)
    return request


# --- a lost link


def at_most(limit: int, data: bytes) -> int:
    return min(limit, len(data))


FRAME = len(SET_DATA.frame(1, "/a", b"new", -1))


@pytest.mark.parametrize("bytes_sent", range(3 * FRAME + 1))
def test_the_outcome_is_unknown_where_a_byte_has_left(pair: SessionPair, bytes_sent: int) -> None:
    requests = [pair.submit(SET_DATA, "/a", b"new", -1, path="/a") for _ in range(3)]
    left = bytes_sent
    while left:
        left -= pair.send(take=partial(at_most, left))
    error = OSError("cable")
    pair.cut(error)
    assert pair.completed == requests
    assert [unknown(request) for request in requests] == [bytes_sent > index * FRAME for index in range(3)]
    for request in requests:
        assert isinstance(request.error, ConnectionLoss)
        assert request.error.path == "/a"
        assert str(request.error) == "connection lost: cable (/a)"
        assert request.error.__cause__ is error
    # The server has seen whole requests only, and none of which no byte had left.
    assert pair.realm.get("/a").version == bytes_sent // FRAME


def test_each_request_has_an_error_of_its_own(pair: SessionPair) -> None:
    requests = [pair.submit(EXISTS, "/", False) for _ in range(2)]
    pair.cut()
    assert requests[0].error is not requests[1].error
    assert str(requests[0].error) == "connection lost"


def test_all_fail_before_the_state_changes(pair: SessionPair) -> None:
    """Who is told of SUSPENDED and calls again stands behind those who have failed."""
    request = pair.submit(EXISTS, "/", False)
    pair.cut()
    assert pair.log[0] is request
    assert pair.states == [("SUSPENDED", "CONNECTING")]


def test_nobody_is_told_of_a_request_without_a_caller(pair: SessionPair) -> None:
    sent = pair.submit(EXISTS, "/", False)
    pair.send()
    unsent = pair.submit(EXISTS, "/", False)
    for request in (sent, unsent):
        pair.session.withdraw(request)
    pair.cut()
    assert pair.completed == []


def test_calls_made_while_suspended_wait_for_the_reconnect(pair: SessionPair) -> None:
    pair.cut()
    requests = [pair.submit(SET_DATA, "/a", b"new", -1), pair.submit(GET_DATA, "/a", False)]
    assert not pair.session.queue.has_output
    server = pair.connect()
    assert pair.completed == requests
    assert requests[1].value.data == b"new"
    assert [request.opcode for request in server.received] == [Opcode.SET_DATA, Opcode.GET_DATA]


@pytest.mark.parametrize("accepted", [False, True])
def test_they_go_on_waiting_when_a_connection_does_not_come_about(pair: SessionPair, accepted: bool) -> None:
    """Also one that is accepted and lost while the watches are restored."""
    pair.read(GET_DATA, "data", "/a", Watcher())
    pair.cut()
    pair.log.clear()
    waiting = [pair.submit(GET_DATA, "/a", False) for _ in range(2)]
    pair.link_up()
    if accepted:
        pair.send()
        pair.receive()
        assert pair.is_in(Phase.RESTORING)
    pair.cut(OSError("again"))
    assert pair.completed == []
    late = pair.submit(GET_DATA, "/a", False)
    pair.connect()
    assert pair.completed == [*waiting, late]
    assert [request.error for request in waiting] == [None, None]


def test_a_call_that_is_cancelled_while_suspended_is_never_sent(pair: SessionPair) -> None:
    pair.cut()
    kept, withdrawn = pair.submit(EXISTS, "/", False), pair.submit(SET_DATA, "/a", b"never", -1)
    pair.session.withdraw(withdrawn)
    server = pair.connect()
    assert pair.completed == [kept]
    assert [request.opcode for request in server.received] == [Opcode.EXISTS]


def test_no_later_call_overtakes_a_failed_one(pair: SessionPair) -> None:
    """Three writes, lost after the first has arrived: none of the others may happen behind the caller's back."""
    requests = [pair.submit(SET_DATA, "/a", value, -1) for value in (b"1", b"2", b"3")]
    pair.send(limit=1)
    pair.cut()
    retry = pair.submit(SET_DATA, "/a", b"retried", -1)
    server = pair.connect()
    assert [unknown(request) for request in requests] == [True, False, False]
    assert pair.completed == [*requests, retry]
    assert [request.record.data for request in server.received] == [b"retried"]


# --- a lost session


def test_what_was_meant_for_a_session_does_not_reach_the_next_one(pair: SessionPair) -> None:
    in_flight = pair.submit(SET_DATA, "/a", b"first", -1)
    pair.send()
    pair.cut()
    waiting = pair.submit(SET_DATA, "/a", b"never", -1, path="/a")
    pair.realm.end_session(pair.session.session_id)
    pair.connect()
    assert unknown(in_flight)
    assert isinstance(waiting.error, SessionExpiredError)
    assert waiting.error.outcome_unknown is False
    assert waiting.error.path == "/a"
    later = pair.submit(SET_DATA, "/a", b"later", -1)
    server = pair.connect()
    assert later.error is None
    assert [request.record.data for request in server.received] == [b"later"]


def test_they_fail_before_anyone_learns_of_the_loss(pair: SessionPair) -> None:
    watcher = Watcher()
    pair.read(GET_DATA, "data", "/a", watcher)
    pair.realm.end_session(pair.session.session_id)
    pair.pump()
    pair.log.clear()
    waiting = pair.submit(EXISTS, "/", False)
    pair.connect()
    assert pair.log[0] is waiting
    assert pair.states == [("LOST", "EXPIRED_SESSION"), ("LOST", "CONNECTING")]
    assert watcher.told == [("NONE", "/a")]
    assert watcher.events[0].state == "EXPIRED_SESSION"


def test_without_renewal_nothing_more_is_taken() -> None:
    pair = SessionPair(SessionConfig(renew_session=False))
    pair.connect()
    pair.realm.end_session(pair.session.session_id)
    pair.pump()
    pair.connect()
    assert pair.is_in(Phase.EXPIRED)
    with pytest.raises(SessionExpiredError, match="the server says that the session has expired"):
        pair.submit(EXISTS, "/", False)
    assert pair.session.is_over


def test_an_outage_ends_no_session(pair: SessionPair) -> None:
    session_id = pair.session.session_id
    pair.cut()
    for _ in range(50):
        pair.now += 1000.0
        pair.link_up()
        pair.cut()
    assert pair.session.state == "SUSPENDED"
    pair.connect()
    assert pair.session.session_id == session_id
    assert pair.session.state == "CONNECTED"


def test_the_applications_patience_does(pair: SessionPair) -> None:
    pair.cut()
    waiting = pair.submit(EXISTS, "/", False)
    pair.apply(pair.session.give_up("no server for 5 s"))
    assert isinstance(waiting.error, SessionExpiredError)
    assert "no server for 5 s" in str(waiting.error)
    assert pair.session.state == "LOST"
    server = pair.connect()
    assert server.handshake is not None
    assert server.handshake.session_id == 0


def test_patience_with_nothing_to_lose_changes_nothing() -> None:
    pair = SessionPair()
    pair.apply(pair.session.give_up("no server"))
    assert pair.log == []
    pair.connect()
    pair.log.clear()
    pair.apply(pair.session.give_up("connected"))
    assert pair.log == []


# --- authentication


def test_an_accepted_credential_is_sent_on_every_later_connection(pair: SessionPair) -> None:
    request = submit_auth(pair)
    pair.pump()
    assert request.error is None
    submit_auth(pair)
    pair.pump()
    pair.cut()
    pair.session.watches.register("data", "/a", Watcher(), 1 << 40)
    server = pair.connect()
    assert [received.opcode for received in server.received] == [Opcode.AUTH, Opcode.SET_WATCHES]
    assert server.identities == [("digest", SECRET)]


def test_a_refused_credential_is_not_remembered_and_not_the_end(pair: SessionPair) -> None:
    pair.cut()
    pair.refused_credentials = frozenset({SECRET})
    pair.connect()
    pair.log.clear()
    before, auth, behind = pair.submit(EXISTS, "/", False), submit_auth(pair), pair.submit(EXISTS, "/", False)
    assert pair.server is not None
    pair.server.paused = True
    pair.pump()
    assert pair.is_in(Phase.DISCONNECTED)
    assert pair.completed == [before, auth, behind]
    assert isinstance(auth.error, AuthFailedError)
    assert unknown(before)
    assert unknown(behind)
    server = pair.connect()
    assert server.received == []
    assert pair.is_in(Phase.CONNECTED)


def test_a_credential_whose_answer_was_lost_is_not_remembered(pair: SessionPair) -> None:
    pair.rules.append(nth(1, Opcode.AUTH, Fault.DO_AND_CUT))
    request = submit_auth(pair)
    pair.pump()
    assert unknown(request)
    assert pair.connect().received == []


def test_a_refused_replay_is_the_end() -> None:
    pair = SessionPair(SessionConfig(auth=(("digest", SECRET),)))
    pair.connect()
    assert pair.session.state == "CONNECTED"
    watcher = Watcher("stream", survives_session=True)
    pair.add_watch("/a", 0, watcher)  # type: ignore[arg-type]
    pair.pump()
    pair.cut()
    pair.log.clear()
    waiting = pair.submit(EXISTS, "/", False)
    pair.refused_credentials = frozenset({SECRET})
    pair.connect()
    assert isinstance(waiting.error, AuthFailedError)
    assert waiting.error.outcome_unknown is False
    assert pair.states == [("LOST", "AUTH_FAILED")]
    assert watcher.told == [("NONE", "/a")]
    assert pair.session.is_over
    with pytest.raises(AuthFailedError):
        pair.submit(EXISTS, "/", False)


def test_a_server_that_demands_sasl_is_the_end_and_says_so_in_order(pair: SessionPair) -> None:
    pair.rules.append(nth(2, Opcode.EXISTS, Code(-124)))
    requests = [pair.submit(EXISTS, "/", False) for _ in range(4)]
    pair.pump()
    assert pair.completed == requests
    assert [type(request.error).__name__ for request in requests] == [
        "NoneType",
        "SessionClosedRequireSaslError",
        "AuthFailedError",
        "AuthFailedError",
    ]
    assert pair.is_in(Phase.AUTH_FAILED)
    # The server may leave the connection to us.
    assert isinstance(pair.log[-1], AuthFailedError)
    assert pair.server is None


# --- closing


def close(pair: SessionPair) -> Request:
    request = pair.session.close()
    assert request is not None
    request.waiter = "the shell"
    return request


def test_close_stands_behind_everything(pair: SessionPair) -> None:
    last = pair.submit(SET_DATA, "/a", b"last", -1)
    closing = close(pair)
    pair.pump()
    assert pair.completed == [last, closing]
    assert pair.realm.get("/a").data == b"last"
    assert pair.realm.sessions == {}


def test_close_waits_for_a_connection(pair: SessionPair) -> None:
    pair.cut()
    closing = close(pair)
    assert pair.completed == []
    pair.connect()
    assert pair.completed == [closing]
    assert pair.realm.sessions == {}
    assert pair.is_in(Phase.CLOSED)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DO_AND_CUT])
def test_a_close_whose_answer_was_lost_is_asked_again(pair: SessionPair, fault: Fault) -> None:
    """Either it is done now, or the server says that the session is over already."""
    pair.rules.append(nth(1, Opcode.CLOSE_SESSION, fault))
    closing = close(pair)
    pair.pump()
    assert pair.is_in(Phase.DISCONNECTED)
    assert pair.completed == []
    pair.connect()
    assert pair.completed == [closing]
    assert pair.realm.sessions == {}
    assert pair.is_in(Phase.CLOSED)
    assert pair.states[-1] == ("LOST", "CLOSED")


def test_a_session_that_is_closing_is_not_renewed(pair: SessionPair) -> None:
    pair.cut()
    pair.realm.end_session(pair.session.session_id)
    closing = close(pair)
    pair.connect()
    assert closing.done
    assert pair.is_in(Phase.CLOSED)
    assert pair.realm.sessions == {}


def test_a_refusal_while_closing_ends_the_wait_too() -> None:
    pair = SessionPair(SessionConfig(auth=(("digest", SECRET),)))
    pair.connect()
    pair.cut()
    closing = close(pair)
    pair.refused_credentials = frozenset({SECRET})
    pair.connect()
    pair.apply(pair.session.end())
    assert closing.done
    assert closing in pair.completed


def test_nothing_is_sent_to_a_server_behind_close(pair: SessionPair) -> None:
    pair.rules.append(every(Opcode.CLOSE_SESSION, Fault.SILENCE))
    close(pair)
    pair.pump()
    assert pair.server is None or not pair.session.queue.has_output
