"""Every record of the client port, declared once, with zookeeper.jute's names (fields Pythonised).

Declarations only: `compiler.py` derives the codecs, `operations.py` says which records an opcode carries, `multi.py`
knows how several operations share a frame. Fields that a hostile or careless client may send as null are declared
nullable in requests, so that a server can answer as ZooKeeper does.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from ..values import ACL, ClientInfo, Id, ZnodeStat
from .compiler import declare
from .primitives import OPT_VECTOR, VECTOR, Bool, Buffer, Int, Long, OptStr, Str

# The scheme `auth` carries an id that says nothing, which kazoo sends as null; the server accepts that.
declare(Id, scheme=OptStr, id=OptStr)
declare(ACL, perms=Int, id=Id)
declare(ClientInfo, auth_scheme=Str, user=Str)
declare(
    ZnodeStat,
    czxid=Long,
    mzxid=Long,
    ctime=Long,
    mtime=Long,
    version=Int,
    cversion=Int,
    aversion=Int,
    ephemeralOwner=Long,
    dataLength=Int,
    numChildren=Int,
    pzxid=Long,
)

Paths = Annotated[list[str], VECTOR]
OptPaths = Annotated[list[str] | None, OPT_VECTOR]
OptAcl = Annotated[list[ACL] | None, OPT_VECTOR]


class RequestHeader(NamedTuple):
    """Stands before every request but the first."""

    xid: Int
    type: Int


class ReplyHeader(NamedTuple):
    """Stands before every reply but the first."""

    xid: Int
    zxid: Long
    err: Int


class ConnectRequest(NamedTuple):
    """First frame of a client. Releases up to 3.3 end it before `read_only`."""

    protocol_version: Int
    last_zxid_seen: Long
    timeout: Int
    session_id: Long
    passwd: Buffer
    read_only: Bool


class ShortConnectRequest(NamedTuple):
    """ConnectRequest as clients up to 3.3 send it."""

    protocol_version: Int
    last_zxid_seen: Long
    timeout: Int
    session_id: Long
    passwd: Buffer


class ConnectResponse(NamedTuple):
    """First frame of a server to a client that sent the `read_only` byte."""

    protocol_version: Int
    timeout: Int
    session_id: Long
    passwd: Buffer
    read_only: Bool


class ShortConnectResponse(NamedTuple):
    """ConnectResponse to a client that did not send the `read_only` byte."""

    protocol_version: Int
    timeout: Int
    session_id: Long
    passwd: Buffer


class CreateRequest(NamedTuple):
    """Of create, create2 and createContainer. `flags` is a `CreateMode`."""

    path: OptStr
    data: Buffer
    acl: OptAcl
    flags: Int


class CreateTTLRequest(NamedTuple):
    """Of createTTL. `ttl` in milliseconds."""

    path: OptStr
    data: Buffer
    acl: OptAcl
    flags: Int
    ttl: Long


class CreateResponse(NamedTuple):
    """The path with its sequence number."""

    path: Str


class Create2Response(NamedTuple):
    """The path with its sequence number, and the new znode's Stat."""

    path: Str
    stat: ZnodeStat


class DeleteRequest(NamedTuple):
    """`version` -1 deletes whatever the version is."""

    path: OptStr
    version: Int


class ExistsRequest(NamedTuple):
    """A read that may leave a data watch, also on a missing znode."""

    path: OptStr
    watch: Bool


class GetDataRequest(NamedTuple):
    """A read that may leave a data watch."""

    path: OptStr
    watch: Bool


class GetChildrenRequest(NamedTuple):
    """A read that may leave a child watch."""

    path: OptStr
    watch: Bool


class GetChildren2Request(NamedTuple):
    """A read that may leave a child watch."""

    path: OptStr
    watch: Bool


class ExistsResponse(NamedTuple):
    """Stat of a znode that exists."""

    stat: ZnodeStat


class GetDataResponse(NamedTuple):
    """Data, `None` where the znode holds null, and Stat."""

    data: Buffer
    stat: ZnodeStat


