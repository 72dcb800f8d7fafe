"""`RetryPolicy`: what is safe to send again, and the bounds; `zk.retry`; what the client does with a policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import tenacity
import trio
from trio.testing import MockClock

from terzetto.client import (
    OPEN_ACL_UNSAFE,
    ConnectionLoss,
    KazooException,
    NoNodeError,
    ReadData,
    ReplyTooLargeError,
    RetryPolicy,
    SessionExpiredError,
    ThrottledOpError,
    ZooKeeper,
)
from terzetto.client.wire import Opcode

from .memory_server import MemoryEnsemble, in_turn
from .server_link import Code, Fault, every, nth

STEADY = RetryPolicy(attempts=4, deadline=None, wait=tenacity.wait_fixed(2.0))

REPEATABLE = {
    Opcode.EXISTS,
    Opcode.GET_DATA,
    Opcode.GET_ACL,
    Opcode.GET_CHILDREN,
    Opcode.GET_CHILDREN2,
    Opcode.SYNC,
    Opcode.MULTI_READ,
    Opcode.GET_EPHEMERALS,
    Opcode.GET_ALL_CHILDREN_NUMBER,
    Opcode.WHO_AM_I,
}


# What is safe ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", list(Opcode))
def test_only_reads_may_be_repeated_when_the_outcome_is_unknown(opcode: Opcode) -> None:
    policy = RetryPolicy()
    assert policy.is_safe(ConnectionLoss(outcome_unknown=True), opcode) == (opcode in REPEATABLE)


@pytest.mark.parametrize("opcode", [*Opcode, None])
def test_what_certainly_did_not_happen_may_be_repeated(opcode: Opcode | None) -> None:
    assert RetryPolicy().is_safe(ConnectionLoss(outcome_unknown=False), opcode)
    assert RetryPolicy().is_safe(ThrottledOpError(), opcode)


@pytest.mark.parametrize("opcode", [*Opcode, None])
@pytest.mark.parametrize("unknown", [True, False])
def test_a_reply_that_was_too_large_is_never_asked_for_again(opcode: Opcode | None, unknown: bool) -> None:
    assert not RetryPolicy().is_safe(ReplyTooLargeError(outcome_unknown=unknown), opcode)


@pytest.mark.parametrize(
    "error", [NoNodeError(), SessionExpiredError(), KazooException(), OSError(), KeyboardInterrupt()]
)
def test_nothing_else_is_ever_repeated(error: BaseException) -> None:
    assert not RetryPolicy().is_safe(error, Opcode.GET_DATA)
    assert not RetryPolicy().is_safe(error)


def test_a_caller_may_take_the_responsibility() -> None:
    assert RetryPolicy().is_safe(ConnectionLoss(outcome_unknown=True), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "attempts must be at least 1 or None, not 0"),
        ({"attempts": "x"}, "attempts must be at least 1 or None, not 'x'"),
        ({"deadline": "x"}, "deadline must be more than 0 seconds or None, not 'x'"),
        ({"deadline": float("nan")}, "deadline must be more than 0 seconds or None, not nan"),
        ({"wait": 1.5}, r"wait must be a tenacity wait strategy, not 1\.5"),
        ({"deadline": 0}, "deadline must be more than 0 seconds or None, not 0"),
        ({"deadline": -1.0}, r"deadline must be more than 0 seconds or None, not -1\.0"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetryPolicy(**options)


# In the client --------------------------------------------------------------------------------------------------------

READS: dict[int, Callable[[ZooKeeper], Awaitable[object]]] = {
    Opcode.GET_DATA: lambda zk: zk.get("/a"),
    Opcode.EXISTS: lambda zk: zk.exists("/a"),
    Opcode.GET_CHILDREN: lambda zk: zk.get_children("/a"),
    Opcode.GET_CHILDREN2: lambda zk: zk.get_children("/a", include_data=True),
    Opcode.GET_ACL: lambda zk: zk.get_acls("/a"),
    Opcode.SYNC: lambda zk: zk.sync("/a"),
    Opcode.MULTI_READ: lambda zk: zk.multi_read([ReadData("/a")]),
    Opcode.GET_EPHEMERALS: lambda zk: zk.get_ephemerals(),
    Opcode.GET_ALL_CHILDREN_NUMBER: lambda zk: zk.count_descendants("/a"),
    Opcode.WHO_AM_I: lambda zk: zk.who_am_i(),
}


async def _commit(zk: ZooKeeper) -> None:
    async with zk.transaction() as t:
        t.set_data("/a", b"x")


WRITES: dict[int, Callable[[ZooKeeper], Awaitable[object]]] = {
    Opcode.CREATE: lambda zk: zk.create("/b"),
    Opcode.CREATE2: lambda zk: zk.create("/b", include_data=True),
    Opcode.CREATE_TTL: lambda zk: zk.create("/b", ttl=1.0),
    Opcode.CREATE_CONTAINER: lambda zk: zk.create("/b", container=True),
    Opcode.DELETE: lambda zk: zk.delete("/a"),
    Opcode.SET_DATA: lambda zk: zk.set("/a", b"x"),
    Opcode.SET_ACL: lambda zk: zk.set_acls("/a", OPEN_ACL_UNSAFE),
    Opcode.MULTI: _commit,
    Opcode.RECONFIG: lambda zk: zk.reconfig(new_members="x"),
}


@pytest.mark.parametrize("opcode", READS)
async def test_a_read_survives_lost_connections(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, opcode: int
) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(in_turn(opcode, Fault.CUT, Fault.DO_AND_CUT))
    async with ensemble.open(retry=STEADY) as zk:
        start = trio.current_time()
        await READS[opcode](zk)
        assert trio.current_time() - start == 4.0
    assert ensemble.opcodes().count(opcode) == 3


@pytest.mark.parametrize("opcode", [*READS, *WRITES])
async def test_without_a_policy_nothing_is_sent_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, opcode: int
) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(nth(1, opcode, Fault.CUT))
    async with ensemble.open() as zk:
        with pytest.raises(ConnectionLoss) as caught:
            await {**READS, **WRITES}[opcode](zk)
        assert caught.value.outcome_unknown
    assert ensemble.opcodes().count(opcode) == 1


@pytest.mark.parametrize("opcode", WRITES)
async def test_a_write_whose_outcome_is_unknown_is_not_sent_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, opcode: int
) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(nth(1, opcode, Fault.DO_AND_CUT))
    async with ensemble.open(retry=STEADY) as zk:
        start = trio.current_time()
        with pytest.raises(ConnectionLoss) as caught:
            await WRITES[opcode](zk)
        assert caught.value.outcome_unknown
        assert trio.current_time() == start
    assert ensemble.opcodes().count(opcode) == 1


@pytest.mark.parametrize("opcode", [*READS, *WRITES])
async def test_a_throttled_request_is_sent_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, opcode: int
) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(nth(1, opcode, Code(-127)))
    async with ensemble.open(retry=STEADY) as zk:
        await {**READS, **WRITES}[opcode](zk)
    assert ensemble.opcodes().count(opcode) == 2


async def test_a_write_of_which_no_byte_left_is_sent_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(retry=STEADY, max_in_flight=1) as zk:
        ensemble.link.paused = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(zk.exists, "/")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(zk.create, "/a")
            await trio.testing.wait_all_tasks_blocked()
            ensemble.cut()
        assert "/a" in ensemble.realm.znodes
    assert ensemble.opcodes().count(Opcode.CREATE) == 1


async def test_attempts_are_bounded_the_first_included(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(every(Opcode.GET_DATA, Fault.CUT))
    async with ensemble.open(retry=STEADY) as zk:
        start = trio.current_time()
        with pytest.raises(ConnectionLoss):
            await zk.get("/")
        assert trio.current_time() - start == 6.0
    assert ensemble.opcodes().count(Opcode.GET_DATA) == 4


async def test_one_attempt_is_no_retry(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(every(Opcode.GET_DATA, Fault.CUT))
    async with ensemble.open(retry=RetryPolicy(attempts=1)) as zk:
        start = trio.current_time()
        with pytest.raises(ConnectionLoss):
            await zk.get("/")
        assert trio.current_time() == start
    assert ensemble.opcodes().count(Opcode.GET_DATA) == 1


async def test_the_time_is_bounded(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(every(Opcode.GET_DATA, Fault.CUT))
    policy = RetryPolicy(attempts=None, deadline=9.0, wait=tenacity.wait_fixed(2.0))
    async with ensemble.open(retry=policy) as zk:
        start = trio.current_time()
        with pytest.raises(ConnectionLoss):
            await zk.get("/")
        # At 0, 2, 4, 6, 8 and 10; none begins more than a pause behind the deadline.
        assert 8.0 <= trio.current_time() - start <= 11.0
    assert 5 <= ensemble.opcodes().count(Opcode.GET_DATA) <= 6


async def test_a_reply_that_is_too_large_costs_one_attempt(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/big", bytes(3000))
    async with ensemble.open(retry=STEADY, max_reply_size=2000) as zk:
        with pytest.raises(ReplyTooLargeError):
            await zk.get("/big")
    assert ensemble.opcodes().count(Opcode.GET_DATA) == 1


async def test_another_error_ends_it_unchanged(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(nth(1, Opcode.GET_DATA, Fault.CUT))
    async with ensemble.open(retry=STEADY) as zk:
        with pytest.raises(NoNodeError) as caught:
            await zk.get("/missing")
        assert caught.value.path == "/missing"
        assert not isinstance(caught.value.__cause__, tenacity.RetryError)


async def test_the_first_attempt_does_without_tenacity(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NeverAsked(RetryPolicy):
        def retrying(self, opcode: int | None = None) -> tenacity.AsyncRetrying:
            raise AssertionError("no attempt has failed")

        def is_safe(self, error: BaseException, opcode: int | None = None) -> bool:
            raise AssertionError("no attempt has failed in a way that is ever retried")

    async with ensemble.open(retry=NeverAsked()) as zk:
        await zk.create("/a", b"1")
        assert (await zk.get("/a"))[0] == b"1"
        with pytest.raises(NoNodeError):
            await zk.get("/b")


async def test_a_retry_can_be_cancelled_in_its_pause(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(every(Opcode.GET_DATA, Fault.CUT))
    async with ensemble.open(retry=RetryPolicy(None, None, tenacity.wait_fixed(100.0))) as zk:
        with trio.move_on_after(150.0) as scope:
            await zk.get("/")
        assert scope.cancelled_caught
    assert ensemble.opcodes().count(Opcode.GET_DATA) == 2


# zk.retry -------------------------------------------------------------------------------------------------------------


async def test_retry_gives_arguments_and_result_through(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        assert await zk.retry(zk.create, "/a", b"1", ephemeral=True) == "/a"
        stat = await zk.retry(zk.exists, "/a")
        assert stat is not None
        assert stat.owner_session_id == zk.session_id


async def test_retry_repeats_a_write_because_the_caller_answers_for_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(in_turn(Opcode.SET_DATA, Fault.DO_AND_CUT, Fault.CUT))
    async with ensemble.open(retry=STEADY) as zk:
        stat = await zk.retry(zk.set, "/a", b"x")
        assert stat.version == 2


async def test_retry_without_a_policy_uses_the_default_one(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(every(Opcode.GET_DATA, Fault.CUT))
    async with ensemble.open() as zk:
        with pytest.raises(ConnectionLoss):
            await zk.retry(zk.get, "/")
    assert ensemble.opcodes().count(Opcode.GET_DATA) == RetryPolicy().attempts


async def test_retry_lets_every_other_error_through_at_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    calls: list[int] = []
    error = ZeroDivisionError()

    async def fails(argument: int) -> None:
        await trio.lowlevel.checkpoint()
        calls.append(argument)
        raise error

    async with ensemble.open() as zk:
        with pytest.raises(ZeroDivisionError) as caught:
            await zk.retry(fails, 7)
    assert caught.value is error
    assert calls == [7]
