"""A million hostile frames against the embedded server: in process, and over sockets against one that runs.

It prints how deep the frames got, because noise that dies at the first byte proves nothing, and fails below the floors
here. Throughout, a well-behaved client is served in bounded time, memory stays bounded, and the tree is what its log
says. Repeat a failure with the seed that is printed.
"""

from __future__ import annotations

import logging
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from terzetto.testcluster import start_ensemble
from terzetto.testcluster.auth import digest_id
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.storage import DiskOptions, DiskStorage
from tests.testcluster.cli.test_running import RUN
from tests.testcluster.hostile import HostileFrames
from tests.testcluster.hostile_sockets import CREDENTIALS, HOST, fire_until, under_fire
from tests.testcluster.hostile_target import Depths, Target, Volleys
from tests.testcluster.storage.histories import rebuild
from tests.testcluster.test_hostile_sockets import SETTINGS, ports, said

PARTS = range(4)
"""Each with a server of its own, so that none of them comes near the time after which a test counts as hung."""

FRAMES_IN_PROCESS = 230_000
FRAMES_ON_SOCKETS = 20_000
"""Of each part: a million in all."""

FRAMES_ON_ENSEMBLE = 12_000
WARM_UP = 50_000

# Shares of the frames that got so far, at least. What is observed is about a quarter above.
FLOORS = {"framing": 0.02, "header": 0.015, "record": 0.2, "processor": 0.45}
ACCEPTED_FLOOR = 0.2
REFUSALS_FLOOR = 10
"""Different codes of refusal."""

SLOWEST_PORTION = 0.5
"""Seconds of processor time that one portion of bytes may take, up to a frame of a megabyte."""

SLOWEST_ANSWER = 2.0
"""Seconds that the well-behaved client may wait for an answer, on a machine that does other things too."""

GROWTH_IN_PROCESS = 48 << 20
GROWTH_ON_SOCKETS = 200 << 20
"""Bytes. Three clients that read nothing may each keep 64 MiB."""

STOPPED_WITHIN = 20


def resident(pid: int | str) -> int:
    """Bytes of a process in memory."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:")))


def require_depths(depths: Depths) -> None:
    for depth, floor in FLOORS.items():
        assert depths.share(depth) >= floor, f"{depth}: {depths.share(depth):.1%}, at least {floor:.1%}"
    assert depths.by_code[0] >= ACCEPTED_FLOOR * depths.total
    assert len(depths.by_code) > REFUSALS_FLOOR


@pytest.mark.parametrize("part", PARTS)
def test_frames_in_process(
    part: int, seed: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # Quotas are passed all the time, and pytest would keep every warning.
    caplog.set_level(logging.CRITICAL, "terzetto")
    target = Target()
    volleys = Volleys(target, HostileFrames(random.Random(seed + part)))
    warm = 0
    for number in range(FRAMES_IN_PROCESS):
        volleys.fire()
        if number % 50 == 0:
            target.serve()
        if number % 5000 == 0:
            target.let_time_pass(8000)
            target.check()
        if number == WARM_UP:
            warm = resident("self")
    target.finish()
    growth = resident("self") - warm
    with capsys.disabled():
        print(f"\n{volleys.depths.total:,} hostile frames in process (seed {seed}):")
        print("\n".join(volleys.depths.lines()))
        print(f"connections: {dict(volleys.greetings)}; transactions: {target.txns:,}")
        print(f"slowest portion: {target.slowest * 1000:.1f} ms of processor time; growth: {growth / 2**20:.1f} MiB")
    assert volleys.depths.total >= FRAMES_IN_PROCESS
    require_depths(volleys.depths)
    assert target.slowest < SLOWEST_PORTION, target.slow
    assert growth < GROWTH_IN_PROCESS


def recovered(folder: Path) -> DataTree:
    """The tree that a server's files lead to, with the digest that each transaction was acknowledged with."""
    storage = DiskStorage(folder, None, DiskOptions(force_sync=False, replicated=True))
    try:
        return rebuild(storage.recover())
    finally:
        storage.close()


