"""The blocking client: every method, blocking and not, on an embedded server; kazoo's class is the reference."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import inspect
import os
import signal
import socket
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import kazoo.client as theirs
import pytest

from terzetto.client.kazoo import ForkedError
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import (
    BadVersionError,
    ConfigurationError,
    ConnectionClosedError,
    ConnectionLoss,
    InvalidACLError,
    KazooException,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    ReconfigDisabledError,
    RolledBackError,
)
from terzetto.client.kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from terzetto.client.kazoo.protocol.states import WatchedEvent, ZnodeStat
from terzetto.client.kazoo.retry import KazooRetry, RetryFailedError
from terzetto.client.kazoo.security import ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id, make_digest_acl
from terzetto.testcluster import BlockingEnsemble

from .conftest import Connect

BOUND = 10.0


class Collected:
    """What callbacks were called with, to be waited for."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, item: Any) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def wait(self, count: int) -> list[Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.items) >= count, BOUND), self.items
        return self.items


# The surface ----------------------------------------------------------------------------------------------------------


def test_signatures_are_kazoos() -> None:
    recipes = {"Barrier", "Counter"}
    for name, function in inspect.getmembers(theirs.KazooClient, inspect.isfunction):
        if name.startswith("_") or name in recipes:
            continue
        mine = inspect.signature(getattr(KazooClient, name)).parameters
        other = inspect.signature(function).parameters
        assert list(mine) == list(other), name
        for parameter in other.values():
            if parameter.default is not inspect.Parameter.empty:
                assert mine[parameter.name].default == parameter.default, (name, parameter)
    other = inspect.signature(theirs.KazooClient).parameters
    mine = inspect.signature(KazooClient).parameters
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in other.values()]


def test_constants_are_kazoos() -> None:
    from terzetto.client.kazoo import client

    assert [name for name in client.__all__ if not hasattr(theirs, name)] == []
    assert client.CLOSED_STATES == theirs.CLOSED_STATES
    assert client.ENVI_VERSION_KEY == theirs.ENVI_VERSION_KEY


# Operations -----------------------------------------------------------------------------------------------------------


def test_the_life_of_a_znode(client: KazooClient) -> None:
    assert client.create("/a", b"1") == "/a"
    data, stat = client.get("/a")
    assert (data, stat.version, type(stat)) == (b"1", 0, ZnodeStat)
    assert client.exists("/a") == stat
    assert client.exists("/none") is None
    assert client.set("/a", b"2", version=0).version == 1
    assert set(client.get_children("/")) == {"zookeeper", "a"}
    names, stat = client.get_children("/a", include_data=True)
    assert (names, stat.numChildren) == ([], 0)
    assert client.get_acls("/a")[0] == OPEN_ACL_UNSAFE
    assert client.set_acls("/a", READ_ACL_UNSAFE).aversion == 1
    assert client.sync("/a") == "/a"
    assert client.last_zxid >= stat.czxid
    with pytest.raises(BadVersionError):
        client.delete("/a", version=7)
    assert client.delete("/a", version=1) is True
    with pytest.raises(NoNodeError):
        client.get("/a")
    with pytest.raises(NodeExistsError):
        client.create("/zookeeper")


def test_the_twins_give_results(client: KazooClient) -> None:
    results = [
        client.create_async("/t", b"x"),
        client.exists_async("/t"),
        client.get_async("/t"),
        client.set_async("/t", b"y"),
        client.get_children_async("/t"),
        client.get_acls_async("/t"),
        client.set_acls_async("/t", OPEN_ACL_UNSAFE),
        client.sync_async("/t"),
        client.delete_async("/t"),
        client.delete_async("/t"),
    ]
    done = Collected()
    results[-1].rawlink(done)
    assert results[0].get(timeout=BOUND) == "/t"
    assert results[2].get(timeout=BOUND)[0] == b"x"
    assert results[7].get(timeout=BOUND) == "/t"
    assert results[8].get(timeout=BOUND) is True
    assert done.wait(1) == [results[-1]]
    assert isinstance(results[-1].exception, NoNodeError)
    assert client.ensure_path_async("/e/f").get(timeout=BOUND) == "/e/f"


def test_the_native_client_can_be_had(client: KazooClient) -> None:
    assert client.call_native(client.native.ensure_path, "/native/path") == "/native/path"
    assert client.spawn_native(client.native.count_descendants, "/native").get(timeout=BOUND) == 1


def test_requests_of_a_thread_keep_their_order(client: KazooClient) -> None:
    client.create("/order", b"-1")
    writes = [client.set_async("/order", b"%d" % number) for number in range(500)]
    last = client.get_async("/order")
    assert last.get(timeout=BOUND)[0] == b"499"
    assert [write.get_nowait().version for write in writes] == list(range(1, 501))


