"""Golden frames in terzetto's terms: each explained frame as the record it must decode to, and the codec to use.

Knows how the explanations of `tests/vectors` are written down; decides nothing about the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from terzetto.client.values import ACL, ClientInfo, Id, ZnodeStat
from terzetto.client.wire import OPERATIONS, Codec, Operation, multi, operations
from terzetto.client.wire.multi import READ_REQUESTS, WRITE_REQUESTS, MultiOp, MultiResult
from terzetto.client.wire.operations import Opcode

from ...vectors import Frame, jute

REQUEST_HEADER = operations.RECORDS["RequestHeader"]
REPLY_HEADER = operations.RECORDS["ReplyHeader"]


class Reading(NamedTuple):
    """How a frame's body is read and written.

    Attributes:
        start: where the record begins, behind the header.
        end: where it ends; bytes may trail.
        value: the record that the explanation names, `None` for bytes that must be refused: malformed ones, and a multi
            of operations that it may not hold.
        encode: the record to bytes.
        decode: (bytes, position, end) to the record.
    """

    start: int
    end: int
    value: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes, int, int], Any]


def header_of(frame: Frame) -> tuple[Codec[Any], Any] | None:
    """The codec of a frame's header and the header's record, `None` in a handshake."""
    if frame.header is None:
        return None
    codec = REQUEST_HEADER if frame.sender == "client" else REPLY_HEADER
    return codec, record(codec.name, frame.header)


def reading_of(frame: Frame) -> Reading | None:
    """How the record behind the header is read, `None` for a frame without one."""
    header = header_of(frame)
    start = 0 if header is None else len(header[0].encode(header[1]))
    end = len(frame.body) - len(frame.trailing)
    if frame.record is None:
        return None
    if frame.record == "Multi":
        return _multi_reading(frame, start, end)
    if frame.record == "MultiResponse":
        value = None if frame.malformed else _results(frame.value)
        return Reading(start, end, value, multi.encode_results, lambda *place: _whole(multi.decode_results, place))
    codec = operations.RECORDS[_class_name(frame.record, frame.value)]
    value = None if frame.malformed else record(frame.record, frame.value)
    return Reading(start, end, value, codec.encode, lambda *place: _whole(codec.decode, place))


def operation_of(frame: Frame) -> Operation | None:
    """The operation of a request or reply, `None` for handshakes, notifications and what clients never send."""
    codes = {row.name: code for code, row in jute.OPERATIONS.items()}
    code = codes.get(frame.operation)
    return None if code is None else OPERATIONS.get(code)


def record(name: str, value: Any) -> Any:
    """A record from its explanation."""
    codec_name = _class_name(name, value)
    cls: Any = next(cls for cls in RECORD_CLASSES if cls.__name__ == codec_name)
    kinds = [field.split(":") for field in jute.RECORDS[name].split()]
    return cls(*(_field(kind.rstrip("?"), value[field]) for field, kind in kinds if field in value))


def _class_name(name: str, value: Any) -> str:
    handshake = name in ("ConnectRequest", "ConnectResponse")
    return f"Short{name}" if handshake and value is not None and "read_only" not in value else name


def _field(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "buffer":
        return bytes.fromhex(value)
    if kind == "stat":
        return ZnodeStat(*value)
    if kind == "[acl]":
        return [ACL(perms, Id(scheme, identity)) for perms, scheme, identity in value]
    if kind == "[client_info]":
        return [ClientInfo(*item) for item in value]
    return value


def _multi_reading(frame: Frame, start: int, end: int) -> Reading:
    allowed = WRITE_REQUESTS if frame.operation == "multi" else READ_REQUESTS
    ops = None if frame.malformed else _operations(frame.value)
    if ops is not None and any(op.opcode not in allowed for op in ops):
        ops = None
    return Reading(
        start,
        end,
        ops,
        lambda value: multi.encode_requests(value, allowed),
        lambda data, at, until: multi.decode_requests(data, at, until, allowed),
    )


def _operations(value: Any) -> list[MultiOp]:
    *rows, last = value["operations"]
    assert last["done"]
    return [MultiOp(row["type"], record(row["record"], row["value"])) for row in rows]


def _results(value: Any) -> list[MultiResult]:
    *rows, last = value["operations"]
    assert last["done"]
    return [_result(row) for row in rows]


def _result(row: dict[str, Any]) -> MultiResult:
    failed = row["type"] == Opcode.ERROR
    body = None if failed or row["record"] is None else record(row["record"], row["value"])
    return MultiResult(row["type"], row["err"], body)


def _whole(decode: Callable[[bytes, int, int], tuple[Any, int]], place: tuple[bytes, int, int]) -> Any:
    value, position = decode(*place)
    _, start, end = place
    assert start <= position <= end
    return value


RECORD_CLASSES = tuple(
    cls for cls in vars(operations.r).values() if isinstance(cls, type) and cls.__module__ == operations.r.__name__
)
