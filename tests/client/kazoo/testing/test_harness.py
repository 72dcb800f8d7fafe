"""kazoo's test cases, by running some."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import inspect
import threading
import unittest

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.testing import KazooTestCase, KazooTestHarness
from terzetto.client.kazoo.testing.harness import get_global_cluster


class Cases:
    """Hidden in a class, so that pytest does not collect them twice."""

    class Program(KazooTestCase):
        """As a project on kazoo would write it."""

        def test_a_client_with_a_chroot(self) -> None:
            assert self.client.chroot.startswith("/kazootests")
            assert self.client.get_children("/") == []
            other = self._get_client()
            other.start()
            self.client.create("/seen", b"1")
            assert other.get("/seen")[0] == b"1"
            outside = self._get_nonchroot_client()
            outside.start()
            assert outside.get(f"{self.client.chroot}/seen")[0] == b"1"

        def test_losses(self) -> None:
            states: list[str] = []
            self.client.add_listener(states.append)
            session = self.client.client_id
            self.client.create("/ephemeral", ephemeral=True)
            self.lose_connection(threading.Event)
            assert self.client.client_id == session
            assert self.client.exists("/ephemeral") is not None
            self.expire_session(threading.Event)
            assert self.client.client_id != session
            assert self.client.exists("/ephemeral") is None
            assert states == ["SUSPENDED", "CONNECTED", "LOST", "CONNECTED"]

        def test_a_server_goes(self) -> None:
            self.cluster[0].stop()
            self.client.retry(self.client.ensure_path, "/written")

        def test_that_fails(self) -> None:
            self.client.get("/none")


def run(case: unittest.TestCase) -> unittest.TestResult:
    result = unittest.TestResult()
    case.run(result)
    return result


@pytest.fixture(autouse=True)
def _ended_clusters(monkeypatch: pytest.MonkeyPatch) -> object:
    # kazoo's harness cannot run without them, and takes the cluster from there; this one looks at neither.
    monkeypatch.setenv("ZOOKEEPER_VERSION", "none")
    monkeypatch.setenv("ZOOKEEPER_CLUSTER_SIZE", "many")
    yield
    get_global_cluster().terminate()


def test_cases_run_and_leave_nothing() -> None:
    for name in ("test_a_client_with_a_chroot", "test_losses", "test_a_server_goes"):
        case = Cases.Program(name)
        result = run(case)
        assert (result.testsRun, result.errors, result.failures) == (1, [], [])
        assert case.client is None
        assert case._clients == []
    assert get_global_cluster().running
    Cases.Program.tearDownClass()
    assert not get_global_cluster().running


def test_a_case_that_fails_ends_its_clients_too() -> None:
    made: list[KazooClient] = []

    class Failing(Cases.Program):
        def setUp(self) -> None:
            super().setUp()
            made.append(self.client)

    result = run(Failing("test_that_fails"))
    assert len(result.errors) == 1
    assert "NoNodeError" in result.errors[0][1]
    assert [client.lifecycle.running for client in made] == [False]


def test_its_surface_is_kazoos() -> None:
    names = (
        "DEFAULT_CLIENT_TIMEOUT _get_client _get_nonchroot_client client cluster expire_session hosts log "
        "lose_connection secure_servers servers setup_zookeeper teardown_zookeeper _clients"
    ).split()
    case = KazooTestHarness()
    missing = [name for name in names if inspect.getattr_static(case, name, None) is None and not hasattr(case, name)]
    assert missing == []
    assert KazooTestHarness.DEFAULT_CLIENT_TIMEOUT == 15
