"""What may be written, in which order that is asked, and what exactly is proposed."""

from __future__ import annotations

from typing import Any

import pytest

from terzetto.client.values import (
    ACL,
    ANYONE_ID_UNSAFE,
    CREATOR_ALL_ACL,
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    Id,
    make_acl,
)
from terzetto.client.wire import Opcode, operations as o, records as r
from terzetto.testcluster import txns as t
from terzetto.testcluster.connection import Request
from terzetto.testcluster.preparer import Preparer
from terzetto.testcluster.sessions import SessionTracker
from terzetto.testcluster.znodes import CONTAINER_OWNER, ttl_owner

from .port import Peer, Port, create, multi_frame

SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
NO_CREATE = [ACL(1 | 2 | 8 | 16, ANYONE_ID_UNSAFE)]
NO_DELETE = [ACL(1 | 2 | 4 | 16, ANYONE_ID_UNSAFE)]
NO_WRITE = [ACL(1 | 4 | 8 | 16, ANYONE_ID_UNSAFE)]
NO_READ = [ACL(2 | 4 | 8 | 16, ANYONE_ID_UNSAFE)]
NO_ADMIN = [ACL(1 | 2 | 4 | 8, ANYONE_ID_UNSAFE)]
NULL_ID: Any = ACL(31, Id("digest", None))  # type: ignore[arg-type]
BAD_ACL = [make_acl("nope", "x", all=True)]
BAD_PATHS = [
    "",
    "nope",
    "/a/",
    "/a//b",
    "/a/./b",
    "/a/..",
    "/.",
    "/a\0",
    "/a\x1f",
    "/\x7f",
    "/\ue000",
    "/\uf8ff",
    "/\ufff0",
    "/\uffff",
]


@pytest.fixture
def port() -> Port:
    return Port(extended_types=True)


@pytest.fixture
def peer(port: Port) -> Peer:
    return port.connect()


def _err(peer: Peer, path: str | None, *, flags: int = 0, acl: Any = OPEN_ACL_UNSAFE) -> int:
    return peer.err(o.CREATE, path, b"", acl, flags)


def _last(peer: Peer) -> t.Txn:
    return peer.port.log[-1]


# create


@pytest.mark.parametrize(
    ("operation", "flags", "path", "record", "owner"),
    [
        (o.CREATE, 0, "/a", t.CreateTxn("/a", b"x", OPEN_ACL_UNSAFE, False, 1), 0),
        (o.CREATE, 1, "/a", t.CreateTxn("/a", b"x", OPEN_ACL_UNSAFE, True, 1), None),
        (o.CREATE, 2, "/a", t.CreateTxn("/a0000000000", b"x", OPEN_ACL_UNSAFE, False, 1), 0),
        (o.CREATE, 3, "/a", t.CreateTxn("/a0000000000", b"x", OPEN_ACL_UNSAFE, True, 1), None),
        (o.CREATE, 4, "/a", t.CreateTxn("/a", b"x", OPEN_ACL_UNSAFE, False, 1), 0),
        (o.CREATE2, 0, "/a", t.CreateTxn("/a", b"x", OPEN_ACL_UNSAFE, False, 1), 0),
        (o.CREATE2, 3, "/a", t.CreateTxn("/a0000000000", b"x", OPEN_ACL_UNSAFE, True, 1), None),
        (o.CREATE_CONTAINER, 4, "/a", t.CreateContainerTxn("/a", b"x", OPEN_ACL_UNSAFE, 1), CONTAINER_OWNER),
        (o.CREATE_CONTAINER, 0, "/a", t.CreateContainerTxn("/a", b"x", OPEN_ACL_UNSAFE, 1), CONTAINER_OWNER),
        (o.CREATE_CONTAINER, 2, "/a", t.CreateContainerTxn("/a0000000000", b"x", OPEN_ACL_UNSAFE, 1), CONTAINER_OWNER),
    ],
)
def test_create_in_every_mode(
    peer: Peer, operation: o.Operation, flags: int, path: str, record: Any, owner: int | None
) -> None:
    made = peer.ok(operation, path, b"x", OPEN_ACL_UNSAFE, flags)
    txn = _last(peer)
    assert made.path == record.path
    assert txn.record == record
    assert txn.header == t.TxnHeader(peer.session_id, 1, 2, peer.port.wall_ms, operation.opcode)
    assert txn.digest == t.TxnDigest(2, peer.port.tree.digest)
    expected = peer.session_id if owner is None else owner
    assert peer.port.tree.nodes[record.path].ephemeral_owner == expected
    if operation is not o.CREATE:
        assert made.stat == peer.stat(made.path)
        assert made.stat.ephemeralOwner == (peer.session_id if owner is None else 0)


