"""`import kazoo` answered by the drop-in, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from terzetto.client.kazoo import install
install()
install()
import kazoo
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeException
import kazoo.protocol.states
import terzetto.client, terzetto.client.kazoo.client
assert KazooClient is terzetto.client.kazoo.client.KazooClient
assert NoNodeException is terzetto.client.NoNodeError
assert kazoo.__version__ == "2.11.0"
assert kazoo.protocol.states.ZnodeStat is terzetto.client.ZnodeStat
try:
    import kazoo.handlers.gevent
except ImportError as error:
    print(error)
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_every_module_is_ours() -> None:
    done = run(PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")
    assert "No module named 'kazoo.handlers.gevent'" in done.stdout


def test_a_kazoo_that_is_there_already_is_an_error() -> None:
    done = run("import kazoo\nfrom terzetto.client.kazoo import install\ninstall()")
    assert done.returncode == 1
    assert "kazoo itself is imported already" in done.stderr


CHILDREN = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from kazoo.client import KazooClient

def module() -> str:
    return KazooClient.__module__

if __name__ == "__main__":
    for method in ("spawn", "forkserver"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            print(method, pool.submit(module).result())
"""


def test_processes_that_a_program_starts_have_it_too(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(CHILDREN)
    command = [sys.executable, "-m", "terzetto.client.kazoo", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    ours = "terzetto.client.kazoo.client"
    assert done.stdout.splitlines() == [f"spawn {ours}", f"forkserver {ours}"]
