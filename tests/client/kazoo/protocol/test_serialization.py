"""kazoo's request records: their bytes are kazoo's own, and are read as kazoo reads them."""

from __future__ import annotations

from typing import Any, cast

import kazoo.protocol.serialization as theirs
import kazoo.security as their_security
import pytest

from terzetto.client.kazoo.protocol import serialization as ours
from terzetto.client.kazoo.protocol.states import ZnodeStat
from terzetto.client.kazoo.security import OPEN_ACL_UNSAFE
from terzetto.client.wire import codec, records as r
from terzetto.client.wire.multi import MultiResult, encode_results

STAT = ZnodeStat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
STAT_BYTES = codec(r.SetDataResponse).encode(r.SetDataResponse(STAT))

REQUESTS: list[tuple[str, tuple[Any, ...]]] = [
    ("Close", ()),
    ("Ping", ()),
    ("Connect", (0, 5, 10_000, 77, b"p" * 16, True)),
    ("Create", ("/a", b"x", "ACL", 1)),
    ("Create2", ("/a", None, "ACL", 2)),
    ("Delete", ("/a", -1)),
    ("Exists", ("/a", None)),
    ("GetData", ("/a", print)),
    ("SetData", ("/a", b"", 3)),
    ("GetACL", ("/a",)),
    ("SetACL", ("/a", "ACL", -1)),
    ("GetChildren", ("/a", print)),
    ("GetChildren2", ("/a", None)),
    ("Sync", ("/a",)),
    ("CheckVersion", ("/a", 4)),
    ("Reconfig", (None, "1", None, -1)),
    ("Auth", (0, "digest", "u:p")),
    ("SASL", (b"token",)),
    ("MultiHeader", (14, False, -1)),
]


def made(module: Any, name: str, arguments: tuple[Any, ...], acl: Any) -> Any:
    return getattr(module, name)(*[acl if each == "ACL" else each for each in arguments])


@pytest.mark.parametrize(("name", "arguments"), REQUESTS)
def test_requests_have_kazoos_bytes(name: str, arguments: tuple[Any, ...]) -> None:
    mine = made(ours, name, arguments, OPEN_ACL_UNSAFE)
    other = made(theirs, name, arguments, their_security.OPEN_ACL_UNSAFE)
    assert mine.serialize() == bytes(other.serialize())
    assert mine._fields == other._fields
    assert getattr(mine, "type", None) == getattr(other, "type", None)


def test_a_transaction_has_kazoos_bytes() -> None:
    def transaction(module: Any) -> Any:
        return module.Transaction([module.Delete("/a", 1), module.CheckVersion("/b", 2)])

    assert transaction(ours).serialize() == bytes(transaction(theirs).serialize())


ANSWERS: list[tuple[str, bytes]] = [
    ("Create", codec(r.CreateResponse).encode(r.CreateResponse("/a0"))),
    ("Create2", codec(r.Create2Response).encode(r.Create2Response("/a0", STAT))),
    ("Delete", b""),
    ("Exists", STAT_BYTES),
    ("GetData", codec(r.GetDataResponse).encode(r.GetDataResponse(b"x", STAT))),
    ("SetData", STAT_BYTES),
    ("GetACL", codec(r.GetACLResponse).encode(r.GetACLResponse(OPEN_ACL_UNSAFE, STAT))),
    ("SetACL", STAT_BYTES),
    ("GetChildren", codec(r.GetChildrenResponse).encode(r.GetChildrenResponse(["b", "c"]))),
    ("GetChildren2", codec(r.GetChildren2Response).encode(r.GetChildren2Response(["b"], STAT))),
    ("Sync", codec(r.SyncResponse).encode(r.SyncResponse("/a"))),
    ("Reconfig", codec(r.GetDataResponse).encode(r.GetDataResponse(b"config", STAT))),
    ("SASL", codec(r.SetSASLResponse).encode(r.SetSASLResponse(b"token"))),
    ("ReplyHeader", codec(r.ReplyHeader).encode(r.ReplyHeader(1, 2, -101))),
    ("MultiHeader", codec(r.MultiHeader).encode(r.MultiHeader(1, True, -1))),
    ("Watch", codec(r.WatcherEvent).encode(r.WatcherEvent(3, 3, "/a"))),
    ("Connect", codec(r.ConnectResponse).encode(r.ConnectResponse(0, 10_000, 7, b"p" * 16, True))),
    ("Connect", codec(r.ShortConnectResponse).encode(r.ShortConnectResponse(0, 10_000, 7, b"p" * 16))),
]


def plain(value: Any) -> Any:
    """Without the classes of either side."""
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in cast("list[Any]", value)]
    return value


@pytest.mark.parametrize(("name", "data"), ANSWERS)
def test_answers_are_read_as_kazoo_reads_them(name: str, data: bytes) -> None:
    framed = b"\0\0\0\7" + data
    mine = getattr(ours, name).deserialize(bytearray(framed), 4)
    assert plain(mine) == plain(getattr(theirs, name).deserialize(framed, 4))


def test_results_of_a_transaction() -> None:
    good = encode_results(
        [
            MultiResult(1, 0, r.CreateResponse("/c/a")),
            MultiResult(2, 0, None),
            MultiResult(5, 0, r.SetDataResponse(STAT)),
        ]
    )
    assert plain(ours.Transaction.deserialize(good, 0)) == plain(theirs.Transaction.deserialize(good, 0))
    bad = encode_results([MultiResult(-1, 0, None), MultiResult(-1, -101, None)])
    names = [[type(each).__name__ for each in m.Transaction.deserialize(bad, 0)] for m in (ours, theirs)]
    assert names[0] == names[1] == ["RolledBackError", "NoNodeError"]

    class Below:
        @staticmethod
        def unchroot(path: str) -> str:
            return path.removeprefix("/c")

    for module in (ours, theirs):
        assert module.Transaction.unchroot(Below, ["/c/a", True]) == ["/a", True]


def test_a_missing_znode_has_no_stat() -> None:
    nothing = codec(r.SetDataResponse).encode(r.SetDataResponse(STAT._replace(czxid=-1)))
    assert ours.Exists.deserialize(nothing, 0) is None
    assert theirs.Exists.deserialize(nothing, 0) is None


def test_strings_and_buffers() -> None:
    for module in (ours, theirs):
        written = (
            module.write_string("äb") + module.write_string("") + module.write_buffer(None) + module.write_buffer(b"")
        )
        first, offset = module.read_string(written, 0)
        second, offset = module.read_string(written, offset)
        third, offset = module.read_buffer(written, offset)
        fourth, offset = module.read_buffer(written, offset)
        assert (first, second, third, fourth, offset) == ("äb", None, None, b"", len(written))
    entry = codec(type(OPEN_ACL_UNSAFE[0])).encode(OPEN_ACL_UNSAFE[0])
    assert plain(ours.read_acl(entry, 0)) == plain(theirs.read_acl(entry, 0))
    names = [name for name in vars(theirs) if name.endswith("_struct")]
    assert {name: getattr(ours, name).format for name in names} == {
        name: getattr(theirs, name).format for name in names
    }
