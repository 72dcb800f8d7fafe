"""kazoo's request records, for programs that build or read frames with them. The bytes are the wire codec's.

Decides how kazoo names the records and their fields. Nothing in the drop-in uses them; no layout is known here.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, Protocol

from ...errors import WireError
from ...wire import records as r
from ...wire.compiler import codec
from ...wire.multi import decode_results
from ...wire.operations import Opcode
from ..exceptions import EXCEPTIONS
from ..security import ACL
from .states import ZnodeStat

bool_struct = struct.Struct("B")
int_struct = struct.Struct("!i")
int_int_struct = struct.Struct("!ii")
int_int_long_struct = struct.Struct("!iiq")
int_long_int_long_struct = struct.Struct("!iqiq")
long_struct = struct.Struct("!q")
multiheader_struct = struct.Struct("!iBi")
reply_header_struct = struct.Struct("!iqi")
stat_struct = struct.Struct("!qqqqiiiqiiq")

Data = bytes | bytearray


def _whole(data: Data) -> bytes:
    return bytes(data)


def _encode(record: Any) -> bytes:
    cls: Any = record.__class__
    return codec(cls).encode(record)


def _decode(cls: Any, data: Data, offset: int) -> tuple[Any, int]:
    return codec(cls).decode(_whole(data), offset, len(data))


def read_string(buffer: Data, offset: int) -> tuple[str | None, int]:
    """A string, `None` for null, and the offset behind it."""
    record, offset = _decode(r.SyncResponse, buffer, offset)
    return record.path, offset


def write_string(bytes: str | None) -> bytes:
    """A string's bytes; an empty one becomes null, as in kazoo."""
    return _encode(r.SyncRequest(bytes or None))


def read_buffer(bytes: Data, offset: int) -> tuple[bytes | None, int]:
    """Bytes, `None` for null, and the offset behind them."""
    record, offset = _decode(r.SetSASLResponse, bytes, offset)
    return record.token, offset


def write_buffer(bytes: bytes | None) -> bytes:
    """The bytes with their length."""
    return _encode(r.GetSASLRequest(bytes))


def read_acl(bytes: Data, offset: int) -> tuple[ACL, int]:
    """One entry of an ACL, and the offset behind it."""
    return _decode(ACL, bytes, offset)


class _Request(Protocol):
    """What a transaction takes."""

    @property
    def type(self) -> int: ...

    def serialize(self) -> bytes: ...


# The fields of the records, as kazoo names them; a record adds its number and its bytes.


class _Nothing(NamedTuple):
    """No fields."""


class _Greeting(NamedTuple):
    protocol_version: int
    last_zxid_seen: int
    time_out: int
    session_id: int
    passwd: bytes | None
    read_only: bool | None


class _NewZnode(NamedTuple):
    path: str
    data: bytes | None
    acl: list[ACL]
    flags: int


class _PathAndVersion(NamedTuple):
    path: str
    version: int


class _Read(NamedTuple):
    path: str
    watcher: Any


class _Write(NamedTuple):
    path: str
    data: bytes | None
    version: int


class _Path(NamedTuple):
    path: str


class _PathAndACL(NamedTuple):
    path: str
    acls: list[ACL]
    version: int


class _Several(NamedTuple):
    operations: list[_Request]


class _Members(NamedTuple):
    joining: str | None
    leaving: str | None
    new_members: str | None
    config_id: int


class _Credentials(NamedTuple):
    auth_type: int
    scheme: str
    auth: str


class _Token(NamedTuple):
    challenge: bytes | None


class Close(_Nothing):
    """Ends the session."""

    __slots__ = ()
    type = int(Opcode.CLOSE_SESSION)

    @classmethod
    def serialize(cls) -> bytes:
        """Nothing stands behind the header."""
        return b""


class Ping(_Nothing):
    """Shows that the client is there."""

    __slots__ = ()
    type = int(Opcode.PING)

    @classmethod
    def serialize(cls) -> bytes:
        """Nothing stands behind the header."""
        return b""


