"""Hostile visitors at a gateway's door for a moment: others are served, nothing stays. `make soak` does it for long."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from terzetto.client import RunClock, ZooKeeper, open_zookeeper
from terzetto.testcluster.websocket_door import DoorLimits

from .hostile_web import HostileVisitor, Tally, judge, visit, websocket_frame
from .web import DOOR, World, world

VISITORS = 400
AT_ONCE = 20
PATIENCE = 30.0
"""Seconds, of virtual time; the door waits three for strangers."""

LIMITS = DoorLimits(handshake_timeout=3.0)
STATUSES = {0, 101, 200, 400, 404, 426, 431}
CODES = {1000, 1002, 1003, 1007, 1008, 1009}


@dataclass
class Fire:
    """A world under fire.

    Attributes:
        here: the world.
        witness: a client that behaves.
        tally: what became of the others.
    """

    here: World
    witness: ZooKeeper
    tally: Tally = field(default_factory=Tally)

    async def volley(self, seed: int, numbers: range) -> None:
        """Visitors at once; the witness is served meanwhile, and on the same session as ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit, self.here.dial, seed, numbers, PATIENCE, self.tally)
            session = self.witness.session_id
            for _ in range(3):
                with trio.fail_after(1):
                    stat = await self.witness.set("/witness", str(numbers.start).encode())
                    assert (await self.witness.get("/witness"))[1].version == stat.version
                await trio.sleep(0.1)
            assert self.witness.session_id == session


@asynccontextmanager
async def under_fire() -> AsyncIterator[Fire]:
    """A gateway, its server and a client that behaves. At the end, nothing is left of the others."""
    async with world(limits=LIMITS) as here:
        door = here.gateway.door
        async with open_zookeeper(f"ws://{DOOR}/", transport=here.clients, clock=RunClock()) as witness:
            await witness.create("/witness")
            await trio.testing.wait_all_tasks_blocked()
            tasks = trio.lowlevel.current_statistics().tasks_living
            yield Fire(here, witness)
            # Sessions of those who left without a word end by themselves, and so do the doors' patience and lingering.
            await trio.sleep(2 * PATIENCE)
            await trio.testing.wait_all_tasks_blocked()
            assert door.open == 1
            assert len(here.servers[0].tree.sessions) == 1
            assert len(here.servers[0].links) == 1
            # A question to the server how it is may be under way.
            assert trio.lowlevel.current_statistics().tasks_living <= tasks + 3
        await trio.testing.wait_all_tasks_blocked()
        assert door.open == 0


async def test_hostile_visitors_leave_nothing_and_others_are_served(
    autojump_clock: MockClock, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with under_fire() as fire:
        for start in range(0, VISITORS, AT_ONCE):
            await fire.volley(seed, range(start, start + AT_ONCE))
    assert fire.tally.inputs > 10 * VISITORS
    assert fire.tally.statuses.keys() >= {101, 400}
    assert len(fire.tally.closed.keys() & CODES) >= 4
    assert fire.tally.replies > VISITORS
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_the_same_seed_makes_the_same_visitors(autojump_clock: MockClock) -> None:
    async with world(limits=LIMITS) as here:
        kinds = [HostileVisitor(here.dial, random.Random(f"1/{number}"), 1.0).kind for number in range(50)]
        tallies = [Tally(), Tally()]
        for tally in tallies:
            await visit(here.dial, 1, range(50), 5.0, tally)
    assert tallies[0].inputs == tallies[1].inputs
    assert sorted(kinds) == sorted(tallies[0].kinds.elements()) == sorted(tallies[1].kinds.elements())


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0\r\n",
        b"HTTP/1.1 500 Oh\r\n\r\n",
        b"HTTP/1.1 101 On\r\n\r\n\x88\x02\x03\xe8\x82\x00",
        b"HTTP/1.1 101 On\r\n\r\n\xc2\x00",
        b"HTTP/1.1 101 On\r\n\r\n\x81\x01x",
        b"HTTP/1.1 101 On\r\n\r\n\x80\x01x",
        b"HTTP/1.1 101 On\r\n\r\n\x82\x04\0\0\0\0\x82\x05\0\0\0\x02a",
    ],
)
def test_what_a_door_may_not_say_is_noticed(said: bytes) -> None:
    with pytest.raises(AssertionError):
        judge(said)


def test_what_a_door_may_say() -> None:
    head = b"HTTP/1.1 101 On\r\n\r\n"
    assert judge(b"") == (0, None, 0, 0)
    assert judge(b"HTTP/1.1 404 No\r\n\r\nbody") == (404, None, 0, 0)
    assert judge(head + b"\x82\x06\0\0\0\x02ab\x8a\x01p\x88\x02\x03\xe8") == (101, 1000, 1, 1)
    assert judge(head + b"\x02\x05\0\0\0\x02a\x80\x01b\x88\x00") == (101, 1005, 1, 0)
    assert judge(head + b"\x82\x04imok")[2] == 0


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frames_of_visitors_are_masked_and_have_their_length(size: int) -> None:
    plain, masked = websocket_frame(2, bytes(size)), websocket_frame(2, bytes(size), mask=b"\1\2\3\4")
    assert len(plain) == len(masked)
    assert plain[:2] == masked[:2]
    assert masked.endswith((b"\1\2\3\4" * (size // 4 + 2))[: 4 + size])
