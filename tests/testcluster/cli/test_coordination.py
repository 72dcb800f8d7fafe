"""`terzetto demo` on its own three servers: what a newcomer runs first, and what it must not gloss over."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient
from rich.console import Console

from terzetto.client import ZooKeeper, open_zookeeper
from terzetto.recipes import Lock
from terzetto.testcluster import BlockingEnsemble, start_ensemble
from terzetto.testcluster.cli import coordination, demo, main
from terzetto.testcluster.cli.coordination import FencedStore, contend, outlive_the_leader
from terzetto.testcluster.cli.stage import Stage, StepFailed

pytestmark = pytest.mark.slow


@pytest.fixture
def three() -> Iterator[BlockingEnsemble]:
    with start_ensemble(servers=3) as ensemble:
        yield ensemble


def test_every_step_succeeds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PIPELINED", 300)
    assert main(["demo"]) == 0
    shown = capsys.readouterr().out
    assert "FAILED" not in shown
    assert shown.count(" ok ") == 10
    assert "is killed" in shown
    assert "refused" in shown


def test_a_store_refuses_old_tokens() -> None:
    store = FencedStore()
    assert store.write("ada", 5)
    assert store.write("ben", 6)
    assert not store.write("ada", 5)
    assert store.write("ben", 6)
    assert (store.written, store.refused) == (["ada", "ben", "ben"], ["ada"])


async def test_two_owners_at_once_would_be_noticed(three: BlockingEnsemble, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unguarded(Lock):
        """A lock for each worker."""

        def __init__(self, client: ZooKeeper, path: str, identifier: str) -> None:
            super().__init__(client, f"{path}-{identifier}", identifier)

    monkeypatch.setattr(coordination, "Lock", Unguarded)
    stage = Stage(Console(file=io.StringIO()), three.hosts, "/demo")
    async with open_zookeeper(three.hosts, chroot="/demo", ensure_chroot=True) as zk:
        await zk.ensure_path("/locks/report")
        await stage.step("contend", lambda: contend(stage, zk))
    assert not stage.succeeded
    assert "has the lock while" in stage.results[0][2]


async def test_a_lost_update_would_be_noticed(three: BlockingEnsemble, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(Console(file=io.StringIO()), three.hosts, "/demo")
    async with open_zookeeper(three.hosts, chroot="/demo", ensure_chroot=True) as zk:
        await zk.ensure_path("/services")
        start = three.start

        def forgetful(sid: int) -> None:
            start(sid)
            three.wait_serving()
            set_back(three)

        monkeypatch.setattr(three, "start", forgetful)
        with pytest.raises(StepFailed, match="was acknowledged"):
            await outlive_the_leader(stage, zk, three)


def set_back(ensemble: BlockingEnsemble) -> None:
    """Undoes acknowledged updates."""
    client = KazooClient(ensemble.hosts)
    client.start()
    client.set("/demo/counter", b"1")
    client.stop()
    client.close()
