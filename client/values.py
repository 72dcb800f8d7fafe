"""The public values: what a znode, an ACL, an event and a state look like to every layer.

Names and shapes are kazoo's where kazoo has them, because programs compare and unpack them. Values only: nothing here
encodes, sends or decides.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from collections.abc import Iterable
from typing import NamedTuple


class ZnodeStat(NamedTuple):
    """A znode's Stat (68 bytes on the wire). Times are milliseconds since the epoch, by the leader's clock."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeralOwner: int
    dataLength: int
    numChildren: int
    pzxid: int

    @property
    def acl_version(self) -> int:
        """Changes of the ACL."""
        return self.aversion

    @property
    def children_version(self) -> int:
        """Children created plus children deleted."""
        return self.cversion

    @property
    def created(self) -> float:
        """Time of creation, seconds since the epoch."""
        return self.ctime / 1000.0

    @property
    def last_modified(self) -> float:
        """Time of the last change of the data, seconds since the epoch."""
        return self.mtime / 1000.0

    @property
    def owner_session_id(self) -> int | None:
        """Session that owns an ephemeral znode, `None` for any other znode."""
        return self.ephemeralOwner or None

    @property
    def creation_transaction_id(self) -> int:
        """zxid of the creation."""
        return self.czxid

    @property
    def last_modified_transaction_id(self) -> int:
        """zxid of the last change of the data."""
        return self.mzxid

    @property
    def data_length(self) -> int:
        """Bytes of data."""
        return self.dataLength

    @property
    def children_count(self) -> int:
        """Direct children."""
        return self.numChildren


class Id(NamedTuple):
    """Who an ACL entry speaks of: a scheme and an identity in it."""

    scheme: str
    id: str


class Permissions:
    """Permission bits of an ACL."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16
    ALL = 31


_PERMISSION_NAMES = ("READ", "WRITE", "CREATE", "DELETE", "ADMIN")


class ACL(NamedTuple):
    """One entry of an access control list: permission bits for one identity."""

    perms: int
    id: Id

    @property
    def acl_list(self) -> list[str]:
        """The permissions by name, ["ALL"] when all five are granted."""
        if self.perms & Permissions.ALL == Permissions.ALL:
            return ["ALL"]
        return [name for bit, name in enumerate(_PERMISSION_NAMES) if self.perms & 1 << bit]

    def __repr__(self) -> str:
        return f"ACL(perms={self.perms!r}, acl_list={self.acl_list}, id={self.id!r})"


ANYONE_ID_UNSAFE = Id("world", "anyone")
AUTH_IDS = Id("auth", "")
OPEN_ACL_UNSAFE = [ACL(Permissions.ALL, ANYONE_ID_UNSAFE)]
CREATOR_ALL_ACL = [ACL(Permissions.ALL, AUTH_IDS)]
READ_ACL_UNSAFE = [ACL(Permissions.READ, ANYONE_ID_UNSAFE)]


def make_digest_acl_credential(username: str, password: str) -> str:
    """The id of scheme `digest`: user, colon, base64 of the SHA-1 of "user:password"."""
    digest = hashlib.sha1(f"{username}:{password}".encode()).digest()
    return f"{username}:{base64.b64encode(digest).decode()}"


def make_acl(
    scheme: str,
    credential: str,
    read: bool = False,
    write: bool = False,
    create: bool = False,
    delete: bool = False,
    admin: bool = False,
    all: bool = False,
) -> ACL:
    """One ACL entry for an identity of any scheme."""
    granted = (read or all, write or all, create or all, delete or all, admin or all)
    return ACL(sum(1 << bit for bit, given in enumerate(granted) if given), Id(scheme, credential))


def make_digest_acl(
    username: str,
    password: str,
    read: bool = False,
    write: bool = False,
    create: bool = False,
    delete: bool = False,
    admin: bool = False,
    all: bool = False,
) -> ACL:
    """One ACL entry for a user and password of scheme `digest`."""
    credential = make_digest_acl_credential(username, password)
    return make_acl("digest", credential, read=read, write=write, create=create, delete=delete, admin=admin, all=all)


def check_acl(acl: Iterable[ACL]) -> list[ACL]:
    """The ACL as a list, after the checks that need no server.

    Raises:
        TypeError: it is a bare ACL or no list, or an entry is no ACL.
        ValueError: it is empty, or an entry's permissions are not bits of `Permissions.ALL`.
    """
    if isinstance(acl, ACL):
        raise TypeError(f"acl must be a list of ACL, not one bare ACL: {acl!r}")
    if not isinstance(acl, Iterable):
        raise TypeError(f"acl must be a list of ACL, not {type(acl).__name__}: {acl!r}")
    entries = list(acl)
    if not entries:
        raise ValueError("acl is empty; at least one ACL entry is required")
    for entry in entries:
        if not isinstance(entry, ACL) or not isinstance(entry.id, Id):
            raise TypeError(f"every entry of acl must be an ACL with an Id, not {entry!r}")
        if isinstance(entry.perms, bool) or not isinstance(entry.perms, int):
            raise TypeError(f"permissions of an ACL must be an int, not {entry.perms!r}")
        if not 0 <= entry.perms <= Permissions.ALL:
            raise ValueError(f"permissions {entry.perms} of {entry!r} are outside 0..{Permissions.ALL}")
        for name, text in (("scheme", entry.id.scheme), ("id", entry.id.id)):
            if not isinstance(text, str):
                raise TypeError(f"{name} of an ACL must be a str, not {text!r}")
    return entries


class CreateMode(enum.IntEnum):
    """The seven modes of create. The numbers are the wire's flags: an enumeration, not a bit set."""

    PERSISTENT = 0
    EPHEMERAL = 1
    PERSISTENT_SEQUENTIAL = 2
    EPHEMERAL_SEQUENTIAL = 3
    CONTAINER = 4
    PERSISTENT_WITH_TTL = 5
    PERSISTENT_SEQUENTIAL_WITH_TTL = 6

    @property
    def is_sequential(self) -> bool:
        """The server appends a ten-digit number to the name."""
        return self in (2, 3, 6)


