"""What a stranger meets at the door: HTTP of any kind, limits before the handshake, refusals."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings, strategies as st
from trio.testing import MockClock

from terzetto.testcluster.memory_network import Network
from terzetto.testcluster.websocket_door import (
    HEAD_MAX,
    STRANGER_GRACE,
    DoorLimits,
    TokenFile,
    WebSocketListener,
    split_peer,
)
from terzetto.testcluster.websocket_rules import DoorRules, Tokens, parse_networks

from .port import connect_frame
from .web import DOOR, WebClient, http, world

KEY = base64.b64encode(bytes(16)).decode()
TOKEN = "0123456789abcdef"


def request(line: str = "GET / HTTP/1.1", **headers: str) -> bytes:
    """A WebSocket handshake's head; a header that is "" is left out."""
    given = {
        "Host": "door",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": KEY,
        "Sec_WebSocket_Version": "13",
        **headers,
    }
    lines = [line, *(f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request("GET /else HTTP/1.1"), 404),
        (request("POST / HTTP/1.1"), 405),
        (request(Upgrade=""), 426),
        (request(Upgrade="h2c"), 426),
        (request("GET /else HTTP/1.1", Upgrade=""), 404),
        (request("DELETE /health HTTP/1.1", Upgrade=""), 405),
        (request(Sec_WebSocket_Version="8"), 400),
        (request(Sec_WebSocket_Key=""), 400),
        (request(Connection="close"), 400),
        (request().replace(b"Host: door", b"Host: \xd8"), 400),
        (request(Connection="Upgrade").replace(b"Connection: Upgrade", b"Connection: Upgrade, \xff"), 400),
        (request("GET / HTTP/1.0"), 400),
        (request(Content_Length="49"), 400),
        (request(Transfer_Encoding="chunked"), 400),
        (request(Transfer_Encoding="chunked", Content_Length="0"), 400),
        (request(Sec_WebSocket_Key=f"{KEY}\r\nSec-WebSocket-Key: {KEY}"), 400),
        (request(Sec_WebSocket_Key="c2hvcnQ="), 400),
        (request(Origin="https://evil.example"), 403),
        (b"\x16\x03\x01 this is TLS\r\n\r\n", 400),
        (b"srvr\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (2 * HEAD_MAX) + b"\r\n\r\n", 431),
    ],
)
async def test_a_refusal_is_an_http_answer(autojump_clock: MockClock, head: bytes, status: int) -> None:
    async with world() as here:
        found, headers, body = await http(await here.dial(), head)
        assert found == status
        assert headers["connection"] == "close"
        assert body.endswith(b"\n")
        await trio.testing.wait_all_tasks_blocked()
        assert here.gateway.door.open == 0
        assert not here.servers[0].links, "no stranger reaches a server"


async def test_health_by_head(autojump_clock: MockClock) -> None:
    async with world() as here:
        connection = await here.dial()
        await connection.send(b"HEAD /health HTTP/1.1\r\nHost: door\r\n\r\n")
        answer = b""
        while data := await connection.receive():
            answer += data
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n")
        assert b"content-length: 8" in answer.lower()


async def test_frames_may_follow_the_handshake_at_once(autojump_clock: MockClock) -> None:
    async with world() as here:
        client = WebClient(await here.dial())
        sent: list[bytes] = []
        plain, client.connection = client.connection, _Keeping(sent)  # type: ignore[assignment]
        with pytest.raises(_Kept):
            await client.upgrade()
        masked = bytes([0x82, 0x80 | 49]) + bytes(4) + connect_frame()
        await plain.send(sent[0] + masked)
        client.connection = plain
        assert len(await client.message()) == 41
        assert client.status == 101
        await plain.aclose()


class _Kept(Exception):
    pass


class _Keeping:
    def __init__(self, sent: list[bytes]) -> None:
        self._sent = sent

    async def send(self, data: bytes) -> None:
        self._sent.append(data)
        raise _Kept


async def test_a_slow_handshake_is_given_up(autojump_clock: MockClock) -> None:
    async with world(limits=DoorLimits(handshake_timeout=5)) as here:
        began = trio.current_time()
        slow = await here.dial()
        head = request()

        async def drip() -> None:
            for byte in head[:-1]:
                await slow.send(bytes([byte]))
                await trio.sleep(0.1)

        with pytest.raises(BrokenPipeError):
            await drip()
        assert trio.current_time() - began == pytest.approx(5, abs=0.2)


