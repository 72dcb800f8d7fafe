"""Results that another thread completes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from terzetto.client.kazoo.handlers.threading import SequentialThreadingHandler
from terzetto.client.kazoo.handlers.utils import (
    AsyncResult,
    KazooTimeoutError,
    capture_exceptions,
    create_socket_pair,
    fileobj_to_fd,
    selector_select,
    wrap,
)

BOUND = 10.0


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_a_result_is_there_once_it_is_set() -> None:
    result = AsyncResult()
    assert (result.ready(), result.successful(), result.value, result.exception) == (False, False, None, None)
    with pytest.raises(KazooTimeoutError):
        result.get_nowait()
    with pytest.raises(KazooTimeoutError):
        result.get(timeout=0)
    assert not result.wait(0)
    result.set(5)
    assert (result.ready(), result.successful(), result.get(), result.get_nowait()) == (True, True, 5, 5)
    assert result.wait()


def test_an_error_is_raised_for_everyone_who_asks() -> None:
    result = AsyncResult()
    error = ValueError("no")
    result.set_exception(error)
    assert (result.ready(), result.successful(), result.exception) == (True, False, error)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            result.get()


def test_many_threads_wait_for_one_result() -> None:
    result = AsyncResult()
    seen: list[int] = []
    threads = [in_thread(lambda: seen.append(result.get(timeout=BOUND))) for _ in range(8)]
    result.set(7)
    for thread in threads:
        thread.join(BOUND)
    assert seen == [7] * 8


def test_no_wake_up_is_lost_between_looking_and_waiting() -> None:
    for round_ in range(300):
        result = AsyncResult()
        thread = in_thread(lambda result=result, round_=round_: result.set(round_))  # type: ignore[misc]
        assert result.get(timeout=BOUND) == round_
        thread.join(BOUND)


def test_an_interrupted_wait_abandons_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    abandoned: list[bool] = []

    class Interrupted:
        def __init__(self) -> None:
            self.taken = 0

        def acquire(self, timeout: float = -1) -> bool:
            self.taken += 1
            if self.taken == 2:
                raise KeyboardInterrupt
            return True

        def release(self) -> None:
            raise AssertionError("nobody waits any more")

    monkeypatch.setattr(threading, "Lock", Interrupted)
    result = AsyncResult()
    result.abandon = lambda: abandoned.append(True)
    with pytest.raises(KeyboardInterrupt):
        result.get()
    assert abandoned == [True]
    result.set(1)
    assert result.get() == 1


def test_callbacks_are_called_once_each_here_without_a_worker() -> None:
    result = AsyncResult()
    calls: list[tuple[str, object]] = []
    result.rawlink(lambda done: calls.append(("first", done.value)))

    def second(done: AsyncResult) -> None:
        calls.append(("second", done.value))

    result.rawlink(second)
    result.unlink(second)
    result.unlink(second)
    result.set(3)
    # kazoo would call the first one again here.
    result.rawlink(second)
    assert calls == [("first", 3), ("second", 3)]


def test_callbacks_run_on_the_worker_of_a_running_handler() -> None:
    handler = SequentialThreadingHandler()
    handler.start()
    try:
        done = threading.Event()
        names: list[str] = []

        def note(_: AsyncResult) -> None:
            names.append(threading.current_thread().name)
            done.set()

        result = handler.async_result()
        result.rawlink(note)
        result.set()
        assert done.wait(BOUND)
        assert names == ["terzetto-kazoo-completions"]
    finally:
        handler.stop()


def test_a_result_can_be_linked_to_another() -> None:
    source, target, failed, told = AsyncResult(), AsyncResult(), AsyncResult(), AsyncResult()
    source.rawlink(target)
    source.set("x")
    assert target.get_nowait() == "x"
    failed.rawlink(told)
    failed.set_exception(KeyError("k"))
    with pytest.raises(KeyError):
        told.get_nowait()


def test_decorators_put_outcomes_into_results() -> None:
    result, failed, silent = AsyncResult(), AsyncResult(), AsyncResult()

    @wrap(result)
    def good(number: int) -> int:
        return number + 1

    @capture_exceptions(failed)
    def bad() -> None:
        raise OSError("broken")

    @wrap(silent)
    def nothing() -> None:
        return None

    assert good(1) == 2
    assert result.get_nowait() == 2
    assert bad() is None
    with pytest.raises(OSError, match="broken"):
        failed.get_nowait()
    nothing()
    assert not silent.ready()


def test_select_takes_sockets_and_descriptors() -> None:
    first, second = create_socket_pair()
    with first, second:
        assert selector_select([second], [], [], 0) == ([], [], [])
        first.send(b"x")
        assert selector_select([second], [first.fileno()], [], 5.0) == ([second], [first.fileno()], [])
        assert SequentialThreadingHandler().select([second], [], [], 5.0) == ([second], [], [])
    with pytest.raises(TypeError, match="no file descriptor"):
        fileobj_to_fd(first)
    with socket.socket() as sock:
        assert fileobj_to_fd(sock) == sock.fileno()
