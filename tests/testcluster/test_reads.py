"""Reads and watches through the client port."""

from __future__ import annotations

from typing import Any

import pytest

from terzetto.client.values import ACL, ANYONE_ID_UNSAFE, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id, Permissions
from terzetto.client.wire import Opcode, multi, operations as o, records as r
from terzetto.testcluster.auth import digest_id

from .port import Event, Peer, Port, Reply, framed, multi_frame

CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4
SECRET = [ACL(Permissions.ALL, Id("digest", digest_id(b"u:p")))]
NO_READ = [ACL(Permissions.ALL & ~Permissions.READ, ANYONE_ID_UNSAFE)]


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def peer(port: Port) -> Peer:
    return port.connect()


@pytest.fixture
def other(port: Port) -> Peer:
    return port.connect()


# Reads


def test_reading_a_znode(peer: Peer) -> None:
    peer.create("/a", b"data")
    stat = peer.stat("/a")
    answer = peer.ask(o.GET_DATA, "/a", False)
    assert (answer.zxid, answer.value) == (2, r.GetDataResponse(b"data", stat))
    peer.create("/a/b")
    peer.create("/a/c", None)
    stat = peer.stat("/a")
    assert peer.ok(o.GET_CHILDREN, "/a", False) == r.GetChildrenResponse(["b", "c"])
    assert peer.ok(o.GET_CHILDREN2, "/a", False) == r.GetChildren2Response(["b", "c"], stat)
    assert (stat.numChildren, stat.cversion) == (2, 2)


@pytest.mark.parametrize("data", [None, b"", b"\0" * 5000])
def test_data_comes_back_as_it_was(peer: Peer, data: bytes | None) -> None:
    peer.create("/a", data)
    value = peer.ok(o.GET_DATA, "/a", False)
    assert (value.data, value.stat.dataLength) == (data, len(data or b""))


@pytest.mark.parametrize("root", ["/", ""])
def test_the_root_has_two_names(peer: Peer, root: str) -> None:
    assert peer.ok(o.GET_CHILDREN, root, False).children == ["zookeeper"]
    assert peer.ok(o.GET_DATA, root, False).data == b""
    assert peer.ok(o.GET_ACL, root).acl == OPEN_ACL_UNSAFE
    assert peer.stat(root).numChildren == 1


READS = [
    (o.EXISTS, False),
    (o.GET_DATA, False),
    (o.GET_CHILDREN, False),
    (o.GET_CHILDREN2, False),
    (o.GET_ACL,),
    (o.GET_ALL_CHILDREN_NUMBER,),
]


@pytest.mark.parametrize("read", READS, ids=repr)
def test_reads_of_what_is_not_there(peer: Peer, read: Any) -> None:
    operation, *rest = read
    for path in ("/nope", "nope", "/a//b", "/nope/..", "\ufffd"):
        assert peer.err(operation, path, *rest) == -101
    assert peer.err(operation, None, *rest) == -5
    assert peer.err(operation, "/a\0", *rest) == (-8 if operation is o.EXISTS else -101)


@pytest.mark.parametrize("read", READS, ids=repr)
def test_reads_without_permission(peer: Peer, read: Any) -> None:
    operation, *rest = read
    peer.create("/a", acl=SECRET)
    assert peer.err(operation, "/a", *rest) == -102
    peer.ok(o.AUTH, 0, "digest", b"u:p")
    assert peer.err(operation, "/a", *rest) == 0


@pytest.mark.parametrize("read", [read for read in READS if len(read) == 2], ids=repr)
@pytest.mark.parametrize("length", [-2, 3, 2**31 - 1, -(2**31)])
def test_paths_that_are_longer_than_their_frame(peer: Peer, read: Any, length: int) -> None:
    peer.create("/a")
    body = (
        (1).to_bytes(4, "big")
        + int(read[0].opcode).to_bytes(4, "big")
        + length.to_bytes(4, "big", signed=True)
        + b"/a\0"
    )
    assert peer.ask_frame(framed(body)).err == -5
    assert peer.ask_frame(framed(body[:10])).err == -5
    assert peer.ask_frame(framed(body[:8])).err == -5


