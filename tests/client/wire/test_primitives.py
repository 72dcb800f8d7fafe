"""Scalars and text on the wire: widths, byte order, and what Java makes of characters above U+FFFF."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import WireError
from terzetto.client.wire import codec
from terzetto.client.wire.primitives import (
    DEFAULT_MAX_FRAME,
    LENGTH,
    OPT_VECTOR,
    REPLY_HEADER,
    REPLY_PREFIX,
    VECTOR,
    Bool,
    Buffer,
    Int,
    Long,
    OptStr,
    Str,
)

from .strategies import PATIENT


class Scalars(NamedTuple):
    flag: Bool
    number: Int
    big: Long


class Variables(NamedTuple):
    text: Str
    maybe: OptStr
    data: Buffer


class Vectors(NamedTuple):
    names: Annotated[list[str], VECTOR]
    more: Annotated[list[str] | None, OPT_VECTOR]


class Name(NamedTuple):
    text: Str


SCALARS, VARIABLES, VECTORS, NAME = codec(Scalars), codec(Variables), codec(Vectors), codec(Name)


def test_numbers_are_big_endian_and_signed() -> None:
    encoded = SCALARS.encode(Scalars(True, -2, 2**40))
    assert encoded == bytes.fromhex("01 fffffffe 0000010000000000")
    assert SCALARS.decode(encoded, 0, 13) == (Scalars(True, -2, 2**40), 13)


@pytest.mark.parametrize(
    "record", [Scalars(False, -(2**31), -(2**63)), Scalars(True, 2**31 - 1, 2**63 - 1), Scalars(False, 0, 0)]
)
def test_the_whole_range_of_a_scalar_is_carried(record: Scalars) -> None:
    assert SCALARS.decode(SCALARS.encode(record), 0, 13)[0] == record


@pytest.mark.parametrize(
    "record",
    [
        Scalars(False, 2**31, 0),
        Scalars(False, -(2**31) - 1, 0),
        Scalars(False, 0, 2**63),
        Scalars(False, 0, -(2**63) - 1),
        Scalars(False, 10**400, 10**400),
        Scalars(False, 1.5, 0),  # type: ignore[arg-type]
        Scalars(False, None, 0),  # type: ignore[arg-type]
        Scalars(False, "1", 0),  # type: ignore[arg-type]
    ],
)
def test_a_number_that_does_not_fit_is_refused(record: Scalars) -> None:
    with pytest.raises(WireError, match=r"^cannot encode Scalars: "):
        SCALARS.encode(record)


def test_a_length_stands_before_text_and_bytes() -> None:
    encoded = VARIABLES.encode(Variables("\u00e9", None, b"\xff"))
    assert encoded == bytes.fromhex("00000002 c3a9 ffffffff 00000001 ff")
    assert VARIABLES.decode(encoded, 0, len(encoded)) == (Variables("\u00e9", None, b"\xff"), len(encoded))


@pytest.mark.parametrize("record", [Variables("", "", b""), Variables("", None, None), Variables("a", "", None)])
def test_null_and_empty_are_distinct(record: Variables) -> None:
    encoded = VARIABLES.encode(record)
    assert VARIABLES.decode(encoded, 0, len(encoded))[0] == record
    assert encoded.count(b"\xff\xff\xff\xff") == record.count(None)


def test_null_text_is_refused_where_there_is_none() -> None:
    with pytest.raises(WireError, match="cannot encode Variables: 'NoneType'"):
        VARIABLES.encode(Variables(None, "", b""))  # type: ignore[arg-type]
    with pytest.raises(WireError, match=r"length -1 of Variables\.text at byte 0 is not allowed"):
        VARIABLES.decode(bytes.fromhex("ffffffff ffffffff ffffffff"), 0, 12)


def test_a_null_vector_is_refused_where_there_is_none_and_read_as_empty() -> None:
    with pytest.raises(WireError, match=r"cannot encode Vectors: .*NoneType"):
        VECTORS.encode(Vectors(None, []))  # type: ignore[arg-type]
    assert VECTORS.encode(Vectors([], None)) == bytes.fromhex("00000000 ffffffff")
    assert VECTORS.decode(bytes.fromhex("ffffffff ffffffff"), 0, 8) == (Vectors([], None), 8)
    assert VECTORS.decode(bytes.fromhex("00000000 00000000"), 0, 8) == (Vectors([], []), 8)


@pytest.mark.parametrize("length", [-2, -3, -(2**31)])
@pytest.mark.parametrize("field", [0, 1, 2])
def test_a_negative_length_is_refused(field: int, length: int) -> None:
    lengths = [0, 0, 0]
    lengths[field] = length
    data = b"".join(map(LENGTH.pack, lengths))
    name = Variables._fields[field]
    with pytest.raises(WireError, match=rf"length {length} of Variables\.{name} at byte {4 * field} is not allowed"):
        VARIABLES.decode(data, 0, 12)


@pytest.mark.parametrize("count", [-2, -(2**31), 1, 3, 2**31 - 1])
def test_a_count_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(WireError, match=rf"count {count} of Vectors\.names at byte 0 does not fit its frame"):
        VECTORS.decode(LENGTH.pack(count), 0, 4)


def test_a_count_may_miss_its_frame_by_no_byte() -> None:
    with pytest.raises(WireError, match=r"count 2 of Vectors\.names at byte 0 does not fit its frame"):
        VECTORS.decode(LENGTH.pack(2) + bytes(8), 0, 11)
    assert VECTORS.decode(LENGTH.pack(2) + bytes(12), 0, 16) == (Vectors(["", ""], []), 16)


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@PATIENT
def test_any_text_is_written_as_utf8_and_read_back(text: str) -> None:
    encoded = NAME.encode(Name(text))
    assert encoded == LENGTH.pack(len(text.encode())) + text.encode()
    assert NAME.decode(encoded, 0, len(encoded))[0] == Name(text)


def _as_java_writes(text: str) -> bytes:
    units = text.encode("utf-16-be")
    pairs = (units[i : i + 2].decode("utf-16-be", "surrogatepass") for i in range(0, len(units), 2))
    return b"".join(unit.encode("utf-8", "surrogatepass") for unit in pairs)


@given(text=st.text(st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0x10000)))
@PATIENT
def test_any_text_is_read_as_java_writes_it(text: str) -> None:
    raw = _as_java_writes(text)
    assert NAME.decode(LENGTH.pack(len(raw)) + raw, 0, 4 + len(raw))[0] == Name(text)


@pytest.mark.parametrize(
    "raw",
    [
        "eda0bd",  # a high surrogate alone
        "edb880",  # a low one
        "eda0bd41",
        "eda0bd414243",
        "edb880eda0bd",  # the wrong way round
        "eda0bdeda0bd",
        "eda0bdedb8",  # cut
        "41ff",
        "c0af",  # not the shortest form
        "f4908080",  # above U+10FFFF
        "e28282ff",
    ],
)
def test_what_is_no_text_is_refused(raw: str) -> None:
    data = bytes.fromhex(raw)
    with pytest.raises(WireError, match=r"malformed or truncated Name .*codec can't decode"):
        NAME.decode(LENGTH.pack(len(data)) + data, 0, 4 + len(data))


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ude00\ud83d"])
def test_a_lone_surrogate_is_not_written(text: str) -> None:
    with pytest.raises(WireError, match=r"cannot encode Name: .*surrogates not allowed"):
        NAME.encode(Name(text))


def test_text_is_never_read_beyond_its_own_length() -> None:
    # The half of a pair inside the field, the other half behind it.
    data = bytes.fromhex("00000003 eda0bd edb880")
    with pytest.raises(WireError):
        NAME.decode(data, 0, len(data))


def test_headers_and_limits() -> None:
    assert (LENGTH.size, REPLY_HEADER.size, REPLY_PREFIX.size) == (4, 16, 20)
    assert REPLY_PREFIX.pack(16, 1, 2, -101) == LENGTH.pack(16) + REPLY_HEADER.pack(1, 2, -101)
    # jute.maxbuffer of 3.8.0: a frame of 1,048,575 bytes is accepted, one more closes the connection.
    assert DEFAULT_MAX_FRAME == 1_048_575
