"""The door itself: HTTP on each connection that arrives, and a WebSocket for those who may have one.

Decides how long and how much a stranger may talk, how many come in, and what a refusal looks like. Reads HTTP with h11
and lets wsproto judge the handshake (what trio-websocket stands on). Refuses to know who may come in
(`websocket_rules.py`) and what becomes of a client.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.utilities import ProtocolError

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection, Listener
from terzetto.client.wire.primitives import DEFAULT_MAX_FRAME

from .websocket_connection import DoorConnection
from .websocket_frames import MessageCheck
from .websocket_rules import DoorRules, Headers, Refusal, Tokens

_log = logging.getLogger(__name__)

HEAD_MAX = 16 * 1024
"""Bytes of a request's head."""

LINGER = 1.0
"""Seconds to hand over an answer, and for what a stranger has still to say."""

STRANGER_GRACE = 1.0
"""Seconds of its time that a stranger keeps where there are too many: then the longest silent one makes room."""

# 16 bytes in base64.
_KEY = re.compile(rb"[0-9A-Za-z+/]{22}==")

_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)
# The client went, or is in no state for an answer; nobody is left to be told.
_UNTOLD = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.BusyResourceError,
    h11.LocalProtocolError,
)


@dataclass(frozen=True)
class DoorLimits:
    """What one client, and all of them, may cost.

    Attributes:
        connections: open at once, in all; 0 for any number.
        connections_an_address: open at once from one client address; 0 for any number.
        handshakes: strangers at once: connections whose handshake is not over.
        handshake_timeout: seconds for TLS, HTTP and the first frame, each.
        max_frame: longest frame from a client in bytes.
    """

    connections: int = 2000
    connections_an_address: int = 0
    handshakes: int = 256
    handshake_timeout: float = 10.0
    max_frame: int = DEFAULT_MAX_FRAME


class TokenFile:
    """Tokens in a file, read again when it changes; a file that turns bad is reported, and the old tokens stay.

    Raises:
        OSError, ValueError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._tokens = self._read()

    def _read(self) -> Tokens:
        try:
            return Tokens.read(self._path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            # Not what a decoder says: it would quote a token, and hold all of them.
            raise ValueError("it is no UTF-8") from None

    def _stamp(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def current(self) -> Tokens:
        """The tokens that the file holds now."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                self._tokens = self._read()
                _log.info("tokens were read again from %s", self._path)
        except (OSError, ValueError) as error:
            _log.error("%s cannot be used, the tokens read before stay: %s", self._path, error)
        return self._tokens


class Visitor:
    """Who has asked for a WebSocket, and may have it.

    Attributes:
        ip: the client's address, also behind trusted proxies.
        peer: "ip:port".
    """

    def __init__(
        self, door: WebSocketDoor, inner: Connection, http: h11.Connection, handshake: WSConnection, ip: str, port: int
    ) -> None:
        self.ip = ip
        self.peer = str(Endpoint(ip, port, ""))
        self.accepted = False
        self._door = door
        self._inner = inner
        self._http = http
        self._handshake = handshake

    async def accept(self) -> DoorConnection:
        """Gives the WebSocket. Whoever has it must close it."""
        door = self._door
        answer = self._handshake.send(AcceptConnection())
        frames = self._handshake.connection
        assert frames is not None
        await self._inner.send(answer)
        trailing, _ = self._http.trailing_data
        if trailing:
            frames.receive_data(trailing)
        check = MessageCheck(door.limits.max_frame, door.words)
        self.accepted = True
        return DoorConnection(self._inner, frames, check, self.peer, lambda: door.leave(self.ip), early=len(trailing))


Enter = Callable[[Visitor], Awaitable[None]]
Health = Callable[[], tuple[int, str]]
Gate = Callable[[], "trio.Event | None"]


