"""The admin server's HTTP: one GET a command, on h11 (sans-IO, what trio-websocket's own stack stands on) and trio.

Decides addresses, methods and status codes. Refuses to know what a command means (`admin.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio

from . import admin
from .client_ports import not_listening
from .figures import ServerView

IDLE_TIMEOUT = 30.0
"""Seconds that a connection may be silent (`admin.idleTimeout`'s default)."""

CONNECTIONS_MAX = 64
BODY_MAX = 64 * 1024

_JSON = "application/json"
_HTML = "text/html; charset=utf-8"


async def open_admin_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Listens at an address; an empty host or 0.0.0.0 is every interface.

    Raises:
        OSError: the address cannot be had.
    """
    try:
        return await trio.open_tcp_listeners(port, host=host or None)
    except OSError as error:
        raise not_listening("the admin server cannot", host, port, error) from error


class AdminPort:
    """Answers admin commands.

    Args:
        view: the server they ask.
        url: the path of the list of commands, by default "/commands".
        gate: gives an event to wait for while the server is paused.
    """

    def __init__(self, view: ServerView, url: str, gate: Callable[[], trio.Event | None]) -> None:
        self._view = view
        self._url = url
        self._gate = gate
        self._free = trio.Semaphore(CONNECTIONS_MAX)

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serves until cancelled."""
        await trio.serve_listeners(self._serve_connection, listeners)

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        async with self._free, stream:
            connection = h11.Connection(h11.SERVER)
            try:
                while await self._answer_one(stream, connection):
                    connection.start_next_cycle()
            except (trio.BrokenResourceError, trio.TooSlowError, h11.LocalProtocolError):
                # The client went, fell silent, or is in no state for an answer; nobody is left to be told.
                return

    async def _answer_one(self, stream: trio.SocketStream, connection: h11.Connection) -> bool:
        """Answers one request; whether another may follow on this connection."""
        try:
            with trio.fail_after(IDLE_TIMEOUT):
                request = await _next_request(stream, connection)
        except h11.RemoteProtocolError as error:
            await self._send(stream, connection, error.error_status_hint, "text/plain", str(error).encode())
            return False
        if request is None:
            return False
        closed = self._gate()
        if closed is not None:
            await closed.wait()
        status, kind, body = self._respond(request.method.decode("ascii"), request.target.decode("ascii"))
        await self._send(stream, connection, status, kind, body, head=request.method == b"HEAD")
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    def _respond(self, method: str, target: str) -> tuple[int, str, bytes]:
        parts = urlsplit(target)
        path = unquote(parts.path).rstrip("/")
        if path != self._url and not path.startswith(f"{self._url}/"):
            return 404, "text/plain", b"not found\n"
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"only GET is allowed\n"
        name = path.removeprefix(self._url).strip("/")
        if not name:
            links = (f'<a href="{self._url}/{command}">{command}</a>\n<br/>\n' for command in admin.command_names())
            return 200, _HTML, "".join(links).encode()
        answer = admin.run_command(self._view, name, dict(parse_qsl(parts.query)))
        return 200, _JSON, json.dumps(answer, indent=2, separators=(",", " : ")).encode() + b"\n"

    async def _send(
        self,
        stream: trio.SocketStream,
        connection: h11.Connection,
        status: int,
        kind: str,
        body: bytes,
        *,
        head: bool = False,
    ) -> None:
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Server", "terzetto"),
        ]
        if status == 405:
            headers.append(("Allow", "GET, HEAD"))
        data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
        if not head:
            data += connection.send(h11.Data(data=body)) or b""
        data += connection.send(h11.EndOfMessage()) or b""
        with trio.fail_after(IDLE_TIMEOUT):
            await stream.send_all(data)


async def _next_request(stream: trio.SocketStream, connection: h11.Connection) -> h11.Request | None:
    """The next request, its body read and thrown away; None at the end of the connection."""
    request: h11.Request | None = None
    size = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(8192))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if size > BODY_MAX:
                raise h11.RemoteProtocolError("the request's body is too long", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            return request
        else:
            return None
