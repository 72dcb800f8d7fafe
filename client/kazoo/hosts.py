"""The connect string, read as `kazoo.hosts` does."""

from __future__ import annotations

from collections.abc import Iterable

from .._hosts import Endpoint, parse_hosts


def read_hosts(hosts: str | Iterable[str]) -> tuple[list[Endpoint], str | None]:
    """As `collect_hosts`, with the native client's endpoints."""
    return parse_hosts(hosts if isinstance(hosts, str) else [entry.strip() for entry in hosts])


def collect_hosts(hosts: str | Iterable[str]) -> tuple[list[tuple[str, int]], str | None]:
    """The servers of a connect string as (host, port), and its chroot, `None` without one.

    Args:
        hosts: "h1:p1,h2:p2/chroot", "[::1]:2181", or a list of "h:p" whose last item may be "/chroot".

    Raises:
        ConfigurationError: an entry that cannot be read (a `ValueError`, which is what kazoo raises).
    """
    endpoints, chroot = read_hosts(hosts)
    return [(endpoint.host, endpoint.port) for endpoint in endpoints], chroot
