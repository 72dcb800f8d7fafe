"""tooz, unchanged, on the drop-in: its ZooKeeper driver passes tooz's own coordination tests, on both kinds of server.

tooz brings its tests along; they are run as they are, by `unittest`, in a process of their own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .programs import DROPIN, finish_program, require_programs, start_program

RUN = """
import logging
import sys
import unittest

import kazoo.client

logging.disable(logging.WARNING)
left_out = set(sys.argv[2:])


def single_tests(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from single_tests(test)
        elif test.id().rpartition(".")[2] not in left_out:
            yield test


# Processes that a test starts import this file once more.
if __name__ == "__main__":
    tests = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1].split(","))
    done = unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite(single_tests(tests)))
    print(kazoo.client.KazooClient.__module__, done.testsRun, len(done.skipped))
    sys.exit(not done.wasSuccessful())
"""

COORDINATION = "tooz.tests.test_coordination"
PARTITIONER = "tooz.tests.test_partitioner.TestPartitioner"
# Waits ten seconds for a server that is not there.
PATIENT = "test_connection_error_bad_host"
OUTCOME = re.compile(r"\.(test_\w+) \.\.\. (.*)$", re.MULTILINE)


def run_tests(hosts: str, folder: Path, modules: str, *left_out: str) -> dict[str, str]:
    """Outcomes by the tests' names: "ok", or "skipped" with tooz's reason."""
    require_programs("tooz", "testtools", "fixtures")
    runner = folder / "run.py"
    runner.write_text(RUN, encoding="utf-8")
    # Its tests read with one client what another has written, which only holds for clients of one server.
    environment = {"TOOZ_TEST_URL": f"zookeeper://{hosts.split(',', maxsplit=1)[0]}"}
    process = start_program(DROPIN, str(runner), modules, *left_out, folder=folder, environment=environment)
    output, report = finish_program(process)
    found = dict(OUTCOME.findall(report))
    module, ran, skipped = output.split()
    assert module == "terzetto.client.kazoo.client"
    assert int(ran) == len(found), report
    assert int(skipped) == sum(outcome.startswith("skipped") for outcome in found.values()), report
    return found


def check(outcomes: dict[str, str]) -> None:
    assert {outcome for outcome in outcomes.values() if not outcome.startswith("skipped")} == {"ok"}
    for name in (
        "test_join_group",
        "test_get_members",
        "test_watch_group_join",
        "test_run_for_election",
        "test_get_lock",
        "test_get_lock_concurrency_locking_two_lock_process",
        "test_run_for_election_multiple_clients_stand_down",
    ):
        assert outcomes[name] == "ok"


@pytest.mark.slow
def test_coordination(hosts_of_either_kind: str, tmp_path: Path) -> None:
    outcomes = run_tests(hosts_of_either_kind, tmp_path, COORDINATION, PATIENT)
    assert len(outcomes) > 75
    check(outcomes)


@pytest.mark.soak
def test_coordination_whole(hosts_of_either_kind: str, tmp_path: Path) -> None:
    outcomes = run_tests(hosts_of_either_kind, tmp_path, f"{COORDINATION},{PARTITIONER}")
    assert outcomes[PATIENT] == "ok"
    assert outcomes["test_join_partitioned_group"] == "ok"
    check(outcomes)
