"""How a connection comes by its identities: its address, its certificate, auth packets, SASL.

Decides who a connection is. What an identity may do is `acl.py`'s business, and secrets stay out of every message.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging

from terzetto.client.errors import WireError
from terzetto.client.values import Id
from terzetto.client.wire import codec, records as r

from .acl import SUPER_ID, AccessRules, DigestScheme, IpScheme, SaslScheme, Scheme, X509Scheme
from .codes import AUTH_FAILED, OK, SESSION_CLOSED_REQUIRE_SASL
from .connection import Connection
from .replies import header_reply, reply, reply_with_error
from .settings import SaslError, ServerSettings

_log = logging.getLogger(__name__)

IDS_MAX = 100
"""Identities that a connection may hold; one that asks for more is refused. ZooKeeper has no bound."""

PACKETS_MAX = 1000
"""Auth packets and SASL tokens that a connection may send; one that sends more is refused. ZooKeeper has no bound."""

CREDENTIAL_MAX = 4096
"""Bytes of a credential or a SASL token; a longer one is refused. ZooKeeper's only bound is `jute.maxbuffer`, and a
connection keeps the names in its credentials."""

_decode_auth = codec(r.AuthPacket).decode
_decode_sasl = codec(r.GetSASLRequest).decode
_encode_sasl = codec(r.SetSASLResponse).encode
_NULL_TOKEN = _encode_sasl(r.SetSASLResponse(None))


def access_rules(settings: ServerSettings) -> AccessRules:
    """The rules of a server with these settings."""
    schemes: dict[str, Scheme] = {"ip": IpScheme()}
    if settings.digest_enabled:
        schemes["digest"] = DigestScheme()
    if settings.sasl_acls:
        schemes["sasl"] = SaslScheme(settings.sasl_anyone)
    if settings.x509_acls:
        schemes["x509"] = X509Scheme(settings.x509_super)
    return AccessRules(schemes, skip=settings.skip_acl)


def digest_id(credentials: bytes, algorithm: str = "sha1") -> str:
    """The id of scheme `digest` for "user:password", of which the whole is hashed."""
    user = credentials.partition(b":")[0].decode("utf-8", "replace")
    return f"{user}:{base64.b64encode(hashlib.new(algorithm, credentials).digest()).decode()}"


class Authenticator:
    """Gives connections their identities.

    Args:
        settings: which schemes there are, and who is super in them.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings

    def first_ids(self, peer_ip: str, certificate_subject: str | None) -> tuple[Id, ...]:
        """What a connection is before it has said anything."""
        ids = [Id("ip", peer_ip)]
        if certificate_subject is not None:
            ids += self._certified(certificate_subject)
        return tuple(ids)

    def _certified(self, subject: str) -> list[Id]:
        ids = [Id("x509", subject)]
        if self._settings.x509_super is not None and subject == self._settings.x509_super:
            ids.append(SUPER_ID)
        return ids

    def auth(self, connection: Connection, xid: int, body: bytes) -> tuple[bytes, bool]:
        """Handles an auth packet: its answer, and whether the connection may stay. Raises `WireError`."""
        (_, scheme, auth), _ = _decode_auth(body, 0, len(body))
        if self._is_bearable(connection, auth or b"") and self._authenticate(connection, scheme, auth):
            return header_reply(xid, 0, OK), True
        # Neither scheme nor credential: either may be a password in the wrong place.
        _log.warning("an auth packet of %s is refused", connection.peer_ip)
        return header_reply(xid, 0, AUTH_FAILED), False

    @staticmethod
    def _is_bearable(connection: Connection, credential: bytes) -> bool:
        connection.auth_packets += 1
        return connection.auth_packets <= PACKETS_MAX and len(credential) <= CREDENTIAL_MAX

    def _authenticate(self, connection: Connection, scheme: str | None, auth: bytes | None) -> bool:
        settings = self._settings
        if scheme == "digest" and settings.digest_enabled:
            if auth is None:
                return False
            proved = digest_id(auth, settings.digest_algorithm)
            if settings.digest_super is not None and hmac.compare_digest(
                proved.encode(), settings.digest_super.encode()
            ):
                self._add(connection, SUPER_ID)
            return self._add(connection, Id("digest", proved))
        if scheme == "x509" and connection.certificate_subject is not None:
            return all(self._add(connection, held) for held in self._certified(connection.certificate_subject))
        return scheme == "ip"

    def sasl(self, connection: Connection, xid: int, body: bytes) -> tuple[bytes, bool]:
        """Handles a SASL token: the answer, and whether the connection may stay. Raises `WireError`."""
        (token,), _ = _decode_sasl(body, 0, len(body))
        if token is None:
            raise WireError("a SASL token is null")
        settings = self._settings
        if settings.sasl_exchange is None:
            return reply(xid, 0, _NULL_TOKEN), True
        if connection.sasl is None:
            connection.sasl = settings.sasl_exchange()
        is_bearable = self._is_bearable(connection, token)
        try:
            if not is_bearable:
                raise SaslError("too many tokens, or too long a one")
            answer = connection.sasl.step(token)
        except SaslError as error:
            required = "sasl" in settings.required_schemes
            _log.warning("SASL with %s failed: %s", connection.peer_ip, error)
            if settings.sasl_failed_allowed and not required and is_bearable:
                return reply(xid, 0, _NULL_TOKEN), True
            code = SESSION_CLOSED_REQUIRE_SASL if required else AUTH_FAILED
            return reply_with_error(xid, 0, code, _NULL_TOKEN), False
        proved = connection.sasl.authorization_id
        if proved is not None:
            self._add(connection, Id("sasl", proved))
            if proved in settings.sasl_super:
                self._add(connection, SUPER_ID)
        return reply(xid, 0, _encode_sasl(r.SetSASLResponse(answer))), True

    @staticmethod
    def _add(connection: Connection, held: Id) -> bool:
        if held in connection.ids:
            return True
        if len(connection.ids) >= IDS_MAX:
            return False
        connection.ids = (*connection.ids, held)
        return True

    def is_enough(self, connection: Connection) -> bool:
        """Whether the connection has an identity of one of the schemes that the operator demands."""
        required = self._settings.required_schemes
        return not required or any(held.scheme in required for held in connection.ids)
