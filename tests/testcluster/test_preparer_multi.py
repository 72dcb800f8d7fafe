"""multi: all or nothing, and in which order that is asked."""

from __future__ import annotations

from typing import Any

import pytest

from terzetto.client.values import (
    ACL,
    OPEN_ACL_UNSAFE,
    Id,
)
from terzetto.client.wire import operations as o, records as r
from terzetto.testcluster import txns as t

from .port import Peer, Port, create, multi_frame

NULL_ID: Any = ACL(31, Id("digest", None))  # type: ignore[arg-type]


@pytest.fixture
def port() -> Port:
    return Port(extended_types=True)


@pytest.fixture
def peer(port: Port) -> Peer:
    return port.connect()


def _last(peer: Peer) -> t.Txn:
    return peer.port.log[-1]


# create


def _codes(results: list[Any]) -> list[tuple[int, int]]:
    return [(result.type, result.err) for result in results]


def test_operations_of_a_multi_see_those_before(peer: Peer) -> None:
    results = peer.multi(
        (1, create("/p", b"0")),
        (13, r.CheckVersionRequest("/p", 0)),
        (5, r.SetDataRequest("/p", b"1", 0)),
        (13, r.CheckVersionRequest("/p", 1)),
        (1, create("/p/s", flags=2)),
        (1, create("/p/s", flags=3)),
        (2, r.DeleteRequest("/p/s0000000000", 0)),
        (1, create("/p/s", flags=2)),
    )
    assert _codes(results) == [(1, 0), (13, 0), (5, 0), (13, 0), (1, 0), (1, 0), (2, 0), (1, 0)]
    assert [results[number].value.path for number in (4, 5, 7)] == [
        "/p/s0000000000",
        "/p/s0000000001",
        "/p/s0000000002",
    ]
    assert results[2].value.stat.version == 1
    stat = peer.stat("/p")
    assert (stat.czxid, stat.pzxid, stat.ctime, stat.numChildren) == (2, 2, stat.mtime, 2)
    assert peer.port.tree.digest_mismatches == 0


def test_a_failed_multi_leaves_no_trace(peer: Peer) -> None:
    peer.create("/a", b"old")
    digest = peer.port.tree.digest
    results = peer.multi(
        (1, create("/b")),
        (5, r.SetDataRequest("/a", b"new", 0)),
        (2, r.DeleteRequest("/a", 1)),
        (1, create("/nope/x")),
        (1, create("/c")),
        (2, r.DeleteRequest("/b", -1)),
    )
    assert _codes(results) == [(-1, 0), (-1, 0), (-1, 0), (-1, -101), (-1, -2), (-1, -2)]
    assert [sub.type for sub in _last(peer).record.txns] == [1, 5, 2, -1, -1, -1]
    assert _last(peer).digest == t.TxnDigest(2, digest)
    assert peer.create("/b") == "/b"
    assert peer.ok(o.GET_DATA, "/a", False).data == b"old"
    assert peer.create("/s", flags=2) == "/s0000000002"
    assert peer.port.tree.digest_mismatches == 0


@pytest.mark.parametrize(
    ("kind", "record", "logged"),
    [
        (1, create("/a", flags=4), 19),
        (15, create("/a", flags=4), 19),
        (15, create("/a"), 1),
        (19, create("/a"), 1),
        (19, create("/a", flags=4), 19),
        (21, r.CreateTTLRequest("/a", b"", OPEN_ACL_UNSAFE, 5, 9), 21),
        (21, r.CreateTTLRequest("/a", b"", OPEN_ACL_UNSAFE, 0, 9), 1),
        (21, r.CreateTTLRequest("/a", b"", OPEN_ACL_UNSAFE, 0, -9), 1),
        (21, r.CreateTTLRequest("/a", b"", OPEN_ACL_UNSAFE, 4, 9), 19),
    ],
)
def test_in_a_multi_the_flags_decide(peer: Peer, kind: int, record: Any, logged: int) -> None:
    assert [result.err for result in peer.multi((kind, record))] == [0]
    (sub,) = _last(peer).record.txns
    assert sub.type == logged
    assert peer.port.tree.digest_mismatches == 0


@pytest.mark.parametrize(("kind", "flags", "code"), [(1, 7, -8), (1, -1, -8), (21, 7, -8)])
def test_in_a_multi_unknown_flags_are_refused_in_their_slot(peer: Peer, kind: int, flags: int, code: int) -> None:
    record = create("/a", flags=flags) if kind == 1 else r.CreateTTLRequest("/a", b"", OPEN_ACL_UNSAFE, flags, 5)
    assert [result.err for result in peer.multi((kind, record))] == [code]


@pytest.mark.parametrize(
    "ops",
    [
        [(1, create("/b")), (1, create("/c", flags=5))],
        [(15, create("/c", flags=6))],
        [(1, create("/b")), (1, create(None))],
        [(13, r.CheckVersionRequest(None, 0))],
        [(1, create("/b")), (1, create("/c", acl=[NULL_ID]))],
        [(4, r.GetDataRequest("/a", False))],
        [(1, create("/b")), (8, r.GetChildrenRequest("/a", False))],
        [(1, create("/b")), (7, None)],
    ],
)
def test_a_multi_that_cannot_be_read_fails_as_a_whole(peer: Peer, ops: list[tuple[int, Any]]) -> None:
    peer.create("/a")
    answer = peer.ask_frame(multi_frame(99, *ops))
    assert (answer.err, answer.value, answer.zxid) == (-5, None, 3)
    assert _last(peer).record == t.ErrorTxn(-5)
    assert peer.create("/b") == "/b"
    assert peer.stat("/").cversion == 2 * 2 - 3
    assert peer.port.tree.digest_mismatches == 0


def test_an_operation_that_cannot_be_read_after_one_that_failed_is_not_looked_at(peer: Peer) -> None:
    results = peer.multi((2, r.DeleteRequest("/nope", 0)), (1, create("/c", flags=5)))
    assert _codes(results) == [(-1, -101), (-1, -2)]


def test_an_empty_multi_succeeds(peer: Peer) -> None:
    assert peer.multi() == []
    assert _last(peer).record == t.MultiTxn([])
