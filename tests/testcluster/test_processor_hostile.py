"""Hostile bytes: whatever comes, the other clients are served and nothing is left behind."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import given, settings, strategies as st

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import OPERATIONS
from terzetto.testcluster.datatree import DataTree

from .port import Port, framed


def _framed_request(xid: int, opcode: int, body: bytes) -> bytes:
    return framed(struct.pack(">ii", xid, opcode) + body)


_request = st.builds(
    _framed_request,
    st.integers(-5, 5),
    st.sampled_from([*OPERATIONS, 13, 20, -10, 77]),
    st.binary(max_size=60),
)
_chunks = st.lists(_request | st.binary(max_size=20), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(_chunks, st.booleans())
def test_any_bytes_leave_the_server_serving(chunks: list[bytes], greeted: bool) -> None:
    port = Port(extended_types=True)
    witness = port.connect()
    peer = port.connect() if greeted else port.open()
    for chunk in chunks:
        peer.send(chunk)
    assert witness.create("/witness") == "/witness"
    assert port.machine.outstanding == 0
    assert port.tree.digest_mismatches == 0
    peer.hang_up()
    assert port.machine.watches.total == 0


_fields = st.tuples(
    st.sampled_from([None, "", "/", "/a", "/a/b", "/a//b", "/zookeeper/quota/a/zookeeper_stats", "/a\0", "\ud7ff"]),
    st.none() | st.binary(max_size=20),
    st.integers(-2, 7),
    st.integers(-(2**63), 2**63 - 1),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2, 5, 7, 15, 19, 21, 3, 4, 6, 8, 12]), _fields), max_size=12), st.data())
def test_requests_cut_and_flipped_anywhere(requests: list[Any], data: st.DataObject) -> None:
    port = Port(extended_types=True)
    peer = port.connect()
    acl = OPEN_ACL_UNSAFE
    for opcode, (path, content, number, ttl) in requests:
        fields: dict[int, tuple[Any, ...]] = {
            1: (path, content, acl, number),
            15: (path, content, acl, number),
            19: (path, content, acl, number),
            21: (path, content, acl, number, ttl),
            2: (path, number),
            5: (path, content, number),
            7: (path, acl, number),
            6: (path,),
        }
        frame = bytearray(OPERATIONS[opcode].frame(1, *fields.get(opcode, (path, number % 2 == 0))))
        if data.draw(st.booleans()):
            position = data.draw(st.integers(12, len(frame) - 1))
            frame[position] ^= data.draw(st.integers(1, 255))
        end = data.draw(st.integers(12, len(frame))) if data.draw(st.booleans()) else len(frame)
        peer.send(framed(bytes(frame[4:end])))
        assert len(peer.replies()) == 1
    assert port.tree.digest_mismatches == 0
    reloaded = DataTree()
    reloaded.load(port.tree.last_zxid, [], port.tree.acls.dump(), port.tree.walk())
    assert reloaded.digest == port.tree.digest
