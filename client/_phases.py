"""The phases of a session and every legal move between them, as data.

The table is all there is: the session moves through one door that consults it, the documentation draws it, a test
asserts that each phase is reachable and each row is exercised.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Phase(enum.Enum):
    """Where a session stands."""

    DISCONNECTED = enum.auto()
    HANDSHAKING = enum.auto()
    RESTORING = enum.auto()
    CONNECTED = enum.auto()
    EXPIRED = enum.auto()
    AUTH_FAILED = enum.auto()
    CLOSED = enum.auto()


class Input(enum.Enum):
    """What moves a session from phase to phase."""

    LINK_UP = enum.auto()
    ACCEPTED = enum.auto()
    REJECTED = enum.auto()
    RESTORED = enum.auto()
    AUTH_REFUSED = enum.auto()
    LINK_LOST = enum.auto()
    RENEWED = enum.auto()
    CLOSED = enum.auto()


TRANSITIONS: Mapping[Phase, Mapping[Input, Phase]] = {
    Phase.DISCONNECTED: {
        Input.LINK_UP: Phase.HANDSHAKING,
        Input.REJECTED: Phase.EXPIRED,
        Input.CLOSED: Phase.CLOSED,
    },
    Phase.HANDSHAKING: {
        Input.ACCEPTED: Phase.RESTORING,
        Input.REJECTED: Phase.EXPIRED,
        Input.LINK_LOST: Phase.DISCONNECTED,
        Input.CLOSED: Phase.CLOSED,
    },
    Phase.RESTORING: {
        Input.RESTORED: Phase.CONNECTED,
        Input.AUTH_REFUSED: Phase.AUTH_FAILED,
        Input.LINK_LOST: Phase.DISCONNECTED,
        Input.CLOSED: Phase.CLOSED,
    },
    Phase.CONNECTED: {
        Input.AUTH_REFUSED: Phase.AUTH_FAILED,
        Input.LINK_LOST: Phase.DISCONNECTED,
        Input.CLOSED: Phase.CLOSED,
    },
    Phase.EXPIRED: {Input.RENEWED: Phase.DISCONNECTED, Input.CLOSED: Phase.CLOSED},
    Phase.AUTH_FAILED: {Input.CLOSED: Phase.CLOSED},
    Phase.CLOSED: {},
}
"""Every legal move. EXPIRED is left at once where the session may be renewed; CLOSED is final."""

TERMINAL = frozenset({Phase.EXPIRED, Phase.AUTH_FAILED, Phase.CLOSED})