@pytest.mark.parametrize(("flags", "path"), [(5, "/t"), (6, "/t0000000000")])
def test_create_with_a_time_to_live(peer: Peer, flags: int, path: str) -> None:
    made = peer.ok(o.CREATE_TTL, "/t", b"x", OPEN_ACL_UNSAFE, flags, 2**40 - 1)
    assert made.path == path
    assert _last(peer).record == t.CreateTTLTxn(path, b"x", OPEN_ACL_UNSAFE, 1, 2**40 - 1)
    assert peer.port.tree.nodes[path].ephemeral_owner == ttl_owner(2**40 - 1)
    assert made.stat.ephemeralOwner == 0


@pytest.mark.parametrize("flags", [7, -1, 100, 5, 6])
@pytest.mark.parametrize("operation", [o.CREATE, o.CREATE2, o.CREATE_CONTAINER])
def test_flags_that_no_create_has(peer: Peer, operation: o.Operation, flags: int) -> None:
    assert peer.err(operation, "/a", b"", OPEN_ACL_UNSAFE, flags) == -8


@pytest.mark.parametrize(("flags", "ttl"), [(5, 0), (5, -1), (6, 2**40), (5, 2**62), (0, 5), (4, 5), (7, 5), (-1, -1)])
def test_times_to_live_that_are_refused(peer: Peer, flags: int, ttl: int) -> None:
    assert peer.err(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, flags, ttl) == -8


@pytest.mark.parametrize("flags", [0, 1, 2, 3, 4])
def test_the_request_that_kills_zookeeper_is_refused(peer: Peer, flags: int) -> None:
    """createTTL without a TTL flag and with a negative time: 3.5 to 3.9 log it, and die of it at each start."""
    assert peer.err(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, flags, -1) == -8
    assert _last(peer).record == t.ErrorTxn(-8)
    assert "/t" not in peer.port.tree.nodes


def test_without_extended_types_there_is_no_time_to_live() -> None:
    peer = Port().connect()
    assert peer.err(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, 5, 100) == -6
    assert peer.err(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, 5, -100) == -6
    assert peer.err(o.CREATE, "/t", b"", OPEN_ACL_UNSAFE, 5) == -6
    assert peer.err(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, 0, 100) == -8


@pytest.mark.parametrize(
    ("path", "flags", "acl", "code"),
    [
        ("nope", 7, BAD_ACL, -8),
        ("nope", 0, BAD_ACL, -8),
        ("/no/pe\0", 0, BAD_ACL, -8),
        ("/nope/../x", 0, BAD_ACL, -114),
        ("/nope/../x", 0, OPEN_ACL_UNSAFE, -101),
        ("/shut/..", 0, OPEN_ACL_UNSAFE, -102),
        ("/a/..", 0, OPEN_ACL_UNSAFE, -8),
        ("/a/", 0, OPEN_ACL_UNSAFE, -8),
        ("/a", 0, OPEN_ACL_UNSAFE, -110),
        ("/e/f", 0, OPEN_ACL_UNSAFE, -110),
        ("/e/g", 0, OPEN_ACL_UNSAFE, -108),
        ("/", 0, OPEN_ACL_UNSAFE, -110),
        ("", 0, OPEN_ACL_UNSAFE, -8),
        (None, 0, OPEN_ACL_UNSAFE, -5),
        ("/b", 0, None, -114),
        ("/b", 0, [], -114),
        ("/b", 0, [NULL_ID], -5),
    ],
)
def test_the_order_in_which_a_create_is_refused(peer: Peer, path: str | None, flags: int, acl: Any, code: int) -> None:
    peer.create("/a")
    peer.create("/shut", acl=NO_CREATE)
    peer.create("/e")
    peer.create("/e/f")
    peer.port.tree.nodes["/e"].ephemeral_owner = peer.session_id
    assert _err(peer, path, flags=flags, acl=acl) == code
    assert (_last(peer).header.type, _last(peer).record, _last(peer).digest) == (-1, t.ErrorTxn(code), None)


