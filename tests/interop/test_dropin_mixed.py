"""One process on kazoo and one on the drop-in, running the same program, share recipes, whoever comes first.

Locks and elections are in `test_dropin_with_kazoo`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from terzetto.client.kazoo.client import KazooClient

from .programs import DEADLINE, DROPIN, KAZOO, finish_program, start_program

SHARE = 12

PROGRAM = """
import datetime
import json
import sys
import threading

from kazoo.client import KazooClient

hosts, recipe, name, share = sys.argv[1:]
share = int(share)
client = KazooClient(hosts)
client.start()


def say(words):
    print(json.dumps(words), flush=True)


def hear():
    return json.loads(sys.stdin.readline())


def wait_for_children(path, enough):
    there = threading.Event()

    def look(children):
        if enough(len(children)):
            there.set()
            return False

    client.ensure_path(path)
    client.ChildrenWatch(path, look)
    assert there.wait(30), client.get_children(path)


def together(where="/together"):
    # Each only once: who has left one may come back before the other has seen that he left.
    barrier = client.DoubleBarrier(where, 2)
    barrier.enter()
    barrier.leave()


def party(kind):
    members = getattr(client, kind)("/party", name)
    members.join()
    say("joined")
    wait_for_children("/party", lambda count: count == 2)
    say(sorted(members))
    hear()
    members.leave()
    wait_for_children("/party", lambda count: count == 0)
    say(len(members))


def queue():
    items = client.Queue("/queue")
    for number in range(share):
        items.put(f"{name} {number}".encode(), priority=100 - number)
    say(len(items))
    hear()
    together()
    taken = []
    while (item := items.get()) is not None:
        taken.append(item.decode())
    say(taken)


def locking_queue():
    items = client.LockingQueue("/queue")
    items.put_all([f"{name} {number}".encode() for number in range(share)])
    say("put")
    hear()
    together()
    taken = []
    while len(items):
        # Nothing within a second says nothing: the other may have it, or the server be slow.
        if (item := items.get(timeout=1)) is None:
            continue
        assert items.holds_lock()
        taken.append(item.decode())
        items.consume()
    say(taken)


def counter():
    count = client.Counter("/counter")
    say("made")
    hear()
    together()
    for _ in range(share):
        client.retry(count.__add__, 1)
    together("/counted")
    say(count.value)


def lease():
    say(bool(client.NonBlockingLease("/lease", datetime.timedelta(seconds=60), identifier=name)))
    hear()
    say(bool(client.NonBlockingLease("/lease", datetime.timedelta(seconds=60), identifier=name)))


def partitioner():
    parts = client.SetPartitioner("/parts", set(map(str, range(share))), identifier=name, time_boundary=0.5)
    say("made")
    # Another thread changes both, the state and the set: the set that is said is the one that was looked at.
    while not (parts.acquired and 0 < len(mine := list(parts)) < share):
        if parts.release:
            parts.release_set()
        elif parts.allocating:
            parts.wait_for_acquire(1)
        elif parts.failed:
            raise RuntimeError("no partition")
        else:
            client.get("/parts")
    say(sorted(mine, key=int))
    hear()
    parts.finish()


