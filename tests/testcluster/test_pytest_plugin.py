"""The pytest fixtures, in pytest runs of their own, as a project that uses them has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
from terzetto.client import open_zookeeper

@pytest.mark.trio
async def test_a_client_of_ones_own(zk, zk_ensemble):
    await zk.create("/mine", b"1")
    assert zk_ensemble.sids == SIDS
    async with open_zookeeper(zk_ensemble.hosts + zk.chroot) as other:
        assert (await other.get("/mine"))[0] == b"1"

@pytest.mark.trio
async def test_which_the_next_test_does_not_see(zk):
    assert await zk.exists("/mine") is None
    assert await zk.get_children("/") == []

@pytest.mark.parametrize("name", ["a/b", "x" * 300, "\\u00fc"])
@pytest.mark.trio
async def test_names_of_any_kind(zk, name):
    await zk.create("/a")

def test_a_server_is_left_dead_and_one_paused(zk_ensemble):
    zk_ensemble.kill(zk_ensemble.sids[0])
    if len(zk_ensemble.sids) > 1:
        zk_ensemble.pause(zk_ensemble.sids[1])

def test_and_all_serve_again(kazoo_client, zk_ensemble):
    kazoo_client.create("/blocking", b"2")
    assert kazoo_client.get("/blocking")[0] == b"2"
    zk_ensemble.wait_serving()

def test_a_blocking_client_of_ones_own(kazoo_client):
    assert kazoo_client.get_children("/") == []
"""

# What is left behind is looked for when everything else of the session is over.
CONFTEST = """
import os, pathlib, threading

def text(name):
    return pathlib.Path("/proc/self", name).read_text()

def pytest_unconfigure(config):
    threads = [thread.name for thread in threading.enumerate() if not thread.name.startswith(("MainThread", "execnet"))]
    # trio keeps the threads of its own pool for some seconds, idle.
    threads = [name for name in threads if not name.startswith("Trio thread")]
    sockets = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:"):
            sockets.append(target)
    inodes = {line.split()[9] for name in ("tcp", "tcp6") for line in text(f"net/{name}").splitlines()[1:]}
    tcp = [socket for socket in sockets if socket[8:-1] in inodes]
    children = text(f"task/{os.getpid()}/children").split()
    if hasattr(config, "workerinput") or config.getoption("numprocesses", None) is None:
        with open(os.environ["LEFT_BEHIND"], "a") as out:
            print(f"{threads=} {tcp=} {children=}", file=out)
"""


def run(folder: Path, *arguments: str, servers: int = 3, settings: str = "") -> tuple[str, list[str]]:
    """What a pytest run printed, and what each of its processes had left at its end."""
    tests = folder / "project"
    tests.mkdir()
    (tests / "test_project.py").write_text(TESTS.replace("SIDS", repr(tuple(range(1, servers + 1)))))
    (tests / "conftest.py").write_text(CONFTEST)
    (tests / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{settings}\n")
    scratch = folder / "scratch"
    scratch.mkdir()
    left = folder / "left"
    environment = {**os.environ, "TMPDIR": str(scratch), "LEFT_BEHIND": str(left)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments, str(tests)]
    done = subprocess.run(command, cwd=tests, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # The folder of pytest's own is pytest's business.
    assert [path.name for path in scratch.iterdir() if not path.name.startswith("pytest-of-")] == []
    return done.stdout, left.read_text().splitlines() if left.exists() else []


CLEAN = "threads=[] tcp=[] children=[]"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks into /proc for what is left behind")
def test_a_session_leaves_nothing_behind(tmp_path: Path) -> None:
    printed, left = run(tmp_path)
    assert "8 passed" in printed
    assert left == [CLEAN]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks into /proc for what is left behind")
def test_every_worker_of_xdist_has_an_ensemble_of_its_own(tmp_path: Path) -> None:
    printed, left = run(tmp_path, "-n", "2", servers=1, settings="zk_servers = 1")
    assert "8 passed" in printed
    assert left == [CLEAN, CLEAN]


def test_the_number_of_servers_is_an_option(tmp_path: Path) -> None:
    run(tmp_path, "--zk-servers", "1", "-k", "ones_own", servers=1, settings="zk_servers = 3")


@pytest.mark.parametrize("number", ["0", "three"])
def test_a_wrong_number_is_named(tmp_path: Path, number: str) -> None:
    (tmp_path / "test_one.py").write_text("def test_one(zk_ensemble):\n    pass\n")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nzk_servers = {number}\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert f"zk_servers must be a positive number of servers, not '{number}'" in done.stdout + done.stderr


def test_a_run_that_uses_no_fixture_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        "import sys\n\ndef test_one():\n"
        "    loaded = {name for name in sys.modules if name.startswith('terzetto.')}\n"
        "    assert 'terzetto.testcluster.ensemble' not in loaded\n"
        "    assert 'terzetto.client._client' not in loaded, sorted(loaded)\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:trio"]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
