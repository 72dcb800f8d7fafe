"""Every operation of the native client, and every error code that can be provoked, on the real ZooKeeper 3.8.0."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from terzetto.client import (
    ACL,
    CREATOR_ALL_ACL,
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    ClientInfo,
    ConfigurationError,
    Id,
    InvalidACLError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NoWatcherError,
    QuotaExceededError,
    ReadChildren,
    ReadData,
    ReconfigDisabledError,
    RolledBackError,
    RuntimeInconsistency,
    UnimplementedError,
    ZnodeStat,
    ZooKeeper,
    make_digest_acl,
    open_zookeeper,
)

from .conftest import OwnZooKeeper
from .zookeeper import SUPER_AUTH, RealZooKeeper


@asynccontextmanager
async def client_of(server: RealZooKeeper, name: str) -> AsyncIterator[ZooKeeper]:
    """A client with a chroot of the test's own."""
    async with open_zookeeper(server.hosts, chroot=f"/{name}", ensure_chroot=True) as zk:
        yield zk


@pytest.fixture
async def zk(zookeeper: RealZooKeeper, request: pytest.FixtureRequest) -> AsyncIterator[ZooKeeper]:
    async with client_of(zookeeper, request.node.name.replace("[", "-").rstrip("]")) as client:
        yield client


async def test_create_in_all_seven_modes(zk: ZooKeeper) -> None:
    assert await zk.create("/p", b"data") == "/p"
    assert await zk.create("/e", ephemeral=True) == "/e"
    assert await zk.create("/s-", sequence=True) == "/s-0000000002"
    assert await zk.create("/es-", ephemeral=True, sequence=True) == "/es-0000000003"
    assert await zk.create("/c", container=True) == "/c"
    assert await zk.create("/t", ttl=3600) == "/t"
    assert await zk.create("/ts-", ttl=3600, sequence=True) == "/ts-0000000006"
    assert await zk.create("/p/", sequence=True) == "/p/0000000000"
    owners = {name: (await zk.get(f"/{name}"))[1].owner_session_id for name in await zk.get_children("/")}
    assert {name for name, owner in owners.items() if owner == zk.session_id} == {"e", "es-0000000003"}
    assert {owner for name, owner in owners.items() if not name.startswith("e")} == {None}


@pytest.mark.parametrize("how", [{}, {"container": True}, {"ttl": 60.0}, {"ephemeral": True, "sequence": True}])
async def test_create_with_stat(zk: ZooKeeper, how: dict[str, Any]) -> None:
    created: tuple[str, ZnodeStat] = await zk.create("/n", b"abc", include_data=True, **how)
    path, stat = created
    assert await zk.get(path) == (b"abc", stat)
    assert (stat.data_length, stat.version, stat.czxid) == (3, 0, stat.mzxid)


async def test_ttl_and_container_znodes_go_by_themselves(own_zookeeper: OwnZooKeeper) -> None:
    server = own_zookeeper(
        zoo_cfg={"extendedTypesEnabled": "true"}, jvm_properties={"znode.container.checkIntervalMs": 100}
    )
    async with open_zookeeper(server.hosts) as zk:
        gone = {name: trio.Event() for name in ("/ttl", "/box")}
        await zk.create("/ttl", ttl=0.001)
        await zk.create("/box", container=True)
        for path, event in gone.items():
            await zk.exists(path, watch=lambda _, event=event: event.set())  # type: ignore[misc]
        await zk.create("/box/item")
        await zk.delete("/box/item")
        with trio.fail_after(20):
            for path, event in gone.items():
                while await zk.exists(path, watch=lambda _, event=event: event.set()) is not None:  # type: ignore[misc]
                    await event.wait()


async def test_null_and_empty_data_are_distinct(zk: ZooKeeper) -> None:
    await zk.create("/null", None)
    await zk.create("/empty", b"")
    assert [(await zk.get(path))[0] for path in ("/null", "/empty")] == [None, b""]
    await zk.set("/null", b"x")
    await zk.set("/null", None)
    data, stat = await zk.get("/null")
    assert (data, stat.data_length, stat.version) == (None, 0, 2)


async def test_set_and_versions(zk: ZooKeeper) -> None:
    await zk.create("/a", b"0")
    assert (await zk.set("/a", b"1")).version == 1
    assert (await zk.set("/a", b"2", version=1)).version == 2
    with pytest.raises(BadVersionError) as caught:
        await zk.set("/a", b"3", version=1)
    assert (caught.value.path, caught.value.code, caught.value.outcome_unknown) == ("/a", -103, False)
    with pytest.raises(BadVersionError):
        await zk.delete("/a", version=0)
    assert await zk.delete("/a", version=2) is True
    assert await zk.exists("/a") is None


