"""What waits for the answer of a sync, and what does not."""

from __future__ import annotations

from hypothesis import given, strategies as st

from terzetto.client.wire import Opcode
from terzetto.testcluster.connection import Connection, Request
from terzetto.testcluster.sync_barriers import SyncBarriers


def connection() -> Connection:
    return Connection("127.0.0.1", (), max_frame=100, now_ms=0)


def sync(of: Connection) -> Request:
    return Request(1, 0, Opcode.SYNC, b"", connection=of)


def write(of: Connection | None) -> Request:
    return Request(1, 0, Opcode.CREATE, b"", connection=of)


def test_a_write_behind_a_sync_waits_for_its_answer() -> None:
    one, barriers = connection(), SyncBarriers()
    before, first, second, behind, last = write(one), sync(one), sync(one), write(one), sync(one)
    assert barriers.admit([before, first, second, behind, last]) == [before, first, second]
    later = write(one)
    assert barriers.admit([later]) == []
    assert barriers.answered(first) == []
    freed = barriers.answered(second)
    assert freed == [behind, last, later]
    assert barriers.admit(freed) == [behind, last]
    assert barriers.answered(last) == [later]
    assert barriers.admit([later]) == [later]


def test_others_do_not_wait() -> None:
    one, other, barriers = connection(), connection(), SyncBarriers()
    own, theirs = write(None), write(other)
    first = sync(one)
    assert barriers.admit([first, own, theirs]) == [first, own, theirs]


def test_nothing_waits_for_the_answer_of_a_connection_that_is_gone() -> None:
    one, barriers = connection(), SyncBarriers()
    first, behind, second = sync(one), write(one), sync(one)
    assert barriers.admit([first, behind, second]) == [first]
    assert barriers.lift(one) == [behind, second]
    assert barriers.answered(first) == barriers.lift(one) == []


def test_nothing_waits_for_what_will_not_be_answered() -> None:
    one, barriers = connection(), SyncBarriers()
    first, behind = sync(one), write(one)
    assert barriers.admit([first, behind]) == [first]
    barriers.clear()
    assert barriers.answered(first) == []
    assert barriers.admit([behind]) == [behind]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=40))
def test_order_is_kept_and_no_write_overtakes_a_sync(steps: list[tuple[int, bool, bool]]) -> None:
    connections, barriers = [connection() for _ in range(3)], SyncBarriers()
    came: list[Request] = []
    admitted: list[Request] = []
    waiting: list[Request] = []

    def admit(requests: list[Request]) -> None:
        for request in barriers.admit(requests):
            if request.opcode == Opcode.SYNC:
                waiting.append(request)
            else:
                assert not [each for each in waiting if each.connection is request.connection]
            admitted.append(request)

    for number, is_sync, answers in steps:
        request = sync(connections[number]) if is_sync else write(connections[number])
        came.append(request)
        admit([request])
        if answers and waiting:
            admit(barriers.answered(waiting.pop(0)))
    while waiting:
        admit(barriers.answered(waiting.pop(0)))
    for each in connections:
        assert [request for request in admitted if request.connection is each] == [
            request for request in came if request.connection is each
        ]
