"""Frames from any chunks: the same frames and the same error however a stream is cut, and work in proportion to it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import FrameTooLargeError, WireError
from terzetto.client.wire import FrameBuffer
from terzetto.client.wire.primitives import LENGTH

from .strategies import PATIENT

LIMIT = 40
BODIES = st.lists(st.binary(max_size=LIMIT), max_size=8)


def _framed(bodies: Iterable[bytes]) -> bytes:
    return b"".join(LENGTH.pack(len(body)) + body for body in bodies)


@st.composite
def _chunked(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def _read(buffer: FrameBuffer, chunks: Iterable[bytes]) -> tuple[list[bytes], WireError | None]:
    """The bodies found, and the error that ended it."""
    found: list[bytes] = []
    try:
        for chunk in chunks:
            for whole, start, end in buffer.frames(chunk):
                found.append(whole[start:end])
    except WireError as error:
        return found, error
    return found, None


def _by_the_book(stream: bytes, limit: int) -> tuple[list[bytes], str | None]:
    """The plainest reading of a whole stream."""
    found: list[bytes] = []
    while len(stream) >= 4:
        length = int.from_bytes(stream[:4], "big", signed=True)
        if length < 0:
            return found, f"a frame of negative length {length} was announced"
        if length > limit:
            return found, f"a frame of {length} bytes was announced, the limit is {limit} bytes"
        if len(stream) < 4 + length:
            break
        found.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return found, None


@PATIENT
@given(bodies=BODIES, data=st.data())
def test_frames_come_out_of_any_chunks(bodies: list[bytes], data: st.DataObject) -> None:
    chunks = data.draw(_chunked(_framed(bodies)))
    assert _read(FrameBuffer(LIMIT), chunks) == (bodies, None)


@PATIENT
@given(
    pieces=st.lists(st.binary(max_size=9) | st.sampled_from([0, 1, LIMIT, LIMIT + 1, -1, 2**31 - 1, -(2**31)])),
    data=st.data(),
)
def test_any_bytes_give_the_same_frames_and_error_in_any_chunks(pieces: list[bytes | int], data: st.DataObject) -> None:
    stream = b"".join(LENGTH.pack(piece) if isinstance(piece, int) else piece for piece in pieces)
    expected = _by_the_book(stream, LIMIT)
    for chunks in ([stream], [bytes([byte]) for byte in stream], data.draw(_chunked(stream))):
        found, error = _read(FrameBuffer(LIMIT), chunks)
        assert (found, None if error is None else str(error)) == expected


@pytest.mark.parametrize("size", [0, 1, 3, 4, LIMIT])
def test_a_frame_up_to_the_limit_passes(size: int) -> None:
    assert _read(FrameBuffer(LIMIT), [_framed([bytes(size)])]) == ([bytes(size)], None)


@pytest.mark.parametrize("length", [LIMIT + 1, 2**31 - 1, -1, -2, -(2**31)])
def test_a_bad_length_is_refused_with_its_fourth_byte(length: int) -> None:
    prefix = LENGTH.pack(length)
    expected = FrameTooLargeError if length > 0 else WireError
    for cut in range(4):
        buffer = FrameBuffer(LIMIT)
        assert list(buffer.frames(prefix[:cut])) == []
        with pytest.raises(expected, match=str(length)):
            list(buffer.frames(prefix[cut:]))


def test_a_frame_too_large_says_both_sizes() -> None:
    with pytest.raises(FrameTooLargeError) as caught:
        FrameBuffer(LIMIT).keep(LENGTH.pack(LIMIT + 1), 0)
    assert (caught.value.length, caught.value.limit) == (LIMIT + 1, LIMIT)


def test_an_error_stays() -> None:
    stream = _framed([b"good"]) + b"\xff\xff\xff\xff\0"
    for cut in range(len(stream) + 1):
        buffer = FrameBuffer(LIMIT)
        found, error = _read(buffer, [stream[:cut], stream[cut:]])
        assert found == [b"good"]
        for _ in range(2):
            # What follows is innocent, but where its frames begin is no longer known.
            nothing, again = _read(buffer, [_framed([b"innocent"])])
            assert nothing == []
            assert repr(again) == repr(error) != repr(None)


def test_frames_before_a_bad_length_come_first() -> None:
    frames = FrameBuffer(LIMIT).frames(_framed([b"one", b""]) + b"\xff\xff\xff\xff")
    whole, start, end = next(frames)
    assert whole[start:end] == b"one"
    assert next(frames)[1:] == (11, 11)
    with pytest.raises(WireError):
        next(frames)


def test_it_holds_no_more_than_one_incomplete_frame() -> None:
    buffer = FrameBuffer(LIMIT)
    stream = _framed([b"x" * LIMIT] * 3)
    for end in range(1, len(stream) + 1):
        list(buffer.frames(stream[end - 1 : end]))
        assert len(buffer) == end % (4 + LIMIT)


def test_feed_gives_bytes_from_a_frames_boundary_on() -> None:
    """As the session reads: it walks what `feed` gives and hands back what it did not use."""
    buffer = FrameBuffer(LIMIT)
    assert buffer.feed(b"") == b""
    assert buffer.feed(b"\0\0\0\5ab") == b"\0\0\0\5ab"
    buffer.keep(b"\0\0\0\5ab", 0)
    assert buffer.feed(b"cd") == b""
    assert buffer.feed(b"") == b""
    assert buffer.feed(b"e\0\0") == b"\0\0\0\5abcde\0\0"
    buffer.keep(b"\0\0\0\5abcde\0\0", 9)
    assert len(buffer) == 2
    assert buffer.feed(b"\0") == b""
    assert buffer.feed(b"\1") == b""
    assert buffer.feed(b"f") == b"\0\0\0\1f"
    buffer.keep(b"\0\0\0\1f", 5)
    assert len(buffer) == 0
    chunk = _framed([b"whole"])
    assert buffer.feed(chunk) is chunk


def test_an_empty_frame_may_be_kept() -> None:
    # A reader that wants a whole reply header looks at no shorter frame; it is asked again when more bytes are there.
    buffer = FrameBuffer(LIMIT)
    buffer.keep(b"\0\0\0\0", 0)
    assert buffer.feed(b"\0") == b"\0\0\0\0\0"


def test_the_length_of_a_frame_in_the_middle_of_a_chunk() -> None:
    assert FrameBuffer(LIMIT).checked_length(b"xx\0\0\0\7yy", 2) == 7
    with pytest.raises(FrameTooLargeError):
        FrameBuffer(6).checked_length(bytearray(b"\0\0\0\7"), 0)


@pytest.mark.parametrize("chunk_size", [64, 1000])
def test_a_large_frame_in_small_chunks_costs_work_in_proportion(chunk_size: int) -> None:
    """Counts the bytes that are allocated on the way: copying all that is held for each chunk is quadratic."""
    size = 1 << 18
    stream = _framed([bytes(size)])
    chunks = [stream[i : i + chunk_size] for i in range(0, len(stream), chunk_size)]
    buffer = FrameBuffer(size)
    allocated, found = 0, 0
    tracemalloc.start()
    try:
        for chunk in chunks:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            found += len(list(buffer.frames(chunk)))
            allocated += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert found == 1
    # Growing in place, and the frame itself at the end; a few hundred bytes a call for its frame and its list.
    assert allocated < 4 * size + 1000 * len(chunks)
    assert sum(range(0, size, chunk_size)) > 2 * (4 * size + 1000 * len(chunks))
