"""What holds whatever the clocks say: guarded writes, asking a quorum, fencing tokens. On a `Lock`."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import BadVersionError, ConnectionLoss, NodeExistsError
from terzetto.client.wire import Opcode
from terzetto.recipes import GuardedTransaction, Lock, OwnershipLost, WriteLock
from tests.client.memory_server import MemoryEnsemble
from tests.client.server_link import Fault, nth

from .truth import now
from .walking import tree

# Guarded writes, and asking -------------------------------------------------------------------------------------------


async def test_a_guarded_write_commits_while_owned(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, Lock(zk, "/a") as held:
        async with held.transaction() as t:
            t.create("/x", b"1")
            t.set_data("/x", b"2", 0)
            t.check("/x", 1)
        assert t.results[0] == "/x"
        assert t.results[1].version == 1
        assert t.results[2] is True
        assert len(t.results) == 3
        with pytest.raises(NodeExistsError):
            async with held.transaction() as t:
                t.create("/x")
        refused = held.transaction()
        refused.delete("/x", 7)
        assert isinstance((await refused.commit())[0], BadVersionError)
        assert not now(held.is_lost)


async def test_a_former_owner_s_guarded_write_never_commits(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(OwnershipLost):
            async with Lock(zk, "/a") as held:
                ensemble.realm.delete(held.znode)
                with trio.CancelScope(shield=True), pytest.raises(OwnershipLost, match="/a is no longer owned"):
                    async with held.transaction() as t:
                        t.create("/x")
        assert tree(ensemble) == {"/a"}


async def test_a_guarded_write_survives_a_sign_in_the_znode(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, Lock(zk, "/a") as held:
        await zk.set(held.znode, b"__REVOKE__")
        async with held.transaction() as t:
            t.create("/x")
        assert not now(held.is_lost)


async def test_nothing_can_be_written_after_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        async with Lock(zk, "/a") as held:
            pass
        with pytest.raises(OwnershipLost):
            async with held.transaction() as t:
                t.create("/x")
        with pytest.raises(OwnershipLost):
            await held.assert_owned()
        assert held.is_lost
        assert held.loss == "it was given up"


async def test_a_guarded_write_whose_reply_is_lost_says_so(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, Lock(zk, "/a", proof="session") as held:
        ensemble.rules.append(nth(1, Opcode.MULTI, Fault.DO_AND_CUT))
        with pytest.raises(ConnectionLoss) as lost:
            async with held.transaction() as t:
                t.create("/x")
        assert lost.value.outcome_unknown


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DO_AND_CUT])
async def test_assert_owned_asks_until_it_is_answered(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, fault: Fault
) -> None:
    async with ensemble.open() as zk, Lock(zk, "/a", proof="session") as held:
        ensemble.rules.append(nth(1, Opcode.MULTI, fault))
        await held.assert_owned()
        asked = [request for request in ensemble.received if request.opcode == Opcode.MULTI]
        assert len(asked) == 2
        assert asked[1].record[0].request.path == held.znode


async def test_assert_owned_finds_a_lost_session_and_a_deleted_znode(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        for whole_session in (False, True):
            lock = Lock(zk, "/a", proof="session")
            await lock.acquire()
            assert lock.held is not None
            if whole_session:
                ensemble.expire(zk.session_id)
            else:
                ensemble.realm.delete(lock.held.znode)
            with pytest.raises(OwnershipLost):
                await lock.held.assert_owned()
            assert not now(lock.is_acquired)
            assert await lock.release() is False


async def test_one_client_for_one_transaction(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as one, ensemble.open() as other, Lock(one, "/a") as a, Lock(other, "/b") as b:
        with pytest.raises(ValueError, match="one client"):
            GuardedTransaction([a, b])


async def test_a_guarded_write_that_was_begun_before_a_downgrade_is_refused_and_nothing_is_lost(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, WriteLock(zk, "/a") as held:
        before = held.transaction()
        before.create("/x")
        await held.downgrade()
        with pytest.raises(ValueError, match="/a has another znode since this transaction was begun"):
            await before.commit()
        held.check()
        async with held.transaction() as after:
            after.create("/x")
        await held.assert_owned()


# Tokens ---------------------------------------------------------------------------------------------------------------


async def test_tokens_grow_with_every_owner_also_when_the_numbers_begin_anew(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    tokens: list[int] = []
    numbers: list[str] = []
    async with ensemble.open() as one, ensemble.open() as other:
        for turn in range(6):
            async with Lock(one if turn % 2 else other, "/a", container=True) as held:
                assert held.fencing_token is not None
                tokens.append(held.fencing_token)
                numbers.append(held.znode[-10:])
                stat = await one.exists(held.znode)
                assert stat is not None
                assert stat.czxid == held.fencing_token
            if turn == 3:
                ensemble.realm.delete("/a")  # the server reaps an empty container
    assert tokens == sorted(set(tokens))
    assert numbers == ["0000000000", "0000000001", "0000000002", "0000000003", "0000000000", "0000000001"]
