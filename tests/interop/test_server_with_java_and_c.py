"""Java's and the C client's command lines, and a Java program with every call of Apache's client, do the same work on
ZooKeeper 3.8.0 and here; what they print is compared.

Both servers are new, so that zxids can be compared as they are. Masked are clocks, session ids, addresses and the C
client's own log; nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from terzetto.testcluster import BlockingEnsemble, start_ensemble

from .conftest import OwnZooKeeper
from .installation import PeerMissing, find_classpath, find_java
from .java_programs import compiled, talk_to_zkcli
from .zookeeper import QUICK_JVM_FLAGS, TICK_TIME

DEADLINE = 60
SWEEP_MS = 300

JAVA_COMMANDS = """
create /j data
create -e /j/e x
create -s /j/s- y
create -s -e /j/se- y
create -c /j/container
create -t 100000 /j/ttl v
create -t 100000 -s /j/ttl- v
create /j data
create /none/such
get -s /j
get /none
set -s /j new
set -v 7 /j never
stat /j
stat /none
ls /j
ls -s /j
ls -R /j
getAllChildrenNumber /j
getEphemerals /j
getAcl -s /j
setAcl /j ip:127.0.0.1:cdrwa,world:anyone:r
getAcl /j
whoami
addauth digest ann:secret
whoami
create /secret s digest:bob:x:cdrwa
getAcl /secret
create /mine m auth::cdrwa
getAcl -s /mine
get -w /j
set /j changed
addWatch -m PERSISTENT /j
set /j again
removewatches /j
addWatch -m PERSISTENT_RECURSIVE /j
create /j/deep
delete /j/deep
setquota -n 5 /j
listquota /j
delquota /j
sync /j
config
reconfig -add server.9=localhost:1:2;3
delete /j
delete -v 5 /j/container
deleteall /j
ls /
version
create /last
get -w /last
set /last changed
close
"""

C_COMMANDS = """
create /c
create -e /c/e
create -s /c/s-
create +c /c/container
create /none/such
set /c value
get /c
exists /c
stat /c
wexists /c/none
create /c/none
delete /c/none
ls /c
ls2 /c
getacl /c
addauth digest ann:secret
sync /c
delete /c
delete /none
quit
"""


@pytest.fixture
def here() -> Iterator[BlockingEnsemble]:
    with start_ensemble(tick_time=TICK_TIME) as ensemble:
        yield ensemble


def masked(text: str, hosts: str) -> list[str]:
    """The lines without what is another in every run."""
    text = text.replace(hosts, "HOSTS").replace(hosts.replace("127.0.0.1", "localhost/127.0.0.1"), "HOSTS")
    text = re.sub(r"(ctime|mtime|Time) ?= ?.*", r"\1", text)
    text = re.sub(r"0x[0-9a-f]{12,}", "SESSION", text)
    text = re.sub(r"time = -?\d+ msec", "time", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+:\d+\(SESSION\):ZOO_.*", "LOG", text)
    return [line.rstrip() for line in text.splitlines() if line.strip() and "ZOO_" not in line]


_CLOSED = "WatchedEvent state:Closed type:None path:null"


def java(hosts: str, folder: Path) -> list[str]:
    """What zkCli prints on the commands."""
    output, errors = talk_to_zkcli(hosts, JAVA_COMMANDS, "type:NodeDataChanged path:/last", folder)
    # zkCli tells of its own end when it is still there to do so, in part or whole.
    said = [line for line in masked(output, hosts) if line not in ("WATCHER::", _CLOSED)]
    # What goes wrong is printed on the other stream, so that the two cannot be put in one order.
    return [*said, "---", *masked(errors, hosts)]


def find_cli() -> str:
    found = shutil.which("cli_mt") or shutil.which("cli_mt", path="/usr/lib/zookeeper/bin")
    if found is None:
        pytest.skip("the C client's cli_mt is not installed (Debian: zookeeper-bin)")
    return found


def c(hosts: str, folder: Path) -> list[str]:
    """What cli_mt prints. It sends the next command before the last is answered, so each is followed by a question.

    Answers come in order: once the question's error is printed, so is everything that the command had to say.
    """
    command = [find_cli(), hosts]
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
    ) as cli:
        assert cli.stdin is not None
        assert cli.stdout is not None
        watchdog = threading.Timer(DEADLINE, cli.kill)
        watchdog.start()
        for number, words in enumerate(C_COMMANDS.split("\n")[1:-2]):
            cli.stdin.write(f"{words}\nexists /question-{number}\n")
            cli.stdin.flush()
            said: list[str] = []
            answer = f"Error -101 for /question-{number}"
            while not said or answer not in said[-1]:
                line = cli.stdout.readline()
                assert line, f"cli_mt ended or hung at {words!r}: {said}"
                said.append(line)
            # The other stream's text may stand before it in the same line.
            said[-1] = said[-1].replace(answer, "")
            lines += [words, *masked("".join(said), hosts)]
        cli.stdin.write("quit\n")
        cli.stdin.close()
        late = [line for line in masked(cli.stdout.read(), hosts) if line != "Quitting..."]
        watchdog.cancel()
    return lines + late


def unordered(lines: list[str]) -> list[str]:
    """The lines and the lists in brackets sorted.

    Identities, names, events of one deletion each have no order, and cli_mt writes to two streams; what belongs
    together is told by paths and zxids.
    """
    inner = (line[1:-1].split(", ") if line.startswith("[") and line.endswith("]") else [line] for line in lines)
    return sorted(", ".join(sorted(parts)) for parts in inner)


@pytest.mark.slow
@pytest.mark.parametrize("run", [java, c])
def test_a_command_line_client_prints_the_same(
    own_zookeeper: OwnZooKeeper, here: BlockingEnsemble, tmp_path: Path, run: Callable[[str, Path], list[str]]
) -> None:
    real = own_zookeeper(zoo_cfg={"extendedTypesEnabled": "true"})
    there_lines, here_lines = unordered(run(real.hosts, tmp_path)), unordered(run(here.hosts, tmp_path))
    assert len(there_lines) > 30
    assert here_lines == there_lines


@pytest.fixture
def tour(zookeeper_installed: None) -> str:
    """The class path with `java/tour`. Skips where there is no compiler; fails there in CI."""
    try:
        return compiled("tour/*.java", find_classpath())
    except PeerMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.mark.slow
def test_every_call_of_javas_client_has_the_same_outcome(own_zookeeper: OwnZooKeeper, tour: str) -> None:
    """Stats with their zxids, errors, events, and what comes back after a lost connection or a lost session."""
    sweep = {"znode.container.checkIntervalMs": str(SWEEP_MS)}
    real = own_zookeeper(zoo_cfg={"extendedTypesEnabled": "true"}, jvm_properties=sweep)

    def printed(hosts: str) -> list[str]:
        command = [find_java(), *QUICK_JVM_FLAGS, "-Dfile.encoding=UTF-8", "-cp", tour]
        done = subprocess.run(
            [*command, "tour.Tour", hosts], capture_output=True, encoding="utf-8", timeout=DEADLINE, check=False
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
        return done.stdout.splitlines()

    there_lines = printed(real.hosts)
    with start_ensemble(tick_time=TICK_TIME, settings=sweep) as ensemble:
        here_lines = printed(ensemble.hosts)
    assert len(there_lines) > 200
    assert here_lines == there_lines
