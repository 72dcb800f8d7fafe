"""The whole state machine beside a model so simple that it can be read: dicts, and the rules in the manual's words.

Several clients at once, writes committed late, watches, sessions that end. After every step both hold the same tree,
and every reply and event is the one that the model expects.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o, records as r
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.txns import decode_txn, encode_txn

from .port import Event, Peer, Port, Reply, connect_frame, create, multi_frame

CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4
PATHS = ["/a", "/b", "/a/x", "/a/y", "/a/x/z", "/b/x"]
BUILT_IN = {"", "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"}


@dataclass
class Node:
    data: bytes
    owner: int
    version: int = 0
    creates: int = 0
    deletes: int = 0
    zxids: tuple[int, int] = (0, 0)


@dataclass
class Refusal(Exception):
    code: int


@dataclass
class Model:
    """What the servers agree on."""

    nodes: dict[str, Node] = field(default_factory=lambda: {"": Node(b"", 0)})
    zxid: int = 0
    watches: set[tuple[int, str, str]] = field(default_factory=set[tuple[int, str, str]])
    events: dict[int, list[tuple[int, str]]] = field(default_factory=dict[int, list[tuple[int, str]]])

    def _fire(self, kind: int, path: str, tables: tuple[str, ...]) -> None:
        fired = {watch for watch in self.watches if watch[2] == path and watch[1] in tables}
        self.watches -= fired
        for who in {watch[0] for watch in fired}:
            self.events.setdefault(who, []).append((kind, path))

    def children(self, path: str) -> list[str]:
        return [other for other in self.nodes if other and other.rpartition("/")[0] == path]

    def create(self, session: int, path: str, data: bytes, flags: int) -> str:
        parent = self.nodes.get(path.rpartition("/")[0])
        if parent is None:
            raise Refusal(-101)
        if flags >= 2:
            path += f"{parent.creates:010d}"
        if path in self.nodes:
            raise Refusal(-110)
        if parent.owner:
            raise Refusal(-108)
        parent.creates += 1
        self.nodes[path] = Node(data, session if flags % 2 else 0, zxids=(self.zxid, self.zxid))
        self._fire(CREATED, path, ("data",))
        self._fire(CHILD, path.rpartition("/")[0] or "/", ("child",))
        return path

    def delete(self, path: str, version: int) -> None:
        if path.rpartition("/")[0] not in self.nodes or path not in self.nodes:
            raise Refusal(-101)
        if version not in (-1, self.nodes[path].version):
            raise Refusal(-103)
        if self.children(path):
            raise Refusal(-111)
        self.remove(path)

    def remove(self, path: str) -> None:
        del self.nodes[path]
        self.nodes[path.rpartition("/")[0]].deletes += 1
        self._fire(DELETED, path, ("data", "child"))
        self._fire(CHILD, path.rpartition("/")[0] or "/", ("child",))

    def set(self, path: str, data: bytes, version: int) -> None:
        node = self.nodes.get(path)
        if node is None:
            raise Refusal(-101)
        if version not in (-1, node.version):
            raise Refusal(-103)
        node.data, node.version, node.zxids = data, node.version + 1, (node.zxids[0], self.zxid)
        self._fire(CHANGED, path, ("data",))


@dataclass
class Asked:
    """A request on its way: what it is, and what the answer must be, once the model knows."""

    xid: int
    session: int
    what: tuple[Any, ...]


class StandaloneAgainstModel(RuleBasedStateMachine):
    """Drives both."""

    def __init__(self) -> None:
        super().__init__()
        self.port = Port()
        self.model = Model()
        self.peers: dict[int, Peer] = {}
        self.asked: list[Asked] = []
        self.held = self.port.hold()
        self.held.__enter__()
        self._connect()
        self._connect()

    def _connect(self) -> None:
        self._commit()
        peer = self.port.open()
        peer.send(connect_frame())
        self._commit()
        peer.handshake_answer()
        self.model.zxid += 1
        self.peers[peer.session_id] = peer

    def _commit(self) -> None:
        held = self.port.held
        assert held is not None
        self.port.machine.commit(held, self.port.now_ms)
        held.clear()
        self.port.pump()

    def _session(self, data: st.DataObject) -> int:
        sessions = sorted(self.peers)
        return data.draw(st.sampled_from(sessions))

    def _send(self, session: int, operation: o.Operation, fields: tuple[Any, ...], what: tuple[Any, ...]) -> None:
        peer = self.peers[session]
        frame = peer.frame(operation, *fields)
        self.asked.append(Asked(int.from_bytes(frame[4:8], "big"), session, what))
        peer.send(frame)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), path=st.sampled_from(PATHS), content=st.binary(max_size=2), flags=st.integers(0, 3))
    def create(self, data: st.DataObject, path: str, content: bytes, flags: int) -> None:
        fields = (path, content, OPEN_ACL_UNSAFE, flags)
        self._send(self._session(data), o.CREATE, fields, ("create", path, content, flags))

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), path=st.sampled_from(PATHS), version=st.integers(-1, 1))
    def delete(self, data: st.DataObject, path: str, version: int) -> None:
        self._send(self._session(data), o.DELETE, (path, version), ("delete", path, version))

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), path=st.sampled_from(PATHS), content=st.binary(max_size=2), version=st.integers(-1, 2))
    def set(self, data: st.DataObject, path: str, content: bytes, version: int) -> None:
        self._send(self._session(data), o.SET_DATA, (path, content, version), ("set", path, content, version))

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), path=st.sampled_from(PATHS), watch=st.booleans())
    def read(self, data: st.DataObject, path: str, watch: bool) -> None:
        what = data.draw(st.sampled_from(["exists", "get", "children"]))
        operation = {"exists": o.EXISTS, "get": o.GET_DATA, "children": o.GET_CHILDREN}[what]
        self._send(self._session(data), operation, (path, watch), (what, path, watch))

    @precondition(lambda self: self.peers)
    @rule(
        data=st.data(),
        ops=st.lists(
            st.tuples(st.sampled_from(["create", "delete", "set"]), st.sampled_from(PATHS), st.integers(-1, 3)),
            max_size=4,
        ),
    )
    def multi(self, data: st.DataObject, ops: list[tuple[str, str, int]]) -> None:
        session = self._session(data)
        records: list[tuple[int, Any]] = []
        whats: list[tuple[Any, ...]] = []
        for kind, path, number in ops:
            if kind == "create":
                records.append((1, create(path, b"m", flags=number % 4)))
                whats.append(("create", path, b"m", number % 4))
            elif kind == "delete":
                records.append((2, r.DeleteRequest(path, number)))
                whats.append(("delete", path, number))
            else:
                records.append((5, r.SetDataRequest(path, b"m", number)))
                whats.append(("set", path, b"m", number))
        peer = self.peers[session]
        xid = int.from_bytes(peer.frame(o.PING)[4:8], "big")
        peer.expect(xid, 14)
        self.asked.append(Asked(xid, session, ("multi", whats)))
        peer.send(multi_frame(xid, *records))

    @precondition(lambda self: len(self.peers) < 4)
    @rule()
    def connect(self) -> None:
        self._check()
        self._connect()

    @precondition(lambda self: len(self.peers) > 1)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        session = self._session(data)
        self._send(session, o.CLOSE_SESSION, (), ("close",))
        self._check()
        assert self.peers.pop(session).closed

    @precondition(lambda self: len(self.peers) > 1)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        session = self._session(data)
        self._check()
        assert self.port.machine.expire_session(session)
        self.port.pump()
        self._commit()
        self.model.zxid += 1
        self._end_of(session)
        assert self.peers.pop(session).closed
        self.model.events.pop(session, None)
        self._check()

    @rule()
    def commit(self) -> None:
        self._check()

    # The model's side: requests in the order in which they came, as a read waits for writes of its own client only.

    def _end_of(self, session: int) -> None:
        for path in [path for path, node in self.model.nodes.items() if node.owner == session]:
            self.model.remove(path)
        self.model.watches = {watch for watch in self.model.watches if watch[0] != session}

    def _check(self) -> None:
        """Commits everything and compares."""
        self._commit()
        answers = {session: peer.stream() for session, peer in self.peers.items()}
        replies = {session: [item for item in stream if isinstance(item, Reply)] for session, stream in answers.items()}
        # Reads that had nothing to wait for were answered before writes that came earlier on other connections.
        for asked in self._as_executed():
            reply = replies[asked.session].pop(0)
            assert reply.xid == asked.xid
            self._expect(asked, reply)
        assert not any(replies.values())
        for session, stream in answers.items():
            events = [(item.type, item.path) for item in stream if isinstance(item, Event)]
            assert sorted(events) == sorted(self.model.events.pop(session, [])), session
        self.asked.clear()

    def _as_executed(self) -> list[Asked]:
        """The order in which a server executes: a read at once, unless a write of its client is not committed."""
        now: list[Asked] = []
        later: list[Asked] = []
        waiting: set[int] = set()
        for asked in self.asked:
            is_read = asked.what[0] in ("exists", "get", "children")
            if is_read and asked.session not in waiting:
                now.append(asked)
            else:
                waiting.add(asked.session)
                later.append(asked)
        return now + self._in_commit_order(later)

    @staticmethod
    def _in_commit_order(later: list[Asked]) -> list[Asked]:
        """Writes in the order of their zxids; each one's reads right behind it."""
        done: list[Asked] = []
        for asked in later:
            if asked.what[0] in ("exists", "get", "children"):
                last = max(number for number, other in enumerate(done) if other.session == asked.session)
                done.insert(last + 1, asked)
            else:
                done.append(asked)
        return done

    def _expect(self, asked: Asked, reply: Reply) -> None:
        what, *arguments = asked.what
        getattr(self, f"_expect_{what}")(asked.session, reply, *arguments)

    def _write(self, session: int, what: tuple[Any, ...]) -> str:
        kind, *arguments = what
        if kind == "create":
            return self.model.create(session, *arguments)
        getattr(self.model, kind)(*arguments)
        return str(arguments[0])

    def _expect_write(self, session: int, reply: Reply, *what: Any) -> None:
        self.model.zxid += 1
        code, path = 0, ""
        try:
            path = self._write(session, what)
        except Refusal as refusal:
            code = refusal.code
        assert (reply.err, reply.zxid) == (code, self.model.zxid)
        if code == 0 and what[0] == "create":
            assert reply.value.path == path
        if code == 0 and what[0] == "set":
            assert reply.value.stat.version == self.model.nodes[what[1]].version

    def _expect_create(self, session: int, reply: Reply, *arguments: Any) -> None:
        self._expect_write(session, reply, "create", *arguments)

    def _expect_delete(self, session: int, reply: Reply, *arguments: Any) -> None:
        self._expect_write(session, reply, "delete", *arguments)

    def _expect_set(self, session: int, reply: Reply, *arguments: Any) -> None:
        self._expect_write(session, reply, "set", *arguments)

    def _expect_multi(self, session: int, reply: Reply, whats: list[tuple[Any, ...]]) -> None:
        self.model.zxid += 1
        before = deepcopy(self.model)
        codes: list[int] = []
        for what in whats:
            try:
                self._write(session, what)
            except Refusal as refusal:
                self.model = before
                codes = [0] * len(codes) + [refusal.code] + [-2] * (len(whats) - len(codes) - 1)
                break
            codes.append(0)
        assert (reply.err, reply.zxid) == (0, self.model.zxid)
        assert [result.err for result in reply.value] == codes

    def _expect_close(self, session: int, reply: Reply) -> None:
        self.model.zxid += 1
        self._end_of(session)
        assert (reply.err, reply.zxid) == (0, self.model.zxid)

    def _expect_exists(self, session: int, reply: Reply, path: str, watch: bool) -> None:
        self._expect_read(session, reply, path, watch, "data", watch_missing=True)
        if reply.err == 0:
            self._compare(path, reply.value.stat)

    def _expect_get(self, session: int, reply: Reply, path: str, watch: bool) -> None:
        self._expect_read(session, reply, path, watch, "data")
        if reply.err == 0:
            assert reply.value.data == self.model.nodes[path].data
            self._compare(path, reply.value.stat)

    def _expect_children(self, session: int, reply: Reply, path: str, watch: bool) -> None:
        self._expect_read(session, reply, path, watch, "child")
        if reply.err == 0:
            names = [child.rpartition("/")[2] for child in self.model.children(path)]
            assert sorted(reply.value.children) == sorted(names)

    def _expect_read(
        self, session: int, reply: Reply, path: str, watch: bool, table: str, *, watch_missing: bool = False
    ) -> None:
        there = path in self.model.nodes
        assert (reply.err, reply.zxid) == (0 if there else -101, self.model.zxid)
        if watch and (there or watch_missing):
            self.model.watches.add((session, table, path))

    def _compare(self, path: str, stat: Any) -> None:
        node = self.model.nodes[path]
        assert (stat.version, stat.cversion, stat.ephemeralOwner, stat.dataLength, stat.numChildren) == (
            node.version,
            node.creates + node.deletes,
            node.owner,
            len(node.data),
            len(self.model.children(path)),
        )
        assert (stat.czxid, stat.mzxid) == node.zxids

    @invariant()
    def digests_hold(self) -> None:
        assert self.port.tree.digest_mismatches == 0
        assert not any(peer.closed for peer in self.peers.values())

    def teardown(self) -> None:
        self._check()
        tree = self.port.tree
        assert set(tree.nodes) - BUILT_IN == set(self.model.nodes) - BUILT_IN
        assert self.port.machine.outstanding == self.port.machine.preparer.outstanding == 0
        replayed = DataTree()
        for txn in self.port.log:
            replayed.apply(decode_txn(encode_txn(txn)))
        assert list(replayed.walk()) == list(tree.walk())
        assert replayed.digest == tree.digest
        self.held.__exit__(None, None, None)


TestStandaloneAgainstModel: Any = StandaloneAgainstModel.TestCase
TestStandaloneAgainstModel.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
