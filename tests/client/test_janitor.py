"""`zk.defer_delete`: deletions that outlive their caller, and end with success, the session or the client."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, KazooState
from terzetto.client.wire import Opcode

from .deposed import DeposedLeader
from .holdings import drained, holdings
from .memory_server import Door, MemoryEnsemble, in_turn, pass_time, settle, until
from .server_link import Code, Fault, Received, every, nth


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "terzetto.client")


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_it_returns_at_once_and_deletes_in_the_background(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        zk.defer_delete("/a")
        assert holdings(zk).deletions == 1
        assert "/a" in ensemble.realm.znodes
        await settle()
        assert "/a" not in ensemble.realm.znodes
        assert holdings(zk).deletions == 0


async def test_the_cancellation_of_its_caller_does_not_stop_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        ensemble.latency = 1.0
        with trio.CancelScope() as scope:
            zk.defer_delete("/a")
            scope.cancel()
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        await pass_time(2.0)
        assert "/a" not in ensemble.realm.znodes


async def test_the_cancellation_of_the_whole_program_does_not_stop_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    with trio.CancelScope() as scope:
        async with ensemble.open() as zk:
            ensemble.latency = 1.0
            zk.defer_delete("/a")
            scope.cancel()
    assert "/a" not in ensemble.realm.znodes
    assert not ensemble.realm.sessions


async def test_many_run_at_the_same_time(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    for number in range(20):
        ensemble.realm.create(f"/a{number}")
    async with ensemble.open() as zk:
        ensemble.latency = 1.0
        for number in range(20):
            zk.defer_delete(f"/a{number}")
        assert holdings(zk).deletions == 20
        start = trio.current_time()
        await until(lambda: holdings(zk).deletions == 0)
        assert trio.current_time() - start < 3.0
    assert not [path for path in ensemble.realm.znodes if path.startswith("/a")]


async def test_a_prefix_deletes_the_children_whose_names_start_with_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    for path in ("/app", "/app/locks", "/app/locks/mine-1", "/app/locks/mine-2", "/app/locks/other-3", "/app/mine-4"):
        ensemble.realm.create(path)
    async with ensemble.open(chroot="/app") as zk:
        zk.defer_delete("/locks", prefix="mine-")
        await settle()
        assert ensemble.realm.children("/app/locks") == ["other-3"]
        assert "/app/mine-4" in ensemble.realm.znodes
        # The create may have been committed through another server, so this one is made as new first.
        assert ensemble.opcodes()[-4:] == [Opcode.MULTI, Opcode.GET_CHILDREN, Opcode.DELETE, Opcode.DELETE]
        zk.defer_delete("/", prefix="mine-")
        await settle()
        assert "/app/mine-4" not in ensemble.realm.znodes


async def test_with_data_only_a_znode_that_holds_them_goes(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    for path, data in (("/a", b"mine"), ("/b", b"theirs"), ("/c", b""), ("/c/x1", b"mine"), ("/c/x2", b"theirs")):
        ensemble.realm.create(path, data)
    async with ensemble.open() as zk:
        for path in ("/a", "/b", "/gone"):
            zk.defer_delete(path, data=b"mine")
        zk.defer_delete("/c", prefix="x", data=b"mine")
        await until(lambda: holdings(zk).deletions == 0)
        assert {path for path in ensemble.realm.znodes if not path.startswith("/zookeeper")} == {
            "/",
            "/b",
            "/c",
            "/c/x2",
        }
        zk.defer_delete("/b", data=b"")
        await until(lambda: holdings(zk).deletions == 0)
        assert "/b" in ensemble.realm.znodes, "no data is not any data"


@pytest.mark.parametrize("doomed", [{"path": "/a", "prefix": "x"}, {"path": "/a/x-1", "data": b""}])
async def test_a_deposed_leader_does_not_tell_that_there_is_none(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, doomed: dict[str, Any]
) -> None:
    realm = ensemble.realm
    realm.create("/a")
    deposed = DeposedLeader(ensemble, Opcode.CREATE)
    async with ensemble.open() as zk:
        ensemble.rules.append(deposed)
        with pytest.raises(ConnectionLoss):
            await zk.create("/a/x-1")
        zk.defer_delete(**doomed)
        await until(lambda: holdings(zk).deletions == 0)
        assert deposed.asked
        assert "/a/x-1" not in realm.znodes


async def test_an_own_znode_is_an_ephemeral_of_this_session(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/persistent")
    async with ensemble.open() as zk, ensemble.open() as other:
        await zk.create("/ours", ephemeral=True)
        await other.create("/theirs", ephemeral=True)
        for path in ("/ours", "/theirs", "/persistent"):
            zk.defer_delete(path, own=True)
        await until(lambda: holdings(zk).deletions == 0)
        assert "/ours" not in ensemble.realm.znodes
        assert {"/theirs", "/persistent"} <= set(ensemble.realm.znodes)


async def test_without_a_session_nothing_is_its_own(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        ensemble.shut(Door.REFUSES)
        ensemble.expire(zk.session_id)
        ensemble.shut(Door.OPEN)
        ensemble.cut()
        await until(lambda: zk.session_id == 0)
        ensemble.realm.create("/a")
        zk.defer_delete("/a", own=True)
        await until(lambda: zk.connected)
        await until(lambda: holdings(zk).deletions == 0)
        assert "/a" in ensemble.realm.znodes


async def test_what_was_written_to_since_the_look_is_looked_at_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    writes = {"/a": b"mine", "/b": b"theirs"}

    def write(request: Received) -> None:
        if request.opcode == Opcode.DELETE and request.path in writes:
            ensemble.realm.set(request.path, writes.pop(request.path))

    for path in ("/a", "/b"):
        ensemble.realm.create(path, b"mine")
    ensemble.rules.append(write)
    async with ensemble.open() as zk:
        zk.defer_delete("/a", data=b"mine")
        zk.defer_delete("/b", data=b"mine")
        await until(lambda: holdings(zk).deletions == 0)
    assert not writes
    assert "/a" not in ensemble.realm.znodes
    assert "/b" in ensemble.realm.znodes


@pytest.mark.parametrize("prefix", [None, "x"])
async def test_a_znode_that_is_gone_is_fine(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, prefix: str | None
) -> None:
    async with ensemble.open() as zk:
        before = await drained(zk)
        zk.defer_delete("/gone", prefix=prefix)
        await settle()
        assert await drained(zk) == before
    assert _warnings(caplog) == []


async def test_a_child_that_others_delete_meanwhile_is_fine(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/a", "/a/x1", "/a/x2"):
        ensemble.realm.create(path)
    ensemble.rules.append(nth(1, Opcode.DELETE, Code(-101)))
    async with ensemble.open() as zk:
        zk.defer_delete("/a", prefix="x")
        await settle()
        assert ensemble.realm.children("/a") == ["x1"]
    assert _warnings(caplog) == []


@pytest.mark.parametrize(("code", "text"), [(-111, "znode has children"), (-102, "not permitted"), (-9999, "-9999")])
async def test_what_cannot_succeed_is_logged_and_ended(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, code: int, text: str
) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(every(Opcode.DELETE, Code(code)))
    async with ensemble.open() as zk:
        zk.defer_delete("/a")
        await settle()
        assert holdings(zk).deletions == 0
        await pass_time(10.0)
    assert ensemble.opcodes().count(Opcode.DELETE) == 1
    (warning,) = _warnings(caplog)
    assert warning.startswith("/a could not be deleted")
    assert text in warning


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DO_AND_CUT, Code(-127)])
async def test_what_may_succeed_later_is_tried_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(in_turn(Opcode.DELETE, fault, fault, fault))
    async with ensemble.open() as zk:
        zk.defer_delete("/a")
        await until(lambda: holdings(zk).deletions == 0)
        assert "/a" not in ensemble.realm.znodes
        assert ensemble.opcodes().count(Opcode.DELETE) == 4
    assert _warnings(caplog) == []


async def test_a_list_that_is_too_long_to_receive_is_not_asked_for_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # Each attempt costs all others of the client the connection.
    ensemble.realm.create("/q")
    for number in range(100):
        ensemble.realm.create(f"/q/a-long-name-{number}")
    async with ensemble.open(max_reply_size=1000) as zk:
        zk.defer_delete("/q", prefix="mine-")
        await pass_time(60.0)
        assert holdings(zk).deletions == 0
        assert ensemble.opcodes().count(Opcode.GET_CHILDREN) == 1
        assert len(ensemble.dials) == 2
    (warning,) = _warnings(caplog)
    assert warning.startswith("/q could not be deleted")
    assert "max_reply_size" in warning


async def test_it_may_be_the_first_thing_in_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open(connect_timeout=None) as zk:
        zk.defer_delete("/a")
        assert holdings(zk).deletions == 1
    assert "/a" not in ensemble.realm.znodes


async def test_it_is_refused_behind_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        pass
    with pytest.raises(RuntimeError, match="the client is closed"):
        zk.defer_delete("/a")


async def test_a_deletion_left_while_suspended_is_made_after_the_reconnect(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        zk.defer_delete("/a")
        await pass_time(100.0)
        assert holdings(zk).deletions == 1
        ensemble.shut(Door.OPEN)
        await until(lambda: holdings(zk).deletions == 0)
        assert "/a" not in ensemble.realm.znodes


async def test_it_ends_with_its_session_and_spares_the_next_one(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        ensemble.rules.append(nth(1, Opcode.DELETE, Fault.IGNORE))
        zk.defer_delete("/a")
        await settle()
        first = zk.session_id
        ensemble.expire(first)
        await until(lambda: zk.session_id not in (0, first) and zk.connected)
        await pass_time(10.0)
        assert holdings(zk).deletions == 0
        assert "/a" in ensemble.realm.znodes, "what the name means in another session is another's business"
        assert ensemble.opcodes().count(Opcode.DELETE) == 1


async def test_what_outlives_its_session_is_deleted_in_the_next_one(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    ensemble.realm.create("/b")
    ensemble.realm.create("/b/mine")
    async with ensemble.open() as zk:
        session_id = zk.session_id
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        zk.defer_delete("/a", in_any_session=True)
        zk.defer_delete("/b", prefix="mine", in_any_session=True)
        await settle()
        ensemble.expire(session_id)
        ensemble.shut(Door.OPEN)
        await until(lambda: holdings(zk).deletions == 0)
        assert zk.session_id != session_id
        assert not {"/a", "/b/mine"} & set(ensemble.realm.znodes)


async def test_what_outlives_its_session_does_not_outlive_its_client(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open(renew_session=False) as zk:
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        zk.defer_delete("/a", in_any_session=True)
        await settle()
        ensemble.expire(zk.session_id)
        ensemble.shut(Door.OPEN)
        with trio.fail_after(60):
            await until(lambda: holdings(zk).deletions == 0)
        assert "/a" in ensemble.realm.znodes


async def test_a_session_that_ends_in_its_pause_ends_it(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(in_turn(Opcode.DELETE, *[Code(-127)] * 4))
    async with ensemble.open() as zk:
        zk.defer_delete("/a")
        await until(lambda: ensemble.opcodes().count(Opcode.DELETE) == 4)
        # The pause is 0.8 s now, and the next session is there sooner.
        start, first = trio.current_time(), zk.session_id
        ensemble.expire(first)
        await until(lambda: zk.session_id not in (0, first) and zk.connected)
        assert trio.current_time() - start < 0.7
        await pass_time(10.0)
        assert holdings(zk).deletions == 0
        assert "/a" in ensemble.realm.znodes


async def test_the_end_of_the_block_waits_for_it(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open(close_timeout=8.0) as zk:
        ensemble.latency = 1.0
        zk.defer_delete("/a")
    assert "/a" not in ensemble.realm.znodes
    assert ensemble.opcodes()[-2:] == [Opcode.DELETE, Opcode.CLOSE_SESSION]


async def test_the_end_of_the_block_waits_for_it_within_close_timeout_and_still_closes(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    ensemble.rules.append(every(Opcode.DELETE, Code(-127)))
    async with ensemble.open(close_timeout=8.0) as zk:
        await zk.create("/mine", ephemeral=True)
        zk.defer_delete("/a")
        start = trio.current_time()
    assert trio.current_time() - start <= 8.0
    assert not ensemble.realm.sessions
    assert "/mine" not in ensemble.realm.znodes


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"path": "a"}, ValueError, "invalid path 'a': it must start with '/'"),
        ({"path": 7}, TypeError, "path must be a str"),
        ({"path": "/a", "prefix": ""}, ValueError, "prefix must be the beginning of a znode's name, not ''"),
        ({"path": "/a", "prefix": "b/c"}, ValueError, "not 'b/c'"),
        ({"path": "/a", "prefix": 1}, ValueError, "not 1"),
        ({"path": "/a", "data": "text"}, TypeError, "data must be bytes or None, not str: 'text'"),
    ],
)
async def test_bad_arguments_are_refused(
    ensemble: MemoryEnsemble,
    autojump_clock: MockClock,
    arguments: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(kind, match=message):
            zk.defer_delete(**arguments)
        assert holdings(zk).deletions == 0
