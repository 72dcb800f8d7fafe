"""Crossing into the loop's thread: order, interrupts, and calls that come too late."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio
import trio.lowlevel

from terzetto.client._client import core_of
from terzetto.client._runner import SessionRunner
from terzetto.client.kazoo import _loop as loops
from terzetto.client.kazoo._lending import CAN_LEND, LendingConnection
from terzetto.client.kazoo._loop import Loop
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError, ConnectionLoss
from terzetto.client.kazoo.handlers.threading import SequentialThreadingHandler
from terzetto.client.kazoo.handlers.utils import AsyncResult, KazooTimeoutError
from terzetto.testcluster import BlockingEnsemble

from .conftest import Connect

BOUND = 10.0
SERVER = 1


def loop_of(client: KazooClient) -> Loop:
    loop = client.lifecycle.loop
    assert loop is not None
    return loop


def test_a_call_runs_in_the_loop_and_its_outcome_comes_back(client: KazooClient) -> None:
    loop = loop_of(client)

    async def work(value: int, *, plus: int) -> tuple[int, bool]:
        await trio.lowlevel.checkpoint()
        return value + plus, loop.is_inside

    assert loop.call(work, 1, plus=2) == (3, True)
    assert not loop.is_inside

    async def fail() -> None:
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        loop.call(fail)


def test_an_abandoned_call_is_cancelled(client: KazooClient) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    result = loop_of(client).spawn(hang)
    assert result.abandon is not None
    result.abandon()
    assert cancelled.wait(BOUND)
    with pytest.raises(ConnectionClosedError):
        result.get(timeout=BOUND)


def test_an_abandoned_request_is_withdrawn(client: KazooClient) -> None:
    result = client.get_async("/")
    abandon = result.abandon
    assert result.get(timeout=BOUND) is not None
    assert result.abandon is None
    if abandon is not None:
        abandon()
    assert client.get("/") is not None


def test_calls_that_come_too_late_are_told(client: KazooClient) -> None:
    loop = loop_of(client)

    async def hang() -> None:
        await trio.sleep_forever()

    waiting = loop.spawn(hang)
    client.stop()
    for result in (waiting, loop.spawn(hang)):
        with pytest.raises(ConnectionClosedError):
            result.get(timeout=BOUND)
    assert loop.ended.is_set()
    assert loop.join(0)
    loop.stop()
    loop.abort()


def test_a_body_that_fails_is_the_cause(client: KazooClient) -> None:
    loop = Loop(SequentialThreadingHandler())

    async def body(_: trio.Event) -> None:
        raise OSError("no certificate")

    loop.start(body)
    assert loop.ended.wait(BOUND)
    assert isinstance(loop.crash, OSError)
    with pytest.raises(ConnectionClosedError) as caught:
        loop.call(body, trio.Event())
    assert caught.value.__cause__ is loop.crash


def test_many_threads_share_a_client(client: KazooClient) -> None:
    client.ensure_path("/shared")

    def work(number: int) -> None:
        for count in range(50):
            client.create(f"/shared/{number}-{count}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(client.get_children("/shared")) == 400


# Sending from the calling thread --------------------------------------------------------------------------------------


def trio_token_of(loop: Loop) -> trio.lowlevel.TrioToken:
    assert loop._token is not None
    return loop._token


def runner_of(client: KazooClient) -> SessionRunner:
    return core_of(client.native).runner


def test_a_call_into_an_idle_loop_is_sent_by_its_own_thread(
    client: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def post(call: object) -> None:
        raise AssertionError(f"{call!r} was left to the loop")

    client.create("/idle", b"1")
    with monkeypatch.context() as patched:
        patched.setattr(loop_of(client), "post", post)
        for _ in range(50):
            assert client.get("/idle")[0] == b"1"


def test_what_a_thread_asks_keeps_its_order_whoever_sends_it(client: KazooClient) -> None:
    client.create("/order", b"")

    def work(name: int) -> None:
        path = client.create(f"/order/{name}", b"")
        writes: list[AsyncResult] = []
        for count in range(120):
            writes.append(client.set_async(path, str(count).encode()))
            if count % 7 == 0:
                assert client.get(path)[0] == str(count).encode()
            if count % 11 == 0:
                assert client.ensure_path(f"{path}/child") in (True, f"{path}/child")
        assert [write.get(timeout=BOUND).version for write in writes] == list(range(1, 121))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, name) for name in range(4)]:
            done.result(6 * BOUND)


def test_an_interrupt_in_the_midst_of_sending_costs_the_connection_and_no_more(
    client: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of(client)
    session, flush_some = client.client_id, runner.flush_some
    states: list[str] = []
    client.add_listener(states.append)

    def interrupted() -> bool:
        flush_some()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runner, "flush_some", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.get("/")
    assert client.retry(client.get, "/")[1].numChildren >= 1
    assert client.client_id == session
    assert states[:1] == ["SUSPENDED"]


def test_an_interrupt_while_a_call_is_handed_over_takes_it_back(
    client: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = loop_of(client)
    token = trio_token_of(loop)
    interrupts = [KeyboardInterrupt]

    class Interrupted:
        def run_sync_soon(self, call: Callable[[], None]) -> None:
            while interrupts:
                raise interrupts.pop()
            token.run_sync_soon(call)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_token", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            client.create("/taken/back", makepath=True)
        assert client.ensure_path("/goes/on") == "/goes/on"
    assert client.exists("/taken") is None


def test_a_call_in_the_midst_of_another_is_sent_as_well(client: KazooClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer may run anywhere, and call the client."""
    runner = runner_of(client)
    flush_some = runner.flush_some
    finalizers: list[Callable[[], AsyncResult]] = [lambda: client.get_async("/")]
    inner: list[AsyncResult] = []

    def finalizing() -> bool:
        while finalizers:
            inner.append(finalizers.pop()())
        return flush_some()

    monkeypatch.setattr(runner, "flush_some", finalizing)
    assert client.get("/") == inner[0].get(timeout=BOUND)