MAX_TTL_MS = 2**40 - 1
"""Longest time to live of a TTL znode, in milliseconds (ZooKeeper keeps it in 40 bits)."""


class AddWatchMode(enum.IntEnum):
    """Modes of a persistent watch (3.6)."""

    PERSISTENT = 0
    PERSISTENT_RECURSIVE = 1


class WatcherType(enum.IntEnum):
    """Which watches `remove_watches` takes away."""

    CHILDREN = 1
    DATA = 2
    ANY = 3
    PERSISTENT = 4
    PERSISTENT_RECURSIVE = 5


class EventType:
    """Types of a watch event; plain strings, as in kazoo."""

    CREATED = "CREATED"
    DELETED = "DELETED"
    CHANGED = "CHANGED"
    CHILD = "CHILD"
    NONE = "NONE"
    DATA_WATCH_REMOVED = "DATA_WATCH_REMOVED"
    CHILD_WATCH_REMOVED = "CHILD_WATCH_REMOVED"
    PERSISTENT_WATCH_REMOVED = "PERSISTENT_WATCH_REMOVED"


EVENT_TYPE_MAP = {
    -1: EventType.NONE,
    1: EventType.CREATED,
    2: EventType.DELETED,
    3: EventType.CHANGED,
    4: EventType.CHILD,
    5: EventType.DATA_WATCH_REMOVED,
    6: EventType.CHILD_WATCH_REMOVED,
    7: EventType.PERSISTENT_WATCH_REMOVED,
}


class KazooState:
    """What an application needs to know of its session; plain strings, as in kazoo.

    CONNECTED: requests go out. SUSPENDED: no connection, the session may or may not live. LOST: the session is over.
    """

    SUSPENDED = "SUSPENDED"
    CONNECTED = "CONNECTED"
    LOST = "LOST"


class KeeperState:
    """The finer state of the connection; plain strings, as in kazoo."""

    AUTH_FAILED = "AUTH_FAILED"
    CONNECTED = "CONNECTED"
    CONNECTED_RO = "CONNECTED_RO"
    CONNECTING = "CONNECTING"
    CLOSED = "CLOSED"
    EXPIRED_SESSION = "EXPIRED_SESSION"


class _Event(NamedTuple):
    type: str
    state: str
    path: str


class WatchedEvent(_Event):
    """A change that a watch reports: kazoo's tuple of three, which also knows its transaction.

    Attributes:
        type: one of `EventType`. NONE ends a one-shot watch whose session was lost before anything happened.
        state: the client's `KeeperState` at delivery.
        path: the znode, relative to the chroot of the view that set the watch; for a recursive watch the znode that
            changed, not the one watched.
        zxid: the transaction, `None` where the server does not say (releases before 3.9, and watches that were restored
            after a reconnect). Not part of the tuple: it does not count in comparisons and does not unpack.
    """

    zxid: int | None

    def __new__(cls, type: str, state: str, path: str, zxid: int | None = None) -> WatchedEvent:
        """Builds the tuple; `zxid` is kept beside it."""
        event = super().__new__(cls, type, state, path)
        event.zxid = zxid
        return event

    def at(self, path: str) -> WatchedEvent:
        """The same event under another view's name of the znode."""
        return WatchedEvent(self.type, self.state, path, self.zxid)

    def __repr__(self) -> str:
        zxid = "" if self.zxid is None else f", zxid=0x{self.zxid:x}"
        return f"WatchedEvent(type={self.type!r}, state={self.state!r}, path={self.path!r}{zxid})"


class Resync(NamedTuple):
    """An item of `watch()`: changes may have been missed, read again what is watched.

    Attributes:
        session_lost: True when the session ended in between, so that the ephemerals of the old session are gone too.
        dropped: events that were thrown away because the stream's buffer was full; 0 after a reconnect.
    """

    session_lost: bool = False
    dropped: int = 0


class ClientInfo(NamedTuple):
    """One identity that the server holds for this connection (`who_am_i`)."""

    auth_scheme: str
    user: str


class ServerVersion(NamedTuple):
    """Release of a server; compares like a tuple of ints."""

    major: int
    minor: int
    patch: int
