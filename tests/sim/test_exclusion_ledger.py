"""The ledger bites: each rule is broken by the smallest history that does."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from terzetto.testcluster.datatree import DataTree

from .exclusion_ledger import Body, Ledger, Violation
from .stack_processes import Process, Processes

# Each run has a virtual clock of its own.
pytestmark = pytest.mark.usefixtures("autojump_clock")

PATH = "/x"


class Play:
    """A ledger over one server's tree, and bodies of two processes.

    Attributes:
        gone: whether the znodes of all bodies are gone from the tree.
    """

    def __init__(self) -> None:
        self.tree = DataTree()
        self.tree.last_zxid = 1000
        self.ledger = Ledger(lambda: [("s1", self.tree)])
        self.processes = [Process(Processes.of_this_run(), f"c{number}") for number in range(3)]
        self._czxid = 0

    def enter(
        self,
        number: int,
        *,
        token: int | None = None,
        czxid: int | None = None,
        room: int = 1,
        shares: bool = False,
        weight: int = 1,
    ) -> Body:
        """A body whose znode is in the tree."""
        self._czxid += 1
        znode = f"{PATH}/z{self._czxid}"
        self.tree.nodes[znode] = self.tree.nodes["/"]
        own = self._czxid if czxid is None else czxid
        return self.ledger.enter(
            self.processes[number], PATH, znode, own, token, room=room, shares=shares, weight=weight
        )

    def end(self, body: Body) -> None:
        """The server has ended its ownership."""
        del self.tree.nodes[body.znode]
        self.tree.last_zxid += 1
        self.ledger.after_task_step(trio.lowlevel.current_task())

    @property
    def rule(self) -> str | None:
        """Which one was broken."""
        return None if self.ledger.violation is None else self.ledger.violation.rule


def two_at_once(play: Play) -> None:
    play.enter(0)
    play.enter(1)


def a_reader_beside_a_writer(play: Play) -> None:
    play.enter(0, shares=True, room=9)
    play.enter(1)


def one_lease_too_many(play: Play) -> None:
    for number in range(3):
        play.enter(number, shares=True, room=2)


def two_who_have_several_leases_each(play: Play) -> None:
    for number in range(2):
        play.enter(number, shares=True, room=3, weight=2)


def running_on(play: Play) -> None:
    play.end(play.enter(0))


def passing_a_checkpoint(play: Play) -> None:
    body = play.enter(0)
    body.process.stop()
    play.end(body)
    body.process.go_on()
    play.ledger.passed(body, body.process.wakes)


def a_late_guarded_write(play: Play) -> None:
    body = play.enter(0)
    body.process.stop()
    play.end(body)
    play.ledger.judge_guarded([(body.number, play.tree.last_zxid + 1)])


def a_token_that_does_not_grow(play: Play) -> None:
    play.ledger.leave(play.enter(0, token=7))
    play.enter(1, token=7)


def an_owner_refused(play: Play) -> None:
    play.ledger.stores[PATH].write(9)
    play.ledger.wrote(play.enter(0, token=8))


BROKEN: dict[Callable[[Play], None], str] = {
    two_at_once: "E1",
    a_reader_beside_a_writer: "E1",
    one_lease_too_many: "E1",
    two_who_have_several_leases_each: "E1",
    running_on: "E2",
    passing_a_checkpoint: "E3",
    a_late_guarded_write: "E4",
    a_token_that_does_not_grow: "E5",
    an_owner_refused: "E5",
}


def rule_of(history: Callable[[Play], None]) -> str | None:
    async def play() -> str | None:
        ledger = Play()
        history(ledger)
        return ledger.rule

    return trio.run(play, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("history", BROKEN, ids=lambda history: history.__name__)
def test_a_broken_rule_is_seen(history: Callable[[Play], None]) -> None:
    assert rule_of(history) == BROKEN[history]


def one_after_the_other(play: Play) -> None:
    first = play.enter(0, token=1)
    play.ledger.wrote(first)
    play.ledger.passed(first, 0)
    play.ledger.leave(first)
    play.end(first)
    play.enter(1, token=2)


def beside_one_that_is_stopped(play: Play) -> None:
    stopped = play.enter(0, token=1)
    stopped.process.stop()
    play.end(stopped)
    play.ledger.wrote(play.enter(1, token=2))
    stopped.process.go_on()
    # It was stopped in the middle of a wait, and has come out of that. The store knows better.
    play.ledger.wrote(stopped)
    play.ledger.passed(stopped, 0)
    assert play.ledger.stores[PATH].refused == 1


def readers_together(play: Play) -> None:
    play.enter(0, shares=True, room=9)
    play.enter(1, shares=True, room=9)


def a_server_that_is_behind(play: Play) -> None:
    body = play.enter(0, czxid=5000)
    del play.tree.nodes[body.znode]
    play.ledger.after_task_step(trio.lowlevel.current_task())


def a_guarded_write_in_time(play: Play) -> None:
    body = play.enter(0)
    play.ledger.leave(body)
    play.end(body)
    play.ledger.judge_guarded([(body.number, play.tree.last_zxid - 1)])


KEPT = (
    one_after_the_other,
    beside_one_that_is_stopped,
    readers_together,
    a_server_that_is_behind,
    a_guarded_write_in_time,
)


@pytest.mark.parametrize("history", KEPT, ids=lambda history: history.__name__)
def test_what_may_happen_breaks_none(history: Callable[[Play], None]) -> None:
    assert rule_of(history) is None


def test_a_violation_reaches_the_process_that_asked_for_the_run() -> None:
    broken = Violation("E1", "two at once (python -m tests.sim.exclusion 7)")
    arrived = pickle.loads(pickle.dumps(broken))
    assert (arrived.rule, arrived.what, str(arrived)) == (broken.rule, broken.what, str(broken))
    assert str(arrived) == "E1: two at once (python -m tests.sim.exclusion 7)"
