"""How the server deals with each kind of request: what is ordered, what says who a client is.

A table of opcodes. What each one does stands where it is done.
"""

from __future__ import annotations

from terzetto.client.errors import WireError
from terzetto.client.wire import codec, records as r
from terzetto.client.wire.operations import Opcode

WRITES = frozenset(
    {
        Opcode.CREATE,
        Opcode.DELETE,
        Opcode.SET_DATA,
        Opcode.SET_ACL,
        Opcode.MULTI,
        Opcode.CREATE2,
        Opcode.RECONFIG,
        Opcode.CREATE_CONTAINER,
        Opcode.CREATE_TTL,
        Opcode.CLOSE_SESSION,
    }
)
"""What a client may ask to be ordered: not the servers' own requests (20, -10), and a check (13) only in a multi."""

IDENTIFYING = frozenset({Opcode.AUTH, Opcode.SASL})
"""What a client may send before it has said who it is, and what does not keep its session alive."""

_decode_sync = codec(r.SyncRequest).decode
_decode_reconfig = codec(r.ReconfigRequest).decode


def is_orderable(opcode: int, body: bytes) -> bool:
    """Whether a write or sync gets as far as its order: ZooKeeper decodes these two before it gives them a zxid."""
    try:
        if opcode == Opcode.SYNC:
            _decode_sync(body, 0, len(body))
        elif opcode == Opcode.RECONFIG:
            _decode_reconfig(body, 0, len(body))
    except WireError:
        return False
    return True
