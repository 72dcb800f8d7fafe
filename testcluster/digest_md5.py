"""The server's side of SASL DIGEST-MD5 (RFC 2831), with the fixed parameters that ZooKeeper gives it.

Decides whether a client knows a user's password. Users come in as an argument and so does chance; what the identity is
good for is the ACLs' business. As in ZooKeeper, only `auth` is offered as quality of protection, and only a first
authentication.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping

from .settings import SaslError

REALM = "zk-sasl-md5"
"""Realm and server name, whatever the host is called (ZooKeeper 3.4 to 3.9)."""

_DIGEST_URI = f"zookeeper/{REALM}"
_NONCE_COUNT = "00000001"
_TOKEN_MAX = 4096
_NONCE_SIZE = 30
_DIRECTIVE = re.compile(r'\s*([a-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^",\s]*))\s*(?:,|\Z)')
_QUOTED_PAIR = re.compile(r"\\(.)")


class DigestMd5:
    """Begins exchanges: what `ServerSettings.sasl_exchange` is where there are users with passwords.

    Keeps what a password hashes to, not the password; shows neither.

    Args:
        users: password by user name.
        random_bytes: gives this many bytes that nobody can guess.
    """

    def __init__(self, users: Mapping[str, str], random_bytes: Callable[[int], bytes]) -> None:
        self._secrets = {user: secret_of(user, password) for user, password in users.items()}
        self._random_bytes = random_bytes

    def __repr__(self) -> str:
        return f"<DIGEST-MD5 for {len(self._secrets)} users>"

    def __call__(self) -> DigestMd5Exchange:
        """A new exchange."""
        return DigestMd5Exchange(self._secrets, base64.b64encode(self._random_bytes(_NONCE_SIZE)).decode())


class DigestMd5Exchange:
    """One exchange. A failure is its end: a client that may stay in spite of it cannot try another password here.

    Args:
        secrets: `secret_of` a password, by user name.
        nonce: text that no other exchange has had, of the characters of base64.

    Attributes:
        authorization_id: the user, once the client has proved to know the password.
    """

    def __init__(self, secrets: Mapping[str, bytes], nonce: str) -> None:
        self.authorization_id: str | None = None
        self._secrets = secrets
        self._nonce = nonce
        self._is_challenged = False
        self._is_over = False

    def __repr__(self) -> str:
        return f"<DIGEST-MD5 exchange of {self.authorization_id!r}>"

    def step(self, token: bytes) -> bytes:
        """Answers the client's token: the first one, whatever it holds, with the challenge, the second with the proof.

        Raises:
            SaslError: the response does not prove the password, or the exchange is over.
        """
        if not self._is_challenged:
            self._is_challenged = True
            return f'realm="{REALM}",nonce="{self._nonce}",charset=utf-8,algorithm=md5-sess'.encode()
        if self._is_over:
            raise SaslError("the exchange is over already")
        self._is_over = True
        directives = _directives(token)
        user = directives.get("username", "")
        self._check_parameters(directives)
        secret = self._secrets.get(user)
        # An unknown user costs what a wrong password does, so that the time tells nobody who there is.
        proof = _digest(directives, secret or _NO_SECRET, "AUTHENTICATE")
        matches = hmac.compare_digest(proof.encode(), directives["response"].encode())
        if secret is None:
            raise SaslError("unknown user")
        if not matches:
            raise SaslError("wrong password")
        self.authorization_id = user
        return f"rspauth={_digest(directives, secret, '')}".encode()

    def _check_parameters(self, directives: dict[str, str]) -> None:
        wanted = {
            "realm": REALM,
            "nonce": self._nonce,
            "nc": _NONCE_COUNT,
            "digest-uri": _DIGEST_URI,
            "qop": "auth",
        }
        given = {"realm": "", "qop": "auth", **directives}
        for name, value in wanted.items():
            if given.get(name) != value:
                raise SaslError(f"{name} is not what it must be")
        if not directives.get("cnonce") or "response" not in directives:
            raise SaslError("cnonce or response is missing")


def _directives(token: bytes) -> dict[str, str]:
    if len(token) > _TOKEN_MAX:
        raise SaslError("the response is too long")
    try:
        text = token.decode()
    except UnicodeDecodeError as error:
        raise SaslError("the response is no UTF-8") from error
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _DIRECTIVE.match(text, position)
        if match is None or match[1] in found:
            raise SaslError("the response is malformed")
        quoted, plain = match[2], match[3]
        found[match[1]] = plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
        position = match.end()
    return found


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


_NO_SECRET = _md5(b"")


def secret_of(user: str, password: str) -> bytes:
    """What proves a password. Names and passwords are hashed in ISO 8859-1 where that can hold them, else in UTF-8 (RFC
    2831, and Java).
    """
    return _md5(b":".join(_hashed(text) for text in (user, REALM, password)))


def _hashed(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _digest(directives: dict[str, str], secret: bytes, method: str) -> str:
    """What proves the password: the client's with method AUTHENTICATE, the server's with none."""
    nonce, cnonce = directives["nonce"], directives["cnonce"]
    a1 = secret + f":{nonce}:{cnonce}".encode()
    if "authzid" in directives:
        a1 += f":{directives['authzid']}".encode()
    a2 = f"{method}:{_DIGEST_URI}".encode()
    text = f"{_md5(a1).hex()}:{nonce}:{_NONCE_COUNT}:{cnonce}:auth:{_md5(a2).hex()}"
    return _md5(text.encode()).hex()
