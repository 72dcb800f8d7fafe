"""Requests and answers of the session: order, what answers belong to whom, and what a server may get wrong.

Loss, restoration and time have files of their own (`test_session_*.py`); the watch rules theirs.
"""

from __future__ import annotations

import pytest

from terzetto.client import (
    AddWatchMode,
    ConnectionClosedError,
    FrameTooLargeError,
    NodeExistsError,
    NoNodeError,
    UnknownServerError,
    WatchedEvent,
    WireError,
)
from terzetto.client._effects import DropLink, SessionConfig
from terzetto.client._pending import Request
from terzetto.client._phases import Phase
from terzetto.client.wire import Opcode, codec, records as r
from terzetto.client.wire.operations import (
    AUTH,
    AUTH_XID,
    CREATE,
    EXISTS,
    GET_DATA,
    MAX_XID,
    PING_XID,
    SET_DATA,
    WATCH_XID,
)
from terzetto.client.wire.primitives import LENGTH, REPLY_HEADER

from .server_link import Code, Fault, Raw, every, nth
from .session_pair import SessionPair, Watcher

OPEN: list[object] = []


def frame(xid: int, zxid: int = 1, err: int = 0, body: bytes = b"") -> bytes:
    content = REPLY_HEADER.pack(xid, zxid, err) + body
    return LENGTH.pack(len(content)) + content


def event_frame(kind: int, path: str, zxid: int = -1) -> bytes:
    return frame(WATCH_XID, zxid, 0, codec(r.WatcherEvent).encode(r.WatcherEvent(kind, 3, path)))


@pytest.fixture
def pair() -> SessionPair:
    pair = SessionPair()
    pair.realm.create("/a", b"data")
    pair.connect()
    pair.log.clear()
    return pair


def submit_auth(pair: SessionPair, credential: bytes = b"user:password") -> Request:
    request = Request(AUTH, AUTH_XID, AUTH.frame(AUTH_XID, 0, "digest", credential))
    request.waiter = "somebody"
    request.after = pair.session.authenticated("digest", credential)
    pair.session.submit(request)
    return request


# --- order


def test_requests_are_sent_and_answered_in_call_order(pair: SessionPair) -> None:
    requests = [
        pair.submit(GET_DATA, "/a", False),
        pair.submit(SET_DATA, "/a", b"x", -1),
        pair.submit(EXISTS, "/", False),
    ]
    pair.pump()
    assert pair.server is not None
    assert [request.xid for request in pair.server.received] == [request.xid for request in requests]
    assert pair.completed == requests
    assert requests[0].value.data == b"data"


@pytest.mark.parametrize("size", [1, 3, 16, 17, 20, 21, 64, 1000])
def test_answers_may_come_in_any_pieces(pair: SessionPair, size: int) -> None:
    requests = [pair.submit(GET_DATA, "/a", False) for _ in range(5)]
    pair.pump(size)
    assert pair.completed == requests
    assert all(request.value.data == b"data" for request in requests)


def test_xids_go_on_across_connections_and_start_again_at_the_end(pair: SessionPair) -> None:
    first = pair.call(EXISTS, "/", False)
    pair.cut()
    pair.connect()
    assert pair.call(EXISTS, "/", False).xid == first.xid + 1
    session = pair.session
    session._xid = MAX_XID - 1  # pyright: ignore[reportPrivateUsage]
    assert [session.next_xid(), session.next_xid(), session.next_xid()] == [MAX_XID, 1, 2]


def test_an_auth_answer_that_overtakes_is_held_back(pair: SessionPair) -> None:
    first, auth, last = pair.submit(GET_DATA, "/a", False), submit_auth(pair), pair.submit(EXISTS, "/a", False)
    pair.send()
    assert pair.server is not None
    xids = [int.from_bytes(data[4:8], "big", signed=True) for data in pair.server.out]
    assert xids == [AUTH_XID, first.xid, last.xid], "the server answered in order, so nothing is shown"
    pair.receive(1)
    assert pair.completed == [first, auth, last]


def test_a_friendlier_server_answers_auth_in_its_turn(pair: SessionPair) -> None:
    first, auth, last = pair.submit(GET_DATA, "/a", False), submit_auth(pair), pair.submit(EXISTS, "/a", False)
    pair.send()
    assert pair.server is not None
    out = pair.server.out
    out[0], out[1] = out[1], out[0]
    pair.receive()
    assert pair.completed == [first, auth, last]


