"""The snapshot's bytes: round trips, golden files, every truncation point and flipped bit."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from zlib import adler32

import pytest
from hypothesis import given, strategies as st

from terzetto.client.values import ACL, Id
from terzetto.testcluster.storage.compression import decompress
from terzetto.testcluster.storage.errors import CorruptSnapshotError
from terzetto.testcluster.storage.names import snapshots
from terzetto.testcluster.storage.snapshot import (
    Snapshot,
    SnapshotDigest,
    decode_snapshot,
    encode_snapshot,
    is_sealed,
)
from terzetto.testcluster.txns import SnapshotAcl, SnapshotNode, SnapshotSession, StatPersisted
from tests.vectors.disk import directories

from .histories import History, rows, snapshot_pieces

longs = st.integers(-(2**63), 2**63 - 1)
ints = st.integers(-(2**31), 2**31 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# No znode's row may begin like the end marker: a path is empty or longer than "/".
paths = texts.filter(lambda path: path != "/")
acls = st.lists(st.builds(ACL, ints, st.builds(Id, texts, texts)), max_size=3)
stats = st.builds(StatPersisted, longs, longs, longs, longs, ints, ints, ints, longs, longs)
nodes = st.lists(st.builds(SnapshotNode, paths, st.none() | st.binary(max_size=50), longs, stats), max_size=8)
digests = st.none() | st.builds(SnapshotDigest, longs, st.integers(2, 5), longs)


def golden() -> list[tuple[str, bytes, int]]:
    """Each golden snapshot: its name, its uncompressed bytes, its zxid."""
    found: list[tuple[str, bytes, int]] = []
    for directory in directories():
        folder = directory.path / "version-2"
        for name in snapshots(path.name for path in folder.iterdir()):
            found.append((name.name, decompress((folder / name.name).read_bytes(), name.suffix), name.zxid))
    return found


def encode(snapshot: Snapshot, chunk_size: int = 1 << 16) -> list[bytes]:
    return list(
        encode_snapshot(
            snapshot.sessions, snapshot.acls, snapshot.nodes, lambda: snapshot.digest, chunk_size=chunk_size
        )
    )


def small_snapshot() -> bytes:
    history = History(random.Random(3))
    history.grow(12)
    return b"".join(snapshot_pieces(history.tree))


@given(
    st.lists(st.builds(SnapshotSession, longs, ints), max_size=4),
    st.lists(st.builds(SnapshotAcl, longs, acls), max_size=4),
    nodes,
    digests,
    st.integers(1, 400),
)
def test_what_is_written_is_read(
    sessions: list[SnapshotSession],
    table: list[SnapshotAcl],
    znodes: list[SnapshotNode],
    digest: SnapshotDigest | None,
    chunk_size: int,
) -> None:
    snapshot = Snapshot(5, sessions, table, znodes, digest)
    data = b"".join(encode(snapshot, chunk_size))
    assert decode_snapshot(data, 5, "snapshot.5") == snapshot
    assert data == b"".join(encode(snapshot))
    assert is_sealed(data)


def test_golden_snapshots_are_encoded_again_to_the_same_bytes() -> None:
    found = golden()
    assert len({name for name, _, _ in found}) >= 7
    for name, data, zxid in found:
        assert b"".join(encode(decode_snapshot(data, zxid, name))) == data, name
        assert is_sealed(data), name


def test_the_bytes_of_an_empty_snapshot() -> None:
    opening = struct.pack(">4siqii", b"ZKSN", 2, -1, 0, 0) + b"\0\0\0\1/"
    seal = struct.pack(">q", adler32(opening)) + b"\0\0\0\1/"
    digest = struct.pack(">qiq", 7, 2, 9)
    last = struct.pack(">q", adler32(opening + seal + digest)) + b"\0\0\0\1/"
    assert b"".join(encode_snapshot([], [], [], lambda: None)) == opening + seal
    assert b"".join(encode_snapshot([], [], [], lambda: SnapshotDigest(7, 2, 9))) == opening + seal + digest + last


def test_znodes_are_read_no_further_than_a_piece_needs() -> None:
    taken: list[int] = []

    def walk() -> Iterator[SnapshotNode]:
        for i in range(50):
            taken.append(i)
            yield SnapshotNode(f"/{i}", bytes(100), -1, StatPersisted(0, 0, 0, 0, 0, 0, 0, 0, 0))

    digest_after: list[int] = []

    def digest() -> SnapshotDigest:
        digest_after.append(len(taken))
        return SnapshotDigest(1, 2, 3)

    pieces = encode_snapshot([], [], walk(), digest, chunk_size=1000)
    next(pieces)
    assert len(taken) < 10
    assert digest_after == []
    rest = list(pieces)
    assert all(1000 <= len(piece) < 1400 for piece in rest[:-1])
    assert digest_after == [50]


def test_sessions_and_acls_are_read_at_once() -> None:
    sessions = [SnapshotSession(1, 2)]
    pieces = encode_snapshot(sessions, [], [], lambda: None)
    sessions.append(SnapshotSession(3, 4))
    assert decode_snapshot(b"".join(pieces), 0, "").sessions == [SnapshotSession(1, 2)]


def test_no_part_of_a_snapshot_is_one() -> None:
    data = small_snapshot()
    without_digest = len(data) - 20 - 13
    for size in range(len(data)):
        if size == without_digest:
            # What ZooKeeper 3.5 and servers without digests write.
            assert decode_snapshot(data[:size], 1, "snapshot.1").digest is None
            continue
        with pytest.raises(CorruptSnapshotError):
            decode_snapshot(data[:size], 1, "snapshot.1")
        assert not is_sealed(data[:size])


def test_no_flipped_bit_goes_unnoticed() -> None:
    data = small_snapshot()
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptSnapshotError) as caught:
            decode_snapshot(bytes(changed), 1, "snapshot.1")
        assert caught.value.name == "snapshot.1"
        assert 0 <= caught.value.offset <= len(data)
        assert not is_sealed(bytes(changed))


@given(st.binary(max_size=300))
def test_garbage_is_refused(garbage: bytes) -> None:
    for data in (garbage, small_snapshot()[:16] + garbage):
        with pytest.raises(CorruptSnapshotError):
            decode_snapshot(data, 0, "snapshot.0")


def test_a_huge_count_is_refused_at_once() -> None:
    with pytest.raises(CorruptSnapshotError):
        decode_snapshot(struct.pack(">4siqi", b"ZKSN", 2, -1, 2**31 - 1), 0, "snapshot.0")
    with pytest.raises(CorruptSnapshotError, match="a table of -5 rows"):
        decode_snapshot(struct.pack(">4siqi", b"ZKSN", 2, -1, -5), 0, "snapshot.0")


def test_the_section_of_release_3_9_is_read_and_later_ones_are_left_alone() -> None:
    data = small_snapshot()
    section = struct.pack(">q", 12)
    newer = data + section + struct.pack(">q", adler32(data + section)) + b"\0\0\0\1/"
    assert decode_snapshot(newer, 12, "snapshot.c") == decode_snapshot(data, 12, "snapshot.c")
    assert is_sealed(newer)
    assert decode_snapshot(newer + b"more", 12, "snapshot.c").digest is not None
    for size in range(len(data) + 1, len(newer)):
        with pytest.raises(CorruptSnapshotError):
            decode_snapshot(newer[:size], 12, "snapshot.c")


def test_a_digest_of_the_first_form_is_read() -> None:
    data = b"".join(encode_snapshot([], [], [], lambda: None))
    section = struct.pack(">qii", 7, 1, 3) + b"1af"
    whole = data + section + struct.pack(">q", adler32(data + section)) + b"\0\0\0\1/"
    assert decode_snapshot(whole, 7, "snapshot.7").digest == SnapshotDigest(7, 1, 0x1AF)
    nonsense = data + section.replace(b"1af", b"xyz")
    with pytest.raises(CorruptSnapshotError):
        decode_snapshot(nonsense, 7, "snapshot.7")


def test_how_far_a_snapshot_reaches() -> None:
    def reaches(digest: SnapshotDigest | None) -> int | None:
        return Snapshot(10, [], [], [], digest).reaches

    assert reaches(SnapshotDigest(15, 2, 0)) == 15
    assert reaches(SnapshotDigest(10, 2, 0)) == 10
    # After a change of leader the digest may be older than the name.
    assert reaches(SnapshotDigest(8, 2, 0)) == 10
    assert reaches(None) is None


def test_whether_a_snapshot_knows_of_later_transactions() -> None:
    history = History(random.Random(21))
    history.grow(30)

    def taken(zxid: int, digest: SnapshotDigest | None) -> Snapshot:
        return Snapshot(zxid, [], [], list(history.tree.walk()), digest)

    exact = taken(30, SnapshotDigest(30, 2, history.tree.digest))
    assert [exact.ends_by(zxid) for zxid in (29, 30, 31)] == [False, True, True]
    fuzzy = taken(25, SnapshotDigest(30, 2, history.tree.digest))
    assert [fuzzy.ends_by(zxid) for zxid in (25, 29, 31)] == [False, False, True]
    assert not taken(30, None).ends_by(40)
    # A Java server was applying a transaction while it walked: the digest is of 29, the znodes show 30 too.
    racing = taken(29, SnapshotDigest(29, 2, History(random.Random(21)).tree.digest))
    assert [racing.ends_by(zxid) for zxid in (28, 29, 30)] == [False, False, True]
    assert Snapshot(0, [], [], list(History(random.Random(0)).tree.walk()), SnapshotDigest(0, 2, 0)).ends_by(0)


def test_a_tree_comes_back_from_its_snapshot() -> None:
    history = History(random.Random(11))
    history.grow(300)
    data = b"".join(snapshot_pieces(history.tree, 100))
    snapshot = decode_snapshot(data, history.tree.last_zxid, "snapshot")
    loaded = History(random.Random(0)).tree
    loaded.load(snapshot.zxid, snapshot.sessions, snapshot.acls, snapshot.nodes)
    assert rows(loaded) == rows(history.tree)
