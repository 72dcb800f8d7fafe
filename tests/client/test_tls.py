"""TLS in memory over a connection: both ways, beside trio's own TLS, in part, broken off, and what is no TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
import trio
import trustme
from trio.testing import MockClock

from terzetto.client import Connection, Endpoint
from terzetto.client._tls import TlsConnection
from terzetto.client._transport import ConnectionStream
from terzetto.testcluster.memory_network import CAPACITY, Network
from terzetto.testcluster.tls_port import LateTlsListener

FAR = Endpoint("far", 1, "far")


@dataclass
class Contexts:
    """Of both sides; `stranger` trusts somebody else."""

    client: ssl.SSLContext
    server: ssl.SSLContext
    stranger: ssl.SSLContext


@pytest.fixture(scope="module")
def contexts() -> Contexts:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("far").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    client, stranger = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    trustme.CA().configure_trust(stranger)  # pyright: ignore[reportUnknownMemberType]
    return Contexts(client, server, stranger)


@asynccontextmanager
async def pair(contexts: Contexts) -> AsyncIterator[tuple[TlsConnection, Connection, Connection]]:
    """A client's end and a server's, which have shaken hands, and what carries the client's."""
    network = Network()
    listener = LateTlsListener(await network.transport("far").listen(FAR), lambda: contexts.server)
    assert listener.endpoint.port == FAR.port
    inner = await network.transport("near").dial(FAR)
    near = TlsConnection(inner, contexts.client, server_hostname="far")
    far = await listener.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.do_handshake)
        # Only the first byte makes this end shake hands.
        nursery.start_soon(far.send, b"!")
    assert await near.receive() == b"!"
    yield near, far, inner
    listener.close()
    for each in (near, far):
        await each.aclose()
        await each.aclose()


async def leave(stream: trio.SSLStream[ConnectionStream]) -> None:
    """Says that this was all. There is no answer to that."""
    with suppress(trio.BrokenResourceError):
        await stream.unwrap()


async def receive(connection: Connection, size: int) -> bytes:
    found = b""
    while len(found) < size:
        data = await connection.receive()
        assert data
        found += data
    return found


@pytest.mark.parametrize("size", [1, 100, 16384, 16385, 3 * CAPACITY])
async def test_bytes_go_both_ways_at_once(autojump_clock: MockClock, contexts: Contexts, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    found: list[bytes] = []
    async with pair(contexts) as (near, far, _):

        async def take(connection: Connection) -> None:
            found.append(await receive(connection, size))

        async with trio.open_nursery() as nursery:
            for connection in (near, far):
                nursery.start_soon(connection.send, data)
                nursery.start_soon(take, connection)
    assert found == [data, data]


async def test_what_is_taken_in_part_goes_out_before_anything_else(
    autojump_clock: MockClock, contexts: Contexts
) -> None:
    piece = bytes(number % 251 for number in range(CAPACITY // 4))
    async with pair(contexts) as (near, far, _):
        assert near.sends_at_once
        assert near.send_nowait(b"") == 0
        sent = b""
        while (taken := near.send_nowait(piece)) == len(piece):
            sent += piece
        assert taken == len(piece) - 1
        assert near.send_nowait(piece) == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send, piece[taken:] + b"behind")
            assert await receive(far, len(sent) + len(piece) + 6) == sent + piece + b"behind"
        assert near.send_nowait(b"again") == 5
        assert await far.receive() == b"again"


async def test_nothing_follows_a_record_that_was_broken_off(autojump_clock: MockClock, contexts: Contexts) -> None:
    async with pair(contexts) as (near, _, _):
        with trio.move_on_after(1) as scope:
            await near.send(bytes(2 * CAPACITY))
        assert scope.cancelled_caught
        assert near.send_nowait(b"more") == 0
        with pytest.raises(trio.BrokenResourceError, match="broken off"):
            await near.send(b"more")


@pytest.mark.parametrize("name", ["far", "other"])
async def test_a_certificate_that_is_not_trusted_says_why(
    autojump_clock: MockClock, contexts: Contexts, name: str
) -> None:
    network = Network()
    listener = LateTlsListener(await network.transport("far").listen(FAR), lambda: contexts.server)
    context = contexts.stranger if name == "far" else contexts.client
    inner = await network.transport("near").dial(FAR)
    near, far = TlsConnection(inner, context, server_hostname=name), await listener.accept()
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            with pytest.raises(trio.BrokenResourceError) as told:
                await far.receive()
            # The alert has arrived.
            assert "alert" in str(told.value.__cause__)

        nursery.start_soon(answer)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await near.do_handshake()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    await near.aclose()
    await far.aclose()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\x00\x05hello", b""])
async def test_what_is_no_tls_is_told_apart(autojump_clock: MockClock, contexts: Contexts, said: bytes) -> None:
    network = Network()
    listener = LateTlsListener(await network.transport("far").listen(FAR), lambda: contexts.server)
    near, far = await network.transport("near").dial(FAR), await listener.accept()
    if said:
        await near.send(said)
    await near.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await far.receive()
    assert isinstance(caught.value.__cause__, OSError)
    assert said or "closed the connection during the TLS handshake" in str(caught.value.__cause__)
    await far.aclose()


async def test_an_end_without_a_word_is_an_end(autojump_clock: MockClock, contexts: Contexts) -> None:
    async with pair(contexts) as (near, far, inner):
        await near.send(b"last")
        await inner.aclose()
        assert await far.receive() == b"last"
        assert await far.receive() == b""
        assert await far.receive() == b""
        with pytest.raises((OSError, trio.BrokenResourceError)):
            await far.send(b"anybody?")


async def test_a_damaged_record_breaks_the_connection(autojump_clock: MockClock, contexts: Contexts) -> None:
    async with pair(contexts) as (near, far, inner):
        await near.send(b"good")
        await inner.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await far.receive() == b"good"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError):
                await far.receive()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("is_server", [True, False])
async def test_trios_own_tls_understands_it(
    autojump_clock: MockClock, contexts: Contexts, version: ssl.TLSVersion, is_server: bool
) -> None:
    """With TLS's own end of a connection, too."""
    network = Network()
    plain = await network.transport("far").listen(FAR)
    inner = await network.transport("near").dial(FAR)
    ours, theirs = (await plain.accept(), inner) if is_server else (inner, await plain.accept())
    side = contexts.server if is_server else contexts.client
    connection = TlsConnection(ours, side, server_hostname=None if is_server else "far", server_side=is_server)
    other = contexts.client if is_server else contexts.server
    try:
        contexts.client.maximum_version = version
        stream = trio.SSLStream(
            ConnectionStream(theirs), other, server_hostname="far" if is_server else None, server_side=not is_server
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.do_handshake)
            await connection.do_handshake()
            await connection.do_handshake()
        for data in (b"small", bytes(200_000)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.send, data)
                found = b""
                while len(found) < len(data):
                    found += await stream.receive_some()
                nursery.start_soon(stream.send_all, data)
                assert await receive(connection, len(data)) == found == data
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave, stream)
            assert await connection.receive() == b""
            await connection.aclose()
            nursery.cancel_scope.cancel()
    finally:
        contexts.client.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
