"""The TLS client port: contexts from ZooKeeper's ssl.* keys, and connections that know the client's subject.

Decides how the keys become a context, that a handshake sees certificates as they are on the disk now, and how a
certificate's subject is spelled for ACLs of the scheme x509 (RFC 2253, as Java spells it). Refuses to know ZooKeeper's
protocol.
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._tls import TlsConnection
from terzetto.client._transport import Connection, Listener, SocketConnection
from terzetto.client.errors import ConfigurationError

from .config_tls import QuorumTlsSettings, TlsSettings
from .epoll_port import ACCEPT_LATER, ACCEPT_PAUSE

_log = logging.getLogger(__name__)

HANDSHAKE_BYTE = 0x16
"""What TLS begins with, and neither a frame nor a four-letter word nor a message of a server does."""

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a client may take for the handshake (ZooKeeper has the same limit)."""

HANDSHAKES_MAX = 250
"""Handshakes at once, as ZooKeeper's `netty.server.outstandingHandshakeLimit` may bound them."""

HANDSHAKE_GRACE = 1.0
"""Seconds of its time that a handshake keeps where there are too many: then the slowest one makes room."""

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


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """The context of those who are dialled.

    Raises:
        ConfigurationError: a store, protocol or cipher suite cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = _CLIENT_AUTH[settings.client_auth]
    _configure(context, settings)
    return context


def dialling_context(settings: QuorumTlsSettings) -> ssl.SSLContext:
    """The context of a server that dials another one.

    Raises:
        ConfigurationError: a store, protocol or cipher suite cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = settings.verify_names
    _configure(context, settings)
    return context


def _configure(context: ssl.SSLContext, settings: TlsSettings) -> None:
    prefix = settings.PREFIX
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.key_store is None:
        raise ConfigurationError(f"a TLS port needs {prefix}.keyStore.location")
    try:
        load_certificate(context, settings.key_store, password=_password_of(settings))
    except ValueError as error:
        raise ConfigurationError(f"{prefix}.keyStore.location {settings.key_store} cannot be used: {error}") from error
    if settings.trust_store is not None:
        try:
            context.load_verify_locations(settings.trust_store)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{prefix}.trustStore.location {settings.trust_store} cannot be used: {error}"
            ) from error
    if settings.protocols:
        unknown = [name for name in settings.protocols if name not in _VERSIONS]
        if unknown:
            raise ConfigurationError(
                f"{prefix}.enabledProtocols: {unknown[0]} is not offered; known are {', '.join(_VERSIONS)}"
            )
        versions = sorted(_VERSIONS[name] for name in settings.protocols)
        context.minimum_version, context.maximum_version = versions[0], versions[-1]
    if settings.ciphers:
        try:
            context.set_ciphers(":".join(settings.ciphers))
        except ssl.SSLError as error:
            raise ConfigurationError(f"{prefix}.ciphersuites: {error}") from error


def _password_of(settings: TlsSettings) -> str | None:
    path = settings.key_store_password_path
    if path is None:
        return settings.key_store_password
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        # Not what a decoder says: it would quote the password.
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ConfigurationError(f"{settings.PREFIX}.keyStore.passwordPath {path} cannot be used: {reason}") from None


def load_certificate(
    context: ssl.SSLContext, chain: Path, key: Path | None = None, *, password: str | None = None
) -> None:
    """Gives a context its own certificate and private key, from PEM files.

    Args:
        context: whose.
        chain: the certificate, and those between it and its authority.
        key: the private key; `None` where it is in the same file.
        password: of the key.

    Raises:
        ValueError: says why they cannot be used; for most reasons OpenSSL's own words are "PEM lib".
    """
    try:
        # Without a password OpenSSL would ask at the terminal.
        context.load_cert_chain(chain, key, password=password or "")
    except (OSError, ValueError) as error:
        raise ValueError(_why_unusable(chain, key, password) or str(error)) from error


def _why_unusable(chain: Path, key: Path | None, password: str | None) -> str | None:
    try:
        certificates, keys = chain.read_bytes(), (key or chain).read_bytes()
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    if b"CERTIFICATE-----" not in certificates:
        return "there is no certificate in it"
    if b"PRIVATE KEY-----" not in keys:
        return f"there is no private key in {key or 'it'}"
    if b"ENCRYPTED" in keys:
        return f"its private key is encrypted, and {'the password is wrong' if password else 'there is no password'}"
    return None


_Settings = TypeVar("_Settings", bound=TlsSettings)
_Stamp = tuple[tuple[int, int, int] | None, ...]


class Certificates:
    """A context that is made anew once the files behind it have changed.

    Before a handshake the files are looked at. What cannot be used, such as a file that is only half written, leaves
    the context as it was, and is logged once.

    Args:
        settings: names the files.
        make: makes the context.

    Raises:
        ConfigurationError: no context can be made to begin with.
    """

    def __init__(self, settings: _Settings, make: Callable[[_Settings], ssl.SSLContext]) -> None:
        self._make = partial(make, settings)
        named = (settings.key_store, settings.trust_store, settings.key_store_password_path)
        self._files = [path for path in named if path is not None]
        self._reload = settings.reload
        self._stamp = self._look()
        self._context = self._make()

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        if self._reload:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._context = self._make()
                except ConfigurationError as error:
                    _log.error("the certificates stay as they were: %s", error)
                else:
                    _log.info("read the certificates of %s again", ", ".join(map(str, self._files)))
        return self._context

    def _look(self) -> _Stamp:
        return tuple(_stamp_of(path) for path in self._files)


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def subject_of(certificate: Mapping[str, object] | None) -> str | None:
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
    return f"{oid}=#{(bytes([tag]) + _der_length(len(text)) + text).hex()}"


