"""Names that programs take from kazoo's connection module: what test harnesses give to `KazooClient._call`, and codes.

The connection itself is the native client's and has nothing of this.
"""

from __future__ import annotations

CREATED_EVENT = 1
DELETED_EVENT = 2
CHANGED_EVENT = 3
CHILD_EVENT = 4

WATCH_XID = -1
PING_XID = -2
AUTH_XID = -4
CLOSE_RESPONSE = -11


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


_SESSION_EXPIRED = _Sentinel("_SESSION_EXPIRED")
"""`client._call(_SESSION_EXPIRED, None)` ends the session, on the server too, so that its ephemerals go."""

_CONNECTION_DROP = _Sentinel("_CONNECTION_DROP")
"""`client._call(_CONNECTION_DROP, None)` cuts the connection; the session goes on at the next one."""

__all__ = [
    "AUTH_XID",
    "CHANGED_EVENT",
    "CHILD_EVENT",
    "CLOSE_RESPONSE",
    "CREATED_EVENT",
    "DELETED_EVENT",
    "PING_XID",
    "WATCH_XID",
    "_CONNECTION_DROP",
    "_SESSION_EXPIRED",
]
