"""The log's bytes: round trips, every way a write can be torn, every bit that can flip."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from zlib import adler32

import pytest
from hypothesis import given, strategies as st

from terzetto.testcluster.storage.errors import CorruptLogError
from terzetto.testcluster.storage.txnlog import HEADER, LoggedTxn, LogReader, encode_records, logged
from tests.vectors.disk import directories

from .histories import History


def read(data: bytes) -> tuple[list[LoggedTxn], LogReader]:
    reader = LogReader(memoryview(data), "log.1")
    return list(reader), reader


def small_log(count: int = 5) -> tuple[bytes, list[LoggedTxn], list[int]]:
    """A log, its transactions, and the offset behind each."""
    history = History(random.Random(7))
    txns = [history.create(f"/z{i}", b"\0data\0" * i) for i in range(count)]
    data, ends = HEADER, [len(HEADER)]
    for txn in txns:
        data += encode_records([txn.payload])
        ends.append(len(data))
    return data, txns, ends


def payload(zxid: int, body: bytes) -> bytes:
    return struct.pack(">qiqqi", 1, 2, zxid, 3, 1) + body


bodies = st.lists(st.binary(max_size=300), max_size=20)


@given(bodies, st.integers(0, 5000))
def test_what_is_written_is_read(contents: list[bytes], padding: int) -> None:
    txns = [logged(payload(zxid, body)) for zxid, body in enumerate(contents, 1)]
    data = HEADER + encode_records(txn.payload for txn in txns)
    found, reader = read(data + bytes(padding))
    assert found == txns
    assert reader.end == len(data)
    assert reader.torn is None


def test_the_bytes_of_a_record() -> None:
    body = payload(0x55, b"abc")
    record = encode_records([body])
    assert record == struct.pack(">qi", adler32(body), len(body)) + body + b"B"
    assert HEADER.hex() == "5a4b4c47000000020000000000000000"


def test_the_zxid_is_read_from_the_payload() -> None:
    assert logged(payload(0x1234567890, b"")).zxid == 0x1234567890
    with pytest.raises(ValueError, match="31 bytes are no transaction"):
        logged(bytes(31))


def test_golden_logs_are_encoded_again_to_the_same_bytes() -> None:
    for directory in directories():
        for path in (directory.path / "version-2").glob("log.*"):
            data = path.read_bytes()
            txns, reader = read(data)
            again = HEADER + encode_records(txn.payload for txn in txns)
            assert txns[0].zxid == int(path.suffix[1:], 16)
            assert data.startswith(again)
            assert len(again) == reader.end
            assert not any(data[reader.end :])


@pytest.mark.parametrize("padding", [0, 1, 4096], ids=["cut", "one zero", "preallocated"])
def test_every_write_cut_short_leaves_the_whole_records(padding: int) -> None:
    data, txns, ends = small_log()
    for size in range(len(data) + 1):
        found, reader = read(data[:size] + bytes(padding))
        whole = sum(end <= size for end in ends) - 1
        # The zeros that end a header or begin a record need not have been written to be there.
        if size + padding >= len(HEADER) > size and data[:size].rstrip(b"\0") == HEADER.rstrip(b"\0"):
            whole = 0
        assert found == txns[: max(whole, 0)], size
        cleanly = whole >= 0 and not any(data[ends[whole] : size])
        if cleanly:
            assert reader.torn is None, size
            assert reader.end == ends[whole]
        else:
            assert reader.torn is not None, size
            assert reader.torn.offset == reader.end == (ends[whole] if whole >= 0 else 0)
            assert reader.torn.size == len(data[reader.end : size].rstrip(b"\0"))


@pytest.mark.parametrize("padding", [0, 100])
def test_no_flipped_bit_loses_a_record_silently(padding: int) -> None:
    data, txns, _ = small_log()
    padded = data + bytes(padding)
    unread = range(8 * 8, 16 * 8)  # the header's dbid
    for bit in range(len(padded) * 8):
        changed = bytearray(padded)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found, reader = read(bytes(changed))
        except CorruptLogError:
            continue
        assert found == txns, f"bit {bit}"
        # A single bit in the padding looks like a write that stopped after a few bytes.
        assert bit in unread or (reader.torn is not None and bit >= len(data) * 8), f"bit {bit}"


def test_no_changed_byte_in_the_last_record_loses_it_silently() -> None:
    data, txns, ends = small_log(3)
    for position in range(ends[-2], len(data)):
        for value in (0x00, 0x42, 0xFF):
            changed = bytearray(data + bytes(64))
            if changed[position] == value:
                continue
            changed[position] = value
            if position == len(data) - 1 and value == 0:
                continue  # exactly what a write that stopped before its last byte leaves
            with pytest.raises(CorruptLogError) as caught:
                read(bytes(changed))
            assert caught.value.offset == ends[-2], position
    assert len(txns) == 3


@pytest.mark.parametrize(
    ("at", "patch", "reason"),
    [
        (0, b"\1", "more than 32 bits"),
        (8, b"\xff\xff\xff\xff", "length is -1"),
        (8, b"\x7f\xff\xff\xff", "length is 2147483647"),
        (8, bytes(4), "length is 0; a whole record follows"),
        (20, b"?", "checksum of the record"),
        (0, bytes(40), "a whole record follows at byte"),
    ],
)
def test_damage_in_the_middle_is_named(at: int, patch: bytes, reason: str) -> None:
    data, _, ends = small_log()
    start = ends[2] + at
    with pytest.raises(CorruptLogError, match=reason) as caught:
        read(data[:start] + patch + data[start + len(patch) :])
    assert caught.value.name == "log.1"
    assert caught.value.offset == ends[2]
    assert str(ends[2]) in str(caught.value)


def test_damage_is_told_after_the_records_before_it() -> None:
    data, txns, ends = small_log()
    changed = bytearray(data)
    changed[ends[3] + 15] ^= 1
    reader = LogReader(memoryview(changed), "log.1")
    found: list[LoggedTxn] = []
    with pytest.raises(CorruptLogError):
        found.extend(reader)  # what was given before the error stays
    assert found == txns[:3]


def test_a_length_that_swallows_the_rest_is_damage() -> None:
    data, _, ends = small_log()
    (length,) = struct.unpack_from(">i", data, ends[1] + 8)
    longer = data[: ends[1] + 8] + struct.pack(">i", length + 1000) + data[ends[1] + 12 :]
    with pytest.raises(CorruptLogError, match="another record begins inside of it"):
        read(longer)


def test_zeros_in_a_torn_record_are_no_record() -> None:
    data, txns, ends = small_log(2)
    torn = encode_records([payload(3, bytes(5000) + b"x" + bytes(5000))])
    found, reader = read(data + torn[:6000])
    assert found == txns
    assert reader.torn is not None
    assert reader.torn.offset == ends[-1]


def test_an_old_record_inside_a_torn_one_is_somebodys_data() -> None:
    data, txns, ends = small_log(3)
    torn = encode_records([payload(4, b"what a client stored: " + data[ends[0] : ends[2]] + b" and more")])
    found, reader = read(data + torn[:-5])
    assert found == txns
    assert reader.torn is not None
    assert reader.torn.offset == ends[-1]


@pytest.mark.parametrize("data", [b"", HEADER[:3], bytes(16), bytes(5000), HEADER[:5] + bytes(3000)])
def test_an_unfinished_header_is_a_torn_write(data: bytes) -> None:
    found, reader = read(data)
    assert found == []
    assert reader.end == 0
    assert reader.torn is not None
    assert reader.torn.reason == "its header is incomplete"


@pytest.mark.parametrize(
    "data", [b"ZKSN" + HEADER[4:], HEADER[:4] + b"\0\0\0\3" + bytes(8), bytes(16) + b"x", HEADER[:2] + bytes(50) + b"x"]
)
def test_another_header_is_damage(data: bytes) -> None:
    with pytest.raises(CorruptLogError) as caught:
        read(data)
    assert caught.value.offset == 0


@given(st.binary(max_size=400), st.integers(0, 5))
def test_garbage_behind_a_log_never_breaks_the_reader(garbage: bytes, count: int) -> None:
    data, txns, _ = small_log(count)
    reader = LogReader(memoryview(data + garbage), "log.1")
    found: list[LoggedTxn] = []
    with suppress(CorruptLogError):
        found.extend(reader)
    assert found[: len(txns)] == txns
    assert reader.end >= len(data)


@given(st.binary(max_size=400))
def test_garbage_is_a_log_only_with_its_header(garbage: bytes) -> None:
    try:
        found, reader = read(garbage)
    except CorruptLogError:
        return
    assert found == [] or garbage.startswith(HEADER[:8])
    assert reader.end in (0, 16) or found
