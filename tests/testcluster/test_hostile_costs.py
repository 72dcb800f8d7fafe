"""Requests of a few bytes that cost a server much: the others are served in between, and memory stays bounded."""

from __future__ import annotations

import random
import time

import pytest
import trio.testing

from terzetto.client.values import ACL, OPEN_ACL_UNSAFE, Id
from terzetto.client.wire import Opcode, operations as o, records as r
from terzetto.testcluster.connection import OUTPUT_HARD_MAX
from terzetto.testcluster.reads import WORK_MAX
from terzetto.testcluster.watches import WATCHES_SIZE_MAX

from .hostile_target import Target
from .port import Port, connect_frame, multi_frame
from .shell import serving

ZNODES = WORK_MAX // 4


def grown(port: Port, count: int) -> None:
    """Puts so many znodes below /a, without a request for each."""
    keeper = port.connect()
    keeper.create("/a")
    ops = [(Opcode.CREATE, r.CreateRequest(f"/a/{number}", b"", list(OPEN_ACL_UNSAFE), 0)) for number in range(count)]
    for first in range(0, count, 5000):
        keeper.multi(*ops[first : first + 5000])


def test_counts_of_a_large_tree_are_answered_a_few_at_a_time() -> None:
    port = Port()
    grown(port, ZNODES)
    peer = port.connect()
    asked = 200
    data = b"".join(o.GET_ALL_CHILDREN_NUMBER.frame(number, "/a") for number in range(asked))
    sent = peer.connection.traffic.sent
    port.machine.receive(peer.connection, data, port.now_ms)
    answered = [peer.connection.traffic.sent - sent]
    assert 0 < answered[0] <= WORK_MAX // ZNODES + 1
    while peer.connection.stalled:
        port.machine.receive(peer.connection, b"", port.now_ms)
        answered.append(peer.connection.traffic.sent - sent)
    assert answered[-1] == asked
    assert len(answered) >= asked // (WORK_MAX // ZNODES + 1)
    port.pump()
    assert [reply.xid for reply in peer.replies()] == list(range(asked))


def test_those_that_wait_behind_a_write_are_too() -> None:
    port = Port()
    grown(port, ZNODES)
    peer = port.connect()
    with port.hold():
        peer.send(peer.frame(o.CREATE, "/b", b"", OPEN_ACL_UNSAFE, 0))
        peer.send(b"".join(o.GET_ALL_CHILDREN_NUMBER.frame(100 + number, "/a") for number in range(40)))
        port.machine.commit(port.held or [], port.now_ms)
        assert peer.connection.stalled
        assert peer.connection.queued > 30
    while peer.connection.queued:
        port.machine.receive(peer.connection, b"", port.now_ms)
        port.pump()
    assert len(peer.replies()) == 41


def test_ephemerals_count_as_work() -> None:
    port = Port()
    peer = port.connect()
    ops = [(Opcode.CREATE, r.CreateRequest(f"/e{number}", b"", list(OPEN_ACL_UNSAFE), 1)) for number in range(ZNODES)]
    peer.multi(*ops)
    data = b"".join(o.GET_EPHEMERALS.frame(number, "/nothing") for number in range(50, 150))
    port.machine.receive(peer.connection, data, port.now_ms)
    assert peer.connection.stalled
    port.pump()
    assert len(peer.replies()) == 100


async def test_somebody_else_has_a_turn_in_between(autojump_clock: trio.testing.MockClock) -> None:
    asked = 2000
    async with serving() as shell:
        greedy, other = await shell.connect(), await shell.connect()
        await greedy.create("/a")
        for number in range(2000):
            await greedy.create(f"/a/{number}")
        await greedy.send(b"".join(o.GET_ALL_CHILDREN_NUMBER.frame(number, "/a") for number in range(asked)))
        await other.ping()
        connection = shell.server.processor.connection_of(greedy.session_id)
        assert connection is not None
        assert connection.traffic.sent < 2100 + asked
        for number in range(asked):
            assert (await greedy.reply()).xid == number


@pytest.mark.slow
def test_watches_have_a_bound() -> None:
    target = Target()
    shot = target.shoot()
    shot.send(connect_frame())
    path = "/" + "x" * 1_000_000
    fits = WATCHES_SIZE_MAX // len(path) + 1
    codes = [shot.send(o.ADD_WATCH.frame(1, f"{path}{number}", 1))[0][1] for number in range(fits + 2)]
    assert codes == [0] * fits + [-5] * 2
    assert [code for _, code in shot.send(o.EXISTS.frame(2, "/nothing", True))] == [-5]
    assert [code for _, code in shot.send(o.EXISTS.frame(3, "/nothing", False))] == [-101]
    assert [code for _, code in shot.send(o.SET_WATCHES.frame(4, 0, [], ["/nothing"], []))] == [-5]
    target.finish()


@pytest.mark.slow
def test_an_answer_has_a_bound() -> None:
    target = Target()
    shot = target.shoot()
    shot.send(connect_frame())
    shot.send(o.CREATE.frame(1, "/big", bytes(1_000_000), OPEN_ACL_UNSAFE, 0))
    read = (Opcode.GET_DATA, r.GetDataRequest("/big", False))
    fits, too_many = OUTPUT_HARD_MAX // 1_000_100 - 1, OUTPUT_HARD_MAX // 1_000_000 + 1
    assert [code for _, code in shot.send(multi_frame(2, *[read] * fits, opcode=Opcode.MULTI_READ))] == [0]
    # Fifteen bytes for each megabyte of the answer: a whole frame would ask for 70 GB.
    assert [code for _, code in shot.send(multi_frame(3, *[read] * too_many, opcode=Opcode.MULTI_READ))] == [-5]
    assert [code for _, code in shot.send(multi_frame(4, *[read] * 55_000, opcode=Opcode.MULTI_READ))] == [-5]
    target.finish()


@pytest.mark.slow
def test_a_long_list_of_entries_costs_no_more_than_a_short_one(seed: int) -> None:
    chance = random.Random(seed)
    target = Target()
    shot = target.shoot()
    shot.send(connect_frame())
    entries = [
        ACL(31, Id("ip", f"10.{number % 250}.{number // 250}.{chance.randrange(250)}")) for number in range(30_000)
    ]
    shot.send(o.CREATE.frame(1, "/closed", b"", entries, 0))
    shot.send(o.GET_DATA.frame(2, "/closed", False))
    before = time.thread_time()
    answers = shot.send(b"".join(o.GET_DATA.frame(number, "/closed", False) for number in range(2000)))
    took = time.thread_time() - before
    assert [code for _, code in answers] == [-102] * 2000
    # Entry by entry it would be minutes.
    assert took < 2.0