def test_bytes_behind_a_record_are_ignored_and_any_byte_is_true(peer: Peer) -> None:
    peer.create("/a")
    frame = o.GET_DATA.frame(900, "/a", True)[4:]
    answer = peer.ask_frame(framed(frame[:-1] + b"\x07" + b"more"))
    assert answer.err == 0
    peer.ok(o.SET_DATA, "/a", b"", -1)
    assert [event.type for event in peer.events] == [CHANGED]


@pytest.mark.parametrize("operation", [o.GET_DATA, o.EXISTS, o.GET_CHILDREN, o.GET_CHILDREN2])
def test_names_that_are_no_utf8_are_refused_and_not_watched(peer: Peer, operation: o.Operation) -> None:
    frame = operation.frame(1, "/ab", True)[4:].replace(b"/ab", b"/\xff\xfe")
    assert peer.ask_frame(framed(frame)).err == -5
    assert peer.port.machine.watches.total == 0


def test_a_character_that_java_writes_as_two_surrogates(peer: Peer) -> None:
    frame = o.GET_DATA.frame(1, "/abcdef", False)[4:].replace(b"/abcdef", b"/\xed\xa0\xbd\xed\xb8\x80")
    assert peer.ask_frame(framed(frame)).err == -101


def test_names_in_every_alphabet(peer: Peer) -> None:
    peer.create("/ä中é", b"x")
    assert peer.ok(o.GET_CHILDREN, "/", False).children == ["zookeeper", "ä中é"]
    assert peer.ok(o.GET_DATA, "/ä中é", False).data == b"x"


@pytest.mark.parametrize(
    ("acl", "ids", "shown"),
    [
        (OPEN_ACL_UNSAFE, None, OPEN_ACL_UNSAFE),
        (READ_ACL_UNSAFE, None, READ_ACL_UNSAFE),
        ([*READ_ACL_UNSAFE, *SECRET], None, [*READ_ACL_UNSAFE, ACL(31, Id("digest", "u:x"))]),
        ([*READ_ACL_UNSAFE, *SECRET], b"u:p", [*READ_ACL_UNSAFE, *SECRET]),
        ([ACL(16, ANYONE_ID_UNSAFE), *SECRET], None, [ACL(16, ANYONE_ID_UNSAFE), *SECRET]),
    ],
)
def test_reading_an_acl(peer: Peer, acl: list[ACL], ids: bytes | None, shown: list[ACL]) -> None:
    peer.create("/a", acl=acl)
    if ids is not None:
        peer.ok(o.AUTH, 0, "digest", ids)
    value = peer.ok(o.GET_ACL, "/a")
    assert value.acl == shown
    assert value.stat.czxid == 2


def test_counting_descendants(peer: Peer) -> None:
    for path in ("/a", "/a/b", "/a/b/c"):
        peer.create(path)
    counts = [peer.ok(o.GET_ALL_CHILDREN_NUMBER, path).total_number for path in ("/", "/a", "/a/b", "/a/b/c")]
    assert counts == [6, 2, 1, 0]


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        (None, ["/e/ee", "/e/x", "/f"]),
        ("", ["/e/ee", "/e/x", "/f"]),
        ("  ", ["/e/ee", "/e/x", "/f"]),
        ("/", ["/e/ee", "/e/x", "/f"]),
        (" / ", ["/e/ee", "/e/x", "/f"]),
        ("/e", ["/e/ee", "/e/x"]),
        ("/e/e", ["/e/ee"]),
        ("/g", []),
    ],
)
def test_ephemerals_of_the_own_session(peer: Peer, other: Peer, prefix: str | None, found: list[str]) -> None:
    peer.create("/e")
    for path in ("/e/ee", "/e/x", "/f"):
        peer.create(path, flags=1)
    other.create("/e/other", flags=1)
    assert sorted(peer.ok(o.GET_EPHEMERALS, prefix).ephemerals) == found


def test_a_ping_has_one_number_whatever_it_asks_with(peer: Peer) -> None:
    peer.send(framed((77).to_bytes(4, "big") + (11).to_bytes(4, "big")))
    assert [(answer.xid, answer.zxid, answer.err) for answer in peer.replies()] == [(-2, 1, 0)]


# multiRead


def _multi_read(peer: Peer, *ops: tuple[int, Any]) -> Any:
    peer.expect(500, Opcode.MULTI_READ)
    return peer.ask_frame(multi_frame(500, *ops, opcode=Opcode.MULTI_READ))


