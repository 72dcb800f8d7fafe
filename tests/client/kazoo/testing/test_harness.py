"""kazoo's test cases, by running some."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
import threading
import unittest
from pathlib import Path

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConfigurationError, NoAuthError
from terzetto.client.kazoo.protocol.connection import ConnectionHandler
from terzetto.client.kazoo.security import make_acl
from terzetto.client.kazoo.testing import KazooTestCase, KazooTestHarness
from terzetto.client.kazoo.testing.harness import get_global_cluster


class Cases:
    """Hidden in a class, so that pytest does not collect them twice."""

    class Harness(KazooTestHarness):
        """As a project writes it that has its own idea of when a client is made."""

        def setUp(self) -> None:
            sasl = {"mechanism": "DIGEST-MD5", "username": "jaasuser", "password": "jaas_password"}
            self.setup_zookeeper(timeout=7.5, sasl_options=sasl)

        def tearDown(self) -> None:
            self.teardown_zookeeper()

        def test_its_client(self) -> None:
            assert self.client._session_timeout == 7500
            self.client.create("/mine", acl=[make_acl("sasl", "jaasuser", all=True)])
            stranger = self._get_client()
            stranger.start()
            with pytest.raises(NoAuthError):
                stranger.get("/mine")

    class Secure(KazooTestCase):
        """As a project writes it whose clients speak TLS: the files are there before the client is made."""

        folder: Path

        def setUp(self) -> None:
            files: dict[str, str] = {}
            pems = self.cluster.get_ssl_client_configuration()
            for argument, name in (("keyfile", "client_key"), ("certfile", "client_cert"), ("ca", "ca_cert")):
                (self.folder / name).write_bytes(pems[name])
                files[argument] = str(self.folder / name)
            self.setup_zookeeper(use_ssl=True, **files)

        def test_its_client(self) -> None:
            assert isinstance(self.client._connection, ConnectionHandler)
            assert self.client._connection._socket is None
            self.client.create("/secret", b"1")
            self.lose_connection(threading.Event)
            plain = KazooClient(self.servers)
            with plain:
                assert plain.get(f"{self.client.chroot}/secret")[0] == b"1"

    class Program(KazooTestCase):
        """As a project on kazoo would write it."""

        def test_a_client_with_a_chroot(self) -> None:
            assert self.client.chroot.startswith("/kazootests")
            assert self.client.get_children("/") == []
            other = self._get_client()
            other.start()
            self.client.create("/seen", b"1")
            other.sync("/seen")
            assert other.get("/seen")[0] == b"1"
            outside = self._get_nonchroot_client()
            outside.start()
            outside.sync("/")
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

        def test_its_log(self) -> None:
            with self.assertLogs("terzetto.client.kazoo.testing.harness", logging.WARNING) as logged:
                self.log(logging.WARNING, "seen by %s", "all")
            assert [record.getMessage() for record in logged.records] == ["seen by all"]

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
    for name in ("test_a_client_with_a_chroot", "test_losses", "test_its_log", "test_a_server_goes"):
        case = Cases.Program(name)
        result = run(case)
        assert (result.testsRun, result.errors, result.failures) == (1, [], [])
        assert case.client is None
        assert case._clients == []
    assert get_global_cluster().running
    Cases.Program.tearDownClass()
    assert not get_global_cluster().running


def test_a_harness_makes_a_client_when_it_is_told() -> None:
    result = run(Cases.Harness("test_its_client"))
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


def test_a_case_speaks_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cases.Secure.folder = tmp_path
    cluster = get_global_cluster()
    monkeypatch.setattr(cluster, "_certificates", None)
    cluster.start()
    with pytest.raises(ConfigurationError, match="without TLS"):
        _ = KazooTestHarness().secure_servers
    result = run(Cases.Secure("test_its_client"))
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    assert KazooTestHarness().secure_servers == KazooTestHarness().servers


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


PROJECT = """
import threading
import uuid

import kazoo.recipe.cache, kazoo.recipe.lock, kazoo.recipe.partitioner, kazoo.recipe.watchers
from kazoo.client import KazooState
from kazoo.exceptions import LockTimeout, NoNodeError
from kazoo.protocol.serialization import int_struct
from kazoo.testing import KazooTestCase


class RegistryTests(KazooTestCase):
    def setUp(self):
        super().setUp()
        self.path = "/" + uuid.uuid4().hex
        self.states = []
        self.client.add_listener(self.states.append)

    def make_client(self):
        client = self._get_client()
        client.start()
        client.sync("/")
        return client

    def test_a_registration_goes_with_its_session(self):
        self.client.create(self.path, int_struct.pack(8080), ephemeral=True)
        gone = threading.Event()
        self.assertEqual(self.make_client().get(self.path, watch=lambda event: gone.set())[0], int_struct.pack(8080))
        self.expire_session(threading.Event)
        self.assertTrue(gone.wait(10))
        self.assertEqual(self.states, [KazooState.LOST, KazooState.CONNECTED])
        with self.assertRaises(NoNodeError):
            self.client.get(self.path)

    def test_a_lock_is_kept_through_a_lost_connection(self):
        lock = self.client.Lock(self.path, "me")
        with lock:
            self.lose_connection(threading.Event)
            self.assertTrue(lock.is_acquired)
            with self.assertRaises(LockTimeout):
                self.make_client().Lock(self.path, "other").acquire(timeout=0.1)
        self.assertEqual(self.states, [KazooState.SUSPENDED, KazooState.CONNECTED])

    def test_a_watch_goes_on(self):
        shown, changed = [], threading.Event()

        @self.client.DataWatch(self.path)
        def watch(data, stat):
            shown.append(data)
            if data == b"2":
                changed.set()

        self.client.create(self.path, b"1")
        self.lose_connection(threading.Event)
        self.make_client().set(self.path, b"2")
        self.assertTrue(changed.wait(10))
        self.assertEqual((shown[0], shown[-1]), (None, b"2"))

    def test_the_cluster(self):
        self.cluster[0].stop()
        self.client.retry(self.client.ensure_path, self.path)
        self.cluster[0].run()
        self.assertEqual(len(self.servers.split(",")), 3)
"""


@pytest.mark.parametrize(
    "runner",
    [
        ["unittest", "-q", "registry_tests"],
        pytest.param(["pytest", "-q", "registry_tests.py"], marks=pytest.mark.soak),
    ],
    ids=["unittest", "pytest"],
)
def test_a_projects_suite_runs_as_it_is_and_without_java(tmp_path: Path, runner: list[str]) -> None:
    (tmp_path / "registry_tests.py").write_text(PROJECT)
    command = [sys.executable, "-m", "terzetto.client.kazoo", "-m", *runner]
    nowhere = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=nowhere, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 4 tests" in done.stderr or "4 passed" in done.stdout
