"""The handler's workers: order, errors, and ends that are bounded."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

import pytest

from terzetto.client.kazoo.handlers import threading as handlers
from terzetto.client.kazoo.handlers.threading import SequentialThreadingHandler
from terzetto.client.kazoo.protocol.states import Callback

BOUND = 10.0


def test_callbacks_run_in_order_on_one_thread() -> None:
    handler = SequentialThreadingHandler()
    seen: list[tuple[int, str]] = []
    done = threading.Event()

    def note(number: int) -> None:
        seen.append((number, threading.current_thread().name))

    handler.dispatch_callback(Callback("watch", note, (0,)))
    assert (handler.running, seen, handler.callback_queue.qsize()) == (False, [], 1)
    handler.start()
    handler.start()
    for number in range(1, 50):
        handler.dispatch(note, (number,))
    handler.dispatch(done.set)
    assert done.wait(BOUND)
    assert seen == [(number, "terzetto-kazoo-callbacks") for number in range(50)]
    assert handler.callback_queue.empty()
    handler.stop()
    handler.stop()
    assert not handler.running


def test_a_callback_that_raises_is_logged_and_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    handler = SequentialThreadingHandler()
    handler.start()
    done = threading.Event()
    with caplog.at_level(logging.ERROR, "terzetto.client.kazoo.handlers.threading"):
        handler.dispatch(lambda: 1 / 0)
        handler.dispatch(done.set)
        assert done.wait(BOUND)
    handler.stop()
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_that_exits_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    handler = SequentialThreadingHandler()
    handler.start()
    done = threading.Event()

    def exit_here() -> None:
        raise SystemExit(1)

    with caplog.at_level(logging.ERROR, "terzetto.client.kazoo.handlers.threading"):
        handler.dispatch(exit_here)
        handler.dispatch(done.set)
        assert done.wait(BOUND)
    handler.stop()
    assert "SystemExit" in caplog.text


def test_a_callback_may_stop_and_start_and_no_other_runs_beside_it() -> None:
    handler = SequentialThreadingHandler()
    handler.start()
    seen: list[str] = []
    began, queued, done = threading.Event(), threading.Event(), threading.Event()

    def restart() -> None:
        began.set()
        queued.wait(BOUND)
        for _ in range(2):
            handler.stop()
            handler.start()
        handler.dispatch(seen.append, ("put by the callback",))
        handler.dispatch(done.set)
        # Time for another worker, if there were one.
        done.wait(0.05)
        seen.append("the end of the callback")

    handler.dispatch(restart)
    assert began.wait(BOUND)
    handler.dispatch(seen.append, ("put meanwhile",))
    queued.set()
    assert done.wait(BOUND)
    assert seen == ["the end of the callback", "put meanwhile", "put by the callback"]
    handler.dispatch(seen.append, ("put later",))
    handler.stop()
    assert seen[-1] == "put later"
    workers = [thread.name for thread in threading.enumerate() if thread.name == "terzetto-kazoo-callbacks"]
    assert workers == []


def test_a_worker_that_was_given_up_ends_when_its_callback_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "STOP_TIMEOUT", 0.05)
    handler = SequentialThreadingHandler()
    handler.start()
    gate, stuck = threading.Event(), threading.Event()
    workers: list[threading.Thread] = []

    def hang() -> None:
        workers.append(threading.current_thread())
        stuck.set()
        gate.wait(BOUND)

    handler.dispatch(hang)
    assert stuck.wait(BOUND)
    handler.stop()
    handler.start()
    gate.set()
    workers[0].join(BOUND)
    assert not workers[0].is_alive()
    handler.stop()


def test_calls_that_wait_are_made_before_the_end() -> None:
    handler = SequentialThreadingHandler()
    handler.start()
    gate = threading.Event()
    seen: list[int] = []
    handler.dispatch(gate.wait, (BOUND,))
    for number in range(5):
        handler.dispatch(seen.append, (number,))
    gate.set()
    handler.stop()
    assert seen == [0, 1, 2, 3, 4]


def test_a_stuck_callback_does_not_keep_stop_from_returning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "STOP_TIMEOUT", 0.05)
    handler = SequentialThreadingHandler()
    handler.start()
    stuck, gate, after = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        stuck.set()
        gate.wait(BOUND)

    handler.dispatch(hang)
    assert stuck.wait(BOUND)
    start = time.monotonic()
    handler.stop()
    assert time.monotonic() - start < BOUND
    # Started again, it does not wait for what is stuck.
    handler.start()
    handler.dispatch(after.set)
    assert after.wait(BOUND)
    gate.set()
    handler.stop()


def test_stop_may_be_called_from_a_callback() -> None:
    handler = SequentialThreadingHandler()
    handler.start()
    stopped = threading.Event()

    def stop() -> None:
        handler.stop()
        stopped.set()

    handler.dispatch(stop)
    assert stopped.wait(BOUND)
    assert not handler.running


def test_the_primitives_are_those_of_threads() -> None:
    handler = SequentialThreadingHandler()
    ran = threading.Event()

    def run(value: int, *, key: int) -> None:
        if (value, key) == (1, 2):
            ran.set()

    handler.spawn(run, 1, key=2).join(BOUND)
    assert ran.is_set()
    assert handler.name == "sequential_threading_handler"
    assert handler.timeout_exception is handlers.KazooTimeoutError
    handler.event_object().set()
    with handler.lock_object(), handler.rlock_object():
        pass
    handler.sleep_func(0)
    handler.socket().close()
    queue: Any = handler.queue_impl()  # pyright: ignore[reportUnknownVariableType]
    with pytest.raises(handler.queue_empty):
        queue.get_nowait()


def test_sockets_are_those_of_the_system() -> None:
    handler = SequentialThreadingHandler()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with handler.create_connection(listening.getsockname(), timeout=BOUND) as connected:
            assert connected.getpeername() == listening.getsockname()
    first, second = handler.create_socket_pair()
    with first, second:
        first.send(b"x")
        assert handler.select([second], [], [], BOUND)[0] == [second]
