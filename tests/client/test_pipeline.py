"""`zk.pipeline()`: order, back-pressure, prompt sending, errors in the handles only, loss and cancellation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import (
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    BadVersionError,
    ConnectionLoss,
    KazooState,
    NodeExistsError,
    NoNodeError,
    Pipeline,
    PipelineResult,
    SessionExpiredError,
    ZnodeStat,
    ZooKeeper,
)
from terzetto.client.wire import Opcode

from .holdings import answer_some, drained, holdings
from .memory_server import Door, MemoryEnsemble, pass_time, settle, until
from .server_link import Code, Fault, nth


async def _fill(zk: ZooKeeper, count: int, window: int, handles: list[PipelineResult[Any]]) -> None:
    async with zk.pipeline(window) as p:
        for number in range(count):
            handles.append(await p.create(f"/a/{number}"))


# Results --------------------------------------------------------------------------------------------------------------


async def test_results_of_every_operation(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/app")
    async with ensemble.open(chroot="/app") as zk:
        async with zk.pipeline() as p:
            created = await p.create("/a", b"1")
            child = await p.create("/a/b", None, READ_ACL_UNSAFE)
            sequential = await p.create("/a/s-", sequence=True, ephemeral=True)
            with_ttl = await p.create("/a/ttl", ttl=5.0)
            with_stat = await p.create("/a/stat", include_data=True)
            container = await p.create("/a/container", container=True)
            data = await p.get("/a")
            stat = await p.exists("/a")
            absent = await p.exists("/absent")
            names = await p.get_children("/a")
            acl = await p.get_acls("/a/b")
            written = await p.set("/a", b"2", 0)
            acl_set = await p.set_acls("/a/b", OPEN_ACL_UNSAFE, 0)
            deleted = await p.delete("/a/b", 0)
            synced = await p.sync("/a")
    assert (created.result(), child.result(), sequential.result()) == ("/a", "/a/b", "/a/s-0000000001")
    assert (with_ttl.result(), container.result()) == ("/a/ttl", "/a/container")
    path, made = with_stat.result()
    assert (path, made.version, made.czxid > 0) == ("/a/stat", 0, True)
    assert data.result()[0] == b"1"
    found = stat.result()
    assert isinstance(found, ZnodeStat)
    assert found == data.result()[1]
    assert absent.result() is None
    assert sorted(names.result()) == ["b", "container", "s-0000000001", "stat", "ttl"]
    assert acl.result()[0] == READ_ACL_UNSAFE
    assert written.result().version == 1
    assert acl_set.result().aversion == 1
    assert deleted.result() is True
    assert synced.result() == "/a"


async def test_requests_are_sent_in_call_order(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    handles: list[PipelineResult[Any]] = []
    async with ensemble.open() as zk:
        await _fill(zk, 1000, 64, handles)
    paths = [request.path for request in ensemble.received if request.opcode == Opcode.CREATE]
    assert paths == [f"/a/{number}" for number in range(1000)]
    assert [handle.result() for handle in handles] == paths


async def test_everything_is_answered_when_the_block_has_ended(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        ensemble.latency = 3.0
        async with zk.pipeline() as p:
            handle = await p.get("/a")
            early = handle.done
            with pytest.raises(RuntimeError, match="no result yet"):
                handle.result()
        assert (early, handle.done) == (False, True)
        assert handle.result()[0] == b""


async def test_errors_are_raised_by_the_handles_and_nowhere_else(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        async with zk.pipeline() as p:
            missing = await p.get("/missing")
            exists = await p.create("/a")
            version = await p.set("/a", b"x", 7)
            fine = await p.get("/a")
    with pytest.raises(NoNodeError) as caught:
        missing.result()
    assert caught.value.path == "/missing"
    with pytest.raises(NodeExistsError):
        exists.result()
    with pytest.raises(BadVersionError):
        version.result()
    assert fine.result()[0] == b""


# Back-pressure and promptness -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 10, 128, 200, 300])
async def test_a_submission_waits_while_the_window_is_full(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, nursery: trio.Nursery, window: int
) -> None:
    ensemble.realm.create("/a")
    handles: list[PipelineResult[Any]] = []
    async with ensemble.open() as zk:
        ensemble.link.paused = True
        async with trio.open_nursery() as inner:
            inner.start_soon(_fill, zk, 1000, window, handles)
            await settle()
            # The handle of the submission that waits is not there yet.
            assert len(handles) == window - 1
            assert ensemble.opcodes().count(Opcode.CREATE) == window
            await pass_time(2.0)
            assert len(handles) == window - 1
            ensemble.link.resume()
        assert len(handles) == 1000
        assert all(handle.done for handle in handles)


async def test_the_link_does_not_run_dry_between_two_windows(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    handles: list[PipelineResult[Any]] = []
    async with ensemble.open() as zk:
        ensemble.link.paused = True
        async with trio.open_nursery() as inner:
            inner.start_soon(_fill, zk, 1000, 100, handles)
            await settle()
            answer_some(ensemble.link, 51)
            await settle()
            # Half of the window was still unanswered when the task went on and filled it up.
            assert ensemble.opcodes().count(Opcode.CREATE) == 151
            ensemble.link.resume()
        assert [handle.result() for handle in handles] == [f"/a/{number}" for number in range(1000)]


async def test_bytes_fill_the_window_too(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    submitted = 0

    async def fill(zk: ZooKeeper) -> None:
        nonlocal submitted
        async with zk.pipeline() as p:
            for _ in range(30):
                await p.set("/a", bytes(1_000_000))
                submitted += 1

    async with ensemble.open() as zk:
        ensemble.link.paused = True
        async with trio.open_nursery() as inner:
            inner.start_soon(fill, zk)
            await settle()
            # 4 MiB hold four requests of a million bytes; the fifth waits.
            assert submitted == 4
            ensemble.link.resume()
        assert submitted == 30


async def test_requests_leave_while_the_task_does_something_else(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        async with zk.pipeline() as p:
            first = await p.get("/a")
            second = await p.get("/a")
            await pass_time(0.5)
            assert (first.done, second.done) == (True, True)
            third = await p.get("/a")
            await pass_time(0.5)
            assert third.done


async def test_a_plain_call_between_submissions_keeps_its_place(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        async with zk.pipeline() as p:
            created = await p.create("/a", b"1")
            assert (await zk.get("/a"))[0] == b"1"
            assert created.done
            await p.set("/a", b"2")
            assert (await zk.get("/a"))[0] == b"2"


@pytest.mark.parametrize("window", [0, -1, 1.5, True, "x"])
async def test_a_window_without_room_is_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, window: Any
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(ValueError, match=f"window must be at least 1 request, not {window!r}"):
            zk.pipeline(window)


SUBMISSIONS: list[Callable[[Pipeline], Awaitable[object]]] = [
    lambda p: p.get("/a"),
    lambda p: p.exists("/a"),
    lambda p: p.get_children("/a"),
    lambda p: p.get_acls("/a"),
    lambda p: p.create("/a"),
    lambda p: p.set("/a", b""),
    lambda p: p.delete("/a"),
    lambda p: p.set_acls("/a", OPEN_ACL_UNSAFE),
    lambda p: p.sync("/a"),
]


@pytest.mark.parametrize("submit", SUBMISSIONS)
async def test_submitting_outside_the_block_is_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, submit: Callable[[Pipeline], Awaitable[object]]
) -> None:
    async with ensemble.open() as zk:
        p = zk.pipeline()
        with pytest.raises(RuntimeError, match="inside its 'async with' block"):
            await submit(p)
        async with p:
            await submit(p)
        sent = len(ensemble.received)
        with pytest.raises(RuntimeError, match="inside its 'async with' block"):
            await submit(p)
        await zk.sync("/")
        assert len(ensemble.received) == sent + 1


async def test_a_bad_argument_is_refused_at_its_submission(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        async with zk.pipeline() as p:
            with pytest.raises(ValueError, match="must start with '/'"):
                await p.get("a")
            fine = await p.exists("/a")
        assert fine.result() is None


# Loss -----------------------------------------------------------------------------------------------------------------


async def test_after_a_loss_the_rest_fails_in_order_and_later_submissions_too(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(nth(4, Opcode.CREATE, Fault.DO_AND_CUT))
    handles: list[PipelineResult[Any]] = []
    async with ensemble.open() as zk:
        async with zk.pipeline() as p:
            for number in range(10):
                handles.append(await p.create(f"/a/{number}"))
            await until(lambda: len(ensemble.links) == 2 and zk.connected)
            for number in range(10, 15):
                handles.append(await p.create(f"/a/{number}"))
        outcomes = [_outcome(handle) for handle in handles]
        # A call outside goes on as usual, on the new connection.
        assert await zk.create("/b") == "/b"
    assert outcomes == ["/a/0", "/a/1", "/a/2", *["maybe"] * 7, *["never"] * 5]
    assert sorted(ensemble.realm.children("/a")) == ["0", "1", "2", "3"]


def _outcome(handle: PipelineResult[str]) -> str:
    try:
        return handle.result()
    except ConnectionLoss as error:
        return "maybe" if error.outcome_unknown else "never"


async def test_what_had_not_left_at_the_loss_certainly_did_not_happen(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    handles: list[PipelineResult[Any]] = []
    async with ensemble.open(max_in_flight=5) as zk:
        ensemble.link.paused = True
        async with trio.open_nursery() as inner:
            inner.start_soon(_fill, zk, 20, 2048, handles)
            await settle()
            ensemble.cut()
    assert [_outcome(handle) for handle in handles] == ["maybe"] * 5 + ["never"] * 15


async def test_a_lost_session_breaks_the_pipeline_too(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        async with zk.pipeline() as p:
            waiting = await p.create("/a/0")
            ensemble.expire(zk.session_id)
            ensemble.shut(Door.OPEN)
            await until(lambda: zk.state == KazooState.CONNECTED)
            later = await p.create("/a/1")
        with pytest.raises(SessionExpiredError) as caught:
            waiting.result()
        assert not caught.value.outcome_unknown
        with pytest.raises((ConnectionLoss, SessionExpiredError)):
            later.result()
    assert not ensemble.realm.children("/a")


async def test_a_pipeline_begun_while_suspended_waits_for_the_connection(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    handles: list[PipelineResult[Any]] = []
    async with ensemble.open() as zk:
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        async with trio.open_nursery() as inner:
            inner.start_soon(_fill, zk, 500, 300, handles)
            await pass_time(3.0)
            assert len(handles) == 299
            ensemble.shut(Door.OPEN)
        assert [handle.result() for handle in handles] == [f"/a/{number}" for number in range(500)]


# Leaving early --------------------------------------------------------------------------------------------------------


async def test_cancellation_withdraws_what_was_not_sent(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    handles: list[PipelineResult[Any]] = []
    async with ensemble.open(max_in_flight=5) as zk:
        before = await drained(zk)
        ensemble.link.paused = True
        with trio.move_on_after(1.0) as scope:
            await _fill(zk, 20, 2048, handles)
        assert scope.cancelled_caught
        assert holdings(zk) == before
        ensemble.link.resume()
        assert await drained(zk) == before
    assert sorted(ensemble.realm.children("/a")) == ["0", "1", "2", "3", "4"]


async def test_an_error_of_the_body_leaves_at_once_and_withdraws(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    error = ZeroDivisionError()

    async def block(zk: ZooKeeper) -> None:
        async with zk.pipeline() as p:
            for number in range(20):
                await p.create(f"/a/{number}")
            await settle()
            raise error

    async with ensemble.open(max_in_flight=5) as zk:
        before = await drained(zk)
        ensemble.link.paused = True
        start = trio.current_time()
        with pytest.raises(ZeroDivisionError) as caught:
            await block(zk)
        assert caught.value is error
        assert trio.current_time() == start
        ensemble.link.resume()
        assert await drained(zk) == before
    assert len(ensemble.realm.children("/a")) == 5


async def test_a_submission_that_waits_can_be_cancelled_and_the_block_used_on(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        ensemble.link.paused = True
        async with zk.pipeline(window=2) as p:
            first = await p.create("/a/0")
            with trio.move_on_after(1.0) as scope:
                await p.create("/a/1")
            assert scope.cancelled_caught
            ensemble.link.resume()
            third = await p.create("/a/2")
        assert (first.result(), third.result()) == ("/a/0", "/a/2")


async def test_a_second_task_may_not_wait_in_the_same_pipeline(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    refused: list[str] = []

    async def submit(p: Pipeline) -> None:
        try:
            await p.get("/a")
        except RuntimeError as error:
            refused.append(str(error))

    async with ensemble.open() as zk:
        ensemble.link.paused = True
        async with zk.pipeline(window=1) as p:
            async with trio.open_nursery() as inner:
                inner.start_soon(submit, p)
                inner.start_soon(submit, p)
                await settle()
                assert len(refused) == 1
                ensemble.link.resume()
        assert "belongs to one task" in refused[0]


async def test_an_unknown_error_code_is_its_handles_own(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(nth(1, Opcode.GET_DATA, Code(-9999)))
    async with ensemble.open() as zk:
        async with zk.pipeline() as p:
            strange = await p.get("/")
            fine = await p.get("/")
    with pytest.raises(Exception, match="unknown error code -9999"):
        strange.result()
    assert fine.result()[0] == b""
