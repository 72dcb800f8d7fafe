"""What hangs, flaps or is silent in kazoo's client and its blocking API, and is not here: each fault has its test.

Every wait has a bound. The faults of the recipes' algorithms have theirs with the native recipes.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import contextlib
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import (
    AuthFailedError,
    ConnectionClosedError,
    LockTimeout,
    NoNodeError,
    ZookeeperError,
)
from terzetto.client.kazoo.handlers.utils import AsyncResult, KazooTimeoutError
from terzetto.client.kazoo.protocol import connection
from terzetto.client.kazoo.protocol.states import KeeperState, WatchedEvent
from terzetto.client.kazoo.retry import KazooRetry, RetryFailedError
from terzetto.client.wire.operations import Opcode
from terzetto.testcluster import BlockingEnsemble, start_ensemble
from terzetto.testcluster.reserved_port import ReservedPort

from .conftest import Connect
from .odd_server import OddServer

BOUND = 10.0


class Seen:
    """What a callback was called with; `wait` for the next, one by one."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._waited = 0
        self._more = threading.Semaphore(0)

    def __call__(self, item: Any) -> None:
        self.all.append(item)
        self._more.release()

    def wait(self) -> Any:
        assert self._more.acquire(timeout=BOUND)
        self._waited += 1
        return self.all[self._waited - 1]


def in_time(function: Any, *args: Any, bound: float = BOUND) -> Any:
    """What `function(*args)` returns in another thread, which must end within the bound."""
    with contextlib.ExitStack() as stack:
        threads = ThreadPoolExecutor(1)
        stack.callback(threads.shutdown, wait=False)
        return threads.submit(function, *args).result(bound)


# -- watches ---------------------------------------------------------------------------------------------------------


def test_watches_survive_a_lost_connection(client: KazooClient, connect: Connect, ensemble: BlockingEnsemble) -> None:
    client.create("/a", b"1")
    data, children, missed, states = Seen(), Seen(), Seen(), Seen()
    client.get("/a", watch=data)
    client.get_children("/a", watch=children)
    client.exists("/missed", watch=missed)
    other = connect()
    client.add_listener(states)
    client._call(connection._CONNECTION_DROP)
    assert states.wait() == "SUSPENDED"
    other.create("/missed")
    assert states.wait() == "CONNECTED"
    other.set("/a", b"2")
    other.create("/a/b")
    assert data.wait() == WatchedEvent("CHANGED", "CONNECTED", "/a")
    assert children.wait() == WatchedEvent("CHILD", "CONNECTED", "/a")
    assert missed.wait() == WatchedEvent("CREATED", "CONNECTED", "/missed")
    assert len(data.all) == len(children.all) == len(missed.all) == 1


def test_a_children_watch_goes_on_when_its_znode_is_deleted_and_made_again(client: KazooClient) -> None:
    client.create("/parent")
    seen = Seen()
    client.ChildrenWatch("/parent", seen)
    assert seen.wait() == []
    client.delete("/parent")
    client.create("/parent/child", makepath=True)
    while seen.wait() != ["child"]:
        pass


