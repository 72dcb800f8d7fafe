"""The proxy itself, in front of an echo and in front of a real server."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.vectors.raw_client import Capture

from .background import background_nursery
from .proxy import CuttableProxy, Sender, open_proxy
from .zookeeper import RealZooKeeper


def _frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


@asynccontextmanager
async def _proxied_echo() -> AsyncIterator[CuttableProxy]:
    async def echo(stream: trio.SocketStream) -> None:
        try:
            async for piece in stream:
                await stream.send_all(piece)
        except trio.BrokenResourceError:
            pass

    async with background_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        async with open_proxy(f"127.0.0.1:{listeners[0].socket.getsockname()[1]}") as proxy:
            yield proxy


async def _dial(proxy: CuttableProxy) -> trio.SocketStream:
    host, port = proxy.hosts.split(":")
    return await trio.open_tcp_stream(host, int(port))


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    received = b""
    with trio.fail_after(20):
        while len(received) < count:
            received += await stream.receive_some(count - len(received))
    return received


async def test_frames_are_passed_on_and_recorded_in_both_directions() -> None:
    async with _proxied_echo() as proxy, await _dial(proxy) as stream:
        await stream.send_all(_frame(b"one")[:5])
        await stream.send_all(_frame(b"one")[5:] + _frame(b"") + _frame(b"three"))
        assert await _exactly(stream, 20) == _frame(b"one") + _frame(b"") + _frame(b"three")
        for sender in ("client", "server"):
            assert [f.body for f in proxy.frames if f.sender == sender] == [b"one", b"", b"three"]
        assert proxy.count("client") == proxy.count("server") == 3
        assert {frame.connection for frame in proxy.frames} == {0}


async def test_what_is_no_frame_is_passed_on_and_not_recorded() -> None:
    async with _proxied_echo() as proxy, await _dial(proxy) as stream:
        await stream.send_all(b"ruok and some more")
        assert await _exactly(stream, 18) == b"ruok and some more"
        assert proxy.frames == []


@pytest.mark.parametrize("reset", [False, True])
async def test_cut_ends_live_connections_and_new_ones_are_taken(reset: bool) -> None:
    async with _proxied_echo() as proxy:
        async with await _dial(proxy) as stream:
            await stream.send_all(_frame(b"a"))
            await _exactly(stream, 5)
            proxy.cut(reset=reset)
            assert proxy.live == 0
            assert proxy.ends == {0: "proxy"}
            if reset:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            else:
                assert await stream.receive_some() == b""
        async with await _dial(proxy) as stream:
            await stream.send_all(_frame(b"b"))
            assert await _exactly(stream, 5) == _frame(b"b")
        assert proxy.accepted == 2


async def test_refused_connections_and_the_same_port_afterwards() -> None:
    async with _proxied_echo() as proxy:
        hosts = proxy.hosts
        async with await _dial(proxy) as live:
            await proxy.wait_until(lambda proxy: proxy.live == 1)
            proxy.refuse()
            with pytest.raises(OSError, match=r"all attempts to connect|refused"):
                await _dial(proxy)
            await live.send_all(_frame(b"a"))
            assert await _exactly(live, 5) == _frame(b"a")
        await proxy.accept()
        assert proxy.hosts == hosts
        async with await _dial(proxy) as stream:
            await stream.send_all(_frame(b"b"))
            assert await _exactly(stream, 5) == _frame(b"b")


@pytest.mark.parametrize("sender", ["client", "server"])
async def test_a_stalled_direction_holds_back_and_then_goes_on_in_order(sender: Sender) -> None:
    async with _proxied_echo() as proxy, await _dial(proxy) as stream:
        proxy.stall(sender)
        await stream.send_all(_frame(b"one"))
        await proxy.wait_until(lambda proxy: any(frame.sender == sender for frame in proxy.frames))
        await stream.send_all(_frame(b"two"))
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
            await stream.receive_some()
        assert proxy.count("server") == (0 if sender == "client" else 1)
        proxy.flow(sender)
        assert await _exactly(stream, 14) == _frame(b"one") + _frame(b"two")


async def test_an_absent_target_ends_the_connection() -> None:
    async with open_proxy("127.0.0.1:1") as proxy, await _dial(proxy) as stream:
        assert await stream.receive_some() == b""
        await proxy.wait_until(lambda proxy: proxy.ends == {0: "server"})


async def test_the_end_of_either_side_reaches_the_other() -> None:
    async with _proxied_echo() as proxy:
        async with await _dial(proxy) as stream:
            await stream.send_all(_frame(b"last"))
            await stream.send_eof()
            assert await _exactly(stream, 8) == _frame(b"last")
            assert await stream.receive_some() == b""
        await proxy.wait_until(lambda proxy: proxy.live == 0)
        assert proxy.ends == {0: "client"}


async def test_an_exception_in_the_block_leaves_it_bare() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_proxy("127.0.0.1:1"):
            raise LookupError("mine")


async def test_waiting_is_bounded() -> None:
    async with open_proxy("127.0.0.1:1") as proxy:
        with pytest.raises(trio.TooSlowError):
            await proxy.wait_until(lambda proxy: proxy.accepted > 0, deadline=0.01)


async def test_a_lost_reply_of_a_real_server(zookeeper: RealZooKeeper) -> None:
    """The case that matters most to a client: the server has done it, and the client cannot know."""
    acl = [[31, "world", "anyone"]]
    async with open_proxy(zookeeper.hosts) as proxy:
        capture = Capture(proxy)
        async with capture.connect("loses the reply") as client:
            await client.handshake()
            proxy.stall("server")
            body = b"\0\0\0\x01\0\0\0\x01" + struct.pack(">i", 11) + b"/proxy-lost" + struct.pack(">iii", 0, 1, 31)
            for text in (b"world", b"anyone"):
                body += struct.pack(">i", len(text)) + text
            await client.send(body + struct.pack(">i", 0), "create")
            await proxy.wait_until(lambda proxy: proxy.count("server") == 2)
            proxy.cut()
        proxy.flow("server")
        async with capture.session("finds it done") as client:
            assert (await client.request("create", path="/proxy-lost", data=b"", acl=acl, flags=0))["err"] == -110
