"""`KazooRetry` and its errors: kazoo's policy, run by tenacity. The native client's own policy is `RetryPolicy`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import tenacity
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from .exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    OperationTimeoutError,
    SessionExpiredError,
)

T = TypeVar("T")

INTERRUPT_CHECK = 0.1
"""Longest time between two looks at `interrupt`, in seconds."""


class ForceRetryError(Exception):
    """Raised by a function that wants to be called again."""


class RetryFailedError(KazooException):
    """The attempts or the time given to them are used up; the last failure is the cause."""


class InterruptedError(RetryFailedError):
    """The `interrupt` function said to stop."""


class KazooRetry:
    """Calls a function until it succeeds, as often and as patiently as told.

    Args:
        max_tries: attempts in all; `None`, 0 or less: no limit.
        delay: first pause, seconds.
        backoff: factor from one pause to the next.
        max_jitter: largest share, 0 to 1, by which a pause is made longer or shorter by chance.
        max_delay: longest pause, seconds.
        ignore_expire: whether an expired session is tried again as well.
        sleep_func: how to wait.
        deadline: seconds from the first attempt behind which none is begun; `None`: no limit.
        interrupt: asked while it waits; a true answer ends it with `InterruptedError`.
    """

    RETRY_EXCEPTIONS: tuple[type[Exception], ...] = (ConnectionLoss, OperationTimeoutError, ForceRetryError)
    EXPIRED_EXCEPTIONS: tuple[type[Exception], ...] = (SessionExpiredError,)

    def __init__(
        self,
        max_tries: int | None = 1,
        delay: float = 0.1,
        backoff: float = 2,
        max_jitter: float = 0.4,
        max_delay: float = 60.0,
        ignore_expire: bool = True,
        sleep_func: Callable[[float], Any] = time.sleep,
        deadline: float | None = None,
        interrupt: Callable[[], bool] | None = None,
    ) -> None:
        self.max_tries = max_tries
        self.delay = delay
        self.backoff = backoff
        self.max_jitter = min(max(max_jitter, 0.0), 1.0)
        self.max_delay = float(max_delay)
        self.sleep_func = sleep_func
        self.deadline = deadline
        self.interrupt = interrupt
        self.ignore_expire = ignore_expire
        self.retry_exceptions = self.RETRY_EXCEPTIONS + (self.EXPIRED_EXCEPTIONS if ignore_expire else ())
        self.reset()

    def reset(self) -> None:
        """Counts from the beginning, as every call does by itself."""
        # To look at only: where several threads share the object, these are one thread's.
        self._attempts = 0
        self._cur_delay = self.delay
        self._cur_stoptime: float | None = None

    def copy(self) -> KazooRetry:
        """Another one with the same policy, of the same class."""
        same: KazooRetry = object.__new__(type(self))
        same.__dict__.update(self.__dict__)
        same.reset()
        return same

    def __call__(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls `func(*args, **kwargs)`.

        Raises:
            RetryFailedError: the attempts or the time are used up.
            InterruptedError: `interrupt` said so.
            Exception: what the function raised and is not to be tried again.
        """
        self.reset()
        if self.deadline is not None:
            self._cur_stoptime = time.monotonic() + self.deadline
        pauses = _Pauses(self.delay, self.backoff, self.max_delay, self.max_jitter)

        def count(retry_state: tenacity.RetryCallState) -> None:
            self._attempts = retry_state.attempt_number

        def see_pause(_: tenacity.RetryCallState) -> None:
            self._cur_delay = pauses.next

        retrying = tenacity.Retrying(
            sleep=self._sleep,
            after=count,
            before_sleep=see_pause,
            wait=pauses,
            stop=_Limits(self.max_tries, self._cur_stoptime),
            retry=tenacity.retry_if_exception(self._is_retryable),
            retry_error_callback=_give_up,
        )
        return retrying(func, *args, **kwargs)

    def _is_retryable(self, error: BaseException) -> bool:
        return isinstance(error, self.retry_exceptions) and not isinstance(error, ConnectionClosedError)

    def _sleep(self, seconds: float) -> None:
        if self.interrupt is None:
            self.sleep_func(seconds)
            return
        ends = time.monotonic() + seconds
        while not self.interrupt():
            left = ends - time.monotonic()
            if left <= 0:
                return
            self.sleep_func(min(left, INTERRUPT_CHECK))
        raise InterruptedError("interrupted between two attempts")


class _Pauses(wait_base):
    """A pause grows from the one before it, jitter included, as kazoo's does."""

    def __init__(self, delay: float, backoff: float, longest: float, jitter: float) -> None:
        self.next = delay
        self._backoff = backoff
        self._longest = longest
        self._jitter = jitter

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        pause = self.next * random.uniform(1 - self._jitter, 1 + self._jitter)
        self.next = min(pause * self._backoff, self._longest)
        return pause


class _Limits(stop_base):
    def __init__(self, max_tries: int | None, ends: float | None) -> None:
        self._max_tries = max_tries
        self._ends = ends

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        if retry_state.attempt_number == self._max_tries:
            return True
        return self._ends is not None and time.monotonic() + retry_state.upcoming_sleep > self._ends


def _give_up(retry_state: tenacity.RetryCallState) -> Any:
    outcome = retry_state.outcome
    error = None if outcome is None else outcome.exception()
    tried = f"{retry_state.attempt_number} attempts"
    raise RetryFailedError(f"gave up after {tried}: {error!r}") from error
