"""The compiler: layouts of every shape, what it refuses to compile, and what its codecs say when they fail."""

from __future__ import annotations

import array
import linecache
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, NamedTuple

import pytest

from terzetto.client.errors import WireError
from terzetto.client.values import ACL, OPEN_ACL_UNSAFE, Id
from terzetto.client.wire import codec, records as r
from terzetto.client.wire.compiler import build_frame_encoder, declare, layout_of
from terzetto.client.wire.operations import AUTH, CREATE, GET_DATA, SASL
from terzetto.client.wire.primitives import LENGTH, OPT_VECTOR, VECTOR, Buffer, Int, Long, OptStr, Scalar, Str


class Point(NamedTuple):
    """Fixed width only."""

    x: Int
    y: Long


class Tag(NamedTuple):
    """Ends in a field of fixed width, begins with one of variable width."""

    name: Str
    weight: Int


class Everything(NamedTuple):
    """Fixed runs before, between and after fields of variable width; records in records; vectors of all of them."""

    first: Int
    second: Annotated[int, "an annotation of others", Scalar("q")]
    point: Point
    name: OptStr
    tag: Tag
    between: Int
    data: Buffer
    points: Annotated[list[Point], VECTOR]
    tags: Annotated[list[Tag] | None, OPT_VECTOR]
    numbers: Annotated[list[Int], VECTOR]
    blobs: Annotated[list[Buffer], VECTOR]
    last: Int


class Row(NamedTuple):
    cells: Annotated[list[Tag], VECTOR]


class Table(NamedTuple):
    """A vector of records that hold vectors."""

    rows: Annotated[list[Row], VECTOR]
    tail: Int


class Plain(NamedTuple):
    """Without annotations of the wire: `declare` must give them."""

    text: str
    number: int


class Empty(NamedTuple):
    pass


FULL = Everything(
    1,
    2,
    Point(3, 4),
    "n",
    Tag("t", 5),
    6,
    b"d",
    [Point(7, 8)],
    [Tag("", 9), Tag("u", 10)],
    [11, 12],
    [None, b"", b"e"],
    13,
)
FULL_BYTES = bytes.fromhex(
    "00000001 0000000000000002 00000003 0000000000000004 00000001 6e 00000001 74 00000005 00000006 00000001 64"
    "00000001 00000007 0000000000000008"
    "00000002 00000000 00000009 00000001 75 0000000a"
    "00000002 0000000b 0000000c"
    "00000003 ffffffff 00000000 00000001 65"
    "0000000d"
)


def test_every_shape_is_written_in_wire_order_and_read_back() -> None:
    assert codec(Everything).encode(FULL) == FULL_BYTES
    decoded, position = codec(Everything).decode(FULL_BYTES, 0, len(FULL_BYTES))
    assert (decoded, position) == (FULL, len(FULL_BYTES))
    assert [type(value) for value in (decoded, decoded.point, decoded.tag, *decoded.points)] == [
        *(Everything, Point, Tag, Point)
    ]


def test_every_truncation_of_every_shape_is_refused() -> None:
    for cut in range(len(FULL_BYTES)):
        for data in (FULL_BYTES[:cut], FULL_BYTES):
            with pytest.raises(WireError):
                codec(Everything).decode(data, 0, cut)


def test_vectors_in_vectors() -> None:
    table = Table([Row([]), Row([Tag("a", 1), Tag("b", 2)])], 3)
    encoded = codec(Table).encode(table)
    assert encoded == bytes.fromhex("00000002 00000000 00000002 00000001 61 00000001 00000001 62 00000002 00000003")
    assert codec(Table).decode(encoded, 0, len(encoded)) == (table, len(encoded))


def test_a_whole_request_frame() -> None:
    frame = build_frame_encoder(99, Everything)
    assert frame(7, *FULL) == LENGTH.pack(8 + len(FULL_BYTES)) + bytes.fromhex("00000007 00000063") + FULL_BYTES
    assert build_frame_encoder(98, None)(7) == bytes.fromhex("00000008 00000007 00000062")


