"""Every record: what is written is read back, and is what a second, plain codec writes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.client.values import ACL, ANYONE_ID_UNSAFE, Id, ZnodeStat
from terzetto.client.wire import codec, records as r
from terzetto.client.wire.operations import RECORDS

from ...vectors import jute
from .strategies import CLASSES, PATIENT, instances, plainly_encoded


@pytest.mark.parametrize("name", CLASSES)
@PATIENT
@given(data=st.data())
def test_a_record_survives_the_wire(name: str, data: st.DataObject) -> None:
    record = data.draw(instances(CLASSES[name]))
    encoded = RECORDS[name].encode(record)
    assert encoded == plainly_encoded(record)
    decoded, position = RECORDS[name].decode(b"before" + encoded + b"behind", 6, 6 + len(encoded))
    assert decoded == record
    assert type(decoded) is CLASSES[name]
    assert position == 6 + len(encoded)


def test_the_table_holds_every_record_by_name() -> None:
    assert {name: row.name for name, row in RECORDS.items()} == {name: name for name in CLASSES}
    assert {name.removeprefix("Short") for name in CLASSES} == set(jute.RECORDS)


@pytest.mark.parametrize("name", CLASSES)
def test_fields_are_zookeepers_in_wire_order(name: str) -> None:
    fields = [field.partition(":")[0] for field in jute.RECORDS[name.removeprefix("Short")].split()]
    if name.startswith("Short"):
        assert fields.pop() == "read_only"
    assert list(CLASSES[name]._fields) == [field.replace("time_out", "timeout") for field in fields]


def test_a_stat_takes_68_bytes() -> None:
    assert len(codec(ZnodeStat).encode(ZnodeStat(*range(11)))) == 68


def test_nested_values_come_back_as_their_classes() -> None:
    reply = r.GetACLResponse([ACL(31, ANYONE_ID_UNSAFE)], ZnodeStat(*range(11)))
    encoded = codec(r.GetACLResponse).encode(reply)
    decoded, _ = codec(r.GetACLResponse).decode(encoded, 0, len(encoded))
    assert type(decoded.acl[0]) is ACL
    assert type(decoded.acl[0].id) is Id
    assert type(decoded.stat) is ZnodeStat


@pytest.mark.parametrize("data", [None, b""])
def test_null_data_and_empty_data_stay_what_they_are(data: bytes | None) -> None:
    encoded = codec(r.SetDataRequest).encode(r.SetDataRequest("/a", data, -1))
    assert encoded == b"\0\0\0\2/a" + (b"\xff\xff\xff\xff" if data is None else b"\0\0\0\0") + b"\xff\xff\xff\xff"
    assert codec(r.SetDataRequest).decode(encoded, 0, len(encoded))[0].data == data


@pytest.mark.parametrize("path", [None, ""])
def test_a_null_path_and_an_empty_one_stay_what_they_are(path: str | None) -> None:
    encoded = codec(r.DeleteRequest).encode(r.DeleteRequest(path, 7))
    assert encoded == (b"\xff\xff\xff\xff" if path is None else b"\0\0\0\0") + b"\0\0\0\7"
    assert codec(r.DeleteRequest).decode(encoded, 0, len(encoded))[0].path == path


def test_a_null_acl_and_an_empty_one_stay_what_they_are() -> None:
    # ZooKeeper answers both with InvalidACL, and a server must be able to read them to say so.
    for acl in (None, list[ACL]()):
        encoded = codec(r.SetACLRequest).encode(r.SetACLRequest("/", acl, 0))
        assert codec(r.SetACLRequest).decode(encoded, 0, len(encoded))[0].acl == acl


def test_a_null_list_of_children_reads_as_no_children() -> None:
    assert codec(r.GetChildrenResponse).decode(b"\xff\xff\xff\xff", 0, 4) == (r.GetChildrenResponse([]), 4)


def test_the_id_of_scheme_auth_may_be_null_as_kazoo_sends_it() -> None:
    body = b"\0\0\0\1/" + b"\0\0\0\1" + b"\0\0\0\x1f" + b"\0\0\0\4auth" + b"\xff\xff\xff\xff" + b"\0\0\0\0"
    request: Any = codec(r.SetACLRequest).decode(body, 0, len(body))[0]
    assert request.acl == [ACL(31, Id("auth", None))]  # type: ignore[arg-type]


def test_any_byte_but_zero_is_true() -> None:
    for byte in range(256):
        (request, _) = codec(r.ExistsRequest).decode(b"\0\0\0\1/" + bytes([byte]), 0, 6)
        assert request.watch is (byte != 0)


def test_identities_that_java_wrote_with_surrogates_are_read() -> None:
    # A 3.8.0 server takes the id in UTF-8 and gives it back like this (getACL of an ACL set with "\U0001f600:x").
    body = b"\0\0\0\1\0\0\0\x1f\0\0\0\x06digest\0\0\0\x08\xed\xa0\xbd\xed\xb8\x80:x" + bytes(68)
    reply = codec(r.GetACLResponse).decode(body, 0, len(body))[0]
    assert reply.acl == [ACL(31, Id("digest", "\U0001f600:x"))]
