"""How a peer's work is cut into portions, and what waits for the disk."""

from __future__ import annotations

from terzetto.testcluster.messages import PacketType, QuorumPacket, ServerState
from terzetto.testcluster.outbox import Outbox
from terzetto.testcluster.ready import (
    AppendTxns,
    LearnerJoined,
    Ready,
    Role,
    SendPacket,
    TruncateHistory,
    WriteAcceptedEpoch,
)

from .bench import entry, txn

LOOKING = Role(ServerState.LOOKING, 1, None, serving=False, may_snapshot=False)
LEADING = Role(ServerState.LEADING, 2, 1, serving=True, may_snapshot=True)


def taken(outbox: Outbox) -> list[Ready]:
    readys: list[Ready] = []
    while ready := outbox.take():
        readys.append(ready)
    return readys


def test_without_work_there_is_nothing_to_take() -> None:
    outbox = Outbox()
    assert outbox.take() is None
    outbox.send(SendPacket(1, QuorumPacket(PacketType.PING, 0)))
    assert [ready.number for ready in taken(outbox)] == [1]
    assert outbox.take() is None


def test_what_comes_together_is_one_portion() -> None:
    outbox = Outbox()
    outbox.write(WriteAcceptedEpoch(1))
    outbox.apply([txn(1)])
    outbox.become(LEADING)
    outbox.call(LearnerJoined(1, 2))
    outbox.send(SendPacket(1, QuorumPacket(PacketType.PING, 0)))
    (ready,) = taken(outbox)
    assert (len(ready.writes), ready.applies, ready.role) == (1, [txn(1)], LEADING)
    assert (len(ready.upcalls), len(ready.sends)) == (1, 1)


def test_appends_that_come_together_are_one_write() -> None:
    outbox = Outbox()
    first = [entry(1)]
    outbox.append(first)
    outbox.append([entry(2)])
    outbox.write(WriteAcceptedEpoch(1))
    outbox.append([entry(3)])
    (ready,) = taken(outbox)
    assert ready.writes == [AppendTxns([entry(1), entry(2)]), WriteAcceptedEpoch(1), AppendTxns([entry(3)])]
    assert first == [entry(1)]


def test_nothing_of_a_role_is_carried_out_under_the_next() -> None:
    outbox = Outbox()
    outbox.apply([txn(1)])
    outbox.become(LEADING)
    outbox.apply([txn(2)])
    outbox.call(LearnerJoined(1, 2))
    outbox.become(LOOKING)
    outbox.become(LEADING)
    readys = taken(outbox)
    assert [ready.role for ready in readys] == [LEADING, None, LOOKING, LEADING]
    assert [ready.applies for ready in readys] == [[txn(1)], [txn(2)], [], []]
    assert [ready.number for ready in readys] == [1, 2, 3, 4]


def test_the_tree_is_not_rebuilt_while_transactions_are_applied_to_it() -> None:
    outbox = Outbox()
    outbox.apply([txn(1)])
    outbox.write(TruncateHistory(1))
    assert [bool(ready.writes) for ready in taken(outbox)] == [False, True]


def test_what_waits_for_the_disk_comes_in_order() -> None:
    outbox = Outbox()
    done: list[str] = []
    outbox.when_durable(lambda: done.append("at once"))
    outbox.append([entry(1)])
    outbox.when_durable(lambda: done.append("first"))
    outbox.take()
    outbox.append([entry(2)])
    outbox.when_durable(lambda: done.append("second"))
    outbox.durable(2)
    # What was not taken was not written.
    assert done == ["at once", "first"]
    outbox.take()
    outbox.durable(1)
    assert not outbox.is_durable
    outbox.durable(2)
    assert done == ["at once", "first", "second"]
    assert outbox.is_durable


def test_what_follows_from_a_write_may_write_again() -> None:
    outbox = Outbox()
    done: list[str] = []

    def again() -> None:
        outbox.append([entry(2)])
        outbox.when_durable(lambda: done.append("twice"))
        done.append("once")

    outbox.append([entry(1)])
    outbox.when_durable(again)
    outbox.take()
    outbox.durable(1)
    assert done == ["once"]
    outbox.take()
    outbox.durable(2)
    assert done == ["once", "twice"]


def test_the_end_of_a_role_is_the_end_of_what_it_waits_for() -> None:
    outbox = Outbox()
    done: list[str] = []
    outbox.append([entry(1)])
    outbox.when_durable(lambda: done.append("role"))
    outbox.when_durable(lambda: done.append("server"), outlives_role=True)
    outbox.end_role()
    outbox.take()
    outbox.durable(1)
    assert done == ["server"]


def test_what_could_not_be_written_has_no_consequences() -> None:
    outbox = Outbox()
    done: list[str] = []
    for number in range(3):
        outbox.write(TruncateHistory(number))
        outbox.when_durable(lambda number=number: done.append(str(number)), outlives_role=True)  # type: ignore[misc]
        outbox.take()
    outbox.not_written(2)
    assert done == ["0"]
    assert not outbox.is_durable
    outbox.durable(3)
    assert done == ["0", "2"]
