"""The connect string, and the order in which servers are tried.

Knows no sockets: names are resolved by the transport, at every dial. Chance comes from a `random.Random`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

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
        url: the entry as given, for WebSocket gateways ("ws://..."); `None` for a plain server.
    """

    host: str
    port: int
    server_name: str
    url: str | None = None

    def __str__(self) -> str:
        if self.url is not None:
            return self.url
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_hosts(hosts: str | Iterable[str]) -> tuple[list[Endpoint], str | None]:
    """Reads a connect string or a list of its entries.

    Args:
        hosts: "h1:p1,h2:p2/chroot", "[::1]:2181", or a list of "h:p" whose last item may be "/chroot".

    Returns:
        Endpoints in the order given, and the chroot, `None` without one.

    Raises:
        ConfigurationError: names the entry and what is wrong with it.
    """
    if isinstance(hosts, str):
        entries, chroot = _split_string(hosts)
    else:
        entries = list(hosts)
        for entry in entries:
            if not isinstance(entry, str):
                raise ConfigurationError(f"every host must be a str like 'host:port', not {entry!r}")
        chroot = entries.pop() if entries and entries[-1].startswith("/") else None
    if chroot is not None:
        try:
            check_path(chroot, "chroot")
        except ValueError as error:
            raise ConfigurationError(f"{error}, in hosts {hosts!r}") from None
    endpoints = [_parse_entry(entry.strip(), hosts) for entry in entries]
    if not endpoints:
        raise ConfigurationError(f"hosts {hosts!r} name no server; expected 'host:port,host:port/chroot'")
    return endpoints, chroot if chroot != "/" else None


def _split_string(hosts: str) -> tuple[list[str], str | None]:
    if "://" in hosts:
        return hosts.split(","), None
    text, slash, path = hosts.partition("/")
    return text.split(","), "/" + path if slash and path else None


def _parse_entry(entry: str, hosts: object) -> Endpoint:
    if "://" in entry:
        raise ConfigurationError(f"{entry!r} in hosts {hosts!r}: this scheme of address is not supported")
    if not entry:
        raise ConfigurationError(f"empty entry in hosts {hosts!r}; expected 'host:port'")
    if entry.startswith("["):
        host, bracket, rest = entry[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigurationError(f"{entry!r} in hosts {hosts!r}: expected '[address]:port'")
        port = rest[1:]
        has_port = bool(rest)
    else:
        host, colon, port = entry.partition(":")
        has_port = bool(colon)
        if ":" in port:
            raise ConfigurationError(f"{entry!r} in hosts {hosts!r}: an IPv6 address stands in brackets, '[::1]:2181'")
    if not host or any(character.isspace() or not character.isprintable() for character in host):
        raise ConfigurationError(f"{entry!r} in hosts {hosts!r}: expected a host name or address before the port")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ConfigurationError(f"{entry!r} in hosts {hosts!r}: {host!r} is no host name: {error}") from None
    return Endpoint(host, _parse_port(port, entry, hosts) if has_port else DEFAULT_PORT, host)


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
