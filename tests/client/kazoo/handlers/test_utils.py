"""Results that another thread completes."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trustme

from terzetto.client.kazoo.handlers.threading import SequentialThreadingHandler
from terzetto.client.kazoo.handlers.utils import (
    AsyncResult,
    KazooTimeoutError,
    capture_exceptions,
    create_socket_pair,
    create_tcp_connection,
    create_tcp_socket,
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


def _at_line(function: Any, number: int, do: Callable[[], object]) -> Iterator[None]:
    """In its block, `do()` runs before the line of this number that is executed of a method."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code is not function.__code__:
            return None
        if event == "line":
            lines += 1
            if lines == number:
                do()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


at_line = contextlib.contextmanager(_at_line)


@pytest.mark.parametrize("number", range(1, 20))
def test_the_outcome_may_come_between_any_two_lines_of_a_wait(number: int) -> None:
    result, came = AsyncResult(), threading.Event()

    def come() -> None:
        result.set(5)
        came.set()

    with at_line(AsyncResult.wait, number, come):
        try:
            assert result.get(timeout=0) == 5
        except KazooTimeoutError:
            pass
    assert came.is_set() or not result.ready()
    assert result._waiters == [] or came.is_set()


@pytest.mark.parametrize("number", range(1, 12))
def test_the_outcome_may_come_between_any_two_lines_of_a_link(number: int) -> None:
    result = AsyncResult()
    called: list[AsyncResult] = []
    with at_line(AsyncResult.rawlink, number, result.set):
        result.rawlink(called.append)
    if not result.ready():
        result.set()
    assert called == [result]


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
    first, second = create_socket_pair(socket)
    with first, second:
        assert selector_select([second], [], [], 0) == ([], [], [])
        first.send(b"x")
        assert selector_select([second], [first.fileno()], [], 5.0) == ([second], [first.fileno()], [])
        assert SequentialThreadingHandler().select([second], [], [], 5.0) == ([second], [], [])
    with pytest.raises(TypeError, match="no file descriptor"):
        fileobj_to_fd(first)
    with socket.socket() as sock:
        assert fileobj_to_fd(sock) == sock.fileno()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_a_tcp_connection(listener: socket.socket) -> None:
    with create_tcp_connection(socket, listener.getsockname(), timeout=5) as connected:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"hello")
            assert connected.recv(5) == b"hello"
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with create_tcp_socket(socket) as alone:
        assert alone.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        alone.connect(listener.getsockname())


@pytest.mark.parametrize("timeout", [0, -1, 1e-9])
def test_a_connection_for_which_no_time_is_left(listener: socket.socket, timeout: float) -> None:
    with pytest.raises(OSError, match="no time is left"):
        create_tcp_connection(socket, listener.getsockname(), timeout=timeout)


def test_a_tls_connection(listener: socket.socket, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = tmp_path / "server.pem"
    authority.issue_cert("zk.example").private_key_and_cert_chain_pem.write_to_path(certificate)
    context.load_cert_chain(certificate)

    def serve(count: int) -> None:
        for _ in range(count):
            peer, _ = listener.accept()
            with contextlib.suppress(OSError), context.wrap_socket(peer, server_side=True) as secure:
                secure.sendall(secure.recv(4))

    server = threading.Thread(target=serve, args=(2,), daemon=True)
    server.start()
    options: dict[str, Any] = {"use_ssl": True, "ca": str(tmp_path / "authority.pem"), "timeout": 10}
    address = listener.getsockname()
    with create_tcp_connection(socket, address, hostname="zk.example", check_hostname=True, **options) as connected:
        connected.sendall(b"ping")
        assert connected.recv(4) == b"ping"
    with pytest.raises(ssl.SSLCertVerificationError):
        create_tcp_connection(socket, address, hostname="other.example", check_hostname=True, **options)
    with pytest.raises(ValueError, match="check_hostname"):
        create_tcp_connection(socket, address, check_hostname=True, verify_certs=False, **options)
    server.join(10)
    assert not server.is_alive()


def test_who_is_about_to_wait_may_get_the_outcome_by_himself() -> None:
    result = AsyncResult()
    asked: list[float | None] = []

    def fetch(timeout: float | None) -> None:
        asked.append(timeout)
        result.set("fetched")

    result.fetch = fetch
    assert result.get(timeout=5.0) == "fetched"
    assert asked == [5.0]
    assert result.fetch is None


def test_a_fetch_that_brings_nothing_is_made_once_and_the_wait_goes_on() -> None:
    result = AsyncResult()
    asked: list[float | None] = []
    result.fetch = asked.append
    with pytest.raises(KazooTimeoutError):
        result.get(timeout=0.01)
    threading.Timer(0.01, result.set, ["late"]).start()
    assert result.get(timeout=BOUND) == "late"
    assert asked == [0.01]


def test_an_interrupt_while_fetching_abandons_the_call() -> None:
    result = AsyncResult()
    abandoned: list[bool] = []

    def fetch(_: float | None) -> None:
        raise KeyboardInterrupt

    result.fetch = fetch
    result.abandon = lambda: abandoned.append(True)
    with pytest.raises(KeyboardInterrupt):
        result.get(timeout=BOUND)
    assert abandoned == [True]