def test_create_in_all_its_forms(client: KazooClient) -> None:
    path, stat = client.create("/c", include_data=True)
    assert (path, stat.version) == ("/c", 0)
    assert client.create("/c/s-", sequence=True) == "/c/s-0000000000"
    assert client.create("/c/", sequence=True) == "/c/0000000001"
    assert client.create("/c/e", ephemeral=True) == "/c/e"
    stat = client.exists("/c/e")
    assert stat is not None
    assert client.client_id is not None
    assert stat.owner_session_id == client.client_id[0]
    assert client.create("/deep/er/path", b"v", makepath=True) == "/deep/er/path"
    assert client.create("/c/open", acl=[]) == "/c/open"
    with pytest.raises(InvalidACLError):
        client.create_async("/c/none", acl=[]).get(timeout=BOUND)
    client.default_acl = READ_ACL_UNSAFE
    client.create("/c/read")
    assert client.get_acls("/c/read")[0] == READ_ACL_UNSAFE
    client.default_acl = None


def test_paths_are_made_to_fit(client: KazooClient) -> None:
    assert client.create("rel") == "/rel"
    assert client.create("//rel///b/") == "/rel/b"
    assert client.exists("") is not None
    with pytest.raises(ValueError, match="relative"):
        client.get("/rel/../x")


WRONG: list[Callable[[Any], object]] = [
    lambda c: c.get_async(None),
    lambda c: c.get_async("/", watch=5),
    lambda c: c.get_children_async("/", include_data=1),
    lambda c: c.create_async("/x", "text"),
    lambda c: c.create_async("/x", acl=OPEN_ACL_UNSAFE[0]),
    lambda c: c.create_async("/x", ephemeral=1),
    lambda c: c.set_async("/x", "text"),
    lambda c: c.set_async("/x", b"", version=None),
    lambda c: c.set_acls_async("/x", None),
    lambda c: c.set_acls_async("/x", OPEN_ACL_UNSAFE[0]),
    lambda c: c.delete_async("/x", version="1"),
    lambda c: c.delete("/x", recursive=1),
    lambda c: c.add_auth_async("digest", b"u:p"),
    lambda c: c.ensure_path_async("/x", acl=7),
]


@pytest.mark.parametrize("call", WRONG)
def test_wrong_types_raise_at_once(client: KazooClient, call: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError):
        call(client)


def test_trees(client: KazooClient) -> None:
    assert client.ensure_path("/x/y/z") == "/x/y/z"
    assert client.ensure_path("/x/y/z") is True
    with pytest.raises(NotEmptyError):
        client.delete("/x")
    assert client.delete("/x", recursive=True) is None
    assert client.delete("/x", recursive=True) is True


def test_acls_and_authentication(client: KazooClient, connect: Connect) -> None:
    client.create("/secret", b"s", acl=[make_digest_acl("u", "p", all=True)])
    with pytest.raises(KazooException):
        client.get("/secret")
    assert client.add_auth("digest", "u:p") is True
    assert client.auth_data == {("digest", "u:p")}
    assert client.get("/secret")[0] == b"s"
    with pytest.raises(InvalidACLError):
        client.set_acls("/secret", [])
    assert connect(auth_data=[("digest", "u:p")]).get("/secret")[0] == b"s"
    client.set_acls("/secret", [ACL(31, Id("world", "anyone"))])


def test_the_default_acl_is_for_all_that_is_created_without_one(connect: Connect) -> None:
    client = connect(default_acl=READ_ACL_UNSAFE)
    client.default_acl = mine = [ACL(15, Id("world", "anyone"))]
    with client.transaction() as transaction:
        transaction.create("/by-transaction")
        transaction.create("/by-transaction-open", acl=OPEN_ACL_UNSAFE)
    client.create("/by-create")
    client.create("/by-tree/leaf", makepath=True)
    client.ensure_path("/by-ensure/path")
    for path in ("/by-transaction", "/by-create", "/by-tree", "/by-tree/leaf", "/by-ensure", "/by-ensure/path"):
        assert client.get_acls(path)[0] == mine, path
    assert client.get_acls("/by-transaction-open")[0] == OPEN_ACL_UNSAFE


def test_servers_are_tried_in_their_order_if_that_is_wished(connect: Connect, ensemble: BlockingEnsemble) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(15)]
        names = [f"127.0.0.1:{other.getsockname()[1]}" for other in others]
        connect(hosts=",".join([ensemble.hosts, *names]), randomize_hosts=False, timeout=2.0)
        for other in others:
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.accept()


def test_commands(client: KazooClient) -> None:
    assert client.command() == "imok"
    assert client.command(b"mntr").startswith("zk_version")
    version = client.server_version()
    assert version >= (3, 5)
    assert all(isinstance(part, int) for part in version)
    with pytest.raises(ReconfigDisabledError):
        client.reconfig(None, None, "server.1=localhost:1:2")
    with pytest.raises(ReconfigDisabledError):
        client.reconfig_async(None, "1", None, 5).get(timeout=BOUND)


