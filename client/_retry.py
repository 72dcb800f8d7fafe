"""What is safe to try again, and how tenacity is told so.

Only the loss of a connection is ever retried, and a request whose outcome is unknown only if repeating it changes
nothing. The waiting itself is tenacity's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import tenacity
import trio
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from ._backoff import FullJitter
from .errors import ConnectionLoss, ReplyTooLargeError, ThrottledOpError
from .wire.operations import Opcode

# Repeating these changes nothing. A write repeated after a lost reply may fail on its own first success, or happen
# twice.
_REPEATABLE = frozenset(
    {
        Opcode.EXISTS,
        Opcode.GET_DATA,
        Opcode.GET_ACL,
        Opcode.GET_CHILDREN,
        Opcode.GET_CHILDREN2,
        Opcode.SYNC,
        Opcode.MULTI_READ,
        Opcode.GET_EPHEMERALS,
        Opcode.GET_ALL_CHILDREN_NUMBER,
        Opcode.WHO_AM_I,
    }
)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a request is tried again.

    Attributes:
        attempts: attempts in all, at least 1; `None` for no limit.
        deadline: seconds from the first failure after which no further one starts; `None` for no limit.
        wait: a tenacity wait strategy for the pauses.
    """

    attempts: int | None = 5
    deadline: float | None = 30.0
    wait: wait_base = field(default_factory=lambda: FullJitter(random.Random()))

    def __post_init__(self) -> None:
        if self.attempts is not None and (not isinstance(self.attempts, int) or self.attempts < 1):
            raise ValueError(f"attempts must be at least 1 or None, not {self.attempts!r}")
        # The other way round, a deadline that is no number at all would pass.
        if self.deadline is not None and not (isinstance(self.deadline, (int, float)) and self.deadline > 0):
            raise ValueError(f"deadline must be more than 0 seconds or None, not {self.deadline!r}")
        if not callable(self.wait):
            raise ValueError(f"wait must be a tenacity wait strategy, not {self.wait!r}")

    def is_safe(self, error: BaseException, opcode: int | None = None) -> bool:
        """Whether a request that failed with this error may be sent again.

        Args:
            error: what it failed with.
            opcode: the operation, `None` where the caller takes the responsibility of repeating it.
        """
        if isinstance(error, ThrottledOpError):
            return True
        if not isinstance(error, ConnectionLoss) or isinstance(error, ReplyTooLargeError):
            return False
        return not error.outcome_unknown or opcode is None or opcode in _REPEATABLE

    def retrying(self, opcode: int | None = None) -> tenacity.AsyncRetrying:
        """tenacity's loop for one request; what it gives up on, it raises unchanged."""
        stops: list[stop_base] = []
        if self.attempts is not None:
            stops.append(tenacity.stop_after_attempt(self.attempts))
        if self.deadline is not None:
            stops.append(_StopAfterDelay(self.deadline))
        return tenacity.AsyncRetrying(
            sleep=trio.sleep,
            wait=self.wait,
            stop=tenacity.stop_any(*stops) if stops else tenacity.stop_never,
            retry=tenacity.retry_if_exception(lambda error: self.is_safe(error, opcode)),
            reraise=True,
        )


class _StopAfterDelay(stop_base):
    """tenacity's own, but by trio's clock, which may be virtual."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = trio.current_time() + seconds

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return trio.current_time() >= self._end
