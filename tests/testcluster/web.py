"""A WebSocket client that speaks as it likes, and gateways with their ensemble on a network inside the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)

from terzetto.client import Connection, Endpoint
from terzetto.client._scopes import PlainNursery
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.gateway import Gateway, GatewaySettings
from terzetto.testcluster.memory_network import Network
from terzetto.testcluster.server import ZooKeeperServer
from terzetto.testcluster.storage import MemoryStorage
from terzetto.testcluster.websocket_rules import Tokens

DOOR = Endpoint("gateway", 8080, "gateway")


class WebClient:
    """One connection to a door.

    Attributes:
        status: of the answer to the handshake.
        headers: of that answer.
        body: of a refusal.
        closed: close code and reason, once the door has closed.
        pongs: what came back.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.closed: tuple[int, str] | None = None
        self.pongs: list[bytes] = []
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._parts: list[bytes] = []
        self._messages: list[bytes] = []

    async def upgrade(self, target: str = "/", headers: Sequence[tuple[str, str]] = ()) -> int:
        """Shakes hands; the HTTP status, 0 for none."""
        given = [(name.encode(), value.encode()) for name, value in headers]
        await self.connection.send(self._ws.send(Request(host="door", target=target, extra_headers=given)))
        while not self.status or (self.status != 101 and self.closed is None):
            if not await self._receive():
                break
        return self.status

    async def send(self, data: bytes, *, finished: bool = True) -> None:
        await self.connection.send(self._ws.send(BytesMessage(data=data, message_finished=finished)))

    async def say(self, event: Event) -> None:
        await self.connection.send(self._ws.send(event))

    async def message(self) -> bytes:
        """The next whole message, b"" after the end."""
        while not self._messages:
            if not await self._receive():
                return b""
        return self._messages.pop(0)

    async def all(self) -> bytes:
        """Everything until the end."""
        found = b""
        while data := await self.message():
            found += data
        return found

    async def end(self) -> tuple[int, str] | None:
        """Close code and reason; `None` for a connection that was cut."""
        await self.all()
        return self.closed

    async def _receive(self) -> bool:
        if self.closed is not None:
            return False
        data = await self.connection.receive()
        if not data:
            self.closed = self.closed or None
            return False
        self._ws.receive_data(data)
        for event in self._ws.events():
            await self._take(event)
        return True

    async def _take(self, event: Event) -> None:
        if isinstance(event, AcceptConnection):
            self.status = 101
        elif isinstance(event, RejectConnection):
            self.status = event.status_code
            self.headers = {name.decode().lower(): value.decode() for name, value in event.headers}
        elif isinstance(event, RejectData):
            self.body += event.data
            if event.body_finished:
                self.closed = (0, "")
        elif isinstance(event, Message):
            assert isinstance(event, BytesMessage)
            self._parts.append(bytes(event.data))
            if event.message_finished:
                self._messages.append(b"".join(self._parts))
                self._parts.clear()
        elif isinstance(event, Ping):
            await self.say(event.response())
        elif isinstance(event, Pong):
            self.pongs.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            self.closed = (int(event.code), event.reason or "")
            with suppress(OSError):
                await self.connection.send(self._ws.send(event.response()))


async def http(connection: Connection, head: bytes) -> tuple[int, dict[str, str], bytes]:
    """Sends a request's head as it is; status, headers and body of the answer, 0 where none comes."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "door")]))
    client.send(h11.EndOfMessage())
    with suppress(OSError):
        await connection.send(head)
    status, body = 0, b""
    headers: dict[str, str] = {}
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            try:
                client.receive_data(await connection.receive())
            except OSError:
                return status, headers, body
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            await connection.aclose()
            return status, headers, body


class World:
    """A gateway, its servers, and a network between them and the clients."""

    def __init__(self, network: Network, gateway: Gateway, servers: list[ZooKeeperServer]) -> None:
        self.network = network
        self.gateway = gateway
        self.servers = servers
        self.clients = network.transport("client")
        self.ended = trio.Event()

    async def dial(self, name: str = "client") -> Connection:
        """A connection to the door."""
        return await self.network.transport(name).dial(DOOR)

    async def come_in(self, target: str = "/", headers: Sequence[tuple[str, str]] = ()) -> WebClient:
        """A WebSocket."""
        client = WebClient(await self.dial())
        assert await client.upgrade(target, headers) == 101
        return client

    async def run_gateway(self, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED) -> None:
        await self.gateway.run(task_status=task_status)
        self.ended.set()


@asynccontextmanager
async def world(
    servers: int = 1, *, tokens: Callable[[], Tokens] | None = None, tick_ms: int = 2000, **settings: Any
) -> AsyncIterator[World]:
    """Standalone servers named zk1, zk2... and a gateway in front of them, while the block runs."""
    network = Network()
    async with PlainNursery() as nursery:
        running: list[ZooKeeperServer] = []
        for number in range(1, servers + 1):
            server = ZooKeeperServer(
                ServerConfig(
                    client_port=2181,
                    client_address=f"zk{number}",
                    admin_enabled=False,
                    tick_ms=tick_ms,
                    four_letter_words=frozenset({"*"}),
                ),
                storage=MemoryStorage(),
                transport=network.transport(f"zk{number}"),
                wall_clock=lambda: 1.7e9 + trio.current_time(),
                secret=b"the same on every server",
            )
            await nursery.start(server.run)
            running.append(server)
        endpoints = tuple(Endpoint(f"zk{number}", 2181, f"zk{number}") for number in range(1, servers + 1))
        transport = network.transport("gateway")
        gateway = Gateway(
            GatewaySettings(endpoints, **settings), await transport.listen(DOOR), transport, tokens=tokens
        )
        here = World(network, gateway, running)
        await nursery.start(here.run_gateway)
        yield here
        nursery.cancel_scope.cancel()
