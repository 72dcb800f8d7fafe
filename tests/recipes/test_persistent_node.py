"""Znodes that are kept in existence."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import NoAuthError, NodeExistsError, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import PersistentNode, PersistentTtlNode
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Code, Fault, Received, every

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk


class BodyError(Exception):
    pass


async def test_it_is_there_for_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        async with PersistentNode(zk, "/p/a", b"data") as node:
            assert node.is_present
            data, stat = await zk.get("/p/a")
            assert data == b"data"
            assert stat.ephemeralOwner == zk.session_id
            assert stat.version == 0
        assert tree(ensemble) == {"/p"}
        assert not now(node.is_present)
        with pytest.raises(BodyError):
            async with PersistentNode(zk, "/p/a"):
                raise BodyError
        await at_rest(zk)
        assert tree(ensemble) == {"/p"}


@pytest.mark.parametrize("ephemeral", [True, False])
async def test_deleted_by_others_it_is_made_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, ephemeral: bool
) -> None:
    async with ensemble.open() as zk, PersistentNode(zk, "/p/a", b"data", ephemeral=ephemeral) as node:
        await node.set_data(b"newer")
        assert ensemble.realm.get("/p/a").data == b"newer"
        for _ in range(3):
            ensemble.realm.delete("/p/a")
            ensemble.realm.delete("/p")  # as a server does with a container
            await settle()
            assert ensemble.realm.get("/p/a").data == b"newer"
        ensemble.realm.set("/p/a", b"theirs")
        await settle()
        assert ensemble.realm.get("/p/a").data == b"theirs"


async def test_it_is_made_again_in_the_next_session(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, PersistentNode(zk, "/a", b"data") as node:
        for _ in range(3):
            first = zk.session_id
            ensemble.expire(first)
            assert "/a" not in ensemble.realm.znodes
            await until(lambda: "/a" in ensemble.realm.znodes)
            await node.wait_present()
            assert ensemble.realm.stat("/a").ephemeralOwner == zk.session_id != first


async def test_it_survives_an_outage_with_new_data(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, PersistentNode(zk, "/a", b"1") as node:
        ensemble.shut(Door.REFUSES)
        ensemble.expire(zk.session_id)
        await until(lambda: not zk.connected)
        with trio.move_on_after(5):
            await node.set_data(b"2")
        ensemble.shut(Door.OPEN)
        await until(lambda: "/a" in ensemble.realm.znodes)
        assert ensemble.realm.get("/a").data == b"2"


async def test_what_an_earlier_process_left_is_replaced_at_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as old, ensemble.open() as new:
        await old.create("/a", b"old", ephemeral=True)
        async with PersistentNode(new, "/a", b"new"):
            assert ensemble.realm.stat("/a").ephemeralOwner == new.session_id
            assert ensemble.realm.get("/a").data == b"new"
            ensemble.expire(old.session_id)
            await settle()
            assert ensemble.realm.get("/a").data == b"new"


async def test_two_do_not_fight_and_neither_deletes_the_others(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as one, ensemble.open() as other:
        async with PersistentNode(one, "/a", b"one") as first:
            async with PersistentNode(other, "/a", b"other"):
                await settle()
                assert not now(first.is_present)
                asked = len(ensemble.opcodes()) - ensemble.opcodes().count(Opcode.PING)
                await pass_time(60)
                assert len(ensemble.opcodes()) - ensemble.opcodes().count(Opcode.PING) == asked
                await first.set_data(b"not mine to write")
                assert ensemble.realm.get("/a").data == b"other"
            await first.wait_present()
            assert ensemble.realm.get("/a").data == b"not mine to write"
            async with PersistentNode(other, "/a", b"other"):
                pass
            await first.wait_present()
        async with PersistentNode(other, "/a", b"other") as second:
            async with PersistentNode(one, "/b"):
                pass
            assert second.is_present
        assert tree(ensemble) == set()


async def test_what_is_in_the_way_for_good_is_an_error(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        with pytest.raises(NodeExistsError):
            async with PersistentNode(zk, "/a"):
                pass
        ensemble.rules.append(every(Opcode.CREATE, Code(NoAuthError.code or 0)))
        with pytest.raises(NoAuthError):
            async with PersistentNode(zk, "/b"):
                pass
        with pytest.raises(RuntimeError, match="once"):
            async with PersistentNode(zk, "/a", ephemeral=False) as node, node:
                pass
        await at_rest(zk)
        assert tree(ensemble) == set()


async def test_a_refusal_later_ends_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(NoAuthError):
            async with PersistentNode(zk, "/a"):
                ensemble.rules.append(every(Opcode.CREATE, Code(NoAuthError.code or 0)))
                ensemble.realm.delete("/a")
                await trio.sleep_forever()


async def test_a_znode_with_a_time_to_live_is_touched_in_time(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    with pytest.raises(ValueError, match="ttl"):
        PersistentTtlNode(None, "/a", 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with ensemble.open() as zk:
        async with PersistentTtlNode(zk, "/p/a", 10, b"data"):
            assert ensemble.realm.get("/p/a").data == b"data"
            touched = ensemble.realm.stat("/p/a/touch").mzxid
            for _ in range(3):
                await pass_time(5.1)
                assert ensemble.realm.stat("/p/a/touch").mzxid > touched
                touched = ensemble.realm.stat("/p/a/touch").mzxid
            ensemble.realm.delete("/p/a/touch")  # as the server does when it was not touched in time
            ensemble.realm.delete("/p/a")
            await pass_time(5.1)
            assert ensemble.realm.get("/p/a").data == b"data"
            assert "/p/a/touch" in ensemble.realm.znodes
        assert tree(ensemble) == {"/p", "/p/a", "/p/a/touch"}
        async with PersistentTtlNode(zk, "/p/a", 10, b"newer"):
            assert ensemble.realm.get("/p/a").data == b"newer"


async def _keep(zk: ZooKeeper) -> None:
    async with PersistentNode(zk, "/p/a", b"data") as node:
        await node.set_data(b"newer")
        await pass_time(1)


async def test_cancelled_anywhere_nothing_stays(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    assert await walk(ensemble, _keep, leaves={"/p"}) > 5


async def test_whatever_is_lost_it_is_there_and_goes(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        async with ensemble.open() as zk:
            async with PersistentNode(zk, "/p/a", b"data") as node:
                assert ensemble.realm.get("/p/a").data == b"data", loss
                await node.set_data(b"newer")
                ensemble.realm.delete("/p/a")
                await until(lambda: "/p/a" in ensemble.realm.znodes)
                assert ensemble.realm.get("/p/a").data == b"newer", loss
            assert tree(ensemble) == {"/p"}, loss


async def _keep_for_a_time(zk: ZooKeeper) -> None:
    async with PersistentTtlNode(zk, "/p/a", 1, b"data"):
        await pass_time(1)


async def test_a_znode_with_a_time_to_live_is_all_that_stays(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    assert await walk(ensemble, _keep_for_a_time, leaves={"/p", "/p/a", "/p/a/touch"}) > 5


async def test_whatever_is_lost_it_is_touched(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        async with ensemble.open() as zk, PersistentTtlNode(zk, "/p/a", 10, b"data"):
            assert ensemble.realm.get("/p/a").data == b"data", loss
            touched = ensemble.realm.stat("/p/a/touch").mzxid
            await pass_time(8)
            assert ensemble.realm.stat("/p/a/touch").mzxid > touched, loss


async def test_a_begin_that_is_given_up_leaves_the_other_s_znode_alone(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    def lose(request: Received) -> Fault | None:
        if request.opcode != Opcode.MULTI:
            return None
        ensemble.shut(Door.REFUSES)
        return Fault.CUT

    async with ensemble.open("z:2181") as other, ensemble.open("a:2181") as zk:
        await other.create("/n", b"other", ephemeral=True)
        ensemble.rules.append(lose)
        with trio.move_on_after(1):
            async with PersistentNode(zk, "/n", b"ours"):
                pytest.fail("the replacement was lost")
        ensemble.rules.clear()
        ensemble.shut(Door.OPEN)
        await at_rest(zk)
        assert (await other.get("/n"))[0] == b"other"


async def test_data_that_are_given_while_it_is_being_made_are_written(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, PersistentNode(zk, "/p", b"old") as node:
        creates: list[Received] = []

        def on_the_way(request: Received) -> None:
            if request.opcode == Opcode.CREATE2 or request.opcode == Opcode.CREATE:
                creates.append(request)

        ensemble.rules.append(on_the_way)
        ensemble.latency = 1.0
        ensemble.realm.delete("/p")
        await until(lambda: bool(creates))
        assert not node.is_present
        await node.set_data(b"new")
        await until(lambda: "/p" in ensemble.realm.znodes and ensemble.realm.znodes["/p"].data == b"new")


async def test_data_that_no_znode_can_have_are_refused_and_kept_for_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(TypeError, match=r"data must be bytes, not 'text'"):
            PersistentNode(zk, "/p", "text")  # type: ignore[arg-type]
        async with PersistentNode(zk, "/p", b"1") as node:
            with pytest.raises(TypeError, match=r"data must be bytes, not 'text'"):
                await node.set_data("text")  # type: ignore[arg-type]
            await zk.delete("/p")
            await until(lambda: "/p" in ensemble.realm.znodes)
            assert ensemble.realm.get("/p").data == b"1"


async def test_who_waits_for_it_is_told_that_it_will_not_come(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        node = PersistentNode(zk, "/p")
        async with node:
            pass
        with pytest.raises(RuntimeError, match="block has ended"):
            await node.wait_present()


async def test_a_node_with_a_time_to_live_that_is_made_again_has_its_child_at_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, PersistentTtlNode(zk, "/p/t", 60.0, b"1") as node:
        ensemble.realm.delete("/p/t/touch")
        ensemble.realm.delete("/p/t")
        await settle()
        assert node.is_present
        assert tree(ensemble) == {"/p", "/p/t", "/p/t/touch"}


async def test_data_that_are_too_many_are_kept_for_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(max_request_size=1000) as zk, PersistentNode(zk, "/p", b"1") as node:
        with pytest.raises(ValueError, match="max_request_size"):
            await node.set_data(bytes(2000))
        assert node.data == b"1"
        await zk.delete("/p")
        await until(lambda: "/p" in ensemble.realm.znodes)
        assert ensemble.realm.get("/p").data == b"1"
