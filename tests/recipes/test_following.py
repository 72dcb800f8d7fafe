"""What followers of znodes share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import KazooState, NoNodeError, SessionExpiredError, WatchedEvent, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import (
    ChildrenWatch,
    ConfigTreeWatcher,
    DataWatch,
    GroupMember,
    Party,
    PersistentNode,
    PersistentTtlNode,
    ServiceInstance,
    ServiceRegistry,
    SharedCount,
    TreeCache,
    ZnodeCache,
)
from terzetto.recipes._following import (
    Latest,
    LatestStream,
    Rearmed,
    call_back,
    first_of,
    in_any_session,
    looks_once,
    takes,
)
from tests.client.holdings import holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Fault, nth


async def test_reads_go_on_in_the_next_session(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        first = zk.session_id
        ensemble.rules.append(nth(1, Opcode.EXISTS, Fault.SILENCE))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_any_session, zk, zk.exists, "/a")
            await settle()
            ensemble.expire(first)
        assert zk.session_id != first
        with pytest.raises(NoNodeError):
            await in_any_session(zk, zk.get, "/a")


async def test_a_client_that_is_over_ends_them(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(renew_session=False) as zk:
        ensemble.expire(zk.session_id)
        with pytest.raises(SessionExpiredError):
            await in_any_session(zk, zk.exists, "/a")


async def test_a_watch_is_armed_again_and_taken_back(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        change = Rearmed(zk, "/a")
        for _ in range(2):
            change.arm()
            await zk.exists("/a", watch=change.told)
            assert holdings(zk).watches == 1
            if ensemble.realm.znodes.get("/a") is None:
                ensemble.realm.create("/a")
            else:
                ensemble.realm.delete("/a")
            await change.wait()
        assert change.event is not None
        assert change.event.type == "DELETED"
        change.arm()
        await zk.exists("/a", watch=change.told)
        change.take_back()
        await until(lambda: holdings(zk).watches == 0)


async def test_the_newest_value_is_seen_once(autojump_clock: MockClock) -> None:
    latest = Latest(1)
    stream = LatestStream(latest, lambda: latest.value)
    assert await anext(stream) == 1
    latest.put(2)
    latest.put(3)
    assert await anext(stream) == 3
    seen: list[int] = []

    async def read() -> None:
        seen.append(await anext(stream))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await settle()
        assert seen == []
        latest.put(4)
    assert seen == [4]


async def test_the_first_of_several_waits_ends_all(autojump_clock: MockClock) -> None:
    ended: list[int] = []

    async def wait(seconds: int) -> None:
        await trio.sleep(seconds)
        ended.append(seconds)

    async def fail() -> None:
        raise ValueError("bare")

    start = trio.current_time()
    await first_of(partial(wait, 3), partial(wait, 2), trio.sleep_forever)
    assert trio.current_time() - start == 2
    assert ended == [2]
    with pytest.raises(ValueError, match="bare"):
        await first_of(fail, trio.sleep_forever)


async def test_functions_of_either_kind_are_called(autojump_clock: MockClock) -> None:
    async def later(value: int) -> int:
        return value

    def at_once(value: int) -> int:
        return value

    assert await call_back(later, 1) == await call_back(at_once, 1) == 1


class _Callable:
    def method(self, a: int, b: int) -> None: ...


def _optional(a: int, b: int, c: int = 0) -> None: ...


def _any(*args: int) -> None: ...


def _keyword(a: int, *, b: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "two", "three"),
    [
        (_optional, True, True),
        (_any, True, True),
        (_Callable().method, True, False),
        (_keyword, False, False),
        (WatchedEvent, True, True),
    ],
)
def test_how_many_arguments_a_function_takes(function: Any, two: bool, three: bool) -> None:
    assert takes(function, 2) is two
    assert takes(function, 3) is three


def test_a_limit_is_a_number_of_seconds_or_none() -> None:
    assert [looks_once(limit) for limit in (None, 1, 0.5, float("inf"), 0, 0.0, -1)] == [False] * 4 + [True] * 3
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not '5'"):
        looks_once("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="timeout must be a number of seconds or None, not nan"):
        looks_once(float("nan"))


_BLOCKS: dict[str, Callable[[ZooKeeper], AbstractAsyncContextManager[Any]]] = {
    "ZnodeCache": lambda zk: ZnodeCache(zk, "/t"),
    "TreeCache": lambda zk: TreeCache(zk, "/t"),
    "DataWatch": lambda zk: DataWatch(zk, "/t", lambda data, stat: None),
    "ChildrenWatch": lambda zk: ChildrenWatch(zk, "/t", lambda children: None),
    "SharedCount": lambda zk: SharedCount(zk, "/s"),
    "Party": lambda zk: Party(zk, "/party"),
    "GroupMember": lambda zk: GroupMember(zk, "/g", "me"),
    "PersistentNode": lambda zk: PersistentNode(zk, "/p"),
    "PersistentTtlNode": lambda zk: PersistentTtlNode(zk, "/ttl", 5.0),
    "ServiceProvider": lambda zk: ServiceRegistry(zk).provider("web"),
    "Registration": lambda zk: ServiceRegistry(zk).register(ServiceInstance("web", "a")),
    "ConfigTreeWatcher": lambda zk: ConfigTreeWatcher(zk, ["/t", "/u"], int),
}


@pytest.mark.parametrize("body", ["sleeps", "asks"])
@pytest.mark.parametrize("recipe", _BLOCKS)
async def test_when_the_client_is_over_a_block_ends_with_one_error(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, recipe: str, body: str
) -> None:
    async with ensemble.open(session_timeout=6.0, renew_session=False) as zk:
        await zk.create("/t")
        own: list[SessionExpiredError] = []

        async def run() -> None:
            async with _BLOCKS[recipe](zk):
                ensemble.shut(Door.REFUSES)
                ensemble.cut()
                ensemble.expire(zk.session_id)
                nursery.start_soon(come_back)
                if body == "sleeps":
                    await trio.sleep_forever()
                await until(lambda: zk.state == KazooState.SUSPENDED)
                try:
                    await zk.sync("/")
                except SessionExpiredError as error:
                    own.append(error)
                    raise

        async def come_back() -> None:
            await pass_time(3)
            ensemble.shut(Door.OPEN)

        async with trio.open_nursery() as nursery:
            with trio.fail_after(60), pytest.raises(SessionExpiredError) as raised:
                await run()
        assert not own or raised.value is own[0], "what the body raises leaves unchanged"
