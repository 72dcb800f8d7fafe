"""One data directory under this server and Java's in turn, each killed while it writes: nothing acknowledged is lost.

`test_disk_formats.py` compares the files; here whole servers take over from one another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import codec, operations as o, records as r
from terzetto.testcluster.reserved_port import ReservedPort
from tests.testcluster.cli.test_running import running

from .rawclient import Closed, RawClient
from .zookeeper import RealZooKeeper, ServerOptions

DEPTH = 50
"""Creates that are under way at any moment."""

ENOUGH = 400
DEADLINE = 30.0


class Writer:
    """Creates znodes without a pause until the server goes, and remembers which were acknowledged."""

    def __init__(self, port: int, name: str) -> None:
        self.acknowledged: list[str] = []
        self._name = name
        self._enough = threading.Event()
        self._client = RawClient(port)
        self._client.connect()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        sent = 0
        try:
            while True:
                while sent < len(self.acknowledged) + DEPTH:
                    path = f"/{self._name}-{sent}"
                    self._client.send(o.CREATE.frame(sent, path, b"data", OPEN_ACL_UNSAFE, 0))
                    sent += 1
                reply = self._client.next_reply()
                assert (reply.xid, reply.err) == (len(self.acknowledged), 0)
                self.acknowledged.append(f"{self._name}-{reply.xid}")
                if len(self.acknowledged) == ENOUGH:
                    self._enough.set()
        except Closed:
            self._client.close()

    def wait_for_enough(self) -> None:
        assert self._enough.wait(DEADLINE)

    def finish(self) -> list[str]:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return self.acknowledged


def names(port: int) -> list[str]:
    with RawClient(port) as client:
        client.connect()
        client.send(o.GET_CHILDREN.frame(1, "/", False))
        (frame,) = client.read_until(1)
    record, _ = codec(r.GetChildrenResponse).decode(frame.body, 0, len(frame.body))
    return sorted(name for name in record.children if name != "zookeeper")


@contextmanager
def java(folder: Path) -> Iterator[int]:
    """Java's server until SIGKILL."""
    options = ServerOptions(zoo_cfg={"dataDir": folder, "snapCount": 300, "preAllocSize": 64})
    with RealZooKeeper(options) as server:
        yield server.port
        server.kill()


@contextmanager
def here(folder: Path) -> Iterator[int]:
    """This server until SIGKILL."""
    port = ReservedPort()
    config = folder / "zoo.cfg"
    config.write_text(
        f"dataDir={folder}\nclientPort={port.number}\nclientPortAddress=127.0.0.1\nsnapCount=300\npreAllocSize=64\n"
        "admin.enableServer=false\n"
    )
    try:
        with running(["server", str(config)]):
            yield port.number
    finally:
        port.close()


@pytest.mark.slow
@pytest.mark.parametrize("order", [(here, java, here), (java, here, java)])
def test_a_directory_goes_from_server_to_server(
    zookeeper_installed: None, tmp_path: Path, order: tuple[Callable[[Path], AbstractContextManager[int]], ...]
) -> None:
    acknowledged: list[str] = []
    there: list[str] = []
    for life, serve in enumerate(order):
        with serve(tmp_path) as port:
            found = names(port)
            # What one server had shown, and what it had acknowledged when it was killed, the next one has.
            assert set(there) <= set(found)
            assert set(acknowledged) <= set(found)
            there = found
            writer = Writer(port, f"life-{life}")
            writer.wait_for_enough()
        acknowledged += writer.finish()
    with order[0](tmp_path) as port:
        assert set(acknowledged) <= set(names(port))
    assert len(acknowledged) >= ENOUGH * len(order)
