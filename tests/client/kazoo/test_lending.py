"""Who reads what arrives on a connection that is lent, and that nothing gets lost or out of order."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from terzetto.client._hosts import Endpoint
from terzetto.client.kazoo._lending import CAN_LEND, LendingConnection, LendingTransport

pytestmark = pytest.mark.skipif(not CAN_LEND, reason="connections are lent on Linux only")

BOUND = 10.0


@pytest.fixture
def ends() -> Iterator[tuple[LendingConnection, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = LendingConnection(ours, "the other end")
    yield connection, theirs
    theirs.close()
    trio.run(connection.aclose)


Ends = tuple[LendingConnection, socket.socket]


async def test_the_loop_reads_what_is_not_lent(ends: Ends) -> None:
    connection, theirs = ends
    theirs.send(b"one")
    with trio.fail_after(BOUND):
        assert await connection.receive() == b"one"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.receive)
            await trio.testing.wait_all_tasks_blocked()
            theirs.send(b"two")


async def test_what_is_lent_is_the_borrowers(ends: Ends) -> None:
    connection, theirs = ends
    read: list[bytes] = []

    async def receive() -> None:
        read.append(await connection.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert connection.lend()
        theirs.send(b"reply")
        connection.await_arrival(BOUND)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert connection.take() == b"reply"
        assert connection.take() == b""
        connection.take_back()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert read == []
        theirs.send(b"event")
    assert read == [b"event"]


async def test_what_is_given_back_comes_before_what_is_behind_it(ends: Ends) -> None:
    connection, theirs = ends
    assert connection.lend()
    theirs.send(b"event")
    connection.await_arrival(BOUND)
    data = connection.take()
    theirs.send(b"reply")
    connection.give_back(data)
    assert connection.take() == b""
    connection.take_back()
    with trio.fail_after(BOUND):
        assert [await connection.receive() for _ in range(2)] == [b"event", b"reply"]


async def test_an_end_is_left_to_the_loop(ends: Ends) -> None:
    connection, theirs = ends
    assert connection.lend()
    theirs.close()
    connection.await_arrival(BOUND)
    assert connection.take() == b""
    connection.take_back()
    with trio.fail_after(BOUND):
        assert await connection.receive() == b""


async def test_closing_wakes_a_borrower_and_the_loop(ends: Ends) -> None:
    connection, _ = ends
    assert connection.lend()
    borrower = threading.Thread(target=connection.await_arrival, args=(BOUND,))
    borrower.start()

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await connection.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await connection.aclose()
    borrower.join(BOUND / 2)
    assert not borrower.is_alive()
    connection.take_back()
    assert not connection.lend()
    await connection.aclose()


async def test_a_socket_that_a_program_has_closed_is_not_lent(ends: Ends) -> None:
    connection, _ = ends
    connection.socket.close()
    assert not connection.lend()
    assert connection.take() == b""
    connection.take_back()


async def test_what_the_transport_dials_can_be_lent() -> None:
    transport = LendingTransport()
    listener = await transport.listen(Endpoint("127.0.0.1", 0, "localhost"))
    try:
        connection = await transport.dial(listener.endpoint)
        accepted = await listener.accept()
        assert isinstance(connection, LendingConnection)
        await accepted.send(b"hello")
        with trio.fail_after(BOUND):
            assert await connection.receive() == b"hello"
        await connection.aclose()
        await accepted.aclose()
    finally:
        listener.close()
