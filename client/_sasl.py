"""SASL with a password: DIGEST-MD5 (RFC 2831) as ZooKeeper speaks it, the client's side. No I/O.

Decides what proves that both sides know the password, and gives up on anything it does not understand. Kerberos is
`_gssapi.py`'s; when the conversation takes place is the session's business.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import AuthFailedError, ConfigurationError

SERVER = "zk-sasl-md5"
"""What every server is called in DIGEST-MD5, whatever its host's name (ZooKeeper 3.4 to 3.9)."""

NO_SASL = (
    "the server answered without a SASL token: either it has no SASL (its JAAS section Server is missing), or it "
    "refused the credentials and lets such clients in unidentified (allowSaslFailedClients)"
)

_NONCE_COUNT = "00000001"
_DIRECTIVE = re.compile(r'[\s,]*([A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]*))\s*(?=,|\Z)', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DigestMd5:
    """A user and a password, for `open_zookeeper(sasl=DigestMd5("ada", "secret"))`.

    The password itself never leaves the process. The server proves that it knows it too; one that does not is refused.
    MD5 is what ZooKeeper has: whoever records the conversation can try passwords at leisure, so use TLS.

    Attributes:
        username: as the server's `user_NAME` entry has it.
        password: in no log, error or `repr`.

    Raises:
        ConfigurationError: no user.
    """

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.username, str) or not isinstance(self.password, str):
            raise ConfigurationError("DigestMd5 takes a user name and a password, both str")
        if not self.username:
            raise ConfigurationError("DigestMd5 needs a user name")
        try:
            f"{self.username}{self.password}".encode()
        except UnicodeEncodeError:
            # Not chained: the error holds the text.
            raise ConfigurationError("user name and password of DigestMd5 must be encodable as UTF-8") from None

    def __call__(self, server: str) -> DigestMd5Conversation:
        """Begins a conversation with a server."""
        return DigestMd5Conversation(self.username, self.password)


class DigestMd5Conversation:
    """One conversation; a `SaslMechanism`.

    Args:
        username: who.
        password: what proves it.
        make_nonce: gives text that no other conversation has had.
    """

    blocks = False

    def __init__(
        self, username: str, password: str, make_nonce: Callable[[], str] = lambda: secrets.token_urlsafe(24)
    ) -> None:
        self._username = username
        self._password = password
        self._make_nonce = make_nonce
        self._proof: str | None = None

    def __repr__(self) -> str:
        return f"<DIGEST-MD5 conversation as {self._username!r}>"

    def initial(self) -> bytes:
        """Nothing: the server begins."""
        return b""

    def respond(self, challenge: bytes | None) -> bytes | None:
        """Answers the server's challenge, and then checks its proof.

        Raises:
            AuthFailedError: the server has no SASL, does not know the password, or cannot be understood.
        """
        if challenge is None:
            raise AuthFailedError(NO_SASL)
        directives = _directives(challenge)
        if self._proof is None:
            return self._response(directives)
        if not hmac.compare_digest(directives.get("rspauth", "").encode(), self._proof.encode()):
            raise AuthFailedError("the server does not prove that it knows the password; it may be an impostor")
        return None

    def _response(self, challenge: dict[str, str]) -> bytes:
        nonce = challenge.get("nonce")
        if not nonce:
            raise AuthFailedError("the server's DIGEST-MD5 challenge has no nonce")
        if challenge.get("algorithm") != "md5-sess":
            raise AuthFailedError("the server's DIGEST-MD5 challenge asks for another algorithm than md5-sess")
        if "auth" not in re.split(r"[\s,]+", challenge.get("qop", "auth")):
            raise AuthFailedError("the server demands a SASL security layer, which ZooKeeper has not; use TLS")
        realm = challenge.get("realm", SERVER)
        cnonce = self._make_nonce()
        uri = f"zookeeper/{SERVER}"
        secret = _md5(b":".join(_hashed(text) for text in (self._username, realm, self._password)))
        a1 = _md5(secret + f":{nonce}:{cnonce}".encode()).hex()

        def value(method: str) -> str:
            a2 = _md5(f"{method}:{uri}".encode()).hex()
            return _md5(f"{a1}:{nonce}:{_NONCE_COUNT}:{cnonce}:auth:{a2}".encode()).hex()

        self._proof = value("")
        self._password = ""
        return ",".join(
            (
                "charset=utf-8",
                f"username={_quoted(self._username)}",
                f"realm={_quoted(realm)}",
                f"nonce={_quoted(nonce)}",
                f"nc={_NONCE_COUNT}",
                f"cnonce={_quoted(cnonce)}",
                f"digest-uri={_quoted(uri)}",
                "maxbuf=65536",
                f"response={value('AUTHENTICATE')}",
                "qop=auth",
            )
        ).encode()


def _directives(token: bytes) -> dict[str, str]:
    """The first value of each name, since a server may offer several realms."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        raise AuthFailedError("the server's DIGEST-MD5 token is no UTF-8") from None
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _DIRECTIVE.match(text, position)
        if match is None:
            raise AuthFailedError("the server's DIGEST-MD5 token is malformed")
        quoted, plain = match[2], match[3]
        found.setdefault(match[1].lower(), plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted))
        position = match.end()
    return found


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _hashed(text: str) -> bytes:
    """As RFC 2831 hashes names and passwords: in ISO 8859-1 where that can hold them, else in UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