async def test_children(zk: ZooKeeper) -> None:
    for name in "cab":
        await zk.create(f"/{name}")
    assert sorted(await zk.get_children("/")) == ["a", "b", "c"]
    names, stat = await zk.get_children("/", include_data=True)
    assert (sorted(names), stat.children_count, stat.children_version) == (["a", "b", "c"], 3, 3)


async def test_errors_name_the_path_of_the_view(zk: ZooKeeper) -> None:
    await zk.create("/parent")
    await zk.create("/parent/child")
    await zk.create("/ephemeral", ephemeral=True)
    for call, error in [
        (zk.get("/nope"), NoNodeError),
        (zk.set("/nope", b""), NoNodeError),
        (zk.delete("/nope"), NoNodeError),
        (zk.get_children("/nope"), NoNodeError),
        (zk.get_acls("/nope"), NoNodeError),
        (zk.set_acls("/nope", OPEN_ACL_UNSAFE), NoNodeError),
        (zk.count_descendants("/nope"), NoNodeError),
        (zk.create("/nope/child"), NoNodeError),
        (zk.create("/parent"), NodeExistsError),
        (zk.delete("/parent"), NotEmptyError),
        (zk.create("/ephemeral/child"), NoChildrenForEphemeralsError),
        (zk.create("/auth", acl=CREATOR_ALL_ACL), InvalidACLError),
        (zk.create("/acl", acl=[ACL(31, Id("nonsense", "x"))]), InvalidACLError),
        (zk.remove_watches("/parent"), NoWatcherError),
    ]:
        with pytest.raises(error) as caught:
            await call
        assert caught.value.path is not None
        assert caught.value.path.split("/")[1] in ("nope", "parent", "ephemeral", "auth", "acl")


async def test_reserved_znodes_and_what_a_standalone_server_lacks(zookeeper: RealZooKeeper) -> None:
    async with open_zookeeper(zookeeper.hosts) as zk:
        with pytest.raises(BadArgumentsError):
            await zk.delete("/zookeeper")
        with pytest.raises(NoAuthError):
            await zk.set("/zookeeper/config", b"")
        with pytest.raises(ReconfigDisabledError):
            await zk.reconfig(leaving="3")
        data, stat = await zk.get_config()
        assert (data, stat.version) == (b"", 0) or stat.version == -1


async def test_ttl_is_refused_where_it_is_switched_off(own_zookeeper: OwnZooKeeper) -> None:
    server = own_zookeeper(zoo_cfg={"reconfigEnabled": "true"})
    async with open_zookeeper(server.hosts) as zk:
        with pytest.raises(UnimplementedError):
            await zk.create("/t", ttl=1)
        with pytest.raises((UnimplementedError, NoAuthError)):
            await zk.reconfig(leaving="3")


async def test_quota_of_3_7(own_zookeeper: OwnZooKeeper) -> None:
    server = own_zookeeper(zoo_cfg={"enforceQuota": "true"})
    async with open_zookeeper(server.hosts) as zk:
        await zk.create("/limited")
        quota = b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2"
        await zk.create("/zookeeper/quota/limited/zookeeper_limits", quota, makepath=True)
        await zk.create("/zookeeper/quota/limited/zookeeper_stats", b"count=1,bytes=0")
        await zk.create("/limited/one")
        with pytest.raises(QuotaExceededError):
            await zk.create("/limited/two")


async def test_acls(zookeeper: RealZooKeeper, zk: ZooKeeper) -> None:
    owner = make_digest_acl("owner", "secret", all=True)
    await zk.create("/guarded", b"s3cr3t", acl=[owner, *READ_ACL_UNSAFE])
    with pytest.raises(NoAuthError):
        await zk.set("/guarded", b"x")
    acls, stat = await zk.get_acls("/guarded")
    assert sorted(acl.id.scheme for acl in acls) == ["digest", "world"]
    assert Id("digest", "owner:x") in [acl.id for acl in acls]  # redacted for those without ADMIN
    assert stat.acl_version == 0

    assert await zk.add_auth("digest", "owner:secret") is True
    await zk.set("/guarded", b"x")
    assert (await zk.set_acls("/guarded", [owner], version=0)).acl_version == 1
    with pytest.raises(BadVersionError):
        await zk.set_acls("/guarded", [owner], version=0)
    assert (await zk.get_acls("/guarded"))[0] == [owner]
    assert ClientInfo("digest", "owner") in await zk.who_am_i()

    await zk.create("/mine", acl=CREATOR_ALL_ACL)
    async with open_zookeeper(zookeeper.hosts, chroot=zk.chroot) as stranger:
        with pytest.raises(NoAuthError):
            await stranger.get("/mine")
    async with open_zookeeper(zookeeper.hosts, chroot=zk.chroot, auth=[("digest", SUPER_AUTH)]) as root:
        assert (await root.get("/mine"))[0] == b""
    async with open_zookeeper(
        zookeeper.hosts, chroot=zk.chroot, default_acl=[make_digest_acl("other", "pw", all=True)]
    ) as other:
        await other.create("/theirs")
        with pytest.raises(NoAuthError):
            await other.get("/theirs")


