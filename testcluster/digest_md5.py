"""The server's side of SASL DIGEST-MD5 (RFC 2831), with the fixed parameters that ZooKeeper gives it.

Decides whether a client knows a user's password. Users come in as an argument and so does the nonce; what the identity
is good for is the ACLs' business. As in ZooKeeper, only `auth` is offered as quality of protection, and only a first
authentication.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from .settings import SaslError

REALM = "zk-sasl-md5"
"""Realm and server name, whatever the host is called (ZooKeeper 3.4 to 3.9)."""

_DIGEST_URI = f"zookeeper/{REALM}"
_NONCE_COUNT = "00000001"
_TOKEN_MAX = 4096
_DIRECTIVE = re.compile(r'\s*([a-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^",\s]*))\s*(?:,|\Z)')
_QUOTED_PAIR = re.compile(r"\\(.)")


class DigestMd5Exchange:
    """One exchange.

    Args:
        users: password by user name.
        nonce: text that no other exchange has had, of the characters of base64.

    Attributes:
        authorization_id: the user, once the client has proved to know the password.
    """

    def __init__(self, users: Mapping[str, str], nonce: str) -> None:
        self.authorization_id: str | None = None
        self._users = users
        self._nonce = nonce
        self._is_challenged = False

    def step(self, token: bytes) -> bytes:
        """Answers the client's token: the first one, whatever it holds, with the challenge, the second with the proof.

        Raises:
            SaslError: the response does not prove the password, or the exchange is over.
        """
        if not self._is_challenged:
            self._is_challenged = True
            return f'realm="{REALM}",nonce="{self._nonce}",charset=utf-8,algorithm=md5-sess'.encode()
        if self.authorization_id is not None:
            raise SaslError("the exchange is complete already")
        directives = _directives(token)
        user = directives.get("username", "")
        password = self._users.get(user)
        self._check_parameters(directives)
        if password is None:
            raise SaslError("unknown user")
        if not hmac.compare_digest(
            _digest(directives, password, "AUTHENTICATE").encode(), directives["response"].encode()
        ):
            raise SaslError("wrong password")
        self.authorization_id = user
        return f"rspauth={_digest(directives, password, '')}".encode()

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
                raise SaslError(f"{name} is not {value!r}")
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


def _digest(directives: dict[str, str], password: str, method: str) -> str:
    """What proves the password: the client's with method AUTHENTICATE, the server's with none."""
    nonce, cnonce = directives["nonce"], directives["cnonce"]
    secret = _md5(f"{directives['username']}:{REALM}:{password}".encode())
    a1 = secret + f":{nonce}:{cnonce}".encode()
    if "authzid" in directives:
        a1 += f":{directives['authzid']}".encode()
    a2 = f"{method}:{_DIGEST_URI}".encode()
    text = f"{_md5(a1).hex()}:{nonce}:{_NONCE_COUNT}:{cnonce}:auth:{_md5(a2).hex()}"
    return _md5(text.encode()).hex()
