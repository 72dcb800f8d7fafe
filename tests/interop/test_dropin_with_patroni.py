"""Patroni's ZooKeeper configuration store, unchanged, on the drop-in: the same steps come out as on kazoo, and the
leader of a process that is gone is found to be gone. On both kinds of server.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from .conftest import OwnZooKeeper
from .programs import DROPIN, KAZOO, finish_program, require_programs, start_program

STORE = """
import json
import sys
import threading
import time

import kazoo.client
from patroni.dcs import get_dcs
from patroni.exceptions import DCSError


def store(name, **changes):
    config = {
        "scope": "batman", "namespace": sys.argv[2], "name": name, "ttl": 12, "loop_wait": 1, "retry_timeout": 12,
        "zookeeper": {"hosts": sys.argv[1].split(",")}, **changes,
    }
    return get_dcs(config)


def say(**words):
    print(json.dumps({**words, "module": kazoo.client.KazooClient.__module__}), flush=True)


def touch(dcs, number):
    url = f"http://127.0.0.1:{number}/patroni"
    return dcs.touch_member({"conn_url": f"postgres://127.0.0.1:{number}/postgres", "api_url": url, "state": "running"})


def seen(dcs):
    cluster = dcs.get_cluster()
    return {
        "initialize": cluster.initialize,
        "config": cluster.config and cluster.config.data,
        "leader": cluster.leader and cluster.leader.name,
        "members": sorted((member.name, member.data) for member in cluster.members),
        "status": cluster.status.last_lsn,
        "failover": cluster.failover and [cluster.failover.leader, cluster.failover.candidate],
        "sync": [cluster.sync.leader, cluster.sync.sync_standby],
        "history": cluster.history and cluster.history.lines,
        "failsafe": cluster.failsafe,
    }
"""

STEPS = """
from store import *

steps = []


def step(name, outcome):
    steps.append([name, outcome])


one, two = store("one"), store("two")
step("empty", seen(one))
step("initialize", one.initialize(create_new=True))
step("initialize again", two.initialize(create_new=True))
step("cancel", one.cancel_initialization())
step("cancelled", seen(two)["initialize"])
step("initialize anew", one.initialize(create_new=True))
step("sysid", bool(one.initialize(create_new=False, sysid="7001")))
step("config", one.set_config_value(json.dumps({"ttl": 12})))
step("members", [touch(one, 5001), touch(two, 5002), touch(one, 5001), touch(two, 5003)])
step("acquire", one.attempt_to_acquire_leader())
step("acquire by another", two.attempt_to_acquire_leader())
cluster = one.get_cluster()
step("update", one.update_leader(cluster, 4711, None, {"one": "http://127.0.0.1:5001/patroni"}))
step("history", one.set_history_value(json.dumps([[1, 4711, "no recovery target specified"]])))
step("sync", one.write_sync_state("one", ["two"], 0) is not None)
step("manual failover", two.manual_failover("one", "two"))
step("seen", seen(two))
failover = two.get_cluster().failover
step("failover with an old version", two.set_failover_value("", failover.version + 7))
step("failover done", two.manual_failover("", "", version=failover.version))
step("seen again", seen(one)["failover"])

# A leader that leaves wakes those who watch.
cluster = two.get_cluster()
leaving = threading.Timer(0.2, lambda: one.delete_leader(one.get_cluster().leader))
began = time.monotonic()
leaving.start()
step("woken", two.watch(cluster.leader.version, 20))
leaving.join()
step("woken in time", time.monotonic() - began < 10)
step("leader is gone", seen(two)["leader"])
step("acquire after that", two.attempt_to_acquire_leader())
session = two._client.client_id[0]

# Another pace: the connection is made anew for it, the session is the same; another TTL makes another session.
two.reload_config({"ttl": 12, "loop_wait": 2, "retry_timeout": 12})
step("still leads", seen(two)["leader"])
step("same session", two._client.client_id[0] == session)
step("touch after that", touch(two, 5004))
two.reload_config({"ttl": 14, "loop_wait": 2, "retry_timeout": 12})
step("ttl", two.ttl)
step("other session", two._client.client_id[0] != session)
step("leads no more", seen(one)["leader"])
one.event.clear()
step("watch to the end of its time", one.watch(None, 0.1))
step("deleted", one.delete_cluster())
step("nothing left", seen(two)["initialize"])
for dcs in (one, two):
    dcs._client.stop()
    dcs._client.close()
say(steps=steps)
"""

LEAD = """
from store import *

dcs = store(sys.argv[3], ttl=4)
touch(dcs, 5001)
say(leads=dcs.attempt_to_acquire_leader())
sys.stdin.read()
"""

FOLLOW = """
from store import *

dcs = store(sys.argv[3])
touch(dcs, 5002)
cluster = dcs.get_cluster()
say(leader=cluster.leader.name)
woken = dcs.watch(cluster.leader.version, 60)
say(woken=woken, leader=seen(dcs)["leader"], leads=dcs.attempt_to_acquire_leader(), members=len(seen(dcs)["members"]))
dcs._client.stop()
"""

OUTAGE = """
from store import *