@pytest.mark.parametrize("path", [path for path in BAD_PATHS if path.startswith("/")])
def test_paths_that_cannot_be_created(peer: Peer, path: str) -> None:
    peer.create("/a")
    assert _err(peer, path) == (-101 if path in ("/a//b", "/a/./b") else -8)


def test_sequences_count_every_create_of_the_parent(peer: Peer) -> None:
    peer.create("/p")
    names = [
        peer.create(path, flags=flags)
        for path, flags in [("/p/a", 0), ("/p/s-", 2), ("/p/x", 1), ("/p/", 3), ("/p/s-", 2)]
    ]
    assert names == ["/p/a", "/p/s-0000000001", "/p/x", "/p/0000000003", "/p/s-0000000004"]
    peer.ok(o.DELETE, "/p/a", -1)
    assert peer.create("/p/s-", flags=2) == "/p/s-0000000005"
    assert peer.create("/p", flags=2) == "/p0000000001"
    assert peer.stat("/p").cversion == 7


def test_a_sequence_may_meet_a_name_that_is_there(peer: Peer) -> None:
    peer.create("/s-0000000001")
    assert _err(peer, "/s-", flags=2) == -110


def test_the_sequence_sticks_at_its_end(peer: Peer) -> None:
    peer.create("/p")
    peer.port.tree.nodes["/p"].cversion = 2**31 - 2
    assert peer.create("/p/s-", flags=2) == "/p/s-2147483646"
    assert peer.create("/p/s-", flags=2) == "/p/s-2147483647"
    stat = peer.stat("/p")
    assert _err(peer, "/p/s-", flags=2) == -110
    assert peer.create("/p/other", flags=2) == "/p/other2147483647"
    assert (peer.stat("/p").pzxid, peer.stat("/p").cversion) == (stat.pzxid, stat.cversion - 1)
    assert peer.port.tree.digest_mismatches == 0


def test_only_true_ephemerals_have_no_children(peer: Peer) -> None:
    peer.ok(o.CREATE_CONTAINER, "/c", b"", OPEN_ACL_UNSAFE, 4)
    peer.ok(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, 5, 1000)
    peer.create("/e", flags=1)
    assert [_err(peer, f"/{parent}/x") for parent in "cte"] == [0, 0, -108]


# delete, setData, setACL, check


@pytest.mark.parametrize(
    ("path", "version", "code"),
    [
        ("/", -1, -8),
        ("", -1, -8),
        ("/zookeeper", -1, -8),
        ("/zookeeper/quota", -1, -8),
        ("/zookeeper/config", -1, -8),
        ("nope", -1, -8),
        ("/a\0", -1, -8),
        ("/a/", -1, -101),
        ("/a/./b", -1, -101),
        ("/x/y", -1, -101),
        ("/x", -1, -101),
        ("/shut/nope", -1, -102),
        ("/a", 1, -103),
        ("/a", -2, -103),
        ("/p", 7, -103),
        ("/p", -1, -111),
        ("/a", 0, 0),
        ("/a", -1, 0),
        (None, -1, -5),
    ],
)
def test_delete(peer: Peer, path: str | None, version: int, code: int) -> None:
    for name in ("/a", "/p", "/p/q"):
        peer.create(name)
    peer.create("/shut", acl=NO_DELETE)
    assert peer.err(o.DELETE, path, version) == code
    expected: Any = t.DeleteTxn("/a") if code == 0 else t.ErrorTxn(code)
    assert _last(peer).record == expected


