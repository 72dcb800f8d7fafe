"""One member of an ensemble as `server.N` lines of a configuration spell it. Knows the text's form and no network."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """One `server.N` line.

    Attributes:
        sid: server id, 0 to 254.
        addresses: (host, quorum port, election port), several where the line has alternatives.
        observer: it has no vote.
        client_host: where clients connect, None where the line does not say.
        client_port: 0 where the line does not say.
    """

    sid: int
    addresses: tuple[tuple[str, int, int], ...]
    observer: bool = False
    client_host: str | None = None
    client_port: int = 0

    def __str__(self) -> str:
        places = "|".join(f"{_bracketed(host)}:{quorum}:{election}" for host, quorum, election in self.addresses)
        text = f"server.{self.sid}={places}:{'observer' if self.observer else 'participant'}"
        if self.client_port:
            text += f";{_bracketed(self.client_host or '0.0.0.0')}:{self.client_port}"
        return text


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def parse_member(sid: int, text: str) -> Member:
    """A member from the value of its `server.N`: `host:quorum:election[:role][;[host:]port]`.

    Raises:
        ValueError: it has no such form.
    """
    places, semicolon, client = text.strip().partition(";")
    addresses: list[tuple[str, int, int]] = []
    roles: set[str] = set()
    for place in places.split("|"):
        parts = _split_address(place.strip())
        if len(parts) not in (3, 4):
            raise ValueError(f"must be host:quorumPort:electionPort[:role][;[host:]clientPort], not {text!r}")
        quorum, election = _port(parts[1]), _port(parts[2])
        if quorum == election:
            raise ValueError(f"has one port, {quorum}, for quorum and election")
        if not parts[0]:
            raise ValueError(f"has no host in {text!r}")
        addresses.append((parts[0], quorum, election))
        roles.update(part.lower() for part in parts[3:])
    if len(roles) > 1 or not roles <= {"participant", "observer"}:
        raise ValueError(f"has the role {' and '.join(sorted(roles))}; it must be participant or observer")
    host: str | None = None
    port = 0
    if semicolon:
        *hosts, last = _split_address(client.strip())
        if len(hosts) > 1:
            raise ValueError(f"has the client address {client!r}; it must be [host:]port")
        host, port = (hosts[0] if hosts else "0.0.0.0"), _port(last)
    return Member(sid, tuple(addresses), "observer" in roles, host, port)


def _split_address(text: str) -> list[str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise ValueError(f"has {host!r} in brackets, which is no IPv6 address") from None
        if not bracket:
            raise ValueError(f"has an unclosed bracket in {text!r}")
        return [host, *rest.removeprefix(":").split(":")]
    return text.split(":")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"has the port {text!r}; it must be between 1 and 65535")
    return int(text)
