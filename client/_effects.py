"""What the session asks its shell to do, and what it is told once at the start. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ._pending import Request
from ._watches import Watchers
from .errors import KazooException
from .values import WatchedEvent


class SaslMechanism(Protocol):
    """One SASL conversation, client side; no I/O."""

    def initial(self) -> bytes:
        """The first token, empty where the mechanism starts with the server's challenge."""
        ...

    def respond(self, challenge: bytes | None) -> bytes | None:
        """The answer to a server's token, `None` when the conversation is complete. Raises `AuthFailedError`."""
        ...


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What does not change during a client's life. Times in seconds, sizes in bytes."""

    session_timeout: float = 10.0
    read_only: bool = False
    client_id: tuple[int, bytes] | None = field(default=None, repr=False)
    auth: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    max_reply_size: int = 16 * 1024 * 1024
    max_in_flight: int = 16_384
    renew_session: bool = True
    sasl: Callable[[], SaslMechanism] | None = None


@dataclass(frozen=True, slots=True)
class Deliver:
    """Tell these watchers of an event; its path is absolute."""

    event: WatchedEvent
    watchers: Watchers


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The session's state is another now."""

    state: str
    keeper_state: str


@dataclass(frozen=True, slots=True)
class DropLink:
    """Close the connection, then report `link_lost` with this error."""

    error: KazooException


Effect = list[Request] | Deliver | StateChanged | DropLink
"""A plain list holds requests whose outcome is known, in order: the common effect, so the one without an object each.

"""
