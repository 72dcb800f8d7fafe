"""The client's operations against servers on memory streams: results of each, views, four-letter words, order."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import (
    CREATOR_ALL_ACL,
    EXCEPTIONS,
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    AuthFailedError,
    BadVersionError,
    ClientInfo,
    ConfigurationError,
    ConnectionLoss,
    KazooException,
    KazooState,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OperationTimeoutError,
    RunClock,
    ServerVersion,
    UnknownServerError,
    WatchedEvent,
    ZnodeStat,
    ZooKeeper,
    ZookeeperError,
)
from terzetto.client.wire import Opcode

from .memory_server import Door, MemoryEnsemble, pass_time, settle, until
from .realm import SessionRecord
from .server_link import Code, Fault, nth

# Results --------------------------------------------------------------------------------------------------------------


async def test_data_and_stat(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        assert await zk.create("/a", b"1") == "/a"
        data, stat = await zk.get("/a")
        assert data == b"1"
        assert isinstance(stat, ZnodeStat)
        assert await zk.exists("/a") == stat
        assert stat.dataLength == 1
        written = await zk.set("/a", b"22", 0)
        assert isinstance(written, ZnodeStat)
        assert (written.version, written.dataLength) == (1, 2)
        assert await zk.delete("/a", 1) is True
        assert await zk.exists("/a") is None


async def test_null_is_not_empty(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.create("/null", None)
        await zk.create("/empty")
        assert (await zk.get("/null"))[0] is None
        assert (await zk.get("/empty"))[0] == b""
        await zk.set("/empty", None)
        assert (await zk.get("/empty"))[0] is None


async def test_children(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a")
        assert await zk.get_children("/a") == []
        await zk.create("/a/x")
        await zk.create("/a/y")
        assert sorted(await zk.get_children("/a")) == ["x", "y"]
        names, stat = await zk.get_children("/a", include_data=True)
        assert sorted(names) == ["x", "y"]
        assert isinstance(stat, ZnodeStat)
        assert stat.numChildren == 2
        assert await zk.count_descendants("/a") == 2
        with pytest.raises(NotEmptyError):
            await zk.delete("/a")


async def test_every_mode_of_create(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        assert await zk.create("/p") == "/p"
        assert await zk.create("/e", ephemeral=True) == "/e"
        assert await zk.create("/s-", sequence=True) == "/s-0000000002"
        assert await zk.create("/es-", ephemeral=True, sequence=True) == "/es-0000000003"
        assert await zk.create("/c", container=True) == "/c"
        assert await zk.create("/t", ttl=60.0) == "/t"
        assert await zk.create("/st-", ttl=60.0, sequence=True) == "/st-0000000006"
        assert await zk.create("/p/", sequence=True) == "/p/0000000000"
        sent = [request.record for request in ensemble.received if request.path]
        assert [record.flags for record in sent] == [*(0, 1, 2, 3, 4, 5, 6), 2]
        assert sent[5].ttl == 60_000
        assert await zk.get_ephemerals() == ["/e", "/es-0000000003"]
        stat = await zk.exists("/e")
        assert stat is not None
        assert stat.owner_session_id == zk.session_id


@pytest.mark.parametrize("options", [{}, {"sequence": True}, {"container": True}, {"ttl": 1.0}])
async def test_create_with_stat(ensemble: MemoryEnsemble, autojump_clock: MockClock, options: dict[str, Any]) -> None:
    async with ensemble.open(chroot="/app", ensure_chroot=True) as zk:
        created: Any = await zk.create("/a", b"123", include_data=True, **options)
        path, stat = created
        assert path.startswith("/a")
        assert stat == await zk.exists(path)
        assert isinstance(await zk.create("/b", **options), str)


async def test_acls(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a", acl=iter(READ_ACL_UNSAFE))
        acl, stat = await zk.get_acls("/a")
        assert acl == READ_ACL_UNSAFE
        assert isinstance(stat, ZnodeStat)
        assert (await zk.set_acls("/a", iter(OPEN_ACL_UNSAFE), 0)).aversion == 1
        assert (await zk.get_acls("/a"))[0] == OPEN_ACL_UNSAFE
        with pytest.raises(BadVersionError):
            await zk.set_acls("/a", OPEN_ACL_UNSAFE, 0)


async def test_sync_and_strict_sync(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(chroot="/app", ensure_chroot=True) as zk:
        assert await zk.sync() == "/"
        assert (ensemble.received[-1].opcode, ensemble.received[-1].path) == (Opcode.SYNC, "/app")
        assert await zk.sync("/a", strict=True) == "/a"
        # An empty transaction: a quorum orders it.
        assert (ensemble.received[-1].opcode, ensemble.received[-1].record) == (Opcode.MULTI, [])


async def test_ephemerals_of_a_view(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        for path in ("/app", "/app/lock", "/app/lock/x", "/application"):
            await zk.ensure_path(path)
        for path in ("/app/b", "/app/lock/x/1", "/app/a", "/application/c", "/z"):
            await zk.create(path, ephemeral=True)
        assert await zk.get_ephemerals() == ["/app/a", "/app/b", "/app/lock/x/1", "/application/c", "/z"]
        assert await zk.get_ephemerals("/app") == ["/app/a", "/app/b", "/app/lock/x/1", "/application/c"]
        view = zk.with_chroot("/app")
        assert await view.get_ephemerals() == ["/a", "/b", "/lock/x/1"]
        assert await view.get_ephemerals("/lo") == ["/lock/x/1"]


async def test_identities_and_later_credentials(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        assert await zk.who_am_i() == [ClientInfo("ip", "127.0.0.1")]
        assert await zk.add_auth("digest", "alice:secret") is True
        assert await zk.who_am_i() == [ClientInfo("ip", "127.0.0.1"), ClientInfo("digest", "alice")]
        ensemble.cut()
        await until(lambda: len(ensemble.links) == 2 and zk.connected)
        assert ClientInfo("digest", "alice") in await zk.who_am_i()


async def test_a_refused_credential_is_forgotten_and_the_session_goes_on(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.refused_credentials = frozenset({b"bad"})
    async with ensemble.open() as zk:
        session_id = zk.session_id
        with pytest.raises(AuthFailedError):
            await zk.add_auth("digest", b"bad")
        assert await zk.exists("/") is not None
        assert zk.session_id == session_id
        assert Opcode.AUTH not in [request.opcode for request in ensemble.link.received]


async def test_configuration(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[WatchedEvent] = []
    async with ensemble.open(chroot="/app", ensure_chroot=True) as zk:
        assert (await zk.get_config(told.append))[0] == b""
        data, stat = await zk.reconfig(new_members="server.1=a:1:2:participant;3", from_config=-1)
        assert data == b"server.1=a:1:2:participant;3"
        assert isinstance(stat, ZnodeStat)
        assert (await zk.get_config())[0] == data
        await zk.reconfig("server.2=b:1:2;3", "1", from_config=2**40)
        record = ensemble.received[-1].record
        assert (record.joining_servers, record.leaving_servers, record.new_members) == ("server.2=b:1:2;3", "1", None)
    assert [(event.type, event.path) for event in told] == [("CHANGED", "/zookeeper/config")]


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(set(EXCEPTIONS) - {0, -4, -124}))
async def test_every_error_code_is_its_exception_with_the_callers_path(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, code: int
) -> None:
    ensemble.rules.append(nth(1, Opcode.GET_DATA, Code(code)))
    async with ensemble.open(chroot="/app", ensure_chroot=True) as zk:
        with pytest.raises(ZookeeperError) as caught:
            await zk.get("/a")
        assert type(caught.value) is EXCEPTIONS[code]
        assert caught.value.path == "/a"
        assert not caught.value.outcome_unknown
        assert await zk.exists("/") is not None


async def test_an_unknown_error_code_is_an_exception_and_no_crash(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.rules.append(nth(1, Opcode.GET_DATA, Code(-31337)))
    async with ensemble.open() as zk:
        with pytest.raises(UnknownServerError) as caught:
            await zk.get("/")
        assert caught.value.server_code == -31337
        assert (await zk.get("/"))[0] == b""


@pytest.mark.parametrize(("fault", "happened"), [(Fault.CUT, False), (Fault.DO_AND_CUT, True)])
async def test_a_lost_answer_leaves_the_outcome_unknown(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, fault: Fault, happened: bool
) -> None:
    ensemble.rules.append(nth(1, Opcode.CREATE, fault))
    async with ensemble.open() as zk:
        with pytest.raises(ConnectionLoss) as caught:
            await zk.create("/a")
        assert caught.value.outcome_unknown
        assert caught.value.path == "/a"
        assert (await zk.exists("/a") is not None) == happened


@pytest.mark.parametrize("size", [0, 1, 10, 19])
async def test_an_answer_cut_in_the_middle_is_a_loss(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, size: int
) -> None:
    async with ensemble.open() as zk:
        ensemble.cut_after = size
        with pytest.raises(ConnectionLoss):
            await zk.create("/a")
        assert await zk.exists("/a") is not None


# Order ----------------------------------------------------------------------------------------------------------------


async def test_requests_of_many_tasks_are_answered_in_call_order(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    called: list[int] = []
    answered: list[int] = []

    async def write(zk: ZooKeeper, number: int) -> None:
        called.append(number)
        await zk.create(f"/a/{number}")
        answered.append(number)

    async with ensemble.open() as zk:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(write, zk, number)
    paths = [request.path for request in ensemble.received if request.opcode == Opcode.CREATE]
    assert paths == [f"/a/{number}" for number in called]
    assert sorted(answered) == list(range(200))


async def test_a_call_made_while_suspended_waits_and_comes_after_all_that_failed(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    events: list[str] = []

    async def call(zk: ZooKeeper, path: str) -> None:
        try:
            await zk.create(path)
            events.append(path)
        except ConnectionLoss:
            events.append(f"{path} lost")

    async with ensemble.open() as zk:
        ensemble.link.paused = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, zk, "/a")
            await settle()
            ensemble.shut(Door.REFUSES)
            ensemble.cut()
            await until(lambda: zk.state == KazooState.SUSPENDED)
            assert not zk.connected
            nursery.start_soon(call, zk, "/b")
            await pass_time(50.0)
            assert events == ["/a lost"]
            ensemble.shut(Door.OPEN)
    assert events == ["/a lost", "/b"]


# Views ----------------------------------------------------------------------------------------------------------------


async def test_views_and_views_of_views(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open("a:1/app", ensure_chroot=True) as zk:
        inner = zk.with_chroot("/x").with_chroot("/y")
        assert (zk.chroot, inner.chroot, zk.with_chroot("/").chroot) == ("/app", "/app/x/y", "/app")
        assert inner.session_id == zk.session_id
        assert await inner.exists("/") is None
        assert await inner.create("/z", b"1", makepath=True) == "/z"
        assert ensemble.realm.get("/app/x/y/z").data == b"1"
        assert await zk.get_children("/x/y") == ["z"]
        assert await inner.create("/s-", sequence=True) == "/s-0000000001"
        assert await inner.create("/", sequence=True) == "/0000000002"
        assert "/app/x/y/0000000002" in ensemble.realm.znodes
        assert inner.unchroot("/app/x/y/z") == "/z"
        assert inner.unchroot("/app/x/yellow") == "/app/x/yellow"
        assert await inner.delete("/", recursive=True) is True
        assert await zk.get_children("/x") == []
    assert len(ensemble.links) == 1


async def test_an_error_in_a_view_names_the_views_path(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(chroot="/app", ensure_chroot=True) as zk:
        view = zk.with_chroot("/x")
        with pytest.raises(NoNodeError) as caught:
            await view.get("/a")
        assert caught.value.path == "/a"
        assert "/app" not in str(caught.value)
        with pytest.raises(NoNodeError) as missing:
            await view.create("/a/b")
        assert missing.value.path == "/a/b"


async def test_the_default_acl_of_a_view_is_the_clients(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(default_acl=READ_ACL_UNSAFE) as zk:
        await zk.with_chroot("/x").create("/y/z", makepath=True)
        for path in ("/x", "/x/y", "/x/y/z"):
            assert ensemble.realm.get(path).acl == READ_ACL_UNSAFE


# Properties and servers -----------------------------------------------------------------------------------------------


async def test_a_session_of_a_server_with_a_high_id_is_shown_as_servers_show_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    # The server's id is the first byte, and from 128 on that makes a negative number.
    session_id, passwd = (0x9900000000000001) - 2**64, bytes(range(16))
    ensemble.realm.sessions[session_id] = SessionRecord(passwd, 10_000)
    async with ensemble.open(client_id=(session_id, passwd)) as zk:
        assert zk.session_id == session_id
        assert "session 0x9900000000000001 " in repr(zk)


async def test_what_a_client_says_of_itself(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    clock = RunClock()
    async with ensemble.open(clock=clock, session_timeout=7.0) as zk:
        ((session_id, record),) = ensemble.realm.sessions.items()
        assert (zk.session_id, zk.session_passwd) == (session_id, record.passwd)
        assert zk.client_id == (session_id, record.passwd)
        assert zk.session_timeout == 7.0
        assert (zk.state, zk.client_state, zk.connected, zk.is_over) == ("CONNECTED", "CONNECTED", True, False)
        assert zk.clock is clock
        assert zk.chroot == ""
        assert f"0x{session_id:x}" in repr(zk)
        assert record.passwd.hex() not in repr(zk)
        assert repr(record.passwd) not in repr(zk)
        await zk.create("/a")
        assert zk.last_zxid == ensemble.realm.zxid
    assert zk.is_over


async def test_new_hosts_are_for_the_next_connection(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open("a", chroot="/app", ensure_chroot=True) as zk:
        zk.set_hosts("b:1,c:2", randomize_hosts=False)
        assert zk.connected
        ensemble.doors["b"] = Door.REFUSES
        ensemble.cut()
        await until(lambda: len(ensemble.links) == 2 and zk.connected)
        assert [host for _, host in ensemble.dials] == ["a", "b", "c"]
        zk.set_hosts("d/app")
        with pytest.raises(ConfigurationError, match="name the chroot '/other', this client has '/app'"):
            zk.set_hosts("e/other")
        with pytest.raises(ConfigurationError, match="port 'x'"):
            zk.set_hosts("e:x")
        ensemble.cut()
        await until(lambda: len(ensemble.links) == 3 and zk.connected)
        assert ensemble.dials[-1][1] == "d"


async def test_four_letter_words(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.four_letters = {b"ruok": b"imok", b"srvr": b"Zookeeper version: 3.9.12-abc, built on x\nMode: leader\n"}
    async with ensemble.open() as zk:
        assert await zk.command() == "imok"
        assert await zk.command(b"ruok") == "imok"
        assert await zk.command("what") == ""
        version = await zk.server_version()
        assert version == ServerVersion(3, 9, 12)
        assert version >= (3, 9)
        await until(lambda: ensemble.streams_open == 1)
        ensemble.four_letters[b"srvr"] = b"srvr is not executed because it is not in the whitelist.\n"
        with pytest.raises(KazooException, match="names no version: 'srvr is not executed"):
            await zk.server_version()


async def test_a_four_letter_word_without_an_answer_is_bounded(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.four_letters[b"stat"] = None
    async with ensemble.open() as zk:
        start = trio.current_time()
        with pytest.raises(OperationTimeoutError, match=r"a:2181 did not answer 'stat' within 10\.0 s"):
            await zk.command("stat")
        assert trio.current_time() - start == 10.0
        await until(lambda: ensemble.streams_open == 1)
        ensemble.shut(Door.REFUSES)
        with pytest.raises(ConnectionLoss, match="refuses") as caught:
            await zk.command("stat")
        assert isinstance(caught.value.__cause__, OSError)
        ensemble.cut()
        await until(lambda: not zk.connected)
        with pytest.raises(ConnectionLoss):
            await zk.command("stat")


# Parents -------------------------------------------------------------------------------------------------------------


async def test_makepath_creates_what_is_missing_and_no_more(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a", b"kept")
        assert await zk.create("/a/b/c", b"1", CREATOR_ALL_ACL, makepath=True, ephemeral=True) == "/a/b/c"
        assert ensemble.realm.get("/a").data == b"kept"
        assert (ensemble.realm.get("/a/b").data, ensemble.realm.get("/a/b").owner) == (b"", 0)
        assert ensemble.realm.get("/a/b").acl == CREATOR_ALL_ACL
        assert ensemble.realm.get("/a/b/c").owner == zk.session_id
        with pytest.raises(NodeExistsError):
            await zk.create("/a/b/c", makepath=True)
        with pytest.raises(NoNodeError):
            await zk.create("/x/y")
        assert await zk.create("/s/t-", sequence=True, makepath=True) == "/s/t-0000000000"


async def test_makepath_costs_nothing_where_the_parents_are_there(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        sent = len(ensemble.received)
        await zk.create("/a", makepath=True)
        assert len(ensemble.received) == sent + 1


async def test_without_a_watch_flag_nothing_is_watched(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.get("/")
        await zk.exists("/nothing")
        await zk.get_children("/")
        assert [request.record.watch for request in ensemble.received] == [False] * 3
