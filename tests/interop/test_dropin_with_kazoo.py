"""One program, one process of it on kazoo and one on the drop-in: they exclude each other, on both kinds of server."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
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
        assert waiting.contenders() == holder.contenders() == ["holder"]
        assert not waiting.acquire(blocking=False)
        assert not second.ReadLock("/shared").acquire(blocking=False)
    assert waiting.acquire(timeout=DEADLINE)
    assert waiting.release()
    with first.ReadLock("/shared", "reader"):
        assert second.ReadLock("/shared").acquire(blocking=False)
        assert not second.WriteLock("/shared").acquire(blocking=False)
