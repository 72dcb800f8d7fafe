"""SASL with Kerberos: GSSAPI (RFC 4752) as ZooKeeper speaks it, on the `gssapi` package (extra `sasl`).

Decides which principal the server must be, that it must prove to be that one, and that no security layer is taken,
since ZooKeeper has none. Refuses to know tickets: the Kerberos library finds, fetches and keeps them, and may wait for
a Kerberos server while it does, so the session has every turn taken in a thread.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ._sasl import NO_SASL
from .errors import AuthFailedError, ConfigurationError

_KERBEROS = "1.2.840.113554.1.2.2"
_NO_SECURITY_LAYER = 1
_OFFER_SIZE = 4
# Minor codes of MIT Kerberos and Heimdal: no Kerberos server can be reached, or none is known to have an address.
_UNREACHABLE = frozenset({-1765328228 & 0xFFFFFFFF, -1765328164 & 0xFFFFFFFF})


@dataclass(frozen=True, slots=True)
class Gssapi:
    """Kerberos, for `open_zookeeper(sasl=Gssapi())`. Needs `pip install terzetto[sasl]`, and a Kerberos library for it.

    By default the process's ticket cache says who the client is (`kinit`), and a server is `zookeeper/HOST`, where HOST
    is its name in `hosts`, made canonical as `krb5.conf` says.

    Attributes:
        service: first part of the server's principal.
        principal: who the client is, of those that the cache or the keytab has; "ada" or "ada@EXAMPLE.COM".
        server_principal: the server's whole principal, "zookeeper/zk1.example.com@EXAMPLE.COM", one for all servers
            (Java's `zookeeper.server.principal`). `service` does not count then.
        keytab: file with the client's key; tickets are fetched with it, so that nobody needs to renew them.

    Raises:
        ConfigurationError: the package is missing, or an argument is no text.
    """

    service: str = "zookeeper"
    principal: str | None = None
    server_principal: str | None = None
    keytab: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.service, str) or not self.service:
            raise ConfigurationError(f"service of Gssapi must be a name like 'zookeeper', not {self.service!r}")
        for name in ("principal", "server_principal", "keytab"):
            given = getattr(self, name)
            if given is not None and (not isinstance(given, str) or not given):
                raise ConfigurationError(f"{name} of Gssapi must be a str, not {given!r}")
        _library()

    def __call__(self, server: str) -> GssapiConversation:
        """Begins a conversation with the server of this name."""
        return GssapiConversation(self, server)


def _library() -> Any:
    try:
        # Only where it is wanted, since it needs a C library.
        import gssapi  # pyright: ignore[reportMissingModuleSource]
    except ImportError as error:
        raise ConfigurationError(f"Kerberos needs the package gssapi: pip install terzetto[sasl] ({error})") from error
    except OSError as error:
        # What the package raises where the C library is missing or too old.
        raise ConfigurationError(
            f"the package gssapi cannot be used, its Kerberos library is missing: {error}"
        ) from error
    return gssapi


class GssapiConversation:
    """One conversation; a `SaslMechanism`.

    Args:
        settings: who talks to whom.
        server: the server's name.
    """

    blocks = True

    def __init__(self, settings: Gssapi, server: str) -> None:
        self._settings = settings
        self._server = server
        self._context: Any = None
        self._has_chosen = False

    def __repr__(self) -> str:
        return f"<GSSAPI conversation with {self._server}>"

    def initial(self) -> bytes:
        """The first token, for which a ticket is fetched if there is none.

        Raises:
            AuthFailedError: no credentials, or the Kerberos server refuses them or does not know the ZooKeeper server.
            ConnectionError: no Kerberos server can be reached.
        """
        gssapi = _library()
        settings = self._settings
        try:
            if settings.server_principal is None:
                name = gssapi.Name(f"{settings.service}@{self._server}", gssapi.NameType.hostbased_service)
            else:
                name = gssapi.Name(settings.server_principal, gssapi.NameType.kerberos_principal)
            self._context = gssapi.SecurityContext(
                name=name,
                creds=self._credentials(gssapi),
                mech=gssapi.OID.from_int_seq(_KERBEROS),
                # Integrity is for the choice of the layer, which is wrapped.
                flags=[gssapi.RequirementFlag.mutual_authentication, gssapi.RequirementFlag.integrity],
                usage="initiate",
            )
            return self._context.step() or b""
        except gssapi.exceptions.GSSError as error:
            raise self._explained(error) from error

    def _credentials(self, gssapi: Any) -> Any:
        settings = self._settings
        if settings.principal is None and settings.keytab is None:
            return None
        name = None
        if settings.principal is not None:
            name = gssapi.Name(settings.principal, gssapi.NameType.kerberos_principal)
        store = None
        if settings.keytab is not None:
            # A cache in memory is the whole process's, so each client that it may stand for has one of its own.
            whose = hashlib.sha256(f"{settings.keytab}\0{settings.principal or ''}".encode()).hexdigest()
            store = {"client_keytab": settings.keytab, "ccache": f"MEMORY:terzetto-{whose}"}
        return gssapi.Credentials(name=name, usage="initiate", store=store)

    def respond(self, challenge: bytes | None) -> bytes | None:
        """Goes on: Kerberos' own tokens, then the choice of no security layer, then the server's last word.

        Raises:
            AuthFailedError: the server is not who it should be, or wants what cannot be given.
            ConnectionError: no Kerberos server can be reached.
        """
        gssapi = _library()
        if self._has_chosen:
            # Whatever it holds (Java's server: null), an answer without an error means that the server is content.
            return None
        if challenge is None:
            raise AuthFailedError(NO_SASL)
        try:
            if not self._context.complete:
                return self._context.step(challenge) or b""
            return self._choose(self._context.unwrap(challenge).message)
        except gssapi.exceptions.GSSError as error:
            raise self._explained(error) from error

    def _choose(self, offer: bytes) -> bytes:
        if len(offer) != _OFFER_SIZE:
            raise AuthFailedError(
                f"the server's offer of security layers has {len(offer)} bytes, expected {_OFFER_SIZE}"
            )
        if not offer[0] & _NO_SECURITY_LAYER:
            raise AuthFailedError("the server demands a SASL security layer, which ZooKeeper has not; use TLS")
        self._has_chosen = True
        # No layer, so no buffer; no other identity than the ticket's.
        choice: bytes = self._context.wrap(bytes([_NO_SECURITY_LAYER, 0, 0, 0]), False).message
        return choice

    def _explained(self, error: Any) -> Exception:
        whom = self._settings.server_principal or f"{self._settings.service}/{self._server}"
        text = f"Kerberos, for the server {whom}: {error}"
        if error.min_code & 0xFFFFFFFF in _UNREACHABLE:
            return ConnectionError(text)
        return AuthFailedError(text)
