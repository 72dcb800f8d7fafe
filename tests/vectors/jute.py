"""A second, plain reading of ZooKeeper's records, for the capture alone.

Decides the names and values under which captured frames are written down. It shares nothing with terzetto's codec, so
that the vectors cannot repeat a mistake of the codec they are to test; speed and bad input are not its business.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

Value = Any

_FIXED = {"bool": ">?", "int": ">i", "long": ">q"}
_STAT = struct.Struct(">qqqqiiiqiiq")

# name: fields in wire order; `?` marks one that old peers leave out at the end.
RECORDS: dict[str, str] = {
    "ConnectRequest": "protocol_version:int last_zxid_seen:long time_out:int session_id:long passwd:buffer "
    "read_only:bool?",
    "ConnectResponse": "protocol_version:int time_out:int session_id:long passwd:buffer read_only:bool?",
    "RequestHeader": "xid:int type:int",
    "ReplyHeader": "xid:int zxid:long err:int",
    "MultiHeader": "type:int done:bool err:int",
    "CreateRequest": "path:string data:buffer acl:[acl] flags:int",
    "CreateTTLRequest": "path:string data:buffer acl:[acl] flags:int ttl:long",
    "CreateResponse": "path:string",
    "Create2Response": "path:string stat:stat",
    "DeleteRequest": "path:string version:int",
    "ExistsRequest": "path:string watch:bool",
    "ExistsResponse": "stat:stat",
    "GetDataRequest": "path:string watch:bool",
    "GetDataResponse": "data:buffer stat:stat",
    "SetDataRequest": "path:string data:buffer version:int",
    "SetDataResponse": "stat:stat",
    "GetACLRequest": "path:string",
    "GetACLResponse": "acl:[acl] stat:stat",
    "SetACLRequest": "path:string acl:[acl] version:int",
    "SetACLResponse": "stat:stat",
    "GetChildrenRequest": "path:string watch:bool",
    "GetChildrenResponse": "children:[string]",
    "GetChildren2Request": "path:string watch:bool",
    "GetChildren2Response": "children:[string] stat:stat",
    "SyncRequest": "path:string",
    "SyncResponse": "path:string",
    "CheckVersionRequest": "path:string version:int",
    "ReconfigRequest": "joining_servers:string leaving_servers:string new_members:string cur_config_id:long",
    "CheckWatchesRequest": "path:string type:int",
    "RemoveWatchesRequest": "path:string type:int",
    "AuthPacket": "type:int scheme:string auth:buffer",
    "SetWatches": "relative_zxid:long data_watches:[string] exist_watches:[string] child_watches:[string]",
    "SetWatches2": "relative_zxid:long data_watches:[string] exist_watches:[string] child_watches:[string] "
    "persistent_watches:[string] persistent_recursive_watches:[string]",
    "GetSASLRequest": "token:buffer",
    "SetSASLResponse": "token:buffer",
    "GetEphemeralsRequest": "prefix_path:string",
    "GetEphemeralsResponse": "ephemerals:[string]",
    "GetAllChildrenNumberRequest": "path:string",
    "GetAllChildrenNumberResponse": "total_number:int",
    "AddWatchRequest": "path:string mode:int",
    "ErrorResponse": "err:int",
    "WhoAmIResponse": "client_info:[client_info]",
    "WatcherEvent": "type:int state:int path:string",
}


class Operation(NamedTuple):
    """What an opcode is called and which records it takes and answers."""

    name: str
    request: str | None
    response: str | None


OPERATIONS: dict[int, Operation] = {
    1: Operation("create", "CreateRequest", "CreateResponse"),
    2: Operation("delete", "DeleteRequest", None),
    3: Operation("exists", "ExistsRequest", "ExistsResponse"),
    4: Operation("getData", "GetDataRequest", "GetDataResponse"),
    5: Operation("setData", "SetDataRequest", "SetDataResponse"),
    6: Operation("getACL", "GetACLRequest", "GetACLResponse"),
    7: Operation("setACL", "SetACLRequest", "SetACLResponse"),
    8: Operation("getChildren", "GetChildrenRequest", "GetChildrenResponse"),
    9: Operation("sync", "SyncRequest", "SyncResponse"),
    11: Operation("ping", None, None),
    12: Operation("getChildren2", "GetChildren2Request", "GetChildren2Response"),
    13: Operation("check", "CheckVersionRequest", None),
    14: Operation("multi", "Multi", "MultiResponse"),
    15: Operation("create2", "CreateRequest", "Create2Response"),
    16: Operation("reconfig", "ReconfigRequest", "GetDataResponse"),
    17: Operation("checkWatches", "CheckWatchesRequest", None),
    18: Operation("removeWatches", "RemoveWatchesRequest", None),
    19: Operation("createContainer", "CreateRequest", "Create2Response"),
    21: Operation("createTTL", "CreateTTLRequest", "Create2Response"),
    22: Operation("multiRead", "Multi", "MultiResponse"),
    100: Operation("auth", "AuthPacket", None),
    101: Operation("setWatches", "SetWatches", None),
    102: Operation("sasl", "GetSASLRequest", "SetSASLResponse"),
    103: Operation("getEphemerals", "GetEphemeralsRequest", "GetEphemeralsResponse"),
    104: Operation("getAllChildrenNumber", "GetAllChildrenNumberRequest", "GetAllChildrenNumberResponse"),
    105: Operation("setWatches2", "SetWatches2", None),
    106: Operation("addWatch", "AddWatchRequest", "ErrorResponse"),
    107: Operation("whoAmI", None, "WhoAmIResponse"),
    -11: Operation("closeSession", None, None),
}


class Malformed(Exception):
    """The bytes are not the record."""


def encode(record: str, value: Value) -> bytes:
    """The bytes of a record; `Multi` and `MultiResponse` are lists of operations, ended by their terminator."""
    if record in ("Multi", "MultiResponse"):
        return b"".join(_encode_operation(operation) for operation in value["operations"])
    pieces: list[bytes] = []
    for name, kind, optional in _fields(record):
        if not (optional and name not in value):
            pieces.append(_write(kind, value[name]))
    return b"".join(pieces)


def decode(record: str, body: bytes, offset: int = 0) -> tuple[Value, int]:
    """A record's values and where it ended.

    Raises:
        Malformed: the bytes end early, or a length is impossible.
    """
    if record in ("Multi", "MultiResponse"):
        return _decode_operations(record, body, offset)
    value: dict[str, Any] = {}
    for name, kind, optional in _fields(record):
        if not (optional and offset == len(body)):
            value[name], offset = _read(kind, body, offset)
    return value, offset


def _fields(record: str) -> list[tuple[str, str, bool]]:
    fields: list[tuple[str, str, bool]] = []
    for field in RECORDS[record].split():
        name, _, kind = field.partition(":")
        fields.append((name, kind.removesuffix("?"), kind.endswith("?")))
    return fields


def _write(kind: str, value: Value) -> bytes:
    if kind in _FIXED:
        return struct.pack(_FIXED[kind], value)
    if kind == "stat":
        return _STAT.pack(*value)
    if kind == "acl":
        perms, scheme, identity = value
        return struct.pack(">i", perms) + _write("string", scheme) + _write("string", identity)
    if kind == "client_info":
        return b"".join(_write("string", text) for text in value)
    if value is None:
        return struct.pack(">i", -1)
    if kind.startswith("["):
        return struct.pack(">i", len(value)) + b"".join(_write(kind[1:-1], item) for item in value)
    octets: bytes = value.encode() if kind == "string" else value
    return struct.pack(">i", len(octets)) + octets


def _read(kind: str, body: bytes, offset: int) -> tuple[Value, int]:
    if kind in _FIXED:
        (value,) = _unpack(_FIXED[kind], body, offset)
        return value, offset + struct.calcsize(_FIXED[kind])
    if kind == "stat":
        return list(_unpack(_STAT.format, body, offset)), offset + _STAT.size
    if kind == "acl":
        (perms,) = _unpack(">i", body, offset)
        scheme, offset = _read("string", body, offset + 4)
        identity, offset = _read("string", body, offset)
        return [perms, scheme, identity], offset
    if kind == "client_info":
        scheme, offset = _read("string", body, offset)
        user, offset = _read("string", body, offset)
        return [scheme, user], offset
    (length,) = _unpack(">i", body, offset)
    offset += 4
    if length == -1:
        return None, offset
    if length < 0 or length > len(body) - offset:
        raise Malformed(f"length {length} at {offset - 4}")
    if kind.startswith("["):
        items: list[Value] = []
        for _ in range(length):
            item, offset = _read(kind[1:-1], body, offset)
            items.append(item)
        return items, offset
    octets = body[offset : offset + length]
    return (octets.decode() if kind == "string" else octets), offset + length


def _unpack(form: str, body: bytes, offset: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(form, body, offset)
    except struct.error as error:
        raise Malformed(str(error)) from None


def _operation_record(kind: int, response: bool) -> str | None:
    if kind == -1:
        # In a request only the terminator has it.
        return "ErrorResponse" if response else None
    operation = OPERATIONS[kind]
    return operation.response if response else operation.request


def _encode_operation(operation: Value) -> bytes:
    head = encode("MultiHeader", operation)
    return head if operation["record"] is None else head + encode(operation["record"], operation["value"])


def _decode_operations(record: str, body: bytes, offset: int) -> tuple[Value, int]:
    operations: list[Value] = []
    while not (operations and operations[-1]["done"]):
        operation, offset = decode("MultiHeader", body, offset)
        operation |= {"record": None, "value": None}
        if not operation["done"]:
            operation["record"] = _operation_record(operation["type"], record == "MultiResponse")
            if operation["record"] is not None:
                operation["value"], offset = decode(operation["record"], body, offset)
        operations.append(operation)
    return {"operations": operations}, offset
