"""Crossing into the loop's thread: order, interrupts, and calls that come too late."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.lowlevel

from terzetto.client.kazoo._loop import Loop
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError
from terzetto.client.kazoo.handlers.threading import SequentialThreadingHandler

BOUND = 10.0


def loop_of(client: KazooClient) -> Loop:
    loop = client.lifecycle.loop
    assert loop is not None
    return loop


def test_a_call_runs_in_the_loop_and_its_outcome_comes_back(client: KazooClient) -> None:
    loop = loop_of(client)

    async def work(value: int, *, plus: int) -> tuple[int, bool]:
        await trio.lowlevel.checkpoint()
        return value + plus, loop.is_inside

    assert loop.call(work, 1, plus=2) == (3, True)
    assert not loop.is_inside

    async def fail() -> None:
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        loop.call(fail)


def test_an_abandoned_call_is_cancelled(client: KazooClient) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    result = loop_of(client).spawn(hang)
    assert result.abandon is not None
    result.abandon()
    assert cancelled.wait(BOUND)
    with pytest.raises(ConnectionClosedError):
        result.get(timeout=BOUND)


def test_an_abandoned_request_is_withdrawn(client: KazooClient) -> None:
    result = client.get_async("/")
    abandon = result.abandon
    assert result.get(timeout=BOUND) is not None
    assert result.abandon is None
    if abandon is not None:
        abandon()
    assert client.get("/") is not None


def test_calls_that_come_too_late_are_told(client: KazooClient) -> None:
    loop = loop_of(client)

    async def hang() -> None:
        await trio.sleep_forever()

    waiting = loop.spawn(hang)
    client.stop()
    for result in (waiting, loop.spawn(hang)):
        with pytest.raises(ConnectionClosedError):
            result.get(timeout=BOUND)
    assert loop.ended.is_set()
    assert loop.join(0)
    loop.stop()
    loop.abort()


def test_a_body_that_fails_is_the_cause(client: KazooClient) -> None:
    loop = Loop(SequentialThreadingHandler())

    async def body(_: trio.Event) -> None:
        raise OSError("no certificate")

    loop.start(body)
    assert loop.ended.wait(BOUND)
    assert isinstance(loop.crash, OSError)
    with pytest.raises(ConnectionClosedError) as caught:
        loop.call(body, trio.Event())
    assert caught.value.__cause__ is loop.crash


def test_many_threads_share_a_client(client: KazooClient) -> None:
    client.ensure_path("/shared")

    def work(number: int) -> None:
        for count in range(50):
            client.create(f"/shared/{number}-{count}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(client.get_children("/shared")) == 400