class GetChildrenResponse(NamedTuple):
    """Names, in no order."""

    children: Paths


class GetChildren2Response(NamedTuple):
    """Names, in no order, and the parent's Stat."""

    children: Paths
    stat: ZnodeStat


class SetDataRequest(NamedTuple):
    """`version` -1 writes whatever the version is."""

    path: OptStr
    data: Buffer
    version: Int


class SetDataResponse(NamedTuple):
    """Stat after the change."""

    stat: ZnodeStat


class GetACLRequest(NamedTuple):
    """Reads an ACL."""

    path: OptStr


class GetACLResponse(NamedTuple):
    """ACL and Stat; digests are hidden from those without ADMIN."""

    acl: Annotated[list[ACL], VECTOR]
    stat: ZnodeStat


class SetACLRequest(NamedTuple):
    """`version` is compared with the Stat's aversion."""

    path: OptStr
    acl: OptAcl
    version: Int


class SetACLResponse(NamedTuple):
    """Stat after the change."""

    stat: ZnodeStat


class SyncRequest(NamedTuple):
    """Any path, it is only echoed."""

    path: OptStr


class SyncResponse(NamedTuple):
    """The request's path."""

    path: OptStr


class GetAllChildrenNumberRequest(NamedTuple):
    """Counts all descendants."""

    path: OptStr


class GetAllChildrenNumberResponse(NamedTuple):
    """Number of descendants."""

    total_number: Int


class GetEphemeralsRequest(NamedTuple):
    """Ephemerals of the own session whose path starts with the prefix, as plain text."""

    prefix_path: OptStr


class GetEphemeralsResponse(NamedTuple):
    """Paths, in no order."""

    ephemerals: Paths


class CheckVersionRequest(NamedTuple):
    """Only inside a multi."""

    path: OptStr
    version: Int


class CheckWatchesRequest(NamedTuple):
    """Asks whether a watch is there. `type` is a `WatcherType`."""

    path: OptStr
    type: Int


class RemoveWatchesRequest(NamedTuple):
    """`type` is a `WatcherType`."""

    path: OptStr
    type: Int


class AddWatchRequest(NamedTuple):
    """`mode` is an `AddWatchMode`."""

    path: OptStr
    mode: Int


class ErrorResponse(NamedTuple):
    """Body of an addWatch reply and of a failed operation in a multi."""

    err: Int


class SetWatches(NamedTuple):
    """Restores one-shot watches after a reconnect."""

    relative_zxid: Long
    data_watches: OptPaths
    exist_watches: OptPaths
    child_watches: OptPaths


class SetWatches2(NamedTuple):
    """SetWatches with persistent watches (3.6)."""

    relative_zxid: Long
    data_watches: OptPaths
    exist_watches: OptPaths
    child_watches: OptPaths
    persistent_watches: OptPaths
    persistent_recursive_watches: OptPaths


class ReconfigRequest(NamedTuple):
    """Null for what is not used; `cur_config_id` -1 applies to any configuration."""

    joining_servers: OptStr
    leaving_servers: OptStr
    new_members: OptStr
    cur_config_id: Long


class AuthPacket(NamedTuple):
    """`type` is always 0."""

    type: Int
    scheme: OptStr
    auth: Buffer


class GetSASLRequest(NamedTuple):
    """A token of the client's mechanism."""

    token: Buffer


class SetSASLResponse(NamedTuple):
    """A token of the server's mechanism, null where SASL is not configured or has failed."""

    token: Buffer


class WatcherEvent(NamedTuple):
    """A notification. `type` -1 and 1 to 4; `state` is always 3 from a server."""

    type: Int
    state: Int
    path: Str


class WhoAmIResponse(NamedTuple):
    """Identities of the connection, in no order."""

    client_info: Annotated[list[ClientInfo], VECTOR]


class MultiHeader(NamedTuple):
    """Stands before every operation and result of a multi, and ends it with `done`."""

    type: Int
    done: Bool
    err: Int
