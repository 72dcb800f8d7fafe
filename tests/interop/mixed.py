"""Ensembles of Java's and of terzetto's servers, each a process, and clients that write to them all the while.

Decides where which kind of server sits, what the clients remember of what they were told, and what must hold in the
end: nothing acknowledged is lost, every server holds the same tree, and digests agree. Refuses to know what is done to
the servers meanwhile.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from .processes import ChildProcess
from .zookeeper import START_DEADLINE, RealEnsemble, RealServer, ServerOptions

JAVA = "java"
TERZETTO = "terzetto"
OBSERVERS = frozenset({"java observer", "terzetto observer"})

_RUN = "import sys; from terzetto.testcluster.cli import main; sys.exit(main(['-v', 'server', 'zoo.cfg']))"
_STARTED_WITHIN = 30.0
_ANSWER_WITHIN = 15.0

PAUSE = 0.02
"""Seconds between two writes of a client."""


class TerzettoServer(RealServer):
    """A terzetto server in a process, from the same configuration file as Java's."""

    def start(self) -> None:
        """See `RealServer.start`."""
        if self.running:
            raise RuntimeError(f"server {self.sid} is running already")
        self._process = ChildProcess(
            [sys.executable, "-c", _RUN], log=self.directory / "server.log", directory=self.directory
        )
        self._started = True


