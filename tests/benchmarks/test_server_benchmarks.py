"""The servers' half of the harness at tiny sizes, with real servers. Nothing depends on how fast they are."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.zookeeper import StartFailed

from .__main__ import main
from .building import BuildFailed
from .choosing import choose
from .contenders import DriverFailed
from .ensemble_kinds import EnsembleKind, find_leader, open_in_process
from .processes import memory_of, mode_of, wait_first_answer, wait_write
from .report import text_goals
from .results import Reading, Results
from .server_kinds import Load, ServerKind, find_server_kinds
from .server_report import cells, header
from .server_rounds import run_server_rounds
from .server_workloads import (
    EXTENTS,
    IN_MEMORY,
    JAVA,
    ON_DISK,
    SERVER_GOALS,
    SERVER_WORKLOADS,
    SERVERS,
    ServerWorkload,
)
from .test_benchmarks import written_pages
from .workloads import WORKLOADS, Effort

EXTENT = EXTENTS[Effort.TINY]
needs_compiler = pytest.mark.interop
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def load(tmp_path: Path) -> Load:
    try:
        return Load(tmp_path)
    except BuildFailed as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture
def kinds(tmp_path: Path, zookeeper_installed: None) -> dict[str, ServerKind]:
    return {kind.name: kind for kind in find_server_kinds(tmp_path)}


def _workload(name: str) -> ServerWorkload:
    return next(workload for workload in SERVER_WORKLOADS if workload.name == name)


# Whole runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.usefixtures("kinds", "load")
@needs_linux
@pytest.mark.soak  # half a minute; what it runs has tests of its own
def test_a_run_of_all_servers_fills_every_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = written_pages()
    assert main(["--tiny", "--only", "servers", "--output", str(tmp_path)]) == 0
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    for workload in SERVER_WORKLOADS:
        title = workload.describe(Effort.TINY)
        table = page[page.index(f"### {title[0].upper()}{title[1:]}") :].split("\n\n")[1]
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        assert [line[0].strip("*") for line in lines[2:]] == list(workload.servers)
        assert all(len(line) == 1 + len(header(workload)) and all(line[1:]) for line in lines)
    shown = capsys.readouterr().out
    assert shown.count("  met\n") + shown.count("  missed\n") == len(SERVER_GOALS)
    assert written_pages() == before


@needs_compiler
@needs_linux
def test_rounds_count_and_memory_is_not_read_in_each(load: Load, kinds: dict[str, ServerKind]) -> None:
    workloads = [_workload(name) for name in ("server-start", "server-memory", "server-read-many", "server-write-deep")]
    results = run_server_rounds([kinds[IN_MEMORY], kinds[ON_DISK]], load, workloads, Effort.TINY, rounds=2)
    assert {(workload, name): len(rounds) for (workload, name), rounds in results.rounds.items()} == {
        ("server-start", IN_MEMORY): 2,
        ("server-start", ON_DISK): 2,
        ("server-memory", IN_MEMORY): EXTENT.lives,
        ("server-memory", ON_DISK): EXTENT.lives,
        ("server-read-many", IN_MEMORY): 2,
        ("server-write-deep", IN_MEMORY): 2,
        ("server-write-deep", ON_DISK): 2,
    }
    assert results.median("server-memory", IN_MEMORY, "full") >= results.median("server-memory", IN_MEMORY, "empty") > 0
    # No goal without the server that it compares with.
    assert results.goals(SERVER_GOALS) == []


# What is chosen -------------------------------------------------------------------------------------------------------


def test_a_whole_run_has_clients_and_servers() -> None:
    choice = choose([])
    assert choice.is_whole
    assert (list(choice.workloads), list(choice.server_workloads)) == (list(WORKLOADS), list(SERVER_WORKLOADS))


@pytest.mark.parametrize(
    ("arguments", "clients", "servers"),
    [
        (["--only", "clients"], len(WORKLOADS), 0),
        (["--only", "servers"], 0, len(SERVER_WORKLOADS)),
        (["--client", "C"], len(WORKLOADS), 0),
        (["--server", "null"], 3, 0),
        (["--workload", "server-start", "--workload", "read"], 1, 1),
        (["--profile", "read"], 1, 0),
    ],
)
def test_a_part_of_a_run(arguments: list[str], clients: int, servers: int) -> None:
    choice = choose(arguments)
    assert (len(choice.workloads), len(choice.server_workloads)) == (clients, servers)
    # The clients' own cost has a page of its own, and is whole without servers.
    assert choice.is_whole == (arguments == ["--server", "null"])


@pytest.mark.parametrize(
    "arguments",
    [["--server", "null", "--workload", "server-start"], ["--server", "null", "--only", "servers"], ["--only", "both"]],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        choose(arguments)
    assert caught.value.code == 2


def test_every_goal_is_about_servers_that_take_part() -> None:
    for goal in SERVER_GOALS:
        servers = _workload(goal.workload).servers
        assert {goal.of, goal.base} - {None} <= set(servers)
        # What is compared in the tables is what the goals are about.
        assert goal.base == _workload(goal.workload).base_of(goal.of)
    assert {name for workload in SERVER_WORKLOADS for name in workload.servers} == set(SERVERS)


# The load -------------------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("name", [workload.name for workload in SERVER_WORKLOADS if workload.kind == "load"])
def test_a_load_is_answered(load: Load, kinds: dict[str, ServerKind], name: str) -> None:
    workload = _workload(name)
    with kinds[IN_MEMORY].serving() as server:
        measurement = load.measure(server, workload, EXTENT)
    assert measurement.operations > 0
    assert measurement.wall_ns >= EXTENT.seconds * 1e9
    assert 0 < len(measurement.samples_ns) <= measurement.operations
    assert min(measurement.samples_ns) > 0


def _four_letters(port: int, word: str) -> dict[str, str]:
    with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
        connection.settimeout(5.0)
        connection.sendall(word.encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return dict(line.split("\t", 1) for line in answer.decode().splitlines() if "\t" in line)


@needs_compiler
def test_a_tree_is_filled_with_as_many_znodes_as_asked_for(load: Load, kinds: dict[str, ServerKind]) -> None:
    with kinds[IN_MEMORY].serving() as server:
        empty = int(_four_letters(server.port, "mntr")["zk_znode_count"])
        load.fill(server, 250)
        # With their parent.
        assert int(_four_letters(server.port, "mntr")["zk_znode_count"]) == empty + 251


# Ensembles ------------------------------------------------------------------------------------------------------------


@needs_compiler
@needs_linux
@pytest.mark.parametrize("name", [IN_MEMORY, ON_DISK])
def test_an_ensemble_outlives_its_leader(load: Load, kinds: dict[str, ServerKind], name: str) -> None:
    with EnsembleKind(name, kinds[name].environment).prepared() as ensemble:
        ensemble.start()
        servers = ensemble.servers()
        for server in servers:
            wait_first_answer(server)
        leader = find_leader(servers)
        assert sorted(str(mode_of(server.port)) for server in servers) == ["follower", "follower", "leader"]
        assert len({server.pid for server in servers}) == len(servers) == 3
        (whole,) = ensemble.memory_pids()
        assert memory_of(whole).resident > sum(memory_of(server.pid).resident for server in servers)
        assert load.measure(leader, _workload("ensemble"), EXTENT).operations > 0
        ensemble.kill(leader)
        survivors = [server for server in servers if server is not leader]
        wait_write(survivors)
        assert mode_of(leader.port) is None
        assert find_leader(survivors) is not leader
        # Whoever answered the write has made it: a fresh tree counts 5, the load has made one more. (It may have been
        # asked more than once.)
        assert max(int(_four_letters(server.port, "mntr")["zk_znode_count"]) for server in survivors) >= 7


def test_an_ensemble_inside_a_process_is_timed() -> None:
    assert 0 < open_in_process({}) < 60


class _Scripted:
    """Stands where a server process does; what answers is the test's own."""

    def __init__(self, port: int, *, running: bool = True) -> None:
        self.port = port
        self.pid = os.getpid()
        self.running = running

    def start(self) -> None:
        raise AssertionError("it is running")

    def close(self) -> None:
        """The socket is the test's."""

    def log_tail(self, lines: int = 40) -> str:
        return "the last words"


