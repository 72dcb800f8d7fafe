"""Gateways as the client meets them: options and secrets, handshakes that fail, closes and cuts, TLS.

The far end here is trio-websocket's own server or a script in raw bytes; terzetto's gateway has tests of its own.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from terzetto.client import (
    ConfigurationError,
    ConnectionLoss,
    Endpoint,
    GatewayRefusedError,
    ReplyTooLargeError,
    TcpTransport,
    WebSocketOptions,
    ZooKeeper,
    open_zookeeper,
)
from terzetto.client._hosts import parse_hosts
from terzetto.client._websocket import WebSocketTransport
from terzetto.client._websocket_frames import MESSAGE_MAX
from terzetto.client._websocket_stream import ANSWER_MAX
from terzetto.testcluster import open_ensemble

SECRET = "s3cr3t-t0ken"

Serve = Callable[[WebSocketRequest], Awaitable[None]]


# Options --------------------------------------------------------------------------------------------------------------


def test_no_secret_is_shown() -> None:
    options = WebSocketOptions(headers={"Cookie": SECRET, "X-Team": "a"}, token=SECRET, allow_plain_text=True)
    assert SECRET not in f"{options!r} {options}"
    assert "Cookie" in repr(options)
    endpoints, _ = parse_hosts(f"ws://gw/zk?token={SECRET}")
    assert endpoints[0].resource == f"/zk?token={SECRET}"
    assert SECRET not in f"{endpoints!r} {endpoints[0]}"


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"Host": "elsewhere"}},
        {"headers": {"Sec-WebSocket-Key": "x"}},
        {"headers": {"upgrade": "x"}},
        {"headers": {"X Y": "x"}},
        {"headers": {"X": f"{SECRET}\r\nEvil: 1"}},
        {"headers": {"X": f"{SECRET}\N{EURO SIGN}"}},
        {"headers": [("X", 1)]},
        {"headers": ["X: 1"]},
        {"headers": {"Authorization": SECRET}, "token": SECRET},
        {"token": f"{SECRET} {SECRET}"},
        {"token": ""},
        {"token": 5},
    ],
)
def test_options_that_cannot_be_sent(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        WebSocketOptions(**given)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


async def test_a_token_is_asked_for_at_each_handshake() -> None:
    given = iter(["one", "two"])

    async def later() -> str:
        await trio.lowlevel.checkpoint()
        return "three"

    plain, awaited = WebSocketOptions(token=lambda: next(given)), WebSocketOptions(token=later)
    for options, token in [(plain, b"one"), (plain, b"two"), (awaited, b"three")]:
        assert (b"Authorization", b"Bearer " + token) in await options.handshake_headers()
    empty: dict[str, str] = {}
    for bad in (lambda: "with blank", lambda: None, lambda: empty["no such key"]):
        with pytest.raises(OSError, match="no token") as caught:
            await WebSocketOptions(token=bad).handshake_headers()  # type: ignore[arg-type]
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("hosts", "given", "exposed"),
    [
        ("ws://gw/", {"token": SECRET}, True),
        ("ws://gw/", {"headers": {"cookie": SECRET}}, True),
        ("ws://gw/", {"headers": {"X-Team": "a"}}, False),
        ("ws://gw/", {"token": SECRET, "allow_plain_text": True}, False),
        ("wss://gw/", {"token": SECRET}, False),
        ("ws://localhost/", {"token": SECRET}, False),
        ("ws://127.0.0.1/", {"token": SECRET}, False),
        ("ws://[::1]/", {"token": SECRET}, False),
        ("gw:2181", {"token": SECRET}, False),
    ],
)
async def test_secrets_cross_no_network_in_plain_text(hosts: str, given: dict[str, object], exposed: bool) -> None:
    options = WebSocketOptions(**given)  # type: ignore[arg-type]
    (endpoint,), _ = parse_hosts(hosts)
    assert options.exposes(endpoint) is exposed
    if exposed:
        with pytest.raises(ConfigurationError, match="plain text"):
            async with open_zookeeper(hosts, websocket=options):
                pytest.fail("the block must not begin")


@pytest.mark.parametrize("given", [{"track_ensemble": True}, {"websocket": object()}])
async def test_arguments_that_cannot_be_meant(given: dict[str, object]) -> None:
    with pytest.raises((ConfigurationError, TypeError)):
        async with open_zookeeper("ws://127.0.0.1:1/", **given):  # type: ignore[arg-type]
            pytest.fail("the block must not begin")


# Far ends -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def websockets(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """trio-websocket's server; gives its address."""
    opened = partial(serve_websocket, serve, "127.0.0.1", 0, tls, max_message_size=8 * MESSAGE_MAX)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(opened)
        yield f"127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def answering(answer: bytes, *, close: bool = True) -> AsyncIterator[str]:
    """A server that reads one request and says this."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(65536)
            try:
                await stream.send_all(answer)
            except trio.BrokenResourceError:
                return
            if not close:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        host, port = listener.socket.getsockname()
        yield f"{host}:{port}"
        nursery.cancel_scope.cancel()


async def relay(socket: WebSocketConnection, hosts: str) -> None:
    """Both ways, until one is gone: a message in, chunks out as messages."""
    host, _, port = hosts.partition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as nursery:

        async def upwards() -> None:
            try:
                while True:
                    message = await socket.get_message()
                    assert isinstance(message, bytes)
                    await stream.send_all(message)
            except ConnectionClosed:
                nursery.cancel_scope.cancel()

        nursery.start_soon(upwards)
        try:
            async for data in stream:
                await socket.send_message(bytes(data))
            await socket.aclose()
        except ConnectionClosed:
            pass
        nursery.cancel_scope.cancel()


async def failed(zk: ZooKeeper) -> None:
    """Waits for the first failure; nobody is told of one before there was a connection."""
    with trio.fail_after(30):
        while zk.last_error is None:
            await trio.lowlevel.checkpoint()


async def failure_of(hosts: str, **options: object) -> BaseException:
    """Why no session came about."""
    given = {"connect_timeout": None, "session_timeout": 5.0, "close_timeout": 0, **options}
    async with open_zookeeper(hosts, **given) as zk:  # type: ignore[arg-type]
        await failed(zk)
        assert zk.state != "CONNECTED"
        assert zk.last_error is not None
        return zk.last_error


def http(status: str, *headers: str, body: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


# Handshakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            http("401 Unauthorized", body="the bearer token is not known\n"),
            "HTTP 401 Unauthorized: the bearer token is",
        ),
        (http("403 Forbidden"), "HTTP 403 Forbidden"),
        (http("404 Not Found", "Content-Type: text/html", body="<html>"), "HTTP 404 Not Found"),
        (http("503 Service Unavailable", body="busy\x1b[31m\nmore"), r"HTTP 503 Service Unavailable: busy?[31m"),
        (http("599 Whatever"), "HTTP 599"),
        (http("200 OK", body="{}"), "HTTP 200 OK"),
    ],
)
async def test_a_refusal_says_its_status(answer: bytes, told: str) -> None:
    async with answering(answer) as address:
        failure = await failure_of(f"ws://{address}/zk")
    assert isinstance(failure, GatewayRefusedError)
    assert failure.status == int(answer[9:12])
    assert str(failure).startswith(f"ws://{address}/zk refused the WebSocket handshake: ")
    assert str(failure).endswith(told) or told in str(failure)
    assert "more" not in str(failure)
    assert "<html>" not in str(failure)


@pytest.mark.parametrize("given", [{"token": SECRET}, {"headers": {"X-Key": SECRET}}, {"headers": {"Cookie": SECRET}}])
async def test_a_gateway_that_repeats_a_secret_does_not_make_it_public(given: dict[str, object]) -> None:
    options = WebSocketOptions(**given)  # type: ignore[arg-type]
    told: list[str] = []
    for answer in (
        http("401 Unauthorized", body=f"no {SECRET} is known here\n"),
        http("307 Temporary Redirect", f"Location: https://gw.example/for/{SECRET}/in"),
    ):
        async with answering(answer) as address:
            told.append(str(await failure_of(f"ws://{address}/", websocket=options)))

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.get_message()
        await socket.aclose(4001, f"{SECRET} has expired")

    async with websockets(serve) as address:
        told.append(str(await failure_of(f"ws://{address}/", websocket=options)))
    assert told[0].endswith("no (hidden) is known here")
    assert "wss://gw.example/for/(hidden)/in" in told[1]
    assert told[2].endswith("((hidden) has expired)")


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://gw.example/zk?token=s3cr3t", "wss://gw.example/zk"),
        ("wss://user:s3cr3t@gw.example:444/zk", "wss://gw.example:444/zk"),
        ("/login?next=s3cr3t", "/login"),
        ("https://[::1", "an address that is none"),
    ],
)
async def test_a_redirect_is_not_followed(location: str, shown: str) -> None:
    async with answering(http("307 Temporary Redirect", f"Location: {location}")) as address:
        failure = await failure_of(f"ws://{address}/", websocket=WebSocketOptions(token=SECRET))
    assert f"HTTP 307 Temporary Redirect) to {shown}; redirects are not followed" in str(failure)
    assert "s3cr3t" not in str(failure)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "closed the connection during the WebSocket handshake"),
        (b"no HTTP at all\r\n\r\n", "speaks no WebSocket|during the WebSocket handshake"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\nno length", "after HTTP 502"),
        (http("101 Switching Protocols"), "speaks no WebSocket|during the WebSocket handshake"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (2 * ANSWER_MAX), "speaks no WebSocket|during the WebSocket handshake"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2 * ANSWER_MAX), "longer than|during the WebSocket handshake"),
    ],
)
async def test_what_is_no_websocket_at_all(answer: bytes, told: str) -> None:
    async with answering(answer) as address:
        failure = await failure_of(f"ws://{address}/")
    assert any(part in str(failure) for part in told.split("|")), str(failure)


async def test_a_handshake_that_is_never_answered_is_given_up() -> None:
    async with answering(b"HTTP/1.1 ", close=False) as address:
        failure = await failure_of(f"ws://{address}/", session_timeout=1.0)
    assert "did not answer in time" in str(failure)


@pytest.mark.parametrize("after", range(0, 60, 3))
async def test_a_dial_that_is_given_up_at_any_time_leaves_nothing(after: int) -> None:
    """Also one that is given up in the very moment in which it succeeds, when messages are there already."""

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        with suppress(ConnectionClosed):
            for _ in range(20):
                await socket.send_message(b"\0\0\0\0")
            await socket.get_message()

    async with websockets(serve) as address:
        (endpoint,), _ = parse_hosts(f"ws://{address}/")
        with trio.fail_after(10):
            async with trio.open_nursery() as links:
                transport = WebSocketTransport(TcpTransport(), TcpTransport())
                transport.run_links_in(links)
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:

                        async def give_up() -> None:
                            for _ in range(after):
                                await trio.lowlevel.checkpoint()
                            scope.cancel()

                        nursery.start_soon(give_up)
                        connection = await transport.dial(endpoint)
                        with trio.CancelScope(shield=True):
                            await connection.aclose()
            assert not links.child_tasks


async def test_headers_and_token_arrive_and_hosts_may_be_mixed() -> None:
    seen: list[dict[bytes, bytes]] = []

    async def serve(request: WebSocketRequest) -> None:
        seen.append({**dict(request.headers), b":path": request.path.encode()})
        await relay(await request.accept(), ensemble.hosts)

    async with open_ensemble(servers=1) as ensemble:
        tokens = iter(["first", "second"])
        options = WebSocketOptions(headers=[("X-Team", "a b")], token=lambda: next(tokens))
        async with websockets(serve) as address:
            hosts = f"127.0.0.1:1,ws://{address}/zk?x=1"
            async with open_zookeeper(hosts, chroot="/app", ensure_chroot=True, websocket=options) as zk:
                await zk.create("/a", b"1")
                assert (await zk.get("/a"))[0] == b"1"
                assert str(zk.server) == f"ws://{address}/zk"
                await ensemble.drop_connections()
                assert await zk.retry(zk.exists, "/a") is not None
            async with open_zookeeper([ensemble.hosts, f"ws://{address}/"], randomize_hosts=False) as zk:
                assert str(zk.server) == ensemble.hosts
    assert [headers[b"authorization"] for headers in seen] == [b"Bearer first", b"Bearer second"]
    assert {headers[b"x-team"] for headers in seen} == {b"a b"}
    assert {headers[b":path"] for headers in seen} == {b"/zk?x=1"}


# Sending --------------------------------------------------------------------------------------------------------------


# Closes and cuts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (1001, "maintenance", "closed the WebSocket: 1001 GOING_AWAY (maintenance)"),
        (1008, "", "closed the WebSocket: 1008 POLICY_VIOLATION"),
        (1012, "restart", "closed the WebSocket: 1012 SERVICE_RESTART (restart)"),
        (4321, "own\x1b", "closed the WebSocket: 4321 PRIVATE_RESERVED (own?)"),
        (1000, "", "closed the connection"),
    ],
)
async def test_a_close_code_is_the_reason_of_the_loss(code: int, reason: str, told: str) -> None:
    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.get_message()
        await socket.aclose(code, reason)

    async with websockets(serve) as address:
        failure = await failure_of(f"ws://{address}/")
    assert str(failure) == f"ws://{address}/ {told}"


async def test_text_is_no_frame() -> None:
    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.send_message("hello")
        await trio.sleep_forever()

    async with websockets(serve) as address:
        failure = await failure_of(f"ws://{address}/")
    assert "sent text" in str(failure)


async def test_a_cut_suspends_as_on_tcp_and_the_session_goes_on() -> None:
    """What an idle limit of a proxy looks like: the connection is gone without a closing handshake."""
    sockets: list[WebSocketConnection] = []

    async def serve(request: WebSocketRequest) -> None:
        sockets.append(await request.accept())
        await relay(sockets[-1], ensemble.hosts)

    async with open_ensemble(servers=1) as ensemble:
        async with websockets(serve) as address, open_zookeeper(f"ws://{address}/") as zk:
            session_id = zk.session_id
            told: list[tuple[str, str]] = []
            zk.add_listener(lambda state: told.append((state, str(zk.last_error))))
            await trio.aclose_forcefully(sockets[-1]._stream)  # pyright: ignore[reportPrivateUsage]
            while not told or told[-1][0] != "CONNECTED":
                with suppress(ConnectionLoss):
                    await zk.exists("/")
            assert zk.session_id == session_id
            assert told[0] == ("SUSPENDED", f"ws://{address}/ cut the connection without a closing handshake")


async def test_pings_of_the_far_end_are_answered_and_idle_sessions_ping() -> None:
    quiet: list[int] = []

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay, socket, ensemble.hosts)
            for number in range(3):
                with trio.fail_after(30):
                    await socket.ping(bytes([number]))
            quiet.append(1)

    async with open_ensemble(servers=1) as ensemble:
        async with websockets(serve) as address, open_zookeeper(f"ws://{address}/") as zk:
            while not quiet:
                await zk.exists("/")


@pytest.mark.parametrize("size", [20_000, MESSAGE_MAX + 20_000])
async def test_a_reply_over_the_limit_fails_its_request(size: int) -> None:
    """Also where the whole message is too long to be taken."""

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        whole: list[bytes] = []
        host, _, port = ensemble.hosts.partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as nursery:

            async def upwards() -> None:
                try:
                    while True:
                        message = await socket.get_message()
                        assert isinstance(message, bytes)
                        await stream.send_all(message)
                except ConnectionClosed:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(upwards)
            rest = b""
            async for data in stream:
                rest += data
                while len(rest) >= 4 and len(rest) >= 4 + int.from_bytes(rest[:4], "big"):
                    end = 4 + int.from_bytes(rest[:4], "big")
                    whole.append(rest[:end])
                    rest = rest[end:]
                    try:
                        await socket.send_message(whole[-1])
                    except ConnectionClosed:
                        break
            nursery.cancel_scope.cancel()

    async with open_ensemble(servers=1, settings={"jute.maxbuffer": 4 * MESSAGE_MAX}) as ensemble:
        async with (
            websockets(serve) as address,
            open_zookeeper(f"ws://{address}/", max_reply_size=10_000, max_request_size=4 * MESSAGE_MAX) as zk,
        ):
            await zk.create("/big", b"x" * size)
            with trio.fail_after(10), pytest.raises(ReplyTooLargeError, match="max_reply_size") as caught:
                await zk.get("/big")
            assert caught.value.path == "/big"
            assert await zk.exists("/big") is not None


# TLS ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["127.0.0.1", "elsewhere.example"])
async def test_wss_checks_the_name(name: str) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    client = ssl.create_default_context()
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]

    async def serve(request: WebSocketRequest) -> None:
        await relay(await request.accept(), ensemble.hosts)

    async with open_ensemble(servers=1) as ensemble:
        async with websockets(serve, server) as address:
            url = f"wss://{address}/"
            if name != "127.0.0.1":
                failure = await failure_of(url, tls=client)
                assert isinstance(failure, ssl.SSLCertVerificationError)
                return
            async with open_zookeeper(url, tls=client) as zk:
                big = b"x" * 500_000
                await zk.create("/a", big)
                assert (await zk.get("/a"))[0] == big
            # Without a context of its own it trusts the system's authorities, which do not know this one.
            assert isinstance(await failure_of(url), ssl.SSLCertVerificationError)


async def test_plain_text_on_the_tls_port_and_tls_on_the_plain_one() -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]

    async def serve(request: WebSocketRequest) -> None:
        await request.accept()

    async with websockets(serve) as address:
        assert isinstance(await failure_of(f"wss://{address}/"), (ssl.SSLError, OSError, trio.BrokenResourceError))


def test_an_address_may_be_dialled_under_its_name() -> None:
    (endpoint,), _ = parse_hosts("wss://Gw.Example/zk")
    assert (endpoint.host, endpoint.port, endpoint.server_name) == ("gw.example", 443, "gw.example")
    assert isinstance(endpoint, Endpoint)
    assert endpoint.is_secure