{
    "Party": lambda: party("Party"),
    "ShallowParty": lambda: party("ShallowParty"),
    "Queue": queue,
    "LockingQueue": locking_queue,
    "Counter": counter,
    "Lease": lease,
    "SetPartitioner": partitioner,
}[recipe]()
client.stop()
client.close()
say(KazooClient.__module__)
"""


class Peer:
    """A process with the program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def heard(self) -> Any:
        """The next thing that it says; if it ends instead, or hangs, why."""
        assert self.process.stdout is not None
        # Python writes then where each of its threads is.
        patience = threading.Timer(DEADLINE, self.process.send_signal, [signal.SIGABRT])
        patience.start()
        try:
            line = self.process.stdout.readline()
        finally:
            patience.cancel()
        if not line:
            finish_program(self.process)
        return json.loads(line)

    def tell(self) -> None:
        """Has it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("null\n")
        self.process.stdin.flush()


class Pair:
    """The two processes of a test, in the order in which they come."""

    def __init__(self, hosts: str, folder: Path, prefixes: Sequence[Sequence[str]]) -> None:
        self.hosts = hosts
        self.folder = folder
        self.prefixes = prefixes
        self.started: list[Peer] = []
        (folder / "program.py").write_text(PROGRAM, encoding="utf-8")

    def start(self, recipe: str, name: str) -> Peer:
        """Starts the next one."""
        prefix = self.prefixes[len(self.started)]
        arguments = ("program.py", self.hosts, recipe, name, str(SHARE))
        process = start_program(
            prefix,
            *arguments,
            folder=self.folder,
            environment={"PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.PIPE,
        )
        peer = Peer(process)
        self.started.append(peer)
        return peer

    def finish(self) -> None:
        """Both end well, each on what it was meant to be on."""
        for prefix, peer in zip(self.prefixes, self.started, strict=True):
            assert peer.heard() == ("kazoo.client" if prefix is KAZOO else "terzetto.client.kazoo.client")
            assert finish_program(peer.process) == ("", "")


@pytest.fixture(
    params=[
        pytest.param(("real", KAZOO, DROPIN), id="real, kazoo first"),
        pytest.param(("embedded", DROPIN, KAZOO), id="embedded, drop-in first"),
        pytest.param(("real", DROPIN, KAZOO), id="real, drop-in first", marks=pytest.mark.soak),
        pytest.param(("embedded", KAZOO, DROPIN), id="embedded, kazoo first", marks=pytest.mark.soak),
    ]
)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    kind, *prefixes = request.param
    hosts: str = (
        request.getfixturevalue("zookeeper").hosts if kind == "real" else request.getfixturevalue("embedded_hosts")
    )
    chroot = uuid.uuid4().hex
    with KazooClient(hosts) as outside:
        outside.create(f"/{chroot}")
    made = Pair(f"{hosts}/{chroot}", tmp_path, prefixes)
    yield made
    for peer in made.started:
        peer.process.kill()
        peer.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Party", "ShallowParty"])
def test_a_party_has_both(pair: Pair, kind: str) -> None:
    first = pair.start(kind, "first")
    assert first.heard() == "joined"
    second = pair.start(kind, "second")
    assert second.heard() == "joined"
    for peer in (first, second):
        assert peer.heard() == ["first", "second"]
    for peer in (first, second):
        peer.tell()
    assert (first.heard(), second.heard()) == (0, 0)
    pair.finish()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Queue", "LockingQueue"])
def test_each_item_of_a_queue_is_taken_once(pair: Pair, kind: str) -> None:
    first = pair.start(kind, "first")
    assert first.heard() in (SHARE, "put")
    second = pair.start(kind, "second")
    assert second.heard() in (2 * SHARE, "put")
    for peer in (first, second):
        peer.tell()
    taken = [peer.heard() for peer in (first, second)]
    assert sorted(taken[0] + taken[1]) == sorted(f"{name} {n}" for name in ("first", "second") for n in range(SHARE))
    for items in taken:
        for name in ("first", "second"):
            numbers = [int(item.split()[1]) for item in items if item.startswith(name)]
            # The queue's items were put with the later ones first in rank, the locking queue's all alike.
            assert numbers == sorted(numbers, reverse=kind == "Queue")
    pair.finish()


@pytest.mark.slow
def test_both_count(pair: Pair) -> None:
    first, second = pair.start("Counter", "first"), pair.start("Counter", "second")
    for peer in (first, second):
        assert peer.heard() == "made"
        peer.tell()
    assert (first.heard(), second.heard()) == (2 * SHARE, 2 * SHARE)
    pair.finish()


@pytest.mark.slow
def test_a_lease_is_the_first_ones(pair: Pair) -> None:
    first = pair.start("Lease", "first")
    assert first.heard() is True
    second = pair.start("Lease", "second")
    assert second.heard() is False
    for peer in (first, second):
        peer.tell()
    # Who has it may have it again, the other may not.
    assert (first.heard(), second.heard()) == (True, False)
    pair.finish()


@pytest.mark.slow
def test_a_set_is_divided(pair: Pair) -> None:
    first = pair.start("SetPartitioner", "first")
    assert first.heard() == "made"
    second = pair.start("SetPartitioner", "second")
    assert second.heard() == "made"
    parts = [peer.heard() for peer in (first, second)]
    assert sorted(parts[0] + parts[1], key=int) == [str(number) for number in range(SHARE)]
    assert abs(len(parts[0]) - len(parts[1])) <= 1
    for peer in (first, second):
        peer.tell()
    pair.finish()