async def test_a_refused_credential_is_not_kept_and_not_fatal(zk: ZooKeeper) -> None:
    await zk.create("/e", ephemeral=True)
    session = zk.session_id
    with pytest.raises(AuthFailedError):
        await zk.add_auth("nonsense", "user:secret")
    assert await zk.exists("/e") is not None  # after a reconnect, in the same session
    assert zk.session_id == session


async def test_a_refused_credential_at_the_beginning_is_fatal(zookeeper: RealZooKeeper) -> None:
    with pytest.raises(AuthFailedError):
        async with open_zookeeper(zookeeper.hosts, auth=[("nonsense", "x")]):
            pytest.fail("the block must not begin")


async def test_transaction(zk: ZooKeeper) -> None:
    transaction = zk.transaction()
    transaction.create("/t", b"1")
    transaction.set_data("/t", b"2", version=0)
    transaction.check("/t", 1)
    transaction.create("/t/s-", sequence=True)
    transaction.create("/t/stat", include_data=True)
    transaction.create("/t/ttl", ttl=60)
    transaction.create("/t/box", container=True)
    transaction.delete("/t/stat")
    created, written, checked, sequential, with_stat, ttl, box, deleted = await transaction.commit()
    assert (created, checked, sequential, ttl, box, deleted) == (
        "/t",
        True,
        "/t/s-0000000000",
        "/t/ttl",
        "/t/box",
        True,
    )
    assert written.version == 1
    assert with_stat == ("/t/stat", None)  # 3.8.0 sends no Stat inside a multi
    with pytest.raises(ValueError, match="committed already"):
        transaction.delete("/t")


async def test_failed_transaction(zk: ZooKeeper) -> None:
    transaction = zk.transaction()
    transaction.create("/a")
    transaction.create("/nope/child")
    transaction.delete("/a")
    first, second, third = await transaction.commit()
    assert isinstance(first, RolledBackError)
    assert isinstance(second, NoNodeError)
    assert isinstance(third, RuntimeInconsistency)
    assert second.path == "/nope/child"
    assert await zk.exists("/a") is None

    block = zk.transaction()
    block.check("/", 4711)
    block.create("/a")
    with pytest.raises(BadVersionError):
        async with block:
            pass
    assert await zk.exists("/a") is None
    assert await zk.transaction().commit() == []


async def test_multi_read(zk: ZooKeeper) -> None:
    await zk.create("/a", b"data")
    await zk.create("/a/b")
    data, children, error = await zk.multi_read([ReadData("/a"), ReadChildren("/a"), ReadData("/nope")])
    assert data == await zk.get("/a")
    assert children == ["b"]
    assert isinstance(error, NoNodeError)
    assert error.path == "/nope"
    assert await zk.multi_read([]) == []


async def test_descendants_and_ephemerals(zookeeper: RealZooKeeper, zk: ZooKeeper) -> None:
    for path in ("/a", "/a/b", "/a/b/c"):
        await zk.create(path)
    for path in ("/a/e1", "/a/e2", "/e3"):
        await zk.create(path, ephemeral=True)
    assert await zk.count_descendants("/") == 6
    assert await zk.count_descendants("/a") == 4
    assert await zk.get_ephemerals() == ["/a/e1", "/a/e2", "/e3"]
    assert await zk.get_ephemerals("/a/e") == ["/a/e1", "/a/e2"]
    # The server compares plain text; another view's ephemerals beside the chroot must not show.
    plain = zk.with_chroot("/a/b")
    assert await plain.get_ephemerals() == []


async def test_delete_recursive_and_ensure_path(zk: ZooKeeper) -> None:
    assert await zk.ensure_path("/x/y/z") == "/x/y/z"
    assert await zk.ensure_path("/x/y/z") is True
    await zk.create("/x/y/z/leaf", ephemeral=True)
    assert await zk.create("/deep/er/node", b"d", makepath=True) == "/deep/er/node"
    assert await zk.delete("/x", recursive=True) is True
    assert await zk.exists("/x") is None
    assert await zk.delete("/x", recursive=True) is True


