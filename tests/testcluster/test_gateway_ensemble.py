"""What a gateway knows of the servers behind it, and which one a client gets."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import Connection, Endpoint
from terzetto.testcluster.gateway_ensemble import DIAL_TIMEOUT, PROBE_INTERVAL, PROBE_TIMEOUT, EnsembleView, Health
from terzetto.testcluster.memory_network import Network

Serve = Callable[[Connection], Awaitable[None]]


def server(name: str) -> Endpoint:
    return Endpoint(name, 2181, name)


async def listen(network: Network, name: str, answer: bytes | None, nursery: trio.Nursery) -> None:
    """A server that answers every word like this; `None` answers nothing."""
    listener = await network.transport(name).listen(server(name))

    async def serve(connection: Connection) -> None:
        word = await connection.receive()
        if answer is None:
            await trio.sleep_forever()
        if word == b"srvr":
            await connection.send(answer or b"")
        await connection.aclose()

    async def accept() -> None:
        while True:
            nursery.start_soon(serve, await listener.accept())

    nursery.start_soon(accept)


@pytest.mark.parametrize(
    ("answer", "health"),
    [
        (b"Zookeeper version: 3.8.0\nMode: leader\n", Health.SERVES),
        (b"srvr is not executed because it is not in the whitelist.\n", Health.SERVES),
        (b"This ZooKeeper instance is not currently serving requests\n", Health.HAS_NO_QUORUM),
        (b"", Health.UNREACHABLE),
        (None, Health.UNREACHABLE),
    ],
)
async def test_what_an_answer_means(
    autojump_clock: MockClock, nursery: trio.Nursery, answer: bytes | None, health: Health
) -> None:
    network = Network()
    await listen(network, "zk", answer, nursery)
    view = EnsembleView([server("zk"), server("gone")], network.transport("gateway"), random.Random(1))
    assert view.health[server("zk")] is Health.UNKNOWN
    began = trio.current_time()
    for endpoint in view.health:
        await view.ask(endpoint)
    assert view.health == {server("zk"): health, server("gone"): Health.UNREACHABLE}
    assert view.serves is (health is Health.SERVES)
    assert trio.current_time() - began <= PROBE_TIMEOUT + 0.1


async def test_changes_are_seen_and_logged_once(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network()
    view = EnsembleView([server("zk")], network.transport("gateway"), random.Random(1))
    with caplog.at_level(logging.INFO):
        nursery.start_soon(view.run)
        await trio.sleep(3 * PROBE_INTERVAL)
        await listen(network, "zk", b"Mode: standalone\n", nursery)
        await trio.sleep(3 * PROBE_INTERVAL)
    assert [record.getMessage() for record in caplog.records] == ["zk:2181 is not reachable", "zk:2181 serves"]
    assert view.serves


async def test_clients_are_spread_over_those_that_serve(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    network = Network()
    for name in ("one", "two"):
        await listen(network, name, b"Mode: follower\n", nursery)
    await listen(network, "idle", b"This ZooKeeper instance is not currently serving requests\n", nursery)
    endpoints = [server(name) for name in ("idle", "one", "two", "gone")]
    view = EnsembleView(endpoints, network.transport("gateway"), random.Random(1))
    for endpoint in endpoints:
        await view.ask(endpoint)
    chosen: list[str] = []
    for _ in range(40):
        endpoint, connection = await view.connect()
        chosen.append(endpoint.host)
        await connection.aclose()
    assert set(chosen) == {"one", "two"}
    assert 10 < chosen.count("one") < 30


async def test_the_others_are_tried_where_the_best_fail(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    network = Network()
    for name in ("cut", "fine"):
        await listen(network, name, b"Mode: follower\n", nursery)
    view = EnsembleView([server("cut"), server("fine")], network.transport("gateway"), random.Random(1))
    await view.ask(server("cut"))
    network.cut("gateway", "cut")
    began = trio.current_time()
    endpoint, connection = await view.connect()
    assert endpoint.host == "fine"
    assert trio.current_time() - began == pytest.approx(DIAL_TIMEOUT)
    assert view.health[server("cut")] is Health.UNREACHABLE
    await connection.aclose()
    network.cut("gateway", "fine")
    with pytest.raises(ConnectionRefusedError, match="no server"):
        await view.connect()
