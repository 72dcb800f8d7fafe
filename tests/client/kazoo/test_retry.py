"""The retry policy: how often, how patiently, and what it gives up with."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import time
from typing import Any

import kazoo.retry as theirs
import pytest

from terzetto.client.kazoo import retry as retries
from terzetto.client.kazoo.exceptions import ConnectionClosedError, ConnectionLoss, NoNodeError, SessionExpiredError
from terzetto.client.kazoo.retry import INTERRUPT_CHECK, ForceRetryError, KazooRetry, RetryFailedError


class Flaky:
    """Fails as often as told, then answers."""

    def __init__(self, times: int, error: type[Exception] = ConnectionLoss) -> None:
        self.left = times
        self.calls = 0
        self.error = error

    def __call__(self, value: int = 1, *, plus: int = 0) -> int:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return value + plus


def policy(sleeps: list[float], **options: object) -> KazooRetry:
    return KazooRetry(sleep_func=sleeps.append, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ConnectionLoss, ForceRetryError, SessionExpiredError])
def test_it_calls_until_it_succeeds(error: type[Exception]) -> None:
    sleeps: list[float] = []
    function = Flaky(3, error)
    retry = policy(sleeps, max_tries=5, delay=0.1, backoff=2, max_jitter=0)
    assert retry(function, 4, plus=5) == 9
    assert function.calls == 4
    assert sleeps == pytest.approx([0.1, 0.2, 0.4])
    # The next call counts from the beginning.
    retry.reset()
    assert retry(Flaky(4)) == 1


def test_attempts_are_bounded_and_the_last_error_is_the_cause() -> None:
    sleeps: list[float] = []
    function = Flaky(9)
    with pytest.raises(RetryFailedError, match="3 attempts") as caught:
        policy(sleeps, max_tries=3)(function)
    assert (function.calls, len(sleeps)) == (3, 2)
    assert isinstance(caught.value.__cause__, ConnectionLoss)


@pytest.mark.parametrize("tries", [None, 0, -1])
def test_no_number_of_tries_means_no_limit(tries: int | None) -> None:
    assert policy([], max_tries=tries)(Flaky(50)) == 1


def test_pauses_have_a_limit_and_jitter_stays_within_its_share() -> None:
    sleeps: list[float] = []
    assert policy(sleeps, max_tries=None, delay=1, backoff=3, max_delay=5, max_jitter=0.5)(Flaky(200)) == 1
    assert max(sleeps) <= 7.5
    assert min(sleeps) >= 0.5
    assert len({round(pause, 6) for pause in sleeps}) > 100
    assert KazooRetry(max_jitter=7).max_jitter == 1.0


def test_a_deadline_ends_it() -> None:
    with pytest.raises(RetryFailedError):
        KazooRetry(max_tries=None, delay=5, max_jitter=0, deadline=1)(Flaky(2))


@pytest.mark.parametrize(("error", "options"), [(NoNodeError, {}), (ConnectionClosedError, {}), (ValueError, {})])
def test_other_errors_are_not_tried_again(error: type[Exception], options: dict[str, object]) -> None:
    function = Flaky(1, error)
    with pytest.raises(error):
        policy([], max_tries=5, **options)(function)
    assert function.calls == 1


def test_an_expired_session_is_an_error_where_told_so() -> None:
    with pytest.raises(SessionExpiredError):
        policy([], max_tries=5, ignore_expire=False)(Flaky(1, SessionExpiredError))


def test_an_interrupt_is_noticed_while_it_waits() -> None:
    sleeps: list[float] = []
    retry = policy(sleeps, max_tries=None, delay=30, interrupt=lambda: len(sleeps) >= 3)
    with pytest.raises(retries.InterruptedError):
        retry(Flaky(1))
    assert sleeps == [INTERRUPT_CHECK] * 3


def test_an_interruptible_wait_ends_in_time() -> None:
    start = time.monotonic()
    assert KazooRetry(max_tries=2, delay=0.01, max_jitter=0, interrupt=lambda: False)(Flaky(1)) == 1
    assert time.monotonic() - start >= 0.01


def test_a_copy_is_of_the_same_class_and_policy() -> None:
    class Mine(KazooRetry):
        pass

    original = Mine(max_tries=7, delay=3)
    same = original.copy()
    assert type(same) is Mine
    assert (same.max_tries, same.delay, same.retry_exceptions) == (7, 3, original.retry_exceptions)


def test_what_it_has_counted_can_be_looked_at() -> None:
    def do_not_sleep(wait: float) -> None:
        pass

    modules: list[Any] = [retries, theirs]
    for module in modules:
        failures: list[type[Exception]] = [module.ForceRetryError] * 2

        def fail_twice(failures: list[type[Exception]] = failures) -> str:
            if failures:
                raise failures.pop()
            return "done"

        retry = module.KazooRetry(max_tries=10, delay=10, max_jitter=0, sleep_func=do_not_sleep, deadline=1000)
        assert (retry._attempts, retry._cur_delay, retry._cur_stoptime) == (0, 10, None)
        assert retry(fail_twice) == "done"
        assert (retry._attempts, retry._cur_delay) == (2, 40)
        assert retry._cur_stoptime > 0
        assert retry.copy()._attempts == 0
        retry.reset()
        assert (retry._attempts, retry._cur_delay) == (0, 10)