def test_a_request_that_does_not_fit_is_finished_by_the_loop(client: KazooClient) -> None:
    client.create("/large", b"")
    size = 900_000
    writes = [client.set_async("/large", bytes([count]) * size) for count in range(8)]
    assert [write.get(timeout=BOUND).version for write in writes] == list(range(1, 9))
    assert client.get("/large")[0] == bytes([7]) * size


def test_a_callback_that_raises_harms_nobody_else(client: KazooClient, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: AsyncResult) -> None:
        raise LookupError("the program's own")

    # Without workers callbacks run where the outcome is told.
    client.handler.stop()
    with loop_of(client)._gate.lock:
        results = [client.get_async("/") for _ in range(3)]
        for result in results:
            result.rawlink(fail)
    for result in results:
        assert result.get(timeout=BOUND)
    assert client.ensure_path("/") is True  # its outcome is told behind theirs
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["the program's own"] * 3
    client.handler.start()


def test_a_client_has_at_most_three_threads(connect: Connect) -> None:
    before = threading.active_count()
    client = connect()
    told = threading.Event()
    client.get("/", watch=lambda event: told.set())
    client.get_async("/").rawlink(lambda result: told.set())
    assert told.wait(BOUND)
    client.create("/counted")
    client.delete("/counted")
    assert threading.active_count() - before <= 3


# Reading in the thread that waits -------------------------------------------------------------------------------------

needs_lending = pytest.mark.skipif(not CAN_LEND, reason="connections are lent on Linux only")


