"""What followers of znodes share."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import NoNodeError, SessionExpiredError, WatchedEvent
from terzetto.client.wire import Opcode
from terzetto.recipes._following import Latest, LatestStream, Rearmed, call_back, first_of, in_any_session, takes
from tests.client.holdings import holdings
from tests.client.memory_server import MemoryEnsemble, settle, until
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
