"""The gateway in front of servers, on a network inside the process and virtual time, and before real ones."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from terzetto.client import Connection, ConnectTimeoutError, Endpoint, RunClock, ZooKeeper, open_zookeeper
from terzetto.client.wire import operations as o
from terzetto.testcluster import open_ensemble
from terzetto.testcluster.gateway import QUIET, Gateway, GatewaySettings, cannot_keep
from terzetto.testcluster.gateway_ensemble import PROBE_INTERVAL
from terzetto.testcluster.memory_network import CAPACITY
from terzetto.testcluster.websocket_connection import STALL_TIMEOUT
from terzetto.testcluster.websocket_door import DoorLimits
from terzetto.testcluster.websocket_frames import HOLD_MAX

from .port import connect_frame
from .web import DOOR, WebClient, World, http, world

URL = f"ws://{DOOR}/"


def client_of(here: World, **options: object) -> AbstractAsyncContextManager[ZooKeeper]:
    return open_zookeeper(URL, transport=here.clients, clock=RunClock(), **options)  # type: ignore[arg-type]


async def test_sessions_chroots_and_watches_mean_the_same(autojump_clock: MockClock) -> None:
    async with world() as here:
        async with client_of(here, chroot="/app", ensure_chroot=True) as zk, client_of(here) as other:
            told = trio.Event()
            assert await zk.exists("/e", watch=lambda _: told.set()) is None
            await other.create("/app/e", b"1", ephemeral=True)
            await told.wait()
            data, stat = await zk.get("/e")
            assert (data, stat.owner_session_id) == (b"1", other.session_id)
            assert zk.session_id in here.servers[0].tree.sessions
            big = b"x" * 1_000_000
            await zk.create("/big", big)
            assert (await zk.get("/big"))[0] == big
            async with zk.pipeline() as pipeline:
                handles = [await pipeline.create("/n-", sequence=True) for _ in range(3000)]
            assert [handle.result() for handle in handles] == [f"/n-{i:010}" for i in range(2, 3002)]
        assert not here.servers[0].tree.sessions
        await trio.testing.wait_all_tasks_blocked()
        assert here.gateway.door.open == 0
        assert not here.servers[0].links


@pytest.mark.parametrize("small", [100_000, 60_000, 10])
async def test_requests_of_any_sizes_may_follow_each_other(autojump_clock: MockClock, small: int) -> None:
    """They leave together where they may share a message, and the longest frame that a server takes shares none."""
    async with world() as here, client_of(here) as zk:
        async with zk.pipeline() as pipeline:
            for number, size in enumerate((small, 1_048_400, small, 1_048_400, small)):
                await pipeline.create(f"/n{number}", bytes(size))
        assert sorted(await zk.get_children("/")) == ["n0", "n1", "n2", "n3", "n4", "zookeeper"]
        assert here.gateway.door.open == 1


async def test_a_client_finds_another_server_when_its_own_dies(autojump_clock: MockClock) -> None:
    async with world(servers=2) as here:
        async with client_of(here, session_timeout=4) as zk:
            (first,) = [server for server in here.servers if server.tree.sessions]
            told: list[tuple[str, str]] = []
            again = trio.Event()

            def tell(state: str) -> None:
                told.append((state, str(zk.last_error)))
                if state == "CONNECTED":
                    again.set()

            zk.add_listener(tell)
            first.kill()
            await again.wait()
            (second,) = [server for server in here.servers if server is not first]
            assert zk.session_id in second.tree.sessions
        state, reason = told[0]
        assert state == "SUSPENDED"
        assert reason.startswith(f"{URL} closed the")


async def test_without_a_server_the_client_hears_it_in_http(autojump_clock: MockClock) -> None:
    async with world() as here:
        here.servers[0].kill()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectTimeoutError, match=r"HTTP 503 .*no server of the ensemble can be reached"):
            async with client_of(here, connect_timeout=3):
                pytest.fail("the block must not begin")
        status, headers, body = await http(await here.dial(), b"GET /health HTTP/1.1\r\nHost: door\r\n\r\n")
        assert (status, body) == (503, b"no server of the ensemble serves\n")
        assert headers["connection"] == "close"


async def test_health_follows_the_servers(autojump_clock: MockClock) -> None:
    async with world(servers=2) as here:
        ask = b"GET /health HTTP/1.1\r\nHost: door\r\n\r\n"
        assert (await http(await here.dial(), ask))[::2] == (200, b"serving\n")
        here.servers[0].kill()
        await trio.sleep(2 * PROBE_INTERVAL)
        assert (await http(await here.dial(), ask))[0] == 200
        here.servers[1].kill()
        await trio.sleep(2 * PROBE_INTERVAL)
        assert (await http(await here.dial(), ask))[0] == 503


async def test_a_stranger_without_a_connect_request_is_sent_away(autojump_clock: MockClock) -> None:
    async with world(limits=DoorLimits(handshake_timeout=3)) as here:
        client = await here.come_in()
        began = trio.current_time()
        await client.send(connect_frame()[:10], finished=False)
        assert await client.end() == (1008, "no connect request within 3 s")
        assert trio.current_time() - began == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x7f\xff\xff\xff\0", 1009),
        (b"\0\0\x08\0" + bytes(2048), 1009),
        (connect_frame() + b"\0\0", 1007),
        (b"", 1007),
        (b"dump", 1008),
    ],
)
async def test_what_is_no_frame_reaches_no_server(autojump_clock: MockClock, data: bytes, code: int) -> None:
    async with world() as here:
        before = here.servers[0].bytes_received
        client = await here.come_in()
        await client.send(data)
        closed = await client.end()
        assert closed is not None
        assert closed[0] == code
        assert here.servers[0].bytes_received == before


@pytest.mark.parametrize(("words", "code"), [(None, 1000), (frozenset({b"mntr"}), 1000), (frozenset[bytes](), 1008)])
async def test_four_letter_words(autojump_clock: MockClock, words: frozenset[bytes] | None, code: int) -> None:
    async with world(words=words) as here:
        client = await here.come_in()
        await client.send(b"mntr")
        answer = await client.all()
        assert answer.startswith(b"zk_version") is (code == 1000)
        assert client.closed is not None
        assert client.closed[0] == code


async def test_connections_are_counted(autojump_clock: MockClock) -> None:
    async with world(limits=DoorLimits(connections=3, connections_an_address=2)) as here:
        first, second = await here.come_in(), await here.come_in()
        refused = WebClient(await here.dial())
        assert await refused.upgrade() == 503
        assert refused.headers["retry-after"] == "1"
        elsewhere = WebClient(await here.dial("elsewhere"))
        assert await elsewhere.upgrade() == 101
        assert await WebClient(await here.dial("anywhere")).upgrade() == 503
        await first.connection.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await WebClient(await here.dial()).upgrade() == 101
        await second.connection.aclose()


async def test_a_slow_reader_slows_its_server_down_and_is_given_up(autojump_clock: MockClock) -> None:
    async with world() as here:
        async with client_of(here) as zk:
            await zk.create("/big", b"x" * 900_000)
        client = await here.come_in()
        await client.send(connect_frame())
        await client.message()
        for xid in range(1, 40):
            await client.send(o.GET_DATA.frame(xid, "/big", False))
        await trio.sleep(1)
        (link,) = here.servers[0].links.values()
        # What fits between the two ends is all that was answered; the rest was not even asked for.
        passed = here.servers[0].bytes_sent - link.unsent
        assert passed < 3 * CAPACITY + 2 * HOLD_MAX
        assert here.gateway.door.open == 1
        await trio.sleep(STALL_TIMEOUT + 10)
        assert here.gateway.door.open == 0
        await client.connection.aclose()


async def test_a_server_that_takes_nothing_keeps_no_client_that_has_left(autojump_clock: MockClock) -> None:
    async with world() as here:
        client = await here.come_in()
        await client.send(connect_frame())
        await client.message()
        with here.network.partition({"gateway"}, {"zk1"}):
            for xid in (1, 2):
                await client.send(o.SET_DATA.frame(xid, "/", bytes(CAPACITY - 100), -1))
            await client.connection.aclose()
            await trio.sleep(STALL_TIMEOUT / 2)
            assert here.gateway.door.open == 1
            await trio.sleep(STALL_TIMEOUT)
            assert here.gateway.door.open == 0


async def test_a_slow_reader_that_goes_on_gets_everything(autojump_clock: MockClock) -> None:
    async with world() as here:
        async with client_of(here) as zk:
            await zk.create("/big", b"x" * 900_000)
        client = await here.come_in()
        await client.send(connect_frame(timeout_ms=40_000))
        await client.message()
        for xid in range(1, 13):
            await client.send(o.GET_DATA.frame(xid, "/big", False))
        await trio.sleep(5)
        for xid in range(1, 13):
            answer = await client.message()
            assert answer[4:8] == xid.to_bytes(4, "big")
            assert len(answer) > 900_000


async def test_draining_waits_for_a_quiet_moment_and_says_why(autojump_clock: MockClock) -> None:
    async with world(drain_timeout=10) as here:
        idle, busy = await here.come_in(), await here.come_in()
        for client in (idle, busy):
            await client.send(connect_frame())
            await client.message()
        began = trio.current_time()
        here.gateway.drain()
        refused = WebClient(await here.dial())
        assert await refused.upgrade() == 503
        assert (await http(await here.dial(), b"GET /health HTTP/1.1\r\nHost: door\r\n\r\n"))[::2] == (
            503,
            b"draining\n",
        )
        for xid in range(1, 41):
            await busy.send(o.EXISTS.frame(xid, "/", False))
            assert (await busy.message())[4:8] == xid.to_bytes(4, "big")
            await trio.sleep(0.04)
        assert await idle.end() == (1001, "the gateway is leaving")
        assert await busy.end() == (1001, "the gateway is leaving")
        await here.ended.wait()
        assert trio.current_time() - began < 3
        with pytest.raises(ConnectionRefusedError):
            await here.dial()


async def test_a_client_that_is_never_quiet_is_told_at_half_of_the_time(autojump_clock: MockClock) -> None:
    async with world(drain_timeout=4) as here:
        busy = await here.come_in()
        await busy.send(connect_frame())
        await busy.message()
        began = trio.current_time()
        here.gateway.drain()
        for xid in range(1, 1000):
            await busy.send(o.EXISTS.frame(xid, "/", False))
            if not await busy.message():
                break
            await trio.sleep(QUIET / 2)
        assert await busy.end() == (1001, "the gateway is leaving")
        assert 2 <= trio.current_time() - began < 2.5
        await here.ended.wait()


async def test_draining_is_bounded(autojump_clock: MockClock) -> None:
    async with world(drain_timeout=4) as here:
        deaf = await here.come_in()
        await deaf.send(connect_frame())
        began = trio.current_time()
        here.gateway.drain()
        await here.ended.wait()
        assert trio.current_time() - began <= 5


async def test_the_client_learns_why_a_gateway_closed(autojump_clock: MockClock) -> None:
    async with world() as here:
        async with client_of(here, session_timeout=4, close_timeout=0.5) as zk:
            suspended = trio.Event()
            reasons: list[str] = []

            def tell(_: str) -> None:
                reasons.append(str(zk.last_error))
                suspended.set()

            zk.add_listener(tell)
            here.gateway.drain()
            await suspended.wait()
            assert "1001 GOING_AWAY (the gateway is leaving)" in reasons[0]


async def test_a_server_that_closes_without_a_word() -> None:
    """As ZooKeeper does above maxClientCnxns."""
    async with trio.open_nursery() as nursery:
        network = await _network_of_silent_server(nursery)
        client = WebClient(await network.transport("client").dial(DOOR))
        assert await client.upgrade() == 101
        await client.send(connect_frame())
        assert await client.end() == (1013, "the server closed the connection without a word")
        nursery.cancel_scope.cancel()


async def _network_of_silent_server(nursery: trio.Nursery):  # type: ignore[no-untyped-def]
    from terzetto.testcluster.memory_network import Network

    network = Network()
    listener = await network.transport("zk").listen(Endpoint("zk", 2181, "zk"))

    async def close_all() -> None:
        while True:
            connection: Connection = await listener.accept()
            await connection.receive()
            await connection.aclose()

    nursery.start_soon(close_all)
    transport = network.transport("gateway")
    gateway = Gateway(GatewaySettings((Endpoint("zk", 2181, "zk"),)), await transport.listen(DOOR), transport)
    await nursery.start(gateway.run)
    return network


def test_what_a_gateway_cannot_keep_is_said() -> None:
    said = "\n".join(cannot_keep(GatewaySettings(())))
    for word in ("ip", "maxClientCnxns", "x509", "address", "certificates"):
        assert word in said


@pytest.mark.slow
async def test_a_session_outlives_its_server_in_a_real_ensemble() -> None:
    from terzetto.client._hosts import parse_hosts
    from terzetto.client._transport import TcpTransport

    async with open_ensemble(servers=3) as ensemble, trio.open_nursery() as nursery:
        endpoints, _ = parse_hosts(ensemble.hosts)
        listener = await TcpTransport().listen(Endpoint("127.0.0.1", 0, ""))
        gateway = Gateway(GatewaySettings(tuple(endpoints)), listener, TcpTransport())
        await nursery.start(gateway.run)
        with trio.fail_after(60):
            async with open_zookeeper(f"ws://{gateway.endpoint}/", session_timeout=20) as zk:
                session_id = zk.session_id
                await zk.create("/mine", ephemeral=True)
                for sid in ensemble.sids:
                    await ensemble.kill(sid)
                    await zk.retry(zk.sync, "/")
                    assert await zk.retry(zk.get_ephemerals) == ["/mine"]
                    await ensemble.start(sid)
                    await ensemble.wait_quorum()
                assert zk.session_id == session_id
        nursery.cancel_scope.cancel()
