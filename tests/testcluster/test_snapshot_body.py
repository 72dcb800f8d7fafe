"""The body of a SNAP: round trips in any portions, hostile lengths, the tree that comes out."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import WireError
from terzetto.client.values import ACL, Id
from terzetto.client.wire import Opcode
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.snapshot_body import SnapshotBody, SnapshotBodyReader, encode_snapshot_body
from terzetto.testcluster.txns import (
    CreateSessionTxn,
    CreateTxn,
    SnapshotAcl,
    SnapshotNode,
    SnapshotSession,
    StatPersisted,
    Txn,
    TxnHeader,
)

SIGNATURE = bytes.fromhex("0000000a42656e57617348657265")
STAT = StatPersisted(1, 2, 3, 4, 5, 6, 7, 8, 9)

_int64 = st.integers(-(2**63), 2**63 - 1)
_text = st.text(st.characters(codec="utf-8"), max_size=5)
_sessions = st.lists(st.builds(SnapshotSession, _int64, st.integers(0, 2**31 - 1)), max_size=3)
_entries = st.lists(st.builds(ACL, st.integers(0, 31), st.builds(Id, _text, _text)), max_size=3)
_acls = st.lists(st.builds(SnapshotAcl, _int64, st.none() | _entries), max_size=3)
_names = _text.filter(lambda name: name and "/" not in name)


@st.composite
def _nodes(draw: st.DrawFn) -> list[SnapshotNode]:
    paths = ["", *(f"/{name}" for name in draw(st.lists(_names, max_size=3, unique=True)))]
    paths.append(f"{paths[-1]}/below")
    data = st.none() | st.binary(max_size=9)
    kept = dict.fromkeys(paths[: draw(st.integers(0, len(paths)))])
    return [SnapshotNode(path, draw(data), draw(_int64), STAT) for path in kept]


_bodies = st.builds(SnapshotBody, _sessions, _acls, _nodes())


def read(reader: SnapshotBodyReader, pieces: list[bytes]) -> bytes:
    """Feeds a reader as its caller does; returns what is left over."""
    rest = b""
    for piece in pieces:
        rest += piece
        if reader.body is None and len(rest) >= reader.need:
            rest = rest[reader.read(rest, 0) :]
    return rest


@given(_bodies, st.integers(1, 40), st.integers(1, 200))
def test_a_body_survives_any_portions(body: SnapshotBody, portion: int, chunk: int) -> None:
    raw = b"".join(encode_snapshot_body(*body, chunk_size=chunk))
    reader = SnapshotBodyReader(1 << 20)
    pieces = [raw[pos : pos + portion] for pos in range(0, len(raw), portion)]
    assert read(reader, [*pieces, b"behind"]) == b"behind"
    assert reader.body == body


@given(_bodies)
def test_a_body_is_there_with_its_last_byte(body: SnapshotBody) -> None:
    raw = b"".join(encode_snapshot_body(*body))
    assert raw.endswith(SIGNATURE)
    reader = SnapshotBodyReader(1 << 20)
    rest = read(reader, [raw[pos : pos + 1] for pos in range(len(raw) - 1)])
    assert reader.body is None
    assert read(reader, [rest + raw[-1:]]) == b""
    assert reader.body == body


@given(st.binary(max_size=120))
def test_any_bytes_are_a_body_or_a_wire_error(raw: bytes) -> None:
    reader = SnapshotBodyReader(1 << 20)
    try:
        reader.read(raw, 0)
    except WireError:
        return
    assert reader.body is not None or reader.need > 0


@pytest.mark.parametrize(
    "raw",
    [
        "ffffffff",
        "00000000 ffffffff",
        # A path, and data, longer than allowed; lengths below null.
        "00000000 00000000 00000401",
        "00000000 00000000 fffffffe",
        "00000000 00000000 00000000 00000401",
        "00000000 00000000 00000000 fffffffe",
        # ACLs of too many entries, and of too long a scheme and id.
        "00000000 00000001 0000000000000001 7fffffff",
        "00000000 00000001 0000000000000001 fffffffe",
        "00000000 00000001 0000000000000001 00000001 0000001f 00000401",
        "00000000 00000001 0000000000000001 00000001 0000001f 00000000 7fffffff",
        # Another signature, and another length of it.
        "00000000 00000000 000000012f 0000000a 42656e57617348657266",
        "00000000 00000000 000000012f 0000000b 42656e57617348657265",
    ],
)
def test_what_no_body_holds_is_refused(raw: str) -> None:
    with pytest.raises(WireError):
        SnapshotBodyReader(1024).read(bytes.fromhex(raw), 0)


def test_a_long_table_is_read_as_it_comes() -> None:
    # The count is believed only as far as rows come.
    reader = SnapshotBodyReader(1024)
    assert reader.read(bytes.fromhex("7fffffff"), 0) == 4
    assert reader.need == 12


def test_a_tree_arrives_whole() -> None:
    tree = DataTree()
    tree.apply(Txn(TxnHeader(7, 0, 1, 50, Opcode.CREATE_SESSION), CreateSessionTxn(4000), None))
    acl = [ACL(1, Id("world", "anyone")), ACL(31, Id("digest", "a:b"))]
    tree.apply(Txn(TxnHeader(7, 1, 2, 60, Opcode.CREATE), CreateTxn("/a", b"data", acl, True, 1), None))
    sessions = [SnapshotSession(*row) for row in tree.sessions.items()]
    raw = b"".join(encode_snapshot_body(sessions, tree.acls.dump(), tree.walk()))
    reader = SnapshotBodyReader(1 << 20)
    assert reader.read(raw, 0) == len(raw)
    assert reader.body is not None
    copy = DataTree()
    copy.load(2, *reader.body)
    assert (copy.digest, copy.sessions, copy.ephemerals) == (tree.digest, tree.sessions, tree.ephemerals)
    assert copy.nodes["/a"].data == b"data"


def test_pieces_are_made_as_they_are_asked_for() -> None:
    asked: list[int] = []

    def rows() -> list[SnapshotNode]:
        return [SnapshotNode(f"/{number}", bytes(100), -1, STAT) for number in range(50)]

    def walk() -> object:
        for number, row in enumerate(rows()):
            asked.append(number)
            yield row

    pieces = encode_snapshot_body([], [], walk(), chunk_size=200)  # type: ignore[arg-type]
    next(pieces)
    assert asked == [0, 1]
    assert len(b"".join(pieces)) > 40 * 100


@pytest.mark.parametrize("paths", [["/a"], ["", "/a/b"], ["", "/a", "/a"], ["", "a"], ["", None]])
def test_rows_that_make_no_tree(paths: list[str | None]) -> None:
    raw = b"".join(encode_snapshot_body([], [], [SnapshotNode(path, None, -1, STAT) for path in paths]))
    with pytest.raises(WireError, match="a snapshot cannot hold a znode"):
        read(SnapshotBodyReader(1 << 20), [raw])
