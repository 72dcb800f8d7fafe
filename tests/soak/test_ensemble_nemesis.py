"""Three servers as processes on hosts of their own, under kill -9, SIGSTOP and partitions, with all of it written down.

The recorded history is checked afterwards: no acknowledged write is lost, no read after a `sync` is older than what was
acknowledged before it, no session is expired that a quorum was hearing of, and all servers hold the same tree.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from terzetto.client import (
    ConnectionLoss,
    ConnectTimeoutError,
    KazooState,
    NodeExistsError,
    SessionExpiredError,
    ZnodeStat,
    ZooKeeper,
    ZookeeperError,
    open_zookeeper,
)
from tests.interop.processes import ChildProcess

from .namespaces import Hosts, missing, open_hosts

SERVERS = 3
TICK = 0.5
SESSION_TIMEOUT = 6.0
WRITERS = 3
READERS = 2
OWNERS = 2
PAUSE = 0.02
"""Seconds between two requests of one client: the faults are the load here."""

HEALING = 60.0
"""Seconds in which the healed ensemble must serve everybody again."""


class Server:
    """One server across its lives."""

    def __init__(self, sid: int, hosts: Hosts, folder: Path) -> None:
        self.sid = sid
        self.process: ChildProcess | None = None
        self._hosts = hosts
        self._folder = folder / str(sid)
        data = self._folder / "data"
        data.mkdir(parents=True)
        (data / "myid").write_text(str(sid))
        lines = [
            f"tickTime={round(TICK * 1000)}",
            "initLimit=10",
            "syncLimit=4",
            f"dataDir={data}",
            "clientPort=2181",
            f"clientPortAddress={hosts.address(sid)}",
            "snapCount=500",
            "autopurge.snapRetainCount=3",
            "4lw.commands.whitelist=*",
            "admin.enableServer=false",
            "maxClientCnxns=0",
            *(f"server.{number}={hosts.address(number)}:2888:3888" for number in hosts.numbers),
        ]
        self._config = self._folder / "zoo.cfg"
        self._config.write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Starts it, unless it runs."""
        if self.process is None:
            program = [sys.executable, "-c", "import sys; from terzetto.testcluster.cli import main; sys.exit(main())"]
            command = self._hosts.command(self.sid, [*program, "server", str(self._config)])
            self.process = ChildProcess(command, self._folder / "output", self._folder)

    def kill(self) -> None:
        """Kills it with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def output(self) -> str:
        """The end of what it printed."""
        text = (self._folder / "output").read_text(errors="replace")
        return f"--- server {self.sid}\n{text[-3000:]}"


@dataclass
class History:
    """What the clients were told.

    Attributes:
        created: znodes whose creation was acknowledged.
        newest: mzxid of the newest acknowledged write of the register.
        acknowledged: how many writes were acknowledged.
        reads: how many reads followed a sync.
        faults: how often each was done.
        violations: what must not happen, in words.
    """

    created: set[str] = field(default_factory=set[str])
    newest: int = 0
    acknowledged: int = 0
    reads: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    violations: list[str] = field(default_factory=list[str])


_UNKNOWN = (ConnectionLoss, SessionExpiredError)


async def pass_time(seconds: float) -> None:
    """How long a fault goes on, and how fast a client asks: not a wait for anything to happen."""
    await trio.sleep(seconds)


@asynccontextmanager
async def connected(hosts: str, **options: float | None) -> AsyncIterator[ZooKeeper]:
    async with open_zookeeper(hosts, session_timeout=SESSION_TIMEOUT, connect_timeout=HEALING) as zk:
        yield zk


async def write(hosts: str, name: str, history: History, stop: trio.Event) -> None:
    """Creates znodes with names of their own, and writes the register in between."""
    async with connected(hosts) as zk:
        count = 0
        while not stop.is_set():
            count += 1
            path = f"/log/{name}-{count}"
            try:
                await zk.create(path)
                history.created.add(path)
                stat = await zk.set("/register", path.encode())
                history.newest = max(history.newest, stat.mzxid)
                history.acknowledged += 2
            except NodeExistsError:
                history.violations.append(f"{path} existed before it was created")
            except _UNKNOWN:
                pass
            await pass_time(PAUSE)


async def read(hosts: str, history: History, stop: trio.Event) -> None:
    """Reads the register behind a sync, which must show what was acknowledged before the sync began."""
    async with connected(hosts) as zk:
        while not stop.is_set():
            expected = history.newest
            try:
                await zk.sync("/register")
                _, stat = await zk.get("/register")
            except _UNKNOWN:
                continue
            history.reads += 1
            if stat.mzxid < expected:
                history.violations.append(f"a read after a sync saw 0x{stat.mzxid:x}, 0x{expected:x} was acknowledged")
            await pass_time(PAUSE)


async def own(hosts: str, name: str, history: History, stop: trio.Event) -> None:
    """Keeps a session alive by writes. It may only end when no quorum heard of it for a whole timeout."""
    async with connected(hosts) as zk:
        heard = trio.current_time()

        def told(state: str) -> None:
            if state == KazooState.LOST and not stop.is_set():
                silent = trio.current_time() - heard
                history.faults["sessions expired"] += 1
                if silent < zk.session_timeout:
                    history.violations.append(f"{name} was expired {silent:.2f} s after a quorum had heard of it")

        zk.add_listener(told)
        while not stop.is_set():
            began = trio.current_time()
            try:
                await zk.set("/owner", name.encode())
                heard = began
            except _UNKNOWN:
                pass
            await pass_time(TICK)


class Nemesis:
    """What happens to the servers, drawn from a seed."""

    def __init__(self, hosts: Hosts, servers: dict[int, Server], history: History, chance: random.Random) -> None:
        self._hosts = hosts
        self._servers = servers
        self._history = history
        self._chance = chance

    async def run(self, seconds: float) -> None:
        """One fault after another, with a breath in between."""
        faults = (self.kill, self.stall, self.partition, self.half_partition, self.kill_all, self.cut_clients)
        weights = (5, 4, 4, 4, 1, 2)
        with trio.move_on_after(seconds):
            while True:
                await pass_time(self._chance.uniform(1.0, 6.0))
                fault = self._chance.choices(faults, weights)[0]
                self._history.faults[fault.__name__] += 1
                # Whole: a fault that was begun is taken back.
                with trio.CancelScope(shield=True):
                    await fault()

    def _some(self) -> Server:
        return self._servers[self._chance.choice(list(self._servers))]

    async def kill(self) -> None:
        """kill -9, and a start some time later."""
        server = self._some()
        await trio.to_thread.run_sync(server.kill)
        await pass_time(self._chance.uniform(0.0, 5.0))
        server.start()

    async def kill_all(self) -> None:
        """The power fails."""
        for server in self._servers.values():
            await trio.to_thread.run_sync(server.kill)
        for server in self._servers.values():
            await pass_time(self._chance.uniform(0.0, 1.0))
            server.start()

    async def stall(self) -> None:
        """SIGSTOP, and SIGCONT some time later; it does not know that time has passed."""
        process = self._some().process
        if process is not None:
            process.pause()
            await pass_time(self._chance.uniform(0.5, 2 * SESSION_TIMEOUT))
            process.resume()

    async def _lose(self, links: list[tuple[int, int]]) -> None:
        for link in links:
            await trio.to_thread.run_sync(self._hosts.cut, *link)
        await pass_time(self._chance.uniform(0.5, 2 * SESSION_TIMEOUT))
        for link in links:
            await trio.to_thread.run_sync(self._hosts.mend, *link)

    async def partition(self) -> None:
        """One server is cut off from the two others; its clients still reach it."""
        alone = self._some().sid
        others = [sid for sid in self._servers if sid != alone]
        await self._lose([link for sid in others for link in ((alone, sid), (sid, alone))])

    async def half_partition(self) -> None:
        """One server is heard by another no more, or by none, and hears everything."""
        alone = self._some().sid
        others = [sid for sid in self._servers if sid != alone]
        await self._lose([(alone, sid) for sid in self._chance.sample(others, self._chance.randint(1, len(others)))])

    async def cut_clients(self) -> None:
        """One server's answers to clients are lost, and its words to the others are not."""
        await self._lose([(self._some().sid, 0)])


