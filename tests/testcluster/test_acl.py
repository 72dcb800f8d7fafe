"""Access control lists: which are well formed, whom they let in, how a tree shares them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.client.values import ACL, ANYONE_ID_UNSAFE, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id, Permissions
from terzetto.testcluster.acl import (
    INDEXED_FROM,
    OPEN_ACL,
    SUPER_ID,
    AccessRules,
    AclTable,
    DigestScheme,
    IpScheme,
    NodeAcl,
    SaslScheme,
    Scheme,
    X509Scheme,
)
from terzetto.testcluster.codes import INVALID_ACL, Refused, Unprocessable
from terzetto.testcluster.txns import SnapshotAcl

ALL = Permissions.ALL
READ = Permissions.READ
IP = Id("ip", "127.0.0.1")
ALICE = Id("digest", "alice:secret")
SCHEMES: dict[str, Scheme] = {"digest": DigestScheme(), "ip": IpScheme(), "sasl": SaslScheme(), "x509": X509Scheme()}
RULES = AccessRules(SCHEMES)


def _entry(scheme: Any, acl_id: Any, perms: int = ALL) -> ACL:
    return ACL(perms, Id(scheme, acl_id))


def _acl(*entries: ACL) -> NodeAcl:
    return NodeAcl(1, entries)


@pytest.mark.parametrize(
    ("scheme", "valid", "invalid"),
    [
        (DigestScheme(), ["a:b", ":b", "a:b:", "a:b::", " :="], ["", "a", "a:", "a:b:c", "::", ":"]),
        (
            IpScheme(),
            [
                "127.0.0.1",
                "0.0.0.0/0",
                "10.0.0.0/8",
                "1.2.3.4/32",
                "+1.2.3.04",
                "::1",
                "fe80::1/64",
                "1:2:3:4:5:6:7:8",
                "::/0",
            ],
            [
                "",
                "1.2.3",
                "1.2.3.4.5",
                "256.0.0.1",
                "-1.0.0.0",
                "a.b.c.d",
                "1.2.3.4/33",
                "1.2.3.4/-1",
                "1.2.3.4/",
                "1.2.3.4/x",
                "1.2.3. 4",
                "1.2.3.99999999999",
                "::1/129",
                "1:2:3:4:5:6:7",
                "1:2:3:4:5:6:7:8:9",
                "12345::",
                "::g",
                "1::2::3",
                "1:2:3:4::5:6:7:8",
            ],
        ),
        (SaslScheme(), ["bob", "", "svc/host", "bob@R", "svc/host@R", "a/b/c"], ["a/b/c@d", "a@b@c", "a@b/c"]),
        (
            X509Scheme(),
            [
                "",
                "CN=a",
                "CN=client one,OU=Dev,O=Acme\\, Inc,C=US",
                'CN="a, b" ; O=c',
                "CN=",
                "2.5.4.3=x+OU=y",
                "CN= a",
            ],
            ["a", "=x", "CN=a,", ",CN=a", "CN=a;b", 'CN="a', "CN=<"],
        ),
    ],
    ids=["digest", "ip", "sasl", "x509"],
)
def test_which_ids_a_list_may_hold(scheme: Scheme, valid: list[str], invalid: list[str]) -> None:
    assert [acl_id for acl_id in valid if not scheme.is_valid(acl_id)] == []
    assert [acl_id for acl_id in invalid if scheme.is_valid(acl_id)] == []


@pytest.mark.parametrize("name", ["CN= ,O= " * 500 + "<", 'CN="' * 1000, " " * 100_000 + "<", "CN=" + "\\" * 100_001])
def test_a_certificate_name_is_refused_without_delay(name: str) -> None:
    started = time.process_time()
    X509Scheme().is_valid(name)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("scheme", "held", "acl_id", "expected"),
    [
        (DigestScheme(), "a:b", "a:b", True),
        (DigestScheme(), "a:b", "a:c", False),
        (IpScheme(), "127.0.0.1", "127.0.0.1", True),
        (IpScheme(), "127.0.0.1", "127.0.0.2", False),
        (IpScheme(), "10.1.2.3", "10.0.0.0/8", True),
        (IpScheme(), "11.1.2.3", "10.0.0.0/8", False),
        (IpScheme(), "9.9.9.9", "0.0.0.0/0", True),
        (IpScheme(), "::1", "::1", True),
        (IpScheme(), "fe80::2", "fe80::1/64", True),
        (IpScheme(), "fe81::2", "fe80::1/64", False),
        (IpScheme(), "::1", "0.0.0.1", False),
        (IpScheme(), "127.0.0.1", "::/0", False),
        (IpScheme(), "no address", "0.0.0.0/0", False),
        (IpScheme(), "127.0.0.1", "no address", False),
        (SaslScheme(), "bob", "bob", True),
        (SaslScheme(), "bob", "eve", False),
        (SaslScheme(), "super", "eve", True),
        (SaslScheme("any"), "bob", "any", True),
        (SaslScheme("any"), "bob", "eve", False),
        (X509Scheme(), "CN=a", "CN=a", True),
        (X509Scheme(), "CN=a", "CN=b", False),
        (X509Scheme("CN=root"), "CN=root", "CN=b", True),
    ],
)
def test_whom_an_entry_speaks_of(scheme: Scheme, held: str, acl_id: str, expected: bool) -> None:
    assert scheme.matches(held, acl_id) is expected


def test_what_who_am_i_shows() -> None:
    ids = [IP, ALICE, Id("digest", "nocolon"), Id("sasl", "bob@R"), Id("x509", "CN=a"), SUPER_ID]
    assert RULES.users(ids) == [
        ("ip", "127.0.0.1"),
        ("digest", "alice"),
        ("digest", "nocolon"),
        ("sasl", "bob@R"),
        ("x509", "CN=a"),
        ("super", ""),
    ]


@pytest.mark.parametrize(
    ("acl", "wanted", "ids", "expected"),
    [
        (_acl(*OPEN_ACL_UNSAFE), ALL, [], True),
        (_acl(*READ_ACL_UNSAFE), READ, [], True),
        (_acl(*READ_ACL_UNSAFE), Permissions.WRITE, [IP], False),
        (_acl(), ALL, [], True),
        (OPEN_ACL, ALL, [], True),
        (_acl(_entry("digest", "alice:secret")), READ, [IP, ALICE], True),
        (_acl(_entry("digest", "alice:secret")), READ, [IP], False),
        (_acl(_entry("digest", "alice:secret", Permissions.WRITE)), READ, [ALICE], False),
        (_acl(_entry("digest", "alice:secret", Permissions.WRITE)), READ | Permissions.WRITE, [ALICE], True),
        (_acl(_entry("digest", "bob:x")), READ, [ALICE, SUPER_ID], True),
        (_acl(_entry("ip", "127.0.0.0/8")), READ, [IP], True),
        (_acl(_entry("ip", "alice:secret")), READ, [ALICE], False),
        (_acl(_entry("gone", "x")), READ, [Id("gone", "x")], False),
        (_acl(ACL(0, ANYONE_ID_UNSAFE)), READ, [IP], False),
        (_acl(ACL(32, ANYONE_ID_UNSAFE)), ALL, [IP], False),
        (_acl(ACL(-1, ANYONE_ID_UNSAFE)), Permissions.ADMIN, [IP], True),
    ],
)
def test_who_is_let_in(acl: NodeAcl, wanted: int, ids: list[Id], expected: bool) -> None:
    assert RULES.allows(acl, wanted, ids) is expected
    assert AccessRules(SCHEMES, skip=True).allows(acl, wanted, ids)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (OPEN_ACL_UNSAFE, OPEN_ACL_UNSAFE),
        (OPEN_ACL_UNSAFE * 2, OPEN_ACL_UNSAFE),
        ([_entry("auth", None)], [_entry("digest", "alice:secret"), _entry("x509", "CN=a")]),
        ([_entry("auth", "anything", READ)], [_entry("digest", "alice:secret", READ), _entry("x509", "CN=a", READ)]),
        ([_entry("ip", "1.2.3.4"), *OPEN_ACL_UNSAFE], [_entry("ip", "1.2.3.4"), *OPEN_ACL_UNSAFE]),
        (
            [ACL(-1, ANYONE_ID_UNSAFE), ACL(32, ANYONE_ID_UNSAFE)],
            [ACL(-1, ANYONE_ID_UNSAFE), ACL(32, ANYONE_ID_UNSAFE)],
        ),
    ],
)
def test_what_is_stored_for_a_list(sent: list[ACL], stored: list[ACL]) -> None:
    assert RULES.fixed(sent, [IP, ALICE, Id("x509", "CN=a"), SUPER_ID]) == tuple(stored)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        [_entry(None, "x")],
        [_entry("world", "somebody")],
        [_entry("super", "")],
        [_entry("unknown", "x")],
        [_entry("unknown", None)],
        [_entry("digest", "nocolon")],
        [_entry("ip", "1.2.3")],
        [_entry("auth", "")],
        [*OPEN_ACL_UNSAFE, _entry("auth", "")],
    ],
)
def test_lists_that_are_refused(sent: list[ACL] | None) -> None:
    with pytest.raises(Refused) as caught:
        RULES.fixed(sent, [IP])
    assert caught.value.code == INVALID_ACL


@pytest.mark.parametrize("scheme", ["world", "digest", "ip", "sasl"])
def test_a_null_id_is_more_than_an_invalid_one(scheme: str) -> None:
    with pytest.raises(Unprocessable):
        RULES.fixed([_entry(scheme, None)], [IP])


def test_digests_are_shown_to_administrators_only() -> None:
    acl = _acl(_entry("digest", "alice:secret"), _entry("digest", "bob:x:y", READ), _entry("ip", "1.2.3.4"))
    assert RULES.visible(acl, [ALICE]) == list(acl.entries)
    assert RULES.visible(acl, [SUPER_ID]) == list(acl.entries)
    hidden = [_entry("digest", "alice:x"), _entry("digest", "bob:x", READ), _entry("ip", "1.2.3.4")]
    assert RULES.visible(acl, [IP]) == hidden


def test_a_table_shares_lists_and_forgets_what_nobody_uses() -> None:
    table = AclTable()
    first = table.intern(OPEN_ACL_UNSAFE)
    assert table.intern(list(OPEN_ACL_UNSAFE)) is first
    second = table.intern(READ_ACL_UNSAFE)
    assert (first.acl_id, second.acl_id, len(table)) == (1, 2, 2)
    table.release(first)
    assert len(table) == 2
    table.release(first)
    assert table.dump() == [SnapshotAcl(2, READ_ACL_UNSAFE)]
    assert table.intern(OPEN_ACL_UNSAFE).acl_id == 3


def test_the_open_list_is_nobodys_entry() -> None:
    table = AclTable()
    assert table.use(-1) is OPEN_ACL
    table.release(OPEN_ACL)
    assert OPEN_ACL.entries == tuple(OPEN_ACL_UNSAFE)


def test_a_table_comes_back_from_a_snapshot() -> None:
    table = AclTable()
    table.intern(OPEN_ACL_UNSAFE)
    table.load([SnapshotAcl(4, READ_ACL_UNSAFE), SnapshotAcl(9, None)])
    assert table.use(4).entries == tuple(READ_ACL_UNSAFE)
    assert table.use(9).entries == ()
    assert table.intern(OPEN_ACL_UNSAFE).acl_id == 10
    table.release(table.use(9))
    table.purge()
    assert {row.acl_id for row in table.dump()} == {4, 9, 10}
    table.release(table.use(9))
    table.release(table.use(9))


def test_two_ids_for_one_list() -> None:
    table = AclTable()
    table.load([SnapshotAcl(4, READ_ACL_UNSAFE), SnapshotAcl(5, READ_ACL_UNSAFE)])
    first, second = table.use(4), table.use(5)
    table.release(first)
    assert table.intern(READ_ACL_UNSAFE) is second


def test_lists_that_no_znode_took_are_purged() -> None:
    table = AclTable()
    table.load([SnapshotAcl(4, READ_ACL_UNSAFE), SnapshotAcl(5, OPEN_ACL_UNSAFE)])
    table.use(5)
    table.purge()
    assert [row.acl_id for row in table.dump()] == [5]


def test_an_id_that_a_snapshot_does_not_define_lets_only_super_in() -> None:
    table = AclTable()
    table.load([])
    acl = table.use(77)
    assert acl.is_undefined
    assert not RULES.allows(acl, READ, [IP, ALICE])
    assert RULES.allows(acl, READ, [SUPER_ID])
    assert not table.intern(OPEN_ACL_UNSAFE).is_undefined


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=30))
def test_a_table_counts_uses_like_a_list_would(steps: list[tuple[bool, int]]) -> None:
    table, uses = AclTable(), list[tuple[NodeAcl, ACL]]()
    for take, number in steps:
        entry = ACL(number, ANYONE_ID_UNSAFE)
        if take:
            uses.append((table.intern([entry]), entry))
        elif uses:
            acl, _ = uses.pop(number % len(uses))
            table.release(acl)
        assert {row.acl[0] for row in table.dump() if row.acl} == {entry for _, entry in uses}
        assert all(acl.entries == (entry,) for acl, entry in uses)


_HELD = st.lists(
    st.sampled_from(
        [
            Id("ip", "10.1.2.3"),
            Id("ip", "::1"),
            Id("ip", "no address"),
            Id("digest", "a:b"),
            Id("sasl", "bob"),
            Id("sasl", "super"),
            Id("x509", "CN=a"),
            Id("x509", "CN=root"),
            Id("unknown", "a"),
        ]
    ),
    max_size=4,
)
_STORED = st.builds(
    ACL,
    st.sampled_from([0, 1, 2, 16, 31, -1]),
    st.sampled_from(
        [
            *[Id("ip", text) for text in ("10.1.2.3", "10.1.2.4", "10.0.0.0/8", "0.0.0.0/0", "::/0", "::1/127", "bad")],
            *[Id("digest", text) for text in ("a:b", "a:c")],
            *[Id("sasl", text) for text in ("bob", "anyone at all", "eve")],
            *[Id("x509", text) for text in ("CN=a", "CN=b")],
            Id("unknown", "a"),
        ]
    ),
)


@given(st.lists(_STORED, min_size=1, max_size=6), _HELD, st.sampled_from([1, 2, 4, 16, 31]), st.booleans())
def test_an_index_finds_what_a_search_finds(entries: list[ACL], held: list[Id], wanted: int, anyone: bool) -> None:
    schemes: dict[str, Scheme] = {
        **SCHEMES,
        "sasl": SaslScheme("anyone at all" if anyone else None),
        "x509": X509Scheme("CN=root" if anyone else None),
    }
    rules = AccessRules(schemes)
    # The same entries, once short enough to be searched and once long enough for an index.
    padding = [ACL(31, Id("digest", f"nobody:{number}")) for number in range(INDEXED_FROM)]
    short, long = NodeAcl(1, tuple(entries)), NodeAcl(2, (*entries, *padding))
    assert rules.allows(short, wanted, held) == rules.allows(long, wanted, held)
    assert short.index is None


class Untellable(str):
    """Text that must not be compared as text is: the time that takes tells where a guess goes wrong."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared in a time that depends on the text")

    __hash__ = str.__hash__


def test_digests_are_compared_in_constant_time() -> None:
    scheme = DigestScheme()
    assert scheme.matches(Untellable("a:x"), Untellable("a:x"))
    assert not scheme.matches(Untellable("a:x"), Untellable("a:y"))
    assert scheme.matches("\u00fc:x", "\u00fc:x")
    guess = (Id("digest", Untellable("alice:guess")),)
    assert not RULES.allows(_acl(_entry("digest", Untellable("alice:secret"))), READ, guess)
