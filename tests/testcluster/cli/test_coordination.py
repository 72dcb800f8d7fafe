"""`terzetto demo` on its own three servers: what a newcomer runs first, and what it must not gloss over."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
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


def test_ctrl_c_ends_it_in_order_and_leaves_nothing(three: BlockingEnsemble) -> None:
    run = [sys.executable, "-c", "import sys; from terzetto.testcluster.cli import main; sys.exit(main())"]
    process = subprocess.Popen(
        [*run, "demo", "--hosts", three.hosts], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert process.stdout is not None
        assert any(line.startswith("contend") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (130, "")
    assert shown.endswith("ended by SIGINT\n")
    client = KazooClient(three.hosts)
    client.start()
    client.sync("/")
    assert client.get_children("/") == ["zookeeper"]
    client.stop()
    client.close()


def test_it_leaves_alone_what_an_earlier_one_left_behind(
    three: BlockingEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Killed in the middle, or still at work beside this one.
    monkeypatch.setattr(demo, "PIPELINED", 300)
    client = KazooClient(three.hosts)
    client.start()
    client.create("/terzetto-demo")
    client.create("/terzetto-demo/config")
    client.create("/app")
    assert main(["demo", "--hosts", three.hosts]) == 0
    assert main(["demo", "--hosts", three.hosts + "/app"]) == 0
    client.sync("/")
    assert sorted(client.get_children("/")) == ["app", "terzetto-demo", "zookeeper"]
    assert client.get_children("/app") == []
    client.stop()
    client.close()


@pytest.mark.parametrize("hosts", ["[/a]", "::1:2181", ""])
def test_hosts_that_mean_nothing(hosts: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--hosts", hosts]) == 2
    shown = capsys.readouterr()
    assert hosts in shown.out
    assert shown.err.startswith("terzetto: ")


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
