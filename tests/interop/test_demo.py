"""`terzetto demo` on real servers: what a newcomer runs first."""

from __future__ import annotations

import pytest

from terzetto.testcluster.cli import main

from .zookeeper import RealEnsemble, RealZooKeeper


@pytest.mark.parametrize("servers", ["zookeeper", "ensemble"])
def test_every_step_succeeds(servers: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    real: RealZooKeeper | RealEnsemble = request.getfixturevalue(servers)
    assert main(["demo", "--hosts", real.hosts]) == 0
    shown = capsys.readouterr().out
    assert "FAILED" not in shown
    assert shown.count(" ok ") == 9


def test_without_servers_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("terzetto.testcluster.cli.demo.CONNECT_TIMEOUT", 0.3)
    assert main(["demo", "--hosts", "127.0.0.1:1"]) == 1
    assert "ConnectTimeoutError" in capsys.readouterr().out
