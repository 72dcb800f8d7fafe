"""Data directories go back and forth between Apache ZooKeeper and this project, stopped or killed, with equal trees."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.ids import epoch_of
from terzetto.testcluster.storage import DiskOptions, DiskStorage
from terzetto.testcluster.storage.names import logs
from tests.testcluster.storage.histories import (
    History,
    as_golden,
    rebuild,
    replayed,
    rows,
    snapshot_pieces,
    start,
    take_snapshot,
)
from tests.vectors.disk import GoldenZnode, parse_znodes
from tests.vectors.disk.workload import (
    RawSession,
    read_tree,
    superuser,
    write_kinds,
    write_multis,
    write_refused,
)

from .zookeeper import SUPER_DIGEST, SUPER_DIGEST_PROPERTY, RealEnsemble, RealZooKeeper, ServerOptions

NewServer = Callable[..., RealZooKeeper]


@pytest.fixture
def new_server(zookeeper_installed: None, tmp_path: Path) -> Iterator[NewServer]:
    """Makes servers that are not started yet; takes lines for zoo.cfg."""
    made: list[RealZooKeeper] = []

    def make(**zoo_cfg: object) -> RealZooKeeper:
        options = ServerOptions(
            zoo_cfg={"extendedTypesEnabled": "true", "preAllocSize": 64, **zoo_cfg},
            jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST},
        )
        made.append(RealZooKeeper(options, directory=tmp_path / f"java-{len(made)}"))
        return made[-1]

    yield make
    for server in made:
        server.close()


@contextmanager
def running(server: RealZooKeeper) -> Iterator[Any]:
    """The server serves inside the block; a client that sees everything."""
    server.start()
    server.wait_serving()
    with superuser(server.hosts) as zk:
        yield zk


def data_of(server: RealZooKeeper) -> Path:
    return server.directory / "data"


def recover(directory: Path) -> DataTree:
    """The tree in a directory that a server has left; no transaction's digest was wrong."""
    storage = DiskStorage(directory)
    try:
        return rebuild(storage.recover(), exact=False)
    finally:
        storage.close()


def shared(znodes: dict[str, GoldenZnode]) -> dict[str, GoldenZnode]:
    """Without /zookeeper/config, which each server writes by itself."""
    return {path: znode for path, znode in znodes.items() if path != "/zookeeper/config"}


def seen(zk: Any) -> dict[str, GoldenZnode]:
    return shared(parse_znodes(read_tree(zk)))


def digest_mismatches(server: RealZooKeeper) -> int:
    """Transactions whose digest was not that of the running server's tree, since its start."""
    for line in server.four_letter("mntr").splitlines():
        key, _, value = line.partition("\t")
        if key == "zk_digest_mismatches_count":
            return int(value)
    raise AssertionError("mntr says nothing about digests")


class Flood:
    """Creates sent without waiting for one another, and those that the server has acknowledged.

    Args:
        zk: the client.
        acknowledged: path to data; grows.
        wanted: acknowledgements after which `enough` is set.
    """

    def __init__(self, zk: Any, acknowledged: dict[str, bytes], wanted: int) -> None:
        self._zk = zk
        self._acknowledged = acknowledged
        self._wanted = wanted
        self._results: list[Any] = []
        self.enough = Event()

    def create(self, path: str, data: bytes) -> None:
        def note(done: Any) -> None:
            if done.successful():
                self._acknowledged[path] = data
                if len(self._acknowledged) >= self._wanted:
                    self.enough.set()

        result = self._zk.create_async(path, data)
        result.rawlink(note)
        self._results.append(result)

    def wait(self) -> None:
        """Until each create has ended, one way or the other."""
        for result in self._results:
            result.wait(60)
            assert result.ready()


@pytest.mark.parametrize("method", ["", "gz", "snappy"])
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_what_java_leaves_is_read_here(new_server: NewServer, method: str, kill: bool) -> None:
    server = new_server(snapCount=30, **({"snapshot.compression.method": method} if method else {}))
    with running(server) as zk, RawSession(server.port) as raw:
        write_kinds(zk, raw)
        write_multis(zk)
        for i in range(100):
            zk.create(f"/plain/child/{i}", bytes([i]) * i, ephemeral=i % 3 == 0)
        write_refused(zk)
        zk.set("/plain", b"last")
        expected = seen(zk)
        if kill:
            server.kill()
        else:
            server.stop()
    assert shared(as_golden(recover(data_of(server)))) == expected
    names = [path.name for path in (data_of(server) / "version-2").iterdir()]
    assert len(logs(names)) > 2
    assert any(name.endswith(f".{method}" if method else "") for name in names if name.startswith("snapshot."))


def test_every_write_that_java_acknowledged_before_it_was_killed_is_there(new_server: NewServer, seed: int) -> None:
    """Killed in the middle of writes, three times on one directory, with snapshots under way."""
    server = new_server(snapCount=60)
    chance = random.Random(seed)
    acknowledged: dict[str, bytes] = {}
    tree = DataTree()
    for life in range(3):
        with running(server) as zk:
            flood = Flood(zk, acknowledged, len(acknowledged) + chance.randrange(100, 600))
            for number in range(1200):
                flood.create(f"/{life}-{number}", bytes(chance.randrange(300)))
            assert flood.enough.wait(60)
            server.kill()
            flood.wait()
        tree = recover(data_of(server))
        assert {path: tree.nodes[path].data for path in acknowledged} == acknowledged
    # Whatever else is there, Java finds the same.
    with running(server) as zk:
        assert seen(zk) == shared(as_golden(tree))