def test_delete_asks_only_the_parent_s_acl(peer: Peer) -> None:
    peer.create("/a", acl=[ACL(0, ANYONE_ID_UNSAFE)])
    assert peer.err(o.DELETE, "/a", -1) == 0


@pytest.mark.parametrize(
    ("path", "version", "code"),
    [
        *((path, -1, -8) for path in BAD_PATHS),
        (None, -1, -8),
        ("/nope", -1, -101),
        ("/shut", 5, -102),
        ("/zookeeper/config", -1, -102),
        ("/a", 1, -103),
        ("/a", -2, -103),
        ("/a", 0, 0),
        ("/a", -1, 0),
        ("/", -1, 0),
        ("/zookeeper", -1, 0),
        ("/zookeeper/quota", -1, 0),
    ],
)
def test_set_data(peer: Peer, path: str | None, version: int, code: int) -> None:
    peer.create("/a")
    peer.create("/shut", acl=NO_WRITE)
    answer = peer.ask(o.SET_DATA, path, b"new", version)
    assert answer.err == code
    if code == 0:
        assert _last(peer).record == t.SetDataTxn(path or "", b"new", 1)
        assert answer.value.stat == peer.stat(path or "")
        assert (answer.value.stat.version, answer.value.stat.mzxid) == (1, answer.zxid)


def test_versions_wrap(peer: Peer) -> None:
    peer.create("/a")
    node = peer.port.tree.nodes["/a"]
    node.version = node.aversion = 2**31 - 1
    assert peer.ok(o.SET_DATA, "/a", b"", -1).stat.version == -(2**31)
    assert peer.ok(o.SET_DATA, "/a", b"", -(2**31)).stat.version == -(2**31) + 1
    assert peer.ok(o.SET_ACL, "/a", OPEN_ACL_UNSAFE, 2**31 - 1).stat.aversion == -(2**31)


@pytest.mark.parametrize(
    ("path", "acl", "version", "code"),
    [
        ("/a/", BAD_ACL, -1, -8),
        (None, BAD_ACL, -1, -8),
        ("/nope", BAD_ACL, -1, -114),
        ("/nope", OPEN_ACL_UNSAFE, -1, -101),
        ("/shut", OPEN_ACL_UNSAFE, 5, -102),
        ("/a", OPEN_ACL_UNSAFE, 5, -103),
        ("/a", None, -1, -114),
        ("/a", READ_ACL_UNSAFE, 0, 0),
        ("/", READ_ACL_UNSAFE, -1, 0),
    ],
)
def test_set_acl(peer: Peer, path: str | None, acl: Any, version: int, code: int) -> None:
    peer.create("/a")
    peer.create("/shut", acl=NO_ADMIN)
    answer = peer.ask(o.SET_ACL, path, acl, version)
    assert answer.err == code
    if code == 0:
        assert _last(peer).record == t.SetACLTxn(path or "", READ_ACL_UNSAFE, 1)
        assert (answer.value.stat.aversion, answer.value.stat.version) == (1, 0)


@pytest.mark.parametrize(
    ("path", "version", "code"),
    [("/a", 0, 0), ("/a", -1, 0), ("/", -1, 0), ("/a", 1, -103), ("/nope", -1, -101), ("/shut", 0, -102), ("a", 0, -8)],
)
def test_check(peer: Peer, path: str, version: int, code: int) -> None:
    peer.create("/a")
    peer.create("/shut", acl=NO_READ)
    (result,) = peer.multi((13, r.CheckVersionRequest(path, version)))
    assert result.err == code
    if code == 0:
        assert _last(peer).record == t.MultiTxn([t.SubTxn(13, t.CheckVersionTxn(path, 1))])


def test_a_check_alone_is_no_request(peer: Peer) -> None:
    """Releases up to 3.8.4 take it and never answer."""
    peer.send(b"\0\0\0\x11" + b"\0\0\0\1" + b"\0\0\0\x0d" + b"\0\0\0\1/" + b"\xff\xff\xff\xff")
    (answer,) = peer.replies()
    assert (answer.err, answer.zxid, peer.closed) == (-6, -1, True)