class MixedEnsemble(RealEnsemble):
    """An ensemble of the kinds given, ids from 1 on.

    Args:
        kinds: `JAVA`, `TERZETTO`, or one of `OBSERVERS`, in the order of the ids.
        options: the configuration of each.
        directory: where the servers live.
    """

    def __init__(self, kinds: tuple[str, ...], options: ServerOptions, directory: Path) -> None:
        self._kinds = dict(enumerate(kinds, 1))
        super().__init__(len(kinds), options, directory=directory)

    def _new_server(self, sid: int) -> RealServer:
        options = self._options
        if self._kinds[sid] in OBSERVERS:
            options = replace(options, zoo_cfg={**options.zoo_cfg, "peerType": "observer"})
        make = TerzettoServer if self._kinds[sid].startswith(TERZETTO) else RealServer
        server = make(sid, self._directory / f"server-{sid}", options)
        self._cleanup.callback(server.close)
        return server

    def __enter__(self) -> MixedEnsemble:
        voters = [sid for sid, kind in self._kinds.items() if kind not in OBSERVERS]
        # With equal histories the highest id wins, but only if its vote is heard: two others that can do without it may
        # have elected before. Of a bare quorum everybody is heard.
        try:
            for sid in voters[-(len(voters) // 2 + 1) :]:
                self.servers[sid].start()
            self.wait_serving()
        except BaseException:
            self.close()
            raise
        super().__enter__()
        return self

    def _members(self) -> list[str]:
        return [f"server.{sid}={server.specification(self._role(sid))}" for sid, server in self.servers.items()]

    def _role(self, sid: int) -> str:
        return "observer" if self._kinds[sid] in OBSERVERS else "participant"

    def kind(self, sid: int) -> str:
        """What a server is."""
        return self._kinds[sid]


class Writer:
    """A kazoo client that creates, sets and deletes znodes of its own and notes what it was told."""

    def __init__(self, hosts: str, name: str) -> None:
        self.name = name
        self.created: set[str] = set()
        self.deleted: set[str] = set()
        self.unknown: set[str] = set()
        self.value = -1
        self.acknowledged = 0
        self.failures = 0
        self.surprises: list[str] = []
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._client = KazooClient(
            hosts=hosts, timeout=10.0, randomize_hosts=True, connection_retry={"max_tries": -1, "delay": 0.05}
        )
        self._thread = threading.Thread(target=self._run, name=f"writer {name}")

    def start(self) -> None:
        self._client.start(_STARTED_WITHIN)
        self._client.ensure_path("/mixed")
        self._client.create(f"/mixed/{self.name}", b"")
        self._client.create(f"/mixed/{self.name}-here", b"", ephemeral=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the writing; the session stays."""
        self._stop.set()
        self._thread.join(2 * _ANSWER_WITHIN)
        assert not self._thread.is_alive(), f"writer {self.name} hangs"

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(2 * _ANSWER_WITHIN)
        self._client.stop()
        self._client.close()

    def wait_progress(self, count: int, within: float = START_DEADLINE) -> None:
        """Waits until so many more writes are acknowledged."""
        with self._progress:
            goal = self.acknowledged + count
            reached = self._progress.wait_for(lambda: self.acknowledged >= goal, within)
        assert reached, f"writer {self.name} has no {count} acknowledged writes within {within:g} s"

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            self._write(number)
            number += 1
            # Clients that write as fast as they can would leave the servers no processor on a small machine.
            self._stop.wait(PAUSE)

    def _write(self, number: int) -> None:
        path = f"/mixed/{self.name}/{number}"
        if self._ask(path, lambda: self._client.create_async(path, b"%d" % number), NodeExistsError):
            self.created.add(path)
        if number % 3 == 0:
            # Only a later value may stand there afterwards.
            answered = self._ask("", lambda: self._client.set_async(f"/mixed/{self.name}", b"%d" % number))
            self.value = number if answered else self.value
        if number % 5 == 0 and path in self.created:
            self.created.discard(path)
            if self._ask(path, lambda: self._client.delete_async(path), NoNodeError):
                self.deleted.add(path)

    def _ask(self, path: str, send: Callable[[], Any], *expected: type[Exception]) -> bool:
        """Whether the server has said that it is done; `path` is unknown if it has said nothing."""
        try:
            send().get(timeout=_ANSWER_WITHIN)
        except (KazooException, KazooTimeoutError) as error:
            self.failures += 1
            self.unknown.add(path)
            if isinstance(error, expected):
                self.surprises.append(f"{path}: {error!r}, and nobody else writes it")
            self._stop.wait(0.02)
            return False
        with self._progress:
            self.acknowledged += 1
            self._progress.notify_all()
        return True


@contextmanager
def writing(ensemble: MixedEnsemble, count: int = 3) -> Iterator[list[Writer]]:
    """Clients that write while the block runs; their sessions end behind it."""
    writers = [Writer(ensemble.hosts, f"w{number}") for number in range(count)]
    try:
        for writer in writers:
            writer.start()
        yield writers
    finally:
        for writer in writers:
            writer.close()


Tree = Mapping[str, tuple[bytes, Any, Any]]


def tree_of(server: RealServer) -> Tree:
    """Every znode of one server with data, Stat and ACL, after a sync; the configuration is each server's own."""
    client = KazooClient(hosts=server.address, timeout=10.0)
    client.start(_STARTED_WITHIN)
    try:
        client.sync("/")
        found: dict[str, tuple[bytes, Any, Any]] = {}
        level = ["/"]
        while level:
            asked = [
                (path, client.get_async(path), client.get_acls_async(path), client.get_children_async(path))
                for path in level
            ]
            below: list[str] = []
            for path, got, acls, children in asked:
                data, stat = got.get(timeout=_ANSWER_WITHIN)
                found[path] = (data, stat, acls.get(timeout=_ANSWER_WITHIN)[0])
                names = [f"{path.rstrip('/')}/{name}" for name in children.get(timeout=_ANSWER_WITHIN)]
                below += [name for name in names if name != "/zookeeper/config"]
            level = below
        return found
    finally:
        client.stop()
        client.close()


def figures_of(server: RealServer) -> dict[str, str]:
    """What `mntr` says."""
    return dict(line.split("\t", 1) for line in server.four_letter("mntr").splitlines() if "\t" in line)


def digests_of(server: RealServer) -> dict[int, int]:
    """Tree digests by zxid, as `hash` has them."""
    lines = [line.split(": ") for line in server.four_letter("hash").splitlines() if ": " in line]
    return {int(zxid, 16): int(digest) for zxid, digest in lines}


def check(ensemble: MixedEnsemble, writers: list[Writer]) -> None:
    """What must hold once everybody has stopped writing and every server serves."""
    trees = {sid: tree_of(server) for sid, server in ensemble.servers.items()}
    one = next(iter(trees.values()))
    for sid, tree in trees.items():
        different = {path for path in {*one, *tree} if one.get(path) != tree.get(path)}
        assert not different, f"server {sid} differs at {sorted(different)[:5]}"
    for writer in writers:
        assert not writer.surprises
        lost = {path for path in writer.created if path not in one}
        assert not lost, f"acknowledged creates are lost: {sorted(lost)[:5]}"
        back = {path for path in writer.deleted if path in one}
        assert not back, f"acknowledged deletes have come back: {sorted(back)[:5]}"
        # What was acknowledged stands there, or something that was sent later.
        assert int(one[f"/mixed/{writer.name}"][0] or b"-1") >= writer.value
        strangers = {path for path in one if path.startswith(f"/mixed/{writer.name}/")}
        strangers -= writer.created | writer.unknown
        assert not strangers, f"there are znodes that nobody has made: {sorted(strangers)[:5]}"
    _check_digests(ensemble)


def _check_digests(ensemble: MixedEnsemble) -> None:
    digests = {sid: digests_of(server) for sid, server in ensemble.servers.items()}
    for sid, server in ensemble.servers.items():
        # ZooKeeper 3.8.0 counts mismatches while it catches up with a snapshot that its leader sent in the middle of
        # writes, whoever the leader is; that it has caught up is what the comparison below shows.
        if not _has_taken_a_snapshot(server):
            assert figures_of(server)["zk_digest_mismatches_count"] == "0", f"server {sid} ({ensemble.kind(sid)})"
        for other, theirs in digests.items():
            common = digests[sid].keys() & theirs.keys()
            wrong = [zxid for zxid in common if digests[sid][zxid] != theirs[zxid]]
            assert not wrong, f"digests of servers {sid} and {other} differ at {[hex(zxid) for zxid in wrong][:5]}"


def _has_taken_a_snapshot(server: RealServer) -> bool:
    log = (server.directory / "server.log").read_text(errors="replace")
    return "Getting a snapshot from leader" in log
