"""What is measured of WebSockets, how much of it, and what is to be reached.

Decides the ways to a server (TCP, and WebSockets with and without TLS through a gateway or a server's own door), the
workloads, which are those of the clients, and the goals. Refuses to know how a gateway is started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .server_workloads import IN_MEMORY, JAVA
from .workloads import WORKLOADS, Effort, Goal, Workload

TCP = "TCP"
GATEWAY_WS, GATEWAY_WSS = "ws through the gateway", "wss through the gateway"
OWN_WS = "ws at the server's own door"
SERVERS_BEHIND = (JAVA, IN_MEMORY)


def way_to(server: str, way: str) -> str:
    """As results and people name it."""
    return f"{server}, {way}"


WAYS = (
    *(way_to(server, way) for server in SERVERS_BEHIND for way in (TCP, GATEWAY_WS, GATEWAY_WSS)),
    way_to(IN_MEMORY, OWN_WS),
)
GATEWAY = "the gateway"
"""Whose memory is read, and how many clients it holds."""


class Extent(NamedTuple):
    """How much a run does with many clients.

    Attributes:
        clients: that are connected at once.
        timeout: of their sessions, in seconds; each pings three times as often.
        seconds: that they are held.
    """

    clients: int
    timeout: float
    seconds: float


EXTENTS = {
    Effort.FULL: Extent(1000, 10.0, 10.0),
    Effort.QUICK: Extent(1000, 6.0, 4.0),
    Effort.TINY: Extent(20, 3.0, 1.5),
}


@dataclass(frozen=True)
class GatewayWorkload:
    """One thing that is measured of WebSockets.

    Attributes:
        name: on the command line.
        kind: how it is measured.
        ways: those that take part.
        client: what the client does, of reads.
    """

    name: str
    kind: Literal["reads", "held"]
    ways: tuple[str, ...]
    client: Workload | None = None

    @property
    def has_lives(self) -> bool:
        """It is not measured in each round."""
        return self.kind == "held"

    def base_of(self, way: str) -> str | None:
        """The way that it is compared with: TCP, to the same server."""
        server, _, how = way.rpartition(", ")
        return None if how in (TCP, GATEWAY) else way_to(server, TCP)

    def describe(self, effort: Effort) -> str:
        """The title with the size of the run."""
        if self.client is None:
            return f"{EXTENTS[effort].clients:,} clients on one gateway, each with a session that pings"
        return self.client.describe(effort)


GATEWAY_WORKLOADS = (
    *(
        GatewayWorkload(f"gateway-{workload.name}", "reads", WAYS, workload)
        for workload in WORKLOADS
        if workload.reads_only
    ),
    GatewayWorkload("gateway-held", "held", (GATEWAY,)),
)

GATEWAY_GOALS = (
    *(
        Goal(workload.name, "rate", way_to(server, TCP), 0.5, at_most=False, of=way_to(server, way))
        for workload in GATEWAY_WORKLOADS
        if workload.kind == "reads"
        for server in SERVERS_BEHIND
        for way in (GATEWAY_WS, GATEWAY_WSS)
    ),
    Goal("gateway-held", "held", None, 1000, at_most=False, of=GATEWAY),
)
