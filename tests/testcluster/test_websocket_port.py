"""A server's own door: clients keep their address and certificate, and meet the limits of the other ports."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock

from terzetto.client import (
    ACL,
    ClientInfo,
    ConfigurationError,
    ConnectionLoss,
    Endpoint,
    Id,
    NoAuthError,
    RunClock,
    WebSocketOptions,
    ZooKeeper,
    open_zookeeper,
)
from terzetto.client._scopes import PlainNursery
from terzetto.testcluster import EnsembleError, open_ensemble
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.config_tls import TlsSettings
from terzetto.testcluster.config_websocket import WebSocketSettings
from terzetto.testcluster.memory_network import Network
from terzetto.testcluster.server import ZooKeeperServer
from terzetto.testcluster.storage import MemoryStorage
from terzetto.testcluster.websocket_rules import parse_networks

from .port import connect_frame
from .web import WebClient, http

PORT = 8080
URL = f"ws://zk:{PORT}/door"
TOKEN = "0123456789abcdef"


class OwnDoor:
    def __init__(self, network: Network, server: ZooKeeperServer) -> None:
        self.network = network
        self.server = server

    async def come_in(self, name: str = "10.0.0.9", said: str | None = None) -> WebClient:
        client = WebClient(await self.network.transport(name).dial(Endpoint("zk", PORT, "zk")))
        await client.upgrade("/door", [] if said is None else [("X-Forwarded-For", said)])
        return client

    def open(self, name: str = "10.0.0.9", said: str | None = None, **options: Any):  # type: ignore[no-untyped-def]
        headers = {} if said is None else {"X-Forwarded-For": said}
        return open_zookeeper(
            URL,
            transport=self.network.transport(name),
            clock=RunClock(),
            websocket=WebSocketOptions(headers=headers),
            **options,
        )


@asynccontextmanager
async def own_door(websocket: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[OwnDoor]:
    """A server on a network inside the process, which listens for WebSockets beside its plain port."""
    network = Network()
    config = ServerConfig(
        client_port=2181,
        client_address="zk",
        admin_enabled=False,
        four_letter_words=frozenset({"srvr"}),
        websocket=WebSocketSettings(port=PORT, address="zk", path="/door", **(websocket or {})),
        **settings,
    )
    server = ZooKeeperServer(
        config, storage=MemoryStorage(), transport=network.transport("zk"), wall_clock=lambda: 1.7e9
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield OwnDoor(network, server)
        server.stop()


async def test_clients_keep_their_address(autojump_clock: MockClock) -> None:
    async with own_door() as door:
        async with door.open("10.0.0.9") as zk, door.open("10.0.0.10") as other:
            assert await zk.who_am_i() == [ClientInfo("ip", "10.0.0.9")]
            await zk.create("/mine", b"1", acl=[ACL(31, Id("ip", "10.0.0.9"))])
            assert (await zk.get("/mine"))[0] == b"1"
            with pytest.raises(NoAuthError):
                await other.get("/mine")
        await trio.testing.wait_all_tasks_blocked()
        assert not door.server.links
        assert not door.server.tree.sessions


async def test_the_client_behind_a_trusted_proxy_only_where_the_operator_says_so(autojump_clock: MockClock) -> None:
    async with own_door({"proxies": parse_networks(["10.0.0.1"])}) as door:
        async with door.open("10.0.0.1", "192.0.2.7, 203.0.113.5") as zk:
            assert await zk.who_am_i() == [ClientInfo("ip", "203.0.113.5")]
        async with door.open("10.0.0.2", "203.0.113.5") as zk:
            assert await zk.who_am_i() == [ClientInfo("ip", "10.0.0.2")]
        assert (await door.come_in("10.0.0.1", "nonsense")).status == 400


async def test_connections_are_counted_by_the_servers_own_limit(autojump_clock: MockClock) -> None:
    async with own_door(max_client_connections=2) as door:
        kept = [await door.come_in() for _ in range(2)]
        for client in kept:
            await client.send(connect_frame())
            assert await client.message()
        third = await door.come_in()
        assert await third.message() == b""
        assert door.server.connections_rejected == 1
        # The plain port counts the same clients.
        plain = await door.network.transport("10.0.0.9").dial(Endpoint("zk", 2181, "zk"))
        assert await plain.receive() == b""


async def test_the_other_limits_are_the_servers_own_too(autojump_clock: MockClock) -> None:
    async with own_door(max_frame=4 << 20, handshake_timeout_ms=3000) as door:
        async with door.open(max_request_size=8 << 20) as zk:
            await zk.create("/large", bytes(3 << 20))
            assert len((await zk.get("/large"))[0] or b"") == 3 << 20
            with pytest.raises(ConnectionLoss, match="1009"):
                await zk.create("/too-large", bytes(5 << 20))
        silent = await door.network.transport("a").dial(Endpoint("zk", PORT, "zk"))
        began = trio.current_time()
        assert await silent.receive() == b""
        assert trio.current_time() - began == pytest.approx(3.0, abs=0.5)


async def test_words_health_and_the_path(autojump_clock: MockClock) -> None:
    async with own_door() as door:
        client = await door.come_in()
        await client.send(b"srvr")
        assert (await client.all()).startswith(b"Zookeeper version")
        refused = await door.come_in()
        await refused.send(b"mntr")
        assert b"not in the whitelist" in await refused.all()
        connection = await door.network.transport("a").dial(Endpoint("zk", PORT, "zk"))
        assert (await http(connection, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"))[::2] == (200, b"serving\n")
        elsewhere = WebClient(await door.network.transport("a").dial(Endpoint("zk", PORT, "zk")))
        assert await elsewhere.upgrade("/") == 404


async def test_a_paused_server_answers_nobody_at_its_door_either(autojump_clock: MockClock) -> None:
    async with own_door() as door:
        door.server.pause()
        arrived: list[int] = []

        async def arrive() -> None:
            arrived.append((await door.come_in()).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrive)
            await trio.sleep(1)
            assert not arrived
            door.server.resume()
        assert arrived == [101]


async def test_a_stop_answers_what_was_received_and_closes(autojump_clock: MockClock) -> None:
    async with own_door() as door:
        client = await door.come_in()
        await client.send(connect_frame())
        assert len(await client.message()) == 41
    assert await client.end() == (1000, "")


async def test_large_replies_and_pipelines(autojump_clock: MockClock) -> None:
    async with own_door() as door, door.open() as zk:
        await zk.create("/big", b"x" * 1_000_000)
        async with zk.pipeline() as pipeline:
            handles = [await pipeline.get("/big") for _ in range(20)]
            small = [await pipeline.exists("/") for _ in range(2000)]
        assert all(len(handle.result()[0] or b"") == 1_000_000 for handle in handles)
        assert all(handle.result() is not None for handle in small)


async def test_a_door_needs_its_files(tmp_path: Path) -> None:
    config = ServerConfig(
        client_port=0,
        client_address="127.0.0.1",
        admin_enabled=False,
        websocket=WebSocketSettings(port=0, address="127.0.0.1", token_file=tmp_path / "none"),
    )
    with trio.fail_after(10), pytest.raises(ConfigurationError, match="webSocketTokenFile"):
        async with PlainNursery() as nursery:
            await nursery.start(ZooKeeperServer(config, storage=MemoryStorage()).run)


@asynccontextmanager
async def over_tls(tmp_path: Path, tokens: Path | None = None) -> AsyncIterator[tuple[str, trustme.CA]]:
    authority = trustme.CA()
    store, trust = tmp_path / "server.pem", tmp_path / "ca.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(store))
    authority.cert_pem.write_to_path(str(trust))
    config = ServerConfig(
        client_port=0,
        client_address="127.0.0.1",
        admin_enabled=False,
        websocket=WebSocketSettings(secure_port=0, secure_address="127.0.0.1", token_file=tokens),
        tls=TlsSettings(key_store=store, trust_store=trust, client_auth="want"),
    )
    server = ZooKeeperServer(config, storage=MemoryStorage())
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield f"wss://127.0.0.1:{server.client_ports.doors[0].number}/", authority
        server.stop()


async def test_a_certificate_is_an_identity_at_the_door(tmp_path: Path) -> None:
    async with over_tls(tmp_path) as (url, authority):
        context = ssl.create_default_context()
        authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
        async with open_zookeeper(url, tls=context) as zk:
            assert {info.auth_scheme for info in await zk.who_am_i()} == {"ip"}
        authority.issue_cert("client", common_name="app").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
        async with open_zookeeper(url, tls=context) as zk:
            known = await zk.who_am_i()
            assert {info.auth_scheme for info in known} == {"ip", "x509"}
            (subject,) = [info.user for info in known if info.auth_scheme == "x509"]
            assert subject.startswith("CN=app")
            await zk.create("/mine", acl=[ACL(31, Id("x509", subject))])
            await zk.set("/mine", b"x" * 500_000)
            assert len((await zk.get("/mine"))[0] or b"") == 500_000


async def test_tokens_at_a_servers_own_door(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    async with over_tls(tmp_path, tokens) as (url, authority):
        context = ssl.create_default_context()
        authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
        async with open_zookeeper(url, tls=context, websocket=WebSocketOptions(token=TOKEN)) as zk:
            assert await zk.exists("/") is not None
        async with open_zookeeper(url, tls=context, connect_timeout=None, close_timeout=0) as stranger:
            await _failed(stranger)
            assert "HTTP 401" in str(stranger.last_error)


async def _failed(zk: ZooKeeper) -> None:
    with trio.fail_after(10):
        while zk.last_error is None:
            await trio.lowlevel.checkpoint()


@pytest.mark.slow
async def test_every_server_of_an_ensemble_has_a_door() -> None:
    async with open_ensemble(servers=3, websocket=True) as ensemble:
        assert ensemble.websocket_hosts.count("ws://127.0.0.1:") == 3
        async with open_zookeeper(ensemble.websocket_hosts, session_timeout=20) as zk:
            session_id = zk.session_id
            await zk.create("/mine", ephemeral=True)
            await ensemble.kill(1)
            assert await zk.retry(zk.get_ephemerals) == ["/mine"]
            assert zk.session_id == session_id
    async with open_ensemble() as plain:
        with pytest.raises(EnsembleError, match="websocket=True"):
            _ = plain.websocket_hosts
