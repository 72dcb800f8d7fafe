"""Who may come in by a WebSocket door, and who a client is, from the headers of its request. Without input or output.

Decides paths, origins, tokens and whose word about a client's address is taken. Refuses to know HTTP's syntax (h11's
business), files and sockets.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Headers = Sequence[tuple[bytes, bytes]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TOKEN_MIN = 16
"""Characters that a token must have at least: what stands at an open door must not be guessed."""

HOPS_MAX = 32
"""Proxies that may stand in one header."""

FORWARDED_HEADERS = ("x-forwarded-for", "forwarded")

_TOKEN = re.compile(r"[!-~]+")
_PARAMETER = re.compile(r"""[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^",;\s]*))?[ \t]*([;,]|\Z)""")


class Refusal(Exception):
    """A request that gets no WebSocket.

    Attributes:
        status: HTTP status.
        text: for the client, one line.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = tuple(headers)


class Tokens:
    """Bearer tokens, known by their digests only. Nothing of them is in the repr.

    Args:
        tokens: of printable ASCII, `TOKEN_MIN` characters at least.

    Raises:
        ValueError: one cannot be used; it is not shown.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        digests: list[bytes] = []
        for number, token in enumerate(tokens, 1):
            if not _TOKEN.fullmatch(token) or len(token) < TOKEN_MIN:
                raise ValueError(f"token {number} must be of at least {TOKEN_MIN} printable ASCII characters")
            digests.append(hashlib.sha256(token.encode("ascii")).digest())
        if not digests:
            raise ValueError("there is no token")
        self._digests = tuple(digests)

    def __repr__(self) -> str:
        return f"<{len(self._digests)} tokens>"

    @classmethod
    def read(cls, text: str) -> Tokens:
        """From a file's text: one a line; blank lines and lines that begin with # are left out. Raises `ValueError`."""
        lines = (line.strip() for line in text.splitlines())
        return cls(line for line in lines if line and not line.startswith("#"))

    def know(self, token: bytes) -> bool:
        """Whether it is one of them. Takes as long for a near miss as for any other."""
        digest = hashlib.sha256(token).digest()
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found


@dataclass(frozen=True)
class DoorRules:
    """What is asked of a request.

    Attributes:
        path: where the WebSocket is.
        health_path: where an HTTP GET learns how things are; empty for nowhere.
        origins: values of the Origin header that are let in, "*" for any. Without one, only requests without that
            header are, which no browser sends.
        proxies: networks whose word about a client's address is taken.
        forwarded_header: where they put it, one of `FORWARDED_HEADERS`.
    """

    path: str = "/"
    health_path: str = "/health"
    origins: frozenset[str] = frozenset()
    proxies: tuple[Network, ...] = ()
    forwarded_header: str = "x-forwarded-for"

    def __post_init__(self) -> None:
        for path in (self.path, self.health_path or "/"):
            if not re.fullmatch(r"/[!-~]*", path) or "?" in path or "#" in path:
                raise ValueError(f"{path!r} must begin with a slash and be of printable ASCII, without a query")
        if self.path == self.health_path:
            raise ValueError(f"{self.path!r} cannot be both the WebSocket's and the health's path")
        if self.forwarded_header not in FORWARDED_HEADERS:
            raise ValueError(f"{self.forwarded_header!r} must be {' or '.join(FORWARDED_HEADERS)}")
        object.__setattr__(self, "origins", frozenset(_spelled_origin(origin) for origin in self.origins))

    def check(self, target: str, headers: Headers, tokens: Tokens | None) -> None:
        """Whether a request may become a WebSocket.

        Raises:
            Refusal: it may not.
        """
        if target.partition("?")[0] != self.path:
            raise Refusal(404, "there is nothing here")
        origins = _values(headers, b"origin")
        if origins and "*" not in self.origins:
            if len(origins) > 1 or origins[0].decode("latin-1").lower() not in self.origins:
                raise Refusal(403, "this origin is not let in")
        if tokens is not None:
            self._check_token(headers, tokens)

    @staticmethod
    def _check_token(headers: Headers, tokens: Tokens) -> None:
        challenge = [("WWW-Authenticate", 'Bearer realm="zookeeper"')]
        values = _values(headers, b"authorization")
        if not values:
            raise Refusal(401, "a bearer token is needed", challenge)
        scheme, _, token = values[0].partition(b" ")
        if len(values) > 1 or scheme.lower() != b"bearer" or not tokens.know(token.strip()):
            raise Refusal(401, "the bearer token is not known", challenge)

    def client_ip(self, headers: Headers, peer: str) -> str:
        """Who the client is: the peer, or, where that is a trusted proxy, whom it names.

        The addresses are read from the nearest to the farthest, and the first that is no trusted proxy is the client:
        what stands behind it was said by the client itself.

        Raises:
            Refusal: a trusted proxy named no address, or one that is none: its own may be allowed more.
        """
        if not self._trusts(peer):
            return peer
        values = _values(headers, self.forwarded_header.encode("ascii"))
        if not values:
            raise Refusal(400, "a trusted proxy named no address")
        text = b",".join(values).decode("latin-1")
        hops = _forwarded(text) if self.forwarded_header == "forwarded" else text.split(",")
        if len(hops) > HOPS_MAX:
            raise Refusal(400, "too many proxies")
        client = peer
        for hop in reversed(hops):
            client = _address(hop)
            if not self._trusts(client):
                break
        return client

    def _trusts(self, ip: str) -> bool:
        if not self.proxies:
            return False
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in self.proxies if network.version == address.version)


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks like "10.0.0.0/8", or single addresses.

    Raises:
        ValueError: one is none.
    """
    return tuple(ipaddress.ip_network(text.strip()) for text in texts)


def _spelled_origin(origin: str) -> str:
    spelled = origin.strip().lower()
    if spelled not in ("*", "null") and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[!-.0-~]+", spelled):
        raise ValueError(f"{origin!r} is no origin, like https://app.example.net")
    return spelled


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def _forwarded(text: str) -> list[str]:
    """What stands behind each "for=" of a Forwarded header (RFC 7239).

    Nothing that is malformed may be skipped: behind a quote that a client leaves open, what the proxies have added
    would be text of the client's.
    """
    hops: list[str] = []
    named: list[str] = []
    position, mark = 0, ","
    while mark:
        match = _PARAMETER.match(text, position)
        if match is None:
            raise Refusal(400, "a proxy's Forwarded header is malformed")
        key, value, mark = match.groups()
        position = match.end()
        if key is not None and key.lower() == "for":
            named.append(re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value)
        if mark != ";":
            if len(named) != 1:
                raise Refusal(400, "a proxy's Forwarded header names no address")
            hops += named
            named = []
    return hops


def _address(hop: str) -> str:
    """An address that a proxy names, its port left out."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Refusal(400, "a proxy named an address that is none") from None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
