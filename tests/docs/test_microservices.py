"""The example of microservices: no request remains unanswered while instances die and settings change."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import trio

from terzetto.client import ZooKeeper
from terzetto.recipes import ServiceProvider
from terzetto.testcluster import BlockingEnsemble

from .programs import PATIENCE, load, programs

example: Any = load("microservices")


async def offered(quotes: ServiceProvider, condition: Callable[[set[str], set[str]], bool]) -> None:
    """Returns once the condition holds for the ids of those registered and of those offered."""
    async for instances in quotes.changes():
        registered = {instance.id for instance in quotes.all_instances()}
        if condition(registered, {instance.id for instance in instances}):
            return


async def fees(quotes: ServiceProvider, seen: list[list[float]]) -> None:
    """What the instances say they work with, in the order of their ids, whenever that changes."""
    async for _ in quotes.changes():
        seen.append([instance.metadata["fee"] for instance in quotes.all_instances()])


class Client:
    """Asks without a pause, and keeps the replies."""

    def __init__(self, quotes: ServiceProvider) -> None:
        self.replies: list[dict[str, Any]] = []
        self._quotes = quotes
        self._answered = trio.Event()

    async def ask(self) -> None:
        while True:
            self.replies.append(await example.ask(self._quotes))
            self._answered.set()
            self._answered = trio.Event()

    async def more(self, count: int = 6) -> list[dict[str, Any]]:
        """The next replies to requests that begin from here on."""
        first = len(self.replies) + 1
        while len(self.replies) < first + count:
            await self._answered.wait()
        return self.replies[first:]


@pytest.mark.slow
async def test_instances_are_killed_and_settings_rolled_out_while_every_request_is_answered(
    zk: ZooKeeper, zk_ensemble: BlockingEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An instance that a busy machine keeps waiting is not dead. One that is refuses connections.
    monkeypatch.setattr(example, "ANSWER_WITHIN", PATIENCE)
    names = {"quotes-1", "quotes-2", "quotes-3"}
    await example.put(zk, f"{example.DEFAULTS}/fee", b"0.5")
    async with programs("microservices", zk_ensemble.hosts + zk.chroot) as instances, example.discover(zk) as quotes:
        for name in names:
            await instances.start(name)
        await offered(quotes, lambda registered, _: registered == names)
        client = Client(quotes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.ask)
            seen: list[list[float]] = []
            nursery.start_soon(fees, quotes, seen)
            assert {reply["by"] for reply in await client.more()} == names

            # One after the other: who works with the new value has all before him working with it.
            assert await example.roll_out(zk, quotes, "fee", 0.2, PATIENCE)
            assert seen[0] == [0.5, 0.5, 0.5]
            assert [0.2, 0.5, 0.5] in seen
            assert seen[-1] == [0.2, 0.2, 0.2]
            assert all(one == sorted(one) for one in seen)
            assert [reply for reply in await client.more() if reply["fee"] != 0.2] == []

            # What an instance cannot read comes no further than to that one, and not into force there.
            assert not await example.roll_out(zk, quotes, "fee", 20, within=0.5)
            assert seen[-1] == [0.2, 0.2, 0.2]
            assert await zk.exists(f"{example.CONFIG}/quotes-1/fee") is None
            assert await zk.exists(f"{example.CONFIG}/quotes-2/fee") is None
            assert {reply["fee"] for reply in client.replies} == {0.5, 0.2}

            # Who is dead is not asked any more, long before its session ends.
            instances.signal("quotes-2", signal.SIGKILL)
            await offered(quotes, lambda all_, left: "quotes-2" in all_ and "quotes-2" not in left)
            assert {reply["by"] for reply in await client.more()} == {"quotes-1", "quotes-3"}

            # Who is told to end leaves first, and is not missed.
            instances.signal("quotes-3", signal.SIGTERM)
            await offered(quotes, lambda all_, _: "quotes-3" not in all_)
            assert await instances.ended("quotes-3") == 0
            assert {reply["by"] for reply in await client.more()} == {"quotes-1"}

            # Who comes later, also under a dead one's name, works with what the service works with.
            await instances.start("quotes-2")
            await offered(quotes, lambda _, left: left == {"quotes-1", "quotes-2"})
            assert {(reply["by"], reply["fee"]) for reply in await client.more()} == {
                ("quotes-1", 0.2),
                ("quotes-2", 0.2),
            }
            nursery.cancel_scope.cancel()


async def test_a_roll_out_that_is_cancelled_leaves_nothing_to_one_instance(zk: ZooKeeper) -> None:
    instance = example.ServiceInstance("quotes", "mute", payload={"fee": 0.5})
    async with (
        example.ServiceRegistry(zk, example.REGISTRY).register(instance),
        example.discover(zk) as quotes,
        trio.open_nursery() as nursery,
    ):
        await quotes.wait_instance()
        nursery.start_soon(example.roll_out, zk, quotes, "fee", 0.2, PATIENCE)
        async with zk.watch(f"{example.CONFIG}/mute/fee") as changes:
            while await zk.exists(f"{example.CONFIG}/mute/fee") is None:
                await anext(changes)
        nursery.cancel_scope.cancel()
    assert await zk.exists(f"{example.CONFIG}/mute/fee") is None
    assert await zk.exists(f"{example.SERVICE}/fee") is None