CloseInstance = Close()
PingInstance = Ping()


class Connect(_Greeting):
    """The first frame, in either direction."""

    __slots__ = ()
    type = None

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.ConnectRequest(*self[:5], read_only=bool(self.read_only)))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[Connect, int]:
        """A server's answer, and the offset behind it."""
        try:
            answer, offset = _decode(r.ConnectResponse, bytes, offset)
        except WireError:  # of a server that does not know the flag
            answer, offset = _decode(r.ShortConnectResponse, bytes, offset)
        read_only = bool(getattr(answer, "read_only", False))
        return cls(answer.protocol_version, 0, answer.timeout, answer.session_id, answer.passwd, read_only), offset


class Create(_NewZnode):
    """Creates a znode."""

    __slots__ = ()
    type = int(Opcode.CREATE)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.CreateRequest(self.path, self.data, list(self.acl), self.flags))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> str | None:
        """The path."""
        return read_string(bytes, offset)[0]


class Create2(_NewZnode):
    """Creates a znode and shows its Stat."""

    __slots__ = ()
    type = int(Opcode.CREATE2)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.CreateRequest(self.path, self.data, list(self.acl), self.flags))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[str, ZnodeStat]:
        """Path and Stat."""
        answer, _ = _decode(r.Create2Response, bytes, offset)
        return answer.path, answer.stat


class Delete(_PathAndVersion):
    """Deletes a znode."""

    __slots__ = ()
    type = int(Opcode.DELETE)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.DeleteRequest(self.path, self.version))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> bool:
        """True."""
        return True


class Exists(_Read):
    """Reads a Stat."""

    __slots__ = ()
    type = int(Opcode.EXISTS)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.ExistsRequest(self.path, bool(self.watcher)))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> ZnodeStat | None:
        """The Stat, `None` where it has no czxid."""
        stat: ZnodeStat = _decode(r.ExistsResponse, bytes, offset)[0].stat
        return stat if stat.czxid != -1 else None


class GetData(_Read):
    """Reads a znode."""

    __slots__ = ()
    type = int(Opcode.GET_DATA)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.GetDataRequest(self.path, bool(self.watcher)))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[bytes | None, ZnodeStat]:
        """Data and Stat."""
        answer, _ = _decode(r.GetDataResponse, bytes, offset)
        return answer.data, answer.stat


class SetData(_Write):
    """Writes a znode."""

    __slots__ = ()
    type = int(Opcode.SET_DATA)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.SetDataRequest(self.path, self.data, self.version))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> ZnodeStat:
        """The Stat."""
        stat: ZnodeStat = _decode(r.SetDataResponse, bytes, offset)[0].stat
        return stat


class GetACL(_Path):
    """Reads an ACL."""

    __slots__ = ()
    type = int(Opcode.GET_ACL)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.GetACLRequest(self.path))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[list[ACL], ZnodeStat]:
        """ACL and Stat."""
        answer, _ = _decode(r.GetACLResponse, bytes, offset)
        return answer.acl, answer.stat


class SetACL(_PathAndACL):
    """Writes an ACL."""

    __slots__ = ()
    type = int(Opcode.SET_ACL)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.SetACLRequest(self.path, list(self.acls), self.version))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> ZnodeStat:
        """The Stat."""
        stat: ZnodeStat = _decode(r.SetACLResponse, bytes, offset)[0].stat
        return stat


class GetChildren(_Read):
    """Lists a znode's children."""

    __slots__ = ()
    type = int(Opcode.GET_CHILDREN)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.GetChildrenRequest(self.path, bool(self.watcher)))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> list[str]:
        """Their names."""
        children: list[str] = _decode(r.GetChildrenResponse, bytes, offset)[0].children
        return children


