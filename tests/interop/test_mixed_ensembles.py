"""terzetto's servers beside Java's 3.8.0 in one ensemble: leader, follower or observer, in minority and majority.

kazoo writes throughout while every server is killed and started again in turn. (Long runs are in tests/soak.)
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .mixed import JAVA, TERZETTO, MixedEnsemble, check, figures_of, writing
from .zookeeper import START_DEADLINE, ServerOptions

# A busy machine may keep any server from its turn for seconds; a killed one is noticed at once all the same.
OPTIONS = ServerOptions(zoo_cfg={"initLimit": 60, "syncLimit": 40})
WRITES = 25
"""Acknowledged writes of each client between two faults."""


@pytest.fixture
def folder(zookeeper_installed: None, tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "first_leader"),
    [
        ((JAVA, JAVA, TERZETTO), TERZETTO),
        ((TERZETTO, JAVA, JAVA), JAVA),
        ((JAVA, TERZETTO, TERZETTO), TERZETTO),
        ((TERZETTO, TERZETTO, JAVA), JAVA),
    ],
    ids=["terzetto leads two of Java", "terzetto follows Java", "Java follows terzetto", "Java leads two of terzetto"],
)
def test_every_server_dies_and_comes_back(kinds: tuple[str, ...], first_leader: str, folder: Path) -> None:
    with MixedEnsemble(kinds, OPTIONS, folder) as ensemble, writing(ensemble) as writers:
        # The highest id wins where histories are equal.
        assert ensemble.kind(ensemble.leader().sid) == first_leader
        for sid in ensemble.servers:
            for writer in writers:
                writer.wait_progress(WRITES)
            ensemble.kill(sid)
            for writer in writers:
                writer.wait_progress(WRITES)
            ensemble.start(sid)
            ensemble.wait_serving()
        for writer in writers:
            writer.wait_progress(WRITES)
            writer.stop()
        check(ensemble, writers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds",
    [(JAVA, JAVA, JAVA, "terzetto observer"), (TERZETTO, TERZETTO, TERZETTO, "java observer")],
    ids=["terzetto observes Java", "Java observes terzetto"],
)
def test_an_observer_sees_everything_and_has_no_vote(kinds: tuple[str, ...], folder: Path) -> None:
    with MixedEnsemble(kinds, OPTIONS, folder) as ensemble, writing(ensemble) as writers:
        observer = ensemble[4]
        observer.wait_mode("observer")
        for writer in writers:
            writer.wait_progress(WRITES)
        assert figures_of(ensemble.leader())["zk_synced_observers"] == "1"
        observer.kill()
        for writer in writers:
            writer.wait_progress(WRITES)
        observer.start()
        leader = ensemble.leader()
        leader.kill()
        for writer in writers:
            writer.wait_progress(WRITES)
        leader.start()
        ensemble.wait_serving(START_DEADLINE)
        for writer in writers:
            writer.stop()
        check(ensemble, writers)
