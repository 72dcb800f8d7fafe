"""Requests from arguments: what no server would take is refused before it is sent, with the value and the rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from trio.testing import MockClock

from terzetto.client import ACL, OPEN_ACL_UNSAFE, AddWatchMode, Id, WatcherType, ZooKeeper
from terzetto.client._requests import create_mode
from terzetto.client.values import MAX_TTL_MS, CreateMode
from terzetto.client.wire import Opcode

from .holdings import drained
from .memory_server import MemoryEnsemble


def _ignore(_: object) -> None:
    pass


def _acl(perms: Any, identity: Any = "anyone") -> ACL:
    return ACL(perms, Id("world", identity))


# Arguments are given as a user without a type checker would.
Call = Callable[[Any], Awaitable[object]]

WITH_PATH: dict[str, Callable[[Any, Any], Awaitable[object]]] = {
    "get": lambda zk, path: zk.get(path),
    "exists": lambda zk, path: zk.exists(path),
    "get_children": lambda zk, path: zk.get_children(path),
    "create": lambda zk, path: zk.create(path),
    "create with parents": lambda zk, path: zk.create(path, makepath=True),
    "ensure_path": lambda zk, path: zk.ensure_path(path),
    "delete": lambda zk, path: zk.delete(path),
    "delete recursively": lambda zk, path: zk.delete(path, recursive=True),
    "set": lambda zk, path: zk.set(path, b""),
    "get_acls": lambda zk, path: zk.get_acls(path),
    "set_acls": lambda zk, path: zk.set_acls(path, OPEN_ACL_UNSAFE),
    "sync": lambda zk, path: zk.sync(path),
    "sync strictly": lambda zk, path: zk.sync(path, strict=True),
    "count_descendants": lambda zk, path: zk.count_descendants(path),
    "add_watch": lambda zk, path: zk.add_watch(path, AddWatchMode.PERSISTENT, _ignore),
    "remove_watches": lambda zk, path: zk.remove_watches(path),
}

BAD_PATHS: list[tuple[Any, type[Exception], str]] = [
    ("", ValueError, "invalid path '': it is empty"),
    ("a", ValueError, "invalid path 'a': it must start with '/'"),
    ("/a/", ValueError, "invalid path '/a/': it must not end with '/'"),
    ("/a//b", ValueError, "invalid path '/a//b': it has an empty element"),
    ("/a/../b", ValueError, r"invalid path '/a/\.\./b': relative element '\.\.' is not allowed"),
    ("/a\x00", ValueError, r"character U\+0000 at index 2 is not allowed"),
    (b"/a", TypeError, r"path must be a str, not bytes: b'/a'"),
    (None, TypeError, "path must be a str, not NoneType: None"),
]

BAD_CALLS: list[tuple[Call, type[Exception], str]] = [
    (lambda zk: zk.create("/a", "text"), TypeError, "value must be bytes or None, not str: 'text'"),
    (lambda zk: zk.create("/a", bytearray(b"x")), TypeError, "value must be bytes or None, not bytearray"),
    (lambda zk: zk.set("/a", 7), TypeError, "value must be bytes or None, not int: 7"),
    (lambda zk: zk.create("/a", acl=OPEN_ACL_UNSAFE[0]), TypeError, "acl must be a list of ACL, not one bare ACL"),
    (lambda zk: zk.create("/a", acl=[]), ValueError, "acl is empty"),
    (lambda zk: zk.create("/a", acl=["x"]), TypeError, "every entry of acl must be an ACL with an Id, not 'x'"),
    (lambda zk: zk.ensure_path("/a", acl=[7]), TypeError, "every entry of acl must be an ACL with an Id, not 7"),
    (lambda zk: zk.set_acls("/a", [_acl(32)]), ValueError, "permissions 32 of .*0..31"),
    (lambda zk: zk.set_acls("/a", [_acl("r")]), TypeError, "must be an int, not 'r'"),
    (lambda zk: zk.set_acls("/a", [_acl(1, None)]), TypeError, "not None"),
    (lambda zk: zk.set_acls("/a", OPEN_ACL_UNSAFE[0]), TypeError, "not one bare ACL"),
    (lambda zk: zk.set_acls("/a", OPEN_ACL_UNSAFE, "1"), TypeError, "version must be an int, -1 for any, not '1'"),
    (lambda zk: zk.set("/a", b"", 1.0), TypeError, r"version must be an int, -1 for any, not 1\.0"),
    (lambda zk: zk.set("/a", b"", True), TypeError, "version must be an int, -1 for any, not True"),
    (lambda zk: zk.delete("/a", 2**31), ValueError, "version 2147483648 does not fit 32 bits"),
    (lambda zk: zk.delete("/a", -(2**31) - 1), ValueError, "version -2147483649 does not fit 32 bits"),
    (lambda zk: zk.create("/a", ephemeral=1), TypeError, "ephemeral must be a bool, not 1"),
    (lambda zk: zk.create("/a", sequence=None), TypeError, "sequence must be a bool, not None"),
    (lambda zk: zk.create("/a", container="yes"), TypeError, "container must be a bool, not 'yes'"),
    (lambda zk: zk.create("/a", container=True, ephemeral=True), ValueError, "a container can be neither ephemeral"),
    (lambda zk: zk.create("/a", container=True, sequence=True), ValueError, "neither ephemeral nor sequential"),
    (lambda zk: zk.create("/a", container=True, ttl=1.0), ValueError, "has no ttl"),
    (lambda zk: zk.create("/a", ephemeral=True, ttl=1.0), ValueError, "an ephemeral znode cannot have a ttl"),
    (lambda zk: zk.create("/a", ttl=0), ValueError, "ttl must be from 0.001 to .* seconds, not 0"),
    (lambda zk: zk.create("/a", ttl=-1.0), ValueError, r"ttl must be from 0.001 to .* seconds, not -1\.0"),
    (lambda zk: zk.create("/a", ttl=1e12), ValueError, "ttl must be from 0.001 to .* seconds, not 1000000000000"),
    (lambda zk: zk.create("/a", ttl=float("nan")), ValueError, "ttl must be from 0.001 to .* seconds, not nan"),
    (lambda zk: zk.create("/a", ttl=float("inf")), ValueError, "ttl must be from 0.001 to .* seconds, not inf"),
    (lambda zk: zk.create("/a", ttl="1"), TypeError, "ttl must be a number of seconds, not '1'"),
    (lambda zk: zk.create("/a", ttl=True), TypeError, "ttl must be a number of seconds, not True"),
    (lambda zk: zk.set_acls("/a", None), TypeError, "acl must be a list of ACL, not NoneType: None"),
    (lambda zk: zk.multi_read(7), TypeError, "multi_read takes a list of ReadData and ReadChildren, not 7"),
    (lambda zk: zk.create("/a/"), ValueError, "must not end with '/'"),
    (lambda zk: zk.create("/a//", sequence=True), ValueError, "for a sequential znode: it has an empty element"),
    (lambda zk: zk.create(7, sequence=True), TypeError, "path must be a str, not int: 7"),
    (lambda zk: zk.get_ephemerals("a"), ValueError, "prefix of ephemerals must be a str that starts with '/', not 'a'"),
    (lambda zk: zk.get_ephemerals(None), ValueError, "prefix of ephemerals must be a str .*not None"),
    (lambda zk: zk.add_auth("", "u:p"), TypeError, "scheme must be a str that is not empty, not ''"),
    (lambda zk: zk.add_auth(None, "u:p"), TypeError, "scheme must be a str that is not empty, not None"),
    (lambda zk: zk.add_auth("digest", 7), TypeError, "credential must be a str or bytes, not int"),
    (lambda zk: zk.reconfig(), ValueError, "reconfig needs joining, leaving or new_members"),
    (lambda zk: zk.reconfig("x", None, "y"), ValueError, "either new_members or joining and leaving, not both"),
    (lambda zk: zk.reconfig(joining=["x"]), TypeError, r"joining must be a str or None, not \['x'\]"),
    (lambda zk: zk.reconfig(leaving=3), TypeError, "leaving must be a str or None, not 3"),
    (lambda zk: zk.reconfig("x", from_config="1"), TypeError, "from_config must be an int, -1 for any, not '1'"),
    (
        lambda zk: zk.reconfig("x", from_config=2**63),
        ValueError,
        "from_config 9223372036854775808 does not fit 64 bits",
    ),
    (lambda zk: zk.add_watch("/a", 7, _ignore), ValueError, "7 is not a valid AddWatchMode"),
    (lambda zk: zk.remove_watches("/a", 9), ValueError, "9 is not a valid WatcherType"),
    (lambda zk: zk.command("RUOK"), ValueError, "a command has four lower-case letters, like 'ruok', not 'RUOK'"),
    (lambda zk: zk.command("ruok\n"), ValueError, "four lower-case letters"),
    (lambda zk: zk.command("\ud800"), ValueError, "four lower-case letters"),
    (lambda zk: zk.command(7), ValueError, "four lower-case letters, like 'ruok', not 7"),
]


@pytest.mark.parametrize(("path", "kind", "message"), BAD_PATHS)
@pytest.mark.parametrize("name", WITH_PATH)
async def test_a_malformed_path_is_refused_by_every_operation(
    ensemble: MemoryEnsemble,
    autojump_clock: MockClock,
    name: str,
    path: object,
    kind: type[Exception],
    message: str,
) -> None:
    async with ensemble.open() as zk:
        before, sent = await drained(zk), len(ensemble.received)
        with pytest.raises(kind, match=message):
            await WITH_PATH[name](zk, path)
        assert len(ensemble.received) == sent
        assert await drained(zk) == before


@pytest.mark.parametrize(("call", "kind", "message"), BAD_CALLS)
async def test_a_bad_argument_is_refused_before_anything_is_sent(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, call: Call, kind: type[Exception], message: str
) -> None:
    async with ensemble.open() as zk:
        before, sent = await drained(zk), len(ensemble.received)
        with pytest.raises(kind, match=message):
            await call(zk)
        assert len(ensemble.received) == sent
        assert await drained(zk) == before


@pytest.mark.parametrize("path", ["x", "/x/", "", None])
async def test_a_malformed_chroot_of_a_view_is_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, path: Any
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises((ValueError, TypeError), match=repr(path)):
            zk.with_chroot(path)


async def test_a_refused_credential_is_not_shown(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    secrets: list[Any] = [("u", "secret"), ["secret"]]
    async with ensemble.open(max_request_size=100) as zk:
        for credential in secrets:
            with pytest.raises(TypeError) as caught:
                await zk.add_auth("digest", credential)
            assert "secret" not in str(caught.value)
        with pytest.raises(ValueError, match="cannot be encoded as UTF-8") as unsuited:
            await zk.add_auth("digest", "secret\ud800")
        # Not even the codec's error, which holds the whole text, goes along with it.
        assert unsuited.value.__suppress_context__
        assert "secret" not in str(unsuited.value)
        with pytest.raises(ValueError, match="the server takes 100") as too_long:
            await zk.add_auth("digest", "secret" * 50)
        assert "secret" not in str(too_long.value)


LIMITED: dict[str, Callable[[ZooKeeper], Awaitable[object]]] = {
    "create": lambda zk: zk.create("/a", bytes(1000)),
    "set": lambda zk: zk.set("/a", bytes(1000)),
    "get": lambda zk: zk.get("/" + "a" * 1000),
    "delete": lambda zk: zk.delete("/" + "a" * 1000),
    "set_acls": lambda zk: zk.set_acls("/a", OPEN_ACL_UNSAFE * 100),
    "reconfig": lambda zk: zk.reconfig(new_members="x" * 1000),
    "add_watch": lambda zk: zk.add_watch("/" + "a" * 1000, AddWatchMode.PERSISTENT, _ignore),
}


@pytest.mark.parametrize("name", LIMITED)
async def test_a_request_over_the_servers_limit_is_refused_and_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str
) -> None:
    async with ensemble.open(max_request_size=1000) as zk:
        before, sent = await drained(zk), len(ensemble.received)
        with pytest.raises(ValueError, match=rf"{name[:3]}\w*( of .*)? needs \d+ bytes, the server takes 1000 .*jute"):
            await LIMITED[name](zk)
        assert len(ensemble.received) == sent
        assert await drained(zk) == before


async def test_the_limit_counts_the_frame_without_its_length(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    # Header 8, path 4 + 2, data 4 + n, version 4.
    async with ensemble.open(max_request_size=1000) as zk:
        await zk.set("/a", bytes(1000 - 22))
        with pytest.raises(ValueError, match="needs 1001 bytes"):
            await zk.set("/a", bytes(1000 - 21))


@pytest.mark.parametrize(
    ("flags", "operation", "mode"),
    [
        ({}, Opcode.CREATE, CreateMode.PERSISTENT),
        ({"ephemeral": True}, Opcode.CREATE, CreateMode.EPHEMERAL),
        ({"sequence": True}, Opcode.CREATE, CreateMode.PERSISTENT_SEQUENTIAL),
        ({"ephemeral": True, "sequence": True}, Opcode.CREATE, CreateMode.EPHEMERAL_SEQUENTIAL),
        ({"container": True}, Opcode.CREATE_CONTAINER, CreateMode.CONTAINER),
        ({"ttl": 1.5}, Opcode.CREATE_TTL, CreateMode.PERSISTENT_WITH_TTL),
        ({"ttl": 1.5, "sequence": True}, Opcode.CREATE_TTL, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL),
    ],
)
def test_every_mode_of_create(flags: dict[str, Any], operation: Opcode, mode: CreateMode) -> None:
    given: dict[str, Any] = {"ephemeral": False, "sequence": False, "container": False, "ttl": None, **flags}
    found, found_mode, ttl_ms = create_mode(**given)
    assert (found.opcode, found_mode) == (operation, mode)
    assert ttl_ms == (1500 if "ttl" in flags else None)


@pytest.mark.parametrize(("seconds", "milliseconds"), [(0.001, 1), (0.0015, 2), (MAX_TTL_MS / 1000, MAX_TTL_MS)])
def test_a_ttl_is_sent_in_milliseconds(seconds: float, milliseconds: int) -> None:
    assert create_mode(ephemeral=False, sequence=False, container=False, ttl=seconds)[2] == milliseconds


@pytest.mark.parametrize("kind", list(WatcherType))
async def test_kinds_of_watches_may_be_given_as_numbers(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, kind: WatcherType
) -> None:
    async with ensemble.open() as zk:
        given: Any = int(kind)
        with pytest.raises(Exception, match="no such watch"):
            await zk.remove_watches("/a", given)
