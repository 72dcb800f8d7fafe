"""What the session itself asks a server about watches, besides the reads and registrations of its users. Sans-IO.

Takes registrations back without harm to others, and looks back where a path may have gone unwatched for a moment: a
removal strips a connection's whole path, also of what a read still under way has registered, and a one-shot watch that
counted on a persistent one may find it gone. What happened in such a moment is asked for, so nothing is missed; a
one-shot watch may in return be told of a change that its own read has seen already.

Knows the table and who sends; no phase, no link, no bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ._pending import Request
from ._watches import Command, Watchers, WatchTable
from .errors import NoNodeError
from .values import AddWatchMode, WatcherType
from .wire.operations import ADD_WATCH, REMOVE_WATCHES, Operation

After = Callable[[Request, int], None]


class WatchRequests:
    """See the module.

    Args:
        watches: the table of what is registered.
        send: queues a request of the session's own behind all others; `None` where there is no connection, and so
            nothing to ask.
        tell: hands an event to watchers: (event type, path, watchers).
    """

    def __init__(
        self,
        watches: WatchTable,
        send: Callable[[Operation, tuple[Any, ...]], Request | None],
        tell: Callable[[str, str, Watchers], None],
    ) -> None:
        self._watches = watches
        self._send = send
        self._tell = tell
        # From which zxid on each unanswered look back sees, oldest first.
        self._looking_back: deque[int] = deque()

    def read(self, kind: str, path: str, watcher: Any) -> tuple[bool, After]:
        """For a read that leaves a one-shot watch: the flag to send, and what registers the watch (`Request.after`).

        `kind` is "data", "exist" or "child".
        """
        ask_server, bared = not self._watches.covered(path), self._watches.bared

        def register(request: Request, zxid: int) -> None:
            actual = kind
            if request.error is not None:
                if kind != "exist" or not isinstance(request.error, NoNodeError):
                    return
            elif kind == "exist":
                actual = "data"
            self._watches.register(actual, path, watcher)
            if not ask_server and bared != self._watches.bared:
                # The persistent watch that was to serve this one may have gone in the meantime.
                self._look_back(path, WatcherType.ANY, zxid)

        return ask_server, register

    def discard(self, path: str, mode: AddWatchMode, watcher: Any) -> None:
        """Takes one registration of a persistent watcher off and tells the server."""
        self._give(self._watches.discard_persistent(path, mode, watcher))

    def remove(self, path: str, kind: WatcherType) -> tuple[bool, list[Request]]:
        """Takes all watchers of a kind off a path and tells them and the server.

        Returns:
            Whether there were any, and the requests that tell the server.
        """
        told, commands = self._watches.remove(path, kind)
        for event_type, watchers in told:
            self._tell(event_type, path, watchers)
        return bool(told), self._give(commands)

    def lost(self, last_zxid: int) -> int:
        """The connection is gone, and what was to be looked back at with it; returns from which zxid on to look now."""
        since = min([last_zxid, *self._looking_back])
        self._looking_back.clear()
        return since

    def _give(self, commands: list[Command]) -> list[Request]:
        requests: list[Request] = []
        for operation, fields in commands:
            request = self._send(operation, fields)
            if request is None:
                continue
            if operation is ADD_WATCH:
                request.after = self._gave_way(fields[0])
            elif operation is REMOVE_WATCHES:
                request.after = self._removed(*fields)
            requests.append(request)
        return requests

    def _gave_way(self, path: str) -> After:
        return lambda _request, _zxid: self._watches.left(path)

    def _removed(self, path: str, kind: int) -> After:
        return lambda _request, zxid: self._look_back(path, kind, zxid)

    def _look_back(self, path: str, kind: int, since: int) -> None:
        """After a moment without a registration for the path, that began with the transaction `since`."""
        for operation, fields in self._watches.look_back(path, kind, since):
            request = self._send(operation, fields)
            if request is not None:
                self._looking_back.append(since)
                request.after = self._looked_back(path, since)

    def _looked_back(self, path: str, since: int) -> After:
        def compare(request: Request, zxid: int) -> None:
            self._looking_back.popleft()
            if request.value is not None or isinstance(request.error, NoNodeError):
                stat = None if request.value is None else request.value.stat
                for event_type, watchers in self._watches.missed(path, since, stat):
                    self._tell(event_type, path, watchers)

        return compare
