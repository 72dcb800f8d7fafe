"""The network in memory: what its faults let through, on a virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection
from terzetto.testcluster.memory_network import CAPACITY, Network

PLACE = Endpoint("b", 2888, "b")


async def connected(network: Network) -> tuple[Connection, Connection]:
    """A connection's two ends, a's first."""
    listener = await network.transport("b").listen(PLACE)
    here = await network.transport("a").dial(PLACE)
    there = await listener.accept()
    listener.close()
    return here, there


async def nothing_arrives(connection: Connection, seconds: float = 1000.0) -> bool:
    with trio.move_on_after(seconds):
        await connection.receive()
        return False
    return True


async def test_bytes_and_the_end_arrive_in_order(autojump_clock: MockClock) -> None:
    here, there = await connected(Network())
    assert here.sends_at_once
    assert here.send_nowait(b"one") == 3
    await here.send(b"two")
    await here.aclose()
    await here.aclose()
    assert await there.receive() == b"onetwo"
    assert await there.receive() == b""
    with pytest.raises(OSError, match="connection"):
        await there.send(b"nobody reads this")
    with pytest.raises(trio.ClosedResourceError):
        await here.receive()


async def test_a_slow_reader_makes_the_sender_wait(autojump_clock: MockClock) -> None:
    here, there = await connected(Network())
    data = bytes(range(256)) * (CAPACITY // 64)
    received = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.send, data)
        await trio.testing.wait_all_tasks_blocked()
        assert here.send_nowait(b"more") == 0
        while len(received) < len(data):
            received += await there.receive()
    assert received == data


async def test_closing_wakes_who_waits_at_either_end(autojump_clock: MockClock) -> None:
    for close_own in (True, False):
        here, there = await connected(Network())
        here.send_nowait(bytes(CAPACITY))
        failures: list[Exception] = []

        async def send(connection: Connection = here, found: list[Exception] = failures) -> None:
            try:
                await connection.send(b"x")
            except (OSError, trio.ClosedResourceError) as error:
                found.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            await (here if close_own else there).aclose()
        assert len(failures) == 1


async def test_who_does_not_listen_refuses(autojump_clock: MockClock) -> None:
    network = Network()
    with pytest.raises(ConnectionRefusedError, match="b:2888"):
        await network.transport("a").dial(PLACE)
    listener = await network.transport("b").listen(PLACE)
    with pytest.raises(OSError, match="in use"):
        await network.transport("b").listen(PLACE)
    here = await network.transport("a").dial(PLACE)
    listener.close()
    assert await here.receive() == b""
    free = await network.transport("b").listen(Endpoint("b", 0, "b"))
    assert free.endpoint.port > 0


async def test_a_cut_holds_everything_back_until_it_is_mended(autojump_clock: MockClock) -> None:
    network = Network()
    here, there = await connected(network)
    with network.partition({"a"}, {"b"}):
        await here.send(b"late")
        await there.send(b"too")
        assert await nothing_arrives(there)
        await here.aclose()
        assert await nothing_arrives(there)
        # Nobody has told b that a is gone.
        await there.send(b"void")
    assert await there.receive() == b"late"
    assert await there.receive() == b""
    with pytest.raises(OSError, match="connection"):
        await there.send(b"known now")


async def test_one_direction_can_be_cut_alone_and_cuts_add_up(autojump_clock: MockClock) -> None:
    network = Network()
    here, there = await connected(network)
    network.cut("a", "b")
    with network.partition({"a"}, {"b"}, one_way=True):
        here.send_nowait(b"held")
        await there.send(b"free")
        assert await here.receive() == b"free"
    assert await nothing_arrives(there)
    network.mend("a", "b")
    assert await there.receive() == b"held"


async def test_a_dial_across_a_cut_succeeds_when_it_is_mended(autojump_clock: MockClock) -> None:
    network = Network()
    listener = await network.transport("b").listen(PLACE)
    async with trio.open_nursery() as nursery:
        with network.partition({"b"}, {"a"}, one_way=True):
            nursery.start_soon(network.transport("a").dial, PLACE)
            with trio.move_on_after(100) as scope:
                await listener.accept()
            assert scope.cancelled_caught
        await listener.accept()


async def test_a_slow_link_delays_and_keeps_the_order(autojump_clock: MockClock) -> None:
    network = Network()
    here, there = await connected(network)
    began = trio.current_time()
    network.slow("a", "b", 3.0)
    here.send_nowait(b"slow")
    network.slow("a", "b", 0.0)
    here.send_nowait(b"fast")
    await there.send(b"back")
    assert await here.receive() == b"back"
    assert trio.current_time() == began
    assert await there.receive() == b"slowfast"
    assert trio.current_time() == pytest.approx(began + 3)


async def test_a_slow_dial_takes_the_way_there_and_back(autojump_clock: MockClock) -> None:
    network = Network()
    await network.transport("b").listen(PLACE)
    network.slow("a", "b", 1.0)
    network.slow("b", "a", 2.0)
    began = trio.current_time()
    await network.transport("a").dial(PLACE)
    assert trio.current_time() == pytest.approx(began + 3)


async def test_broken_connections_lose_what_is_under_way(autojump_clock: MockClock) -> None:
    network = Network()
    here, there = await connected(network)
    here.send_nowait(b"lost")
    assert network.break_connections("b", "a") == 1
    with pytest.raises(OSError, match="connection"):
        await there.receive()
    with pytest.raises(OSError, match="connection"):
        here.send_nowait(b"x")
    assert network.break_connections("a", "b") == 0


async def test_only_one_task_receives(autojump_clock: MockClock) -> None:
    here, _ = await connected(Network())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await here.receive()
        nursery.cancel_scope.cancel()
