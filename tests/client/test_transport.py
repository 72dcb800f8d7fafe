"""Connections over real loopback sockets and over streams: what they give, and how they end."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from terzetto.client import Connection, Endpoint, Listener, StreamConnection, TcpTransport
from terzetto.client._transport import ConnectionStream, SocketConnection


@asynccontextmanager
async def pair(host: str = "127.0.0.1") -> AsyncIterator[tuple[Connection, Connection]]:
    """Two ends of a TCP connection, dialled and accepted."""
    transport = TcpTransport()
    listener: Listener = await transport.listen(Endpoint(host, 0, host))
    try:
        dialled = await transport.dial(listener.endpoint)
        accepted = await listener.accept()
    finally:
        listener.close()
    try:
        yield dialled, accepted
    finally:
        await dialled.aclose()
        await accepted.aclose()


async def receive_exactly(connection: Connection, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await connection.receive()
        assert piece
        data += piece
    return data


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_bytes_go_both_ways(host: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this system has no IPv6")
    async with pair(host) as (one, other):
        assert one.sends_at_once
        assert one.send_nowait(b"hello") == 5
        assert await receive_exactly(other, 5) == b"hello"
        await other.send(b"answer")
        assert await receive_exactly(one, 6) == b"answer"
        assert ":" in one.peer


async def test_a_full_link_takes_nothing_and_send_waits() -> None:
    async with pair() as (one, other):
        sent = 0
        while count := one.send_nowait(b"x" * 65536):
            sent += count
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send, b"y" * 300_000)
            received = await receive_exactly(other, sent + 300_000)
        assert received == b"x" * sent + b"y" * 300_000


async def test_the_end_of_the_stream_is_no_bytes() -> None:
    async with pair() as (one, other):
        await one.aclose()
        await one.aclose()  # twice is fine
        assert await other.receive() == b""


async def test_closing_wakes_a_waiting_receiver() -> None:
    async with pair() as (one, _):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises((trio.ClosedResourceError, OSError)):
                    await one.receive()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await one.aclose()


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match=r"refused|Connection"):
            await TcpTransport().dial(Endpoint("127.0.0.1", unused.getsockname()[1], "localhost"))


async def test_a_name_gives_each_address_once_and_keeps_its_name() -> None:
    found = await TcpTransport().resolve(Endpoint("localhost", 2181, "localhost"))
    assert found
    assert len({endpoint.host for endpoint in found}) == len(found)
    assert {(endpoint.port, endpoint.server_name) for endpoint in found} == {(2181, "localhost")}
    assert all(endpoint.host in ("127.0.0.1", "::1") for endpoint in found)


async def test_what_is_no_name_is_an_os_error() -> None:
    with pytest.raises(OSError, match="is no host name"):
        await TcpTransport().resolve(Endpoint("x" * 64, 2181, "x"))


async def test_a_stream_can_only_be_waited_for() -> None:
    left, right = trio.testing.memory_stream_pair()
    one, other = StreamConnection(left, "left"), StreamConnection(right, "right")
    assert not one.sends_at_once
    assert one.send_nowait(b"x") == 0
    await one.send(b"hello")
    assert await other.receive() == b"hello"
    await one.aclose()
    await one.aclose()
    assert await other.receive() == b""
    await other.aclose()


async def test_small_requests_are_not_held_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        connection = SocketConnection(client, "peer")
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.getblocking() is False
        await connection.aclose()


async def test_a_connection_is_a_stream_again() -> None:
    async with pair() as (one, other):
        stream = ConnectionStream(one)
        await stream.wait_send_all_might_not_block()
        await stream.send_all(memoryview(b"hello"))
        assert await receive_exactly(other, 5) == b"hello"
        await other.send(b"answer")
        assert await stream.receive_some(1) == b"answer"
        await other.aclose()
        assert await stream.receive_some() == b""
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"late")


async def test_a_broken_connection_is_a_broken_stream() -> None:
    async with pair() as (one, other):
        assert isinstance(other, SocketConnection)
        other.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await other.aclose()
        stream = ConnectionStream(one)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"late")