def test_who_the_client_is_is_what_auth_stands_for(peer: Peer) -> None:
    peer.ok(o.AUTH, 0, "digest", b"u:p")
    peer.create("/a", acl=CREATOR_ALL_ACL)
    other = peer.port.connect()
    other.ok(o.AUTH, 0, "digest", b"v:q")
    other.create("/b", acl=CREATOR_ALL_ACL)
    acls = [peer.port.tree.nodes[path].acl.entries[0].id for path in ("/a", "/b")]
    assert [acl.scheme for acl in acls] == ["digest", "digest"]
    assert [acl.id.partition(":")[0] for acl in acls] == ["u", "v"]


def test_super_may_do_everything_but_delete_what_is_reserved() -> None:
    peer = Port(digest_super=SUPER).connect()
    peer.create("/shut", acl=[ACL(0, ANYONE_ID_UNSAFE)])
    peer.ok(o.AUTH, 0, "digest", b"super:test")
    peer.create("/shut/a")
    assert peer.err(o.SET_DATA, "/shut", b"", -1) == 0
    assert peer.err(o.SET_DATA, "/zookeeper/config", b"", -1) == 0
    assert peer.err(o.DELETE, "/zookeeper/config", -1) == -8
    peer.create("/mine", acl=CREATOR_ALL_ACL)
    assert peer.port.tree.nodes["/mine"].acl.entries[0].id == Id("digest", SUPER)


def test_many_different_acls(peer: Peer) -> None:
    for number in range(600):
        peer.create(f"/{number}", acl=[make_acl("ip", f"10.0.{number >> 8}.{number & 255}", all=True)])
    assert peer.port.tree.nodes["/3"].acl.entries[0].id.id == "10.0.0.3"


# Quotas


def _limited(**settings: Any) -> Peer:
    peer = Port(enforce_quota=True, **settings).connect()
    peer.create("/q", b"12")
    peer.create("/zookeeper/quota/q")
    peer.create("/zookeeper/quota/q/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3")
    peer.create("/zookeeper/quota/q/zookeeper_stats")
    return peer


def test_hard_limits_refuse_znodes_and_bytes() -> None:
    peer = _limited()
    peer.create("/q/a")
    assert peer.err(o.CREATE, "/q/b", b"123456789", OPEN_ACL_UNSAFE, 0) == -125
    peer.create("/q/b")
    assert _err(peer, "/q/c") == -125
    assert peer.err(o.SET_DATA, "/q/b", b"123456789", -1) == -125
    assert peer.err(o.SET_DATA, "/q/b", b"12345678", -1) == 0
    assert _err(peer, "/elsewhere") == 0


def test_quota_comes_last_for_create_and_before_the_version_for_set_data() -> None:
    peer = _limited()
    peer.create("/q/a")
    peer.create("/q/b")
    assert _err(peer, "/q/a") == -110
    assert peer.err(o.SET_DATA, "/q/a", b"123456789", 99) == -125


def test_limits_without_statistics_refuse_nothing() -> None:
    peer = _limited()
    peer.ok(o.DELETE, "/zookeeper/quota/q/zookeeper_stats", -1)
    for name in "abcdef":
        peer.create(f"/q/{name}", b"123456")


def test_limits_only_warn_unless_they_are_enforced() -> None:
    peer = Port().connect()
    peer.create("/q")
    for name in ("", "/zookeeper_limits", "/zookeeper_stats"):
        peer.create(f"/zookeeper/quota/q{name}", b"count=0,bytes=0=;countHardLimit=0")
    assert _err(peer, "/q/a") == 0


def test_limits_that_name_no_subtree_are_refused(peer: Peer) -> None:
    """ZooKeeper 3.8.0 ends when it applies such a create, which any client may send."""
    assert _err(peer, "/zookeeper/quota/zookeeper_limits") == -8
    assert peer.multi((1, create("/zookeeper/quota/zookeeper_limits")))[0].err == -8


