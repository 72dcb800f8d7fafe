"""The simulated network does what TCP does: in order inside a connection, a suffix lost with it, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from .network import DIAL_TIMEOUT, Conditions, Network
from .world import SECOND, World


class Recorder:
    """A machine that writes down what its links bring."""

    def __init__(self) -> None:
        self.alive = True
        self.log: list[tuple[Any, ...]] = []

    def accepted(self, link: int, peer: int) -> None:
        self.log.append(("accepted", link, peer))

    def dialled(self, link: int, peer: int) -> None:
        self.log.append(("dialled", link, peer))

    def dial_failed(self, peer: int, reason: str) -> None:
        self.log.append(("failed", peer, reason))

    def arrived(self, link: int, message: Any) -> None:
        self.log.append(("arrived", message))

    def closed(self, link: int) -> None:
        self.log.append(("closed", link))

    def letter(self, sender: int, message: Any) -> None:
        self.log.append(("letter", message))

    @property
    def messages(self) -> list[Any]:
        return [entry[1] for entry in self.log if entry[0] in ("arrived", "letter")]


class Lab:
    """Two machines and their links."""

    def __init__(self, seed: int = 1, **conditions: Any) -> None:
        self.world = World(seed)
        self.network = Network(self.world, Conditions(**conditions))
        self.nodes = {1: Recorder(), 2: Recorder()}
        for number, node in self.nodes.items():
            self.network.add(number, node)

    def pass_time(self, length: int = SECOND) -> None:
        for _ in self.world.run(self.world.now + length):
            pass

    def connect(self) -> int:
        self.network.dial(1, 2)
        self.pass_time()
        assert self.nodes[1].log[-1][0] == "dialled"
        link: int = self.nodes[1].log[-1][1]
        return link


@given(st.integers(0, 1000), st.lists(st.integers(0, 3000), max_size=30))
def test_messages_of_a_link_keep_their_order(seed: int, pauses: list[int]) -> None:
    lab = Lab(seed, jitter=50_000, hiccup=0.2)
    link = lab.connect()
    for number, pause in enumerate(pauses):
        lab.network.send(link, 1, number)
        lab.pass_time(pause)
    lab.pass_time(10 * SECOND)
    assert lab.nodes[2].messages == list(range(len(pauses)))


@given(st.integers(0, 1000), st.integers(0, 60))
def test_a_cut_loses_a_suffix(seed: int, before_cut: int) -> None:
    lab = Lab(seed, latency=10, jitter=50)
    link = lab.connect()
    for number in range(20):
        lab.network.send(link, 1, number)
    lab.pass_time(before_cut)
    lab.network.cut(link, told=(True, True))
    lab.network.send(link, 1, "too late")
    lab.pass_time()
    arrived = lab.nodes[2].messages
    assert arrived == list(range(len(arrived)))
    assert lab.nodes[1].log[-1] == lab.nodes[2].log[-1] == ("closed", link)


def test_whoever_is_not_told_of_a_cut_hears_nothing() -> None:
    lab = Lab()
    link = lab.connect()
    lab.network.cut(link, told=(False, False))
    lab.network.send(link, 2, "x")
    lab.pass_time()
    assert not lab.nodes[1].messages
    assert ("closed", link) not in lab.nodes[1].log + lab.nodes[2].log


def test_what_was_sent_before_a_hang_up_arrives_before_the_end() -> None:
    lab = Lab(resets=0.0)
    link = lab.connect()
    lab.network.send(link, 1, "last words")
    lab.network.hang_up(link, 1)
    lab.network.send(link, 2, "to nobody")
    lab.pass_time()
    assert lab.nodes[2].log[-2:] == [("arrived", "last words"), ("closed", link)]
    assert not lab.nodes[1].messages


def test_a_partition_holds_and_then_lets_go_in_order() -> None:
    lab = Lab()
    link = lab.connect()
    lab.network.block(1, 2)
    for number in range(3):
        lab.network.send(link, 1, number)
        lab.network.send(link, 2, number)
    lab.pass_time()
    assert lab.nodes[2].messages == []
    assert lab.nodes[1].messages == [0, 1, 2]
    lab.network.send(link, 1, 3)
    lab.network.unblock(1, 2)
    lab.pass_time()
    assert lab.nodes[2].messages == [0, 1, 2, 3]


@pytest.mark.parametrize("direction", [(1, 2), (2, 1)])
def test_a_dial_into_a_partition_times_out(direction: tuple[int, int]) -> None:
    lab = Lab()
    lab.network.block(*direction)
    lab.network.dial(1, 2)
    lab.pass_time(DIAL_TIMEOUT // 2)
    assert not lab.nodes[1].log
    lab.pass_time()
    assert lab.nodes[1].log == [("failed", 2, "timed out")]


def test_a_dial_to_a_dead_process_is_refused() -> None:
    lab = Lab()
    lab.nodes[2].alive = False
    lab.network.stop(2, silent=False)
    lab.network.dial(1, 2)
    lab.pass_time()
    assert lab.nodes[1].log == [("failed", 2, "refused")]


def test_every_dial_is_answered_whatever_happens_to_the_other_end() -> None:
    for seed in range(20):
        lab = Lab(seed)
        lab.network.dial(1, 2)
        lab.pass_time(lab.network.conditions.latency + 200 + 40 * seed)
        lab.nodes[2].alive = False
        lab.network.stop(2, silent=True)
        lab.pass_time()
        assert lab.nodes[1].log[:1] in ([("dialled", 1, 2)], [("failed", 2, "refused")], [("failed", 2, "timed out")])


def test_a_process_that_dies_closes_its_links_and_a_machine_that_stops_does_not() -> None:
    for silent in (False, True):
        lab = Lab()
        link = lab.connect()
        lab.nodes[2].alive = False
        lab.network.stop(2, silent=silent)
        lab.pass_time()
        assert (("closed", link) in lab.nodes[1].log) is not silent
        lab.nodes[2].alive = True
        lab.network.started(2)
        lab.pass_time()
        assert lab.nodes[1].log[-1] == ("closed", link)


def test_of_election_messages_into_a_partition_only_the_last_arrives_afterwards() -> None:
    lab = Lab()
    lab.network.post(1, 2, "first")
    lab.pass_time()
    lab.network.block(2, 1)
    for vote in ("second", "third"):
        lab.network.post(1, 2, vote)
    lab.pass_time()
    assert lab.nodes[2].messages == ["first"]
    lab.network.unblock(2, 1)
    lab.pass_time()
    assert lab.nodes[2].messages == ["first", "third"]


def test_a_slow_link_is_slow_until_it_is_normal_again() -> None:
    lab = Lab(latency=1000, jitter=0, hiccup=0.0)
    link = lab.connect()
    lab.network.slow(1, 2, 50)
    lab.network.send(link, 1, "slow")
    lab.pass_time(40_000)
    assert not lab.nodes[2].messages
    lab.pass_time(20_000)
    lab.network.slow(1, 2, 1)
    lab.network.send(link, 1, "fast")
    lab.pass_time(2000)
    assert lab.nodes[2].messages == ["slow", "fast"]
