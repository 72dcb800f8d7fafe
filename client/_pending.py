"""Requests on their way: the queue of what was not sent, the FIFO of what was, and what an abandoned one becomes.

ZooKeeper answers one connection's requests in order, so a reply belongs to the head of the FIFO or the connection is
broken. The one exception is `auth`, whose replies overtake others on real servers; they are held back here until their
turn, so that callers see call order all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from .errors import FrameTooLargeError, KazooException, ReplyTooLargeError, WireError, ZookeeperError
from .wire.operations import AUTH_XID, PING_XID, Operation

_WITHDRAWN_MAX = 1000


class Request:
    """One request, from submission to its outcome.

    Attributes:
        operation: what it is.
        xid: matches the reply; unique among the requests in flight.
        frame: the whole frame, length included.
        path: the znode's path as its caller gave it, for error messages; `None` where there is none.
        convert: turns the decoded reply into what the caller gets, `None` for the reply itself; applied by `result`.
        after: called by the session with (request, zxid of the reply) before anyone learns the outcome; not called when
            the link is lost.
        value: the decoded reply, valid once `done`.
        error: why it failed, `None` on success; valid once `done`.
        done: the outcome is known.
        waiter: who waits, opaque to the session; `None` when nobody does (any more).
        withdrawn: its caller left. Unsent, it never will be sent; sent, its reply is dropped.
        sent_at: when its first byte was handed over, by the session's clock.
    """

    __slots__ = (
        "after",
        "convert",
        "done",
        "error",
        "frame",
        "operation",
        "path",
        "sent_at",
        "value",
        "waiter",
        "withdrawn",
        "xid",
    )

    def __init__(self, operation: Operation, xid: int, frame: bytes, path: str | None = None) -> None:
        self.operation = operation
        self.xid = xid
        self.frame = frame
        self.path = path
        self.convert: Callable[[Any], Any] | None = None
        self.after: Callable[[Request, int], None] | None = None
        self.value: Any = None
        self.error: KazooException | None = None
        self.done = False
        self.waiter: Any = None
        self.withdrawn = False
        self.sent_at = 0.0

    def result(self) -> Any:
        """What the caller gets.

        Raises:
            KazooException: the request's error.
            RuntimeError: the outcome is not known yet.
        """
        if self.error is not None:
            raise self.error
        if not self.done:
            raise RuntimeError(f"{self!r} has no result yet")
        return self.value if self.convert is None else self.convert(self.value)

    def __repr__(self) -> str:
        # Neither frame nor value: both may hold credentials or data.
        state = "done" if self.done else "withdrawn" if self.withdrawn else "pending"
        return f"<Request {self.xid} {self.operation!r} {self.path or ''} {state}>"


class RequestQueue:
    """Unsent requests in call order, and sent ones in the order of their answers.

    `unsent` may hold withdrawn requests; they are passed over when their turn comes. `control` goes first: what the
    session itself sends (authentication, watches to restore).

    Args:
        max_in_flight: sent requests that may wait for an answer at a time.
    """

    __slots__ = (
        "_early",
        "_offered",
        "_tail",
        "_withdrawn",
        "control",
        "held",
        "max_in_flight",
        "open",
        "pings",
        "sent",
        "unsent",
    )

    def __init__(self, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight
        self.control: deque[Request] = deque()
        self.unsent: deque[Request] = deque()
        self.sent: deque[Request] = deque()
        self.open = False
        """Whether `unsent` may go out; `control` always may."""
        self.pings: deque[float] = deque()
        """When each ping without an answer was sent."""
        self._offered: list[Request] = []
        self._tail = b""
        # Auth requests in `sent`, oldest first, and how many of them have been answered before their turn.
        self._early: deque[Request] = deque()
        self.held = 0
        """Answers that came before their turn."""
        self._withdrawn = 0

    @property
    def idle(self) -> bool:
        """Nothing is in flight and nothing waits half-sent, so that a request may be sent at once."""
        return not self.sent and not self._tail and not self._offered

    @property
    def has_output(self) -> bool:
        """Whether `take` would give anything."""
        if self._tail or self.control:
            return True
        return self.open and bool(self.unsent) and len(self.sent) < self.max_in_flight

    def withdraw(self, request: Request) -> None:
        """The caller of a request left. Withdrawn requests do not pile up during an outage."""
        request.withdrawn = True
        request.frame = b""  # up to a megabyte each
        self._withdrawn += 1
        # By a share of the queue, so that clearing it costs each of a million of them little.
        if self._withdrawn > max(_WITHDRAWN_MAX, len(self.unsent) // 2):
            self._withdrawn = 0
            live = [waiting for waiting in self.unsent if not waiting.withdrawn]
            self.unsent.clear()
            self.unsent.extend(live)

    def take(self, limit: int) -> bytes:
        """Bytes to send now, at least one whole frame or the rest of one, about `limit` at most. `sent_bytes`
        follows.
        """
        if self._tail:
            return self._tail
        offered = self._offered
        if not self.control and len(self.unsent) == 1 and self.open and not self.sent:
            request = self.unsent.popleft()
            if request.withdrawn:
                return b""
            offered.append(request)
            return request.frame
        size, room = 0, self.max_in_flight - len(self.sent)
        for queue in (self.control, self.unsent) if self.open else (self.control,):
            while queue and size < limit and (room > 0 or queue is self.control):
                request = queue.popleft()
                if request.withdrawn:
                    continue
                offered.append(request)
                size += len(request.frame)
                room -= 1
        return b"".join([request.frame for request in offered])

    def sent_bytes(self, count: int, now: float) -> None:
        """Of what `take` gave, `count` bytes have left. What did not start to leave goes back to the queue."""
        if self._tail:
            self._tail = self._tail[count:]
            return
        offered, self._offered = self._offered, []
        for index, request in enumerate(offered):
            if count <= 0:
                # They come before everything that is queued now, and may go out as they might have before.
                self.control.extendleft(reversed(offered[index:]))
                return
            count -= len(request.frame)
            self._moved(request, now)
            if count < 0:
                self._tail = request.frame[count:]

    def _moved(self, request: Request, now: float) -> None:
        if request.xid == PING_XID:
            self.pings.append(now)
            return
        request.sent_at = now
        self.sent.append(request)
        if request.xid == AUTH_XID:
            self._early.append(request)

    def answered(self, xid: int) -> Request:
        """The request that a reply with this xid belongs to: the head, which is taken off.

        Raises:
            WireError: the head has another xid, or nothing is in flight.
        """
        if self.sent and self.sent[0].xid == xid:
            return self.sent.popleft()
        expected = f"the answer to request {self.sent[0].xid}" if self.sent else "none"
        raise WireError(f"the server answered request {xid} where {expected} was due")

    def answered_early(self) -> Request:
        """The oldest auth request without an answer; it stays in its place until `take_held`."""
        if not self._early:
            raise WireError("the server answered an auth request that was never sent")
        self.held += 1
        return self._early.popleft()

    def take_held(self) -> Request | None:
        """The head, if its answer came before its turn."""
        if self.held and self.sent and self.sent[0].done:
            self.held -= 1
            return self.sent.popleft()
        return None

    def reply_too_large(self, error: FrameTooLargeError) -> None:
        """A frame over the limit is on its way."""
        # Notifications and pings are small, so it answers the oldest request in flight.
        if self.sent and not self.sent[0].done:
            head = self.sent[0]
            head.error = ReplyTooLargeError(f"{error} (max_reply_size)", path=head.path, outcome_unknown=True)

    def release_held(self, done: list[Request]) -> None:
        """Appends every answer whose turn has come and that somebody waits for."""
        while (held := self.take_held()) is not None:
            if held.waiter is not None:
                done.append(held)

    def lost(self) -> tuple[list[Request], list[Request]]:
        """The link went. Returns (requests of which bytes may have left, requests of which none did), in call order.

        What the session itself had to send is not among them: it belonged to the link.
        """
        sent = list(self.sent)
        waiting = (*self._offered, *self.control, *self.unsent)
        unsent = [request for request in waiting if request.waiter is not None and not request.withdrawn]
        self.control.clear()
        self.unsent.clear()
        self.sent.clear()
        self.pings.clear()
        self._early.clear()
        self.open = False
        self._offered = []
        self._tail = b""
        self.held = 0
        return sent, unsent


def fail_all(
    requests: list[Request],
    error: Callable[[], KazooException],
    *,
    outcome_unknown: bool,
    cause: BaseException | None = None,
) -> list[Request]:
    """Gives every request without an outcome an error of its own; returns those that somebody waits for, in order."""
    for request in requests:
        if request.done:
            continue
        request.done = True
        if request.error is None:
            request.error = error()
            if isinstance(request.error, ZookeeperError):
                request.error.path = request.path
                request.error.outcome_unknown = outcome_unknown
        request.error.__cause__ = request.error.__cause__ or cause
    return [request for request in requests if request.waiter is not None]
