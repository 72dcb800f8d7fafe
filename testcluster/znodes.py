"""One znode in memory: its fields, the Stat that clients see, and its share of the tree's digest.

Decides how a Stat is derived from what is stored. What may happen to a znode is the preparer's business, what does
happen the tree's.
"""

from __future__ import annotations

import struct
from zlib import crc32

from .acl import NodeAcl
from .ids import signed32
from .txns import StatPersisted

STAT = struct.Struct(">qqqqiiiqiiq")
"""The Stat of the client port, 68 bytes."""

CONTAINER_OWNER = -(1 << 63)
"""Stored as a container's ephemeral owner."""

_TTL_MARK = 0xFF00_0000_0000_0000
_TTL_MASK = 0xFFFF_FF00_0000_0000
_TTL_BITS = (1 << 40) - 1
_DIGEST_FIELDS = struct.Struct(">qqqqqiiiq")
_ROOT = ("", "/")
_SYSTEM_PREFIX = "/zookeeper/"


def ttl_owner(ttl_ms: int) -> int:
    """What a TTL znode stores as its ephemeral owner (3.5.4 and later)."""
    return _TTL_MARK - (1 << 64) | ttl_ms


def ttl_of(owner: int) -> int | None:
    """The time to live in milliseconds that a stored owner says, `None` for every other kind of znode."""
    if owner < 0 and owner & _TTL_MASK == _TTL_MARK:
        return owner & _TTL_BITS
    return None


def session_of(owner: int) -> int:
    """The session that a stored owner names: 0 for persistent, container and TTL znodes."""
    if owner >= 0:
        return owner
    return 0 if owner == CONTAINER_OWNER or owner & _TTL_MASK == _TTL_MARK else owner


def node_digest(path: str, data: bytes | None, fields: tuple[int, ...]) -> int:
    """A znode's share of the tree digest (version 2); znodes below /zookeeper have none.

    Args:
        path: full path; the root counts as the empty one.
        data: its data, null counts as empty.
        fields: czxid, mzxid, pzxid, ctime, mtime, version, cversion as stored, aversion, ephemeral owner as stored.
    """
    if path.startswith(_SYSTEM_PREFIX):
        return 0
    crc = 0 if path in _ROOT else crc32(path.encode())
    if data:
        crc = crc32(data, crc)
    return crc32(_DIGEST_FIELDS.pack(*fields), crc)


class ZnodeFields:
    """What a znode stores, whether it stands in the tree or is still to come.

    `cversion` counts the children ever created; clients see creations plus deletions.
    """

    __slots__ = (
        "acl",
        "aversion",
        "ctime",
        "cversion",
        "czxid",
        "data",
        "digest",
        "ephemeral_owner",
        "mtime",
        "mzxid",
        "pzxid",
        "version",
    )

    def __init__(self, data: bytes | None, acl: NodeAcl, zxid: int, time: int, owner: int) -> None:
        self.data = data
        self.acl = acl
        self.czxid = self.mzxid = self.pzxid = zxid
        self.ctime = self.mtime = time
        self.version = self.cversion = self.aversion = 0
        self.ephemeral_owner = owner
        self.digest = 0

    def digest_fields(self) -> tuple[int, ...]:
        """The fields that `node_digest` takes."""
        return (
            self.czxid,
            self.mzxid,
            self.pzxid,
            self.ctime,
            self.mtime,
            self.version,
            self.cversion,
            self.aversion,
            self.ephemeral_owner,
        )


class Znode(ZnodeFields):
    """A znode of the tree.

    `children` maps full paths of the children to them (`None` instead of an empty dict): full paths share their string
    with the tree's own index.
    """

    __slots__ = ("children",)

    def __init__(self, data: bytes | None, acl: NodeAcl, zxid: int, time: int, owner: int) -> None:
        super().__init__(data, acl, zxid, time, owner)
        self.children: dict[str, Znode] | None = None

    @property
    def child_count(self) -> int:
        """Number of children."""
        children = self.children
        return len(children) if children else 0

    def stat(self) -> bytes:
        """The Stat that clients see, encoded."""
        data = self.data
        children = self.children
        count = len(children) if children else 0
        cversion = 2 * self.cversion - count
        if cversion > 0x7FFFFFFF:
            cversion = signed32(cversion)
        owner = self.ephemeral_owner
        return STAT.pack(
            self.czxid,
            self.mzxid,
            self.ctime,
            self.mtime,
            self.version,
            cversion,
            self.aversion,
            session_of(owner) if owner else 0,
            len(data) if data else 0,
            count,
            self.pzxid,
        )

    def persisted(self) -> StatPersisted:
        """The Stat as snapshots hold it."""
        return StatPersisted(
            self.czxid,
            self.mzxid,
            self.ctime,
            self.mtime,
            self.version,
            self.cversion,
            self.aversion,
            self.ephemeral_owner,
            self.pzxid,
        )

    @classmethod
    def restore(cls, data: bytes | None, acl: NodeAcl, stat: StatPersisted) -> Znode:
        """The znode of a snapshot's row."""
        node = cls(data, acl, stat.czxid, stat.ctime, stat.ephemeral_owner)
        node.mzxid = stat.mzxid
        node.mtime = stat.mtime
        node.version = stat.version
        node.cversion = stat.cversion
        node.aversion = stat.aversion
        node.pzxid = stat.pzxid
        return node
