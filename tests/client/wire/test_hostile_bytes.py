"""Bytes of a peer that means harm: whatever they are, a decoder gives a record or a `WireError`, at a bounded cost.

Cost is counted, not timed: bytes allocated, and calls made by the decoder.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import WireError
from terzetto.client.values import ACL, ClientInfo, ZnodeStat
from terzetto.client.wire import FrameBuffer, codec
from terzetto.client.wire.multi import READ_REQUESTS, WRITE_REQUESTS, decode_requests, decode_results
from terzetto.client.wire.operations import RECORDS

from ...vectors import Frame, frames
from .golden import reading_of
from .strategies import PATIENT

Decoder = Callable[[bytes, int, int], Any]

DECODERS: dict[str, Decoder] = {
    **{name: row.decode for name, row in RECORDS.items()},
    **{cls.__name__: codec(cls).decode for cls in (ACL, ClientInfo, ZnodeStat)},
    "multi request": lambda data, start, end: decode_requests(data, start, end, WRITE_REQUESTS),
    "multiRead request": lambda data, start, end: decode_requests(data, start, end, READ_REQUESTS),
    "multi results": decode_results,
}
LENGTHS = [2**31 - 1, 2**30, 2**24, 65536, 257, 17, 2, 1, 0, -1, -2, -3, -(2**31)]
HOSTILE_WORDS = st.sampled_from(LENGTHS).map(lambda number: number.to_bytes(4, "big", signed=True))
HOSTILE_BYTES = st.lists(st.binary(max_size=8) | HOSTILE_WORDS | st.just(b"\0\0\0\1/"), max_size=24).map(b"".join)


def _outcome(decode: Decoder, data: bytes, start: int, end: int) -> None:
    with suppress(WireError):
        decode(data, start, end)


@pytest.mark.parametrize("name", DECODERS)
@PATIENT
@given(data=HOSTILE_BYTES)
def test_any_bytes_are_a_record_or_a_wire_error(name: str, data: bytes) -> None:
    _outcome(DECODERS[name], data, 0, len(data))
    # The same as the second frame of three.
    _outcome(DECODERS[name], b"first" + data + b"third", 5, 5 + len(data))


class Cost:
    """What decoding took.

    Attributes:
        peak: bytes allocated at the worst moment.
        calls: calls of functions, C's and ours.
    """

    peak = 0
    calls = 0


@contextmanager
def _counted() -> Iterator[Cost]:
    cost = Cost()

    def count(frame: FrameType, event: str, argument: object) -> None:
        cost.calls += event in ("call", "c_call")

    profiler = sys.getprofile()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    sys.setprofile(count)
    try:
        yield cost
    finally:
        sys.setprofile(profiler)
        cost.peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()


def _assert_bounded(cost: Cost, size: int) -> None:
    # A byte can become an empty string's place in a list, or the smallest result of a multi a record of three fields.
    assert cost.peak <= 20_000 + 40 * size
    assert cost.calls <= 60 + 4 * size


@pytest.mark.parametrize("name", DECODERS)
def test_huge_counts_and_lengths_cost_nothing(name: str) -> None:
    for length in LENGTHS:
        for data in (length.to_bytes(4, "big", signed=True) * 6, bytes(4) + length.to_bytes(4, "big", signed=True) * 5):
            with _counted() as cost:
                _outcome(DECODERS[name], data, 0, len(data))
            _assert_bounded(cost, len(data))


def _one_frame_of_each_record() -> list[Frame]:
    found: dict[tuple[str, str | None], Frame] = {}
    for frame in frames():
        reading = reading_of(frame)
        if reading is not None and reading.value is not None:
            found.setdefault((frame.operation, frame.record), frame)
    return list(found.values())


@pytest.mark.parametrize("frame", _one_frame_of_each_record(), ids=lambda frame: f"{frame.operation}-{frame.record}")
def test_any_word_of_a_real_frame_replaced_costs_nothing(frame: Frame) -> None:
    reading = reading_of(frame)
    assert reading is not None
    body = frame.body[: reading.end]
    for position in range(reading.start, reading.end - 3):
        for length in LENGTHS[:3] + LENGTHS[-3:]:
            data = body[:position] + length.to_bytes(4, "big", signed=True) + body[position + 4 :]
            with _counted() as cost:
                _outcome(reading.decode, data, reading.start, len(data))
            _assert_bounded(cost, len(data))


@pytest.mark.parametrize("size", [1 << 12, 1 << 16])
@pytest.mark.parametrize("name", ["GetChildrenResponse", "GetACLResponse", "SetWatches2", "multi results"])
def test_the_cost_grows_no_faster_than_the_frame(name: str, size: int) -> None:
    count = (size // 4 - 1).to_bytes(4, "big")
    for data in (count + bytes(size - 4), bytes(8) + count + bytes(size - 12), bytes(size), b"\0\0\0\2" * (size // 4)):
        with _counted() as cost:
            _outcome(DECODERS[name], data, 0, size)
        _assert_bounded(cost, size)


def test_a_length_over_the_limit_costs_nothing() -> None:
    buffer = FrameBuffer(1 << 30)
    with _counted() as cost:
        assert list(buffer.frames((1 << 30).to_bytes(4, "big") + b"x")) == []
    assert len(buffer) == 5
    _assert_bounded(cost, 5)
