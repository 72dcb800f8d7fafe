"""Requests that need no transaction: reads, watches, pings. Straight from bytes to bytes.

Decides what a read answers and which watch it leaves. When it may be answered (not before earlier writes of its
connection) is the processor's business.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from terzetto.client.errors import WireError
from terzetto.client.values import AddWatchMode, ClientInfo, Id, Permissions, WatcherType, ZnodeStat
from terzetto.client.wire import codec, multi, records as r
from terzetto.client.wire.operations import PING_XID, Opcode
from terzetto.client.wire.primitives import JAVA_TEXT, REPLY_PREFIX

from .acl import AccessRules
from .codes import BAD_ARGUMENTS, MARSHALLING_ERROR, NO_AUTH, NO_NODE, NO_WATCHER, OK, Refused
from .connection import OUTPUT_HARD_MAX, Connection
from .datatree import CHANGED, CHILD, CREATED, DELETED, DataTree
from .replies import PREFIX_SIZE, header_reply, reply, reply_with_error, watch_event
from .watches import PERSISTENT, RECURSIVE, STANDARD, WatchTable
from .znodes import STAT, Znode

Read = Callable[[Connection, Sequence[Id], int, bytes, int, int], bytes]
"""(connection, who asks, xid, buffer, start of the record, end of the frame) to the reply's frame."""

WORK_MAX = 20_000
"""Znodes that requests of one connection may make the server look at in a row; then the others have their turn. A
frame of a few bytes may ask for a count of all znodes, and a client may send thousands of them at once."""

_READ = Permissions.READ
_INT = struct.Struct(">i")
_pack_int = _INT.pack
_pack_prefix = REPLY_PREFIX.pack
_pack_prefix_int = struct.Struct(">iiqii").pack
_RESULT = struct.Struct(">i?i")
_RESULT_END = _RESULT.pack(-1, True, -1)
_ANY = STANDARD | PERSISTENT | RECURSIVE

# Bits in the data and in the child table that each type of 3.9 means.
_WATCHER_MODES: dict[int, tuple[int, int]] = {
    WatcherType.CHILDREN: (0, STANDARD),
    WatcherType.DATA: (STANDARD, 0),
    WatcherType.ANY: (_ANY, _ANY),
    WatcherType.PERSISTENT: (PERSISTENT, PERSISTENT),
    WatcherType.PERSISTENT_RECURSIVE: (RECURSIVE, 0),
}

_decode_path = codec(r.GetACLRequest).decode
_decode_path_type = codec(r.CheckWatchesRequest).decode
_decode_add_watch = codec(r.AddWatchRequest).decode
_decode_set_watches = codec(r.SetWatches).decode
_decode_set_watches2 = codec(r.SetWatches2).decode
_encode_acl_response = codec(r.GetACLResponse).encode
_encode_ephemerals = codec(r.GetEphemeralsResponse).encode
_encode_who_am_i = codec(r.WhoAmIResponse).encode


def _path_and_watch(data: bytes, pos: int, end: int) -> tuple[str, int]:
    """The record of exists, getData and getChildren."""
    length: int = _INT.unpack_from(data, pos)[0]
    pos += 4
    after = pos + length
    if length < 0 or after >= end:
        raise WireError("a path is null, or longer than its frame")
    try:
        return str(data[pos:after], "utf-8", JAVA_TEXT), data[after]
    except UnicodeDecodeError as error:
        raise WireError("a path is no UTF-8") from error


def _encoded_names(path: str, node: Znode) -> bytes:
    children = node.children
    if not children:
        return b"\0\0\0\0"
    cut = 1 if path in ("", "/") else len(path) + 1
    parts = [_pack_int(len(children))]
    for child in children:
        name = child[cut:].encode()
        parts.append(_pack_int(len(name)))
        parts.append(name)
    return b"".join(parts)


