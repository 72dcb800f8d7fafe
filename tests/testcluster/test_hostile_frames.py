"""Hostile frames in process: golden and valid ones, damaged. `make soak` sends a million; here hypothesis chooses.

What the target asserts after each volley: the well-behaved client is served, the log leads to the same tree, its digest
is what its znodes say, and nothing is left of those who have gone.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings, strategies as st

from terzetto.client.wire import operations as o

from .hostile import WORDS, HostileFrames, chunks, golden_frames, golden_greetings
from .hostile_target import DEPTHS, Depths, Target, Volleys, depth_of
from .port import connect_frame


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_any_volley_leaves_the_server_serving(chance: random.Random, count: int) -> None:
    target = Target()
    volleys = Volleys(target, HostileFrames(chance, big=0.02))
    for _ in range(count):
        volleys.fire()
    target.serve()
    target.check()
    target.finish()


@pytest.mark.slow
def test_a_run_of_frames_gets_through_to_the_processor(seed: int) -> None:
    target = Target()
    volleys = Volleys(target, HostileFrames(random.Random(seed)))
    for number in range(4000):
        volleys.fire()
        if number % 50 == 0:
            target.serve()
    target.finish()
    depths = volleys.depths
    # Noise that died at the first byte would prove nothing.
    assert depths.total >= 4000
    assert depths.share("processor") > 0.4
    assert depths.share("record") > 0.15
    assert depths.by_depth["header"] > 20
    assert depths.by_depth["framing"] > 20
    assert depths.by_code[0] > 400
    assert len(depths.by_code) > 6


def test_the_same_seed_makes_the_same_frames() -> None:
    def made() -> list[bytes]:
        hostile = HostileFrames(random.Random(7))
        return [make() for _ in range(300) for make in (hostile.request, hostile.greeting, hostile.noise)]

    assert made() == made()


def test_frames_of_real_clients_are_there() -> None:
    assert len(golden_frames()) > 100
    assert len(golden_greetings()) > 10


def test_portions_are_the_same_bytes(seed: int) -> None:
    chance = random.Random(seed)
    for size in (0, 1, 2, 50, 500):
        data = chance.randbytes(size)
        assert all(b"".join(chunks(data, chance)) == data for _ in range(50))


@pytest.mark.parametrize(
    ("frame", "depth"),
    [
        (o.PING.frame(-2), "processor"),
        (o.EXISTS.frame(1, "/nothing", False), "processor"),
        (o.EXISTS.frame(1, "/nothing", False)[:-1] + b"", "framing"),
        (b"\0\0\0\x0c" + b"\0\0\0\1" + b"\0\0\0\3" + b"\x7f\xff\xff\xff", "record"),
        (b"\0\0\0\x08" + b"\0\0\0\1" + b"\0\0\0\x4d", "header"),
        (b"\0\0\0\x07" + b"\0" * 12, "framing"),
        (b"\xff\xff\xff\xff" + b"\0" * 12, "framing"),
    ],
)
def test_how_deep_a_frame_gets(frame: bytes, depth: str) -> None:
    target, depths = Target(), Depths()
    shot = target.shoot()
    shot.send(connect_frame())
    depths.add(shot.send(frame))
    assert [each for each in DEPTHS if depths.by_depth[each]] == [depth]
    assert depth_of(-1, -6) == "header"
    assert depth_of(5, -6) == "processor"
    assert depths.lines()[-2].startswith("  accepted:")


@pytest.mark.parametrize("word", WORDS)
def test_a_four_letter_word_after_the_handshake_is_a_length(word: bytes) -> None:
    target = Target()
    shot = target.shoot()
    shot.send(connect_frame())
    assert shot.send(word) == []
    assert shot.closed
    target.finish()
