"""A real SIGINT in a real process: what a blocked call leaves behind (nothing), and that the client goes on."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.testcluster import BlockingEnsemble

BOUND = 20.0

PROGRAM = """
import signal, sys, threading
# Whoever is started in the background by a shell has been told to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from terzetto.client.kazoo.client import KazooClient

client = KazooClient(sys.argv[1], timeout=30)
client.start()

def tell_when_it_waits():
    while not client._pending:
        pass
    print("waits", flush=True)

def tell_when_it_starts():
    while not client.lifecycle.running:
        pass
    print("starts", flush=True)

tellers = []

def begin(tell):
    tellers.append(threading.Thread(target=tell))
    tellers[-1].start()

try:
    print("ready", flush=True)
    {call}
    print("returned", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(client.lifecycle.running, flush=True)
sys.stdin.readline()
client.start()
client.retry(client.create, "/after", b"", ephemeral=True)
print(client.Lock("/lock").contenders(), len(client._queue), len(client._pending), flush=True)
client.stop()
for teller in tellers:
    teller.join()
left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(left, flush=True)
"""


class Child:
    """The program, and the lines that it has written."""

    def __init__(self, call: str, hosts: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(call=call), hosts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """The next line, in time."""
        assert self.process.stdout is not None
        lines: list[str] = []
        reader = threading.Thread(target=self._read, args=(self.process.stdout, lines), daemon=True)
        reader.start()
        reader.join(BOUND)
        assert lines, "nothing was written in time"
        return lines[0].strip()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        lines.append(stream.readline())

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def start(ensemble: BlockingEnsemble) -> Iterator[Callable[[str], Child]]:
    with contextlib.ExitStack() as stack:

        def begin(call: str) -> Child:
            child = Child(call, ensemble.hosts)
            stack.enter_context(child.process)
            stack.callback(child.process.kill)
            assert child.line() == "ready"
            return child

        yield begin


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline


def test_an_interrupted_acquire_leaves_no_contender(client: KazooClient, start: Callable[[str], Child]) -> None:
    lock = client.Lock("/lock", "owner")
    assert lock.acquire()
    child = start('client.Lock("/lock", "child").acquire()')
    wait_for(lambda: len(lock.contenders()) == 2)
    child.process.send_signal(signal.SIGINT)
    assert child.line() == "interrupted"
    assert child.line() == "True"
    wait_for(lambda: lock.contenders() == ["owner"])
    child.go_on()
    assert child.line() == "['owner'] 0 0"
    assert child.line() == "[]"
    assert child.process.wait(BOUND) == 0
    assert lock.release()


def test_an_interrupted_request_is_withdrawn_and_the_client_goes_on(
    ensemble: BlockingEnsemble, start: Callable[[str], Child]
) -> None:
    child = start("sys.stdin.readline(); begin(tell_when_it_waits); client.get('/')")
    ensemble.pause(1)
    try:
        child.go_on()
        assert child.line() == "waits"
        child.process.send_signal(signal.SIGINT)
        assert child.line() == "interrupted"
        assert child.line() == "True"
    finally:
        ensemble.resume(1)
    child.go_on()
    assert child.line() == "[] 0 0"
    assert child.line() == "[]"
    assert child.process.wait(BOUND) == 0


def test_an_interrupted_start_leaves_nothing(ensemble: BlockingEnsemble, start: Callable[[str], Child]) -> None:
    child = start(
        "client.stop(); print('stopped', flush=True); sys.stdin.readline();"
        " begin(tell_when_it_starts); client.start(timeout=60)"
    )
    assert child.line() == "stopped"
    ensemble.pause(1)
    try:
        child.go_on()
        assert child.line() == "starts"
        child.process.send_signal(signal.SIGINT)
        assert child.line() == "interrupted"
        assert child.line() == "False"
    finally:
        ensemble.resume(1)
    child.go_on()
    assert child.line() == "[] 0 0"
    assert child.line() == "[]"
    assert child.process.wait(BOUND) == 0
