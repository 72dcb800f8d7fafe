"""The connect string, and the order in which servers are tried.

Knows no sockets: names are resolved by the transport, at every dial. Chance comes from a `random.Random`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .errors import ConfigurationError
from .paths import check_path

DEFAULT_PORT = 2181


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server as it stands in the connect string, or one address of it.

    Attributes:
        host: name or address, without brackets.
        port: TCP port.
        server_name: the name that its TLS certificate must carry.
        url: of a WebSocket gateway, "ws://host:port/path", without its query; `None` for a plain server.
        query: what stands behind the question mark there. It may be a secret, and is never shown.
    """

    host: str
    port: int
    server_name: str
    url: str | None = None
    query: str = field(default="", repr=False)

    @property
    def is_secure(self) -> bool:
        """Whether it is reached by way of wss://."""
        return self.url is not None and self.url.startswith("wss:")

    @property
    def resource(self) -> str:
        """Path and query of a gateway, as its HTTP request names them."""
        path = urlsplit(self.url or "").path or "/"
        return f"{path}?{self.query}" if self.query else path

    def __str__(self) -> str:
        if self.url is not None:
            return self.url
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_hosts(hosts: str | Iterable[str]) -> tuple[list[Endpoint], str | None]:
    """Reads a connect string or a list of its entries.

    Args:
        hosts: "h1:p1,h2:p2/chroot", "[::1]:2181", or a list of "h:p" whose last item may be "/chroot". Entries may be
            WebSocket gateways, "ws://host:port/path" or "wss://..."; a chroot cannot stand beside those. In a string a
            comma within a query is written "%2C".

    Returns:
        Endpoints in the order given, and the chroot, `None` without one.

    Raises:
        ConfigurationError: names the entry and what is wrong with it.
    """
    given: object = hosts
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise ConfigurationError(f"hosts must be 'host:port,host:port' or a list of str, not {type(hosts).__name__}")
    if isinstance(hosts, str):
        entries, chroot = _split_string(hosts)
    else:
        entries = list(hosts)
        for entry in entries:
            if not isinstance(entry, str):
                raise ConfigurationError(f"every host must be a str like 'host:port', not {entry!r}")
        chroot = entries.pop() if entries and entries[-1].startswith("/") else None
        if chroot is not None and any("://" in entry for entry in entries):
            raise ConfigurationError(f"{chroot!r} in hosts: {_CHROOT_BESIDE}")
    shown = _redacted(hosts, entries)
    if chroot is not None:
        try:
            check_path(chroot, "chroot")
        except ValueError as error:
            raise ConfigurationError(f"{error}, in hosts {shown!r}") from None
    endpoints = [_parse_entry(entry.strip(), shown) for entry in entries]
    if not endpoints:
        raise ConfigurationError(f"hosts {hosts!r} name no server; expected 'host:port,host:port/chroot'")
    return endpoints, chroot if chroot != "/" else None


def _split_string(hosts: str) -> tuple[list[str], str | None]:
    if "://" in hosts:
        return hosts.split(","), None
    text, slash, path = hosts.partition("/")
    return text.split(","), "/" + path if slash and path else None


_CHROOT_BESIDE = "beside ws:// and wss:// entries the chroot is given by chroot="
_URL_PORTS = {"ws": 80, "wss": 443}
_RESOURCE = re.compile(r"[!-~]*")


def _redacted(hosts: object, entries: list[str]) -> object:
    """What messages may show: addresses of gateways may hold credentials, and so may those that mean to be one."""
    if not any("://" in entry or "@" in entry for entry in entries):
        return hosts
    shown = [_shown(entry) for entry in entries]
    return ",".join(shown) if isinstance(hosts, str) else shown