def test_a_codec_is_built_once() -> None:
    assert codec(Everything) is codec(Everything)
    assert layout_of(Everything) is layout_of(Everything)
    assert codec(Everything).name == "Everything"


# What cannot be compiled ----------------------------------------------------------------------------------------------


def test_a_declaration_names_every_field_in_order() -> None:
    for kinds in ({}, {"text": Str}, {"number": Int, "text": Str}, {"text": Str, "number": Int, "more": Int}):
        with pytest.raises(TypeError, match=r"layout of Plain must name the fields \('text', 'number'\), not "):
            declare(Plain, **kinds)


def test_a_declaration_takes_wire_types_only() -> None:
    with pytest.raises(TypeError, match="<class 'int'> is no wire type"):
        declare(Plain, text=Str, number=int)


def test_a_record_without_annotations_of_the_wire_needs_a_declaration() -> None:
    class Undeclared(NamedTuple):
        text: str
        number: int

    with pytest.raises(TypeError, match="<class 'int'> is no wire type"):
        codec(Undeclared).encode(Undeclared("a", 1))
    declare(Undeclared, text=OptStr, number=Int)
    assert codec(Undeclared).encode(Undeclared("a", 1)) == bytes.fromhex("00000001 61 00000001")


@pytest.mark.parametrize("hint", [int, bytes, None, tuple, Annotated[int, "no wire type"], list, float])
def test_what_is_no_wire_type(hint: Any) -> None:
    with pytest.raises(TypeError, match="is no wire type"):
        declare(Plain, text=hint, number=Int)


@pytest.mark.parametrize("hint", [Annotated[int, VECTOR], Annotated[int | None, VECTOR], Annotated[set[str], VECTOR]])
def test_a_vector_is_a_list(hint: Any) -> None:
    with pytest.raises(TypeError, match="is no list"):
        declare(Plain, text=hint, number=Int)


@pytest.mark.parametrize("cls", [Empty, int, tuple])
def test_a_record_has_fields(cls: Any) -> None:
    # A vector of records of no bytes could have any count.
    for use in (lambda: codec(cls).encode(cls()), lambda: codec(cls).decode(b"", 0, 0)):
        with pytest.raises(TypeError, match=f"{cls.__name__} has no fields, so it is no record"):
            use()


def test_an_empty_record_cannot_be_declared_either() -> None:
    with pytest.raises(TypeError, match="Empty has no fields"):
        declare(Empty)


# What a failure says --------------------------------------------------------------------------------------------------


def test_the_generated_source_stands_in_the_traceback() -> None:
    with pytest.raises(WireError) as caught:
        codec(Tag).decode(b"\0\0\0\1a\0", 0, 6)
    linecache.checkcache()
    lines = traceback.format_exception(caught.value)
    text = "".join(lines)
    assert f'File "<terzetto codec decode {__name__}.Tag>", line ' in text
    # The line that failed, and the line that tells.
    assert "unpack" in text
    assert "(data, pos)\n" in text
    assert "    raise WireError(f'malformed or truncated Tag at byte {pos}: {error}') from error\n" in text


def test_records_of_one_name_keep_their_own_source() -> None:
    class Tag(NamedTuple):
        other: Buffer

    codec(Tag)
    with pytest.raises(WireError) as caught:
        codec(Tag).decode(b"", 0, 0)
    assert "test_records_of_one_name_keep_their_own_source.<locals>.Tag>" in "".join(
        traceback.format_exception(caught.value)
    )
    source = linecache.getlines(f"<terzetto codec decode {__name__}.Tag>")
    assert any("Tag.name" in line for line in source)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ((None, 1), "'NoneType' object has no attribute 'encode'"),
        ((b"bytes", 1), "'bytes' object has no attribute 'encode'"),
        (("a", "b"), "required argument is not an integer"),
        (Tag("a", 2**31), "format requires|int too large|out of range"),
        (Tag("\ud800", 1), "surrogates not allowed"),
        (("a", 1, 2), "too many values to unpack"),
        (("a",), "not enough values to unpack"),
        (None, "cannot unpack non-iterable NoneType"),
    ],
)
def test_an_encoder_names_its_record(record: Any, reason: str) -> None:
    with pytest.raises(WireError, match=f"^cannot encode Tag: .*({reason})"):
        codec(Tag).encode(record)