class Reads:
    """Answers every request that needs no transaction.

    Args:
        tree: what is read.
        watches: where watches are left.
        access: judges ACLs.

    Attributes:
        table: the operation of each opcode.
        work: znodes looked at, beyond those that a request named, since somebody set this to 0.
    """

    def __init__(self, tree: DataTree, watches: WatchTable[Connection], access: AccessRules) -> None:
        self._tree = tree
        self._watches = watches
        self._access = access
        self.work = 0
        self._restorers = (
            self._restore_data,
            self._restore_exist,
            self._restore_child,
            self._restore_persistent,
            self._restore_recursive,
        )
        self.table: dict[int, Read] = {
            Opcode.EXISTS: self._exists,
            Opcode.GET_DATA: self._get_data,
            Opcode.GET_CHILDREN: self._get_children,
            Opcode.GET_CHILDREN2: self._get_children2,
            Opcode.PING: self._ping,
            Opcode.GET_ACL: self._get_acl,
            Opcode.GET_ALL_CHILDREN_NUMBER: self._get_all_children_number,
            Opcode.GET_EPHEMERALS: self._get_ephemerals,
            Opcode.WHO_AM_I: self._who_am_i,
            Opcode.MULTI_READ: self._multi_read,
            Opcode.ADD_WATCH: self._add_watch,
            Opcode.CHECK_WATCHES: self._check_watches,
            Opcode.REMOVE_WATCHES: self._remove_watches,
            Opcode.SET_WATCHES: self._set_watches,
            Opcode.SET_WATCHES2: self._set_watches2,
        }

    def _ping(self, _conn: Connection, _ids: Sequence[Id], _xid: int, _data: bytes, _pos: int, _end: int) -> bytes:
        return _pack_prefix(PREFIX_SIZE, PING_XID, self._tree.last_zxid, OK)

    def _readable(self, node: Znode, ids: Sequence[Id]) -> bool:
        acl = node.acl
        return bool(acl.everyone & _READ) or self._access.allows(acl, _READ, ids)

    def _exists(self, conn: Connection, ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        path, watch = _path_and_watch(data, pos, end)
        tree = self._tree
        node = tree.nodes.get(path)
        if node is None:
            if "\0" in path:
                return header_reply(xid, tree.last_zxid, BAD_ARGUMENTS)
            if watch:
                self._watches.add_data(conn, path)
            return _pack_prefix(PREFIX_SIZE, xid, tree.last_zxid, NO_NODE)
        if not self._readable(node, ids):
            return _pack_prefix(PREFIX_SIZE, xid, tree.last_zxid, NO_AUTH)
        if watch:
            self._watches.add_data(conn, path)
        return _pack_prefix(PREFIX_SIZE + STAT.size, xid, tree.last_zxid, OK) + node.stat()

    def _get_data(self, conn: Connection, ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        path, watch = _path_and_watch(data, pos, end)
        tree = self._tree
        node = tree.nodes.get(path)
        if node is None:
            return _pack_prefix(PREFIX_SIZE, xid, tree.last_zxid, NO_NODE)
        if not self._readable(node, ids):
            return _pack_prefix(PREFIX_SIZE, xid, tree.last_zxid, NO_AUTH)
        if watch:
            self._watches.add_data(conn, path)
        content = node.data
        if content is None:
            return _pack_prefix_int(PREFIX_SIZE + 4 + STAT.size, xid, tree.last_zxid, OK, -1) + node.stat()
        size = len(content)
        prefix = _pack_prefix_int(PREFIX_SIZE + 4 + STAT.size + size, xid, tree.last_zxid, OK, size)
        return prefix + content + node.stat()

    def _listed(self, conn: Connection, ids: Sequence[Id], data: bytes, pos: int, end: int) -> tuple[str, Znode]:
        path, watch = _path_and_watch(data, pos, end)
        node = self._readable_node(path, ids)
        if watch:
            self._watches.add_child(conn, path)
        return path, node

    def _readable_node(self, path: str | None, ids: Sequence[Id]) -> Znode:
        if path is None:
            raise WireError("a path is null")
        node = self._tree.nodes.get(path)
        if node is None:
            raise Refused(NO_NODE)
        if not self._readable(node, ids):
            raise Refused(NO_AUTH)
        return node

    def _get_children(self, conn: Connection, ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        path, node = self._listed(conn, ids, data, pos, end)
        return reply(xid, self._tree.last_zxid, _encoded_names(path, node))

    def _get_children2(self, conn: Connection, ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        path, node = self._listed(conn, ids, data, pos, end)
        return reply(xid, self._tree.last_zxid, _encoded_names(path, node) + node.stat())

    def _get_acl(self, _conn: Connection, ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        (path,), _ = _decode_path(data, pos, end)
        if path is None:
            raise WireError("a path is null")
        node = self._tree.nodes.get(path)
        if node is None:
            raise Refused(NO_NODE)
        if not self._access.allows(node.acl, _READ | Permissions.ADMIN, ids):
            raise Refused(NO_AUTH)
        stat = ZnodeStat._make(STAT.unpack(node.stat()))
        response = r.GetACLResponse(self._access.visible(node.acl, ids), stat)
        return reply(xid, self._tree.last_zxid, _encode_acl_response(response))

    def _get_all_children_number(
        self, _conn: Connection, ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int
    ) -> bytes:
        (path,), _ = _decode_path(data, pos, end)
        self._readable_node(path, ids)
        count = self._tree.count_descendants(path or "")
        self.work += count
        return reply(xid, self._tree.last_zxid, _pack_int(count))

    def _get_ephemerals(self, conn: Connection, _ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        (prefix,), _ = _decode_path(data, pos, end)
        owned = self._tree.ephemerals.get(conn.session_id, {})
        self.work += len(owned)
        everything = prefix is None or prefix.strip() in ("", "/")
        found = [path for path in owned if everything or path.startswith(prefix or "")]
        return reply(xid, self._tree.last_zxid, _encode_ephemerals(r.GetEphemeralsResponse(found)))

    def _who_am_i(self, _conn: Connection, ids: Sequence[Id], xid: int, _data: bytes, _pos: int, _end: int) -> bytes:
        known = [ClientInfo(scheme, user) for scheme, user in self._access.users(ids)]
        return reply(xid, self._tree.last_zxid, _encode_who_am_i(r.WhoAmIResponse(known)))

    def _multi_read(self, _conn: Connection, ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        zxid = self._tree.last_zxid
        try:
            ops = multi.decode_requests(data, pos, end, multi.READ_REQUESTS)
        except WireError:
            # A list of writes is well formed, and only then refused; the reply has a body all the same.
            multi.decode_requests(data, pos, end, multi.WRITE_REQUESTS)
            return reply_with_error(xid, zxid, MARSHALLING_ERROR, _RESULT_END)
        parts: list[bytes] = []
        size = 0
        for opcode, request in ops:
            parts.append(self._multi_read_result(opcode, request.path, ids))
            size += len(parts[-1])
            # A frame of a megabyte may name a large znode ten thousands of times: ZooKeeper dies of the answer.
            if size > OUTPUT_HARD_MAX:
                raise WireError(f"the answer would have more than {OUTPUT_HARD_MAX} bytes")
        return reply(xid, zxid, b"".join([*parts, _RESULT_END]))

    def _multi_read_result(self, opcode: int, path: str | None, ids: Sequence[Id]) -> bytes:
        try:
            node = self._readable_node(path, ids)
        except Refused as refusal:
            return _RESULT.pack(Opcode.ERROR, False, refusal.code) + _pack_int(refusal.code)
        head = _RESULT.pack(opcode, False, OK)
        if opcode == Opcode.GET_CHILDREN:
            return head + _encoded_names(path or "", node)
        content = node.data
        size = -1 if content is None else len(content)
        return head + _pack_int(size) + (content or b"") + node.stat()

    def _add_watch(self, conn: Connection, _ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        (path, mode), _ = _decode_add_watch(data, pos, end)
        if path is None:
            raise WireError("a path is null")
        if mode == AddWatchMode.PERSISTENT:
            self._watches.add_persistent(conn, path)
        elif mode == AddWatchMode.PERSISTENT_RECURSIVE:
            self._watches.add_recursive(conn, path)
        else:
            raise WireError(f"{mode} is no mode of a watch")
        return reply(xid, self._tree.last_zxid, _pack_int(OK))

    def _watch_request(self, conn: Connection, data: bytes, pos: int, end: int) -> tuple[str, tuple[int, int]]:
        """Path and modes of checkWatches and removeWatches, once it is sure that the connection has such a watch."""
        (path, kind), _ = _decode_path_type(data, pos, end)
        modes = _WATCHER_MODES.get(kind)
        if modes is None:
            raise WireError(f"{kind} is no type of a watcher")
        if path is None or not self._watches.has(conn, path, *modes):
            raise Refused(NO_WATCHER)
        return path, modes

    def _check_watches(self, conn: Connection, _ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        self._watch_request(conn, data, pos, end)
        return header_reply(xid, self._tree.last_zxid, OK)

    def _remove_watches(self, conn: Connection, _ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        path, modes = self._watch_request(conn, data, pos, end)
        self._watches.remove(conn, path, *modes)
        return header_reply(xid, self._tree.last_zxid, OK)

    def _set_watches(self, conn: Connection, _ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        record, _ = _decode_set_watches(data, pos, end)
        return self._restored(conn, xid, r.SetWatches2(*record, [], []))

    def _set_watches2(self, conn: Connection, _ids: Sequence[Id], xid: int, data: bytes, pos: int, end: int) -> bytes:
        record, _ = _decode_set_watches2(data, pos, end)
        return self._restored(conn, xid, record)

    def _restored(self, conn: Connection, xid: int, record: r.SetWatches2) -> bytes:
        """The watches of a client that comes back: what it missed is told now, the rest is registered."""
        since = record.relative_zxid
        missed: list[bytes] = []
        err = OK
        for paths, restore in zip(record[1:], self._restorers, strict=True):
            if paths is None:
                # ZooKeeper trips over the list, when it has handled the ones before.
                err = MARSHALLING_ERROR
                break
            for path in paths:
                event = restore(conn, path, since)
                if event is not None:
                    missed.append(watch_event(event, path, -1))
        missed.append(header_reply(xid, self._tree.last_zxid, err))
        return b"".join(missed)

    # One method a list of setWatches2: (connection, path, last zxid seen) to the event that was missed.

    def _restore_data(self, conn: Connection, path: str, since: int) -> int | None:
        node = self._tree.nodes.get(path)
        if node is None:
            return DELETED
        if node.mzxid > since:
            return CHANGED
        self._watches.add_data(conn, path)
        return None

    def _restore_exist(self, conn: Connection, path: str, _since: int) -> int | None:
        if path in self._tree.nodes:
            return CREATED
        self._watches.add_data(conn, path)
        return None

    def _restore_child(self, conn: Connection, path: str, since: int) -> int | None:
        node = self._tree.nodes.get(path)
        if node is None:
            return DELETED
        if node.pzxid > since:
            return CHILD
        self._watches.add_child(conn, path)
        return None

    def _restore_persistent(self, conn: Connection, path: str, _since: int) -> int | None:
        self._watches.add_persistent(conn, path)
        return None

    def _restore_recursive(self, conn: Connection, path: str, _since: int) -> int | None:
        self._watches.add_recursive(conn, path)
        return None