async def test_strangers_are_counted(autojump_clock: MockClock) -> None:
    async with world(limits=DoorLimits(handshakes=2, handshake_timeout=5)) as here:
        silent = [await here.dial() for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked()
        third = await here.dial()
        assert await third.receive() == b""
        await trio.sleep(2 * STRANGER_GRACE)
        # They have had their time, and one of them makes room for each that comes.
        coming = [await here.come_in() for _ in range(3)]
        assert here.gateway.door.open == 3
        for client in coming:
            await client.connection.aclose()
        await trio.sleep(6)
        for connection in silent:
            assert await connection.receive() == b""
        await here.come_in()


async def test_a_door_with_tokens(autojump_clock: MockClock) -> None:
    tokens = Tokens([TOKEN])
    async with world(tokens=lambda: tokens) as here:
        client = WebClient(await here.dial())
        assert await client.upgrade() == 401
        assert client.headers["www-authenticate"].startswith("Bearer")
        assert await WebClient(await here.dial()).upgrade("/", [("Authorization", "Bearer wrong-wrong-wrong")]) == 401
        await here.come_in("/", [("Authorization", f"Bearer {TOKEN}")])
        # How it is may be asked without one.
        assert (await http(await here.dial(), request("GET /health HTTP/1.1", Upgrade="")))[0] == 200


async def test_limits_go_by_the_client_behind_a_trusted_proxy(autojump_clock: MockClock) -> None:
    rules = DoorRules(proxies=parse_networks(["192.0.2.0/24"]))
    async with world(rules=rules, limits=DoorLimits(connections_an_address=1)) as here:

        async def status(proxy: str, said: str) -> int:
            client = WebClient(await here.dial(proxy))
            return await client.upgrade("/", [("X-Forwarded-For", said)])

        assert await status("192.0.2.1", "203.0.113.1") == 101
        assert await status("192.0.2.1", "203.0.113.1") == 503
        assert await status("192.0.2.1", "203.0.113.2") == 101
        # A stranger's word counts for nothing.
        assert await status("198.51.100.1", "203.0.113.3") == 101
        assert await status("198.51.100.1", "203.0.113.4") == 503
        assert await status("192.0.2.1", "nonsense") == 400


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.lists(st.one_of(st.binary(max_size=60), st.just(request()), st.just(b"\r\n\r\n")), max_size=5))
def test_nothing_that_a_stranger_says_breaks_the_door(data: list[bytes]) -> None:
    async def attack() -> None:
        async with world() as here:
            connection = await here.dial()
            for piece in data:
                try:
                    await connection.send(piece)
                except OSError:
                    break
            await trio.testing.wait_all_tasks_blocked()
            await connection.aclose()
            await here.come_in()

    trio.run(attack, clock=MockClock(autojump_threshold=0))


def test_tokens_are_read_again_when_their_file_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\n")
    tokens = TokenFile(path)
    assert tokens.current().know(TOKEN.encode())
    path.write_text("# the old one is gone\nanother-token-of-16\n")
    assert not tokens.current().know(TOKEN.encode())
    assert tokens.current().know(b"another-token-of-16")
    with caplog.at_level(logging.ERROR):
        path.write_text("short\n")
        assert tokens.current().know(b"another-token-of-16")
        path.write_bytes(b"of-latin-1-\xe4-token\n")
        assert tokens.current().know(b"another-token-of-16")
        path.unlink()
        assert tokens.current().know(b"another-token-of-16")
    assert "short" not in caplog.text
    assert "it is no UTF-8" in caplog.text
    assert "0xe4" not in caplog.text
    assert str(path) in caplog.text
    with pytest.raises(OSError, match="tokens"):
        TokenFile(path)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("127.0.0.1:5", ("127.0.0.1", 5)),
        ("[::1]:5", ("::1", 5)),
        ("[::ffff:127.0.0.1]:5", ("127.0.0.1", 5)),
        ("a-name:5", ("a-name", 5)),
        ("a-name", ("a-name", 0)),
    ],
)
def test_peers(peer: str, expected: tuple[str, int]) -> None:
    assert split_peer(peer) == expected


async def test_who_was_let_in_and_not_accepted_is_closed_at_the_end(autojump_clock: MockClock) -> None:
    """A server may end between the two."""
    network = Network()
    inner = await network.transport("door").listen(DOOR)
    listener = WebSocketListener(inner, DoorRules(), health=lambda: (200, "serving"), limits=DoorLimits())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        client = WebClient(await network.transport("client").dial(inner.endpoint))
        assert await client.upgrade() == 101
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        assert await client.end() == (1000, "")