def test_statistics_that_are_none_are_refused(peer: Peer) -> None:
    """ZooKeeper 3.8.0 ends at the next write under the quota."""
    peer.create("/q")
    for name in ("", "/zookeeper_limits", "/zookeeper_stats"):
        peer.create(f"/zookeeper/quota/q{name}", b"count=9,bytes=99")
    stats = "/zookeeper/quota/q/zookeeper_stats"
    assert [peer.err(o.SET_DATA, stats, data, -1) for data in (b"rubbish", None, b"count=5,bytes=7")] == [-8, -8, 0]
    peer.create("/q/a", b"xy")
    assert peer.ok(o.GET_DATA, stats, False).data == b"count=6,bytes=9"


# Pipelined writes


def test_writes_are_judged_by_what_will_be(peer: Peer) -> None:
    frames = [
        peer.frame(o.CREATE, "/a", b"1", OPEN_ACL_UNSAFE, 0),
        peer.frame(o.CREATE, "/a", b"1", OPEN_ACL_UNSAFE, 0),
        peer.frame(o.SET_DATA, "/a", b"22", 0),
        peer.frame(o.SET_DATA, "/a", b"333", 0),
        peer.frame(o.CREATE, "/a/s", b"", OPEN_ACL_UNSAFE, 3),
        peer.frame(o.DELETE, "/a", -1),
        peer.frame(o.DELETE, "/a/s0000000000", 0),
        peer.frame(o.SET_ACL, "/a", NO_WRITE, 0),
        peer.frame(o.SET_DATA, "/a", b"", -1),
        peer.frame(o.DELETE, "/a", 1),
        peer.frame(o.SET_DATA, "/a", b"", -1),
        peer.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0),
    ]
    with peer.port.hold() as held:
        peer.send(b"".join(frames))
        assert [txn.record.err if txn.header.type == -1 else 0 for txn in held] == [
            0,
            -110,
            0,
            -103,
            0,
            -111,
            0,
            0,
            -102,
            0,
            -101,
            0,
        ]
        assert peer.replies() == []
    assert [answer.err for answer in peer.replies()] == [0, -110, 0, -103, 0, -111, 0, 0, -102, 0, -101, 0]
    assert [answer.zxid for answer in peer.stream()] == []
    assert peer.port.tree.digest_mismatches == 0


def test_what_is_applied_is_forgotten_bit_by_bit(peer: Peer) -> None:
    port = peer.port
    with port.hold() as held:
        peer.send(b"".join(peer.frame(o.CREATE, "/s", b"", OPEN_ACL_UNSAFE, 2) for _ in range(6)))
        assert len(held) == 6
        port.machine.commit(held[:3], port.now_ms)
        assert len(port.tree.nodes) == 8
        peer.send(peer.frame(o.CREATE, "/s", b"", OPEN_ACL_UNSAFE, 2))
        assert held[-1].record.path == "/s0000000006"
        del held[:3]
    assert len(peer.replies()) == 7
    assert port.tree.digest_mismatches == 0
    assert port.machine.preparer.outstanding == 0


# Sessions


def _preparer(**settings: Any) -> tuple[Preparer, SessionTracker, Port]:
    port = Port(**settings)
    tracker = port.machine.sessions
    return Preparer(port.tree, tracker, port.machine.access, port.settings), tracker, port


@pytest.mark.parametrize("kind", [1, 2, 5, 7, 14])
def test_a_write_for_a_session_that_is_over(kind: int) -> None:
    preparer, _, _ = _preparer()
    bodies = {
        1: o.CREATE.frame(1, "/a", b"", OPEN_ACL_UNSAFE, 0),
        2: o.DELETE.frame(1, "/a", -1),
        5: o.SET_DATA.frame(1, "/a", b"", -1),
        7: o.SET_ACL.frame(1, "/a", OPEN_ACL_UNSAFE, -1),
        14: multi_frame(1, (1, create("/a"))),
    }
    txn = preparer.prepare(Request(77, 5, kind, bodies[kind][12:]), 1000)
    if kind == 14:
        assert txn.record == t.MultiTxn([t.SubTxn(-1, t.ErrorTxn(-112))])
    else:
        assert (txn.header, txn.record) == (t.TxnHeader(77, 5, 1, 1000, -1), t.ErrorTxn(-112))


