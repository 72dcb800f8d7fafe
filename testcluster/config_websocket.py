"""The keys of a configuration that open a server's WebSocket door.

Decides what they mean together. They are terzetto's own: ZooKeeper has no such door. Refuses to open anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .websocket_rules import DoorRules, Network


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketSettings:
    """A server's WebSocket doors; addresses as with the client ports.

    Attributes:
        port: `webSocketPort`, without TLS; 0 is a free one, `None` no door.
        address: `webSocketAddress`; empty for every interface.
        secure_port: `secureWebSocketPort`, with the client port's `ssl.*` keys.
        secure_address: `secureWebSocketAddress`.
        path: `webSocketPath`.
        origins: `webSocketOrigins`.
        token_file: `webSocketTokenFile`.
        proxies: `webSocketTrustedProxies`.
        forwarded_header: `webSocketForwardedHeader`.
    """

    port: int | None = None
    address: str = ""
    secure_port: int | None = None
    secure_address: str = ""
    path: str = "/"
    origins: tuple[str, ...] = ()
    token_file: Path | None = None
    proxies: tuple[Network, ...] = ()
    forwarded_header: str = "x-forwarded-for"

    @property
    def is_open(self) -> bool:
        """Whether there is a door at all."""
        return self.port is not None or self.secure_port is not None

    def mistakes(self) -> list[str]:
        """What cannot be used."""
        try:
            self.rules()
        except ValueError as error:
            return [f"webSocketPath, webSocketOrigins or webSocketForwardedHeader: {error}"]
        return []

    def rules(self) -> DoorRules:
        """Who may come in.

        Raises:
            ValueError: the path or an origin cannot be used.
        """
        return DoorRules(
            path=self.path,
            origins=frozenset(self.origins),
            proxies=self.proxies,
            forwarded_header=self.forwarded_header,
        )
