"""What the server in charge does by itself: closing sessions that are over, removing containers and TTL znodes.

Decides what is due and says so as requests, which go the way of every write. When it is asked is the shell's business.
"""

from __future__ import annotations

from terzetto.client.wire.operations import Opcode

from .connection import Request
from .datatree import DataTree
from .sessions import SessionTracker
from .znodes import ttl_of


def close_session(session_id: int) -> Request:
    """A request to close a session and remove its ephemeral znodes."""
    return Request(session_id, 0, Opcode.CLOSE_SESSION, b"")


def overdue_sessions(tracker: SessionTracker, now_ms: int) -> list[Request]:
    """A request for each session that nothing was heard of for too long."""
    return [close_session(session.session_id) for session in tracker.due(now_ms)]


def removable_znodes(tree: DataTree, wall_ms: int, *, unused_ms: int, limit: int) -> list[Request]:
    """A request for each container that is empty and for each TTL znode that is too old and has no children.

    Args:
        tree: where to look.
        wall_ms: the clock that stamps transactions.
        unused_ms: age at which a container goes that never had a child; 0 keeps it.
        limit: the most that one sweep removes.
    """
    due: list[str] = []
    for path in tree.containers:
        node = tree.nodes[path]
        if node.children:
            continue
        # A container that has just been made is there to get children.
        if node.cversion > 0 or (unused_ms and wall_ms - node.mtime > unused_ms):
            due.append(path)
    for path in tree.ttls:
        node = tree.nodes[path]
        ttl_ms = ttl_of(node.ephemeral_owner)
        if not node.children and ttl_ms and wall_ms - node.mtime > ttl_ms:
            due.append(path)
    return [Request(0, 0, Opcode.DELETE_CONTAINER, path.encode()) for path in due[:limit]]
