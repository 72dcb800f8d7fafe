"""The tree: what each transaction does, live and in replay, and the way through a snapshot and back."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from terzetto.client.values import ACL, ANYONE_ID_UNSAFE, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, ZnodeStat
from terzetto.client.wire import Opcode
from terzetto.testcluster import txns as t
from terzetto.testcluster.datatree import CHANGED, CHILD, CREATED, DELETED, CorruptTreeError, DataTree
from terzetto.testcluster.znodes import CONTAINER_OWNER, STAT, ttl_owner

from .test_txns import REAL_ENTRIES

SESSION = 0x0100_0000_0000_0007
OTHER = 0x0100_0000_0000_0008


class History:
    """A tree and the transactions it was given, one zxid after the other."""

    def __init__(self, tree: DataTree | None = None) -> None:
        self.tree = tree or DataTree()
        self.zxid = self.tree.last_zxid
        self.txns: list[t.Txn] = []

    def add(self, kind: int, record: Any, *, session: int = SESSION, time: int = 1000) -> int:
        self.zxid += 1
        header = t.TxnHeader(session, 1, self.zxid, time, kind)
        txn = t.Txn(header, record, None)
        self.txns.append(txn)
        return self.tree.apply(txn)

    def create(
        self, path: str, data: bytes | None = b"", *, ephemeral: bool = False, parent: int = -1, **more: Any
    ) -> int:
        acl = more.pop("acl", OPEN_ACL_UNSAFE)
        return self.add(Opcode.CREATE, t.CreateTxn(path, data, acl, ephemeral, parent), **more)

    def delete(self, path: str) -> int:
        return self.add(Opcode.DELETE, t.DeleteTxn(path))

    def set(self, path: str, data: bytes | None, version: int) -> int:
        return self.add(Opcode.SET_DATA, t.SetDataTxn(path, data, version), time=2000)

    def events(self) -> list[tuple[int, str]]:
        return [(kind, path) for kind, path, _ in self.tree.events]


@pytest.fixture
def history() -> History:
    return History()


def _stat(tree: DataTree, path: str) -> ZnodeStat:
    return ZnodeStat._make(STAT.unpack(tree.nodes[path].stat()))


def _rows(tree: DataTree) -> dict[str | None, t.SnapshotNode]:
    return {row.path: row._replace(acl_id=0) for row in tree.walk()}


def _reload(tree: DataTree, *, digest: bool = True) -> DataTree:
    loaded = DataTree()
    sessions = [t.SnapshotSession(*item) for item in tree.sessions.items()]
    section = (tree.last_zxid, t.DIGEST_VERSION, tree.digest) if digest else None
    loaded.load(tree.last_zxid, sessions, tree.acls.dump(), tree.walk(), section)
    return loaded


def test_a_fresh_tree_is_zookeeper_s() -> None:
    tree = DataTree()
    assert sorted(tree.nodes) == ["", "/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"]
    assert tree.nodes["/"] is tree.nodes[""]
    assert (tree.digest, tree.last_zxid, len(tree.nodes)) == (0x51C6D660, 0, 5)
    assert _stat(tree, "/") == ZnodeStat(0, 0, 0, 0, 0, -1, 0, 0, 0, 1, 0)
    assert _stat(tree, "/zookeeper") == ZnodeStat(0, 0, 0, 0, 0, -2, 0, 0, 0, 2, 0)
    assert _stat(tree, "/zookeeper/config") == ZnodeStat(0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0)
    config = tree.nodes["/zookeeper/config"].acl
    assert (config.acl_id, config.entries) == (1, tuple(READ_ACL_UNSAFE))
    assert tree.nodes["/zookeeper"].acl.acl_id == -1


def test_the_log_of_a_real_server_leads_to_its_digests() -> None:
    tree = DataTree()
    for raw in REAL_ENTRIES:
        txn = t.decode_txn(raw)
        tree.apply(txn)
        if txn.digest is not None:
            assert tree.digest == txn.digest.tree_digest, txn
    assert tree.digest_mismatches == 0
    assert tree.last_zxid == t.decode_txn(REAL_ENTRIES[-1]).header.zxid
    reloaded = _reload(tree)
    assert (reloaded.digest, reloaded.digest_mismatches) == (tree.digest, 0)


def test_create(history: History) -> None:
    assert history.create("/a", b"xyz") == 0
    assert history.events() == [(CREATED, "/a"), (CHILD, "/")]
    assert _stat(history.tree, "/a") == ZnodeStat(1, 1, 1000, 1000, 0, 0, 0, 0, 3, 0, 1)
    root = _stat(history.tree, "/")
    assert (root.pzxid, root.cversion, root.numChildren, root.mzxid) == (1, 0, 2, 0)
    assert history.create("/a/b", None) == 0
    assert history.events() == [(CREATED, "/a/b"), (CHILD, "/a")]
    assert (_stat(history.tree, "/a").pzxid, _stat(history.tree, "/").pzxid) == (2, 1)


def test_a_create_without_parent_does_nothing(history: History) -> None:
    before = _rows(history.tree)
    assert history.create("/a/b") == -101
    assert (_rows(history.tree), history.events()) == (before, [])


def test_a_create_that_happened_already_only_raises_the_parent(history: History) -> None:
    history.create("/a")
    history.create("/a/b", b"old", parent=1)
    assert history.create("/a/b", b"new", parent=5) == -110
    assert history.tree.nodes["/a/b"].data == b"old"
    assert (history.tree.nodes["/a"].cversion, history.tree.nodes["/a"].pzxid) == (5, 3)
    assert history.create("/a/b", b"new", parent=4) == -110
    assert (history.tree.nodes["/a"].cversion, history.tree.nodes["/a"].pzxid) == (5, 3)
    assert history.events() == []


def test_the_count_of_creates_sticks_at_the_top(history: History) -> None:
    history.create("/a")
    history.tree.nodes["/a"].cversion = 2**31 - 1
    pzxid = history.tree.nodes["/a"].pzxid
    assert history.create("/a/b", parent=-(2**31)) == 0
    assert (history.tree.nodes["/a"].cversion, history.tree.nodes["/a"].pzxid) == (2**31 - 1, pzxid)


def test_delete(history: History) -> None:
    history.create("/a")
    history.create("/a/b")
    assert history.delete("/a/b") == 0
    assert history.events() == [(DELETED, "/a/b"), (CHILD, "/a")]
    stat = _stat(history.tree, "/a")
    assert (stat.pzxid, stat.cversion, stat.numChildren) == (3, 2, 0)
    assert history.tree.nodes["/a"].children is None


def test_a_delete_that_happened_already_only_raises_the_parent(history: History) -> None:
    history.create("/a")
    assert history.delete("/a/b") == -101
    assert history.tree.nodes["/a"].pzxid == 2
    history.tree.nodes["/a"].pzxid = 99
    assert history.delete("/a/b") == -101
    assert history.tree.nodes["/a"].pzxid == 99
    assert history.delete("/x/y") == -101
    assert history.events() == []


def test_set_data(history: History) -> None:
    history.create("/a", b"one")
    assert history.set("/a", b"three", 1) == 0
    assert history.events() == [(CHANGED, "/a")]
    assert _stat(history.tree, "/a") == ZnodeStat(1, 2, 1000, 2000, 1, 0, 0, 0, 5, 0, 1)
    assert history.set("/nope", b"", 1) == -101
    assert history.set("/", b"root", 1) == 0
    assert history.tree.nodes[""].data == b"root"


def test_set_acl(history: History) -> None:
    history.create("/a")
    assert history.add(Opcode.SET_ACL, t.SetACLTxn("/a", READ_ACL_UNSAFE, 1)) == 0
    assert history.events() == []
    stat = _stat(history.tree, "/a")
    assert (stat.aversion, stat.mzxid, stat.version) == (1, 1, 0)
    assert history.tree.nodes["/a"].acl.entries == tuple(READ_ACL_UNSAFE)
    assert history.add(Opcode.SET_ACL, t.SetACLTxn("/a", None, 2)) == 0
    assert history.tree.nodes["/a"].acl.acl_id == -1
    assert history.add(Opcode.SET_ACL, t.SetACLTxn("/b", None, 2)) == -101


def test_an_acl_of_null_is_open(history: History) -> None:
    assert history.create("/a", acl=None) == 0
    assert history.tree.nodes["/a"].acl.acl_id == -1


def test_every_kind_of_owner_has_its_index(history: History) -> None:
    tree = history.tree
    history.create("/e", ephemeral=True)
    history.add(Opcode.CREATE_CONTAINER, t.CreateContainerTxn("/c", b"", OPEN_ACL_UNSAFE, 2))
    history.add(Opcode.CREATE_TTL, t.CreateTTLTxn("/t", b"", OPEN_ACL_UNSAFE, 3, 500))
    assert (tree.ephemerals, list(tree.containers), list(tree.ttls)) == ({SESSION: {"/e": None}}, ["/c"], ["/t"])
    owners = [tree.nodes[path].ephemeral_owner for path in ("/e", "/c", "/t")]
    assert owners == [SESSION, CONTAINER_OWNER, ttl_owner(500)]
    reloaded = _reload(tree)
    assert (reloaded.ephemerals, reloaded.containers, reloaded.ttls) == (tree.ephemerals, tree.containers, tree.ttls)
    for path in ("/e", "/c", "/t"):
        history.delete(path)
    assert (tree.ephemerals, tree.containers, tree.ttls) == ({}, {}, {})


def test_sessions(history: History) -> None:
    tree = history.tree
    assert history.add(Opcode.CREATE_SESSION, t.CreateSessionTxn(4000)) == 0
    history.create("/e1", ephemeral=True)
    history.create("/e2", ephemeral=True)
    history.create("/other", ephemeral=True, session=OTHER)
    assert tree.sessions == {SESSION: 4000}
    assert history.add(Opcode.CLOSE_SESSION, t.CloseSessionTxn(["/e2", "/gone"])) == 0
    assert history.events() == [(DELETED, "/e2"), (CHILD, "/"), (DELETED, "/e1"), (CHILD, "/")]
    assert (tree.sessions, tree.ephemerals) == ({}, {OTHER: {"/other": None}})
    assert tree.nodes[""].pzxid == history.zxid


def test_a_close_before_3_6_removes_what_the_tree_knows(history: History) -> None:
    history.create("/e1", ephemeral=True)
    assert history.add(Opcode.CLOSE_SESSION, None) == 0
    assert "/e1" not in history.tree.nodes
    assert history.add(Opcode.CLOSE_SESSION, None) == 0


def test_an_error_changes_nothing_but_the_zxid(history: History) -> None:
    before = _rows(history.tree)
    assert history.add(Opcode.ERROR, t.ErrorTxn(-110)) == -110
    assert (_rows(history.tree), history.tree.last_zxid) == (before, 1)


def _multi(*subs: tuple[int, Any]) -> t.MultiTxn:
    return t.MultiTxn([t.SubTxn(*sub) for sub in subs])


def test_a_multi_has_one_zxid_and_results_of_their_moment(history: History) -> None:
    record = _multi(
        (Opcode.CREATE, t.CreateTxn("/a", b"1", OPEN_ACL_UNSAFE, False, -1)),
        (Opcode.SET_DATA, t.SetDataTxn("/a", b"22", 1)),
        (Opcode.CHECK, t.CheckVersionTxn("/a", 2)),
        (Opcode.CREATE2, t.CreateTxn("/a/b", b"", OPEN_ACL_UNSAFE, False, -1)),
        (Opcode.DELETE, t.DeleteTxn("/a/b")),
    )
    assert history.add(Opcode.MULTI, record) == 0
    results = history.tree.results
    assert [(result.type, result.err, result.path) for result in results] == [
        (1, 0, "/a"),
        (5, 0, "/a"),
        (13, 0, "/a"),
        (15, 0, "/a/b"),
        (2, 0, "/a/b"),
    ]
    stats = [ZnodeStat._make(STAT.unpack(result.stat)) for result in results[:2]]
    assert [(stat.version, stat.dataLength, stat.czxid, stat.mzxid) for stat in stats] == [(0, 1, 1, 1), (1, 2, 1, 1)]
    assert results[4].stat == b""
    assert history.events() == [
        (CREATED, "/a"),
        (CHILD, "/"),
        (CHANGED, "/a"),
        (CREATED, "/a/b"),
        (CHILD, "/a"),
        (DELETED, "/a/b"),
        (CHILD, "/a"),
    ]


def test_a_failed_multi_changes_nothing(history: History) -> None:
    before = _rows(history.tree)
    record = _multi(
        (Opcode.CREATE, t.CreateTxn("/a", b"1", OPEN_ACL_UNSAFE, False, -1)),
        (Opcode.ERROR, t.ErrorTxn(-101)),
        (Opcode.ERROR, t.ErrorTxn(-2)),
    )
    assert history.add(Opcode.MULTI, record) == 0
    assert [(result.type, result.err) for result in history.tree.results] == [(-1, 0), (-1, -101), (-1, -2)]
    assert (_rows(history.tree), history.events()) == (before, [])


def test_the_zxid_only_rises(history: History) -> None:
    history.create("/a")
    history.tree.apply(t.Txn(t.TxnHeader(1, 1, 0, 1, Opcode.ERROR), t.ErrorTxn(-1), None))
    assert history.tree.last_zxid == 1


# Snapshots.


def test_a_snapshot_has_parents_first_and_the_root_without_a_name(history: History) -> None:
    history.create("/a")
    history.create("/b")
    history.create("/a/c")
    paths = [row.path for row in history.tree.walk()]
    assert paths == ["", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/a", "/a/c", "/b"]


def test_everything_comes_back_from_a_snapshot(history: History) -> None:
    history.add(Opcode.CREATE_SESSION, t.CreateSessionTxn(4000))
    history.create("/a", None, acl=READ_ACL_UNSAFE)
    history.create("/a/b", b"x", ephemeral=True)
    history.set("/a", b"data", 1)
    reloaded = _reload(history.tree)
    assert _rows(reloaded) == _rows(history.tree)
    for name in ("sessions", "ephemerals", "last_zxid", "digest", "data_size"):
        assert getattr(reloaded, name) == getattr(history.tree, name), name
    assert reloaded.nodes["/a"].acl.entries == tuple(READ_ACL_UNSAFE)
    assert reloaded.nodes["/"] is reloaded.nodes[""]
    assert (reloaded.digest_mismatches, reloaded.events) == (0, [])


def test_loading_replaces_what_was_there(history: History) -> None:
    empty = DataTree()
    history.create("/a", ephemeral=True)
    history.tree.load(0, [], empty.acls.dump(), empty.walk())
    assert _rows(history.tree) == _rows(empty)
    assert (history.tree.ephemerals, history.tree.digest, history.tree.last_zxid) == ({}, empty.digest, 0)


def test_what_an_old_snapshot_lacks_is_built_in(history: History) -> None:
    root = next(iter(history.tree.walk()))
    tree = DataTree()
    tree.load(7, [], [], [root])
    assert sorted(tree.nodes) == sorted(DataTree().nodes)
    assert tree.nodes["/zookeeper/config"].acl.entries == tuple(READ_ACL_UNSAFE)


_STAT = t.StatPersisted(1, 1, 1, 1, 0, 0, 0, 0, 1)


@pytest.mark.parametrize("paths", [["/a"], ["", "/a/b"], ["", ""], ["", "a"], [None], ["", "/a", "/a"]])
def test_rows_that_form_no_tree_are_refused(paths: list[str | None]) -> None:
    rows = [t.SnapshotNode(path, b"", -1, _STAT) for path in paths]
    with pytest.raises(CorruptTreeError):
        DataTree().load(1, [], [], rows)


def test_recovery_ends_without_orphans(history: History) -> None:
    history.add(Opcode.CREATE_SESSION, t.CreateSessionTxn(4000))
    history.create("/mine", ephemeral=True)
    history.create("/orphan", ephemeral=True, session=OTHER, acl=READ_ACL_UNSAFE)
    tree = _reload(history.tree)
    tree.acls.intern([ACL(3, ANYONE_ID_UNSAFE)]).uses = 0
    tree.finish_recovery()
    assert tree.ephemerals == {SESSION: {"/mine": None}}
    assert [row.acl for row in tree.acls.dump()] == [READ_ACL_UNSAFE, OPEN_ACL_UNSAFE]
    assert (tree.events, tree.last_zxid) == ([], history.tree.last_zxid)


def test_a_fuzzy_snapshot_s_unknown_acl_is_given_by_the_replay(history: History) -> None:
    acls = history.tree.acls.dump()
    zxid = history.zxid
    history.create("/a", acl=[ACL(5, ANYONE_ID_UNSAFE)])
    history.create("/b")
    history.add(Opcode.SET_ACL, t.SetACLTxn("/b", [ACL(3, ANYONE_ID_UNSAFE)], 1))
    tree = DataTree()
    tree.load(zxid, [], acls, history.tree.walk())
    assert tree.nodes["/a"].acl.is_undefined
    for txn in history.txns:
        tree.apply(txn)
    tree.finish_recovery()
    for path in ("/a", "/b"):
        assert tree.nodes[path].acl.entries == history.tree.nodes[path].acl.entries
    assert len(tree.acls) == len(history.tree.acls)


_paths = st.sampled_from(["/a", "/b", "/a/x", "/a/y", "/a/x/z", "/b/x"])
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("create"), _paths, st.sampled_from([0, SESSION, OTHER]), st.integers(0, 2)),
        st.tuples(st.just("delete"), _paths, st.just(0), st.just(0)),
        st.tuples(st.just("set"), _paths, st.just(0), st.integers(0, 2)),
        st.tuples(st.just("acl"), _paths, st.just(0), st.integers(1, 3)),
        st.tuples(st.just("close"), st.just(""), st.sampled_from([SESSION, OTHER]), st.just(0)),
    ),
    max_size=25,
)


def _do(history: History, step: tuple[str, str, int, int]) -> None:
    """A transaction that a leader could have made: only leaves are deleted, the parent's count is one more."""
    what, path, session, number = step
    nodes = history.tree.nodes
    node = nodes.get(path)
    parent = nodes.get(path.rpartition("/")[0])
    if what == "create" and parent is not None and node is None and not parent.ephemeral_owner:
        acl = [ACL(number + 1, ANYONE_ID_UNSAFE)]
        record = t.CreateTxn(path, bytes(number), acl, bool(session), parent.cversion + 1)
        history.add(Opcode.CREATE, record, session=session or SESSION)
    elif what == "delete" and node is not None and not node.children:
        history.delete(path)
    elif what == "set" and node is not None:
        history.set(path, bytes(number), node.version + 1)
    elif what == "acl" and node is not None:
        history.add(Opcode.SET_ACL, t.SetACLTxn(path, [ACL(number, ANYONE_ID_UNSAFE)], node.aversion + 1))
    elif what == "close":
        history.add(
            Opcode.CLOSE_SESSION, t.CloseSessionTxn(list(history.tree.ephemerals.get(session, ()))), session=session
        )
        history.add(Opcode.CREATE_SESSION, t.CreateSessionTxn(1), session=session)


