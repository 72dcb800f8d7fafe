"""TLS between the servers of an ensemble, over whatever carries their bytes.

Decides who must show which certificate (the `ssl.quorum.*` keys), and whether a connection that begins without TLS is
taken (`portUnification`, for an ensemble that changes over server by server). Refuses to know what the servers say.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from typing import Any

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection, ConnectionStream, Listener, Transport

from .config_tls import QuorumTlsSettings
from .tls_port import HANDSHAKE_BYTE, Certificates, dialling_context, server_context

_log = logging.getLogger(__name__)


class QuorumTls:
    """A transport that puts TLS over another one.

    Args:
        inner: carries the bytes.
        settings: the `ssl.quorum.*` keys.
        hosts: host names and addresses of the ensemble's servers.

    Raises:
        ConfigurationError: the certificates cannot be used.
    """

    def __init__(self, inner: Transport, settings: QuorumTlsSettings, hosts: frozenset[str]) -> None:
        self._inner = inner
        self._settings = settings
        self._hosts = hosts
        self._dialling = Certificates(settings, dialling_context)
        self._answering = Certificates(settings, server_context)

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        """See `Transport`."""
        return await self._inner.resolve(endpoint)

    async def dial(self, endpoint: Endpoint) -> Connection:
        """See `Transport`. The server's certificate is checked for the name that the configuration gives it."""
        connection = await self._inner.dial(endpoint)
        if not self._settings.is_used:
            return connection
        stream = trio.SSLStream(
            ConnectionStream(connection),
            self._dialling.context(),
            server_hostname=endpoint.server_name,
            https_compatible=True,
        )
        secure = _Secure(connection, stream)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            await secure.aclose()
            _log.warning("no TLS with the server at %s: %s", endpoint, error.__cause__ or error)
            raise
        except BaseException:
            await secure.aclose()
            raise
        return secure

    async def listen(self, endpoint: Endpoint) -> Listener:
        """See `Transport`. A connection shakes hands when it is first used, so that nobody waits for a slow one."""
        return _TlsPeers(await self._inner.listen(endpoint), self)

    def arrived(self, connection: Connection) -> Connection:
        """What becomes of a connection that another server has opened."""
        return _Arrived(connection, self)

    async def answer(self, connection: Connection) -> Connection:
        """The connection as the servers' protocols may use it: behind a handshake, or plain where that is allowed.

        Raises:
            OSError: the link is broken.
            trio.BrokenResourceError: the handshake has failed, or plain text is not allowed.
        """
        carried = _Peeked(connection)
        first = await carried.peek()
        if first[:1] and first[0] != HANDSHAKE_BYTE:
            if self._settings.is_unified:
                return _Resumed(connection, first)
            _log.warning("%s speaks without TLS to this server", connection.peer)
            raise trio.BrokenResourceError("plain text where TLS is spoken")
        stream = trio.SSLStream(carried, self._answering.context(), server_side=True, https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            _log.warning("no TLS with the server from %s: %s", connection.peer, error.__cause__ or error)
            raise
        try:
            certificate = stream.getpeercert()
        except ValueError as error:
            # Names that are no text: an authority may sign anything.
            _log.warning("the certificate that %s shows cannot be read: %s", connection.peer, error)
            raise trio.BrokenResourceError("a certificate that cannot be read") from error
        self._check_name(certificate, connection.peer)
        return _Secure(connection, stream)

    def _check_name(self, certificate: Mapping[str, Any] | None, peer: str) -> None:
        wanted = self._settings.verify_dialler_names
        if not (self._settings.verify_names if wanted is None else wanted) or not certificate:
            return
        address = peer.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
        if not any(names_host(certificate, host) for host in self._hosts | {address}):
            _log.warning("the certificate that %s shows is for no server of the ensemble", peer)
            raise trio.BrokenResourceError("a certificate for another host")


def names_host(certificate: Mapping[str, Any], host: str) -> bool:
    """Whether a certificate (as `SSLSocket.getpeercert` gives it) is for a host name or address.

    A name may begin with "*." for one label (RFC 6125). The common name counts only where there is no alternative name.
    """
    alternatives: tuple[tuple[str, str], ...] = certificate.get("subjectAltName", ())
    address = _address(host)
    if address is not None:
        return any(kind == "IP Address" and _address(value.strip()) == address for kind, value in alternatives)
    names = [value for kind, value in alternatives if kind == "DNS"]
    if not alternatives:
        names = [value for group in certificate.get("subject", ()) for kind, value in group if kind == "commonName"]
    return any(_matches(name.lower(), host.lower()) for name in names)


def _matches(pattern: str, host: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == host
    label, dot, rest = host.partition(".")
    return bool(label) and bool(dot) and rest == pattern[2:] and "." in rest


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


class _Peeked(ConnectionStream):
    """A stream whose first bytes can be looked at."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._peeked = b""

    async def peek(self) -> bytes:
        """What comes first, which is received again later; nothing at the end."""
        self._peeked = await super().receive_some()
        return self._peeked

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._peeked:
            data, self._peeked = self._peeked, b""
            await trio.lowlevel.checkpoint()
            return data
        return await super().receive_some(max_bytes)


class _Secure:
    """A connection behind its handshake."""

    sends_at_once = False

    def __init__(self, connection: Connection, stream: trio.SSLStream[Any]) -> None:
        self.peer = connection.peer
        self._connection = connection
        self._stream = stream

    def send_nowait(self, data: bytes) -> int:
        return 0

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some())

    async def aclose(self) -> None:
        await self._connection.aclose()


class _Resumed:
    """A plain connection of which something has been received already."""

    def __init__(self, connection: Connection, first: bytes) -> None:
        self.peer = connection.peer
        self.sends_at_once = connection.sends_at_once
        self.send_nowait = connection.send_nowait
        self.send = connection.send
        self.aclose = connection.aclose
        self._connection = connection
        self._first = first

    async def receive(self) -> bytes:
        if self._first:
            data, self._first = self._first, b""
            await trio.lowlevel.checkpoint()
            return data
        return await self._connection.receive()


class _Arrived:
    """A connection that another server has opened; whoever uses it first waits for the handshake."""

    sends_at_once = False

    def __init__(self, connection: Connection, tls: QuorumTls) -> None:
        self.peer = connection.peer
        self._connection = connection
        self._tls = tls
        self._answered: Connection | None = None
        self._is_begun = False
        self._turn = trio.Lock()

    async def _answer(self) -> Connection:
        if self._answered is None:
            async with self._turn:
                if self._answered is None:
                    if self._is_begun:
                        # What follows a handshake that has failed is neither another one nor plain text.
                        raise trio.BrokenResourceError("the handshake has failed")
                    self._is_begun = True
                    self._answered = await self._tls.answer(self._connection)
        return self._answered

    def send_nowait(self, data: bytes) -> int:
        return 0

    async def send(self, data: bytes) -> None:
        await (await self._answer()).send(data)

    async def receive(self) -> bytes:
        return await (await self._answer()).receive()

    async def aclose(self) -> None:
        await self._connection.aclose()


class _TlsPeers:
    def __init__(self, inner: Listener, tls: QuorumTls) -> None:
        self.endpoint = inner.endpoint
        self.close = inner.close
        self._inner = inner
        self._tls = tls

    async def accept(self) -> Connection:
        return self._tls.arrived(await self._inner.accept())