class GetChildren2(_Read):
    """Lists a znode's children, and shows its Stat."""

    __slots__ = ()
    type = int(Opcode.GET_CHILDREN2)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.GetChildren2Request(self.path, bool(self.watcher)))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[list[str], ZnodeStat]:
        """Their names, and the Stat."""
        answer, _ = _decode(r.GetChildren2Response, bytes, offset)
        return answer.children, answer.stat


class Sync(_Path):
    """Has the server catch up."""

    __slots__ = ()
    type = int(Opcode.SYNC)

    def serialize(self) -> bytes:
        """The request."""
        return write_string(self.path)

    @classmethod
    def deserialize(cls, buffer: Data, offset: int) -> str | None:
        """The path."""
        return read_string(buffer, offset)[0]


class CheckVersion(_PathAndVersion):
    """A condition of a transaction."""

    __slots__ = ()
    type = int(Opcode.CHECK)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.CheckVersionRequest(self.path, self.version))


class Transaction(_Several):
    """Several requests that are done together, or not at all."""

    __slots__ = ()
    type = int(Opcode.MULTI)

    def serialize(self) -> bytes:
        """The request."""
        parts = [MultiHeader(each.type, False, -1).serialize() + each.serialize() for each in self.operations]
        return b"".join(parts) + MultiHeader(-1, True, -1).serialize()

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> list[Any]:
        """The results: paths, True, Stats, and errors where it failed."""
        found: list[Any] = []
        for result in decode_results(_whole(bytes), offset, len(bytes))[0]:
            if result.type == Opcode.ERROR:
                found.append(EXCEPTIONS[result.err]())
            else:
                found.append(True if result.value is None else result.value[0])
        return found

    @staticmethod
    def unchroot(client: Any, response: list[Any]) -> list[Any]:
        """The results with the client's chroot taken off the paths."""
        return [client.unchroot(result) if isinstance(result, str) else result for result in response]


class Reconfig(_Members):
    """Changes the members of the ensemble."""

    __slots__ = ()
    type = int(Opcode.RECONFIG)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.ReconfigRequest(self.joining, self.leaving, self.new_members, self.config_id))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[bytes | None, ZnodeStat]:
        """The new configuration, and the Stat of its znode."""
        return GetData.deserialize(bytes, offset)


class Auth(_Credentials):
    """Adds credentials to the session."""

    __slots__ = ()
    type = int(Opcode.AUTH)

    def serialize(self) -> bytes:
        """The request."""
        return _encode(r.AuthPacket(self.auth_type, self.scheme, self.auth.encode()))


class SASL(_Token):
    """One token of a SASL conversation."""

    __slots__ = ()
    type = int(Opcode.SASL)

    def serialize(self) -> bytes:
        """The request."""
        return write_buffer(self.challenge)

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[bytes | None, int]:
        """The server's token, and the offset behind it."""
        return read_buffer(bytes, offset)


class Watch(NamedTuple):
    """What a server tells of a watch."""

    type: int
    state: int
    path: str | None

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[Watch, int]:
        """It, and the offset behind it."""
        event, offset = _decode(r.WatcherEvent, bytes, offset)
        return cls(*event), offset


class ReplyHeader(NamedTuple):
    """What stands before each reply."""

    xid: int
    zxid: int
    err: int

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[ReplyHeader, int]:
        """It, and the offset behind it."""
        header, offset = _decode(r.ReplyHeader, bytes, offset)
        return cls(*header), offset


class MultiHeader(NamedTuple):
    """What stands before each request and result of a transaction."""

    type: int
    done: bool
    err: int

    def serialize(self) -> bytes:
        """Its bytes."""
        return _encode(r.MultiHeader(self.type, self.done, self.err))

    @classmethod
    def deserialize(cls, bytes: Data, offset: int) -> tuple[MultiHeader, int]:
        """It, and the offset behind it."""
        header, offset = _decode(r.MultiHeader, bytes, offset)
        return cls(*header), offset
