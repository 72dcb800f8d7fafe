"""WebSocket gateways as a transport: dials through an HTTP ingress, and speaks ZooKeeper's frames in binary messages.

Decides what is sent with a handshake, how secrets are kept, and which failure of HTTP or WebSocket becomes which error
of a connection. Refuses to know what is in a frame: trio-websocket carries the messages, the given transport the bytes.
One message holds one or more whole frames, at most `MESSAGE_MAX` bytes of them, or a single frame of any length.
"""

from __future__ import annotations

import inspect
import ipaddress
import re
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import trio

from ._hosts import Endpoint
from ._scopes import leaves_of
from ._tls import TlsConnection
from ._transport import RECEIVE_SIZE, Connection, Listener, Transport
from ._websocket_frames import MESSAGE_MAX, masked_message, messages_of, plain_payload
from ._websocket_stream import WatchedStream
from .errors import ConfigurationError

if sys.version_info < (3, 11):  # trio depends on the backport there
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection

CLOSE_GRACE = 0.1
"""Seconds to tell a gateway that we leave."""

_SECRET_MIN = 6
"""Characters from which on a header's value is hidden where a gateway repeats it; shorter ones are in any text."""

Token = str | Callable[[], "str | Awaitable[str]"]

_OWN_HEADERS = frozenset({"host", "connection", "upgrade", "content-length", "transfer-encoding"})
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[!-~]([ \t!-~]*[!-~])?")
_TOKEN = re.compile(r"[!-~]+")


class GatewayRefusedError(ConnectionRefusedError):
    """A gateway, or an ingress before it, has answered the WebSocket handshake with another HTTP status than 101.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        # An OSError is made again from its arguments alone.
        return type(self), (*self.args, self.status), self.__dict__


@dataclass(frozen=True)
class WebSocketOptions:
    """What goes to the gateways of a client with each handshake. Nothing secret is in the repr.

    Attributes:
        headers: more headers, as a mapping or pairs.
        token: a bearer token (RFC 6750), or a callable without arguments, plain or async, that gives a fresh one at
            each dial.
        allow_plain_text: send token, cookies and credentials over ws:// too, to other machines than this one.

    Raises:
        ConfigurationError: a header or the token cannot be sent; no message shows a value.
    """

    headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    token: Token | None = field(default=None, repr=False)
    allow_plain_text: bool = False

    def __post_init__(self) -> None:
        given = self.headers
        pairs = tuple(cast("Iterable[object]", given.items() if isinstance(given, Mapping) else given))
        for pair in pairs:
            parts = cast("tuple[object, ...]", pair) if isinstance(pair, tuple) else ()
            name, value = parts if len(parts) == 2 else (None, None)
            if not isinstance(name, str) or not isinstance(value, str):
                raise ConfigurationError("headers must be a mapping, or pairs, of str")
            if not _HEADER_NAME.fullmatch(name) or not (value == "" or _HEADER_VALUE.fullmatch(value)):
                raise ConfigurationError(f"header {name!r}: name or value cannot be sent; they are of printable ASCII")
            if name.lower() in _OWN_HEADERS or name.lower().startswith("sec-websocket-"):
                raise ConfigurationError(f"header {name!r} is the handshake's own")
            if name.lower() == "authorization" and self.token is not None:
                raise ConfigurationError("an Authorization header and a token exclude each other")
        object.__setattr__(self, "headers", pairs)
        if isinstance(self.token, str):
            _check_token(self.token)
        elif self.token is not None and not callable(self.token):
            raise ConfigurationError("token must be a str, or a callable that gives one")

    def __repr__(self) -> str:
        names = [name for name, _ in self.pairs]
        token = ", token=<secret>" if self.token is not None else ""
        return f"WebSocketOptions(headers={names}{token}, allow_plain_text={self.allow_plain_text})"

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The headers."""
        return cast("tuple[tuple[str, str], ...]", self.headers)

    def exposes(self, endpoint: Endpoint) -> bool:
        """Whether a secret would cross a network in plain text on its way to this gateway."""
        if endpoint.url is None or endpoint.is_secure or self.allow_plain_text:
            return False
        secret = self.token is not None or any(name.lower() in _SECRET_HEADERS for name, _ in self.pairs)
        return secret and not _is_here(endpoint.server_name)

    async def handshake_headers(self) -> list[tuple[bytes, bytes]]:
        """All headers for one handshake.

        Raises:
            OSError: no token could be had.
        """
        found = list(self.pairs)
        if self.token is not None:
            found.append(("Authorization", f"Bearer {await _fresh(self.token)}"))
        if not any(name.lower() == "user-agent" for name, _ in found):
            found.append(("User-Agent", "terzetto"))
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in found]