def test_a_version_that_nobody_names_is_an_error(client: KazooClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def command(cmd: bytes = b"ruok") -> str:
        asked.append(cmd)
        return "zookeeper.version=?"

    monkeypatch.setattr(client, "command", command)
    with pytest.raises(KazooException, match="names no version"):
        client.server_version(retries=2)
    assert asked == [b"envi"] * 3


def test_retry_runs_a_fresh_policy_each_time(client: KazooClient) -> None:
    failures = [ConnectionLoss(), ConnectionLoss()]

    def flaky(value: int) -> int:
        if failures:
            raise failures.pop()
        return value

    assert client.retry(flaky, 3) == 3


def test_a_retry_inside_another_leaves_its_count_alone(connect: Connect) -> None:
    client = connect(command_retry={"max_tries": 2, "delay": 0.01})
    calls: list[None] = []

    def fails_after_another() -> None:
        client.retry(client.exists, "/")
        calls.append(None)
        if len(calls) < 10:
            raise ConnectionLoss

    with pytest.raises(RetryFailedError):
        client.retry(fails_after_another)
    assert len(calls) == 2


# Chroot ---------------------------------------------------------------------------------------------------------------


def test_a_chroot_is_put_on_and_taken_off(client: KazooClient, connect: Connect, ensemble: BlockingEnsemble) -> None:
    client.ensure_path("/app/one")
    inside = connect(hosts=ensemble.hosts + "/app/one")
    assert inside.chroot == "/app/one"
    assert inside.create("/z", b"") == "/z"
    assert client.exists("/app/one/z") is not None
    assert inside.unchroot("/app/one/z") == "/z"
    assert inside.unchroot("/app/one-more") == "/app/one-more"
    inside.chroot = "/app"
    assert inside.get_children("/") == ["one"]
    with pytest.raises(ConfigurationError, match="chroot"):
        inside.set_hosts("127.0.0.1:1/other")


def test_a_chroot_that_is_missing_is_warned_of(connect: Connect, ensemble: BlockingEnsemble) -> None:
    with pytest.warns(UserWarning, match="chroot"):
        inside = connect(hosts=ensemble.hosts + "/not/there")
    assert inside.ensure_path("/") == "/"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect(hosts=ensemble.hosts + "/not/there")


# Transactions ---------------------------------------------------------------------------------------------------------


def test_a_transaction(client: KazooClient) -> None:
    transaction = client.transaction()
    transaction.create("/m", b"1")
    transaction.create("m/s-", sequence=True)
    transaction.set_data("/m", b"2")
    transaction.check("/m", 1)
    transaction.delete("/m/s-0000000000")
    results = transaction.commit()
    assert results[:2] == ["/m", "/m/s-0000000000"]
    assert (results[2].version, results[3:]) == (1, [True, True])


def test_a_transaction_that_fails_tells_by_its_results(client: KazooClient) -> None:
    with client.transaction() as transaction:
        transaction.create("/f")
        transaction.check("/f", 3)
    again = client.transaction()
    again.create("/f")
    again.check("/f", 3)
    results = again.commit_async().get(timeout=BOUND)
    assert [type(result) for result in results] == [RolledBackError, BadVersionError]
    assert client.exists("/f") is None


# Watches --------------------------------------------------------------------------------------------------------------


def test_watches_are_told_once_and_in_order(client: KazooClient) -> None:
    client.create("/w")
    seen = Collected()
    client.get("/w", watch=seen)
    client.exists("/w", watch=seen)
    client.get_children("/w", watch=seen)
    client.create("/w/child")
    client.set("/w", b"1")
    client.set("/w", b"2")
    events = seen.wait(2)
    assert events == [WatchedEvent("CHILD", "CONNECTED", "/w"), WatchedEvent("CHANGED", "CONNECTED", "/w")]
    client.sync("/")
    assert len(seen.items) == 2


def test_a_watch_may_block_and_call_the_client(client: KazooClient) -> None:
    client.create("/block", b"0")
    seen = Collected()

    def watch(event: WatchedEvent) -> None:
        seen(client.get("/block")[0])

    client.get("/block", watch=watch)
    client.set("/block", b"1")
    assert seen.wait(1) == [b"1"]


def test_a_watch_survives_a_lost_connection(client: KazooClient, ensemble: BlockingEnsemble) -> None:
    states, seen = Collected(), Collected()
    client.create("/survives")
    client.get("/survives", watch=seen)
    client.add_listener(states)
    ensemble.drop_connections()
    assert states.wait(2)[:2] == ["SUSPENDED", "CONNECTED"]
    client.retry(client.set, "/survives", b"x")
    assert seen.wait(1) == [WatchedEvent("CHANGED", "CONNECTED", "/survives")]


# Life -----------------------------------------------------------------------------------------------------------------


def test_before_the_start_and_after_the_end_calls_say_so(ensemble: BlockingEnsemble) -> None:
    client = KazooClient(ensemble.hosts)
    assert (client.state, client.client_state, client.connected, client.client_id) == ("LOST", "CLOSED", False, None)
    for call in (client.get_async("/"), client.exists_async("/")):
        with pytest.raises(ConnectionClosedError, match="not started"):
            call.get()
    with pytest.raises(ConnectionClosedError):
        client.ensure_path("/a")
    client.stop()
    client.start()
    assert (client.state, client.client_state, client.connected) == ("CONNECTED", "CONNECTED", True)
    with pytest.raises(KazooException, match="stop"):
        client.close()
    client.stop()
    client.close()
    assert (client.state, client.client_state, client.last_zxid) == ("LOST", "CLOSED", 0)
    with pytest.raises(ConnectionClosedError):
        client.get("/")


def test_a_start_while_it_runs_changes_nothing(client: KazooClient) -> None:
    before = client.client_id
    client.start()
    assert client.start_async().is_set()
    assert client.client_id == before
    client.restart()
    assert client.client_id != before


def test_a_start_that_finds_no_server_is_bounded(ensemble: BlockingEnsemble) -> None:
    client = KazooClient("127.0.0.1:1")
    with pytest.raises(KazooTimeoutError) as caught:
        client.start(timeout=1.0)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    # Stopped, and startable again.
    client.close()
    client.set_hosts(ensemble.hosts)
    client.start()
    assert client.connected
    client.stop()


def test_what_is_asked_before_the_connection_waits_for_it(ensemble: BlockingEnsemble) -> None:
    client = KazooClient("127.0.0.1:1")
    live = client.start_async()
    waiting = client.get_children_async("/")
    client.set_hosts(ensemble.hosts)
    assert live.wait(BOUND)
    assert "zookeeper" in waiting.get(timeout=BOUND)
    client.stop()


def test_a_session_can_be_resumed(client: KazooClient, connect: Connect) -> None:
    client.create("/mine", ephemeral=True)
    before = client.client_id
    assert before is not None
    other = connect(client_id=before)
    # The session moves to whoever connected last, and the first one fetches it back, again and again.
    stat = other.retry(other.exists, "/mine")
    assert stat is not None
    assert stat.owner_session_id == before[0]


def test_a_client_is_a_block(ensemble: BlockingEnsemble) -> None:
    with KazooClient(ensemble.hosts) as client:
        client.create("/block-e", ephemeral=True)
    with KazooClient(ensemble.hosts) as client:
        assert client.exists("/block-e") is None


def test_a_client_has_three_threads_at_most(connect: Connect) -> None:
    before = set(threading.enumerate())
    client = connect()
    client.get_async("/").rawlink(lambda _: None)
    client.add_listener(lambda _: None)
    client.get_children("/", watch=lambda _: None)
    assert len(set(threading.enumerate()) - before) <= 3
    client.stop()
    assert {thread for thread in set(threading.enumerate()) - before if thread.is_alive()} == set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_use_in_a_forked_child_says_so(client: KazooClient) -> None:
    lock = client.Lock("/forked")
    assert lock.acquire()
    calls: list[Callable[[], object]] = [
        lambda: client.get("/"),
        lambda: client.get_async("/"),
        lambda: client.ensure_path("/"),
        lambda: client._queue,
        lambda: list(client._data_watchers),
        lambda: lock.is_acquired,
        lock.cancel,
        lock.release,
        lambda: client.DataWatch("/", print),
        client.start,
        client.stop,
        client.stop,
        client.start,
    ]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            for call in calls:
                try:
                    call()
                except ForkedError as error:
                    os.write(write, f"{error}\n".encode())
                else:
                    os.write(write, b"no error\n")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0
    assert len(said) == len(calls)
    for line in said:
        assert "cannot be used in its child" in line
    assert client.get("/") is not None
    assert lock.is_acquired


# Arguments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"hosts": "h:99999"},
        {"handler": SequentialThreadingHandler},
        {"connection_retry": 5},
        {"command_retry": KazooRetry(sleep_func=print)},
        {"check_hostname": True, "verify_certs": False},
        {"auth_data": [("sasl", "u:p")], "sasl_options": {}},
    ],
)
def test_arguments_that_cannot_be_used_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        KazooClient(**options)


def test_listeners(client: KazooClient) -> None:
    with pytest.raises(ConfigurationError):
        client.add_listener(None)  # type: ignore[arg-type]
    seen = Collected()
    client.add_listener(seen)
    assert client.state_listeners == {seen}
    client.remove_listener(seen)
    client.remove_listener(seen)
    assert client.state_listeners == set()