@pytest.mark.parametrize(
    "fields",
    [
        ("/a", "text", OPEN_ACL_UNSAFE, 0),
        ("/a", 5, OPEN_ACL_UNSAFE, 0),
        ("/a", [1], OPEN_ACL_UNSAFE, 0),
        (b"/a", b"", OPEN_ACL_UNSAFE, 0),
        ("/a", b"", 5, 0),
        ("/a", b"", [None], 0),
        ("/a", b"", [(31, ("world", "anyone", "else"))], 0),
        ("/a", b"", [(31,)], 0),
        ("/a", b"", [ACL(31, Id("world", 1))], 0),  # type: ignore[arg-type]
        ("/a", b"", [ACL(2**40, Id("world", "anyone"))], 0),
        ("/a", b"", (acl for acl in OPEN_ACL_UNSAFE), 0),
        ("/a", b"", OPEN_ACL_UNSAFE, None),
    ],
)
def test_a_frame_of_impossible_fields_is_refused(fields: tuple[Any, ...]) -> None:
    with pytest.raises(WireError, match=r"^cannot encode CreateRequest: "):
        CREATE.frame(1, *fields)
    with pytest.raises(WireError, match=r"^cannot encode CreateRequest: "):
        codec(r.CreateRequest).encode(r.CreateRequest(*fields))


def test_a_frame_without_record_names_its_opcode() -> None:
    with pytest.raises(WireError, match="cannot encode request 98"):
        build_frame_encoder(98, None)("xid")


@pytest.mark.parametrize(
    "data",
    [
        bytearray(b"\1\2\3\4"),
        memoryview(b"\1\2\3\4"),
        array.array("B", [1, 2, 3, 4]),
        type("B", (bytes,), {})(b"\1\2\3\4"),
    ],
)
def test_whatever_holds_bytes_is_written_as_bytes(data: Any) -> None:
    assert codec(r.GetSASLRequest).encode(r.GetSASLRequest(data)) == bytes.fromhex("00000004 01020304")


def test_a_length_counts_bytes_not_items() -> None:
    for data in (array.array("H", [1, 2]), memoryview(b"\1\2\3\4").cast("H")):
        frame = SASL.frame(1, data)
        assert len(frame) == 4 + LENGTH.unpack_from(frame)[0] == 20
        assert LENGTH.unpack_from(frame, 12)[0] == 4


