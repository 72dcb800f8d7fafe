"""multi (14) and multiRead (22): several operations in one frame.

Knows the container: a MultiHeader before each operation or result, a MultiHeader with `done` at the end. What the
results mean to a caller is the transaction's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import WireError
from . import records as r
from .compiler import codec
from .operations import OPERATIONS, Opcode, Operation
from .primitives import LENGTH

_REQUEST_HEADER = codec(r.RequestHeader)
_HEADER = codec(r.MultiHeader)
_END = _HEADER.encode(r.MultiHeader(-1, True, -1))
_ERROR = codec(r.ErrorResponse)

WRITE_REQUESTS: dict[int, type[Any]] = {
    Opcode.CREATE: r.CreateRequest,
    Opcode.DELETE: r.DeleteRequest,
    Opcode.SET_DATA: r.SetDataRequest,
    Opcode.CHECK: r.CheckVersionRequest,
    Opcode.CREATE2: r.CreateRequest,
    Opcode.CREATE_CONTAINER: r.CreateRequest,
    Opcode.CREATE_TTL: r.CreateTTLRequest,
}
"""Record of each operation that a multi may hold."""

READ_REQUESTS: dict[int, type[Any]] = {
    Opcode.GET_DATA: r.GetDataRequest,
    Opcode.GET_CHILDREN: r.GetChildrenRequest,
}
"""Record of each operation that a multiRead may hold. Their watch flag is ignored by servers."""

# Releases before 3.7.2 and 3.8.2 answer create2 with a result of type 1 and no Stat, later ones with type 15.
_RESULTS: dict[int, type[Any] | None] = {
    Opcode.CREATE: r.CreateResponse,
    Opcode.CREATE2: r.Create2Response,
    Opcode.DELETE: None,
    Opcode.CHECK: None,
    Opcode.SET_DATA: r.SetDataResponse,
    Opcode.GET_DATA: r.GetDataResponse,
    Opcode.GET_CHILDREN: r.GetChildrenResponse,
}


class MultiOp(NamedTuple):
    """One operation of a multi: its opcode and request record."""

    opcode: int
    request: Any


class MultiResult(NamedTuple):
    """One result: the type the server wrote, the error code, and the response record where there is one."""

    type: int
    err: int
    value: Any


def encode_requests(ops: Sequence[MultiOp], allowed: dict[int, type[Any]]) -> bytes:
    """The body of a multi (`WRITE_REQUESTS`) or multiRead (`READ_REQUESTS`) request. Raises `WireError`."""
    parts: list[bytes] = []
    for opcode, request in ops:
        cls = allowed.get(opcode)
        if cls is None:
            raise WireError(f"operation {opcode} cannot stand in this multi")
        parts.append(_HEADER.encode(r.MultiHeader(opcode, False, -1)))
        parts.append(codec(cls).encode(request))
    parts.append(_END)
    return b"".join(parts)


def decode_requests(data: bytes, pos: int, end: int, allowed: dict[int, type[Any]]) -> list[MultiOp]:
    """The operations of a multi (`WRITE_REQUESTS`) or multiRead (`READ_REQUESTS`) request. Raises `WireError`."""
    ops: list[MultiOp] = []
    while True:
        header, pos = _HEADER.decode(data, pos, end)
        if header.done:
            return ops
        cls = allowed.get(header.type)
        if cls is None:
            raise WireError(f"operation {header.type} cannot stand in this multi")
        request, pos = codec(cls).decode(data, pos, end)
        ops.append(MultiOp(header.type, request))


def encode_results(results: Sequence[MultiResult]) -> bytes:
    """The body of a multi or multiRead reply. Raises `WireError`."""
    parts: list[bytes] = []
    for kind, err, value in results:
        parts.append(_HEADER.encode(r.MultiHeader(kind, False, err)))
        if kind == Opcode.ERROR:
            parts.append(_ERROR.encode(r.ErrorResponse(err)))
        elif (cls := _result_record(kind)) is not None:
            parts.append(codec(cls).encode(value))
    parts.append(_END)
    return b"".join(parts)


def decode_results(data: bytes, pos: int, end: int) -> tuple[list[MultiResult], int]:
    """The results of a multi or multiRead reply. Raises `WireError`."""
    results: list[MultiResult] = []
    while True:
        header, pos = _HEADER.decode(data, pos, end)
        if header.done:
            return results, pos
        if header.type == Opcode.ERROR:
            error, pos = _ERROR.decode(data, pos, end)
            results.append(MultiResult(header.type, error.err, None))
            continue
        value = None
        if (cls := _result_record(header.type)) is not None:
            value, pos = codec(cls).decode(data, pos, end)
        results.append(MultiResult(header.type, header.err, value))


def _result_record(kind: int) -> type[Any] | None:
    if kind not in _RESULTS:
        raise WireError(f"a multi cannot have a result of type {kind}")
    return _RESULTS[kind]


def _frame(opcode: int, xid: int, body: bytes) -> bytes:
    frame = _REQUEST_HEADER.encode(r.RequestHeader(xid, opcode)) + body
    return LENGTH.pack(len(frame)) + frame


def _multi_frame(xid: int, ops: Sequence[MultiOp]) -> bytes:
    return _frame(Opcode.MULTI, xid, encode_requests(ops, WRITE_REQUESTS))


def _multi_read_frame(xid: int, ops: Sequence[MultiOp]) -> bytes:
    return _frame(Opcode.MULTI_READ, xid, encode_requests(ops, READ_REQUESTS))


MULTI = Operation(Opcode.MULTI, None, None, True, _multi_frame, decode_results)
MULTI_READ = Operation(Opcode.MULTI_READ, None, None, False, _multi_read_frame, decode_results)
OPERATIONS[Opcode.MULTI] = MULTI
OPERATIONS[Opcode.MULTI_READ] = MULTI_READ