def _shown(entry: str) -> str:
    scheme, mark, rest = entry.partition("://")
    if not mark:
        return entry if "@" not in entry else f"...@{entry.rpartition('@')[2]}"
    place = re.split("[?#]", rest, maxsplit=1)[0]
    authority, slash, path = place.partition("/")
    _, at, name = authority.rpartition("@")
    if "@" in rest and not at:
        # A password with one of "/?#" in it ends the authority: its beginning stands where a port does.
        return f"{scheme}://..."
    host, colon, port = name.partition(":")
    if colon and not name.startswith("[") and not port.isdigit():
        # And so does that of one with a comma.
        name = f"{host}:..."
    return f"{scheme}://{'...@' if at else ''}{name}{slash}{path}"


def _parse_url(entry: str) -> Endpoint:
    where = f"{_shown(entry)!r} in hosts"
    if any(character in entry for character in "\t\r\n"):
        # `urlsplit` leaves them out, and would name another host.
        raise ConfigurationError(f"{where}: a URL has no tabs and no line ends")
    scheme = entry.partition(":")[0].lower()
    if scheme not in _URL_PORTS:
        meant = {"http": "; did you mean ws://?", "https": "; did you mean wss://?"}.get(scheme, "")
        raise ConfigurationError(f"{where}: only ws:// and wss:// are known{meant}")
    try:
        parts = urlsplit(entry)
        port = parts.port
        host = parts.hostname
        "".join(host or "").encode("idna")
    except (ValueError, UnicodeError):
        # What the parser has to say may quote credentials.
        raise ConfigurationError(f"{where}: expected '{scheme}://host:port/path'") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{where}: credentials belong into websocket=WebSocketOptions(...), not the address")
    if not host or any(character.isspace() or not character.isprintable() for character in host) or port == 0:
        raise ConfigurationError(f"{where}: expected '{scheme}://host:port/path'")
    if parts.fragment or not _RESOURCE.fullmatch(parts.path) or not _RESOURCE.fullmatch(parts.query):
        raise ConfigurationError(f"{where}: path and query are of printable ASCII, without a fragment")
    number = _URL_PORTS[scheme] if port is None else port
    bracketed = f"[{host}]" if ":" in host else host
    return Endpoint(host, number, host, f"{scheme}://{bracketed}:{number}{parts.path or '/'}", parts.query)


def _parse_entry(entry: str, hosts: object) -> Endpoint:
    if "://" in entry:
        return _parse_url(entry)
    name = _shown(entry)
    if "/" in entry:
        raise ConfigurationError(f"{name!r} in hosts {hosts!r}: {_CHROOT_BESIDE}")
    if not entry:
        raise ConfigurationError(f"empty entry in hosts {hosts!r}; expected 'host:port'")
    if entry.startswith("["):
        host, bracket, rest = entry[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigurationError(f"{name!r} in hosts {hosts!r}: expected '[address]:port'")
        port = rest[1:]
        has_port = bool(rest)
    else:
        host, colon, port = entry.partition(":")
        has_port = bool(colon)
        if ":" in port:
            raise ConfigurationError(f"{name!r} in hosts {hosts!r}: an IPv6 address stands in brackets, '[::1]:2181'")
    if not host or any(character.isspace() or not character.isprintable() for character in host):
        raise ConfigurationError(f"{name!r} in hosts {hosts!r}: expected a host name or address before the port")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ConfigurationError(f"{name!r} in hosts {hosts!r}: {host!r} is no host name: {error}") from None
    return Endpoint(host, _parse_port(port, name, hosts) if has_port else DEFAULT_PORT, host)


def _parse_port(text: str, entry: str, hosts: object) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ConfigurationError(f"{entry!r} in hosts {hosts!r}: port {text!r} is not a number from 1 to 65535")
    return int(text)


class HostList:
    """The servers to try, shuffled anew for every round so that clients spread over the ensemble."""

    def __init__(self, endpoints: list[Endpoint], rng: random.Random, *, shuffle: bool = True) -> None:
        self.endpoints = endpoints
        self.shuffle = shuffle
        self._rng = rng

    def __len__(self) -> int:
        return len(self.endpoints)

    def next_round(self) -> list[Endpoint]:
        """Every server once."""
        order = list(self.endpoints)
        if self.shuffle:
            self._rng.shuffle(order)
        return order
