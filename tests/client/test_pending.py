"""The request queue: call order on the wire, the FIFO of answers, and what a lost link leaves of each request.

The machine at the end drives it with arbitrary partial sends, withdrawals and losses, against a model that only knows
which bytes have left.
"""

from __future__ import annotations

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from terzetto.client import ConnectionLoss, NoNodeError, WireError
from terzetto.client._pending import Request, RequestQueue, fail_all
from terzetto.client.wire.operations import AUTH, AUTH_XID, DELETE, GET_DATA, PING, PING_XID, SET_DATA

LIMIT = 128 * 1024


def get(xid: int, path: str = "/a") -> Request:
    request = Request(GET_DATA, xid, GET_DATA.frame(xid, path, False), path)
    request.waiter = "somebody"
    return request


def auth(credential: bytes = b"secret") -> Request:
    request = Request(AUTH, AUTH_XID, AUTH.frame(AUTH_XID, 0, "digest", credential))
    request.waiter = "somebody"
    return request


def ping() -> Request:
    return Request(PING, PING_XID, PING.frame(PING_XID))


def opened(max_in_flight: int = 100) -> RequestQueue:
    queue = RequestQueue(max_in_flight)
    queue.open = True
    return queue


def send_all(queue: RequestQueue, now: float = 0.0) -> bytes:
    sent = b""
    while queue.has_output:
        data = queue.take(LIMIT)
        queue.sent_bytes(len(data), now)
        sent += data
    return sent


# --- a request


def test_a_request_without_an_outcome_has_no_result() -> None:
    with pytest.raises(RuntimeError, match="has no result yet"):
        get(1).result()


def test_a_result_is_converted() -> None:
    request = get(1)
    request.value, request.done = (1, 2), True
    assert request.result() == (1, 2)
    request.convert = sum
    assert request.result() == 3


def test_an_error_is_raised_by_result() -> None:
    request = get(1)
    request.error, request.done = NoNodeError(path="/a"), True
    with pytest.raises(NoNodeError) as caught:
        request.result()
    assert caught.value is request.error


def test_a_request_is_shown_without_its_frame_and_value() -> None:
    request = auth(b"user:secret")
    assert repr(request) == "<Request -4 <AUTH>  pending>"
    request.withdrawn = True
    assert repr(request) == "<Request -4 <AUTH>  withdrawn>"
    read = get(3)
    read.value, read.done = b"secret", True
    assert repr(read) == "<Request 3 <GET_DATA> /a done>"


# --- sending


def test_requests_leave_in_call_order_and_joined() -> None:
    queue = opened()
    requests = [get(xid) for xid in (1, 2, 3)]
    queue.unsent.extend(requests)
    data = queue.take(LIMIT)
    assert data == b"".join(request.frame for request in requests)
    queue.sent_bytes(len(data), 0.0)
    assert list(queue.sent) == requests
    assert not queue.has_output
    assert queue.idle is False


def test_nothing_of_the_users_leaves_before_the_queue_opens() -> None:
    queue = RequestQueue(10)
    queue.unsent.append(get(1))
    assert send_all(queue) == b""
    queue.control.append(ping())
    assert send_all(queue) == ping().frame


def test_the_sessions_own_requests_go_first() -> None:
    queue = opened()
    queue.unsent.append(get(1))
    queue.control.append(ping())
    assert queue.take(LIMIT) == ping().frame + get(1).frame


def test_a_chunk_is_limited_but_never_empty() -> None:
    queue = opened()
    queue.unsent.extend(get(xid) for xid in range(1, 6))
    size = len(get(1).frame)
    assert queue.take(1) == get(1).frame
    queue.sent_bytes(size, 0.0)
    assert queue.take(size) == get(2).frame
    queue.sent_bytes(0, 0.0)
    assert queue.take(size + 1) == get(2).frame + get(3).frame


def test_at_most_so_many_are_in_flight() -> None:
    queue = opened(max_in_flight=2)
    queue.unsent.extend(get(xid) for xid in (1, 2, 3))
    assert send_all(queue) == get(1).frame + get(2).frame
    assert not queue.has_output
    queue.answered(1)
    assert send_all(queue) == get(3).frame


def test_as_many_go_out_together_as_there_is_room_for() -> None:
    queue = opened(max_in_flight=4)
    requests = [get(xid) for xid in range(1, 7)]
    queue.unsent.extend(requests)
    assert queue.take(LIMIT) == b"".join(request.frame for request in requests[:4])


