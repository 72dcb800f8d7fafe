"""`ensure_path` and recursive `delete`: several requests, among others who create and delete at the same time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from trio.testing import MockClock

from terzetto.client import READ_ACL_UNSAFE, BadArgumentsError, NoAuthError, NoNodeError, NotEmptyError
from terzetto.client._trees import CREATE_ROUNDS, DELETE_ROUNDS
from terzetto.client.wire import Opcode

from .memory_server import MemoryEnsemble
from .server_link import Code, Received, Rule


def before_each(opcode: int, act: Callable[[str], None], times: int = 1) -> Rule:
    """Others act right before the first requests of an opcode; they are told its path."""
    left = times

    def rule(request: Received) -> None:
        nonlocal left
        if request.opcode == opcode and left and request.path is not None:
            left -= 1
            act(request.path)

    return rule


async def test_ensure_path_creates_all_that_is_missing_and_says_what_it_did(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        assert await zk.ensure_path("/a/b/c", READ_ACL_UNSAFE) == "/a/b/c"
        for path in ("/a", "/a/b", "/a/b/c"):
            assert ensemble.realm.get(path).acl == READ_ACL_UNSAFE
            assert ensemble.realm.get(path).data == b""
        assert await zk.ensure_path("/a/b/c") is True
        assert await zk.ensure_path("/") is True


async def test_ensure_path_takes_an_iterator_of_acls_for_all_of_them(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        await zk.ensure_path("/a/b", iter(READ_ACL_UNSAFE))
        await zk.create("/c/d", acl=iter(READ_ACL_UNSAFE), makepath=True)
    for path in ("/a", "/a/b", "/c", "/c/d"):
        assert ensemble.realm.get(path).acl == READ_ACL_UNSAFE


async def test_ensure_path_of_what_is_there_is_one_request(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        sent = len(ensemble.received)
        assert await zk.ensure_path("/a") is True
        assert len(ensemble.received) == sent + 1


async def test_others_may_create_the_same_path_at_the_same_time(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.rules.append(before_each(Opcode.CREATE, ensemble.realm.create, times=3))
    async with ensemble.open() as zk:
        assert await zk.ensure_path("/a/b/c") == "/a/b/c"
    assert "/a/b/c" in ensemble.realm.znodes


def vanishing(ensemble: MemoryEnsemble, parent: str, times: int) -> Rule:
    """The parent is reaped, like a container that has no child yet, right before a znode is created in it."""
    left = times

    def rule(request: Received) -> None:
        nonlocal left
        path = request.path or ""
        if request.opcode == Opcode.CREATE and path.rpartition("/")[0] == parent:
            if left and parent in ensemble.realm.znodes:
                left -= 1
                ensemble.realm.delete(parent)

    return rule


async def test_ensure_path_survives_parents_that_vanish(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/app")
    ensemble.realm.create("/app/a")
    ensemble.rules.append(vanishing(ensemble, "/app/a", CREATE_ROUNDS - 1))
    async with ensemble.open(chroot="/app") as zk:
        assert await zk.ensure_path("/a/b", READ_ACL_UNSAFE) == "/a/b"
    assert ensemble.realm.get("/app/a").acl == READ_ACL_UNSAFE
    assert "/app/a/b" in ensemble.realm.znodes


async def test_a_create_with_parents_survives_parents_that_vanish(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/app")
    ensemble.rules.append(vanishing(ensemble, "/app/a/b", 2))
    ensemble.rules.append(vanishing(ensemble, "/app/a", 2))
    async with ensemble.open(chroot="/app") as zk:
        assert await zk.create("/a/b/c", b"x", makepath=True) == "/a/b/c"
    assert ensemble.realm.get("/app/a/b/c").data == b"x"
    assert ensemble.realm.get("/app/a/b").data == b""


async def test_others_who_never_stop_deleting_a_parent_are_an_error_that_names_the_views_path(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/app")
    ensemble.realm.create("/app/a")
    ensemble.rules.append(vanishing(ensemble, "/app/a", 1_000_000))
    async with ensemble.open(chroot="/app") as zk:
        for call in (zk.ensure_path("/a/b"), zk.create("/a/b", makepath=True)):
            with pytest.raises(NoNodeError) as caught:
                await call
            assert caught.value.path == "/a/b"


async def test_a_sequential_znode_of_an_absent_chroot_makes_the_chroot(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        assert await zk.with_chroot("/x/y").create("/", sequence=True, makepath=True) == "/0000000000"
        assert await zk.with_chroot("/v/w").create("/", makepath=True) == "/"
    assert {"/x/y/0000000000", "/v/w"} <= set(ensemble.realm.znodes)


async def test_ensure_path_goes_above_the_chroot(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        view = zk.with_chroot("/app/x")
        assert await view.ensure_path("/y") == "/y"
        assert "/app/x/y" in ensemble.realm.znodes
        assert await zk.with_chroot("/other/z").ensure_path("/") == "/"
        assert "/other/z" in ensemble.realm.znodes


async def test_an_error_of_the_server_ends_it(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(
        lambda request: Code(-102) if request.opcode == Opcode.CREATE and request.path == "/a/b" else None
    )
    async with ensemble.open() as zk:
        with pytest.raises(NoAuthError) as caught:
            await zk.ensure_path("/a/b/c")
        assert caught.value.path == "/a/b"
    assert "/a" in ensemble.realm.znodes


def _tree(ensemble: MemoryEnsemble) -> None:
    for path in ("/a", "/a/b", "/a/b/c", "/a/b/d", "/a/e", "/ab"):
        ensemble.realm.create(path)


async def test_a_tree_is_deleted_children_first(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    _tree(ensemble)
    async with ensemble.open() as zk:
        assert await zk.delete("/a", recursive=True) is True
    assert [path for path in ensemble.realm.znodes if path.startswith("/a")] == ["/ab"]
    deleted = [request.path for request in ensemble.received if request.opcode == Opcode.DELETE]
    assert sorted(str(path) for path in deleted) == ["/a", "/a/b", "/a/b/c", "/a/b/d", "/a/e"]
    assert deleted[-1] == "/a"


async def test_a_tree_that_is_gone_is_fine(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        assert await zk.delete("/a", recursive=True) is True
        with pytest.raises(NoNodeError):
            await zk.delete("/a")


async def test_others_may_delete_parts_of_it_meanwhile(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    _tree(ensemble)
    ensemble.rules.append(before_each(Opcode.DELETE, ensemble.realm.delete, times=3))
    async with ensemble.open() as zk:
        assert await zk.delete("/a", recursive=True) is True
    assert "/a" not in ensemble.realm.znodes


async def test_others_may_create_in_it_meanwhile(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    _tree(ensemble)
    created = 0

    def interfere(path: str) -> None:
        nonlocal created
        if path == "/a/b" and created < 3:
            created += 1
            ensemble.realm.create(f"/a/b/new{created}")

    ensemble.rules.append(before_each(Opcode.DELETE, interfere, times=1000))
    async with ensemble.open() as zk:
        assert await zk.delete("/a", recursive=True) is True
    assert created == 3
    assert "/a" not in ensemble.realm.znodes


async def test_others_who_never_stop_creating_are_an_error_in_the_end(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    created = 0

    def interfere(path: str) -> None:
        nonlocal created
        if path == "/a":
            created += 1
            ensemble.realm.create(f"/a/{created}")

    ensemble.rules.append(before_each(Opcode.DELETE, interfere, times=1_000_000))
    async with ensemble.open() as zk:
        with pytest.raises(NotEmptyError, match=f"during {DELETE_ROUNDS} rounds") as caught:
            await zk.delete("/a", recursive=True)
        assert caught.value.path == "/a"
    assert created == DELETE_ROUNDS


async def test_what_the_server_reserves_is_not_deleted(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        with pytest.raises(BadArgumentsError):
            await zk.delete("/zookeeper", recursive=True)
    assert {"/zookeeper", "/zookeeper/config"} <= set(ensemble.realm.znodes)
