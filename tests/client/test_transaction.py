"""`zk.transaction()` and `zk.multi_read()`: what is built, what is refused, what comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import (
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    BadVersionError,
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    ReadChildren,
    ReadData,
    RolledBackError,
    RuntimeInconsistency,
    Transaction,
    WireError,
    ZnodeStat,
    ZookeeperError,
)
from terzetto.client.values import CreateMode
from terzetto.client.wire import Opcode
from terzetto.client.wire.multi import MultiResult, encode_results
from terzetto.client.wire.primitives import LENGTH, REPLY_HEADER

from .memory_server import MemoryEnsemble
from .server_link import Fault, Raw, Received, every


async def test_results_of_every_operation(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/app")
    async with ensemble.open(chroot="/app") as zk:
        t = zk.transaction()
        t.create("/a", b"1")
        t.create("/a/b", None, READ_ACL_UNSAFE, include_data=True)
        t.create("/a/s-", sequence=True)
        t.create("/a/e-", sequence=True, ephemeral=True)
        t.create("/a/ttl", ttl=2.5)
        t.create("/a/container", container=True, include_data=True)
        t.check("/a", 0)
        t.set_data("/a", b"2", 0)
        t.set_data("/a/b", None)
        t.delete("/a/b", 1)
        results = await t.commit()
        assert results[0] == "/a"
        path, stat = results[1]
        assert path == "/a/b"
        assert isinstance(stat, ZnodeStat)
        assert results[2:5] == ["/a/s-0000000001", "/a/e-0000000002", "/a/ttl"]
        assert results[5][0] == "/a/container"
        assert results[6] is True
        assert isinstance(results[7], ZnodeStat)
        assert results[7].version == 1
        assert isinstance(results[8], ZnodeStat)
        assert results[9] is True
        assert len(results) == 10
        assert [op.opcode for op in ensemble.received[-1].record] == [
            Opcode.CREATE,
            Opcode.CREATE2,
            Opcode.CREATE,
            Opcode.CREATE,
            Opcode.CREATE_TTL,
            Opcode.CREATE_CONTAINER,
            Opcode.CHECK,
            Opcode.SET_DATA,
            Opcode.SET_DATA,
            Opcode.DELETE,
        ]
        requests = [op.request for op in ensemble.received[-1].record]
        assert requests[3].flags == CreateMode.EPHEMERAL_SEQUENTIAL
        assert (requests[4].flags, requests[4].ttl) == (CreateMode.PERSISTENT_WITH_TTL, 2500)
        assert requests[1].acl == READ_ACL_UNSAFE
        assert requests[0].acl == OPEN_ACL_UNSAFE
    assert ensemble.realm.get("/app/a").data == b"2"


async def test_a_failed_transaction_is_told_by_its_results(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/app")
    async with ensemble.open(chroot="/app") as zk:
        t = zk.transaction()
        t.create("/a", include_data=True)
        t.set_data("/missing", b"")
        t.create("/c")
        t.check("/d", 1)
        results = await t.commit()
    assert [type(result) for result in results] == [
        RolledBackError,
        NoNodeError,
        RuntimeInconsistency,
        RuntimeInconsistency,
    ]
    assert [result.path for result in results] == ["/a", "/missing", "/c", "/d"]
    assert ensemble.realm.children("/app") == []


async def test_the_context_manager_commits_and_keeps_the_results(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        async with zk.transaction() as t:
            t.create("/a")
            t.check("/a", 0)
            sent = ensemble.opcodes().count(Opcode.MULTI)
        assert (sent, t.committed) == (0, True)
        assert t.results == ["/a", True]


async def test_the_context_manager_raises_the_error_of_the_operation_that_failed(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")

    async def block(zk: Any) -> None:
        async with zk.transaction() as t:
            transactions.append(t)
            t.create("/b")
            t.set_data("/a", b"x", 5)
            t.create("/c")

    transactions: list[Transaction] = []
    async with ensemble.open() as zk:
        with pytest.raises(BadVersionError) as caught:
            await block(zk)
        assert caught.value is transactions[0].results[1]
        assert caught.value.path == "/a"
    assert "/b" not in ensemble.realm.znodes


async def test_an_exception_in_the_block_sends_nothing_and_leaves_unchanged(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    error = ZeroDivisionError()

    async def block(zk: Any) -> None:
        async with zk.transaction() as t:
            t.create("/a")
            raise error

    async with ensemble.open() as zk:
        sent = len(ensemble.received)
        with pytest.raises(ZeroDivisionError) as caught:
            await block(zk)
        assert caught.value is error
        assert len(ensemble.received) == sent


async def test_a_commit_inside_the_block_is_the_only_one(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        async with zk.transaction() as t:
            t.create("/a")
            assert await t.commit() == ["/a"]
        assert ensemble.opcodes().count(Opcode.MULTI) == 1


async def test_an_empty_transaction_is_sent_too(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        assert await zk.transaction().commit() == []
        assert ensemble.received[-1].opcode == Opcode.MULTI


async def test_a_committed_transaction_takes_nothing_more(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        t = zk.transaction()
        t.create("/a")
        await t.commit()
        additions: list[Callable[[], None]] = [
            lambda: t.create("/b"),
            lambda: t.delete("/a"),
            lambda: t.set_data("/a", b""),
            lambda: t.check("/a", 1),
        ]
        for add in additions:
            with pytest.raises(ValueError, match="the transaction was committed already"):
                add()
        with pytest.raises(ValueError, match="the transaction was committed already"):
            await t.commit()
        assert ensemble.opcodes().count(Opcode.MULTI) == 1


BAD_ADDITIONS: list[tuple[Callable[[Transaction], None], type[Exception], str]] = [
    (lambda t: t.create("a"), ValueError, "invalid path 'a': it must start with '/'"),
    (lambda t: t.create("/a/"), ValueError, "must not end with '/'"),
    (lambda t: t.create("/a", "text"), TypeError, "value must be bytes or None, not str: 'text'"),  # type: ignore[arg-type]
    (lambda t: t.create("/a", acl=[]), ValueError, "acl is empty"),
    (lambda t: t.create("/a", ephemeral=1), TypeError, "ephemeral must be a bool, not 1"),  # type: ignore[arg-type]
    (lambda t: t.create("/a", container=True, sequence=True), ValueError, "a container can be neither"),
    (lambda t: t.create("/a", ephemeral=True, ttl=1.0), ValueError, "an ephemeral znode cannot have a ttl"),
    (lambda t: t.create("/a", ttl=0.0), ValueError, r"ttl must be from 0.001 to .* not 0\.0"),
    (lambda t: t.delete("/a//b"), ValueError, "empty element"),
    (lambda t: t.delete("/a", 2**31), ValueError, "version 2147483648 does not fit 32 bits"),
    (lambda t: t.set_data("/a", 7), TypeError, "value must be bytes or None, not int"),  # type: ignore[arg-type]
    (lambda t: t.set_data("/a", b"", None), TypeError, "version must be an int, -1 for any, not None"),  # type: ignore[arg-type]
    (lambda t: t.check("/./a", 0), ValueError, "relative element '.'"),
    (lambda t: t.check("/a", True), TypeError, "version must be an int, -1 for any, not True"),
]


@pytest.mark.parametrize(("add", "kind", "message"), BAD_ADDITIONS)
async def test_what_no_server_would_take_is_refused_when_it_is_added(
    ensemble: MemoryEnsemble,
    autojump_clock: MockClock,
    add: Callable[[Transaction], None],
    kind: type[Exception],
    message: str,
) -> None:
    async with ensemble.open() as zk:
        t = zk.transaction()
        with pytest.raises(kind, match=message):
            add(t)
        assert t.operations == []


async def test_a_transaction_over_the_limit_is_not_sent(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(max_request_size=1000) as zk:
        t = zk.transaction()
        for number in range(20):
            t.create(f"/{number}", bytes(100))
        sent = len(ensemble.received)
        with pytest.raises(ValueError, match=r"^multi needs \d+ bytes, the server takes 1000"):
            await t.commit()
        assert len(ensemble.received) == sent


async def test_a_lost_transaction_is_one_lost_request(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(every(Opcode.MULTI, Fault.DO_AND_CUT))
    async with ensemble.open() as zk:
        t = zk.transaction()
        t.create("/a")
        with pytest.raises(ConnectionLoss) as caught:
            await t.commit()
        assert caught.value.outcome_unknown
    assert "/a" in ensemble.realm.znodes


def _results(results: list[MultiResult]) -> Any:
    def rule(request: Received) -> Raw | None:
        if request.opcode not in (Opcode.MULTI, Opcode.MULTI_READ):
            return None
        body = REPLY_HEADER.pack(request.xid, 1, 0) + encode_results(results)
        return Raw(LENGTH.pack(len(body)) + body)

    return rule


async def test_a_wrong_number_of_results_is_an_error_and_no_crash(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.rules.append(_results([MultiResult(Opcode.DELETE, 0, None)]))
    async with ensemble.open() as zk:
        t = zk.transaction()
        t.delete("/a")
        t.delete("/b")
        with pytest.raises(WireError, match="1 results for 2 operations"):
            await t.commit()
        with pytest.raises(WireError, match="1 results for 2 operations"):
            await zk.multi_read([ReadData("/a"), ReadData("/b")])
        assert await zk.exists("/") is not None


async def test_an_unknown_code_in_a_result_is_an_error_of_its_own(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.rules.append(_results([MultiResult(Opcode.ERROR, -7777, None)]))
    async with ensemble.open() as zk:
        t = zk.transaction()
        t.delete("/a")
        (result,) = await t.commit()
        assert isinstance(result, ZookeeperError)
        assert "-7777" in str(result)


async def test_creates_of_one_transaction_see_each_other(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        t = zk.transaction()
        t.create("/a")
        t.create("/a")
        first, second = await t.commit()
        assert isinstance(first, RolledBackError)
        assert isinstance(second, NodeExistsError)


# multi_read -----------------------------------------------------------------------------------------------------------


async def test_multi_read_gives_one_result_each_and_errors_in_their_place(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    for path in ("/app", "/app/a", "/app/a/x", "/app/a/y"):
        ensemble.realm.create(path, path.encode())
    async with ensemble.open(chroot="/app") as zk:
        data, missing, names, nothing = await zk.multi_read(
            [ReadData("/a"), ReadData("/missing"), ReadChildren("/a"), ReadChildren("/none")]
        )
    value, stat = data
    assert value == b"/app/a"
    assert isinstance(stat, ZnodeStat)
    assert stat.numChildren == 2
    assert isinstance(missing, NoNodeError)
    assert missing.path == "/missing"
    assert sorted(names) == ["x", "y"]
    assert isinstance(nothing, NoNodeError)
    assert nothing.path == "/none"
    assert ensemble.opcodes().count(Opcode.MULTI_READ) == 1


async def test_multi_read_of_nothing_asks_nobody_and_is_a_checkpoint(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        sent = len(ensemble.received)
        with trio.testing.assert_checkpoints():
            assert await zk.multi_read([]) == []
        assert len(ensemble.received) == sent


@pytest.mark.parametrize(
    ("read", "kind", "message"),
    [
        ("/a", TypeError, "multi_read takes ReadData and ReadChildren, not '/a'"),
        (ReadData("a"), ValueError, "invalid path 'a'"),
        (ReadChildren("/a/"), ValueError, "must not end with '/'"),
    ],
)
async def test_multi_read_refuses_what_is_no_read(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, read: Any, kind: type[Exception], message: str
) -> None:
    async with ensemble.open() as zk:
        sent = len(ensemble.received)
        with pytest.raises(kind, match=message):
            await zk.multi_read([ReadData("/"), read])
        assert len(ensemble.received) == sent