@pytest.fixture
def silent(ensemble: BlockingEnsemble, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has the server say nothing until a thread waits for it: a reply that is there before that is the loop's."""
    await_arrival = LendingConnection.await_arrival

    def resumed(self: LendingConnection, timeout: float) -> None:
        ensemble.resume(SERVER)
        await_arrival(self, timeout)

    monkeypatch.setattr(LendingConnection, "await_arrival", resumed)
    return lambda: ensemble.pause(SERVER)


@needs_lending
def test_a_reply_is_read_by_the_thread_that_waits_for_it(
    client: KazooClient, silent: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = LendingConnection.take
    taken: list[tuple[int, bool]] = []

    def noted(self: LendingConnection) -> bytes:
        data = take(self)
        taken.append((threading.get_ident(), bool(data)))
        return data

    def give_back(self: LendingConnection, data: bytes) -> None:
        raise AssertionError(f"{data!r} was left to the loop")

    client.create("/own", b"1")
    monkeypatch.setattr(LendingConnection, "take", noted)
    monkeypatch.setattr(LendingConnection, "give_back", give_back)
    silent()
    assert client.get("/own")[0] == b"1"
    silent()
    assert client.exists("/none") is None
    assert taken == [(threading.get_ident(), True)] * 2


@needs_lending
def test_an_interrupt_while_waiting_leaves_the_connection_as_it_was(
    client: KazooClient, ensemble: BlockingEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = client.client_id
    states: list[str] = []
    client.add_listener(states.append)

    def interrupted(self: LendingConnection, timeout: float) -> None:
        ensemble.resume(SERVER)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LendingConnection, "await_arrival", interrupted)
        ensemble.pause(SERVER)
        with pytest.raises(KeyboardInterrupt):
            client.get("/")
    for _ in range(5):
        assert client.get("/")[1].numChildren >= 1
    assert client.get_async("/").get(timeout=BOUND)
    assert (client.client_id, states) == (session, [])


@needs_lending
def test_an_interrupt_while_reading_costs_the_connection_and_no_more(
    client: KazooClient, silent: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = client.client_id

    def interrupted(self: LendingConnection) -> bytes:
        take(self)
        raise KeyboardInterrupt

    take = LendingConnection.take
    with monkeypatch.context() as patched:
        patched.setattr(LendingConnection, "take", interrupted)
        silent()
        with pytest.raises(KeyboardInterrupt):
            client.get("/")
    assert client.retry(client.get, "/")[1].numChildren >= 1
    assert client.client_id == session


@needs_lending
def test_a_thread_that_waits_keeps_nothing_from_the_others(
    connect: Connect, ensemble: BlockingEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread has the connection, and its server says nothing, others ask, watches fire, and it may end."""
    client = connect()
    borrowed = threading.Event()
    await_arrival = LendingConnection.await_arrival

    def noted(self: LendingConnection, timeout: float) -> None:
        borrowed.set()
        await_arrival(self, timeout)

    monkeypatch.setattr(LendingConnection, "await_arrival", noted)
    with ThreadPoolExecutor(3) as pool:
        ensemble.pause(SERVER)
        first = pool.submit(client.get, "/")
        assert borrowed.wait(BOUND)
        others = [pool.submit(client.get_children, "/"), pool.submit(client.ensure_path, "/meanwhile/a")]
        ensemble.resume(SERVER)
        assert first.result(BOUND)[1].numChildren >= 1
        assert [other.result(BOUND) for other in others][1] == "/meanwhile/a"

        borrowed.clear()
        ensemble.pause(SERVER)
        waiting = pool.submit(client.get, "/")
        assert borrowed.wait(BOUND)
        stopping = pool.submit(client.stop)
        ensemble.resume(SERVER)
        stopping.result(3 * BOUND)
        try:
            waiting.result(BOUND)
        except (ConnectionClosedError, ConnectionLoss):
            pass


@needs_lending
def test_a_reply_that_is_not_there_in_time_is_still_awaited(
    client: KazooClient, ensemble: BlockingEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "FETCH_MAX", 0.01)
    ensemble.pause(SERVER)
    try:
        with pytest.raises(KazooTimeoutError):
            client.get_async("/").get(timeout=0.05)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.get, "/")
            ensemble.resume(SERVER)
            assert waiting.result(BOUND)[1].numChildren >= 1
    finally:
        ensemble.resume(SERVER)
    assert client.get("/")[1].numChildren >= 1
