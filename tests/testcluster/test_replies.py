"""Frames that a server sends, pinned to bytes captured from Apache ZooKeeper 3.8.0."""

from __future__ import annotations

import pytest

from terzetto.client.errors import WireError
from terzetto.client.wire import Opcode, operations as o
from terzetto.testcluster.connection import Request
from terzetto.testcluster.datatree import CHANGED, DataTree
from terzetto.testcluster.replies import (
    connect_response,
    header_reply,
    refused_connect,
    reply,
    reply_with_error,
    watch_event,
    write_reply,
)
from terzetto.testcluster.txns import MultiTxn, Txn, TxnHeader

from .port import Port, create, multi_frame


def test_a_ping_s_answer() -> None:
    assert header_reply(-2, 5, 0).hex() == "00000010fffffffe000000000000000500000000"


def test_an_event_as_releases_up_to_3_8_send_it() -> None:
    captured = "ffffffffffffffffffffffff000000000000000300000003000000022f77"
    assert watch_event(CHANGED, "/w", -1).hex() == "0000001e" + captured


def test_the_error_that_has_a_body() -> None:
    assert reply_with_error(1, 2, -5, b"xy").hex() == "00000012000000010000000000000002fffffffb7879"
    assert reply(1, 2, b"xy").hex() == "00000012000000010000000000000002000000007879"


@pytest.mark.parametrize(("read_only", "size"), [(None, 36), (False, 37), (True, 37)])
def test_the_byte_for_read_only_is_sent_to_those_who_sent_it(read_only: bool | None, size: int) -> None:
    frame = connect_response(timeout_ms=4000, session_id=7, password=bytes(range(16)), read_only=read_only)
    assert len(frame) == 4 + size
    assert frame[:24].hex() == f"{size:08x}0000000000000fa0000000000000000700000010"
    assert frame[24:40] == bytes(range(16))
    assert frame[40:] == (b"" if read_only is None else bytes([read_only]))


def test_a_session_that_is_over_is_answered_with_zeros() -> None:
    assert refused_connect(has_read_only=False, read_only=False) == b"\0\0\0\x24" + bytes(16) + b"\0\0\0\x10" + bytes(
        16
    )
    assert refused_connect(has_read_only=True, read_only=True)[-1] == 1


def test_a_multi_answered_with_another_number_of_results_is_a_bug() -> None:
    tree = DataTree()
    tree.results = []
    body = multi_frame(1, (1, create("/a")))[12:]
    txn = Txn(TxnHeader(1, 1, 1, 1, Opcode.MULTI), MultiTxn([]), None)
    with pytest.raises(WireError, match="another number of operations"):
        write_reply(Request(1, 1, Opcode.MULTI, body), txn, 0, tree)


def test_a_create2_in_a_multi_is_answered_as_one() -> None:
    """Releases before 3.7.2 and 3.8.2 forget the Stat."""
    peer = Port().connect()
    results = peer.multi((1, create("/a")), (15, create("/b")), (19, create("/c", flags=4)), (19, create("/d")))
    assert [(result.type, type(result.value).__name__) for result in results] == [
        (1, "CreateResponse"),
        (15, "Create2Response"),
        (15, "Create2Response"),
        (1, "CreateResponse"),
    ]
    assert results[1].value.stat == peer.ok(o.EXISTS, "/b", False).stat
