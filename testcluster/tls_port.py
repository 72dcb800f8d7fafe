"""The TLS client port: contexts from ZooKeeper's ssl.* keys, and connections that know the client's subject.

Decides how the keys become a context and how a certificate's subject is spelled for ACLs of the scheme x509 (RFC 2253,
as Java spells it). Refuses to know ZooKeeper's protocol.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterable

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection, StreamConnection
from terzetto.client.errors import ConfigurationError

from .config import TlsSettings
from .epoll_port import ACCEPT_LATER, ACCEPT_PAUSE

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a client may take for the handshake (ZooKeeper has the same limit)."""

HANDSHAKES_MAX = 250
"""Handshakes at once, as ZooKeeper's `netty.server.outstandingHandshakeLimit` may bound them."""

_VERSIONS = {
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH = {"none": ssl.CERT_NONE, "want": ssl.CERT_OPTIONAL, "need": ssl.CERT_REQUIRED}
# The attributes that RFC 2253 abbreviates; all others Java spells as their object identifier.
_SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_OBJECT_IDS = {
    "emailAddress": ("1.2.840.113549.1.9.1", 0x16),
    "serialNumber": ("2.5.4.5", 0x13),
    "surname": ("2.5.4.4", 0x0C),
    "givenName": ("2.5.4.42", 0x0C),
    "title": ("2.5.4.12", 0x0C),
}


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """The server's context.

    Raises:
        ConfigurationError: a store, protocol or cipher suite cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = _CLIENT_AUTH[settings.client_auth]
    if settings.key_store is None:
        raise ConfigurationError("a TLS port needs ssl.keyStore.location")
    try:
        context.load_cert_chain(settings.key_store, password=settings.key_store_password or "")
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ssl.keyStore.location {settings.key_store} cannot be used: {error}") from error
    if settings.trust_store is not None:
        try:
            context.load_verify_locations(settings.trust_store)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"ssl.trustStore.location {settings.trust_store} cannot be used: {error}"
            ) from error
    if settings.protocols:
        unknown = [name for name in settings.protocols if name not in _VERSIONS]
        if unknown:
            raise ConfigurationError(
                f"ssl.enabledProtocols: {unknown[0]} is not offered; known are {', '.join(_VERSIONS)}"
            )
        versions = sorted(_VERSIONS[name] for name in settings.protocols)
        context.minimum_version, context.maximum_version = versions[0], versions[-1]
    if settings.ciphers:
        try:
            context.set_ciphers(":".join(settings.ciphers))
        except ssl.SSLError as error:
            raise ConfigurationError(f"ssl.ciphersuites: {error}") from error
    return context


def subject_of(certificate: dict[str, object] | None) -> str | None:
    """The subject of a certificate as `SSLSocket.getpeercert` gives it, in Java's RFC 2253 form; None without one."""
    if not certificate:
        return None
    names: Iterable[Iterable[tuple[str, str]]] = certificate.get("subject", ())  # type: ignore[assignment]
    return ",".join("+".join(_attribute(*pair) for pair in name) for name in reversed(list(names)))


def _attribute(name: str, value: str) -> str:
    short = _SHORT_NAMES.get(name)
    if short is not None:
        return f"{short}={_escaped(value)}"
    oid, tag = _OBJECT_IDS.get(name, (name, 0x0C))
    text = value.encode()
    size = bytes([len(text)]) if len(text) < 128 else bytes([0x81, len(text)])
    return f"{oid}=#{(bytes([tag]) + size + text).hex()}"


def _escaped(value: str) -> str:
    text = "".join(f"\\{letter}" if letter in ',+"\\<>;' else letter for letter in value)
    if text[:1] in ("#", " "):
        text = "\\" + text
    if text.endswith(" ") and len(text) > 1:
        text = text[:-1] + "\\ "
    return text


class TlsConnection(StreamConnection):
    """A TLS connection after its handshake.

    Attributes:
        certificate_subject: whose certificate the client showed, None without one.
    """

    __slots__ = ("certificate_subject",)

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], peer: str) -> None:
        super().__init__(stream, peer)
        self.certificate_subject = subject_of(stream.getpeercert())


class TlsListener:
    """Accepts TLS connections whose handshake is over; `open` one, run `serve` beside it.

    Attributes:
        endpoint: where it listens.
        handshakes: under way now.
    """

    def __init__(self, listeners: list[trio.SocketListener], context: ssl.SSLContext, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.handshakes = 0
        self._listeners = listeners
        self._context = context
        self._arrived, self._arrivals = trio.open_memory_channel[Connection](math.inf)

    @classmethod
    async def open(cls, host: str, port: int, context: ssl.SSLContext) -> TlsListener:
        """Listens at an address; an empty host is every interface.

        Raises:
            OSError: the address cannot be had.
        """
        listeners = await trio.open_tcp_listeners(port, host=host or None)
        bound = listeners[0].socket.getsockname()
        return cls(listeners, context, Endpoint(bound[0], bound[1], bound[0]))

    async def serve(self) -> None:
        """Shakes hands until cancelled."""
        async with trio.open_nursery() as nursery:
            for listener in self._listeners:
                nursery.start_soon(self._accept, listener, nursery)

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            try:
                plain = await listener.accept()
            except trio.ClosedResourceError:
                return
            except OSError as error:
                if error.errno not in ACCEPT_LATER:
                    raise
                await trio.sleep(ACCEPT_PAUSE)
            else:
                nursery.start_soon(self._shake, plain)

    async def _shake(self, plain: trio.SocketStream) -> None:
        if self.handshakes >= HANDSHAKES_MAX:
            await trio.aclose_forcefully(plain)
            return
        self.handshakes += 1
        try:
            address = plain.socket.getpeername()
            stream = trio.SSLStream(plain, self._context, server_side=True, https_compatible=True)
            with trio.fail_after(HANDSHAKE_TIMEOUT):
                await stream.do_handshake()
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            await trio.aclose_forcefully(plain)
            return
        finally:
            self.handshakes -= 1
        self._arrived.send_nowait(TlsConnection(stream, str(Endpoint(address[0], address[1], ""))))

    async def accept(self) -> Connection:
        """The next connection."""
        return await self._arrivals.receive()

    def close(self) -> None:
        """Listens no more; connections that arrived and were not accepted are dropped with it."""
        for listener in self._listeners:
            listener.socket.close()