def test_the_sessions_own_requests_do_not_wait_for_room() -> None:
    queue = opened(max_in_flight=1)
    queue.unsent.extend(get(xid) for xid in (1, 2))
    send_all(queue)
    queue.control.append(ping())
    assert send_all(queue) == ping().frame


def test_a_ping_expects_no_answer_in_the_fifo() -> None:
    queue = opened()
    queue.control.append(ping())
    send_all(queue)
    assert queue.idle


@pytest.mark.parametrize("cut", range(len(get(1).frame) * 3 + 1))
def test_a_partial_send_is_continued_where_it_stopped(cut: int) -> None:
    queue = opened()
    requests = [get(xid) for xid in (1, 2, 3)]
    queue.unsent.extend(requests)
    whole = queue.take(LIMIT)
    queue.sent_bytes(cut, 0.0)
    queue.unsent.append(get(4))
    assert whole[:cut] + send_all(queue) == whole + get(4).frame
    assert [request.xid for request in queue.sent] == [1, 2, 3, 4]


def test_a_ping_cannot_get_into_a_half_sent_frame() -> None:
    queue = opened()
    queue.unsent.append(get(1))
    queue.take(LIMIT)
    queue.sent_bytes(5, 0.0)
    queue.control.append(ping())
    assert queue.take(LIMIT) == get(1).frame[5:]


def test_what_did_not_leave_goes_before_what_came_later() -> None:
    queue = opened()
    queue.unsent.extend([get(1), get(2)])
    queue.take(LIMIT)
    queue.sent_bytes(0, 0.0)
    queue.unsent.append(get(3))
    assert send_all(queue) == get(1).frame + get(2).frame + get(3).frame


def test_requests_remember_when_they_left() -> None:
    queue = opened()
    write = Request(SET_DATA, 1, SET_DATA.frame(1, "/a", b"", -1), "/a")
    delete = Request(DELETE, 2, DELETE.frame(2, "/a", -1), "/a")
    read = get(3)
    queue.unsent.extend([write, delete, read])
    queue.take(LIMIT)
    queue.sent_bytes(len(write.frame) + 1, 50.0)
    assert (write.sent_at, delete.sent_at) == (50.0, 50.0)
    send_all(queue, 60.0)
    # The first byte counts: the server may have the whole request no earlier than that.
    assert (delete.sent_at, read.sent_at) == (50.0, 60.0)


# --- withdrawing


def test_a_withdrawn_request_is_never_sent() -> None:
    queue = opened()
    requests = [get(xid) for xid in (1, 2, 3)]
    queue.unsent.extend(requests)
    queue.withdraw(requests[1])
    assert send_all(queue) == requests[0].frame + requests[2].frame


def test_a_single_withdrawn_request_is_passed_over() -> None:
    queue = opened()
    request = get(1)
    queue.unsent.append(request)
    queue.withdraw(request)
    assert queue.take(LIMIT) == b""
    assert not queue.has_output


def test_a_request_that_was_given_back_can_still_be_withdrawn() -> None:
    queue = opened()
    requests = [get(1), get(2)]
    queue.unsent.extend(requests)
    queue.take(LIMIT)
    queue.sent_bytes(0, 0.0)
    queue.withdraw(requests[0])
    assert send_all(queue) == requests[1].frame


def test_withdrawn_requests_do_not_pile_up_while_nothing_is_sent() -> None:
    queue = RequestQueue(10)
    kept = get(1)
    queue.unsent.append(kept)
    for xid in range(2, 5002):
        request = get(xid)
        queue.unsent.append(request)
        queue.withdraw(request)
        assert len(queue.unsent) <= 1002
    queue.open = True
    assert send_all(queue) == kept.frame


def test_clearing_away_many_withdrawn_requests_costs_each_of_them_little() -> None:
    queue = RequestQueue(10)
    looked_at = 0

    class Looked(Request):
        __slots__ = ()

        def __getattribute__(self, name: str) -> object:
            nonlocal looked_at
            looked_at += name == "withdrawn"
            return super().__getattribute__(name)

    requests = [Looked(GET_DATA, xid, b"", "/a") for xid in range(1, 20_001)]
    queue.unsent.extend(requests)
    for request in requests:
        queue.withdraw(request)
    assert looked_at <= 4 * len(requests)
    assert len(queue.unsent) <= 1001


