"""One program, one process of it on kazoo and one on the drop-in: they exclude each other, on both kinds of server."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient as TheirClient

from terzetto.client.kazoo.client import KazooClient
from terzetto.testcluster import start_ensemble

DEADLINE = 60.0
TURNS = 10

PROGRAM = """
import sys
from kazoo.client import KazooClient

hosts, recipe, name, turns = sys.argv[1:]
client = KazooClient(hosts)
client.start()


def turn():
    client.create("/inside", name.encode(), ephemeral=True)
    value = int(client.get("/count")[0])
    client.set("/count", str(value + 1).encode())
    client.delete("/inside")


made = getattr(client, recipe)("/shared", name)
for _ in range(int(turns)):
    if recipe == "Election":
        made.run(turn)
    else:
        with made:
            turn()
client.stop()
print(KazooClient.__module__)
"""


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    with start_ensemble(servers=3) as ensemble:
        yield ensemble.hosts


@pytest.fixture(params=["real", "embedded"])
def hosts(request: pytest.FixtureRequest) -> str:
    if request.param == "real":
        found: str = request.getfixturevalue("zookeeper").hosts
    else:
        found = request.getfixturevalue("embedded")
    return f"{found}/{uuid.uuid4().hex}"


@pytest.mark.parametrize("recipe", ["Lock", "WriteLock", "Semaphore", "Election"])
def test_two_processes_exclude_each_other(hosts: str, recipe: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    servers, _, chroot = hosts.partition("/")
    with KazooClient(servers) as outside:
        outside.create(f"/{chroot}/count", b"0", makepath=True)
        processes: list[subprocess.Popen[str]] = []
        try:
            for prefix in ([], ["-m", "terzetto.client.kazoo"]):
                command = [
                    sys.executable,
                    *prefix,
                    str(program),
                    hosts,
                    recipe,
                    f"process {len(processes)}",
                    str(TURNS),
                ]
                processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            said = [process.communicate(timeout=DEADLINE) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert said == [("kazoo.client\n", ""), ("terzetto.client.kazoo.client\n", "")]
        outside.sync(f"/{chroot}")
        assert outside.get(f"/{chroot}/count")[0] == str(2 * TURNS).encode()


@pytest.fixture
def peers(hosts: str) -> Iterator[tuple[Any, KazooClient]]:
    theirs: Any = TheirClient(hosts)
    ours = KazooClient(hosts)
    with KazooClient(hosts.partition("/")[0]) as outside:
        outside.ensure_path("/" + hosts.partition("/")[2])
    theirs.start()
    try:
        ours.start()
        try:
            yield theirs, ours
        finally:
            ours.stop()
            ours.close()
    finally:
        theirs.stop()
        theirs.close()


@pytest.mark.parametrize("ours_first", [True, False])
def test_each_sees_the_others_contenders(peers: tuple[Any, KazooClient], ours_first: bool) -> None:
    first: Any
    second: Any
    first, second = reversed(peers) if ours_first else peers
    holder, waiting = first.Lock("/shared", "holder"), second.Lock("/shared", "waiting")
    with holder:
        second.sync("/shared")
        assert waiting.contenders() == holder.contenders() == ["holder"]
        assert not waiting.acquire(blocking=False)
        assert not second.ReadLock("/shared").acquire(blocking=False)
    assert waiting.acquire(timeout=DEADLINE)
    assert waiting.release()
    with first.ReadLock("/shared", "reader"):
        assert second.ReadLock("/shared").acquire(blocking=False)
        assert not second.WriteLock("/shared").acquire(blocking=False)


@pytest.mark.parametrize("kind", ["Party", "ShallowParty"])
def test_a_party_has_members_of_both(peers: tuple[Any, KazooClient], kind: str) -> None:
    parties = [getattr(client, kind)("/party", name) for client, name in zip(peers, ("theirs", "ours"), strict=True)]
    for party in parties:
        party.join()
    for client, party in zip(peers, parties, strict=True):
        client.sync("/party")
        assert sorted(party) == ["ours", "theirs"]
        assert len(party) == 2
    parties[0].leave()
    peers[1].sync("/party")
    assert list(parties[1]) == ["ours"]


@pytest.mark.parametrize("ours_first", [True, False])
def test_queues_are_shared(peers: tuple[Any, KazooClient], ours_first: bool) -> None:
    first: Any
    second: Any
    first, second = reversed(peers) if ours_first else peers
    queue = first.Queue("/queue")
    for value, priority in ((b"later", 200), (b"sooner", 5), (b"between", 100)):
        queue.put(value, priority)
    second.sync("/queue")
    taken = second.Queue("/queue")
    assert (len(taken), [taken.get() for _ in range(4)]) == (3, [b"sooner", b"between", b"later", None])
    mine, yours = first.LockingQueue("/held"), second.LockingQueue("/held")
    mine.put_all([b"1", b"2"])
    second.sync("/held")
    assert mine.get(timeout=DEADLINE) == b"1"
    second.sync("/held")
    assert yours.get(timeout=DEADLINE) == b"2"
    assert mine.holds_lock()
    assert mine.release()
    assert yours.consume()
    second.sync("/held")
    assert yours.get(timeout=DEADLINE) == b"1"
    assert yours.consume()
    first.sync("/held")
    assert len(mine) == 0


def test_a_double_barrier_and_a_counter_are_shared(peers: tuple[Any, KazooClient]) -> None:
    barriers = [
        client.DoubleBarrier("/barrier", 2, name) for client, name in zip(peers, ("theirs", "ours"), strict=True)
    ]
    with ThreadPoolExecutor(2) as threads:
        for step in ("enter", "leave"):
            for done in [threads.submit(getattr(barrier, step)) for barrier in barriers]:
                done.result(DEADLINE)
            assert {barrier.participating for barrier in barriers} == {step == "enter"}
    counters = [client.Counter("/counter") for client in peers]
    for _ in range(5):
        counters = [counter + 3 for counter in counters]
    peers[1].sync("/counter")
    assert counters[1].value == 30
