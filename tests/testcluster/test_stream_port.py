"""The port for any kind of connection: what `test_server.py` leaves open, and real sockets without epoll."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from terzetto.client._transport import TcpTransport
from terzetto.client.wire import operations as o
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.server import ZooKeeperServer
from terzetto.testcluster.storage import MemoryStorage

from .port import connect_frame
from .shell import Client, serving


async def test_a_client_that_vanishes_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        clients = [await shell.connect() for _ in range(5)]
        for client in clients:
            await client.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not shell.server.links
        assert len(shell.server.tree.sessions) == 5


async def test_a_client_that_stops_sending_still_gets_its_answer(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        asking = Client(shell.transport)
        await asking.send(b"mntr")
        await asking.stream.send_eof()
        text = b""
        while data := await asking.connection.receive():
            text += data
        assert text.startswith(b"zk_version")


async def test_a_stop_drops_those_who_linger(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = await shell.connect()
    assert await client.ended()


@pytest.mark.parametrize("pieces", [1, 7])
async def test_real_sockets_without_epoll(pieces: int) -> None:
    config = ServerConfig(client_port=0, client_address="127.0.0.1", admin_enabled=False)
    server = ZooKeeperServer(config, storage=MemoryStorage(), transport=TcpTransport())
    async with trio.open_nursery() as nursery:
        port = await nursery.start(server.run)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = connect_frame() + b"".join(o.EXISTS.frame(xid, "/", False) for xid in range(100))
        for start in range(pieces):
            await stream.send_all(data[len(data) * start // pieces : len(data) * (start + 1) // pieces])
        size = 4 + 37 + 100 * (4 + 16 + 68)
        answer = b""
        with trio.fail_after(10):
            while len(answer) < size:
                answer += await stream.receive_some()
        assert len(answer) == size
        await stream.aclose()
        server.stop()