# --- answers


def test_the_head_is_what_is_answered() -> None:
    queue = opened()
    requests = [get(1), get(2)]
    queue.unsent.extend(requests)
    send_all(queue)
    assert queue.answered(1) is requests[0]
    assert queue.answered(2) is requests[1]
    assert queue.idle


def test_another_xid_than_the_heads_is_an_error() -> None:
    queue = opened()
    queue.unsent.extend([get(1), get(2)])
    send_all(queue)
    with pytest.raises(WireError, match="answered request 2 where the answer to request 1 was due"):
        queue.answered(2)


def test_an_answer_to_nothing_is_an_error() -> None:
    with pytest.raises(WireError, match="answered request 7 where none was due"):
        opened().answered(7)


def test_an_auth_answer_keeps_its_place() -> None:
    queue = opened()
    first, middle, last = get(1), auth(), get(2)
    queue.unsent.extend([first, middle, last])
    send_all(queue)
    answered = queue.answered_early()
    answered.done = True
    assert answered is middle
    assert queue.take_held() is None
    assert queue.answered(1) is first
    assert queue.take_held() is middle
    assert queue.held == 0
    assert queue.answered(2) is last


def test_auth_answers_come_in_their_own_order() -> None:
    queue = opened()
    requests = [auth(b"1"), auth(b"2")]
    queue.unsent.extend(requests)
    send_all(queue)
    assert [queue.answered_early(), queue.answered_early()] == requests
    with pytest.raises(WireError, match="auth request that was never sent"):
        queue.answered_early()


def test_an_answer_cannot_overtake_an_unanswered_auth() -> None:
    queue = opened()
    queue.unsent.extend([auth(), get(1)])
    send_all(queue)
    with pytest.raises(WireError):
        queue.answered(1)


# --- the end of a link


