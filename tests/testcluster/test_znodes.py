"""One znode: what clients see of it, what snapshots keep of it, its digest."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from terzetto.client.values import MAX_TTL_MS, ZnodeStat
from terzetto.testcluster.acl import OPEN_ACL
from terzetto.testcluster.txns import StatPersisted
from terzetto.testcluster.znodes import CONTAINER_OWNER, STAT, Znode, node_digest, session_of, ttl_of, ttl_owner

_int32 = st.integers(-(2**31), 2**31 - 1)
_int64 = st.integers(-(2**63), 2**63 - 1)
_persisted = st.builds(StatPersisted, _int64, _int64, _int64, _int64, _int32, _int32, _int32, _int64, _int64)


def _stat(node: Znode) -> ZnodeStat:
    return ZnodeStat._make(STAT.unpack(node.stat()))


def _grow(node: Znode, children: int) -> None:
    node.children = {f"/{number}": Znode(None, OPEN_ACL, 1, 1, 0) for number in range(children)} or None


def test_a_new_znode() -> None:
    assert _stat(Znode(b"abc", OPEN_ACL, 5, 99, 0)) == ZnodeStat(5, 5, 99, 99, 0, 0, 0, 0, 3, 0, 5)


def test_null_data_has_no_length() -> None:
    assert _stat(Znode(None, OPEN_ACL, 5, 99, 0)).dataLength == 0


@pytest.mark.parametrize(
    ("creates", "children", "shown"),
    [
        (0, 0, 0),
        (0, 1, -1),
        (0, 2, -2),
        (2, 0, 4),
        (3, 1, 5),
        (2**30, 0, -(2**31)),
        (2**31 - 1, 0, -2),
        (2**31 - 1, 1, -3),
    ],
)
def test_clients_see_creations_plus_deletions(creates: int, children: int, shown: int) -> None:
    node = Znode(b"", OPEN_ACL, 1, 1, 0)
    node.cversion = creates
    _grow(node, children)
    stat = _stat(node)
    assert (stat.cversion, stat.numChildren, node.child_count) == (shown, children, children)


@pytest.mark.parametrize(
    ("owner", "session", "ttl"),
    [
        (0, 0, None),
        (0x0100_0000_0000_0001, 0x0100_0000_0000_0001, None),
        (-0x0100_0000_0000_0000 + 0x10000_0000000, -0x0100_0000_0000_0000 + 0x10000_0000000, None),
        (-(2**63) + 1, -(2**63) + 1, None),
        (CONTAINER_OWNER, 0, None),
        (ttl_owner(1), 0, 1),
        (ttl_owner(MAX_TTL_MS), 0, MAX_TTL_MS),
    ],
)
def test_only_a_session_is_shown_as_owner(owner: int, session: int, ttl: int | None) -> None:
    assert session_of(owner) == session
    assert ttl_of(owner) == ttl
    assert _stat(Znode(b"", OPEN_ACL, 1, 1, owner)).ephemeralOwner == session


def test_the_stored_form_of_a_ttl() -> None:
    assert ttl_owner(5) & (1 << 64) - 1 == 0xFF00_0000_0000_0005


@given(_persisted)
def test_what_a_snapshot_keeps_comes_back(stat: StatPersisted) -> None:
    assert Znode.restore(b"x", OPEN_ACL, stat).persisted() == stat


@given(_persisted, st.none() | st.binary(max_size=4))
def test_every_field_counts_in_the_digest(stat: StatPersisted, data: bytes | None) -> None:
    node = Znode.restore(data, OPEN_ACL, stat)
    digest = node_digest("/a", data, node.digest_fields())
    assert 0 <= digest < 2**32
    assert digest != node_digest("/b", data, node.digest_fields())
    assert digest != node_digest("/a", (data or b"") + b"!", node.digest_fields())
    for field in StatPersisted._fields:
        changed = Znode.restore(data, OPEN_ACL, stat._replace(**{field: getattr(stat, field) ^ 1}))
        assert digest != node_digest("/a", data, changed.digest_fields()), field


def test_null_counts_as_empty_and_the_root_has_two_names() -> None:
    fields = Znode(None, OPEN_ACL, 1, 1, 0).digest_fields()
    assert node_digest("/a", None, fields) == node_digest("/a", b"", fields)
    assert node_digest("/", b"x", fields) == node_digest("", b"x", fields) != 0


def test_what_each_server_keeps_for_itself_does_not_count() -> None:
    fields = Znode(None, OPEN_ACL, 1, 1, 0).digest_fields()
    assert node_digest("/zookeeper/config", b"x", fields) == 0
    assert node_digest("/zookeeper", b"x", fields) != 0
    assert node_digest("/zookeepers", b"x", fields) != 0


def test_the_digest_of_an_empty_tree() -> None:
    fields = Znode(b"", OPEN_ACL, 0, 0, 0).digest_fields()
    assert node_digest("", b"", fields) + node_digest("/zookeeper", b"", fields) == 0x51C6D660