def test_each_read_of_a_multi_read_has_its_own_outcome(peer: Peer) -> None:
    peer.create("/a", b"data")
    peer.create("/null", None)
    peer.create("/a/b")
    peer.create("/shut", acl=NO_READ)
    answer = _multi_read(
        peer,
        (4, r.GetDataRequest("/a", True)),
        (4, r.GetDataRequest("/nope", False)),
        (8, r.GetChildrenRequest("/a", True)),
        (8, r.GetChildrenRequest("/shut", False)),
        (4, r.GetDataRequest("/null", False)),
    )
    assert (answer.err, answer.zxid) == (0, 5)
    assert answer.value == [
        multi.MultiResult(4, 0, r.GetDataResponse(b"data", peer.stat("/a"))),
        multi.MultiResult(-1, -101, None),
        multi.MultiResult(8, 0, r.GetChildrenResponse(["b"])),
        multi.MultiResult(-1, -102, None),
        multi.MultiResult(4, 0, r.GetDataResponse(None, peer.stat("/null"))),
    ]
    peer.ok(o.SET_DATA, "/a", b"", -1)
    assert peer.take_events() == []


def test_an_empty_multi_read(peer: Peer) -> None:
    assert _multi_read(peer).value == []


def test_a_multi_read_of_writes_fails_with_an_empty_list(peer: Peer) -> None:
    answer = _multi_read(peer, (2, r.DeleteRequest("/a", -1)))
    assert (answer.err, answer.value.hex()) == (-5, "ffffffff01ffffffff")


@pytest.mark.parametrize(
    "ops",
    [
        [(4, r.GetDataRequest("/", False)), (2, r.DeleteRequest("/a", -1))],
        [(3, None)],
        [(4, r.GetDataRequest(None, False))],
    ],
)
def test_a_multi_read_that_cannot_be_read(peer: Peer, ops: Any) -> None:
    answer = _multi_read(peer, *ops)
    assert (answer.err, answer.value) == (-5, None)


# What leaves a watch


@pytest.mark.parametrize(
    ("read", "events"),
    [
        ((o.EXISTS,), [(CHANGED, "/a")]),
        ((o.GET_DATA,), [(CHANGED, "/a")]),
        ((o.GET_CHILDREN,), [(CHILD, "/a")]),
        ((o.GET_CHILDREN2,), [(CHILD, "/a")]),
    ],
    ids=repr,
)
def test_a_read_leaves_a_watch_when_asked_to(peer: Peer, other: Peer, read: Any, events: list[tuple[int, str]]) -> None:
    other.create("/a")
    peer.ok(*read, "/a", False)
    other.ok(o.SET_DATA, "/a", b"", -1)
    other.create("/a/b")
    assert peer.take_events() == []
    peer.ok(*read, "/a", True)
    for _ in range(2):
        other.ok(o.SET_DATA, "/a", b"", -1)
        other.create("/a/c", flags=2)
    assert peer.take_events() == events


@pytest.mark.parametrize(
    ("operation", "events"), [(o.EXISTS, [(CREATED, "/a")]), (o.GET_DATA, []), (o.GET_CHILDREN, [])]
)
def test_only_exists_watches_for_a_creation(
    peer: Peer, other: Peer, operation: o.Operation, events: list[tuple[int, str]]
) -> None:
    assert peer.err(operation, "/a", True) == -101
    other.create("/a")
    assert peer.take_events() == events


def test_without_permission_no_watch_is_left(peer: Peer, other: Peer) -> None:
    other.create("/a", acl=NO_READ)
    for operation in (o.EXISTS, o.GET_DATA, o.GET_CHILDREN):
        assert peer.err(operation, "/a", True) == -102
    other.ok(o.SET_ACL, "/a", OPEN_ACL_UNSAFE, -1)
    other.ok(o.SET_DATA, "/a", b"", -1)
    other.ok(o.DELETE, "/a", -1)
    assert peer.take_events() == []
    assert peer.port.machine.watches.total == 0


def test_an_event_stands_before_the_reply_that_shows_the_change(peer: Peer) -> None:
    peer.create("/a")
    peer.ok(o.GET_DATA, "/a", True)
    peer.send(peer.frame(o.SET_DATA, "/a", b"", -1))
    assert [type(item).__name__ for item in peer.stream()] == ["Event", "Reply"]