def test_several_held_answers_are_given_out_together(pair: SessionPair) -> None:
    first = pair.submit(GET_DATA, "/a", False)
    auths = [submit_auth(pair, b"1"), submit_auth(pair, b"2")]
    pair.pump()
    assert pair.completed == [first, *auths]


def test_a_watch_event_stands_before_the_reply_that_shows_the_change(pair: SessionPair) -> None:
    watcher = Watcher()
    pair.read(GET_DATA, "data", "/a", watcher)
    pair.log.clear()
    before, write, after = (
        pair.submit(EXISTS, "/a", False),
        pair.submit(SET_DATA, "/a", b"new", -1),
        pair.submit(GET_DATA, "/a", False),
    )
    pair.pump()
    assert [entry if isinstance(entry, Request) else entry[0].type for entry in pair.log] == [
        before,
        "CHANGED",
        write,
        after,
    ]
    assert watcher.told == [("CHANGED", "/a")]


# --- answers


def test_an_error_code_becomes_its_exception_with_the_path(pair: SessionPair) -> None:
    request = pair.submit(CREATE, "/a", b"", OPEN, 0, path="/a")
    pair.pump()
    assert isinstance(request.error, NodeExistsError)
    assert request.error.path == "/a"
    assert request.error.outcome_unknown is False


def test_an_unknown_code_is_an_error_of_that_request_only(pair: SessionPair) -> None:
    pair.rules.append(nth(1, Opcode.GET_DATA, Code(-9999)))
    odd = pair.submit(GET_DATA, "/a", False, path="/a")
    good = pair.submit(GET_DATA, "/a", False)
    pair.pump()
    assert isinstance(odd.error, UnknownServerError)
    assert (odd.error.server_code, odd.error.path) == (-9999, "/a")
    assert good.value.data == b"data"
    assert pair.is_in(Phase.CONNECTED)


def test_an_error_answer_has_no_record_and_what_follows_is_not_one(pair: SessionPair) -> None:
    """multiRead and sasl append bytes to some errors."""
    request = pair.submit(GET_DATA, "/a", False)
    other = pair.submit(EXISTS, "/a", False)
    pair.rules.append(nth(1, Opcode.GET_DATA, Raw(frame(request.xid, 7, -5, b"\xff\xff\xff\xff\x01\xff\xff\xff\xff"))))
    pair.pump()
    assert request.error is not None
    assert other.error is None


def test_the_newest_zxid_is_remembered_and_never_lowered(pair: SessionPair) -> None:
    session = pair.session
    for zxid, expected in ((0x200000000, 0x200000000), (0x100000000, 0x200000000), (-1, 0x200000000)):
        request = pair.submit(EXISTS, "/", False)
        pair.rules[:] = [every(Opcode.EXISTS, Raw(frame(request.xid, zxid, -101)))]
        pair.pump()
        assert session.last_zxid == expected


def test_notifications_auth_and_pings_do_not_move_the_zxid(pair: SessionPair) -> None:
    before = pair.session.last_zxid
    assert pair.server is not None
    pair.server.send(event_frame(3, "/a", 1 << 40))
    pair.server.send(frame(PING_XID, 1 << 40))
    pair.pump()
    assert pair.session.last_zxid == before


def test_a_withdrawn_request_is_matched_and_dropped(pair: SessionPair) -> None:
    requests = [pair.submit(GET_DATA, "/a", False) for _ in range(3)]
    pair.send()
    pair.session.withdraw(requests[1])
    pair.pump()
    assert pair.completed == [requests[0], requests[2]]
    assert pair.is_in(Phase.CONNECTED)
    assert not pair.session.queue.sent


def test_a_withdrawn_request_that_was_not_sent_did_not_happen(pair: SessionPair) -> None:
    kept, withdrawn = pair.submit(EXISTS, "/a", False), pair.submit(SET_DATA, "/a", b"never", -1)
    pair.session.withdraw(withdrawn)
    pair.pump()
    assert pair.completed == [kept]
    assert pair.realm.get("/a").data == b"data"
    assert pair.server is not None
    assert [request.opcode for request in pair.server.received] == [Opcode.EXISTS]