@pytest.mark.parametrize("cut", range(len(get(1).frame) * 2 + 1))
def test_a_lost_link_tells_what_may_have_left(cut: int) -> None:
    queue = opened()
    requests = [get(1), get(2), get(3)]
    size = len(requests[0].frame)
    queue.unsent.extend(requests[:2])
    queue.take(LIMIT)
    queue.sent_bytes(cut, 0.0)
    queue.unsent.append(requests[2])
    left = -(-cut // size)
    assert queue.lost() == (requests[:left], requests[left:])
    assert queue.open is False
    assert queue.lost() == ([], [])
    queue.open = True
    assert queue.idle
    assert not queue.has_output


def test_what_was_offered_and_never_reported_has_not_left() -> None:
    queue = opened()
    requests = [get(1), get(2)]
    queue.unsent.extend(requests)
    queue.take(LIMIT)
    assert queue.lost() == ([], requests)
    assert queue.lost() == ([], [])
    assert queue.idle


def test_what_nobody_waits_for_does_not_survive_the_link() -> None:
    queue = opened()
    withdrawn, own, waiting = get(1), Request(GET_DATA, 2, get(2).frame), get(3)
    queue.unsent.extend([withdrawn, own, waiting])
    queue.withdraw(withdrawn)
    queue.control.append(ping())
    assert queue.lost() == ([], [waiting])


def test_held_auth_answers_are_forgotten_with_the_link() -> None:
    queue = opened()
    queue.unsent.extend([get(1), auth(), auth()])
    send_all(queue)
    queue.answered_early()
    queue.lost()
    assert queue.held == 0
    assert queue.take_held() is None
    with pytest.raises(WireError):
        queue.answered_early()


def test_a_connection_loss_names_its_path() -> None:
    assert str(ConnectionLoss("gone", path="/a")) == "gone (/a)"


def test_everyone_fails_with_an_error_of_his_own() -> None:
    requests = [get(1, "/a"), get(2, "/b")]
    cause = OSError("cable")
    assert fail_all(requests, lambda: ConnectionLoss("gone"), outcome_unknown=True, cause=cause) == requests
    for request in requests:
        assert request.done
        assert isinstance(request.error, ConnectionLoss)
        assert (request.error.path, request.error.outcome_unknown) == (request.path, True)
        assert request.error.__cause__ is cause
    assert requests[0].error is not requests[1].error
    certain = get(3)
    fail_all([certain], ConnectionLoss, outcome_unknown=False)
    assert isinstance(certain.error, ConnectionLoss)
    assert certain.error.outcome_unknown is False


def test_an_outcome_that_is_known_is_not_changed() -> None:
    answered, refused, withdrawn = get(1), get(2), get(3)
    answered.done = refused.done = True
    answered.value = "answer"
    error = refused.error = NoNodeError()
    withdrawn.waiter = None
    assert fail_all([answered, refused, withdrawn], ConnectionLoss, outcome_unknown=True) == [answered, refused]
    assert (answered.error, answered.result()) == (None, "answer")
    assert refused.error is error
    assert error.__cause__ is None
    assert isinstance(withdrawn.error, ConnectionLoss)


def test_an_error_that_is_known_already_is_kept_with_the_cause_of_the_loss() -> None:
    """The reply that was too large: known before the link is dropped for it."""
    request, cause = get(1), OSError("cable")
    error = request.error = NoNodeError(path="/kept")
    fail_all([request], ConnectionLoss, outcome_unknown=True, cause=cause)
    assert request.done
    assert request.error is error
    assert (error.path, error.outcome_unknown, error.__cause__) == ("/kept", False, cause)


def test_an_error_of_its_own_kind_may_have_no_path() -> None:
    request = get(1)
    fail_all([request], lambda: WireError("odd"), outcome_unknown=True)
    assert isinstance(request.error, WireError)


# --- everything at once


class QueueMachine(RuleBasedStateMachine):
    """The model: which requests exist in which order, and which bytes have left on the present link."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = opened(max_in_flight=4)
        self.xid = 0
        self.requests: list[Request] = []  # since the last loss, in call order, whatever became of them
        self.wire = b""
        self.answered = 0  # of those on the wire
        self.never: set[Request] = set()  # withdrawn before a byte of them had left
        self.frames: dict[Request, bytes] = {}  # a withdrawn request lets go of its own

    def on_wire(self) -> list[Request]:
        """Requests of which at least a byte left."""
        found: list[Request] = []
        position = 0
        for request in self.requests:
            if position < len(self.wire) and request not in self.never:
                found.append(request)
                position += len(self.frames[request])
        assert b"".join(self.frames[request] for request in found).startswith(self.wire)
        assert position >= len(self.wire)
        return found

    @rule(length=st.integers(1, 12))
    def submit(self, length: int) -> None:
        self.xid += 1
        request = get(self.xid, "/" + "x" * length)
        self.requests.append(request)
        self.frames[request] = request.frame
        self.queue.unsent.append(request)

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        waiting = [request for request in self.requests if not request.withdrawn and not request.done]
        if waiting:
            request = data.draw(st.sampled_from(waiting))
            if request not in self.on_wire():
                self.never.add(request)
            request.waiter = None
            self.queue.withdraw(request)

    @precondition(lambda self: self.queue.has_output)
    @rule(limit=st.sampled_from([1, 40, LIMIT]), data=st.data())
    def send(self, limit: int, data: st.DataObject) -> None:
        offered = self.queue.take(limit)
        count = data.draw(st.integers(0, len(offered)))
        self.queue.sent_bytes(count, 0.0)
        self.wire += offered[:count]

    @rule()
    def answer(self) -> None:
        on_wire = self.on_wire()
        complete = sum(len(self.frames[request]) for request in on_wire) == len(self.wire)
        whole = on_wire if complete else on_wire[:-1]
        if self.answered < len(whole):
            request = whole[self.answered]
            assert self.queue.answered(request.xid) is request
            request.done = True
            self.answered += 1

    @rule()
    def lose(self) -> None:
        on_wire = self.on_wire()
        sent, unsent = self.queue.lost()
        assert sent == on_wire[self.answered :]
        assert unsent == [request for request in self.requests if request not in on_wire and not request.withdrawn]
        self.requests, self.wire, self.answered, self.never = [], b"", 0, set()

    @invariant()
    def in_flight_is_what_has_left(self) -> None:
        on_wire = self.on_wire()
        assert list(self.queue.sent) == on_wire[self.answered :]
        assert len(self.queue.sent) <= 4
        xids = [request.xid for request in on_wire]
        assert xids == sorted(xids)


QueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_the_queue_under_arbitrary_sends = QueueMachine.TestCase
