"""DataWatch, ChildrenWatch, PatientChildrenWatch."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import (
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NoNodeError,
    SessionExpiredError,
    ZnodeStat,
    ZooKeeper,
)
from terzetto.client.wire import Opcode
from terzetto.recipes import ChildrenWatch, DataWatch, PatientChildrenWatch
from tests.client.holdings import holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Code, nth

from .losing import losses
from .walking import walk


class FunctionError(Exception):
    pass


# DataWatch ------------------------------------------------------------------------------------------------------------


async def test_the_present_state_and_every_change(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        seen: list[tuple[Any, Any]] = []
        async with DataWatch(zk, "/a") as changes:
            async for data, stat, event in changes:
                assert (stat is None) == (data is None)
                seen.append((data, event and event.type))
                if len(seen) == 1:
                    await zk.create("/a", b"1")
                elif len(seen) == 2:
                    await zk.set("/a", b"2")
                elif len(seen) == 3:
                    await zk.delete("/a")
                elif len(seen) == 4:
                    await zk.create("/a", b"3")
                else:
                    break
        assert seen == [(None, None), (b"1", "CREATED"), (b"2", "CHANGED"), (None, "DELETED"), (b"3", "CREATED")]
        await until(lambda: holdings(zk).watches == 0)


async def test_the_same_data_written_again_is_a_change(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a", b"1")
        async with DataWatch(zk, "/a") as changes:
            first = await anext(changes)
            await zk.delete("/a")
            await zk.create("/a", b"1")  # the same data and version, another znode
            second = await anext(changes)
            assert (first.data, second.data) == (b"1", b"1")
            assert first.stat is not None
            assert second.stat is not None
            assert first.stat.czxid != second.stat.czxid


async def test_a_function_is_called_before_the_block_and_during_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    async with ensemble.open() as zk:
        await zk.create("/a", b"1")
        async with DataWatch(zk, "/a", lambda data, stat: seen.append((data, stat and stat.version))):
            assert seen == [(b"1", 0)]
            await zk.set("/a", b"2")
            await until(lambda: seen[1:] == [(b"2", 1)])
        await zk.set("/a", b"3")
        await settle()
        assert len(seen) == 2


async def test_an_async_function_gets_the_event_if_it_takes_three(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []

    async def changed(data: Any, stat: Any, event: Any) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(event and event.type)

    async with ensemble.open() as zk, DataWatch(zk, "/a", changed):
        await zk.create("/a")
        await until(lambda: seen == [None, "CREATED"])


async def test_kazoo_15_a_type_error_in_the_function_is_the_functions_own(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo takes it for a function of two arguments and calls it again."""
    calls: list[int] = []

    def changed(data: Any, stat: Any, event: Any = None) -> None:
        calls.append(1)
        raise TypeError("own")

    async with ensemble.open() as zk:
        with pytest.raises(TypeError, match="own"):
            async with DataWatch(zk, "/a", changed):
                pass
        assert calls == [1]
        await until(lambda: holdings(zk).watches == 0)