def test_what_a_withdrawn_request_would_have_registered_is_not(pair: SessionPair) -> None:
    watcher = Watcher()
    request = pair.submit_read(GET_DATA, "data", "/a", watcher)
    pair.send()
    pair.session.withdraw(request)
    pair.pump()
    assert len(pair.session.watches) == 0
    pair.realm.set("/a")
    pair.pump()
    assert watcher.events == []


def test_events_of_unknown_types_are_passed_over(pair: SessionPair) -> None:
    watcher = Watcher()
    pair.read(GET_DATA, "data", "/a", watcher)
    assert pair.server is not None
    for kind in (-1, 0, 99, -2):
        pair.server.send(event_frame(kind, "/a"))
    pair.pump()
    assert watcher.events == []
    assert pair.is_in(Phase.CONNECTED)


@pytest.mark.parametrize(("zxid", "expected"), [(-1, None), (0, None), (0x500, 0x500)])
def test_an_event_has_the_zxid_that_the_server_gives(pair: SessionPair, zxid: int, expected: int | None) -> None:
    watcher = Watcher()
    pair.read(GET_DATA, "data", "/a", watcher)
    assert pair.server is not None
    pair.server.send(event_frame(3, "/a", zxid))
    pair.pump()
    assert [(event.type, event.state, event.path, event.zxid) for event in watcher.events] == [
        ("CHANGED", "CONNECTED", "/a", expected)
    ]
    assert isinstance(watcher.events[0], WatchedEvent)


# --- what is fatal to the link


def test_a_wrong_xid_is_fatal(pair: SessionPair) -> None:
    first, second = pair.submit(GET_DATA, "/a", False), pair.submit(GET_DATA, "/a", False)
    pair.rules.append(nth(1, Opcode.GET_DATA, Fault.SILENCE))
    pair.send()
    pair.receive()
    assert isinstance(pair.dropped, WireError)
    assert str(pair.dropped) == (
        f"the server answered request {second.xid} where the answer to request {first.xid} was due"
    )
    pair.pump()
    assert pair.is_in(Phase.DISCONNECTED)
    assert [type(request.error).__name__ for request in (first, second)] == ["ConnectionLoss"] * 2
    assert first.error is not None
    assert first.error.__cause__ is pair.dropped or pair.dropped is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (frame(77), "answered request 77 where none was due"),
        (frame(-8), "a reply with xid -8, which no request had"),
        (frame(0), "a reply with xid 0, which no request had"),
        (frame(AUTH_XID), "an auth request that was never sent"),
        (LENGTH.pack(-1) + bytes(20), "negative length -1"),
        (LENGTH.pack(3) + bytes(20), "too short for its header"),
        (LENGTH.pack(0) + bytes(20), "too short for its header"),
        (frame(WATCH_XID, body=b"\x00\x00"), ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "announced"),
    ],
)
@pytest.mark.parametrize("size", [None, 1])
def test_garbage_is_fatal(pair: SessionPair, data: bytes, text: str, size: int | None) -> None:
    assert pair.server is not None
    pair.server.send(data)
    pair.receive(size)
    assert isinstance(pair.dropped, WireError)
    assert text in str(pair.dropped)


def test_a_body_that_cannot_be_read_fails_its_request_as_lost(pair: SessionPair) -> None:
    good, bad, later = (pair.submit(GET_DATA, "/a", False) for _ in range(3))
    pair.rules.append(nth(2, Opcode.GET_DATA, Raw(frame(bad.xid, 1, 0, b"\x00\x00"))))
    pair.pump()
    assert good.value.data == b"data"
    for request in (bad, later):
        assert type(request.error).__name__ == "ConnectionLoss"
        assert getattr(request.error, "outcome_unknown", None) is True
    assert pair.completed == [good, bad, later]


def test_what_was_answered_before_the_garbage_was_answered(pair: SessionPair) -> None:
    requests = [pair.submit(GET_DATA, "/a", False) for _ in range(3)]
    pair.send()
    assert pair.server is not None
    pair.server.out.insert(2, frame(4711))
    data = pair.server.take()
    effects = pair.session.receive_data(data, pair.now)
    assert effects[0] == requests[:2]
    assert isinstance(effects[1], DropLink)
    assert len(effects) == 2


