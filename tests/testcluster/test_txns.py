"""The bytes of transactions: round trips, the forms of older releases, the log of a real server."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import WireError
from terzetto.client.values import ACL, OPEN_ACL_UNSAFE, Id
from terzetto.client.wire import Opcode, codec
from terzetto.testcluster import txns as t

LOG = Path(__file__).parent / "vectors" / "zookeeper_3_8_0_log.hex"
REAL_ENTRIES = [bytes.fromhex(line) for line in LOG.read_text().split()]

_int32 = st.integers(-(2**31), 2**31 - 1)
_int64 = st.integers(-(2**63), 2**63 - 1)
_text = st.text(st.characters(codec="utf-8"), max_size=8)
_acl = st.none() | st.lists(st.builds(ACL, _int32, st.builds(Id, _text, _text)), max_size=3)
_data = st.none() | st.binary(max_size=8)
_plain: dict[int, st.SearchStrategy[Any]] = {
    Opcode.CREATE: st.builds(t.CreateTxn, _text, _data, _acl, st.booleans(), _int32),
    Opcode.CREATE2: st.builds(t.CreateTxn, _text, _data, _acl, st.booleans(), _int32),
    Opcode.CREATE_CONTAINER: st.builds(t.CreateContainerTxn, _text, _data, _acl, _int32),
    Opcode.CREATE_TTL: st.builds(t.CreateTTLTxn, _text, _data, _acl, _int32, _int64),
    Opcode.DELETE: st.builds(t.DeleteTxn, _text),
    Opcode.DELETE_CONTAINER: st.builds(t.DeleteTxn, _text),
    Opcode.SET_DATA: st.builds(t.SetDataTxn, _text, _data, _int32),
    Opcode.RECONFIG: st.builds(t.SetDataTxn, _text, _data, _int32),
    Opcode.SET_ACL: st.builds(t.SetACLTxn, _text, _acl, _int32),
    Opcode.CHECK: st.builds(t.CheckVersionTxn, _text, _int32),
    Opcode.ERROR: st.builds(t.ErrorTxn, _int32),
    Opcode.CREATE_SESSION: st.builds(t.CreateSessionTxn, _int32),
    Opcode.CLOSE_SESSION: st.builds(t.CloseSessionTxn, st.lists(_text, max_size=3)),
}


def _typed(kinds: dict[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[int, Any]]:
    return st.one_of([st.tuples(st.just(int(kind)), record) for kind, record in kinds.items()])


_in_multis = {kind: made for kind, made in _plain.items() if kind > Opcode.CREATE_SESSION or kind == Opcode.ERROR}
_multi = st.builds(t.MultiTxn, st.lists(_typed(_in_multis).map(lambda pair: t.SubTxn(*pair)), max_size=3))
_records = _typed({**_plain, Opcode.MULTI: _multi})
_digests = st.none() | st.builds(t.TxnDigest, st.just(2), _int64)


@st.composite
def _entries(draw: st.DrawFn) -> t.Txn:
    kind, record = draw(_records)
    header = t.TxnHeader(draw(_int64), draw(_int32), draw(_int64), draw(_int64), kind)
    return t.Txn(header, record, draw(_digests))


def test_every_type_is_drawn() -> None:
    assert set(_plain) | {Opcode.MULTI} == set(t.RECORDS)


@given(_entries())
def test_what_is_encoded_is_decoded(txn: t.Txn) -> None:
    assert t.decode_txn(t.encode_txn(txn)) == txn


@given(_entries(), st.binary(max_size=3), st.binary(max_size=3))
def test_an_entry_is_read_from_the_middle_of_a_buffer(txn: t.Txn, before: bytes, after: bytes) -> None:
    raw = t.encode_txn(txn)
    assert t.decode_txn(before + raw + after, len(before), len(before) + len(raw)) == txn


@given(st.binary(max_size=80))
def test_any_bytes_are_an_entry_or_a_wire_error(raw: bytes) -> None:
    try:
        t.decode_txn(raw)
    except WireError:
        pass


@pytest.mark.parametrize("raw", REAL_ENTRIES, ids=range(len(REAL_ENTRIES)))
def test_the_log_of_a_real_server_is_read_and_written_alike(raw: bytes) -> None:
    assert t.encode_txn(t.decode_txn(raw)) == raw


def test_the_log_of_a_real_server_has_every_type_it_can_have() -> None:
    found = {t.decode_txn(raw).header.type for raw in REAL_ENTRIES}
    assert found == set(t.RECORDS) - {Opcode.CHECK, Opcode.RECONFIG}


def test_entries_captured_between_real_servers() -> None:
    header = bytes.fromhex("0400000000123456000000000000000100000001000001a1fd4749c7fffffff6")
    created = t.decode_txn(header + bytes.fromhex("00001770000000020000000051c6d660"))
    assert created == t.Txn(
        t.TxnHeader(0x0400000000123456, 0, 0x100000001, 0x1A1FD4749C7, -10),
        t.CreateSessionTxn(6000),
        t.TxnDigest(2, 1371985504),
    )
    refused = t.decode_txn(header[:-4] + bytes.fromhex("ffffffffffffff92"))
    assert (refused.record, refused.digest) == (t.ErrorTxn(-110), None)


_HEADER = t.TxnHeader(1, 2, 3, 4, Opcode.CREATE)


def test_identities_above_the_basic_plane_as_java_writes_them() -> None:
    """Java's log and snapshots hold a character above U+FFFF as two surrogates of three bytes each."""
    name = "\U0001f600:x"
    pair = b"\xed\xa0\xbd\xed\xb8\x80"
    header = t.TxnHeader(1, 1, 1, 1, Opcode.CREATE)
    stand_in = t.CreateTxn("/a", b"", [ACL(31, Id("digest", "123456:x"))], False, 1)
    raw = t.encode_txn(t.Txn(header, stand_in, None))
    java = raw.replace(b"123456", pair)
    assert len(java) == len(raw)
    read = t.decode_txn(java)
    assert read.record.acl == [ACL(31, Id("digest", name))]
    # We write plain UTF-8, which Java reads.
    assert name.encode() in t.encode_txn(read)
    row = codec(t.SnapshotAcl).encode(t.SnapshotAcl(5, stand_in.acl)).replace(b"123456", pair)
    assert codec(t.SnapshotAcl).decode(row, 0, len(row))[0].acl == [ACL(31, Id("digest", name))]


