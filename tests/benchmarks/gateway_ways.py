"""The ways to a server by WebSocket, all at once: gateways as processes of their own, and a server's own door.

Decides how each is started, and that what a client must trust is in its environment. Refuses to know what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.interop.doors import GatewayProcess
from tests.interop.processes import PortReservation

from .gateway_workloads import GATEWAY_WS, GATEWAY_WSS, OWN_WS, TCP, way_to
from .processes import wait_first_answer
from .server_kinds import ServerKind, TerzettoServer
from .server_workloads import IN_MEMORY


@dataclass(frozen=True)
class Ways:
    """The ways that are open.

    Attributes:
        hosts: the connect string of each.
        environment: what the clients' processes need beside their own.
    """

    hosts: Mapping[str, str]
    environment: Mapping[str, str]


def open_gateway(lives: ExitStack, kind: ServerKind, directory: Path) -> tuple[GatewayProcess, int]:
    """A server and a gateway in front of it, until `lives` end; the gateway, and the server's port.

    Raises:
        PeerMissing: there is no ZooKeeper on this machine.
        StartFailed: the server does not answer.
    """
    server = lives.enter_context(kind.serving())
    return GatewayProcess(lives, f"127.0.0.1:{server.port}", directory), server.port


def open_ways(lives: ExitStack, kinds: Sequence[ServerKind], directory: Path) -> Ways:
    """All ways to each of these servers, until `lives` end.

    Raises:
        PeerMissing: there is no ZooKeeper on this machine.
        StartFailed: a server does not answer.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "authority.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(directory / "gateway.pem"))
    hosts: dict[str, str] = {}
    for number, kind in enumerate(kinds):
        plain, port = open_gateway(lives, kind, directory / f"{number}-ws")
        hosts[way_to(kind.name, TCP)] = f"127.0.0.1:{port}"
        hosts[way_to(kind.name, GATEWAY_WS)] = plain.url
        certificate = ["--tls-cert", str(directory / "gateway.pem")]
        secure = GatewayProcess(lives, f"127.0.0.1:{port}", directory / f"{number}-wss", certificate)
        hosts[way_to(kind.name, GATEWAY_WSS)] = secure.url
        if kind.name == IN_MEMORY:
            hosts[way_to(kind.name, OWN_WS)] = _open_own_door(lives, kind, directory / f"{number}-own")
    return Ways(hosts, {"SSL_CERT_FILE": str(directory / "authority.pem")})


def _open_own_door(lives: ExitStack, kind: ServerKind, directory: Path) -> str:
    """A server in memory with a door of its own; where that is."""
    client_port, door_port = PortReservation(), PortReservation()
    lives.callback(door_port.close)
    arguments = ["ensemble", "--base-port", str(client_port.port), "--tick-time", "2"]
    arguments += ["--set", f"webSocketPort={door_port.port}", "--set", "webSocketAddress=127.0.0.1"]
    server = TerzettoServer(directory, client_port, arguments, kind.environment)
    lives.callback(server.close)
    server.start()
    wait_first_answer(server)
    return f"ws://127.0.0.1:{door_port.port}/"