def _check_token(token: object) -> str:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ConfigurationError("a token must be a str of printable ASCII without blanks")
    return token


async def _fresh(token: Token) -> str:
    if isinstance(token, str):
        return token
    try:
        given = token()
        if inspect.isawaitable(given):
            given = await given
        return _check_token(given)
    except Exception as error:
        # Whatever the application's callable meets is a failed dial: the next one asks again.
        raise OSError(f"no token for the gateway: {type(error).__name__}") from error


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_exposure(options: WebSocketOptions, endpoints: Iterable[Endpoint]) -> None:
    """Raises `ConfigurationError` where a secret would cross a network in plain text."""
    for endpoint in endpoints:
        if options.exposes(endpoint):
            raise ConfigurationError(
                f"a token or credential would go to {endpoint} in plain text: use wss://, or set allow_plain_text"
            )


class WebSocketTransport:
    """Another transport, which also reaches gateways.

    Args:
        plain: for entries without a URL.
        bare: carries the bytes to a gateway, without TLS.
        options: what goes along with each handshake.
        tls: context for wss://; `None` for one that trusts the system's authorities and checks names.
        max_reply_size: longest frame to be received, in bytes.
    """

    def __init__(
        self,
        plain: Transport,
        bare: Transport,
        *,
        options: WebSocketOptions | None = None,
        tls: ssl.SSLContext | None = None,
        max_reply_size: int = 16 * 1024 * 1024,
    ) -> None:
        self._plain = plain
        self._bare = bare
        self._options = options or WebSocketOptions()
        self._tls = tls
        self._max_reply = max_reply_size
        self._nursery: trio.Nursery | None = None

    def run_links_in(self, nursery: trio.Nursery) -> None:
        """Where the tasks of connections live; they end when their connections are closed."""
        self._nursery = nursery

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        """See `Transport`."""
        return await (self._plain if endpoint.url is None else self._bare).resolve(endpoint)

    async def listen(self, endpoint: Endpoint) -> Listener:
        """See `Transport`."""
        return await self._plain.listen(endpoint)

    async def dial(self, endpoint: Endpoint) -> Connection:
        """See `Transport`. The handshake is part of it; redirects are not followed.

        Raises:
            GatewayRefusedError: the answer was another status than 101.
        """
        if endpoint.url is None:
            return await self._plain.dial(endpoint)
        if self._options.exposes(endpoint):
            raise PermissionError(f"no token or credential goes to {endpoint} in plain text (allow_plain_text)")
        assert self._nursery is not None, "run_links_in comes first"
        headers = await self._options.handshake_headers()
        bare = await self._bare.dial(endpoint)
        link: _GatewayLink | None = None
        try:
            if endpoint.is_secure:
                bare = secure = TlsConnection(bare, self._context(), server_hostname=endpoint.server_name)
                await secure.do_handshake()
            stream = WatchedStream(bare)
            link = _GatewayLink(endpoint, stream, self._max_reply, self._nursery)
            await self._nursery.start(link.run, headers)
        except BaseException:
            if link is not None:
                link.abandon()
            with trio.CancelScope(shield=True):
                await bare.aclose()
            raise
        return link

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


