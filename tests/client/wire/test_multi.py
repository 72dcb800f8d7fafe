"""multi and multiRead: requests and results survive the wire, and nothing is in one that ZooKeeper does not let in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import WireError
from terzetto.client.values import OPEN_ACL_UNSAFE, ZnodeStat
from terzetto.client.wire import OPERATIONS, FrameBuffer, Opcode, codec, records as r
from terzetto.client.wire.multi import (
    MULTI,
    MULTI_READ,
    READ_REQUESTS,
    WRITE_REQUESTS,
    MultiOp,
    MultiResult,
    decode_requests,
    decode_results,
    encode_requests,
    encode_results,
)

from ...vectors import jute
from .strategies import INTS, MULTI_READS, MULTIS, PATIENT, RESULTS, plainly_encoded

END = bytes.fromhex("ffffffff 01 ffffffff")
STAT = ZnodeStat(*range(11))


def _header(kind: int, done: bool = False, err: int = 0) -> bytes:
    return jute.encode("MultiHeader", {"type": kind, "done": done, "err": err})


@PATIENT
@given(ops=MULTIS, xid=INTS)
def test_a_multi_survives_the_wire(ops: list[MultiOp], xid: int) -> None:
    _requests_survive(MULTI.frame(xid, ops), xid, 14, ops, WRITE_REQUESTS)


@PATIENT
@given(ops=MULTI_READS, xid=INTS)
def test_a_multi_read_survives_the_wire(ops: list[MultiOp], xid: int) -> None:
    _requests_survive(MULTI_READ.frame(xid, ops), xid, 22, ops, READ_REQUESTS)


def _requests_survive(frame: bytes, xid: int, opcode: int, ops: list[MultiOp], allowed: dict[int, Any]) -> None:
    ((buffer, start, end),) = FrameBuffer(1 << 20).frames(frame)
    header, start = codec(r.RequestHeader).decode(buffer, start, end)
    assert header == (xid, opcode)
    assert decode_requests(buffer, start, end, allowed) == ops
    plain = b"".join(_header(op.opcode, err=-1) + plainly_encoded(op.request) for op in ops) + END
    assert frame[start:] == plain


@PATIENT
@given(results=RESULTS)
def test_results_survive_the_wire(results: list[MultiResult]) -> None:
    encoded = encode_results(results)
    for operation in (MULTI, MULTI_READ):
        assert operation.decode is not None
        assert operation.decode(b"x" + encoded + b"y", 1, 1 + len(encoded)) == (results, 1 + len(encoded))
    plain = [
        _header(kind, err=err) + (jute.encode("ErrorResponse", {"err": err}) if kind == -1 else _body(value))
        for kind, err, value in results
    ]
    assert encoded == b"".join(plain) + END


def _body(value: Any) -> bytes:
    return b"" if value is None else plainly_encoded(value)


@PATIENT
@given(ops=MULTIS, results=RESULTS, data=st.data())
def test_every_truncation_is_a_wire_error(ops: list[MultiOp], results: list[MultiResult], data: st.DataObject) -> None:
    asked, told = encode_requests(ops, WRITE_REQUESTS), encode_results(results)
    cut = data.draw(st.integers(0, len(asked) - 1))
    with pytest.raises(WireError):
        decode_requests(asked, 0, cut, WRITE_REQUESTS)
    cut = data.draw(st.integers(0, len(told) - 1))
    with pytest.raises(WireError):
        decode_results(told, 0, cut)


def test_the_operations_that_each_container_holds() -> None:
    assert {Opcode(code).name for code in WRITE_REQUESTS} == {
        *("CREATE", "CREATE2", "CREATE_CONTAINER", "CREATE_TTL", "DELETE", "SET_DATA", "CHECK")
    }
    assert {Opcode(code).name for code in READ_REQUESTS} == {"GET_DATA", "GET_CHILDREN"}
    for code, cls in {**WRITE_REQUESTS, **READ_REQUESTS}.items():
        assert cls.__name__ == jute.OPERATIONS[code].request
    assert OPERATIONS[14] is MULTI
    assert OPERATIONS[22] is MULTI_READ


NOT_FOR_MULTI = [
    MultiOp(Opcode.GET_DATA, r.GetDataRequest("/", False)),
    MultiOp(Opcode.SET_ACL, r.SetACLRequest("/", OPEN_ACL_UNSAFE, -1)),
    MultiOp(Opcode.EXISTS, r.ExistsRequest("/", False)),
    MultiOp(Opcode.SYNC, r.SyncRequest("/")),
    MultiOp(-1, r.ErrorResponse(-101)),
    MultiOp(77, ()),
]


@pytest.mark.parametrize("op", NOT_FOR_MULTI, ids=lambda op: str(op.opcode))
def test_what_a_multi_may_not_hold_is_refused_in_both_directions(op: MultiOp) -> None:
    # 3.8.0 answers the whole request with -5 (setACL, and reads among writes, were tried).
    with pytest.raises(WireError, match=f"operation {int(op.opcode)} cannot stand in this multi"):
        MULTI.frame(1, [op])
    with pytest.raises(WireError, match=f"operation {int(op.opcode)} cannot stand in this multi"):
        decode_requests(_header(op.opcode, err=-1) + END, 0, 18, WRITE_REQUESTS)


def test_a_multi_read_holds_no_write() -> None:
    with pytest.raises(WireError, match="operation 2 cannot stand in this multi"):
        MULTI_READ.frame(1, [MultiOp(Opcode.DELETE, r.DeleteRequest("/a", -1))])
    with pytest.raises(WireError, match="operation 2 cannot stand in this multi"):
        decode_requests(_header(2) + END, 0, 18, READ_REQUESTS)


def test_the_end_is_the_done_flag_alone() -> None:
    # The reader of 3.8.0 looks at nothing else.
    for kind, err in ((-1, -1), (0, 0), (14, 7)):
        end = _header(kind, done=True, err=err)
        assert decode_requests(end + b"behind", 0, 15, WRITE_REQUESTS) == []
        assert decode_results(end + b"behind", 0, 15) == ([], 9)


def test_create2_is_answered_with_or_without_stat() -> None:
    # Releases before 3.7.2 and 3.8.2 answer a create2 with a result of type 1.
    old = _header(1) + jute.encode("CreateResponse", {"path": "/a"}) + END
    assert decode_results(old, 0, len(old))[0] == [MultiResult(1, 0, r.CreateResponse("/a"))]
    new = _header(15) + jute.encode("Create2Response", {"path": "/a", "stat": list(STAT)}) + END
    assert decode_results(new, 0, len(new))[0] == [MultiResult(15, 0, r.Create2Response("/a", STAT))]


def test_a_failed_multi_tells_each_slots_code() -> None:
    slots = [0, 0, -101, -2, -2]
    told = b"".join(_header(-1, err=code) + jute.encode("ErrorResponse", {"err": code}) for code in slots) + END
    results, position = decode_results(told, 0, len(told))
    assert [result.err for result in results] == slots
    assert {(result.type, result.value) for result in results} == {(-1, None)}
    assert position == len(told)


@pytest.mark.parametrize("kind", [0, 3, 7, 14, 19, 21, -10, 2**31 - 1])
def test_a_result_of_another_type_is_refused_in_both_directions(kind: int) -> None:
    with pytest.raises(WireError, match=f"a multi cannot have a result of type {kind}"):
        decode_results(_header(kind) + END, 0, 18)
    with pytest.raises(WireError, match=f"a multi cannot have a result of type {kind}"):
        encode_results([MultiResult(kind, 0, None)])


def test_a_result_without_its_record_is_refused() -> None:
    with pytest.raises(WireError, match="cannot encode SetDataResponse"):
        encode_results([MultiResult(Opcode.SET_DATA, 0, None)])


def test_a_body_without_an_end_is_refused() -> None:
    for data in (b"", _header(13) + plainly_encoded(r.CheckVersionRequest("/", 0))):
        with pytest.raises(WireError, match="MultiHeader"):
            decode_requests(data, 0, len(data), WRITE_REQUESTS)
    with pytest.raises(WireError, match="MultiHeader"):
        decode_results(_header(13), 0, 9)
