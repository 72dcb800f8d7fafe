"""What the servers of one test share: znodes, sessions and the zxid. ZooKeeper's rules for them, and no frames.

Small but honest: errors, versions, sequence numbers, multi (all or nothing) and the order of watch events are
ZooKeeper's. ACLs are stored and never checked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from terzetto.client import ACL, ZnodeStat
from terzetto.client.values import CreateMode
from terzetto.client.wire import Opcode, records as r
from terzetto.client.wire.multi import MultiOp, MultiResult

BAD_ARGUMENTS = -8
NO_NODE = -101
BAD_VERSION = -103
EPHEMERAL_PARENT = -108
NODE_EXISTS = -110
NOT_EMPTY = -111
RUNTIME_INCONSISTENCY = -2

CONFIG = "/zookeeper/config"


class Refused(Exception):
    """An operation failed with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Znode:
    data: bytes | None
    acl: list[ACL]
    czxid: int
    mzxid: int
    pzxid: int
    owner: int = 0
    version: int = 0
    cversion: int = 0
    aversion: int = 0
    created_children: int = 0

    def stat(self, children: int) -> ZnodeStat:
        size = len(self.data or b"")
        return ZnodeStat(
            self.czxid,
            self.mzxid,
            self.czxid * 1000,
            self.mzxid * 1000,
            self.version,
            self.cversion,
            self.aversion,
            self.owner,
            size,
            children,
            self.pzxid,
        )


@dataclass
class SessionRecord:
    passwd: bytes
    timeout_ms: int


Change = tuple[str, str]
"""("created", "changed" or "deleted", path)."""


