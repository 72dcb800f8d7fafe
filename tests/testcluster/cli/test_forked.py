"""`terzetto ensemble --servers 3`: a process a server, none of which outlives the one that was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from terzetto.client import open_zookeeper
from terzetto.testcluster.cli.forked import STOP_TIMEOUT

from ..free_ports import free_ports
from .test_running import DEADLINE, RUN, running, word

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in /proc"),
]


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """A zombie that nobody has reaped yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition does not come"
        # Another process is waited for.
        time.sleep(0.01)


@contextmanager
def three(*options: str) -> Iterator[tuple[subprocess.Popen[str], list[str], list[int]]]:
    with running(["ensemble", "--servers", "3", *options]) as (process, hosts):
        yield process, hosts.split(","), children(process)


async def test_it_serves_and_ends_with_a_signal_and_its_data_stays(tmp_path: Path) -> None:
    for round_number in range(2):
        with three("--data-dir", str(tmp_path)) as (process, hosts, pids):
            assert len(pids) == 3
            modes = sorted(word(host, b"srvr").partition("Mode: ")[2].split()[0] for host in hosts)
            assert modes == ["follower", "follower", "leader"]
            async with open_zookeeper(",".join(hosts), connect_timeout=DEADLINE) as zk:
                assert len(await zk.get_children("/")) == 1 + round_number
                await zk.create(f"/{round_number}")
            process.terminate()
            assert process.wait(DEADLINE) == 0
            assert not any(map(is_alive, pids))
            with pytest.raises(ConnectionRefusedError):
                word(hosts[0], b"ruok")
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3"]


def test_a_server_that_dies_is_reported_and_the_others_go_on() -> None:
    with three("--observers", "1") as (process, hosts, pids):
        assert len(hosts) == len(pids) == 4
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: not is_alive(pids[0]))
        until(lambda: "Mode: " in word(hosts[1], b"srvr") + word(hosts[2], b"srvr"))
        assert "Mode: observer" in word(hosts[3], b"srvr") or process.poll() is None
        process.terminate()
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 1
    assert f"terzetto: server 1 (process {pids[0]}) was ended by SIGKILL" in errors


@pytest.mark.parametrize("is_stopped", [False, True])
def test_none_outlives_the_parent(is_stopped: bool) -> None:
    with three() as (process, hosts, pids):
        if is_stopped:
            os.kill(pids[1], signal.SIGSTOP)
        process.kill()
        process.wait(DEADLINE)
        until(lambda: not any(map(is_alive, pids)))
        with pytest.raises(ConnectionRefusedError):
            word(hosts[0], b"ruok")


def test_a_stopped_server_is_no_obstacle_to_the_end() -> None:
    with three() as (process, _, pids):
        os.kill(pids[2], signal.SIGSTOP)
        process.terminate()
        assert process.wait(DEADLINE) == 0
        assert not any(map(is_alive, pids))


def test_all_of_them_share_what_was_loaded_before() -> None:
    def pss(pid: int) -> int:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

    with three() as (process, _, pids):
        together = sum(map(pss, [process.pid, *pids]))
    # Alone each of them needs some 30 MB.
    assert together < 4 * 25_000, f"{together} kB"


def test_a_server_that_cannot_start_ends_all(tmp_path: Path) -> None:
    (tmp_path / "2").write_text("no folder")
    done = subprocess.run(
        [*RUN, "ensemble", "--servers", "3", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "terzetto: server 2 (process" in done.stderr


def test_ports_follow_the_base() -> None:
    base = free_ports(3)
    with three("--base-port", str(base)) as (_, hosts, _):
        assert hosts == [f"127.0.0.1:{base + number}" for number in range(3)]


def test_servers_from_configuration_files_find_one_another(tmp_path: Path) -> None:
    first = free_ports(9)
    ports = range(first, first + 9)
    members = [f"server.{sid + 1}=127.0.0.1:{ports[3 * sid]}:{ports[3 * sid + 1]}" for sid in range(3)]
    processes: list[subprocess.Popen[str]] = []
    try:
        for sid in range(3):
            folder = tmp_path / str(sid + 1)
            (folder / "data").mkdir(parents=True)
            (folder / "data" / "myid").write_text(f"{sid + 1}\n")
            lines = [
                f"dataDir={folder / 'data'}",
                f"clientPort={ports[3 * sid + 2]}",
                "clientPortAddress=127.0.0.1",
                "tickTime=300\ninitLimit=40\nsyncLimit=20\nadmin.enableServer=false",
                *members,
            ]
            (folder / "zoo.cfg").write_text("\n".join(lines) + "\n")
            command = [sys.executable, "-c", RUN[2], "server", str(folder / "zoo.cfg")]
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        for sid, process in enumerate(processes):
            assert process.stdout is not None
            # It is said when there is a quorum.
            assert process.stdout.readline() == f"ready 127.0.0.1:{ports[3 * sid + 2]}\n"
        modes = [word(f"127.0.0.1:{ports[3 * sid + 2]}", b"srvr").partition("Mode: ")[2].split()[0] for sid in range(3)]
        assert sorted(modes) == ["follower", "follower", "leader"]
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=DEADLINE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_is_no_failure(number: signal.Signals) -> None:
    with three() as (process, _, pids):
        # The children hear of it before their parent does, and of its own word when they are all but gone.
        os.kill(process.pid, signal.SIGSTOP)
        for pid in (process.pid, *pids):
            os.kill(pid, number)
        until(lambda: not any(map(is_alive, pids)))
        began = time.monotonic()
        os.kill(process.pid, signal.SIGCONT)
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, errors
        assert time.monotonic() - began < STOP_TIMEOUT
    assert "(process" not in errors