@dataclass
class Served:
    """A server process: where it listens, and what it wrote to stderr."""

    process: subprocess.Popen[str]
    port: int
    errors: Path


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A server with its data in a folder. Its stderr goes to a file, which nobody has to read."""
    errors = folder / "stderr"
    arguments = ["ensemble", "--data-dir", str(folder), "--tick-time", "0.5"]
    for setting in (
        f"DigestAuthenticationProvider.superDigest={digest_id(CREDENTIALS)}",
        "forceSync=no",
        "snapCount=20000",
    ):
        arguments += ["--set", setting]
    with errors.open("w") as sink:
        process = subprocess.Popen([*RUN, *arguments], stdout=subprocess.PIPE, stderr=sink, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(f"ready {HOST}:"), errors.read_text()
            yield Served(process, int(line.rpartition(":")[2]), errors)
        finally:
            process.kill()
            process.wait(STOPPED_WITHIN)
            if process.stdout is not None:
                process.stdout.close()


@pytest.mark.parametrize("part", PARTS)
def test_frames_on_sockets(part: int, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path) as server:
        before = resident(server.process.pid)
        largest = before
        with under_fire(server.port, random.Random(seed + part)) as (volleys, witness):
            for step in range(1, 11):
                fire_until(volleys, FRAMES_ON_SOCKETS * step // 10)
                largest = max(largest, resident(server.process.pid))
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(STOPPED_WITHIN)
        with capsys.disabled():
            print(f"\n{volleys.depths.total:,} hostile frames on sockets (seed {seed}):")
            print("\n".join(volleys.depths.lines()))
            print(f"swallowed behind them: {volleys.swallowed:,}; other abuse: {volleys.oddities:,}")
            print(f"the well-behaved client: {witness}")
            print(f"memory: {before / 2**20:.0f} MiB at first, {largest / 2**20:.0f} MiB at most")
        text = server.errors.read_text()
        assert status == 0, text[-3000:]
        assert "Traceback" not in text, text[text.find("Traceback") :][:3000]
    require_depths(volleys.depths)
    assert witness.quantile(1.0) < SLOWEST_ANSWER
    assert largest - before < GROWTH_ON_SOCKETS
    assert recovered(tmp_path / "1").last_zxid > FRAMES_ON_SOCKETS * ACCEPTED_FLOOR / 4


def test_frames_on_an_ensemble(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A follower and the leader are shot at in turn; all three keep the same tree, in memory and on disk."""
    depths: list[Depths] = []
    with start_ensemble(servers=3, data_dir=tmp_path, settings={**SETTINGS, "forceSync": "no"}) as ensemble:
        ensemble.wait_serving()
        leader, found = ensemble.leader, ports(ensemble)
        assert leader is not None
        for sid in (next(each for each in found if each != leader), leader):
            with under_fire(found[sid], random.Random(seed)) as (volleys, witness):
                fire_until(volleys, FRAMES_ON_ENSEMBLE // 2)
            depths.append(volleys.depths)
            assert witness.quantile(1.0) < SLOWEST_ANSWER
        assert ensemble.leader == leader
        mismatches = [said(port, b"mntr")["zk_digest_mismatches_count"] for port in found.values()]
        assert mismatches == ["0"] * 3
    with capsys.disabled():
        for role, each in zip(("a follower", "the leader"), depths, strict=True):
            print(f"\n{each.total:,} hostile frames on {role} of three (seed {seed}):")
            print("\n".join(each.lines()))
    for each in depths:
        require_depths(each)
    trees = [recovered(tmp_path / str(sid)) for sid in (1, 2, 3)]
    assert all(tree.last_zxid & 0xFFFFFFFF > FRAMES_ON_ENSEMBLE * ACCEPTED_FLOOR / 4 for tree in trees)
    digests = {(tree.last_zxid, tree.digest) for tree in trees}
    assert len(digests) == len({zxid for zxid, _ in digests})
