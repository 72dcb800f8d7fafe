"""The same calls to kazoo and to the drop-in, each on a server of its own: results and errors are the same.

A call is a line of Python on a client `c` and what was made before; what comes of it is compared without znodes' times,
by the names of classes where they are ours or kazoo's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple, cast

import pytest

from terzetto.testcluster import start_ensemble

CALLS = """
c.create("/a", b"1")
c.create("/a")
c.create("relative")
c.create("/s-", sequence=True)
c.create("/a/", sequence=True)
c.create("/null", None)
c.get("/null")
c.create("/with-stat", b"x", include_data=True)
c.create("/m/n/o", b"x", makepath=True)
c.create("/m/p/q", b"x", makepath=True, include_data=True)
c.create("/e", ephemeral=True)
c.create("/e/f")
c.create("/str", "x")
c.create(5)
c.create("/flag", ephemeral=1)
c.create("/acl", b"", acl[0])
c.create("/acl-empty", b"", [])
c.create_async("/acl-empty-async", b"", []).get(timeout=10)
c.create("/acl-tuple", b"", tuple(acl))
c.create("/a/..")
c.create("/./a")
c.create("")
c.create("/")
c.create("/x\\x01")
c.create("/\\u00e4\\u6c34")
c.create("/bytearray", bytearray(b"x"))
[c.get(path)[0] for path in ("/a", "a", "/a/", "")]
[c.exists(path) for path in ("/a", "a", "/nope")]
[sorted(c.get_children(path)) for path in ("/m", "m/")]
c.get_children("/nope")
c.get_acls("/a")
c.sync("nope")
c.delete("/nope")
c.get(None)
c.exists(b"/a")
c.get("/a", watch=5)
c.get_children("/m", include_data=True)
c.get_children("/m", include_data=1)
c.set("/a", b"2")
c.set("/a", None)
c.set("/a", "x")
c.set("/a", b"3", version=99)
c.set("/a", b"3", version=None)
c.set("/none", b"")
c.set_acls("/a", acl)
c.set_acls("/a", [])
c.set_acls("/a", acl[0])
c.set_acls("/a", acl, version=77)
c.delete("/a", version=99)
c.delete("/a", version="9")
c.delete("/a", version=None)
c.delete("/m")
c.delete("/m", recursive=1)
c.delete("/m", recursive=True)
c.delete("/m", recursive=True)
c.delete("/")
c.ensure_path("/x/y/z")
c.ensure_path("/x/y/z")
c.ensure_path("q/r")
c.ensure_path("/x/w", acl)
c.ensure_path("/")
c.ensure_path("/e/g")
c.ensure_path(3)
c.ensure_path("/x/v", acl[0])
tx(("create", "/t", b"1"), ("set_data", "/t", b"2"), ("check", "/t", 1), ("delete", "/t"))
tx(("create", "/t"), ("delete", "/nope"), ("create", "/u"))
tx()
tx(("create", "/t", None))
tx(("create", "/ts-", b"", None, False, True))
tx(("create", 5))
tx(("delete", "/a/.."))
tx(("delete", "/a", None))
tx(("check", "/a", None))
tx(("create", "/t\\x01"))
c.add_auth("digest", 5)
c.add_auth(None, "x")
c.add_auth("digest", "u:p")
c.auth_data
c.command(b"ruok")
c.add_listener(None)
c.add_listener(5)
c.remove_listener(print)
c.unchroot("/a")
(c.state, c.client_state, c.connected, c.last_zxid > 0)
c.Lock(5).acquire(timeout=1)
c.Lock("/lock").acquire(blocking=False, timeout=1)
put("lock", c.Lock("/lock", "me")).acquire()
lock.acquire(blocking=False)
lock.acquire(timeout=0.1)
c.Lock("/lock").acquire(timeout=0)
lock.contenders()
(lock.release(), lock.release(), lock.is_acquired, lock.data, lock.path)
(lock.cancel(), lock.acquire())
(lock.acquire(timeout=5), lock.release(), lock.node)
put("semaphore", c.Semaphore("/semaphore", "x", 2)).acquire()
(semaphore.acquire(), semaphore.lease_holders(), semaphore.release(), semaphore.release())
c.Semaphore("/semaphore", "x", 3).acquire()
put("queue", c.Queue("/queue")).put(b"a")
queue.put("a")
queue.put(b"a", 1000)
queue.put(b"a", -1)
queue.put(b"a", 1.5)
(len(queue), queue.get(), queue.get(), len(queue))
put("held", c.LockingQueue("/held")).get(0)
(held.holds_lock(), held.consume(), held.release())
(held.put(b"a"), held.put_all([b"b", b"c"]), len(held))
held.put_all((b"z",))
held.put("x")
(held.get(0), held.get(1), held.holds_lock(), held.release(), held.get(1), held.consume(), len(held))
put("counter", c.Counter("/counter")).value
(counter + 2).value
(counter - 5).value
counter + 1.5
(counter.pre_value, counter.post_value)
c.Counter("/seven", default=7).value
(c.Counter("/float", default=0.5) + 1.5).value
c.Counter("/float", default=0.5) + 1
(c.Counter("/curator", support_curator=True) + 3).value
c.Counter("/curator-float", default=1.0, support_curator=True)
put("barrier", c.Barrier("/barrier")).wait(0)
(barrier.create(), barrier.create(), barrier.wait(0.05), barrier.remove(), barrier.remove(), barrier.wait(1))
(put("double", c.DoubleBarrier("/double", 1)).enter(), double.participating, double.leave(), double.participating)
put("election", c.Election("/election", "me")).run(5)
(election.run(told.append, 1), list(told))
election.run(lambda: 1 / 0)
(election.cancel(), election.run(told.append, 2), list(told), election.contenders())
(put("party", c.Party("/party", "me")).join(), list(party), len(party), party.participating, party.leave(), list(party))
(party.leave(), party.join(), party.join(), len(party), party.leave(), party.data)
(put("shallow", c.ShallowParty("/shallow", "m-e")).join(), list(shallow), len(shallow), shallow.leave(), list(shallow))
bool(c.NonBlockingLease("/lease", timedelta(seconds=30), "x"))
bool(c.NonBlockingLease("/lease", timedelta(seconds=30), "y"))
bool(c.NonBlockingLease("/lease", timedelta(seconds=30), "x"))
[bool(c.MultiNonBlockingLease(2, "/leases", timedelta(seconds=30), str(i))) for i in range(3)]
(c.DataWatch("/watched", lambda data, stat: told.append(data)), told[-1])
(c.DataWatch("/watched", lambda *all: told.append(len(all))), told[-1])
(c.DataWatch("/watched", lambda data, stat, event: told.append(event)), told[-1])
c.DataWatch("/watched", print)(print)
c.DataWatch("/watched", 5)
c.DataWatch("/watched", lambda data, stat: 1 / 0)
c.DataWatch("/watched", lambda: None)
(c.ChildrenWatch("/x", told.append), sorted(told[-1]))
(c.ChildrenWatch("/x", lambda children, event: told.append(event), send_event=True), told[-1])
c.ChildrenWatch("/x", 5)
c.ChildrenWatch("/x", lambda children: 1 / 0)
c.ChildrenWatch("/x", lambda: None)
(c.stop(), c.stop())
(c.state, c.client_state, c.connected, c.client_id, c.last_zxid)
c.get("/a")
c.get_async("/a").get(timeout=10)
c.ensure_path("/a")
c.ensure_path_async("/a").get(timeout=10)
c.create_async("/a", makepath=True).get(timeout=10)
c.delete("/a", recursive=True)
tx(("create", "/t"))
c.transaction().commit_async().get(timeout=10)
c.retry(c.get, "/a")
c.server_version()
c.add_auth_async("digest", "a:b").get(timeout=10)
c.Lock("/lock").acquire(timeout=1)
c.Party("/party").join()
c.Queue("/queue").put(b"")
c.Counter("/counter").value
(c.start(), c.get("/a")[0], sorted(c.auth_data))
(c.stop(), c.close())
"""


class Seen(NamedTuple):
    """A Stat without what depends on the hour and on the server."""

    version: int
    cversion: int
    aversion: int
    data_length: int
    children: int


def plain(value: Any) -> Any:
    """A result without the classes of either side."""
    if type(value).__name__ == "ZnodeStat":
        return Seen(value.version, value.cversion, value.aversion, value.dataLength, value.numChildren)
    if isinstance(value, (list, tuple, set)):
        return [plain(each) for each in cast("list[Any]", value)]
    if isinstance(value, (bool, int, str, bytes, float, type(None))):
        return value
    return type(value).__name__


def outcomes(package: str) -> Iterator[Any]:
    """What comes of each call."""
    client_module: Any = importlib.import_module(f"{package}.client")
    security: Any = importlib.import_module(f"{package}.security")
    errors: Any = importlib.import_module(f"{package}.exceptions")
    refusals = (errors.KazooException, ArithmeticError, TypeError, ValueError)
    with start_ensemble() as ensemble:
        client = client_module.KazooClient(ensemble.hosts)
        client.start()
        names: dict[str, Any] = {"c": client, "told": [], "timedelta": timedelta}
        names["acl"] = [security.make_acl("world", "anyone", all=True)]

        def put(name: str, value: Any) -> Any:
            names[name] = value
            return value

        def tx(*operations: tuple[Any, ...]) -> Any:
            transaction = client.transaction()
            for method, *arguments in operations:
                getattr(transaction, method)(*arguments)
            return transaction.commit()

        names.update(put=put, tx=tx)
        try:
            for call in CALLS.strip().splitlines():
                try:
                    yield plain(eval(call, names))  # noqa: S307  the calls are ours
                except refusals as error:
                    yield f"raises {type(error).__name__}"
        finally:
            client.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_call_has_the_same_outcome() -> None:
    theirs, ours = list(outcomes("kazoo")), list(outcomes("terzetto.client.kazoo"))
    calls = CALLS.strip().splitlines()
    assert len(theirs) == len(ours) == len(calls) > 150
    differences = [(call, *both) for call, *both in zip(calls, theirs, ours, strict=True) if both[0] != both[1]]
    assert differences == []
