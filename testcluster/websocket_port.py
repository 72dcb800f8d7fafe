"""A server's own WebSocket doors: its clients by WebSocket, with and without TLS.

Decides how a door and the port for connections of any kind are put together, and what is let in at all. The clients
keep their address and their certificate. Refuses to know what a request means.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Listener, TcpTransport, Transport
from terzetto.client.errors import ConfigurationError

from .config import ServerConfig
from .links import Service
from .stream_port import StreamPort
from .tls_port import TlsListener
from .websocket_door import DoorLimits, TokenFile, WebSocketListener

_log = logging.getLogger(__name__)


class WebSocketPort:
    """One door of a server.

    Args:
        listener: where bytes arrive.
        config: the server's.
        service: the server.
        admit: whether a connection from this IP address may stay.
        turn: called after each chunk that was taken.
        is_serving: whether the server serves now.
        gate: while it gives an event, nothing is served before that is set.

    Attributes:
        number: its port.
    """

    def __init__(
        self,
        listener: Listener,
        config: ServerConfig,
        service: Service,
        *,
        admit: Callable[[str], bool],
        turn: Callable[[], None],
        is_serving: Callable[[], bool],
        gate: Callable[[], trio.Event | None],
    ) -> None:
        self.number = listener.endpoint.port
        self._gate = gate
        self._tls = listener if isinstance(listener, TlsListener) else None
        tokens = _token_file(config)
        self._door = WebSocketListener(
            listener,
            config.websocket.rules(),
            health=lambda: (200, "serving") if is_serving() else (503, "not serving"),
            limits=DoorLimits(
                connections=config.max_connections,
                handshake_timeout=config.handshake_timeout_ms / 1000,
                max_frame=config.max_frame,
            ),
            tokens=None if tokens is None else tokens.current,
            gate=gate,
        )
        self._port = StreamPort(service, admit, turn, secure=self._tls is not None)
        self._port.adopt(self._door)

    async def serve(self) -> None:
        """Serves until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._tls is not None:
                nursery.start_soon(self._tls.serve)
            nursery.start_soon(self._door.serve)
            nursery.start_soon(self._port.serve, self._gate)

    def stop_listening(self) -> None:
        """Lets nobody in any more; the clients stay."""
        self._port.stop_listening()

    def close(self) -> None:
        """Drops every client."""
        self._port.close()


def _token_file(config: ServerConfig) -> TokenFile | None:
    path = config.websocket.token_file
    if path is None:
        return None
    try:
        return TokenFile(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"webSocketTokenFile {path} cannot be used: {error}") from error


async def open_doors(
    service: Service,
    config: ServerConfig,
    transport: Transport | None,
    context: Callable[[], ssl.SSLContext],
    *,
    admit: Callable[[str], bool],
    turn: Callable[[], None],
    is_serving: Callable[[], bool],
    gate: Callable[[], trio.Event | None],
) -> list[WebSocketPort]:
    """Opens the doors that the configuration names, the one without TLS first.

    Args:
        service: the server.
        config: the server's.
        transport: for the door without TLS; `None` is TCP.
        context: gives the TLS context for a handshake.
        admit: see `WebSocketPort`.
        turn: see `WebSocketPort`.
        is_serving: see `WebSocketPort`.
        gate: see `WebSocketPort`.

    Raises:
        OSError: an address cannot be had.
        ConfigurationError: no TLS context can be made, or the tokens cannot be read.
    """
    settings = config.websocket
    listeners: list[Listener] = []
    try:
        if settings.port is not None:
            host = settings.address or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
            listeners.append(await (transport or TcpTransport()).listen(Endpoint(host, settings.port, host)))
        if settings.secure_port is not None:
            listeners.append(await TlsListener.open(settings.secure_address, settings.secure_port, context))
        doors = [
            WebSocketPort(listener, config, service, admit=admit, turn=turn, is_serving=is_serving, gate=gate)
            for listener in listeners
        ]
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    for listener in listeners:
        scheme = "wss" if isinstance(listener, TlsListener) else "ws"
        _log.info("WebSockets at %s://%s%s", scheme, listener.endpoint, settings.path)
    return doors