def test_an_event_carries_its_transaction_s_zxid(peer: Peer, other: Peer) -> None:
    other.create("/a")
    peer.ok(o.GET_DATA, "/a", True)
    answer = other.ask(o.SET_DATA, "/a", b"", -1)
    assert peer.stream() == [Event(CHANGED, "/a", answer.zxid)]


def test_events_go_to_those_who_may_read(peer: Peer, other: Peer) -> None:
    other.create("/a")
    peer.ok(o.EXISTS, "/a", True)
    other.ok(o.SET_ACL, "/a", NO_READ, -1)
    other.ok(o.SET_DATA, "/a", b"", -1)
    other.ok(o.SET_ACL, "/a", OPEN_ACL_UNSAFE, -1)
    other.ok(o.SET_DATA, "/a", b"", -1)
    assert peer.take_events() == []
    assert peer.port.machine.watches.total == 0


def test_whose_acl_counts_for_an_event(peer: Peer, other: Peer) -> None:
    other.create("/shut", acl=NO_READ)
    other.create("/open")
    for path in ("/shut", "/open"):
        peer.ok(o.ADD_WATCH, path, 0)
    peer.ok(o.ADD_WATCH, "/", 1)
    other.create("/shut/a")
    other.create("/open/b", acl=NO_READ)
    other.ok(o.DELETE, "/shut/a", -1)
    other.ok(o.DELETE, "/open/b", -1)
    assert peer.take_events() == [(CREATED, "/shut/a"), (CHILD, "/open"), (DELETED, "/shut/a"), (CHILD, "/open")]


@pytest.mark.parametrize(
    ("mode", "events"),
    [
        (
            0,
            [(CREATED, "/p"), (CHILD, "/p"), (CHANGED, "/p"), (CHILD, "/p"), (DELETED, "/p"), (CREATED, "/p")],
        ),
        (
            1,
            [
                (CREATED, "/p"),
                (CREATED, "/p/c"),
                (CHANGED, "/p/c"),
                (CHANGED, "/p"),
                (DELETED, "/p/c"),
                (DELETED, "/p"),
                (CREATED, "/p"),
            ],
        ),
    ],
    ids=["persistent", "recursive"],
)
def test_persistent_watches(peer: Peer, other: Peer, mode: int, events: list[tuple[int, str]]) -> None:
    answer = peer.ask(o.ADD_WATCH, "/p", mode)
    assert answer.value == r.ErrorResponse(0)
    other.create("/p")
    other.create("/p/c")
    other.ok(o.SET_DATA, "/p/c", b"", -1)
    other.ok(o.SET_DATA, "/p", b"", -1)
    other.ok(o.DELETE, "/p/c", -1)
    other.ok(o.DELETE, "/p", -1)
    other.create("/p")
    assert peer.take_events() == events


@pytest.mark.parametrize("mode", [2, -1, 4])
def test_modes_that_are_none(peer: Peer, mode: int) -> None:
    assert peer.err(o.ADD_WATCH, "/a", mode) == -5


def test_a_watch_on_null_leaves_nothing(peer: Peer) -> None:
    """Releases up to 3.9 answer the same, but an entry that cannot be removed stays in their table."""
    assert peer.err(o.ADD_WATCH, None, 0) == -5
    assert peer.port.machine.watches.total == 0


@pytest.mark.parametrize("path", ["", "nope", "/a//b"])
def test_a_watch_may_stand_on_any_text(peer: Peer, path: str) -> None:
    assert peer.err(o.ADD_WATCH, path, 0) == 0
    assert peer.err(o.REMOVE_WATCHES, path, 3) == 0
    assert peer.port.machine.watches.total == 0


def test_a_standard_watch_beside_a_persistent_one_takes_nothing_away(peer: Peer, other: Peer) -> None:
    """Releases 3.6 to 3.8 keep one mode a path, the last one asked for."""
    other.create("/p")
    peer.ok(o.ADD_WATCH, "/p", 0)
    peer.ok(o.GET_CHILDREN, "/p", True)
    peer.ok(o.GET_DATA, "/p", True)
    for number in range(3):
        other.create(f"/p/{number}")
        other.ok(o.SET_DATA, "/p", b"", -1)
    assert peer.take_events() == [(CHILD, "/p"), (CHANGED, "/p")] * 3


# checkWatches and removeWatches