def test_an_oversized_reply_fails_its_own_request_as_too_large() -> None:
    pair = SessionPair(SessionConfig(max_reply_size=500))
    pair.realm.create("/small", b"x")
    pair.realm.create("/large", b"x" * 600)
    pair.connect()
    small, large, later = (pair.submit(GET_DATA, path, False, path=path) for path in ("/small", "/large", "/small"))
    pair.send()
    pair.receive()
    assert isinstance(pair.dropped, FrameTooLargeError)
    pair.pump()
    assert small.value.data == b"x"
    assert type(large.error).__name__ == "ReplyTooLargeError"
    assert "(max_reply_size) (/large)" in str(large.error)
    assert getattr(large.error, "outcome_unknown", None) is True
    assert type(later.error).__name__ == "ConnectionLoss"
    assert pair.completed == [small, large, later]


@pytest.mark.parametrize("size", [1, 4, 5, 19, 20, 1000])
def test_an_oversized_reply_is_recognised_from_its_length_alone(size: int) -> None:
    pair = SessionPair(SessionConfig(max_reply_size=500))
    pair.connect()
    request = pair.submit(EXISTS, "/", False)
    pair.send()
    assert pair.server is not None
    pair.server.out[:] = [LENGTH.pack(501) + bytes(100)]
    pair.receive(size)
    assert isinstance(pair.dropped, FrameTooLargeError)
    pair.cut(pair.dropped)
    assert type(request.error).__name__ == "ReplyTooLargeError"


# --- the end


def test_nothing_is_taken_after_close(pair: SessionPair) -> None:
    last = pair.submit(EXISTS, "/a", False)
    closing = pair.session.close()
    assert closing is not None
    assert pair.session.close() is closing
    with pytest.raises(ConnectionClosedError):
        pair.submit(EXISTS, "/a", False)
    assert pair.session.is_over
    closing.waiter = "the shell"
    pair.pump()
    assert pair.completed == [last, closing]
    assert pair.is_in(Phase.CLOSED)
    assert pair.session.session_id == 0
    assert pair.realm.sessions == {}
    with pytest.raises(ConnectionClosedError):
        pair.session.check_usable()


def test_what_was_answered_before_the_close_comes_before_it(pair: SessionPair) -> None:
    """In one chunk, too: first the answers, then what the end fails."""
    answered = pair.submit(EXISTS, "/a", False)
    closing = pair.session.close()
    assert closing is not None
    closing.waiter = "the shell"
    pair.send()
    assert pair.server is not None
    kinds = [type(effect).__name__ for effect in pair.session.receive_data(pair.server.take(), pair.now)]
    assert kinds[:2] == ["list", "list"]
    assert kinds[-1] == "StateChanged"
    assert answered.done


def test_a_client_that_never_had_a_session_has_nothing_to_close() -> None:
    assert SessionPair().session.close() is None


def test_the_end_fails_whatever_waits_and_tells_watchers(pair: SessionPair) -> None:
    watcher, stream = Watcher("w"), Watcher("s", survives_session=True)
    pair.read(EXISTS, "exist", "/none", watcher)
    pair.add_watch("/a", AddWatchMode.PERSISTENT, stream)
    pair.pump()
    sent = pair.submit(EXISTS, "/a", False)
    pair.send()
    unsent = pair.submit(EXISTS, "/a", False)
    pair.log.clear()
    pair.apply(pair.session.end())
    assert pair.completed == [sent, unsent]
    for request, unknown in ((sent, True), (unsent, False)):
        assert isinstance(request.error, ConnectionClosedError)
        assert request.error.outcome_unknown is unknown
    assert pair.states == [("LOST", "CLOSED")]
    assert [event.type for event in watcher.events + stream.events] == ["NONE", "NONE"]
    assert len(pair.session.watches) == 0


def test_the_shell_may_say_why_it_ends(pair: SessionPair) -> None:
    request = pair.submit(EXISTS, "/a", False)
    pair.apply(pair.session.end(lambda: NoNodeError("a reason of the test")))
    assert isinstance(request.error, NoNodeError)
    with pytest.raises(NoNodeError, match="a reason of the test"):
        pair.session.check_usable()
