"""The codec against what real servers and clients sent: every golden frame whole, byte by byte, with bytes after it,
and cut at every point.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest

from terzetto.client.errors import WireError
from terzetto.client.wire import OPERATIONS, FrameBuffer, Opcode, operations
from terzetto.client.wire.operations import PING_XID
from terzetto.client.wire.primitives import LENGTH

from ...vectors import Frame, conversations, frames, jute
from .golden import header_of, operation_of, reading_of

FRAMES = frames()
FILES = {file: list(group) for file, group in groupby(FRAMES, lambda frame: frame.name.rsplit("-", 2)[0])}
JUNK = b"\x00\x00\x00\x05junk!\xff\xff\xff\xff"


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
def test_a_frame_reads_as_its_explanation_says_and_is_written_alike(frame: Frame) -> None:
    header, reading = header_of(frame), reading_of(frame)
    if header is not None:
        codec, fields = header
        assert codec.decode(frame.body, 0, len(frame.body)) == (fields, len(codec.encode(fields)))
        assert frame.body.startswith(codec.encode(fields))
    if reading is None:
        assert len(frame.body) == len(frame.trailing) + (0 if header is None else len(header[0].encode(header[1])))
    elif reading.value is None:
        with pytest.raises(WireError):
            reading.decode(frame.body, reading.start, len(frame.body))
    else:
        assert reading.decode(frame.body, reading.start, reading.end) == reading.value
        if frame.canonical:
            assert reading.encode(reading.value) == frame.body[reading.start : reading.end]


@pytest.mark.parametrize("file", FILES)
def test_requests_are_framed_alike(file: str) -> None:
    for frame in FILES[file]:
        operation, reading = operation_of(frame), reading_of(frame)
        if frame.sender == "server" or frame.header is None or operation is None or not frame.canonical:
            continue
        xid = frame.header["xid"]
        if reading is None:
            fields: tuple[object, ...] = ()
        elif reading.value is None:
            continue
        else:
            fields = (reading.value,) if frame.record == "Multi" else tuple(reading.value)
        body = frame.body.removesuffix(frame.trailing)
        assert operation.frame(xid, *fields) == LENGTH.pack(len(body)) + body, frame.name


@pytest.mark.parametrize("file", FILES)
def test_replies_are_read_by_their_operation(file: str) -> None:
    for frame in FILES[file]:
        operation, reading = operation_of(frame), reading_of(frame)
        if frame.sender == "client" or frame.header is None or operation is None or frame.header["err"]:
            continue
        assert (operation.decode is None) == (reading is None), frame.name
        if operation.decode is not None:
            assert reading is not None
            value = operation.decode(frame.body, reading.start, len(frame.body))
            assert value == (reading.value, reading.end), frame.name


@pytest.mark.parametrize("sender", ["client", "server"])
def test_a_stream_fed_byte_by_byte_falls_into_its_frames(sender: str) -> None:
    for conversation in conversations():
        bodies = [frame.body for frame in conversation if frame.sender == sender]
        buffer = FrameBuffer(max(map(len, bodies), default=0))
        found: list[bytes] = []
        for byte in b"".join(LENGTH.pack(len(body)) + body for body in bodies):
            found += [whole[start:end] for whole, start, end in buffer.frames(bytes([byte]))]
        assert found == bodies
        assert len(buffer) == 0


@pytest.mark.parametrize("file", FILES)
def test_bytes_behind_a_record_change_nothing(file: str) -> None:
    for frame in FILES[file]:
        reading = reading_of(frame)
        if reading is not None and reading.value is not None:
            longer = frame.body[: reading.end] + JUNK
            # In the same frame (receivers ignore them), and as the next frame in the same buffer.
            assert reading.decode(longer, reading.start, len(longer)) == reading.value, frame.name
            assert reading.decode(longer, reading.start, reading.end) == reading.value, frame.name


@pytest.mark.parametrize("file", FILES)
def test_a_record_in_the_middle_of_a_buffer_is_read_from_its_place(file: str) -> None:
    for frame in FILES[file]:
        reading = reading_of(frame)
        if reading is not None and reading.value is not None:
            body = frame.body[reading.start : reading.end]
            assert reading.decode(JUNK + body + JUNK, len(JUNK), len(JUNK + body)) == reading.value, frame.name


@pytest.mark.parametrize("file", FILES)
def test_every_truncation_is_a_wire_error(file: str) -> None:
    for frame in FILES[file]:
        header, reading = header_of(frame), reading_of(frame)
        if header is not None:
            for cut in range(len(header[0].encode(header[1]))):
                _refuses(header[0].decode, frame, 0, cut)
        if reading is not None and reading.value is not None:
            for cut in range(reading.start, reading.end):
                _refuses(reading.decode, frame, reading.start, cut)


def _refuses(decode: Callable[[bytes, int, int], object], frame: Frame, start: int, cut: int) -> None:
    # The second time the frame ends early but the buffer goes on: nothing of the next frame may be taken for this one.
    for data in (frame.body[:cut], frame.body):
        try:
            value = decode(data, start, cut)
        except WireError:
            continue
        pytest.fail(f"{frame.name} cut at {cut} was read as {value!r}")


def test_every_record_is_pinned_by_a_frame() -> None:
    pinned = {"MultiHeader"}
    for frame in FRAMES:
        header, reading = header_of(frame), reading_of(frame)
        pinned |= {header[0].name} if header else set()
        if reading is not None and reading.value is not None:
            found = [item for row in reading.value for item in row] if frame.operation.startswith("multi") else []
            pinned |= {type(value).__name__ for value in (reading.value, *found)}
    assert set(operations.RECORDS) - pinned == set()


def test_every_operation_is_pinned_by_a_request_and_a_reply() -> None:
    for sender in ("client", "server"):
        pinned = {row.opcode for row in map(operation_of, [f for f in FRAMES if f.sender == sender]) if row}
        assert set(OPERATIONS) - pinned == set()


def test_opcodes_are_zookeepers() -> None:
    # The server's own codes have no row in the second reading.
    own = {0, 20, -10, -1}
    assert {int(code) for code in Opcode} - own == set(jute.OPERATIONS)
    for code, row in jute.OPERATIONS.items():
        assert Opcode(code).name.replace("_", "") == row.name.upper()


def test_pings_have_their_xid() -> None:
    assert {frame.header["xid"] for frame in FRAMES if frame.operation == "ping" and frame.header} >= {PING_XID}
