"""The places where a server's clients connect: the plain port, the TLS port, the WebSocket doors.

Decides which kind of port a configuration asks for, and opens and closes them together. Refuses to know what comes over
a connection (`links.py`).
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import TcpTransport, Transport

from .config import ServerConfig
from .epoll_port import EpollPort
from .links import Service
from .stream_port import StreamPort

if TYPE_CHECKING:
    from .tls_port import Certificates, TlsListener
    from .websocket_port import WebSocketPort

HAS_EPOLL = hasattr(select, "epoll")


class ClientPorts:
    """One server's ports for clients.

    Args:
        service: the server.
        config: its configuration.
        transport: listens instead of TCP where there is no TLS; `None` is TCP.
        admit: whether a connection from this IP address may stay.
        turn: called after each chunk of input that was taken.
        is_serving: whether the server serves clients at all.
        gate: what to wait for before anything is served, None while nothing stops the server.

    Attributes:
        numbers: the ports, plain and TLS, `None` for one there is not.
        doors: the WebSocket doors, the one without TLS first.
    """

    def __init__(
        self,
        service: Service,
        config: ServerConfig,
        transport: Transport | None,
        *,
        admit: Callable[[str], bool],
        turn: Callable[[], None],
        is_serving: Callable[[], bool],
        gate: Callable[[], trio.Event | None],
    ) -> None:
        self.numbers: tuple[int | None, int | None] = (None, None)
        self.doors: list[WebSocketPort] = []
        self._service = service
        self._config = config
        self._transport = transport
        self._admit = admit
        self._turn = turn
        self._is_serving = is_serving
        self._gate = gate
        self._ports: list[EpollPort | StreamPort] = []
        self._shaking: list[TlsListener] = []
        self._known_certificates: Certificates | None = None

    async def open(self) -> None:
        """Listens.

        Raises:
            OSError: an address cannot be had.
            ConfigurationError: TLS or the tokens of the doors cannot be used.
        """
        config = self._config
        plain = secure = None
        if config.client_port is not None:
            host, port = config.client_address, config.client_port
            plain = await (self._listen_tls if config.tls.is_unified else self._listen_plain)(host, port)
        if config.secure_client_port is not None:
            secure = await self._listen_tls(config.secure_client_address, config.secure_client_port, only=True)
        if config.websocket.is_open:
            from .websocket_port import open_doors  # h11 and wsproto take time that a server without does not have

            if config.websocket.secure_port is not None:
                self._certificates()
            self.doors = await open_doors(
                self._service,
                config,
                self._transport,
                lambda: self._certificates().context(),
                admit=self._admit,
                turn=self._turn,
                is_serving=self._is_serving,
                gate=self._gate,
            )
        self.numbers = (plain, secure)

    async def _listen_plain(self, host: str, port: int) -> int:
        if self._transport is None and HAS_EPOLL:
            listener = await open_listening_socket(host, port, self._config.listen_backlog)
            epoll = EpollPort(self._service, self._admit, self._turn)
            epoll.adopt(listener)
            self._ports.append(epoll)
            return int(listener.getsockname()[1])
        found = await (self._transport or TcpTransport()).listen(Endpoint(host, port, host))
        streams = StreamPort(self._service, self._admit, self._turn)
        streams.adopt(found)
        self._ports.append(streams)
        return found.endpoint.port

    async def _listen_tls(self, host: str, port: int, *, only: bool = False) -> int:
        from .tls_port import TlsListener  # as ssl does

        listener = await TlsListener.open(host, port, self._certificates().context, takes_plain=not only)
        streams = StreamPort(self._service, self._admit, self._turn)
        streams.adopt(listener)
        self._ports.append(streams)
        self._shaking.append(listener)
        return listener.endpoint.port

    def _certificates(self) -> Certificates:
        from .tls_port import Certificates, server_context

        if self._known_certificates is None:
            self._known_certificates = Certificates(self._config.tls, server_context)
        return self._known_certificates

    def start(self, nursery: trio.Nursery) -> None:
        """Serves clients until the nursery is cancelled."""
        for port in self._ports:
            nursery.start_soon(port.serve, self._gate)
        for listener in self._shaking:
            nursery.start_soon(listener.serve)
        for door in self.doors:
            nursery.start_soon(door.serve)

    @property
    def handshakes(self) -> int:
        """TLS handshakes under way."""
        return sum(listener.handshakes for listener in self._shaking)

    def drain(self) -> None:
        """Reads what the clients of the plain port have sent so far, a chunk of each."""
        for port in self._ports:
            if isinstance(port, EpollPort):
                port.drain()

    def stop_listening(self) -> None:
        """Lets nobody in any more; the clients stay."""
        for port in (*self._ports, *self.doors):
            port.stop_listening()

    def close(self) -> None:
        """Drops every client."""
        for port in (*self._ports, *self.doors):
            port.close()


async def open_listening_socket(host: str, port: int, backlog: int = -1) -> socket.socket:
    """A listening TCP socket; an empty host is every interface, IPv6 too where there is one.

    Raises:
        OSError: the address cannot be had.
    """
    backlog = backlog if backlog > 0 else 1024
    try:
        if not host:
            dual = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if dual else socket.AF_INET
            return socket.create_server(("", port), family=family, backlog=backlog, dualstack_ipv6=dual)
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=backlog)
    except OSError as error:
        raise not_listening("cannot", host, port, error) from error


def not_listening(beginning: str, host: str, port: int, error: OSError) -> OSError:
    """The error with a message that names the address, behind a beginning that ends with "cannot"."""
    # The numbers of failed name look-ups are no system errors.
    if isinstance(error, socket.gaierror) or not error.errno:
        reason = error.strerror or str(error)
    else:
        reason = os.strerror(error.errno)
    return OSError(error.errno, f"{beginning} listen at {host or '*'}:{port}: {reason}")