def test_a_create_of_releases_up_to_3_3_is_read_as_one_more() -> None:
    old = codec(t.TxnHeader).encode(_HEADER) + codec(t.CreateTxnV0).encode(
        t.CreateTxnV0("/a", b"x", OPEN_ACL_UNSAFE, True)
    )
    assert t.decode_txn(old) == t.Txn(_HEADER, t.CreateTxn("/a", b"x", OPEN_ACL_UNSAFE, True, -1), None)


def test_a_create_that_is_neither_form_is_an_error() -> None:
    raw = t.encode_txn(t.Txn(_HEADER, t.CreateTxn("/a", b"x", OPEN_ACL_UNSAFE, True, 1), None))
    with pytest.raises(WireError):
        t.decode_txn(raw[:-2])


def test_a_close_session_before_3_6_has_no_record() -> None:
    txn = t.Txn(_HEADER._replace(type=Opcode.CLOSE_SESSION), None, None)
    raw = t.encode_txn(txn)
    assert len(raw) == 32
    assert t.decode_txn(raw) == txn


def test_a_failed_multi_whose_types_were_rewritten_is_read_by_its_first_number() -> None:
    stale = codec(t.SetDataTxn).encode(t.SetDataTxn("/ab", b"x", 3))
    body = struct.pack(">iii", 1, Opcode.ERROR, len(stale)) + stale
    txn = t.decode_txn(codec(t.TxnHeader).encode(_HEADER._replace(type=Opcode.MULTI)) + body)
    assert txn.record == t.MultiTxn([t.SubTxn(Opcode.ERROR, t.ErrorTxn(3))])


@pytest.mark.parametrize("kind", [0, 4, 9, 77, -2])
def test_a_type_that_no_transaction_has(kind: int) -> None:
    header = codec(t.TxnHeader).encode(_HEADER._replace(type=kind))
    with pytest.raises(WireError, match=f"{kind} is no type of a transaction"):
        t.decode_txn(header + bytes(40))
    with pytest.raises(WireError, match=f"{kind} is no type of a transaction"):
        t.encode_record(kind, t.DeleteTxn("/a"))


def test_an_operation_of_a_multi_has_a_record() -> None:
    body = struct.pack(">iii", 1, Opcode.DELETE, -1)
    with pytest.raises(WireError, match="has no record"):
        t.decode_txn(codec(t.TxnHeader).encode(_HEADER._replace(type=Opcode.MULTI)) + body)


@pytest.mark.parametrize("kind", [Opcode.CREATE_SESSION, Opcode.CLOSE_SESSION, Opcode.MULTI])
def test_a_multi_holds_changes_of_the_tree_only(kind: int) -> None:
    body = struct.pack(">iiii", 1, kind, 4, 0)
    with pytest.raises(WireError, match=f"a multi cannot hold an operation of type {kind}"):
        t.decode_txn(codec(t.TxnHeader).encode(_HEADER._replace(type=Opcode.MULTI)) + body)


def test_multis_in_multis_do_not_exhaust_the_stack() -> None:
    body = struct.pack(">i", 0)
    for _ in range(5000):
        body = struct.pack(">iii", 1, Opcode.MULTI, len(body)) + body
    with pytest.raises(WireError, match="a multi cannot hold"):
        t.decode_txn(codec(t.TxnHeader).encode(_HEADER._replace(type=Opcode.MULTI)) + body)