dcs = store("one", retry_timeout=3)
dcs.initialize(create_new=True, sysid="7001")
dcs.attempt_to_acquire_leader()
say(ready=True)
outcomes = []
for line in sys.stdin:
    began = time.monotonic()
    try:
        outcome = seen(dcs)["initialize"]
    except DCSError as error:
        outcome = str(error)
    say(outcome=outcome, in_time=time.monotonic() - began < 30)
dcs._client.stop()
"""


class Folder:
    """Programs of a test, and its processes, which end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace = f"/{uuid.uuid4().hex}/"
        self.processes: list[subprocess.Popen[str]] = []
        for name, text in {"store": STORE, "steps": STEPS, "lead": LEAD, "follow": FOLLOW, "outage": OUTAGE}.items():
            (folder / f"{name}.py").write_text(text, encoding="utf-8")

    def start(self, prefix: Sequence[str], program: str, hosts: str, *arguments: str) -> subprocess.Popen[str]:
        process = start_program(
            prefix, f"{program}.py", hosts, self.namespace, *arguments, folder=self.folder, stdin=subprocess.PIPE
        )
        self.processes.append(process)
        return process


def heard(process: subprocess.Popen[str], prefix: Sequence[str]) -> dict[str, Any]:
    """The next thing that a process says; a process that ends instead says why."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        finish_program(process)
    words: dict[str, Any] = json.loads(line)
    assert words.pop("module") == ("kazoo.client" if prefix is KAZOO else "terzetto.client.kazoo.client")
    return words


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    require_programs("patroni")
    made = Folder(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_every_step_comes_out_as_on_kazoo(hosts_of_either_kind: str, folder: Folder) -> None:
    outcomes: dict[Sequence[str], list[list[Any]]] = {}
    # The steps of one store are seen by the other at once only on one server.
    server = hosts_of_either_kind.partition(",")[0]
    for prefix in (DROPIN, KAZOO):
        outcomes[prefix] = heard(folder.start(prefix, "steps", server), prefix)["steps"]
    ours: dict[str, Any] = dict(outcomes[DROPIN])
    assert outcomes[DROPIN] == outcomes[KAZOO]
    assert (ours["initialize"], ours["initialize again"], ours["cancelled"]) == (True, False, None)
    assert (ours["acquire"], ours["acquire by another"], ours["update"]) == (True, False, True)
    assert ours["seen"]["initialize"] == "7001"
    assert [name for name, _ in ours["seen"]["members"]] == ["one", "two"]
    assert ours["seen"]["failover"] == ["one", "two"]
    assert (ours["woken"], ours["woken in time"], ours["acquire after that"]) == (True, True, True)
    assert (ours["still leads"], ours["same session"], ours["other session"]) == ("two", True, True)
    assert (ours["ttl"], ours["leads no more"], ours["nothing left"]) == (14, None, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hosts_of_either_kind", ["embedded", pytest.param("real", marks=pytest.mark.soak)], indirect=True
)
@pytest.mark.parametrize(
    ("leading", "following"),
    [
        pytest.param(DROPIN, DROPIN, id="both"),
        pytest.param(KAZOO, DROPIN, id="follower", marks=pytest.mark.soak),
        pytest.param(DROPIN, KAZOO, id="leader", marks=pytest.mark.soak),
    ],
)
def test_the_session_of_a_process_that_is_killed_expires(
    hosts_of_either_kind: str, folder: Folder, leading: Sequence[str], following: Sequence[str]
) -> None:
    leader = folder.start(leading, "lead", hosts_of_either_kind, "one")
    assert heard(leader, leading) == {"leads": True}
    follower = folder.start(following, "follow", hosts_of_either_kind, "two")
    assert heard(follower, following) == {"leader": "one"}
    leader.kill()
    # Its member's znode goes with the session as the leader's does.
    assert heard(follower, following) == {"woken": True, "leader": None, "leads": True, "members": 1}


@pytest.mark.slow
def test_an_outage_is_told_within_the_time_to_retry(own_zookeeper: OwnZooKeeper, folder: Folder) -> None:
    server = own_zookeeper()
    process = folder.start(DROPIN, "outage", server.hosts)
    assert heard(process, DROPIN) == {"ready": True}
    assert process.stdin is not None

    def ask() -> dict[str, Any]:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return heard(process, DROPIN)

    assert ask() == {"outcome": "7001", "in_time": True}
    server.kill()
    told = {"outcome": "ZooKeeper in not responding properly", "in_time": True}
    assert ask() == told
    server.start()
    # Each question is asked for some seconds; how many of them the server's start takes is its own affair.
    answers = [told]
    while answers[-1] == told and len(answers) < 10:
        answers.append(ask())
    assert answers[-1] == {"outcome": "7001", "in_time": True}