def _der_length(count: int) -> bytes:
    if count < 0x80:
        return bytes([count])
    digits = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(digits)]) + digits


def _escaped(value: str) -> str:
    text = value.strip(" ")
    before, after = (value, "") if not text else value.split(text, 1)
    escaped = "".join(f"\\{letter}" if letter in ',=+<>#;"\\' else letter for letter in text)
    # Java escapes each space at either end, and none between.
    return before.replace(" ", "\\ ") + escaped + after.replace(" ", "\\ ")


class CertifiedConnection(TlsConnection):
    """A client's TLS connection.

    Attributes:
        certificate_subject: whose certificate the client has shown, `None` without one, and before the handshake.
    """

    certificate_subject: str | None = None

    async def do_handshake(self) -> None:
        """See `TlsConnection`.

        Raises:
            trio.BrokenResourceError: it failed; the cause says why.
            ValueError: the names in the certificate are no text: an authority may sign anything.
        """
        await super().do_handshake()
        self.certificate_subject = subject_of(self.certificate())


class LateTlsListener:
    """A listener with TLS over another one, for those who bound strangers themselves: nobody has shaken hands yet.

    Args:
        inner: where connections arrive.
        context: what gives the context for a handshake.

    Attributes:
        endpoint: where it listens.
    """

    def __init__(self, inner: Listener, context: Callable[[], ssl.SSLContext]) -> None:
        self.endpoint = inner.endpoint
        self._inner = inner
        self._context = context

    async def accept(self) -> Connection:
        """See `Listener`. The first byte, either way, comes behind the handshake."""
        return TlsConnection(await self._inner.accept(), self._context(), server_side=True)

    def close(self) -> None:
        """See `Listener`."""
        self._inner.close()


class TlsListener:
    """Accepts TLS connections whose handshake is over; `open` one, run `serve` beside it.

    Attributes:
        endpoint: where it listens.
        handshakes: under way now.
    """

    def __init__(
        self,
        listeners: list[trio.SocketListener],
        context: Callable[[], ssl.SSLContext],
        endpoint: Endpoint,
        *,
        takes_plain: bool,
    ) -> None:
        self.endpoint = endpoint
        self.handshakes = 0
        # Handshakes under way, and since when; the first has lasted longest.
        self._waiting: dict[trio.CancelScope, float] = {}
        self._listeners = listeners
        self._context = context
        self._takes_plain = takes_plain
        self._arrived, self._arrivals = trio.open_memory_channel[Connection](math.inf)

    @classmethod
    async def open(
        cls, host: str, port: int, context: Callable[[], ssl.SSLContext], *, takes_plain: bool = False
    ) -> TlsListener:
        """Listens at an address.

        Args:
            host: an empty one is every interface.
            port: 0 is a free one.
            context: what gives the context for a handshake.
            takes_plain: connections without TLS arrive, too, as `SocketConnection`.

        Raises:
            OSError: the address cannot be had.
        """
        listeners = await trio.open_tcp_listeners(port, host=host or None)
        bound = listeners[0].socket.getsockname()
        return cls(listeners, context, Endpoint(bound[0], bound[1], bound[0]), takes_plain=takes_plain)

    async def serve(self) -> None:
        """Shakes hands until cancelled; then connections that nobody has accepted are closed."""
        try:
            async with trio.open_nursery() as nursery:
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener, nursery)
        finally:
            await self._close_arrivals()

    async def _close_arrivals(self) -> None:
        with trio.CancelScope(shield=True):
            while self._arrivals.statistics().current_buffer_used:
                await self._arrivals.receive_nowait().aclose()

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
        if self.handshakes >= HANDSHAKES_MAX and not self._make_room():
            await trio.aclose_forcefully(plain)
            return
        self.handshakes += 1
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT) as patience:
                self._waiting[patience] = trio.current_time()
                try:
                    arrived = await self._shaken(plain)
                finally:
                    self._waiting.pop(patience, None)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, ValueError) as error:
            # A ValueError is about names in a certificate that are no text: an authority may sign anything.
            _log.debug("no TLS with a client: %s", error.__cause__ or error)
            await trio.aclose_forcefully(plain)
            return
        except BaseException:
            await trio.aclose_forcefully(plain)
            raise
        finally:
            self.handshakes -= 1
        self._arrived.send_nowait(arrived)

    def _make_room(self) -> bool:
        for scope, since in self._waiting.items():
            if trio.current_time() - since < HANDSHAKE_GRACE:
                break
            del self._waiting[scope]
            scope.cancel()
            return True
        return False

    async def _shaken(self, plain: trio.SocketStream) -> Connection:
        address = plain.socket.getpeername()
        peer = str(Endpoint(address[0], address[1], ""))
        if self._takes_plain:
            first = await plain.socket.recv(1, socket.MSG_PEEK)
            if first and first[0] != HANDSHAKE_BYTE:
                return _taken_from(plain, peer)
        secure = CertifiedConnection(_taken_from(plain, peer), self._context(), server_side=True)
        try:
            await secure.do_handshake()
        except BaseException:
            with trio.CancelScope(shield=True):
                await secure.aclose()
            raise
        return secure

    async def accept(self) -> Connection:
        """The next connection."""
        return await self._arrivals.receive()

    def close(self) -> None:
        """Listens no more."""
        for listener in self._listeners:
            listener.socket.close()


def _taken_from(stream: trio.SocketStream, peer: str) -> SocketConnection:
    return SocketConnection(socket.socket(fileno=stream.socket.detach()), peer)
