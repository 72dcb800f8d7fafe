"""The public values: kazoo's names, shapes and texts, compared with kazoo itself, and what an ACL must be."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import kazoo.protocol.states
import kazoo.security
import pytest
from hypothesis import given, strategies as st

from terzetto.client import values
from terzetto.client.values import (
    ACL,
    EVENT_TYPE_MAP,
    MAX_TTL_MS,
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    AddWatchMode,
    ClientInfo,
    CreateMode,
    EventType,
    Id,
    KazooState,
    KeeperState,
    Permissions,
    Resync,
    ServerVersion,
    WatchedEvent,
    WatcherType,
    ZnodeStat,
    check_acl,
    make_acl,
    make_digest_acl,
    make_digest_acl_credential,
)

from .wire.strategies import PATIENT

STATES: Any = kazoo.protocol.states
SECURITY: Any = kazoo.security
PERMISSIONS = ("read", "write", "create", "delete", "admin", "all")
STAT = (1, 2, 3500, 4250, 5, 6, 7, 8, 9, 10, 11)


def _members(cls: type[Any]) -> Mapping[str, Any]:
    members: Mapping[str, Any] = vars(cls)
    return members


def _constants(cls: type[Any]) -> dict[str, Any]:
    return {name: value for name, value in _members(cls).items() if name.isupper()}


# Stat and events ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [STAT, (0,) * 11, (*STAT[:7], 0, *STAT[8:])])
def test_a_stat_is_kazoos(fields: tuple[int, ...]) -> None:
    ours, theirs = ZnodeStat(*fields), STATES.ZnodeStat(*fields)
    assert ours._fields == theirs._fields
    assert ours == theirs
    assert repr(ours) == repr(theirs)
    properties = [name for name, value in _members(STATES.ZnodeStat).items() if isinstance(value, property)]
    assert len(properties) == 9
    assert {name: getattr(ours, name) for name in properties} == {name: getattr(theirs, name) for name in properties}


def test_a_stats_times_are_seconds_and_no_owner_is_none() -> None:
    stat = ZnodeStat(*STAT)
    assert (stat.created, stat.last_modified) == (3.5, 4.25)
    assert stat.owner_session_id == 8
    assert stat._replace(ephemeralOwner=0).owner_session_id is None
    # Servers with an id of 128 and more give out negative session ids.
    assert stat._replace(ephemeralOwner=-(2**63)).owner_session_id == -(2**63)


@pytest.mark.parametrize("name", ["KazooState", "KeeperState", "EventType"])
def test_states_and_types_are_kazoos_strings(name: str) -> None:
    ours, theirs = _constants(getattr(values, name)), _constants(getattr(STATES, name))
    assert ours.items() >= theirs.items()
    more = {"DATA_WATCH_REMOVED", "CHILD_WATCH_REMOVED", "PERSISTENT_WATCH_REMOVED"}
    assert set(ours) - set(theirs) == (more if name == "EventType" else set())


def test_event_types_by_code() -> None:
    assert EVENT_TYPE_MAP.items() >= STATES.EVENT_TYPE_MAP.items()
    assert set(EVENT_TYPE_MAP.values()) == set(_constants(EventType).values())
    # Watcher.Event.EventType of ZooKeeper 3.6 and later.
    assert {code: EVENT_TYPE_MAP[code] for code in (5, 6, 7)} == {
        5: "DATA_WATCH_REMOVED",
        6: "CHILD_WATCH_REMOVED",
        7: "PERSISTENT_WATCH_REMOVED",
    }


def test_an_event_is_kazoos_and_knows_its_transaction() -> None:
    event = WatchedEvent(EventType.CHANGED, KeeperState.CONNECTED, "/a")
    theirs = STATES.WatchedEvent("CHANGED", "CONNECTED", "/a")
    assert event._fields == theirs._fields
    assert event == theirs
    assert event.zxid is None
    later = WatchedEvent(type="CHANGED", state="CONNECTED", path="/a", zxid=7)
    assert later == theirs
    assert (later.zxid, later.at("/b").zxid, later.at("/b").path) == (7, 7, "/b")
    assert copy.copy(later).zxid == pickle.loads(pickle.dumps(later)).zxid == 7
    kind, state, path = later
    assert (kind, state, path) == theirs
    assert repr(later) == "WatchedEvent(type='CHANGED', state='CONNECTED', path='/a', zxid=0x7)"


# ACLs -----------------------------------------------------------------------------------------------------------------


@PATIENT
@given(perms=st.integers(-64, 64) | st.integers())
def test_an_acl_is_kazoos(perms: int) -> None:
    ours, theirs = ACL(perms, Id("digest", "u:x")), SECURITY.ACL(perms, SECURITY.Id("digest", "u:x"))
    assert ours == theirs
    assert ours._fields == theirs._fields
    assert ours.acl_list == theirs.acl_list
    assert repr(ours) == repr(theirs)


def test_the_shortcuts_are_kazoos() -> None:
    names = ("ANYONE_ID_UNSAFE", "AUTH_IDS", "OPEN_ACL_UNSAFE", "CREATOR_ALL_ACL", "READ_ACL_UNSAFE")
    assert [getattr(values, name) for name in names] == [getattr(SECURITY, name) for name in names]
    assert _constants(Permissions) == _constants(SECURITY.Permissions)


def test_a_digest_is_zookeepers() -> None:
    # The second one is the example of ZooKeeper's own documentation.
    assert make_digest_acl_credential("u", "p") == "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="
    assert make_digest_acl_credential("super", "test") == "super:D/InIHSb7yEEbrWz8b9l71RjZJU="


@PATIENT
@given(
    user=st.text(st.characters(exclude_categories=["Cs"])), password=st.text(st.characters(exclude_categories=["Cs"]))
)
def test_a_digest_is_kazoos(user: str, password: str) -> None:
    expected = SECURITY.make_digest_acl_credential(user, password)
    assert make_digest_acl_credential(user, password) == expected
    assert make_digest_acl(user, password, read=True) == SECURITY.make_digest_acl(user, password, read=True)


@PATIENT
@given(granted=st.dictionaries(st.sampled_from(PERMISSIONS), st.booleans()))
def test_an_acl_is_made_as_kazoo_makes_it(granted: dict[str, bool]) -> None:
    assert make_acl("ip", "127.0.0.1", **granted) == SECURITY.make_acl("ip", "127.0.0.1", **granted)
    assert make_digest_acl("u", "p", **granted) == SECURITY.make_digest_acl("u", "p", **granted)


def test_a_good_acl_comes_back_as_a_list() -> None:
    entries = (*OPEN_ACL_UNSAFE, *READ_ACL_UNSAFE, ACL(0, Id("auth", "")))
    assert check_acl(entries) == check_acl(iter(entries)) == list(entries)
    assert check_acl(OPEN_ACL_UNSAFE) is not OPEN_ACL_UNSAFE
    for perms in range(32):
        assert check_acl([ACL(perms, Id("ip", "::1"))])[0].perms == perms


BAD_ACLS: list[tuple[Any, type[Exception], str]] = [
    (OPEN_ACL_UNSAFE[0], TypeError, "must be a list of ACL, not one bare ACL: ACL\\(perms=31"),
    ([], ValueError, "acl is empty; at least one ACL entry is required"),
    (iter([]), ValueError, "acl is empty"),
    ("world", TypeError, "every entry of acl must be an ACL with an Id, not 'w'"),
    ([("world", "anyone")], TypeError, "every entry of acl must be an ACL with an Id"),
    ([(31, Id("world", "anyone"))], TypeError, "every entry of acl must be an ACL with an Id"),
    ([ACL(31, ("world", "anyone"))], TypeError, "every entry of acl must be an ACL with an Id"),  # type: ignore[arg-type]
    ([*OPEN_ACL_UNSAFE, None], TypeError, "every entry of acl must be an ACL with an Id, not None"),
    ([ACL(True, Id("world", "anyone"))], TypeError, "permissions of an ACL must be an int, not True"),
    ([ACL("31", Id("world", "anyone"))], TypeError, "permissions of an ACL must be an int, not '31'"),  # type: ignore[arg-type]
    ([ACL(32, Id("world", "anyone"))], ValueError, "permissions 32 of ACL\\(perms=32.*are outside 0..31"),
    ([ACL(-1, Id("world", "anyone"))], ValueError, "permissions -1 of .*are outside 0..31"),
    ([ACL(31, Id(None, "x"))], TypeError, "scheme of an ACL must be a str, not None"),  # type: ignore[arg-type]
    ([ACL(31, Id("auth", None))], TypeError, "id of an ACL must be a str, not None"),  # type: ignore[arg-type]
    ([ACL(31, Id("digest", b"u:x"))], TypeError, "id of an ACL must be a str, not b'u:x'"),  # type: ignore[arg-type]
    (None, TypeError, "NoneType"),
    (31, TypeError, "int"),
]


@pytest.mark.parametrize(("acl", "kind", "text"), BAD_ACLS, ids=[text for _, _, text in BAD_ACLS])
def test_a_bad_acl_is_refused_by_the_rule_it_breaks(acl: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        check_acl(acl)


# Modes ----------------------------------------------------------------------------------------------------------------


def test_create_modes_are_zookeepers_flags() -> None:
    assert {mode.name: int(mode) for mode in CreateMode} == {
        "PERSISTENT": 0,
        "EPHEMERAL": 1,
        "PERSISTENT_SEQUENTIAL": 2,
        "EPHEMERAL_SEQUENTIAL": 3,
        "CONTAINER": 4,
        "PERSISTENT_WITH_TTL": 5,
        "PERSISTENT_SEQUENTIAL_WITH_TTL": 6,
    }
    for mode in CreateMode:
        assert mode.is_sequential == ("SEQUENTIAL" in mode.name)


def test_modes_and_types_of_watches_are_zookeepers() -> None:
    assert [(mode.name, int(mode)) for mode in AddWatchMode] == [("PERSISTENT", 0), ("PERSISTENT_RECURSIVE", 1)]
    assert {kind.name: int(kind) for kind in WatcherType} == {
        "CHILDREN": 1,
        "DATA": 2,
        "ANY": 3,
        "PERSISTENT": 4,
        "PERSISTENT_RECURSIVE": 5,
    }


def test_the_longest_time_to_live_takes_40_bits() -> None:
    # 0xffffffffff is accepted by 3.8.0, 0x10000000000 answered with BadArguments.
    assert MAX_TTL_MS == 0xFFFFFFFFFF


def test_small_values() -> None:
    assert Resync() == (False, 0)
    assert Resync(session_lost=True, dropped=3) == (True, 3)
    assert ClientInfo("digest", "u")._fields == ("auth_scheme", "user")
    assert ServerVersion(3, 8, 0) < ServerVersion(3, 8, 4) < (3, 9)
    assert KazooState.LOST == "LOST"
