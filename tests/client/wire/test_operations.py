"""Operations: every request's frame, every reply's reader, and which answers prove that a quorum was asked."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import WireError
from terzetto.client.wire import OPERATIONS, FrameBuffer, Opcode, Operation, codec, records as r
from terzetto.client.wire.multi import MULTI, MULTI_READ
from terzetto.client.wire.operations import AUTH, AUTH_XID, GET_DATA, MAX_XID, PING, PING_XID, SASL, WHO_AM_I
from terzetto.client.wire.primitives import LENGTH

from ...vectors import jute
from .strategies import INTS, PATIENT, instances, plainly_encoded

ROWS = [row for row in OPERATIONS.values() if row not in (MULTI, MULTI_READ)]
WRITES = {
    *(Opcode.CREATE, Opcode.CREATE2, Opcode.CREATE_CONTAINER, Opcode.CREATE_TTL, Opcode.DELETE),
    *(Opcode.SET_DATA, Opcode.SET_ACL, Opcode.MULTI, Opcode.RECONFIG, Opcode.CLOSE_SESSION),
}


@pytest.mark.parametrize("operation", ROWS, ids=lambda row: row.opcode.name)
@PATIENT
@given(data=st.data(), xid=INTS)
def test_a_request_frame_is_length_header_and_record(operation: Operation, data: st.DataObject, xid: int) -> None:
    request = () if operation.request is None else data.draw(instances(operation.request))
    frame = operation.frame(xid, *request)
    expected = jute.encode("RequestHeader", {"xid": xid, "type": int(operation.opcode)})
    if operation.request is not None:
        expected += plainly_encoded(request)
    assert frame == LENGTH.pack(len(expected)) + expected
    ((buffer, start, end),) = FrameBuffer(len(expected)).frames(frame)
    header, position = codec(r.RequestHeader).decode(buffer, start, end)
    assert header == (xid, operation.opcode)
    if operation.request is not None:
        assert codec(operation.request).decode(buffer, position, end) == (request, end)


@pytest.mark.parametrize("operation", [row for row in ROWS if row.response], ids=lambda row: row.opcode.name)
@PATIENT
@given(data=st.data())
def test_a_reply_is_read(operation: Operation, data: st.DataObject) -> None:
    assert operation.response is not None
    assert operation.decode is not None
    reply = data.draw(instances(operation.response))
    encoded = plainly_encoded(reply)
    assert operation.decode(encoded, 0, len(encoded)) == (reply, len(encoded))


def test_all_that_a_client_may_send_is_there_and_nothing_else() -> None:
    # check alone is never answered by 3.8.0; it travels inside multi.
    assert set(OPERATIONS) == set(jute.OPERATIONS) - {13}
    assert {opcode: row.opcode for opcode, row in OPERATIONS.items()} == {code: Opcode(code) for code in OPERATIONS}


@pytest.mark.parametrize("opcode", [code for code in OPERATIONS if code not in (14, 22)])
def test_records_are_zookeepers(opcode: int) -> None:
    row, expected = OPERATIONS[opcode], jute.OPERATIONS[opcode]
    names = [None if cls is None else cls.__name__ for cls in (row.request, row.response)]
    assert names == [expected.request, expected.response]
    assert (row.decode is None) == (expected.response is None)


def test_only_transactions_prove_that_a_quorum_was_asked() -> None:
    # sync goes through the leader, but no quorum confirms it; reads, pings and credentials are the server's own affair.
    assert {row.opcode for row in OPERATIONS.values() if row.quorum_ordered} == WRITES


def test_xids() -> None:
    assert (PING_XID, AUTH_XID, MAX_XID) == (-2, -4, 2147483647)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (PING.frame(-2), "00000008 fffffffe 0000000b"),
        (OPERATIONS[3].frame(1, "/", True), "0000000e 00000001 00000003 00000001 2f 01"),
        (OPERATIONS[-11].frame(6), "00000008 00000006 fffffff5"),
        (
            AUTH.frame(-4, 0, "digest", b"x:y"),
            "0000001d fffffffc 00000064 00000000 00000006 646967657374 00000003 783a79",
        ),
        (SASL.frame(1, b""), "0000000c 00000001 00000066 00000000"),
        (MULTI.frame(3, ()), "00000011 00000003 0000000e ffffffff 01 ffffffff"),
        (WHO_AM_I.frame(2), "00000008 00000002 0000006b"),
    ],
)
def test_frames_that_were_seen_on_the_wire(frame: bytes, expected: str) -> None:
    assert frame == bytes.fromhex(expected)


@pytest.mark.parametrize("xid", [2**31, -(2**31) - 1, None, "1"])
@pytest.mark.parametrize("operation", [PING, GET_DATA, MULTI, MULTI_READ], ids=repr)
def test_an_impossible_xid_is_refused(operation: Operation, xid: object) -> None:
    fields: tuple[object, ...] = {PING: (), GET_DATA: ("/", False)}.get(operation, ((),))
    with pytest.raises(WireError, match="cannot encode"):
        operation.frame(xid, *fields)


def test_an_operation_shows_its_name() -> None:
    assert repr(GET_DATA) == "<GET_DATA>"
    assert repr(MULTI) == "<MULTI>"