class _GatewayLink:
    """A connection to a gateway. `run` is its task, from the handshake to `aclose`."""

    def __init__(self, endpoint: Endpoint, stream: WatchedStream, max_reply: int, nursery: trio.Nursery) -> None:
        self.peer = str(endpoint)
        self.sends_at_once = stream.sends_at_once
        self._nursery = nursery
        self._endpoint = endpoint
        self._stream = stream
        self._secrets: tuple[str, ...] = ()
        self._max_reply = max_reply
        # One more than anybody else's, so that our own word for a message beyond it is known from the peer's.
        self._max_message = max(max_reply + 4, MESSAGE_MAX) + 1
        # Not shielded before the handshake is over, or a dial could not be given up.
        self._scope = trio.CancelScope()
        self._handshake = trio.CancelScope()
        self._gone = trio.Event()
        # Messages that trio-websocket has given, and the wait for the next one.
        self._given = 0
        self._wait = trio.CancelScope()
        self._is_reading = self._is_leaving = False
        stream.on_park = self._change_ways
        self._socket: WebSocketConnection

    async def run(
        self, headers: list[tuple[bytes, bytes]], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Shakes hands, then reads until `aclose`. Raises as `Transport.dial`, and nothing once it has started."""
        # Its import takes as long as the rest of the client's; most clients never need it.
        from trio_websocket import ConnectionRejected, wrap_client_stream

        self._secrets = _secrets_of(headers)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch_handshake)
                    self._socket = await wrap_client_stream(
                        nursery,
                        cast("trio.SocketStream", self._stream),
                        _host_header(self._endpoint),
                        self._endpoint.resource,
                        extra_headers=headers,
                        message_queue_size=1,
                        max_message_size=self._max_message,
                        receive_buffer_size=RECEIVE_SIZE,
                    )
                    self._stream.is_bounded = False
                    self._handshake.cancel()
                    self._scope.shield = True
                    task_status.started()
        except BaseExceptionGroup as group:
            cause = _first_cause(group)
            if not isinstance(cause, Exception):
                raise
            if not self._stream.is_bounded:
                # The peer broke the protocol in a way that trio-websocket passes on. Its channel is closed by now.
                self._stream.failure = cause
            elif isinstance(cause, ConnectionRejected):
                raise _refusal(self._endpoint, cause, self._secrets) from None
            elif isinstance(cause, OSError):
                raise cause from cause.__cause__
            else:
                # What wsproto and h11 make of an answer that is none; the first error is the one that says why.
                raise ConnectionError(f"{self.peer} speaks no WebSocket: {cause.__context__ or cause}") from cause
        finally:
            self._gone.set()

    async def _watch_handshake(self) -> None:
        """Ends a handshake that nobody answers any more; trio-websocket would wait on."""
        with self._handshake:
            await self._stream.ended.wait()
        if self._stream.is_bounded:
            status = re.match(rb"HTTP/1\.[01] (\d{3}) ", self._stream.head)
            after = f" after HTTP {status[1].decode()}" if status else ""
            failure = self._stream.failure
            told = f": {failure}" if failure else ""
            raise ConnectionResetError(
                f"{self.peer} closed the connection during the WebSocket handshake{after}{told}"
            ) from failure

    def abandon(self) -> None:
        """Ends `run`: nobody has this connection, though it may have come about."""
        self._scope.cancel()

    def send_nowait(self, data: bytes) -> int:
        """See `Connection`. All or nothing: the rest of what was taken in part is sent by a task of the link's."""
        if self._socket.closed is not None:
            return 0  # `send` says why
        if len(data) > MESSAGE_MAX:
            return 0  # `send` cuts it
        sent = self._stream.send_nowait(masked_message(data))
        if sent is None:
            return 0
        if not sent:
            self._nursery.start_soon(self._stream.send_rest)
        return len(data)

    async def send(self, data: bytes) -> None:
        """See `Connection`. `data` are whole frames, and become as few messages as may be."""
        from trio_websocket import ConnectionClosed

        try:
            for message in messages_of(data):
                await self._socket.send_message(message)
        except ConnectionClosed as closed:
            raise self._lost(closed) from self._stream.failure

    async def receive(self) -> bytes:
        """See `Connection`."""
        while True:
            if self._stream.is_parked and self._given == self._stream.walk.messages:
                data = await self._read_past()
            else:
                data = None
                # Left as soon as the other way is to be taken.
                with trio.CancelScope() as self._wait:
                    data = await self._read_message()
            if data is not None:
                return data

    def _change_ways(self) -> None:
        self._wait.cancel()

    async def _read_past(self) -> bytes | None:
        """Plain messages do without trio-websocket, which takes several times as long; all else is for it to judge."""
        found: bytes | BaseException
        self._is_reading = True
        try:
            found = await self._stream.read()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            found = error
        else:
            payload = plain_payload(found)
            if found and payload is not None:
                return payload or None
        finally:
            self._is_reading = False
            if self._is_leaving:
                self._stream.release()
        self._stream.hand(found)
        return None

    async def _read_message(self) -> bytes | None:
        from trio_websocket import ConnectionClosed

        try:
            message = await self._socket.get_message()
        except ConnectionClosed as closed:
            return self._end_of_stream(closed)
        self._given += 1
        if isinstance(message, str):
            raise ConnectionAbortedError(f"{self.peer} sent text; ZooKeeper's frames are binary")
        return message or None

    def _end_of_stream(self, closed: ConnectionClosed) -> bytes:
        reason = closed.reason
        if reason is not None and reason.code == 1000 and not reason.reason:
            return b""
        if reason is not None and reason.code == 1009 and f"size: {self._max_message} bytes" in (reason.reason or ""):
            # Refused by our own end. The session learns it as over TCP, from a length over its limit.
            return (self._max_reply + 1).to_bytes(4, "big")
        raise self._lost(closed) from self._stream.failure

    def _lost(self, closed: ConnectionClosed) -> OSError:
        reason = closed.reason
        failure = self._stream.failure
        if reason is None or reason.code == 1006:
            told = f": {failure}" if failure is not None else ""
            return ConnectionResetError(f"{self.peer} cut the connection without a closing handshake{told}")
        words = f" ({_printable(reason.reason, self._secrets)})" if reason.reason else ""
        return ConnectionResetError(f"{self.peer} closed the WebSocket: {reason.code} {reason.name}{words}")

    async def aclose(self) -> None:
        """See `Connection`. A gateway that listens is told first, within `CLOSE_GRACE`."""
        if not self._gone.is_set():
            # The answer to a closing frame is trio-websocket's to read. Whoever reads now hands it on.
            self._is_leaving = True
            if not self._is_reading:
                self._stream.release()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_GRACE):
                await self._socket.aclose()
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._gone.wait()
            await self._stream.aclose()


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended a handshake: the first failure that is no cancellation."""
    return next((leaf for leaf in leaves_of(group) if not isinstance(leaf, trio.Cancelled)), group)


def _host_header(endpoint: Endpoint) -> str:
    host = f"[{endpoint.server_name}]" if ":" in endpoint.server_name else endpoint.server_name
    return host if endpoint.port == (443 if endpoint.is_secure else 80) else f"{host}:{endpoint.port}"


def _secrets_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """What a gateway has been told and may repeat: the headers' values, and what follows an authentication scheme."""
    values = [value.decode("ascii") for name, value in headers if name.lower() != b"user-agent"]
    values += [value.partition(" ")[2] for value in values]
    return tuple(sorted((value for value in values if len(value) >= _SECRET_MIN), key=len, reverse=True))


