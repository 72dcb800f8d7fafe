"""Opcodes, and the records that each one carries in both directions.

One row an operation; whether it is ordered by the quorum is what a proof of ownership rests on, so it stands here
beside the opcode.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from . import records as r
from .compiler import Codec, build_frame_encoder, codec


class Opcode(enum.IntEnum):
    """ZooKeeper's request types, 3.5 to 3.9."""

    NOTIFICATION = 0
    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    RECONFIG = 16
    CHECK_WATCHES = 17
    REMOVE_WATCHES = 18
    CREATE_CONTAINER = 19
    DELETE_CONTAINER = 20
    CREATE_TTL = 21
    MULTI_READ = 22
    AUTH = 100
    SET_WATCHES = 101
    SASL = 102
    GET_EPHEMERALS = 103
    GET_ALL_CHILDREN_NUMBER = 104
    SET_WATCHES2 = 105
    ADD_WATCH = 106
    WHO_AM_I = 107
    CREATE_SESSION = -10
    CLOSE_SESSION = -11
    ERROR = -1


WATCH_XID = -1
PING_XID = -2
AUTH_XID = -4
SET_WATCHES_XID = -8
MAX_XID = 2**31 - 1


class Operation(NamedTuple):
    """One kind of request.

    Attributes:
        opcode: its request type.
        request: record class of the request, `None` for a bare header or a body of its own (multi).
        response: record class of a successful reply, `None` for a bare header or a body of its own.
        quorum_ordered: a successful answer proves that a quorum ordered the request.
        frame: `frame(xid, *fields)` gives the whole request frame.
        decode: (bytes, position, end) to (value, position after it), `None` where a reply has no body.
    """

    opcode: Opcode
    request: type[Any] | None
    response: type[Any] | None
    quorum_ordered: bool
    frame: Callable[..., bytes]
    decode: Callable[[bytes, int, int], tuple[Any, int]] | None

    def __repr__(self) -> str:
        return f"<{self.opcode.name}>"


OPERATIONS: dict[int, Operation] = {}
"""Every operation that a client may send, by opcode; multi and multiRead have their bodies in `multi.py`."""


def _operation(
    opcode: Opcode,
    request: type[Any] | None = None,
    response: type[Any] | None = None,
    *,
    quorum_ordered: bool = False,
) -> Operation:
    decode = None if response is None else codec(response).decode
    row = Operation(opcode, request, response, quorum_ordered, build_frame_encoder(opcode, request), decode)
    OPERATIONS[opcode] = row
    return row


CREATE = _operation(Opcode.CREATE, r.CreateRequest, r.CreateResponse, quorum_ordered=True)
DELETE = _operation(Opcode.DELETE, r.DeleteRequest, quorum_ordered=True)
EXISTS = _operation(Opcode.EXISTS, r.ExistsRequest, r.ExistsResponse)
GET_DATA = _operation(Opcode.GET_DATA, r.GetDataRequest, r.GetDataResponse)
SET_DATA = _operation(Opcode.SET_DATA, r.SetDataRequest, r.SetDataResponse, quorum_ordered=True)
GET_ACL = _operation(Opcode.GET_ACL, r.GetACLRequest, r.GetACLResponse)
SET_ACL = _operation(Opcode.SET_ACL, r.SetACLRequest, r.SetACLResponse, quorum_ordered=True)
GET_CHILDREN = _operation(Opcode.GET_CHILDREN, r.GetChildrenRequest, r.GetChildrenResponse)
SYNC = _operation(Opcode.SYNC, r.SyncRequest, r.SyncResponse)
PING = _operation(Opcode.PING)
GET_CHILDREN2 = _operation(Opcode.GET_CHILDREN2, r.GetChildren2Request, r.GetChildren2Response)
CREATE2 = _operation(Opcode.CREATE2, r.CreateRequest, r.Create2Response, quorum_ordered=True)
RECONFIG = _operation(Opcode.RECONFIG, r.ReconfigRequest, r.GetDataResponse, quorum_ordered=True)
CHECK_WATCHES = _operation(Opcode.CHECK_WATCHES, r.CheckWatchesRequest)
REMOVE_WATCHES = _operation(Opcode.REMOVE_WATCHES, r.RemoveWatchesRequest)
CREATE_CONTAINER = _operation(Opcode.CREATE_CONTAINER, r.CreateRequest, r.Create2Response, quorum_ordered=True)
CREATE_TTL = _operation(Opcode.CREATE_TTL, r.CreateTTLRequest, r.Create2Response, quorum_ordered=True)
AUTH = _operation(Opcode.AUTH, r.AuthPacket)
SET_WATCHES = _operation(Opcode.SET_WATCHES, r.SetWatches)
SASL = _operation(Opcode.SASL, r.GetSASLRequest, r.SetSASLResponse)
GET_EPHEMERALS = _operation(Opcode.GET_EPHEMERALS, r.GetEphemeralsRequest, r.GetEphemeralsResponse)
GET_ALL_CHILDREN_NUMBER = _operation(
    Opcode.GET_ALL_CHILDREN_NUMBER, r.GetAllChildrenNumberRequest, r.GetAllChildrenNumberResponse
)
SET_WATCHES2 = _operation(Opcode.SET_WATCHES2, r.SetWatches2)
ADD_WATCH = _operation(Opcode.ADD_WATCH, r.AddWatchRequest, r.ErrorResponse)
WHO_AM_I = _operation(Opcode.WHO_AM_I, None, r.WhoAmIResponse)
CLOSE_SESSION = _operation(Opcode.CLOSE_SESSION, quorum_ordered=True)

RECORDS: dict[str, Codec[Any]] = {
    name: codec(cls)
    for name, cls in vars(r).items()
    if getattr(cls, "__module__", None) == r.__name__ and hasattr(cls, "_fields")
}
"""Codecs of all records by name, for tools and tests."""
