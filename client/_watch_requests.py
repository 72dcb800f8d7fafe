"""What the session itself asks a server about watches, besides the reads of its users. Sans-IO.

Takes registrations back without harm to others, and looks back where a path may have gone unwatched for a moment: a
removal strips a connection's whole path, also of what a read still under way has registered, and a one-shot watch that
counted on a persistent one may find it gone. What happened in such a moment is asked for, so that nothing is missed.

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
from .wire.operations import REMOVE_WATCHES, Operation

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
        # For each unanswered look back the zxid of the moment that it looks back to, oldest first.
        self._looking_back: deque[int] = deque()

    def read(self, kind: str, path: str, watcher: Any) -> tuple[bool, After]:
        """For a read that leaves a one-shot watch: the flag to send, and what registers the watch (`Request.after`).

        `kind` is "data", "exist" or "child".
        """
        ask_server, bared = not self._watches.covered(path), self._watches.bared

        def register(request: Request, zxid: int) -> None:
            if request.withdrawn:
                return  # its caller left, and expects nothing; the server's one event will find nobody
            actual = kind
            if request.error is not None:
                if kind != "exist" or not isinstance(request.error, NoNodeError):
                    return
            elif kind == "exist":
                actual = "data"
            self._watches.register(actual, path, watcher, zxid)
            if not ask_server and bared != self._watches.bared:
                # The persistent watch that was to serve this one may have gone in the meantime.
                self._look_back(path, WatcherType.ANY, zxid)

        return ask_server, register

    def add(self, path: str, mode: AddWatchMode, watcher: Any) -> tuple[int, After, Callable[[], None]]:
        """Registers a persistent watcher, to be followed by an addWatch.

        Returns:
            The mode to ask for, what the answer means (`Request.after`), and what takes the registration back when the
            request fails in any other way.
        """
        operation, (_, number) = self._watches.add_persistent(path, mode, watcher)
        registered = True

        def take_back() -> None:
            nonlocal registered
            if registered:
                registered = False
                self.discard(path, mode, watcher)

        def answered(request: Request, zxid: int) -> None:
            if request.error is None:
                self._watches.answered(operation, path, number)
            else:
                # At once, so that reads which are answered later look for themselves.
                take_back()

        return number, answered, take_back

    def discard(self, path: str, mode: AddWatchMode | None, watcher: Any) -> None:
        """Takes one registration of a persistent watcher off, or with mode `None` a one-shot one; tells the server."""
        if mode is None:
            self._give(self._watches.discard_oneshot(path, watcher))
        else:
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
        """The connection is gone, and with it what was to be looked at; returns from which zxid on to look now."""
        since = min([last_zxid, *self._looking_back])
        self._looking_back.clear()
        return since

    def _give(self, commands: list[Command]) -> list[Request]:
        requests: list[Request] = []
        for operation, fields in commands:
            request = self._send(operation, fields)
            if request is not None:
                request.after = self._given(operation, *fields)
                requests.append(request)
        return requests

    def _given(self, operation: Operation, path: str, number: int) -> After:
        def answered(request: Request, zxid: int) -> None:
            if request.error is None:
                self._watches.answered(operation, path, number)
            if operation is REMOVE_WATCHES:
                self._look_back(path, number, zxid)

        return answered

    def _look_back(self, path: str, kind: int, since: int) -> None:
        """After a moment without a registration for the path, that began with the transaction `since`."""
        for operation, fields in self._watches.look_back(path, kind):
            request = self._send(operation, fields)
            if request is not None:
                self._looking_back.append(since)
                request.after = self._looked_back(path)

    def _looked_back(self, path: str) -> After:
        def compare(request: Request, zxid: int) -> None:
            self._looking_back.popleft()
            if request.error is None or isinstance(request.error, NoNodeError):
                stat = None if request.error is not None else request.value.stat
                for event_type, watchers in self._watches.missed(path, stat):
                    self._tell(event_type, path, watchers)

        return compare