def test_a_write_from_a_server_that_lost_the_session() -> None:
    preparer, tracker, _ = _preparer()
    here, there = object(), object()
    tracker.track(77, 4000, 0, here)
    body = o.DELETE.frame(1, "/a", -1)[12:]
    assert preparer.prepare(Request(77, 5, 2, body, owner=there), 1).record == t.ErrorTxn(-118)
    assert preparer.prepare(Request(77, 5, 2, body, owner=here), 1).record == t.ErrorTxn(-101)


@pytest.mark.parametrize(("kind", "code"), [(2, -112), (5, -112), (7, -112), (1, -5), (14, -5)])
def test_the_session_comes_before_bytes_that_cannot_be_read(kind: int, code: int) -> None:
    preparer, _, _ = _preparer()
    assert preparer.prepare(Request(77, 5, kind, b"\0"), 1).record == t.ErrorTxn(code)


def test_a_create_session_without_a_timeout() -> None:
    preparer, tracker, _ = _preparer()
    assert preparer.prepare(Request(77, 0, Opcode.CREATE_SESSION, b"\0"), 1).record == t.ErrorTxn(-5)
    assert tracker.sessions == {}


def test_closing_counts_what_is_still_to_be_applied(peer: Peer) -> None:
    port = peer.port
    peer.create("/a", flags=1)
    peer.create("/b", flags=1)
    with port.hold():
        peer.send(
            peer.frame(o.DELETE, "/a", -1)
            + peer.frame(o.CREATE, "/c", b"", OPEN_ACL_UNSAFE, 1)
            + peer.frame(o.CLOSE_SESSION)
        )
        closing = port.log[-1]
        assert closing.header.type == Opcode.CLOSE_SESSION
        assert sorted(closing.record.paths) == ["/b", "/c"]
    assert set(port.tree.nodes) == {"", "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"}
    assert port.tree.digest_mismatches == 0


def test_closing_makes_the_parents_empty_for_those_that_follow(peer: Peer) -> None:
    port = peer.port
    other = port.connect()
    peer.create("/p")
    peer.create("/p/e", flags=1)
    with port.hold():
        peer.send(peer.frame(o.CLOSE_SESSION))
        other.send(other.frame(o.DELETE, "/p", -1))
    assert [answer.err for answer in other.replies()] == [0]
    assert port.tree.digest_mismatches == 0


# The server's own requests


@pytest.mark.parametrize(
    ("path", "code"), [("/box", 0), ("/full", -111), ("/gone", -101), ("/eph", -103), ("/", -8), ("/plain", 0)]
)
def test_removing_a_container(peer: Peer, path: str, code: int) -> None:
    for name in ("/box", "/full", "/plain"):
        peer.ok(o.CREATE_CONTAINER, name, b"", OPEN_ACL_UNSAFE, 4)
    peer.create("/full/x")
    peer.create("/eph", flags=1)
    peer.port.machine.add_request(Request(0, 0, Opcode.DELETE_CONTAINER, path.encode()))
    peer.port.pump()
    expected: Any = t.DeleteTxn(path) if code == 0 else t.ErrorTxn(code)
    assert _last(peer).record == expected
    assert (_last(peer).header.client_id, _last(peer).header.cxid) == (0, 0)


@pytest.mark.parametrize(("enabled", "code"), [(False, -123), (True, -6)])
def test_a_server_alone_cannot_be_reconfigured(enabled: bool, code: int) -> None:
    peer = Port(reconfig_enabled=enabled).connect()
    assert peer.err(o.RECONFIG, "server.2=x:1:2", None, None, -1) == code
    assert _last(peer).record == t.ErrorTxn(code)


def test_digests_can_be_left_out() -> None:
    peer = Port(tree_digest=False).connect()
    peer.create("/a")
    assert [txn.digest for txn in peer.port.log] == [None, None]


def test_zxids_go_on_from_the_tree_s() -> None:
    port = Port()
    port.connect().create("/a")
    again = Port(tree=port.tree)
    again.connect().create("/b")
    assert [txn.header.zxid for txn in again.log] == [3, 4]
