"""States, events and Stats, as `kazoo.protocol.states` has them: the client's own classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...values import EVENT_TYPE_MAP, EventType, KazooState, KeeperState, WatchedEvent, ZnodeStat

__all__ = [
    "EVENT_TYPE_MAP",
    "Callback",
    "EventType",
    "KazooState",
    "KeeperState",
    "WatchedEvent",
    "ZnodeStat",
]


class Callback(NamedTuple):
    """A call that a handler is to make on its worker: `func(*args)`. `type` is "watch"."""

    type: str | None
    func: Callable[..., Any]
    args: tuple[Any, ...]
