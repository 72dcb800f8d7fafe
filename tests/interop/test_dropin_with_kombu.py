"""kombu, unchanged, on the drop-in: its ZooKeeper transport publishes and consumes, on both kinds of server, in
processes of which one may be on kazoo.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from .programs import DROPIN, KAZOO, finish_program, require_programs, start_program

QUEUES = 3
MESSAGES = 12

PROGRAM = """
import json
import socket
import sys

import kazoo.client
from kombu import Connection, Exchange, Queue

hosts, role, name, number, wanted = sys.argv[1:]
first, *others = hosts.split(",")
exchange = Exchange("orders", type="direct")
queues = [Queue(f"q{index}", exchange, routing_key=f"k{index}") for index in range(int(number))]
taken = []


def take(body, message):
    taken.append({**body, "queue": message.delivery_info["routing_key"], "tag": message.headers["publisher"]})
    message.ack()


host, port = first.split(":")
with Connection(host, port=int(port), virtual_host=name, transport="zookeeper", alternates=others) as connection:
    if role == "publish":
        producer = connection.Producer(exchange=exchange)
        for count in range(int(wanted)):
            for queue in queues:
                producer.publish(
                    {"count": count, "priority": count % 4},
                    routing_key=queue.routing_key,
                    priority=count % 4,
                    declare=[exchange, *queues],
                    headers={"publisher": name},
                )
        print(json.dumps([queue(connection.default_channel).queue_declare().message_count for queue in queues]))
    elif role == "purge":
        print(json.dumps([queue(connection.default_channel).purge() for queue in queues]))
    else:
        with connection.Consumer(queues, callbacks=[take], prefetch_count=1):
            try:
                while len(taken) < int(wanted):
                    connection.drain_events(timeout=10)
            except socket.timeout:
                pass
        print(json.dumps(taken))
print(kazoo.client.KazooClient.__module__, file=sys.stderr)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    require_programs("kombu")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM, encoding="utf-8")
    return file


@pytest.fixture
def vhost() -> str:
    return uuid.uuid4().hex


def start(prefix: Sequence[str], program: Path, hosts: str, *arguments: str | int) -> subprocess.Popen[str]:
    # One server for all: only there what one process has written is there for the next one at once.
    server = hosts.partition(",")[0]
    return start_program(prefix, str(program), server, *map(str, arguments), folder=program.parent)


def finish(process: subprocess.Popen[str], prefix: Sequence[str]) -> Any:
    output, errors = finish_program(process)
    assert errors.strip() == ("kazoo.client" if prefix is KAZOO else "terzetto.client.kazoo.client")
    return json.loads(output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("publisher", "consumer"),
    [
        pytest.param(DROPIN, DROPIN, id="dropin to dropin"),
        pytest.param(KAZOO, DROPIN, id="kazoo to dropin", marks=pytest.mark.soak),
        pytest.param(DROPIN, KAZOO, id="dropin to kazoo", marks=pytest.mark.soak),
    ],
)
def test_what_one_process_publishes_another_consumes(
    hosts_of_either_kind: str, program: Path, vhost: str, publisher: Sequence[str], consumer: Sequence[str]
) -> None:
    publishing = start(publisher, program, hosts_of_either_kind, "publish", vhost, QUEUES, MESSAGES)
    assert finish(publishing, publisher) == [MESSAGES] * QUEUES
    consuming = start(consumer, program, hosts_of_either_kind, "consume", vhost, QUEUES, QUEUES * MESSAGES)
    taken: list[dict[str, Any]] = finish(consuming, consumer)
    for queue in range(QUEUES):
        counts = [message["count"] for message in taken if message["queue"] == f"k{queue}"]
        # The greater priority first, and what is older first among equals.
        assert counts == sorted(range(MESSAGES), key=lambda count: (-(count % 4), count))


@pytest.mark.soak
def test_consumers_share_a_queue_while_it_is_filled(hosts_of_either_kind: str, program: Path, vhost: str) -> None:
    first = start(DROPIN, program, hosts_of_either_kind, "publish", vhost, 1, 1)
    assert finish(first, DROPIN) == [1]
    prefixes = [DROPIN, KAZOO]
    consuming = [start(prefix, program, hosts_of_either_kind, "consume", vhost, 1, 10) for prefix in prefixes]
    publishing = start(DROPIN, program, hosts_of_either_kind, "publish", vhost, 1, 19)
    finish(publishing, DROPIN)
    taken = [finish(process, prefix) for process, prefix in zip(consuming, prefixes, strict=True)]
    assert [len(of_one) for of_one in taken] == [10, 10]
    assert sorted(message["count"] for of_one in taken for message in of_one) == sorted([0, *range(19)])


@pytest.mark.soak
def test_a_purge_says_how_many_there_were(hosts_of_either_kind: str, program: Path, vhost: str) -> None:
    assert finish(start(DROPIN, program, hosts_of_either_kind, "publish", vhost, 2, 3), DROPIN) == [3, 3]
    assert finish(start(DROPIN, program, hosts_of_either_kind, "purge", vhost, 2, 0), DROPIN) == [3, 3]
    assert finish(start(KAZOO, program, hosts_of_either_kind, "purge", vhost, 2, 0), KAZOO) == [0, 0]