async def test_false_stops_it(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    seen: list[Any] = []

    def changed(data: bytes | None, stat: Any) -> bool:
        seen.append(data)
        return data != b"stop"

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        nursery.start_soon(DataWatch(zk, "/a", changed).run)
        await settle()
        await zk.create("/a", b"go")
        await settle()
        await zk.set("/a", b"stop")
    assert seen == [None, b"go", b"stop"]
    async with ensemble.open() as zk:
        await DataWatch(zk, "/a", changed).run()


async def test_what_a_function_raises_later_ends_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    error = FunctionError("own")

    def changed(data: bytes | None, stat: Any) -> None:
        if data:
            raise error

    async with ensemble.open() as zk:
        with pytest.raises(FunctionError) as caught:
            async with DataWatch(zk, "/a", changed):
                await zk.create("/a", b"1")
                await trio.sleep_forever()
        assert caught.value is error
        await until(lambda: holdings(zk).watches == 0)


async def test_what_changed_while_disconnected_is_seen(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, DataWatch(zk, "/a") as changes:
        await anext(changes)
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await pass_time(3)
        ensemble.realm.create("/a", b"1")
        ensemble.shut(Door.OPEN)
        assert (await anext(changes)).data == b"1"


async def test_a_reconnect_alone_shows_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, DataWatch(zk, "/a") as changes:
        await anext(changes)
        for lose in (ensemble.cut, lambda: ensemble.expire(zk.session_id)):
            lose()
            with trio.move_on_after(30):
                pytest.fail(f"shown: {await anext(changes)}")
        ensemble.realm.create("/a", b"1")
        assert (await anext(changes)).data == b"1"


async def test_it_goes_on_in_the_next_session(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a", b"1", ephemeral=True)
        async with DataWatch(zk, "/a") as changes:
            assert (await anext(changes)).data == b"1"
            ensemble.expire(zk.session_id)
            item = await anext(changes)
            assert item.data is None
            assert item.event is not None
            await zk.create("/a", b"2")
            assert (await anext(changes)).data == b"2"


async def test_the_end_of_the_client_is_an_error(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(renew_session=False) as zk, DataWatch(zk, "/a") as changes:
        await anext(changes)
        ensemble.expire(zk.session_id)
        with pytest.raises(SessionExpiredError):
            await anext(changes)
    with pytest.raises(SessionExpiredError):
        async with ensemble.open(renew_session=False) as zk, DataWatch(zk, "/a", lambda data, stat: None):
            ensemble.expire(zk.session_id)
            await trio.sleep_forever()


async def test_a_refusal_is_raised(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(nth(1, Opcode.GET_DATA, Code(NoAuthError.code or 0)))
    async with ensemble.open() as zk, DataWatch(zk, "/a") as changes:
        with pytest.raises(NoAuthError):
            await anext(changes)
        assert (await anext(changes)).data is None


async def test_wrong_uses(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(KazooException, match="calls a function"):
            DataWatch(zk, "/a", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        watch = DataWatch(zk, "/a")
        with pytest.raises(RuntimeError, match="block"):
            await anext(aiter(watch))
        with pytest.raises(RuntimeError, match="not run"):
            await watch.run()
        async with watch as changes:
            with pytest.raises(RuntimeError, match="once"):
                async with watch:
                    pass
            watch.stop()
            assert [item async for item in changes] == []


# ChildrenWatch --------------------------------------------------------------------------------------------------------


async def test_kazoo_15_children_come_and_go_and_so_may_the_znode(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, ChildrenWatch(zk, "/a") as changes:
        assert await anext(changes) == ([], None, None)
        await zk.create("/a")
        assert (await anext(changes)).children == []
        await zk.create("/a/1")
        assert (await anext(changes)).children == ["1"]
        await zk.delete("/a", recursive=True)
        item = await anext(changes)
        while item.stat is not None:
            item = await anext(changes)
        assert item.children == []
        await zk.create("/a/2", makepath=True)
        item = await anext(changes)
        while item.children != ["2"]:
            item = await anext(changes)


async def test_a_child_replaced_by_one_of_the_same_name_is_a_change(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a/1", makepath=True)
        async with ChildrenWatch(zk, "/a") as changes:
            await anext(changes)
            await zk.delete("/a/1")
            await zk.create("/a/1")
            assert (await anext(changes)).children == ["1"]


async def test_children_functions_get_what_they_ask_for(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    plain: list[Any] = []
    with_event: list[Any] = []
    async with ensemble.open() as zk:
        await zk.create("/a")
        async with (
            ChildrenWatch(zk, "/a", plain.append),
            ChildrenWatch(zk, "/a", lambda children, event: with_event.append((children, event)), send_event=True),
        ):
            await zk.create("/a/1")
            await until(lambda: len(plain) == len(with_event) == 2)
    assert plain == [[], ["1"]]
    assert with_event[0] == ([], None)
    assert with_event[1][1].type == "CHILD"


async def test_without_allow_session_lost_it_ends_with_the_session(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    async with ensemble.open() as zk:
        await zk.create("/a")
        watch = ChildrenWatch(zk, "/a", seen.append, allow_session_lost=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            await settle()
            ensemble.expire(zk.session_id)
        assert seen == [[]]
        late = ChildrenWatch(zk, "/a", seen.append, allow_session_lost=False)
        first = zk.session_id
        ensemble.expire(first)
        await until(lambda: zk.session_id not in (0, first))
        await late.run()
        assert seen == [[]]


# PatientChildrenWatch -------------------------------------------------------------------------------------------------


async def test_children_that_have_settled(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        await zk.create("/a")

        async def arrive() -> None:
            for name in "123":
                await pass_time(4)
                await zk.create(f"/a/{name}")

        nursery.start_soon(arrive)
        async with PatientChildrenWatch(zk, "/a", time_boundary=5) as watch:
            started = trio.current_time()
            children, changed = await watch.start()
            assert sorted(children) == ["1", "2", "3"]
            assert trio.current_time() - started == pytest.approx(17)
            with trio.move_on_after(20) as waiting:
                await changed()
            assert waiting.cancelled_caught
            await zk.delete("/a/1")
            await changed()
        await until(lambda: holdings(zk).watches == 0)


async def test_settling_again_and_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a")
        async with PatientChildrenWatch(zk, "/a", 1) as watch:
            seen: list[list[str]] = []
            async for children in watch:
                seen.append(children)
                if len(seen) == 3:
                    break
                await zk.create(f"/a/{len(seen)}")
                if len(seen) == 1:
                    ensemble.expire(zk.session_id)
    assert [len(children) for children in seen] == [0, 1, 2]


async def test_patience_needs_a_znode_and_a_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(ValueError, match="time_boundary"):
            PatientChildrenWatch(zk, "/a", -1)
        with pytest.raises(RuntimeError, match="block"):
            await PatientChildrenWatch(zk, "/a").start()
        async with PatientChildrenWatch(zk, "/a") as watch:
            with pytest.raises(NoNodeError):
                await watch.start()


# Interruptions --------------------------------------------------------------------------------------------------------


async def _watch_data(zk: ZooKeeper) -> None:
    async with DataWatch(zk, "/a") as changes:
        await anext(changes)
        await zk.set("/a", b"2")
        await anext(changes)


async def _watch_with_function(zk: ZooKeeper) -> None:
    async with ChildrenWatch(zk, "/missing", lambda children: None):
        await pass_time(1)


async def _wait_patiently(zk: ZooKeeper) -> None:
    async with PatientChildrenWatch(zk, "/a", 1) as watch:
        await watch.start()


@pytest.mark.parametrize("work", [_watch_data, _watch_with_function, _wait_patiently])
async def test_cancelled_anywhere_nothing_stays(ensemble: MemoryEnsemble, autojump_clock: MockClock, work: Any) -> None:
    steps = await walk(ensemble, work, prepare=lambda: ensemble.realm.create("/a"), raises=(ConnectionLoss,))
    assert steps > 2


def _appending(data: list[Any]) -> Callable[[bytes | None, ZnodeStat | None], None]:
    def changed(value: bytes | None, _: ZnodeStat | None) -> None:
        data.append(value)

    return changed


async def test_whatever_is_lost_the_end_is_seen(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        ensemble.realm.create("/a")
        data: list[Any] = []
        children: list[Any] = []
        async with (
            ensemble.open() as zk,
            DataWatch(zk, "/a", _appending(data)),
            ChildrenWatch(zk, "/a", children.append),
        ):
            await settle()
            ensemble.realm.set("/a", b"1")
            ensemble.realm.create("/a/1")
            await until(lambda data=data: data[-1] == b"1")  # type: ignore[misc]
            await until(lambda children=children: children[-1] == ["1"])  # type: ignore[misc]
        assert data == [b"", b"1"], loss
        assert children == [[], ["1"]], loss