async def test_sync_and_who_am_i(zk: ZooKeeper) -> None:
    assert await zk.sync("/") == "/"
    before = zk.last_zxid
    assert await zk.sync("/", strict=True) == "/"
    assert zk.last_zxid > before  # a quorum ordered it; others may write meanwhile
    assert await zk.who_am_i() == [ClientInfo("ip", "127.0.0.1")]


async def test_commands(zk: ZooKeeper) -> None:
    assert await zk.command(b"ruok") == "imok"
    assert len(await zk.command("mntr")) > 1000
    assert tuple(await zk.server_version()) == (3, 8, 0)
    with pytest.raises(ValueError, match="four lower-case letters"):
        await zk.command("help me")


async def test_pipeline(zk: ZooKeeper) -> None:
    async with zk.pipeline(window=16) as pipeline:
        created = [await pipeline.create(f"/n{i}", str(i).encode()) for i in range(200)]
        read = [await pipeline.get(f"/n{i}") for i in range(200)]
        missing = await pipeline.get("/nope")
        absent = await pipeline.exists("/nope")
        await pipeline.delete("/n0")
        names = await pipeline.get_children("/")
    assert [handle.result() for handle in created] == [f"/n{i}" for i in range(200)]
    assert [handle.result()[0] for handle in read] == [str(i).encode() for i in range(200)]
    assert absent.result() is None
    assert len(names.result()) == 199
    with pytest.raises(NoNodeError):
        missing.result()


async def test_chroots(zookeeper: RealZooKeeper, zk: ZooKeeper) -> None:
    await zk.create("/app")
    await zk.create("/app-other")
    view = zk.with_chroot("/app")
    assert await view.create("/x", b"1") == "/x"
    assert (await zk.get("/app/x"))[0] == b"1"
    assert view.session_id == zk.session_id
    assert view.unchroot(f"{zk.chroot}/app-other") == f"{zk.chroot}/app-other"
    with pytest.raises(ConfigurationError, match="does not exist"):
        async with open_zookeeper(zookeeper.hosts, chroot=f"{zk.chroot}/no/such"):
            pytest.fail("the block must not begin")
    async with open_zookeeper(zookeeper.hosts, chroot=f"{zk.chroot}/made/here", ensure_chroot=True) as made:
        assert await made.create("/y") == "/y"
    assert await zk.exists("/made/here/y") is not None


async def test_a_chroot_in_the_connect_string(zookeeper: RealZooKeeper, zk: ZooKeeper) -> None:
    async with open_zookeeper(f"{zookeeper.hosts}{zk.chroot}/made/here", ensure_chroot=True) as made:
        assert await made.create("/y") == "/y"
    assert await zk.exists("/made/here/y") is not None


async def test_a_request_over_the_servers_limit_is_not_sent(zk: ZooKeeper) -> None:
    with pytest.raises(ValueError, match=r"jute\.maxbuffer"):
        await zk.create("/big", b"x" * 1_048_576)
    session = zk.session_id
    biggest = 1_048_575 - len(await zk.create("/b", b"")) - len(zk.chroot) - 200
    await zk.set("/b", b"x" * biggest)
    assert zk.session_id == session


async def test_sessions_end_with_their_block(zookeeper: RealZooKeeper, zk: ZooKeeper) -> None:
    async with open_zookeeper(zookeeper.hosts, chroot=zk.chroot) as other:
        await other.create("/e", ephemeral=True)
        client_id = other.client_id
        assert client_id is not None
    assert await zk.exists("/e") is None
    async with open_zookeeper(zookeeper.hosts, client_id=client_id) as late:
        assert late.session_id not in (0, client_id[0])  # the closed session cannot be resumed


async def test_a_session_is_resumed_by_its_id(zookeeper: RealZooKeeper, zk: ZooKeeper) -> None:
    await zk.create("/e", ephemeral=True)
    assert zk.client_id is not None
    async with open_zookeeper(zookeeper.hosts, client_id=zk.client_id, chroot=zk.chroot) as again:
        assert again.session_id == zk.client_id[0]
        # The session's other client fetches it back, and this one in turn.
        assert await again.retry(again.get_ephemerals) == ["/e"]


async def test_a_nameless_sequential_znode_stays_inside_its_view(zk: ZooKeeper) -> None:
    view = zk.with_chroot("/app")
    await view.ensure_path("/")
    assert await view.create("/", sequence=True) == "/0000000000"
    transaction = view.transaction()
    transaction.create("/", sequence=True)
    assert await transaction.commit() == ["/0000000001"]
    assert await zk.get_children("/") == ["app"]