def test_a_type_error_of_a_data_watch_is_the_programs_own(
    client: KazooClient, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def fail(data: bytes | None, stat: object, event: object) -> None:
        calls.append(1)
        raise TypeError("from the program")

    with pytest.raises(TypeError, match="from the program"):
        client.DataWatch("/none", fail)
    assert calls == [1]


def test_a_data_watch_keeps_no_other_callback_waiting_while_disconnected(
    connect: Connect, ensemble: BlockingEnsemble
) -> None:
    client = connect(timeout=20)
    shown, states, called = Seen(), Seen(), Seen()

    def show(data: bytes | None, stat: object) -> None:
        shown(data)

    client.DataWatch("/shown", show)
    shown.wait()
    client.add_listener(states)
    ensemble.stop(1)
    try:
        assert states.wait() == "SUSPENDED"
        client.handler.dispatch(called, ("in between",))
        assert called.wait() == "in between"
    finally:
        ensemble.start(1)
    assert states.wait() == "CONNECTED"


# -- ownership -------------------------------------------------------------------------------------------------------


def test_a_lock_whose_session_is_lost_says_so(client: KazooClient, connect: Connect) -> None:
    lock, states = client.Lock("/lock"), Seen()
    assert lock.acquire()
    client.add_listener(states)
    client._call(connection._SESSION_EXPIRED)
    while states.wait() != "CONNECTED":
        pass
    assert connect().Lock("/lock").acquire(timeout=BOUND)
    assert not lock.is_acquired
    assert lock.release() is False


def test_the_timeout_of_a_lock_is_for_all_of_the_wait(client: KazooClient, connect: Connect) -> None:
    others = connect()
    owners = [others.Lock("/queue", str(number)) for number in range(8)]
    assert owners[0].acquire()
    queue = [threading.Thread(target=owner.acquire, daemon=True) for owner in owners[1:]]
    for number, thread in enumerate(queue):
        thread.start()
        while len(client.Lock("/queue").contenders()) < number + 2:
            pass
    patient = threading.Event()

    def step_aside() -> None:
        # Each release wakes the one who waits; who began to count anew would get the lock in the end.
        for owner in owners:
            if patient.wait(0.6):
                return
            owner.release()

    helper = threading.Thread(target=step_aside, daemon=True)
    helper.start()
    with pytest.raises(LockTimeout):
        client.Lock("/queue").acquire(timeout=1.5)
    patient.set()
    helper.join(BOUND)
    for owner, thread in zip(owners, [helper, *queue], strict=True):
        thread.join(BOUND)
        owner.release()


def test_threads_that_share_a_lock_do_not_wait_longer_than_it_is_held(client: KazooClient) -> None:
    lock = client.Lock("/shared")
    assert lock.acquire()
    waiting = threading.Event()

    def acquire() -> bool:
        waiting.set()
        return lock.acquire(timeout=BOUND)

    result = AsyncResult()
    threading.Thread(target=lambda: result.set(acquire()), daemon=True).start()
    assert waiting.wait(BOUND)
    with pytest.raises(KazooTimeoutError):
        result.get(timeout=0.3)
    assert lock.release()
    assert result.get(timeout=BOUND / 2) is True
    assert lock.release()


# -- answers ---------------------------------------------------------------------------------------------------------


def test_an_error_that_nobody_knows_reaches_its_caller() -> None:
    with OddServer(lambda opcode: -9999 if opcode == Opcode.GET_DATA else -101) as server:
        client = KazooClient(server.hosts)
        client.start(timeout=BOUND)
        try:
            with pytest.raises(ZookeeperError, match="-9999"):
                in_time(client.get, "/a")
            assert client.connected
            with pytest.raises(NoNodeError):
                in_time(client.get_children, "/a")
        finally:
            in_time(client.stop)


def test_a_request_to_a_stopped_client_is_answered_once(connect: Connect) -> None:
    client = connect()
    client.stop()
    told = Seen()
    result = client.get_async("/")
    result.rawlink(told)
    with pytest.raises(ConnectionClosedError):
        result.get(timeout=BOUND)
    result.rawlink(lambda _: None)
    assert told.wait() is result
    assert len(told.all) == 1


def test_a_sequential_znode_of_a_transaction_keeps_its_slash(client: KazooClient) -> None:
    client.create("/f")
    transaction = client.transaction()
    transaction.create("/f/", sequence=True)
    transaction.check("/f", -1)
    transaction.delete("/f/0000000000")
    assert transaction.commit() == ["/f/0000000000", True, True]


# -- life ------------------------------------------------------------------------------------------------------------


def test_a_start_while_suspended_returns(connect: Connect, ensemble: BlockingEnsemble) -> None:
    client, states = connect(timeout=20), Seen()
    client.add_listener(states)
    ensemble.stop(1)
    try:
        assert states.wait() == "SUSPENDED"
        assert in_time(client.start_async) is in_time(client.start_async)
    finally:
        ensemble.start(1)
    in_time(client.start)
    assert client.connected


def test_stop_does_not_wait_for_a_callback_that_is_stuck(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("terzetto.client.kazoo.handlers.threading.STOP_TIMEOUT", 0.3)
    client, stuck, free = connect(), threading.Event(), threading.Event()

    def block(_: object) -> None:
        stuck.set()
        free.wait(BOUND)

    try:
        client.exists("/stuck", watch=block)
        client.create("/stuck", ephemeral=True)
        assert stuck.wait(BOUND)
        in_time(client.stop)
        assert client.client_state == KeeperState.CLOSED
    finally:
        free.set()


def test_a_refused_identity_is_the_starts_error_and_never_flaps(ensemble: BlockingEnsemble) -> None:
    client, states = KazooClient(ensemble.hosts, auth_data=[("nobody", "knows")]), Seen()
    client.add_listener(states)
    began = time.monotonic()
    with pytest.raises(AuthFailedError):
        client.start(timeout=BOUND)
    assert time.monotonic() - began < BOUND / 2
    assert "CONNECTED" not in states.all
    assert not client.lifecycle.running


def test_a_pair_that_is_refused_later_is_not_kept(connect: Connect) -> None:
    client, states = connect(), Seen()
    client.add_listener(states)
    session = client.client_id
    with pytest.raises(AuthFailedError):
        in_time(client.add_auth, "nobody", "knows")
    assert client.auth_data == set()
    # The server hangs up, once; the session goes on.
    while states.wait() != "CONNECTED":
        pass
    assert in_time(client.retry, client.get_children, "/")
    assert client.client_id == session
    assert states.all == ["SUSPENDED", "CONNECTED"]


def test_an_outage_is_followed_by_a_connection_at_once_whatever_the_policy_says(
    connect: Connect, ensemble: BlockingEnsemble
) -> None:
    client, states = connect(connection_retry={"max_tries": -1, "delay": 60, "max_delay": 3600}), Seen()
    client.add_listener(states)
    ensemble.stop(1)
    try:
        assert states.wait() == "SUSPENDED"
    finally:
        ensemble.start(1)
    assert states.wait() == "CONNECTED"


def test_a_policy_of_a_subclass_is_followed() -> None:
    class Policy(KazooRetry):
        def __call__(self, func: Any, *args: Any, **kwargs: Any) -> Any:
            raise RetryFailedError("not today")

    handler = KazooClient().handler
    client = KazooClient(command_retry=Policy(sleep_func=handler.sleep_func), handler=handler)
    with pytest.raises(RetryFailedError, match="not today"):
        client.retry(client.get, "/")


# -- servers ---------------------------------------------------------------------------------------------------------


def test_a_client_of_a_server_without_quorum_finds_one_that_has_it() -> None:
    with start_ensemble(3, tick_time=0.2, settings={"readonlymode.enabled": "true"}) as ensemble:
        client, states = KazooClient(ensemble.hosts, read_only=True, timeout=10), Seen()
        client.start()
        try:
            client.create("/kept", b"1")
            with KazooClient(ensemble.hosts.partition(",")[0]) as first:
                first.sync("/kept")  # the two others may have acknowledged it by themselves
            for sid in (2, 3):
                ensemble.stop(sid)
            deadline = time.monotonic() + BOUND
            while client.client_state != KeeperState.CONNECTED_RO:
                assert time.monotonic() < deadline
                client.handler.sleep_func(0.01)
            assert client.get("/kept")[0] == b"1"
            client.add_listener(states)
            for sid in (2, 3):
                ensemble.start(sid)
            while client.client_state != KeeperState.CONNECTED:
                assert time.monotonic() < deadline + BOUND
                client.handler.sleep_func(0.01)
            assert client.retry(client.set, "/kept", b"2").version == 1
        finally:
            in_time(client.stop)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server's TLS address, and the file of its authority."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    with ExitStack() as stack:
        port = ReservedPort()
        stack.callback(port.close)
        settings = {
            "secureClientPort": port.number,
            "secureClientPortAddress": "127.0.0.1",
            "ssl.keyStore.location": tmp_path / "server.pem",
            "ssl.clientAuth": "none",
            "4lw.commands.whitelist": "*",
        }
        stack.enter_context(start_ensemble(settings=settings))
        yield f"127.0.0.1:{port.number}", tmp_path / "authority.pem"


def test_four_letter_words_are_answered_over_tls(secure: tuple[str, Path]) -> None:
    hosts, authority = secure
    with KazooClient(hosts, use_ssl=True, ca=str(authority)) as client:
        assert in_time(client.command, b"ruok") == "imok"
        assert in_time(client.server_version) >= (3, 5)


def test_long_answers_of_four_letter_words_are_whole(client: KazooClient) -> None:
    paths = [f"/watched-{number:03}-{'x' * 80}" for number in range(200)]
    for result in [client.exists_async(path, watch=print) for path in paths]:
        result.get(timeout=BOUND)
    answer = in_time(client.command, b"wchp")
    assert len(answer) > 2 * 8192
    assert all(path in answer for path in paths)


# -- chroots ---------------------------------------------------------------------------------------------------------


def test_a_chroot_of_several_levels_is_made(client: KazooClient, ensemble: BlockingEnsemble) -> None:
    below = KazooClient(ensemble.hosts + "/made/of/levels")
    with pytest.warns(UserWarning, match="chroot"):
        below.start()
    try:
        assert below.ensure_path("/") == "/"
        assert client.exists("/made/of/levels") is not None
        assert below.create("/a/b", makepath=True) == "/a/b"
    finally:
        below.stop()


def test_a_chroot_is_taken_off_at_a_slash_only() -> None:
    client = KazooClient("127.0.0.1:1/ab")
    assert client.unchroot("/ab/c") == "/c"
    assert client.unchroot("/abc/d") == "/abc/d"


# -- what is told ----------------------------------------------------------------------------------------------------


def test_what_a_callback_raises_is_logged_with_its_place(
    client: KazooClient, ensemble: BlockingEnsemble, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(item: Any) -> None:
        raise LookupError(f"from a callback of {type(item).__name__}")

    done = Seen()
    client.add_listener(fail)
    client.exists("/told", watch=fail)
    client.create("/told")
    result = client.get_async("/told")
    result.rawlink(fail)
    result.rawlink(done)
    done.wait()
    states = Seen()
    client.add_listener(states)
    client._call(connection._CONNECTION_DROP)
    while states.wait() != "CONNECTED":
        pass
    client.remove_listener(fail)
    for name in ("WatchedEvent", "AsyncResult", "str"):
        assert f"from a callback of {name}" in caplog.text
    assert caplog.text.count("in fail") >= 3
    assert {record.name.partition(".kazoo")[0] for record in caplog.records if record.exc_info} == {"terzetto.client"}


def test_no_credential_is_logged(client: KazooClient, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(1):
        client.add_auth("digest", "somebody:secret-one")
        client._call(connection._CONNECTION_DROP)
        client.retry(client.get, "/")
        other = connect(auth_data=[("digest", "somebody:secret-two")])
        other.stop()
        with pytest.raises(ConnectionClosedError):
            other.get("/")
    assert "secret" not in caplog.text
    assert "secret" not in repr(client)


def test_nothing_deprecated_is_used(connect: Connect) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = connect()
        client.NonBlockingLease("/lease", timedelta(seconds=1))
        client._call(connection._CONNECTION_DROP)
        client.retry(client.sync, "/")
        client.stop()


def test_a_callback_that_is_linked_late_calls_no_other_again(client: KazooClient) -> None:
    first, second = Seen(), Seen()
    result = client.get_async("/")
    result.rawlink(first)
    first.wait()
    result.rawlink(second)
    second.wait()
    assert (len(first.all), len(second.all)) == (1, 1)


def test_a_server_that_never_answers_is_left_alone_by_stop() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    try:
        client = KazooClient(f"127.0.0.1:{silent.getsockname()[1]}", timeout=30)
        began = time.monotonic()
        with pytest.raises(client.handler.timeout_exception):
            in_time(client.start, 0.5)
        assert time.monotonic() - began < BOUND
    finally:
        silent.close()