@dataclass
class Realm:
    """One ensemble's state. `watchers` are called with each change and its zxid, before the reply is made."""

    zxid: int = 0x100000000
    znodes: dict[str, Znode] = field(default_factory=dict[str, Znode])
    sessions: dict[int, SessionRecord] = field(default_factory=dict[int, SessionRecord])
    watchers: list[Callable[[Change, int], None]] = field(default_factory=list[Callable[[Change, int], None]])
    on_session_end: list[Callable[[int], None]] = field(default_factory=list[Callable[[int], None]])
    timeout_min_ms: int = 100
    timeout_max_ms: int = 600_000
    next_session_id: int = 0x100000000000001

    def __post_init__(self) -> None:
        for path in ("/", "/zookeeper", CONFIG):
            self.znodes[path] = Znode(b"", [], 0, 0, 0)

    # Sessions ---------------------------------------------------------------------------------------------------------

    def open_session(self, timeout_ms: int) -> int:
        self.zxid += 1
        session_id, self.next_session_id = self.next_session_id, self.next_session_id + 1
        timeout = min(max(timeout_ms, self.timeout_min_ms), self.timeout_max_ms)
        self.sessions[session_id] = SessionRecord(session_id.to_bytes(8, "big") * 2, timeout)
        return session_id

    def resume_session(self, session_id: int, passwd: bytes | None, timeout_ms: int) -> bool:
        session = self.sessions.get(session_id)
        if session is None or session.passwd != passwd:
            return False
        session.timeout_ms = min(max(timeout_ms, self.timeout_min_ms), self.timeout_max_ms)
        return True

    def end_session(self, session_id: int) -> None:
        """Closes or expires a session: its ephemerals go in one transaction."""
        if self.sessions.pop(session_id, None) is None:
            return
        self.zxid += 1
        for path in [path for path, znode in self.znodes.items() if znode.owner == session_id]:
            self._remove(path)
            self._report([("deleted", path)])
        for tell in list(self.on_session_end):
            tell(session_id)

    # Reads ------------------------------------------------------------------------------------------------------------

    def children(self, path: str) -> list[str]:
        prefix = "/" if path == "/" else path + "/"
        return [
            name[len(prefix) :]
            for name in self.znodes
            if name != "/" and name.startswith(prefix) and "/" not in name[len(prefix) :]
        ]

    def stat(self, path: str) -> ZnodeStat:
        return self.get(path).stat(len(self.children(path)))

    def get(self, path: str) -> Znode:
        znode = self.znodes.get(path)
        if znode is None:
            raise Refused(NO_NODE)
        return znode

    # Writes by others, as tests make them -----------------------------------------------------------------------------

    def create(self, path: str, data: bytes | None = b"") -> None:
        self.write(Opcode.CREATE, r.CreateRequest(path, data, [], 0))

    def set(self, path: str, data: bytes | None = b"x") -> None:
        self.write(Opcode.SET_DATA, r.SetDataRequest(path, data, -1))

    def delete(self, path: str) -> None:
        self.write(Opcode.DELETE, r.DeleteRequest(path, -1))

    def set_config(self, text: bytes) -> None:
        self.set(CONFIG, text)

    # Writes -----------------------------------------------------------------------------------------------------------

    def write(self, opcode: int, request: Any, session_id: int = 0) -> Any:
        """The response record of one write, `None` where it has none; a failure takes a zxid too. Raises `Refused`."""
        self.zxid += 1
        changes: list[Change] = []
        response = self._apply(opcode, request, session_id, changes)
        self._report(changes)
        return response

    def multi(self, ops: Iterable[MultiOp], session_id: int) -> list[MultiResult]:
        self.zxid += 1
        before = copy.deepcopy(self.znodes)
        changes: list[Change] = []
        results: list[MultiResult] = []
        ops = list(ops)
        for index, (opcode, request) in enumerate(ops):
            try:
                response = self._apply(opcode, request, session_id, changes)
            except Refused as refusal:
                self.znodes.clear()
                self.znodes.update(before)
                codes = [0] * index + [refusal.code] + [RUNTIME_INCONSISTENCY] * (len(ops) - index - 1)
                return [MultiResult(Opcode.ERROR, code, None) for code in codes]
            kind = Opcode.CREATE2 if isinstance(response, r.Create2Response) else opcode
            results.append(MultiResult(kind, 0, response))
        self._report(changes)
        return results

    def _report(self, changes: list[Change]) -> None:
        for change in changes:
            for tell in list(self.watchers):
                tell(change, self.zxid)

    def _apply(self, opcode: int, request: Any, session_id: int, changes: list[Change]) -> Any:
        if opcode in (Opcode.CREATE, Opcode.CREATE2, Opcode.CREATE_CONTAINER, Opcode.CREATE_TTL):
            path = self._create(request, session_id)
            changes.append(("created", path))
            return r.CreateResponse(path) if opcode == Opcode.CREATE else r.Create2Response(path, self.stat(path))
        znode = self.get(request.path)
        if opcode == Opcode.SET_ACL:
            self._check(request.version, znode.aversion)
            znode.acl, znode.aversion = request.acl, znode.aversion + 1
            return r.SetACLResponse(self.stat(request.path))
        self._check(request.version, znode.version)
        if opcode == Opcode.CHECK:
            return None
        if opcode == Opcode.DELETE:
            if request.path in ("/", "/zookeeper", CONFIG):
                raise Refused(BAD_ARGUMENTS)
            if self.children(request.path):
                raise Refused(NOT_EMPTY)
            self._remove(request.path)
            changes.append(("deleted", request.path))
            return None
        assert opcode == Opcode.SET_DATA, opcode
        znode.data, znode.version, znode.mzxid = request.data, znode.version + 1, self.zxid
        changes.append(("changed", request.path))
        return r.SetDataResponse(self.stat(request.path))

    @staticmethod
    def _check(wanted: int, actual: int) -> None:
        if wanted not in (-1, actual):
            raise Refused(BAD_VERSION)

    def _create(self, request: Any, session_id: int) -> str:
        mode = CreateMode(request.flags)
        above = request.path.rpartition("/")[0] or "/"
        parent = self.get(above)
        path: str = request.path
        if mode.is_sequential:
            path += f"{parent.created_children:010d}"
        if path in self.znodes:
            raise Refused(NODE_EXISTS)
        if parent.owner:
            raise Refused(EPHEMERAL_PARENT)
        owner = session_id if mode in (CreateMode.EPHEMERAL, CreateMode.EPHEMERAL_SEQUENTIAL) else 0
        self.znodes[path] = Znode(request.data, request.acl, self.zxid, self.zxid, self.zxid, owner)
        parent.created_children += 1
        parent.cversion += 1
        parent.pzxid = self.zxid
        return path

    def _remove(self, path: str) -> None:
        del self.znodes[path]
        parent = self.znodes[path.rpartition("/")[0] or "/"]
        parent.cversion += 1
        parent.pzxid = self.zxid