@contextmanager
def running_servers(hosts: Hosts, folder: Path) -> Iterator[dict[int, Server]]:
    servers = {sid: Server(sid, hosts, folder) for sid in hosts.numbers}
    try:
        for server in servers.values():
            server.start()
        yield servers
    finally:
        for server in servers.values():
            server.kill()


async def tree_of(host: str) -> dict[str, tuple[bytes | None, ZnodeStat]]:
    """Every znode as one server has it, once that is as new as the leader."""
    found: dict[str, tuple[bytes | None, ZnodeStat]] = {}
    async with connected(host) as zk:
        await zk.sync("/")
        paths = ["/"]
        for path in paths:
            if path != "/zookeeper/config":  # each server's own
                found[path] = await zk.get(path)
            paths += [f"{path.rstrip('/')}/{name}" for name in sorted(await zk.get_children(path))]
    return found


async def same_trees(hosts: list[str]) -> list[dict[str, tuple[bytes | None, ZnodeStat]]]:
    """The servers' trees, once two looks at the first one have seen the same: sessions of ours may still end."""
    while True:
        trees = [await tree_of(host) for host in hosts]
        if trees[0] == await tree_of(hosts[0]):
            return trees


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
async def test_an_ensemble_under_a_nemesis(tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    history = History()
    with open_hosts(SERVERS) as hosts, running_servers(hosts, tmp_path) as servers:
        places = [f"{hosts.address(sid)}:2181" for sid in hosts.numbers]
        ensemble = ",".join(places)
        try:
            await _prepare(ensemble)
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                for number in range(WRITERS):
                    nursery.start_soon(write, ensemble, f"writer{number}", history, stop)
                for _ in range(READERS):
                    nursery.start_soon(read, ensemble, history, stop)
                for number in range(OWNERS):
                    nursery.start_soon(own, ensemble, f"owner{number}", history, stop)
                await Nemesis(hosts, servers, history, random.Random(seed)).run(seconds)
                for server in servers.values():
                    server.start()
                with trio.fail_after(HEALING):
                    await _progress(ensemble)
                stop.set()
            with trio.fail_after(2 * HEALING):
                trees = await same_trees(places)
        except BaseException:
            with capsys.disabled():
                print("\n".join(server.output() for server in servers.values()))
            raise
    with capsys.disabled():
        print(
            f"\nnemesis, {seconds:g} s, seed {seed}: {history.acknowledged} writes acknowledged, "
            f"{history.reads} reads behind a sync, {dict(history.faults)}"
        )
    assert history.violations == []
    for place, tree in zip(places, trees, strict=True):
        lost = sorted(history.created - set(tree))
        assert lost == [], f"{place} has lost what was acknowledged: {lost[:10]}"
        differing = {path for path in trees[0].keys() | tree.keys() if trees[0].get(path) != tree.get(path)}
        assert differing == set(), f"{place} differs from {places[0]}: {sorted(differing)[:10]}"
    assert trees[0]["/register"][1].mzxid >= history.newest
    # An idle run proves nothing.
    assert history.acknowledged > 5 * seconds
    assert history.reads > 2 * seconds
    assert sum(history.faults.values()) >= seconds / 30


async def _prepare(ensemble: str) -> None:
    async with connected(ensemble) as zk:
        for path in ("/log", "/register", "/owner"):
            await zk.create(path)


async def _progress(ensemble: str) -> None:
    while True:
        try:
            async with connected(ensemble) as zk:
                await zk.set("/owner", b"healed")
                return
        except (ConnectTimeoutError, ZookeeperError):
            continue