def _refusal(endpoint: Endpoint, rejected: ConnectionRejected, secrets: Iterable[str]) -> GatewayRefusedError:
    status = rejected.status_code
    try:
        named = f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        named = f"HTTP {status}"
    headers = {name.lower(): value for name, value in rejected.headers or ()}
    location = headers.get(b"location")
    if 300 <= status < 400 and location is not None:
        return GatewayRefusedError(
            f"{endpoint} answered with a redirect ({named}) to {_shown_location(location, secrets)}; redirects are not "
            "followed, since a token would go along: name the right address in hosts",
            status,
        )
    text = (rejected.body or b"").decode("utf-8", "replace").strip()
    words = f": {_printable(text.splitlines()[0], secrets)}" if text and not text.startswith(("<", "{")) else ""
    return GatewayRefusedError(f"{endpoint} refused the WebSocket handshake: {named}{words}", status)


def _shown_location(location: bytes, secrets: Iterable[str]) -> str:
    text = _printable(location.decode("latin-1"), secrets)
    try:
        parts = urlsplit(text)
        name = parts.hostname or ""
    except ValueError:
        return "an address that is none"
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    port = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
    where = f"{scheme}://{f'[{name}]' if ':' in name else name}{f':{port}' if port else ''}" if name else ""
    return f"{where}{parts.path}"


def _printable(text: str | None, secrets: Iterable[str]) -> str:
    """What a stranger says, fit for a log line: without what it was told in confidence."""
    for secret in secrets:
        text = (text or "").replace(secret, "(hidden)")
    return "".join(letter if letter.isprintable() else "?" for letter in (text or "")[:200])