def _watch_all(peer: Peer) -> None:
    peer.create("/a")
    peer.ok(o.GET_DATA, "/a", True)
    peer.ok(o.GET_CHILDREN, "/a", True)
    peer.ok(o.ADD_WATCH, "/a", 0)
    peer.ok(o.ADD_WATCH, "/a", 1)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
def test_a_connection_asks_for_its_own_watches(peer: Peer, other: Peer, kind: int) -> None:
    """Releases 3.6 to 3.8 answer for the watches of everybody."""
    _watch_all(other)
    for operation in (o.CHECK_WATCHES, o.REMOVE_WATCHES):
        assert peer.err(operation, "/a", kind) == -121
        assert other.err(operation, "/b", kind) == -121
        assert other.err(operation, "/a", kind) == 0
    assert other.err(o.CHECK_WATCHES, "/a", kind) == -121


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        (1, [2, 3, 4, 5]),
        (2, [1, 3, 4, 5]),
        (3, []),
        (4, [1, 2, 3, 5]),
        (5, [1, 2, 3, 4]),
    ],
)
def test_removing_takes_one_kind_away(peer: Peer, kind: int, left: list[int]) -> None:
    _watch_all(peer)
    peer.ok(o.REMOVE_WATCHES, "/a", kind)
    assert [number for number in range(1, 6) if peer.err(o.CHECK_WATCHES, "/a", number) == 0] == left


@pytest.mark.parametrize("kind", [0, 6, -1])
@pytest.mark.parametrize("operation", [o.CHECK_WATCHES, o.REMOVE_WATCHES])
def test_kinds_of_watches_that_are_none(peer: Peer, operation: o.Operation, kind: int) -> None:
    assert peer.err(operation, "/a", kind) == -5
    assert peer.err(operation, None, 3) == -121


# setWatches


def test_what_was_missed_is_told_and_the_rest_is_watched(peer: Peer, other: Peer) -> None:
    for path in ("/same", "/new", "/kids", "/calm"):
        other.create(path)
    since = other.port.tree.last_zxid
    other.ok(o.SET_DATA, "/new", b"", -1)
    other.create("/kids/x")
    peer.send(
        peer.frame(
            o.SET_WATCHES2,
            since,
            ["/gone", "/new", "/same"],
            ["/missing", "/new"],
            ["/gone", "/kids", "/calm"],
            ["/persistent"],
            ["/recursive"],
        )
    )
    *events, answer = peer.stream()
    assert events == [
        Event(DELETED, "/gone", -1),
        Event(CHANGED, "/new", -1),
        Event(CREATED, "/new", -1),
        Event(DELETED, "/gone", -1),
        Event(CHILD, "/kids", -1),
    ]
    assert answer == Reply(1, other.port.tree.last_zxid, 0)
    other.ok(o.SET_DATA, "/same", b"", -1)
    other.create("/missing")
    other.create("/calm/x")
    other.create("/new/x")
    other.create("/persistent")
    other.create("/recursive")
    assert peer.take_events() == [
        (CHANGED, "/same"),
        (CREATED, "/missing"),
        (CHILD, "/calm"),
        (CREATED, "/persistent"),
        (CREATED, "/recursive"),
    ]


def test_the_older_form(peer: Peer, other: Peer) -> None:
    peer.ok(o.SET_WATCHES, 0, [], ["/a"], [])
    other.create("/a")
    assert peer.take_events() == [(CREATED, "/a")]


def test_a_list_that_is_null_stops_there(peer: Peer) -> None:
    peer.send(peer.frame(o.SET_WATCHES, 0, ["/gone"], None, ["/gone"]))
    event, answer = peer.stream()
    assert event == Event(DELETED, "/gone", -1)
    assert getattr(answer, "err", None) == -5


def test_what_setting_watches_tells_is_not_filtered(peer: Peer, other: Peer) -> None:
    other.create("/a", acl=NO_READ)
    peer.send(peer.frame(o.SET_WATCHES, 0, ["/a"], [], []))
    assert [item for item in peer.stream() if isinstance(item, Event)] == [Event(CHANGED, "/a", -1)]


def test_watches_end_with_their_connection(peer: Peer, other: Peer) -> None:
    _watch_all(peer)
    peer.hang_up()
    assert other.port.machine.watches.total == 0
    other.ok(o.SET_DATA, "/a", b"", -1)
    assert peer.frames == []