@settings(max_examples=200, deadline=None)
@given(_steps, _steps, st.lists(st.integers(0, 3), max_size=12))
def test_a_snapshot_taken_while_the_tree_changes_leads_to_the_same_tree(
    before: list[Any], during: list[Any], pauses: list[int]
) -> None:
    history = History()
    for session in (SESSION, OTHER):
        history.add(Opcode.CREATE_SESSION, t.CreateSessionTxn(1), session=session)
    for step in before:
        _do(history, step)
    zxid = history.tree.last_zxid
    sessions = [t.SnapshotSession(*item) for item in history.tree.sessions.items()]
    acls = history.tree.acls.dump()
    rows: list[t.SnapshotNode] = []
    walk, left = history.tree.walk(), list(during)
    for pause in pauses:
        rows += [row for _, row in zip(range(pause), walk, strict=False)]
        if left:
            _do(history, left.pop(0))
    rows += walk
    section = (history.tree.last_zxid, t.DIGEST_VERSION, history.tree.digest)
    for step in left:
        _do(history, step)
    recovered = DataTree()
    recovered.load(zxid, sessions, acls, rows, section)
    for txn in history.txns:
        if txn.header.zxid > zxid:
            recovered.apply(txn)
    recovered.finish_recovery()
    assert _rows(recovered) == _rows(history.tree)
    assert recovered.digest == history.tree.digest
    assert recovered.ephemerals == history.tree.ephemerals
    for path, node in history.tree.nodes.items():
        assert recovered.nodes[path].acl.entries == node.acl.entries, path


