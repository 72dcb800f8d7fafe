"""Golden frames in terzetto's terms: each explained frame as the record it must decode to, and the codec to use.

Knows how the explanations of `tests/vectors` are written down; decides nothing about the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from terzetto.client.values import ACL, ClientInfo, Id, ZnodeStat
from terzetto.client.wire import OPERATIONS, Codec, Operation, multi, records
from terzetto.client.wire.multi import READ_REQUESTS, WRITE_REQUESTS, MultiOp, MultiResult
from terzetto.client.wire.operations import RECORDS, Opcode

from ...vectors import Frame, jute

RECORD_CLASSES: list[Any] = [
    cls for cls in vars(records).values() if isinstance(cls, type) and cls.__module__ == records.__name__
]


@dataclass(frozen=True)
class Reading:
    """How the record in a frame is read and written.

    Attributes:
        name: the record's, or "Multi" or "MultiResponse".
        start: where it begins, behind the header.
        end: where it ends; bytes may trail.
        value: the record that the explanation names, `None` for bytes that must be refused: malformed ones, and a multi
            of operations that it may not hold.
        allowed: the operations that a multi may hold.
    """

    name: str
    start: int
    end: int
    value: Any
    allowed: dict[int, type[Any]]

    def encode(self, value: Any) -> bytes:
        """The record to bytes."""
        if self.name == "Multi":
            return multi.encode_requests(value, self.allowed)
        return multi.encode_results(value) if self.name == "MultiResponse" else RECORDS[self.name].encode(value)

    def decode(self, data: bytes, start: int, end: int) -> Any:
        """The record that data[start:end] begins with."""
        if self.name == "Multi":
            return multi.decode_requests(data, start, end, self.allowed)
        decode = multi.decode_results if self.name == "MultiResponse" else RECORDS[self.name].decode
        value, position = decode(data, start, end)
        assert position - start == len(self.encode(value))
        assert position <= end
        return value


def header_of(frame: Frame) -> tuple[Codec[Any], Any] | None:
    """The codec of a frame's header and the header's record, `None` in a handshake."""
    if frame.header is None:
        return None
    codec = RECORDS["RequestHeader" if frame.sender == "client" else "ReplyHeader"]
    return codec, record(codec.name, frame.header)


def reading_of(frame: Frame) -> Reading | None:
    """How the record behind the header is read, `None` for a frame without one."""
    if frame.record is None:
        return None
    header = header_of(frame)
    start = 0 if header is None else len(header[0].encode(header[1]))
    end = len(frame.body) - len(frame.trailing)
    allowed = READ_REQUESTS if frame.operation == "multiRead" else WRITE_REQUESTS
    name, value = _class_name(frame.record, frame.value), None
    if frame.value is not None:
        value = record(frame.record, frame.value)
        if name == "Multi" and any(op.opcode not in allowed for op in value):
            value = None
    return Reading(name, start, end, value, allowed)


def operation_of(frame: Frame) -> Operation | None:
    """The operation of a request or reply, `None` for handshakes, notifications and what clients never send."""
    codes = {row.name: code for code, row in jute.OPERATIONS.items()}
    code = codes.get(frame.operation)
    return None if code is None else OPERATIONS.get(code)


def record(name: str, value: Any) -> Any:
    """A record from its explanation; a multi as a list."""
    if name in ("Multi", "MultiResponse"):
        *rows, last = value["operations"]
        assert last["done"]
        return [_operation(row) if name == "Multi" else _result(row) for row in rows]
    class_name = _class_name(name, value)
    cls = next(cls for cls in RECORD_CLASSES if cls.__name__ == class_name)
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


def _operation(row: dict[str, Any]) -> MultiOp:
    return MultiOp(row["type"], record(row["record"], row["value"]))


def _result(row: dict[str, Any]) -> MultiResult:
    name: str | None = row["record"]
    value = None if name is None or row["type"] == Opcode.ERROR else record(name, row["value"])
    return MultiResult(row["type"], row["err"], value)
