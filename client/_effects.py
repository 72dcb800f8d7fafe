"""What the session asks its shell to do, and what it is told once at the start. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ._pending import Request
from ._watches import Watchers
from .errors import AuthFailedError, ConnectionLoss, KazooException
from .values import WatchedEvent


class SaslMechanism(Protocol):
    """One SASL conversation, client side."""

    @property
    def blocks(self) -> bool:
        """Whether its methods may wait for something outside (a Kerberos server): then they are called in a thread."""
        ...

    def initial(self) -> bytes:
        """The first token, empty where the mechanism starts with the server's challenge."""
        ...

    def respond(self, challenge: bytes | None) -> bytes | None:
        """The answer to a server's token (`None`: the server sent none), `None` when the conversation is complete.

        Raises:
            AuthFailedError: the server, or the credentials, will not do; no other attempt would fare better.
            OSError: something outside cannot be reached now; another connection will be tried.
        """
        ...


TurnOutcome = bytes | None | KazooException
"""The token to send, `None` when nothing is left to say, or why there is none."""


@dataclass(frozen=True, eq=False)
class SaslTurn:
    """One turn of a mechanism: the shell calls `take` in a thread, and reports the outcome to the session."""

    _mechanism: SaslMechanism = field(repr=False)
    _challenge: bytes | None = field(repr=False)
    is_first: bool = False

    @property
    def blocks(self) -> bool:
        """Whether `take` may wait for something outside."""
        return self._mechanism.blocks

    def take(self) -> TurnOutcome:
        """Asks the mechanism."""
        try:
            return self._mechanism.initial() if self.is_first else self._mechanism.respond(self._challenge)
        except AuthFailedError as error:
            return error
        except OSError as error:
            lost = ConnectionLoss(f"SASL could not be tried: {error}")
            lost.__cause__ = error
            return lost
        except Exception as error:  # noqa: BLE001 - the mechanism is not ours; whatever it cannot do is a refusal
            return AuthFailedError(f"SASL failed: {error!r}")


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
    sasl: Callable[[str], SaslMechanism] | None = field(default=None, repr=False)


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


Effect = list[Request] | Deliver | StateChanged | DropLink | SaslTurn
"""A plain list holds requests whose outcome is known, in order: the common effect, so the one without an object each.

"""
