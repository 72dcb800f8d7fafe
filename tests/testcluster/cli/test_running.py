"""`terzetto server` and `terzetto ensemble` as processes."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from terzetto.testcluster.reserved_port import ReservedPort

from ..free_ports import free_ports

RUN = [sys.executable, "-c", "import sys; from terzetto.testcluster.cli import main; sys.exit(main())"]
DEADLINE = 20


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and what it printed behind `ready`."""
    process = subprocess.Popen([*RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready "), process.communicate(timeout=DEADLINE)
        yield process, line.removeprefix("ready ").rstrip("\n")
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def failing(*arguments: str) -> tuple[int, str]:
    """Exit status and last line of what went wrong."""
    done = subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=DEADLINE)
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()[-1]


def word(hosts: str, text: bytes) -> str:
    host, _, port = hosts.rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as asking:
        asking.sendall(text)
        return asking.recv(65536).decode()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ensemble_runs_until_a_signal(number: signal.Signals) -> None:
    with running(["ensemble"]) as (process, hosts):
        assert word(hosts, b"ruok") == "imok"
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0
        with pytest.raises(ConnectionRefusedError):
            word(hosts, b"ruok")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zoo.cfg", "zoo.yaml"])
def test_a_server_from_its_configuration_file(tmp_path: Path, name: str) -> None:
    port = ReservedPort()
    settings = {
        "dataDir": str(tmp_path / "data"),
        "clientPort": port.number,
        "clientPortAddress": "127.0.0.1",
        "tickTime": 250,
        "admin.enableServer": "false",
        "4lw.commands.whitelist": "conf",
        "nio.numWorkerThreads": 3,
    }
    separator = "=" if name == "zoo.cfg" else ": "
    (tmp_path / name).write_text("".join(f"{key}{separator}{value}\n" for key, value in settings.items()))
    with running(["server", str(tmp_path / name)]) as (process, hosts):
        assert hosts == f"127.0.0.1:{port.number}"
        assert "tickTime=250\n" in word(hosts, b"conf")
        process.terminate()
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
    assert f"{name}:7: nio.numWorkerThreads has no effect" in errors
    assert (tmp_path / "data" / "version-2").is_dir()
    port.close()


@pytest.mark.slow
def test_options_of_an_ensemble(tmp_path: Path) -> None:
    number = free_ports(1)
    options = ["--base-port", str(number), "--data-dir", str(tmp_path), "--tick-time", "0.3", "--set", "maxCnxns=77"]
    with running(["ensemble", *options]) as (_, hosts):
        assert hosts == f"127.0.0.1:{number}"
        assert "tickTime=300\n" in word(hosts, b"conf")
    assert (tmp_path / "1" / "version-2").is_dir()


@pytest.mark.slow
def test_mistakes_are_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "zoo.cfg").write_text("dataDir=/nowhere\nclientPort=x\n")
    status, line = failing("server", str(tmp_path / "zoo.cfg"))
    assert (status, line) == (2, f"terzetto: {tmp_path}/zoo.cfg:2: clientPort must be a whole number, not 'x'")
    assert failing("ensemble", "--servers", "0") == (2, "terzetto: servers must be at least 1, not 0")
    assert failing("ensemble", "--set", "snapCount")[1] == "terzetto: --set snapCount: must be KEY=VALUE"
    (tmp_path / "secret").write_text("short")
    (tmp_path / "zoo.cfg").write_text(f"dataDir={tmp_path}\nclientPort=1\nsessionSecretFile={tmp_path}/secret\n")
    assert "holds 5 bytes; at least 16 are needed" in failing("server", str(tmp_path / "zoo.cfg"))[1]


@pytest.mark.slow
def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = failing("ensemble", "--base-port", str(port))
    assert status == 1
    assert line.endswith(f"port {port} of 127.0.0.1 cannot be had: {os.strerror(errno.EADDRINUSE)}")
