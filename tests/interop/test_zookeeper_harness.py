"""The harness itself: servers start, break, come back with their data, and never stay behind."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import kazoo.client
import pytest
import trustme

from . import zookeeper as zookeeper_module
from .conftest import OwnEnsemble, OwnZooKeeper
from .identities import server_identity
from .installation import PeerMissing, find_classpath
from .processes import ChildProcess, PortReservation
from .zookeeper import SUPER_AUTH, SUPER_DIGEST, SUPER_DIGEST_PROPERTY, RealEnsemble, RealZooKeeper, StartFailed

_ROOT = Path(__file__).parents[2]
_RUNNER = [sys.executable, "-m", "tests.interop.zookeeper"]


@contextmanager
def _kazoo(hosts: str) -> Iterator[kazoo.client.KazooClient]:
    client = kazoo.client.KazooClient(hosts, timeout=10.0)
    client.start(timeout=30)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def _await(condition: Callable[[], bool], deadline: float = 20.0) -> None:
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"not within {deadline} s"
        time.sleep(0.01)


def _listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except ConnectionRefusedError:
        return False
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# -- one server


def test_the_shared_server_has_the_promised_configuration(zookeeper: RealZooKeeper) -> None:
    zookeeper.wait_mode("standalone")
    assert zookeeper.four_letter("ruok") == "imok"
    conf = dict(line.split("=", 1) for line in zookeeper.four_letter("conf").splitlines())
    assert conf["tickTime"] == "300"
    assert conf["minSessionTimeout"] == "600"
    assert conf["maxClientCnxns"] == "0"
    assert zookeeper.hosts == f"127.0.0.1:{conf['clientPort']}"
    with _kazoo(zookeeper.hosts) as client:
        client.add_auth("digest", SUPER_AUTH)
        # Only the superuser may write here: the node's ACL grants READ to the world and nothing else.
        client.set("/zookeeper/config", b"")


def test_only_the_loopback_address_listens(zookeeper: RealZooKeeper) -> None:
    table = Path("/proc/net/tcp6").read_text() + Path("/proc/net/tcp").read_text()
    port = f"{zookeeper.port:04X}"
    listening = {row.split()[1] for row in table.splitlines() if row.split()[3] == "0A"}
    addresses = {address.rpartition(":")[0] for address in listening if address.endswith(f":{port}")}
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert addresses


def test_stopping_leaves_neither_process_nor_listener_nor_folder(zookeeper_installed: None) -> None:
    with RealZooKeeper() as server:
        pid, port, directory = server.pid, server.port, server.directory
        assert _listening(port)
        server.stop()
        assert not _exists(pid)
        assert not _listening(port)
        assert server.mode() is None
    assert not directory.exists()


@pytest.mark.parametrize("end", [RealZooKeeper.stop, RealZooKeeper.kill])
def test_a_server_comes_back_on_its_port_with_its_data(
    own_zookeeper: OwnZooKeeper, end: Callable[[RealZooKeeper], None]
) -> None:
    server = own_zookeeper()
    with _kazoo(server.hosts) as client:
        client.create("/kept", b"data")
    end(server)
    server.start()
    server.wait_serving()
    with _kazoo(server.hosts) as client:
        assert client.get("/kept")[0] == b"data"


def test_a_paused_server_is_silent_and_a_resumed_one_answers(own_zookeeper: OwnZooKeeper) -> None:
    server = own_zookeeper()
    server.pause()
    assert server.paused
    assert server.mode() is None
    with pytest.raises(TimeoutError):
        server.four_letter("ruok", timeout=0.2)
    server.resume()
    assert server.four_letter("ruok") == "imok"
    server.pause()
    server.stop()
    assert not server.running


def test_restart_serves_again(own_zookeeper: OwnZooKeeper) -> None:
    server = own_zookeeper()
    before = server.pid
    server.restart()
    assert server.pid != before
    server.wait_mode("standalone")


def test_a_server_that_cannot_start_shows_its_log(own_zookeeper: OwnZooKeeper) -> None:
    with pytest.raises(StartFailed, match=r"(?s)server 0 ended.*NumberFormatException.*\"often\""):
        own_zookeeper(zoo_cfg={"tickTime": "often"})


def test_options_reach_the_server(own_zookeeper: OwnZooKeeper) -> None:
    server = own_zookeeper(
        tick_time=0.4,
        zoo_cfg={"maxClientCnxns": 7},
        jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST, "znode.container.checkIntervalMs": 321},
    )
    conf = server.four_letter("conf")
    assert "tickTime=400\n" in conf
    assert "maxClientCnxns=7\n" in conf
    # The server makes its container manager, which says so, after it has begun to serve.
    _await(lambda: "checkIntervalMs=321 " in server.log_tail(1000))


def test_tls_port(own_zookeeper: OwnZooKeeper, tmp_path: Path) -> None:
    authority = trustme.CA()
    server = own_zookeeper(secure=True, zoo_cfg={**server_identity(authority, tmp_path), "ssl.clientAuth": "none"})
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    host, port = server.secure_address.split(":")
    with (
        socket.create_connection((host, int(port)), 10.0) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        encrypted.sendall(b"ruok")
        assert encrypted.recv(4) == b"imok"


def test_no_tls_port_unless_asked_for(zookeeper: RealZooKeeper) -> None:
    with pytest.raises(ValueError, match="secure=True"):
        _ = zookeeper.secure_address


# -- an ensemble


def test_the_shared_ensemble_has_one_leader(ensemble: RealEnsemble) -> None:
    leader = ensemble.leader()
    followers = ensemble.followers()
    assert sorted([leader.sid, *(server.sid for server in followers)]) == [1, 2, 3]
    assert len(ensemble.hosts.split(",")) == 3


def test_an_ensemble_survives_its_leader(own_ensemble: OwnEnsemble) -> None:
    servers = own_ensemble(3)
    with _kazoo(servers.hosts) as client:
        client.create("/kept", b"data")
    first = servers.leader()
    servers.kill(first.sid)
    second = servers.leader()
    assert second.sid != first.sid
    servers.start(first.sid)
    servers.wait_serving()
    first.wait_mode("follower")
    with _kazoo(first.address) as client:
        client.sync("/")
        assert client.get("/kept")[0] == b"data"


def test_a_paused_leader_is_replaced(own_ensemble: OwnEnsemble) -> None:
    servers = own_ensemble(3)
    first = servers.leader()
    servers.pause(first.sid)
    assert servers.leader().sid != first.sid
    servers.resume(first.sid)
    servers.wait_serving()
    first.wait_mode("follower")


def test_a_server_joins_by_reconfig(own_ensemble: OwnEnsemble) -> None:
    servers = own_ensemble(3, zoo_cfg={"reconfigEnabled": "true"}, jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST})
    newcomer = servers.add_server()
    newcomer.start()
    newcomer.wait_serving()
    with _kazoo(servers.hosts) as client:
        client.add_auth("digest", SUPER_AUTH)
        config, _ = client.reconfig(
            joining=f"server.{newcomer.sid}={newcomer.specification()}", leaving=None, new_members=None
        )
    assert f"server.4={newcomer.specification()}".encode() in config
    servers.wait_serving()
    servers.restart(newcomer.sid)
    assert newcomer.wait_serving() in ("follower", "leader")


# -- nothing stays behind


@contextmanager
def _runner(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command line around a command that prints the connect string and then waits for the end of its input."""
    process = subprocess.Popen(
        [*_RUNNER, *arguments, "--", "sh", "-c", "echo {hosts}; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.kill()


def test_servers_and_folders_go_with_a_killed_starter(
    zookeeper_installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with _runner() as (process, port):
        assert _listening(port)
        assert [*tmp_path.glob("terzetto-zookeeper-*")]
        process.kill()
        process.wait()
        _await(lambda: not _listening(port))
        _await(lambda: not [*tmp_path.glob("terzetto-zookeeper-*")])


def test_servers_stop_with_a_terminated_starter(zookeeper_installed: None) -> None:
    with _runner() as (process, port):
        process.terminate()
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        assert not _listening(port)


def test_a_child_is_killed_at_exit(tmp_path: Path) -> None:
    program = """
import sys, pathlib
from tests.interop.processes import ChildProcess
print(ChildProcess(["sleep", "600"], pathlib.Path(sys.argv[1], "log"), pathlib.Path(sys.argv[1])).pid)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert not _exists(int(result.stdout))


def test_a_child_that_ended_by_itself_cannot_be_signalled(tmp_path: Path) -> None:
    process = ChildProcess(["true"], tmp_path / "log", tmp_path)
    assert process.exited_within(10.0)
    with pytest.raises(ProcessLookupError, match="has ended with status 0"):
        process.pause()
    process.terminate()
    process.kill()


def test_sigkill_follows_an_ignored_sigterm(tmp_path: Path) -> None:
    process = ChildProcess(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], tmp_path / "log", tmp_path
    )
    _await(lambda: "ready" in process.log.read_text())
    process.terminate(grace=0.1)
    assert not process.running


# -- ports


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a reservation is only a lookup")
def test_a_reserved_port_is_refused_to_others_and_open_to_its_server() -> None:
    reservation = PortReservation()
    try:
        assert not _listening(reservation.port)
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", reservation.port))
        for _ in range(2):
            with socket.socket() as server:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind(("127.0.0.1", reservation.port))
                server.listen()
                assert _listening(reservation.port)
    finally:
        reservation.close()


# -- the command line, and a machine without the peer


def test_the_command_line_substitutes_hosts_and_forwards_the_status(zookeeper_installed: None) -> None:
    program = """
import sys
from kazoo.client import KazooClient
client = KazooClient(sys.argv[1])
client.start(30)
client.create("/a")
client.stop()
sys.exit(42)
"""
    result = subprocess.run([*_RUNNER, "--", sys.executable, "-c", program, "{hosts}"], cwd=_ROOT, timeout=120)
    assert result.returncode == 42


def test_the_command_line_starts_an_ensemble(zookeeper_installed: None) -> None:
    result = subprocess.run(
        [*_RUNNER, "--servers", "3", "--zoo-cfg", "tickTime=200", "--", "echo", "on", "{hosts}"],
        cwd=_ROOT,
        timeout=120,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.count("127.0.0.1:") == 3


@pytest.mark.parametrize(
    "arguments", [["--servers", "0", "--", "true"], ["--zoo-cfg", "novalue", "--", "true"], ["--servers", "1"]]
)
def test_the_command_line_refuses_bad_arguments(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        zookeeper_module.main(arguments)
    assert exit_.value.code == 2


def test_a_command_that_does_not_exist(zookeeper_installed: None) -> None:
    result = subprocess.run(
        [*_RUNNER, "--", "/nonexistent/program"], cwd=_ROOT, timeout=60, capture_output=True, text=True
    )
    assert result.returncode == 127
    assert result.stderr == "cannot run /nonexistent/program: No such file or directory\n"


def test_without_java_the_command_line_says_how_to_get_it() -> None:
    environment = {**os.environ, "PATH": "/nonexistent"}
    environment.pop("JAVA_HOME", None)
    result = subprocess.run(
        [*_RUNNER, "--", "true"], cwd=_ROOT, env=environment, timeout=60, capture_output=True, text=True
    )
    assert result.returncode == 3
    assert "install the packages zookeeper and default-jre-headless" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_zookeeper_home_names_an_unpacked_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOOKEEPER_HOME", str(tmp_path))
    with pytest.raises(PeerMissing, match=r"has no lib/zookeeper-\*\.jar"):
        find_classpath()
    (tmp_path / "lib").mkdir()
    for name in ("zookeeper-3.9.3.jar", "zookeeper-jute-3.9.3.jar", "netty-handler.jar"):
        (tmp_path / "lib" / name).touch()
    assert find_classpath().split(os.pathsep) == sorted(map(str, (tmp_path / "lib").iterdir()))


def _one_test_without_java(**environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PATH": "/nonexistent", "CI": "", **environment}
    variables.pop("JAVA_HOME", None)
    test = "tests/interop/test_zookeeper_harness.py::test_restart_serves_again"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test]
    return subprocess.run(command, cwd=_ROOT, env=variables, timeout=120, capture_output=True, text=True)


def test_without_java_a_test_is_skipped_with_the_reason() -> None:
    result = _one_test_without_java()
    assert result.returncode == 0
    assert "1 skipped" in result.stdout
    assert "default-jre-headless" in result.stdout


def test_without_java_a_test_fails_in_ci() -> None:
    result = _one_test_without_java(CI="true")
    assert result.returncode == 1
    assert "1 error" in result.stdout
    assert "default-jre-headless" in result.stdout


def test_tests_beside_the_real_peers_are_marked(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("interop") is not None