def _frame(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


GREETING = _frame(struct.pack(">iiqi16sb", 0, 10_000, 1, 16, bytes(16), 0))


@contextmanager
def _answering(answer: Callable[[int, socket.socket], None]) -> Iterator[_Scripted]:
    """A port where each connection, numbered from 0, is answered by a function; it keeps them open."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                taken.append(connection)
                if listening.fileno() == -1:
                    return
                answer(len(taken) - 1, connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield _Scripted(listening.getsockname()[1])
        finally:
            # Wakes the thread out of its accept.
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            for connection in taken:
                connection.close()


def _read_frame(connection: socket.socket) -> bytes:
    (length,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
    return connection.recv(length, socket.MSG_WAITALL)


@needs_compiler
@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (struct.pack(">iqi", 1, 1, -101), r"error \(-101\)"),
        (struct.pack(">iqi", 2, 1, 0), r"answer out of order: xid \(2\)"),
        (struct.pack(">iqii", 1, 1, 0, 7) + bytes(75), r"wrong length of data"),
        (b"short", r"short answer \(5\)"),
    ],
)
def test_a_wrong_answer_ends_the_load(load: Load, reply: bytes, complaint: str) -> None:
    def answer(_: int, connection: socket.socket) -> None:
        _read_frame(connection)
        connection.sendall(GREETING)
        xid = _read_frame(connection)[:4]
        # The parent of all znodes is there.
        connection.sendall(_frame(xid + struct.pack(">qi", 1, -110)))
        _read_frame(connection)
        connection.sendall(_frame(reply))

    with _answering(answer) as server, pytest.raises(DriverFailed, match=complaint) as caught:
        load.measure(server, _workload("server-read"), EXTENT)
    assert "the last words" in str(caught.value)


# Processes ------------------------------------------------------------------------------------------------------------


def test_an_open_port_is_no_answer_and_another_connection_is_tried() -> None:
    def answer(number: int, connection: socket.socket) -> None:
        if number == 0:
            return
        _read_frame(connection)
        # In pieces, as a network may do.
        connection.sendall(GREETING[:9])
        connection.sendall(GREETING[9:])
        _read_frame(connection)
        connection.sendall(_frame(struct.pack(">iqi", 1, 1, 0) + bytes(68)))

    with _answering(answer) as server:
        wait_first_answer(server)


def test_a_server_that_has_ended_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StartFailed, match="ended before its first answer\nthe last words"):
        wait_first_answer(_Scripted(port, running=False))


_PARENT = """
import subprocess, sys
held = bytearray(b"x" * (32 << 20))
child = [sys.executable, "-ISc", 'held = bytearray(b"x" * (48 << 20)); print("there", flush=True); input()']
subprocess.run(child)
"""


@needs_linux
def test_memory_is_that_of_a_process_and_its_children() -> None:
    with subprocess.Popen(
        [sys.executable, "-ISc", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        memory = memory_of(process.pid)
        process.communicate("\n", timeout=30)
    assert (32 + 48) << 20 < memory.proportional <= memory.resident < (32 + 48 + 100) << 20


# Tables ---------------------------------------------------------------------------------------------------------------


def test_a_server_is_compared_with_javas_round_by_round() -> None:
    workload = _workload("server-start")
    results = Results([workload], list(SERVERS))
    for ours, javas in ((100_000, 1_000_000), (300_000, 400_000), (90_000, 450_000)):
        results.add(workload, IN_MEMORY, Reading({"ready": ours}))
        results.add(workload, JAVA, Reading({"ready": javas}))
    assert header(workload) == ["ready", "ready / Java"]
    assert cells(results, workload, IN_MEMORY) == ["100 ms", "0.20"]
    assert cells(results, workload, JAVA) == ["450 ms", "-"]
    (reached,) = results.goals(SERVER_GOALS)
    assert text_goals([reached]).splitlines()[1].split("  ")[0] == (
        "server-start: time of terzetto in memory at most 0.25 x that of Java"
    )
    assert (reached.goal.of, reached.goal.base, reached.met) == (IN_MEMORY, JAVA, True)


def test_a_figure_may_stand_for_itself() -> None:
    workload = _workload("ensemble-in-process")
    results = Results([workload], list(SERVERS))
    for microseconds in (149_000, 90_000, 160_000):
        results.add(workload, IN_MEMORY, Reading({"ready": microseconds}))
    (reached,) = results.goals(SERVER_GOALS)
    assert reached.met
    goal, *others = [cell.strip() for cell in text_goals([reached]).splitlines()[1].split("  ") if cell]
    assert goal == "ensemble-in-process: time of terzetto in memory at most 150 ms"
    assert others == ["149 ms", "90 ms to 160 ms", "met"]
