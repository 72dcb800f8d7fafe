"""Java's servers and terzetto's in one ensemble for minutes, under faults that are drawn from a seed.

kill -9, SIGTERM and SIGSTOP in any order, one server at a time, so that a quorum is left; kazoo writes throughout.
Afterwards all trees and digests are equal, and nothing that was acknowledged is missing.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.interop.mixed import JAVA, TERZETTO, MixedEnsemble, Writer, check, writing
from tests.interop.zookeeper import ServerOptions

OPTIONS = ServerOptions(zoo_cfg={"initLimit": 60, "syncLimit": 15})
PATIENCE = 90.0


def harm(ensemble: MixedEnsemble, writers: list[Writer], rng: random.Random) -> None:
    """One fault, and its end."""
    sid = rng.choice(list(ensemble.servers))
    if rng.random() < 0.4:
        sid = ensemble.leader(PATIENCE).sid
    server = ensemble[sid]
    fault = rng.choice(("kill", "stop", "pause"))
    if fault == "pause":
        server.pause()
    else:
        getattr(server, fault)()
    for writer in writers:
        writer.wait_progress(rng.randrange(1, 60), PATIENCE)
    if fault == "pause":
        server.resume()
    else:
        server.start()
    if rng.random() < 0.8:
        ensemble.wait_serving(PATIENCE)
    else:
        # Sometimes the next fault does not wait for everybody, only for a leader.
        ensemble.leader(PATIENCE)


@pytest.mark.parametrize(
    "kinds",
    [
        (JAVA, JAVA, TERZETTO),
        (TERZETTO, TERZETTO, JAVA),
        (JAVA, TERZETTO, TERZETTO, JAVA, TERZETTO),
        (TERZETTO, TERZETTO, TERZETTO),
    ],
    ids=["two of Java", "two of terzetto", "five", "terzetto alone"],
)
def test_nothing_is_lost(
    kinds: tuple[str, ...], seed: int, soak_seconds: float, zookeeper_installed: None, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    faults = 0
    with MixedEnsemble(kinds, OPTIONS, tmp_path) as ensemble, writing(ensemble) as writers:
        until = time.monotonic() + soak_seconds
        while time.monotonic() < until:
            harm(ensemble, writers, rng)
            faults += 1
        ensemble.wait_serving(PATIENCE)
        for writer in writers:
            writer.wait_progress(20, PATIENCE)
            writer.stop()
        check(ensemble, writers)
        told = sum(writer.acknowledged for writer in writers)
    print(f"{faults} faults, {told} acknowledged writes, {sum(writer.failures for writer in writers)} not answered")
    assert faults >= 3
