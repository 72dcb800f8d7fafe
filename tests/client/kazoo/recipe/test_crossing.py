"""From a blocking recipe to the native one: what an interrupted thread leaves, and a client that starts anew."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

import pytest
import trio

from terzetto.client import ZooKeeper
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError
from terzetto.client.kazoo.handlers.utils import AsyncResult
from terzetto.client.kazoo.recipe._crossing import Crossing

BOUND = 10.0


class Thing:
    """A native recipe that can be taken."""

    def __init__(self, zk: ZooKeeper) -> None:
        self.zk = zk
        self.given_back = threading.Event()

    async def take(self) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    async def refuse(self) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    async def give_back(self) -> None:
        await trio.lowlevel.checkpoint()
        self.given_back.set()


def thing_of(crossing: Crossing[Thing]) -> Thing:
    thing = crossing.present
    assert thing is not None
    return thing


def test_a_recipe_is_made_once_for_each_start(client: KazooClient) -> None:
    crossing = Crossing(client, Thing)
    assert crossing.present is None
    assert crossing.look(lambda thing: "asked", otherwise="nothing there") == "nothing there"
    assert crossing.call(lambda thing: thing.take())
    first = thing_of(crossing)
    assert crossing.call(lambda thing: thing.take())
    assert thing_of(crossing) is first
    assert crossing.look(lambda thing: thing.zk.session_id, otherwise=0) == first.zk.session_id
    client.restart()
    assert crossing.present is None
    crossing.call(lambda thing: thing.take())
    assert thing_of(crossing) is not first
    client.stop()
    assert crossing.look(lambda thing: "asked", otherwise="stopped") == "stopped"
    with pytest.raises(ConnectionClosedError):
        crossing.call(lambda thing: thing.take())


def test_what_is_told_happens_before_what_comes_after_it(client: KazooClient) -> None:
    crossing = Crossing(client, Thing)
    crossing.tell(lambda thing: thing.given_back.set())
    assert crossing.present is None
    crossing.call(lambda thing: thing.take())
    crossing.tell(lambda thing: thing.given_back.set())
    assert crossing.call(seen) is True


async def seen(thing: Thing) -> bool:
    await trio.lowlevel.checkpoint()
    return thing.given_back.is_set()


@pytest.mark.parametrize("late", [False, True])
def test_what_an_interrupted_thread_has_taken_is_given_back(
    client: KazooClient, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    crossing = Crossing(client, Thing)
    crossing.call(lambda thing: thing.refuse())
    thing = thing_of(crossing)

    def interrupted(result: AsyncResult) -> object:
        if late:
            assert result.wait(BOUND)
        raise KeyboardInterrupt

    def taking(step: Callable[[Thing], Awaitable[bool]]) -> None:
        with pytest.raises(KeyboardInterrupt):
            crossing.take(step, give_back=lambda thing: thing.give_back())

    with monkeypatch.context() as patch:
        patch.setattr(AsyncResult, "get", interrupted)
        taking(lambda thing: thing.refuse())
        assert not thing.given_back.is_set()
        taking(lambda thing: thing.take())
    assert thing.given_back.wait(BOUND)


def test_what_fails_is_not_given_back(client: KazooClient) -> None:
    crossing = Crossing(client, Thing)

    async def fail(_: Thing) -> bool:
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        crossing.take(fail, give_back=lambda thing: thing.give_back())
    crossing.call(lambda thing: thing.take())
    assert not thing_of(crossing).given_back.is_set()