class WebSocketDoor:
    """Serves one listener.

    Args:
        listener: where bytes arrive, after TLS where there is TLS.
        rules: who may come in.
        enter: takes each visitor, in a task of its own; it may raise `Refusal` before it accepts.
        health: HTTP status and one line, for the health path.
        limits: see there.
        tokens: gives the tokens that are good now; `None` asks for none.
        words: four letter words that may come instead of a session; `None` for any.
        gate: gives an event to wait for while the server is paused.

    Attributes:
        open: connections that have come in.
        refused: requests that have not, so far.
        is_draining: nobody is let in any more.
    """

    def __init__(
        self,
        listener: Listener,
        rules: DoorRules,
        enter: Enter,
        *,
        health: Health,
        limits: DoorLimits | None = None,
        tokens: Callable[[], Tokens] | None = None,
        words: frozenset[bytes] | None = None,
        gate: Gate = lambda: None,
    ) -> None:
        self.limits = limits or DoorLimits()
        self.words = words
        self.open = 0
        self.refused = 0
        self.is_draining = False
        self._listener = listener
        self._rules = rules
        self._enter = enter
        self._health = health
        self._tokens = tokens
        self._gate = gate
        self._strangers = 0
        # Whose handshake is waited for, and since when; the first has waited longest.
        self._waiting: dict[trio.CancelScope, float] = {}
        self._by_ip: dict[str, int] = {}

    async def serve(self) -> None:
        """Serves until cancelled, or until the listener is closed and everyone has left."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    inner = await self._listener.accept()
                except trio.ClosedResourceError:
                    break
                if self._strangers >= self.limits.handshakes and not self._make_room():
                    await inner.aclose()
                    continue
                self._strangers += 1
                nursery.start_soon(self._meet, inner)

    def _make_room(self) -> bool:
        """Gives a stranger up that has been waited for too long now; few that say nothing must not close the door."""
        for scope, since in self._waiting.items():
            if trio.current_time() - since < STRANGER_GRACE:
                break
            del self._waiting[scope]
            scope.cancel()
            return True
        return False

    async def _meet(self, inner: Connection) -> None:
        visitor: Visitor | None = None
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        is_stranger = True
        try:
            with trio.move_on_after(self.limits.handshake_timeout) as patience:
                self._waiting[patience] = trio.current_time()
                try:
                    visitor = await self._shake(inner, http)
                finally:
                    self._waiting.pop(patience, None)
            if patience.cancelled_caught:
                self.refused += 1
            if visitor is not None:
                self._admit(visitor)
                self._strangers -= 1
                is_stranger = False
                try:
                    await self._enter(visitor)
                finally:
                    if not visitor.accepted:
                        self.leave(visitor.ip)
        except Refusal as refusal:
            self.refused += 1
            _log.debug("%s refused: %s", inner.peer, refusal.text)
            await self._answer(inner, http, refusal.status, refusal.text, refusal.headers)
        except h11.RemoteProtocolError as error:
            self.refused += 1
            await self._answer(inner, http, error.error_status_hint, "this is no HTTP request")
        except _BROKEN:
            pass
        finally:
            # Whoever is told a refusal counts until that is over.
            self._strangers -= is_stranger
            if visitor is None or not visitor.accepted:
                with trio.CancelScope(shield=True):
                    await inner.aclose()

    async def _shake(self, inner: Connection, http: h11.Connection) -> Visitor | None:
        """Reads one request. Gives its visitor, or `None` where it was answered, or never came."""
        request = await _request(inner, http)
        if request is None:
            return None
        while (closed := self._gate()) is not None:
            await closed.wait()
        target = request.target.decode("latin-1")
        headers: Headers = list(request.headers)
        if not _asks_for_websocket(headers):
            await self._answer_plain(inner, http, request, target)
            return None
        if request.method != b"GET":
            raise Refusal(405, "a WebSocket begins with GET", [("Allow", "GET")])
        self._rules.check(target, headers, None if self._tokens is None else self._tokens())
        if self.is_draining:
            raise Refusal(503, "this door is closing", [("Retry-After", "1")])
        own_ip, port = split_peer(inner.peer)
        ip = self._rules.client_ip(headers, own_ip)
        _check_handshake(request, headers)
        handshake = WSConnection(ConnectionType.SERVER)
        try:
            handshake.initiate_upgrade_connection(list(headers), target)
            asked = any(isinstance(event, Request) for event in handshake.events())
        except (ProtocolError, h11.ProtocolError, ValueError):
            # wsproto decodes some headers, and lets an error of the decoding through.
            asked = False
        if not asked:
            raise Refusal(400, "this is no WebSocket handshake of version 13", [("Sec-WebSocket-Version", "13")])
        return Visitor(self, inner, http, handshake, ip, port if ip == own_ip else 0)

    def _admit(self, visitor: Visitor) -> None:
        limits = self.limits
        full = 0 < limits.connections <= self.open
        if full or 0 < limits.connections_an_address <= self._by_ip.get(visitor.ip, 0):
            raise Refusal(503, "too many connections", [("Retry-After", "1")])
        self.open += 1
        self._by_ip[visitor.ip] = self._by_ip.get(visitor.ip, 0) + 1

    def leave(self, ip: str) -> None:
        """One connection of an address is gone."""
        self.open -= 1
        left = self._by_ip[ip] - 1
        if left:
            self._by_ip[ip] = left
        else:
            del self._by_ip[ip]

    async def _answer_plain(self, inner: Connection, http: h11.Connection, request: h11.Request, target: str) -> None:
        path = target.partition("?")[0]
        if not self._rules.health_path or path != self._rules.health_path:
            if path == self._rules.path:
                raise Refusal(426, "a WebSocket is served here", [("Upgrade", "websocket")])
            raise Refusal(404, "there is nothing here")
        if request.method not in (b"GET", b"HEAD"):
            raise Refusal(405, "only GET is allowed", [("Allow", "GET, HEAD")])
        status, text = (503, "draining") if self.is_draining else self._health()
        await self._answer(inner, http, status, text, head=request.method == b"HEAD")

    async def _answer(
        self,
        inner: Connection,
        http: h11.Connection,
        status: int,
        text: str,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        head: bool = False,
    ) -> None:
        """Answers and says that this was all; every connection has one request."""
        body = f"{text}\n".encode()
        given = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
            *headers,
        ]
        try:
            data = http.send(h11.Response(status_code=status, headers=given)) or b""
            if not head:
                data += http.send(h11.Data(data=body)) or b""
            unread = http.their_state in (h11.ERROR, h11.SEND_BODY)
            with trio.move_on_after(LINGER):
                await inner.send(data)
                # Closed over unread bytes, the answer would be lost to a reset.
                while unread and await inner.receive():
                    pass
        except _UNTOLD:
            pass


def _asks_for_websocket(headers: Headers) -> bool:
    return any(name == b"upgrade" and b"websocket" in value.lower() for name, value in headers)


def _check_handshake(request: h11.Request, headers: Headers) -> None:
    """What wsproto does not ask of a handshake.

    A body is refused because what a proxy takes for one must not be read as frames; the rest is RFC 6455's, section
    4.2.1.

    Raises:
        Refusal: it is not as it must be.
    """
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    if request.http_version < b"1.1":
        raise Refusal(400, "a WebSocket needs HTTP/1.1")
    if any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers):
        raise Refusal(400, "a WebSocket handshake has no body")
    if len(keys) > 1 or any(not _KEY.fullmatch(key) for key in keys):
        raise Refusal(400, "Sec-WebSocket-Key must be one of 16 bytes in base64")


async def _request(inner: Connection, http: h11.Connection) -> h11.Request | None:
    """The head of the first request; `None` when none comes."""
    room, rest = HEAD_MAX, b""
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            # What follows a head that was short enough are the client's first frames.
            if rest:
                http.receive_data(rest)
            return event
        if event is not h11.NEED_DATA:
            return None
        if rest or not room:
            raise Refusal(431, "the head of the request is too long")
        data = await inner.receive()
        if not data:
            return None
        data, rest = data[:room], data[room:]
        http.receive_data(data)
        room -= len(data)


def split_peer(peer: str) -> tuple[str, int]:
    """Address and port of "ip:port"; anything else is the address."""
    host, _, port = peer.rpartition(":")
    return (host.strip("[]").removeprefix("::ffff:") or peer), int(port) if port.isdecimal() else 0


class WebSocketListener:
    """A door as a listener: connections that have come in, for a server that takes any kind of connection.

    Attributes:
        endpoint: where it listens.
        door: what it is.
    """

    def __init__(
        self,
        listener: Listener,
        rules: DoorRules,
        *,
        health: Health,
        limits: DoorLimits,
        tokens: Callable[[], Tokens] | None = None,
        gate: Gate = lambda: None,
    ) -> None:
        self.endpoint = listener.endpoint
        self.door = WebSocketDoor(listener, rules, self._enter, health=health, limits=limits, tokens=tokens, gate=gate)
        self._listener = listener
        self._arrived, self._arrivals = trio.open_memory_channel[Connection](math.inf)

    async def serve(self) -> None:
        """Lets clients in until cancelled; then connections that nobody has accepted are closed."""
        try:
            await self.door.serve()
        finally:
            with trio.CancelScope(shield=True):
                while self._arrivals.statistics().current_buffer_used:
                    await self._arrivals.receive_nowait().aclose()

    async def _enter(self, visitor: Visitor) -> None:
        connection = await visitor.accept()
        try:
            self._arrived.send_nowait(connection)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            await connection.aclose()

    async def accept(self) -> Connection:
        """The next connection."""
        try:
            return await self._arrivals.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError("listens no more") from None

    def close(self) -> None:
        """Lets nobody in any more."""
        self.door.is_draining = True
        self._listener.close()
        self._arrived.close()