# Quotas.

LIMITS = "/zookeeper/quota/a/zookeeper_limits"
STATS = "/zookeeper/quota/a/zookeeper_stats"


@pytest.fixture
def quota(history: History) -> History:
    history.create("/a", b"1234")
    for path in ("/zookeeper/quota/a", LIMITS, STATS):
        history.create(path, b"count=3,bytes=10" if path == LIMITS else b"")
    return history


def _usage(history: History) -> bytes | None:
    return history.tree.nodes[STATS].data


def test_statistics_follow_the_subtree(quota: History) -> None:
    assert _usage(quota) == b"count=1,bytes=4"
    quota.create("/a/b", b"xy")
    quota.create("/a/b/c", None)
    quota.create("/ab", b"not below")
    assert _usage(quota) == b"count=3,bytes=6"
    quota.set("/a/b", b"", 1)
    assert _usage(quota) == b"count=3,bytes=4"
    quota.delete("/a/b/c")
    assert _usage(quota) == b"count=2,bytes=4"
    assert _stat(quota.tree, STATS).version == 0
    assert _stat(quota.tree, STATS).dataLength == 15


def test_limits_that_are_passed_are_logged(quota: History, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        quota.create("/a/b", b"123456")
        assert caplog.text == ""
        quota.create("/a/c", b"7")
    assert "quota of /a passed" in caplog.text


def test_without_limits_nothing_is_counted(quota: History) -> None:
    quota.delete(LIMITS)
    quota.create("/a/b", b"xy")
    assert _usage(quota) == b"count=1,bytes=4"
    assert quota.tree.quota_root("/a/b") is None


def test_limits_without_statistics_count_nothing(quota: History) -> None:
    quota.delete(STATS)
    assert quota.create("/a/b", b"xy") == 0
    assert quota.tree.quota_root("/a/b/c") == "/a"


def test_limits_without_statistics_are_loaded(quota: History) -> None:
    quota.delete(STATS)
    assert _reload(quota.tree).quota_root("/a/b") == "/a"


def test_statistics_before_limits_and_of_nothing(history: History) -> None:
    history.create("/zookeeper/quota/a")
    history.create(STATS, b"old")
    assert _usage(history) == b"count=0,bytes=0"
    history.create("/a", b"12")
    assert _usage(history) == b"count=0,bytes=0"


def test_the_nearest_quota_counts(quota: History) -> None:
    quota.create("/a/b")
    for path in (
        "/zookeeper/quota/a/b",
        "/zookeeper/quota/a/b/zookeeper_limits",
        "/zookeeper/quota/a/b/zookeeper_stats",
    ):
        quota.create(path)
    quota.create("/a/b/c", b"x")
    assert quota.tree.nodes["/zookeeper/quota/a/b/zookeeper_stats"].data == b"count=2,bytes=1"
    assert _usage(quota) == b"count=2,bytes=4"


def test_statistics_are_counted_anew_after_loading(quota: History) -> None:
    quota.create("/a/b", b"xy")
    quota.tree.nodes[STATS].data = b"stale"
    reloaded = _reload(quota.tree)
    assert reloaded.nodes[STATS].data == b"count=2,bytes=6"
    assert reloaded.quota_root("/a/b") == "/a"


def test_limits_directly_under_quota_limit_nothing(history: History) -> None:
    assert history.create("/zookeeper/quota/zookeeper_limits", b"count=1,bytes=1") == 0
    assert history.create("/a", b"1234567") == 0
    assert history.tree.quota_root("/a") is None
    assert _reload(history.tree).quota_root("/a") is None


@pytest.mark.parametrize(
    ("path", "count"), [("/", 7), ("", 8), ("/a", 2), ("/a/b", 1), ("/a/b/c", 0), ("/zookeeper", 2)]
)
def test_descendants(history: History, path: str, count: int) -> None:
    for name in ("/a", "/a/b", "/a/b/c", "/ab"):
        history.create(name)
    assert history.tree.count_descendants(path) == count


def test_size_of_the_data(history: History) -> None:
    before = history.tree.data_size
    history.create("/a", b"1234")
    assert history.tree.data_size - before == 6
    history.set("/a", None, 1)
    assert history.tree.data_size - before == 2
    history.delete("/a")
    assert history.tree.data_size == before


def test_the_configuration_is_written_without_a_transaction(history: History) -> None:
    digest = history.tree.digest
    history.tree.set_config(b"server.1=...\nversion=0", version=0x100000000, wall_ms=5000)
    stat = _stat(history.tree, "/zookeeper/config")
    assert (stat.version, stat.aversion, stat.mzxid, stat.mtime, stat.dataLength) == (-1, -1, 0x100000000, 5000, 22)
    assert history.tree.digest == digest
