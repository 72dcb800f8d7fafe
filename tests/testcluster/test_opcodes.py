"""Which requests are ordered."""

from __future__ import annotations

import pytest

from terzetto.client.wire import OPERATIONS, Opcode, codec, records as r
from terzetto.testcluster.opcodes import IDENTIFYING, WRITES, is_orderable


def test_what_the_client_takes_for_a_proof_of_the_quorum_is_ordered() -> None:
    proofs = {opcode for opcode, operation in OPERATIONS.items() if operation.quorum_ordered}
    assert proofs == WRITES


def test_no_request_is_of_two_kinds() -> None:
    assert not WRITES & IDENTIFYING
    assert not {Opcode.CREATE_SESSION, Opcode.DELETE_CONTAINER, Opcode.CHECK} & WRITES


@pytest.mark.parametrize(
    ("opcode", "body", "expected"),
    [
        (Opcode.SYNC, codec(r.SyncRequest).encode(r.SyncRequest("/a")), True),
        (Opcode.SYNC, codec(r.SyncRequest).encode(r.SyncRequest(None)), True),
        (Opcode.SYNC, b"\0\0", False),
        (Opcode.RECONFIG, codec(r.ReconfigRequest).encode(r.ReconfigRequest(None, None, None, -1)), True),
        (Opcode.RECONFIG, b"\xff\xff\xff\xff", False),
        (Opcode.CREATE, b"", True),
    ],
)
def test_a_sync_and_a_reconfig_are_decoded_before_they_are_ordered(opcode: int, body: bytes, expected: bool) -> None:
    assert is_orderable(opcode, body) is expected