@pytest.mark.parametrize("compression", ["", "gz"])
def test_java_serves_what_was_written_here(new_server: NewServer, seed: int, compression: str) -> None:
    server = new_server()
    storage = DiskStorage(data_of(server), None, DiskOptions(compression=compression))
    history = History(random.Random(seed), start(storage))
    for _ in range(3):
        storage.append(history.grow(120))
        # Fuzzy: the history goes on between two pieces.
        writer = storage.begin_snapshot(history.tree.last_zxid)
        for piece in snapshot_pieces(history.tree, 2000):
            writer.write(piece)
            storage.append(history.grow(1))
        writer.commit()
    storage.append(history.grow(50))
    storage.close()
    with running(server) as zk:
        assert seen(zk) == shared(as_golden(history.tree))
        assert digest_mismatches(server) == 0


def test_java_continues_here_and_this_continues_there(new_server: NewServer, seed: int) -> None:
    server = new_server(snapCount=50)
    tree = DataTree()
    for life in range(3):
        with running(server) as zk, RawSession(server.port) as raw:
            if life == 0:
                write_kinds(zk, raw)
            else:
                assert seen(zk) == shared(as_golden(tree))
                # In its second life Java starts from its own snapshot, which may be at odds with its own digest.
                assert life == 1 or digest_mismatches(server) == 0
            for i in range(60):
                zk.create(f"/java-{life}-{i}", b"x" * i)
            expected = seen(zk)
            server.kill()
        storage = DiskStorage(data_of(server))
        tree = rebuild(storage.recover(), exact=False)
        assert shared(as_golden(tree)) == expected
        history = History(random.Random(seed + life), tree)
        storage.append(history.grow(40))
        if life:
            take_snapshot(storage, tree)
            storage.append(history.grow(40))
        storage.close()
    with running(server) as zk:
        assert seen(zk) == shared(as_golden(tree))
        assert digest_mismatches(server) == 0


def test_the_members_of_a_java_ensemble_are_read_here(own_ensemble: Callable[..., RealEnsemble]) -> None:
    """Three epochs, with a server that was away in between and came back."""
    ensemble = own_ensemble(
        3,
        zoo_cfg={"snapCount": 40, "preAllocSize": 64, "reconfigEnabled": "false"},
        jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST},
    )
    for epoch in range(3):
        with superuser(ensemble.hosts) as zk:
            for i in range(60):
                zk.create(f"/{epoch}-{i}", b"x" * i)
        if epoch < 2:
            leader = ensemble.leader()
            leader.kill()
            ensemble.wait_serving()
            with superuser(ensemble.hosts) as zk:
                zk.create(f"/without-{leader.sid}-{epoch}", b"")
            leader.start()
            ensemble.wait_serving()
    trees: dict[int, dict[str, GoldenZnode]] = {}
    for sid, server in ensemble.servers.items():
        with superuser(server.address) as zk:
            zk.sync("/")
            trees[sid] = seen(zk)
    ensemble.kill()
    for sid, server in ensemble.servers.items():
        directory = server.directory / "data"
        storage = DiskStorage(directory, None, DiskOptions(replicated=True))
        tree = rebuild(storage.recover(), exact=False)
        assert {path: znode for path, znode in shared(as_golden(tree)).items() if path in trees[sid]} == trees[sid]
        epochs = [int((directory / "version-2" / name).read_text()) for name in ("acceptedEpoch", "currentEpoch")]
        assert [storage.accepted_epoch, storage.current_epoch] == epochs
        assert epochs[1] >= 3
        assert epoch_of(storage.last_zxid) >= 3
        storage.close()
    assert trees[1] == trees[2] == trees[3]


def killed_writer(directory: Path, seed: int, after: int) -> int:
    """Lets the writer run until it has called `after` durable; kills it; returns what it called durable last."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.interop.disk_writer", str(directory), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    durable = 0
    try:
        for line in process.stdout:
            durable = int(line)
            if durable >= after:
                process.send_signal(signal.SIGKILL)
                break
        # What it had said before the signal came.
        rest = process.stdout.read().split("\n")
        durable = max([durable, *(int(line) for line in rest[:-1])])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return durable


def test_every_write_that_was_acknowledged_here_before_a_kill_is_there(new_server: NewServer, seed: int) -> None:
    server = new_server()
    chance = random.Random(seed)
    durable = killed_writer(data_of(server), seed, chance.randrange(300, 1500))
    copy = server.directory / "copy"
    shutil.copytree(data_of(server), copy)
    tree = recover(copy)
    assert tree.last_zxid >= durable
    history = History(random.Random(seed))
    history.grow(tree.last_zxid)
    expected = replayed(history.txns)
    assert rows(tree) == rows(expected)
    with running(server) as zk:
        assert seen(zk) == shared(as_golden(expected))
        assert digest_mismatches(server) == 0


def test_both_drop_the_same_torn_write(new_server: NewServer, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(3):
        server = new_server()
        storage = DiskStorage(data_of(server))
        history = History(chance, start(storage))
        storage.append(history.grow(30))
        storage.close()
        path = data_of(server) / "version-2" / "log.1"
        cut = chance.randrange(1, len(history.txns[-1].payload) + 12)
        data = path.read_bytes()
        path.write_bytes(data[:-cut] + bytes(chance.choice([0, 5000])))
        copy = server.directory / "copy"
        shutil.copytree(data_of(server), copy)
        tree = recover(copy)
        assert tree.last_zxid == 29
        with running(server) as zk:
            assert seen(zk) == shared(as_golden(tree))
        server.stop()
        # And what was cut here is no trouble there.
        other = new_server()
        shutil.copytree(copy, data_of(other), dirs_exist_ok=True)
        with running(other) as zk:
            assert seen(zk) == shared(as_golden(tree))
        other.stop()