ATTEMPTS: dict[str, Callable[[str], object]] = {
    "text for bytes": lambda secret: AUTH.frame(-4, 0, "digest", f"user:{secret}"),
    "a bad scheme": lambda secret: AUTH.frame(-4, 0, b"digest", f"user:{secret}".encode()),
    "half a character": lambda secret: AUTH.frame(-4, 0, "\ud800", f"user:{secret}".encode()),
    "a bad type": lambda secret: AUTH.frame(-4, 2**40, "digest", f"user:{secret}".encode()),
    "a bad xid": lambda secret: AUTH.frame(2**40, 0, "digest", f"user:{secret}".encode()),
    "as a record": lambda secret: codec(r.AuthPacket).encode(r.AuthPacket(0, "digest", secret)),  # type: ignore[arg-type]
    "as a short record": lambda secret: codec(r.AuthPacket).encode((0, secret)),  # type: ignore[arg-type]
    "a list": lambda secret: AUTH.frame(-4, 0, "digest", [secret]),
    "a token": lambda secret: SASL.frame(1, secret),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_error_shows_a_password(attempt: str) -> None:
    # Put together here, so that the source lines of a traceback do not show it either.
    secret = "open".ljust(20, "*") + "sesame"
    with pytest.raises(WireError, match=r"cannot encode (AuthPacket|GetSASLRequest): ") as caught:
        ATTEMPTS[attempt](secret)
    assert secret not in "".join(traceback.format_exception(caught.value))
    assert secret not in repr(caught.value) + repr(caught.value.__cause__)


def test_a_decoder_names_record_field_and_place() -> None:
    with pytest.raises(WireError, match=r"^length -5 of GetACLResponse\.acl\[\]\.id\.scheme at byte 8 is not allowed$"):
        codec(r.GetACLResponse).decode(bytes.fromhex("00000001 0000001f fffffffb") + bytes(90), 0, 102)
    with pytest.raises(WireError, match=r"^count 9 of Table\.rows\[\]\.cells at byte 4 does not fit its frame$"):
        codec(Table).decode(bytes.fromhex("00000001 00000009") + bytes(9), 0, 17)
    with pytest.raises(WireError, match=r"^malformed or truncated GetDataResponse at byte 4: .*68 bytes"):
        codec(r.GetDataResponse).decode(bytes(71), 0, 71)
    with pytest.raises(WireError, match=r"^GetDataResponse is 1 bytes longer than its frame$"):
        codec(r.GetDataResponse).decode(bytes(72), 0, 71)


def test_every_codec_is_a_value() -> None:
    assert repr(codec(Tag)).startswith("Codec(name='Tag', encode=<function ")
    with pytest.raises(AttributeError):
        codec(Tag).name = "other"  # type: ignore[misc]


def test_a_request_with_the_wrong_number_of_fields_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError, match="arg_watch"):
        GET_DATA.frame(1, "/a")


# Compilation at the first call ----------------------------------------------------------------------------------------


class Late(NamedTuple):
    number: Int
    text: Str


def _source(label: str) -> list[str]:
    return linecache.getlines(f"<terzetto codec {label}>")


def test_nothing_is_compiled_before_it_is_called() -> None:
    encode, decode = codec(Late).encode, codec(Late).decode
    frame = build_frame_encoder(97, Late)
    labels = [f"encode {__name__}.Late", f"decode {__name__}.Late", "frame Late 97"]
    assert [_source(label) for label in labels] == [[], [], []]
    encoded = encode(Late(1, "a"))
    assert [bool(_source(label)) for label in labels] == [True, False, False]
    assert decode(encoded, 0, len(encoded)) == (Late(1, "a"), len(encoded))
    assert frame(7, 1, "a")[12:] == encoded
    assert all(_source(label) for label in labels)


def test_who_holds_a_function_from_before_its_compilation_holds_the_compiled_one() -> None:
    class Held(NamedTuple):
        number: Int

    decode = codec(Held).decode
    before = decode.__code__
    assert decode(bytes(4), 0, 4) == (Held(0), 4)
    assert decode is codec(Held).decode
    assert decode.__code__ is not before
    assert decode.__code__.co_name == "generated"
    compiled = decode.__code__
    assert decode(bytes(4), 0, 4) == (Held(0), 4)
    assert decode.__code__ is compiled


def test_a_first_call_that_fails_fails_like_any_other() -> None:
    class Failing(NamedTuple):
        number: Int

    for _ in range(2):
        with pytest.raises(WireError, match="malformed or truncated Failing"):
            codec(Failing).decode(b"", 0, 0)
        with pytest.raises(WireError, match="cannot encode Failing"):
            codec(Failing).encode(Failing("text"))  # type: ignore[arg-type]


def test_threads_may_make_the_first_call_together() -> None:
    class Shared(NamedTuple):
        numbers: Annotated[list[Int], VECTOR]
        tail: Long

    codec(Shared)
    value = Shared(list(range(50)), -1)
    gate = threading.Barrier(8)

    def call() -> Shared:
        gate.wait()
        encoded = codec(Shared).encode(value)
        return codec(Shared).decode(encoded, 0, len(encoded))[0]

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(call) for _ in range(8)]
        assert [done.result(60) for done in calls] == [value] * 8
