"""Follows the ensemble's own configuration, so that a client knows the servers which have joined since it was started.

Opt-in (`track_ensemble`): the addresses in the configuration are those that servers give for themselves, which need not
be reachable from everywhere.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ._hosts import Endpoint, HostList
from .errors import ConnectionClosedError, ConnectionLoss, KazooException, SessionExpiredError
from .values import WatchedEvent

if TYPE_CHECKING:
    from ._client import ZooKeeper

log = logging.getLogger("terzetto.client")

ANY_ADDRESSES = frozenset({"", "0.0.0.0", "::", "0:0:0:0:0:0:0:0"})


def client_endpoints(config: str) -> list[Endpoint]:
    """Client addresses of the members in a configuration text.

    "server.1=host:2888:3888:participant;clienthost:2181": a client host of 0.0.0.0 or none stands for the server's own
    host. Members without a client address (static configurations) are left out, and so is what cannot be read.
    """
    found: list[Endpoint] = []
    for line in config.splitlines():
        key, equals, member = line.strip().partition("=")
        if not equals or not key.startswith("server."):
            continue
        server, semicolon, client = member.partition(";")
        if not semicolon:
            continue
        host, _, port = client.partition(";")[0].rpartition(":")
        host = host.strip("[]")
        if host in ANY_ADDRESSES:
            own = server.split("|")[0]
            host = own[1:].partition("]")[0] if own.startswith("[") else own.partition(":")[0]
        if host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535:
            found.append(Endpoint(host, int(port), host))
    return found


async def follow_ensemble(client: ZooKeeper, hosts: HostList) -> None:
    """Reads the configuration now and after each change, and hands the members to the host list; ends with the client.

    The servers of the connect string stay known: they may be reachable where the members' own addresses are not.
    """
    given = list(hosts.endpoints)
    while True:
        changed = trio.Event()

        def tell(_: WatchedEvent, changed: trio.Event = changed) -> None:
            changed.set()

        try:
            data, _ = await client.get_config(watch=tell)
        except ConnectionClosedError:
            return
        except (ConnectionLoss, SessionExpiredError) as error:
            if client.is_over:
                log.info("the ensemble's configuration is followed no more: %s", error)
                return
            await trio.lowlevel.checkpoint()
            continue
        except KazooException as error:
            log.warning("the ensemble's configuration cannot be followed: %s", error)
            return
        endpoints = client_endpoints((data or b"").decode("utf-8", "replace"))
        if endpoints:
            hosts.endpoints = list(dict.fromkeys([*endpoints, *given]))
        await changed.wait()
