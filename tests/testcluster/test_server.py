"""The server on memory streams: what it does when, on virtual time; and what it never does before a disk has synced."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio
import trio.testing

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster.config_auth import AuthSettings
from terzetto.testcluster.storage import DiskStorage, LoggedTxn, MemoryStorage

from .port import connect_frame
from .shell import Client, Disk, serving

EPHEMERAL, CONTAINER = 1, 4


async def test_a_client_is_served(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = await shell.connect()
        assert (await client.create("/a", b"data")).value.path == "/a"
        reply = await client.ask(o.GET_DATA, "/a", False)
        assert reply.value.data == b"data"
        assert reply.zxid == 2


async def test_a_silent_session_expires_within_a_tick(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(tick_ms=1000, max_session_ms=60_000) as shell:
        silent, other = await shell.connect(timeout_ms=5000), await shell.connect(timeout_ms=60_000)
        await silent.create("/e", flags=EPHEMERAL)
        silent_since = trio.current_time()
        await other.ask(o.EXISTS, "/e", True)
        while not other.events:
            await trio.sleep(0.25)
            await other.ping()
        # ZooKeeper rounds up to the next tick, and looks once a tick.
        assert 5.0 <= trio.current_time() - silent_since <= 6.25
        assert [(event.type, event.path) for event in other.events] == [(2, "/e")]
        assert await silent.ended()


@pytest.mark.parametrize("on_disk", [False, True])
async def test_a_killed_server_loses_what_was_not_synced(tmp_path: Path, on_disk: bool) -> None:
    storage = DiskStorage(tmp_path) if on_disk else MemoryStorage()
    async with serving(storage) as shell:
        client = await shell.connect()
        await client.create("/e", flags=EPHEMERAL)
        # The close is logged, in memory even done, and nothing has been synced, when the server dies.
        if on_disk:
            shell.server.expire_session(client.session_id)
            shell.server.kill()
        else:
            storage.append([LoggedTxn(3, b"never decoded")])
            shell.server.kill()
    async with serving(storage) as shell:
        again = await shell.connect(session_id=client.session_id, password=client.password)
        assert again.session_id == client.session_id
        assert (await again.ask(o.EXISTS, "/e", False)).err == 0


async def test_pings_keep_a_session(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(tick_ms=1000) as shell:
        client = await shell.connect(timeout_ms=4000)
        for _ in range(100):
            await trio.sleep(3.9)
            assert (await client.ping()).xid == -2


async def test_a_connection_may_come_back_to_its_session(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = await shell.connect()
        await client.create("/e", flags=EPHEMERAL)
        await client.close()
        again = await shell.connect(session_id=client.session_id, password=client.password)
        assert again.session_id == client.session_id
        assert (await again.ask(o.EXISTS, "/e", False)).value.stat.ephemeralOwner == client.session_id


async def test_containers_and_ttl_znodes_are_swept(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(container_check_ms=1000, extended_types=True) as shell:
        client = await shell.connect()
        await client.ask(o.CREATE_CONTAINER, "/c", b"", [], CONTAINER)
        await client.ask(o.CREATE_CONTAINER, "/c", b"", OPEN_ACL_UNSAFE, CONTAINER)
        await client.create("/c/child")
        await client.ask(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, 5, 5000)
        await trio.sleep(3.0)
        assert (await client.ask(o.EXISTS, "/c", False)).err == 0
        await client.ask(o.DELETE, "/c/child", -1)
        await trio.sleep(1.5)
        assert (await client.ask(o.EXISTS, "/c", False)).err == -101
        assert (await client.ask(o.EXISTS, "/t", False)).err == 0
        await trio.sleep(2.0)
        assert (await client.ask(o.EXISTS, "/t", False)).err == -101


async def test_a_connection_without_session_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(handshake_timeout_ms=10_000) as shell:
        began = trio.current_time()
        mute, slow = Client(shell.transport), Client(shell.transport)
        await slow.send(connect_frame()[:20])
        served = await shell.connect(timeout_ms=40_000)
        assert await mute.ended()
        assert await slow.ended()
        assert 10.0 <= trio.current_time() - began <= 10.6
        assert (await served.ping()).xid == -2
        assert shell.server.sessionless_expired == 2
        assert len(shell.server.links) == 1


async def test_a_connection_that_does_not_identify_itself_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    auth = AuthSettings(required_schemes=("digest",))
    async with serving(handshake_timeout_ms=10_000, auth=auth) as shell:
        began = trio.current_time()
        mute, known = await shell.connect(timeout_ms=40_000), await shell.connect(timeout_ms=40_000)
        assert (await known.ask(o.AUTH, 0, "digest", b"u:p")).err == 0
        assert await mute.ended()
        assert 10.0 <= trio.current_time() - began <= 10.6
        assert (await known.ping()).xid == -2
        # It cannot be resumed for longer than its timeout.
        assert mute.session_id in shell.server.tree.sessions


async def test_connections_are_limited_for_each_address(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(max_client_connections=2) as shell:
        first, second = await shell.connect(), await shell.connect()
        refused = Client(shell.transport)
        assert await refused.ended()
        assert (await shell.connect(ip="10.0.0.10")).session_id
        await first.close()
        await trio.testing.wait_all_tasks_blocked()
        assert (await shell.connect()).session_id
        assert (await second.ping()).xid == -2
        assert shell.server.connections_rejected == 1


async def test_connections_are_limited_in_all(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(max_connections=2) as shell:
        for number in range(2):
            await shell.connect(ip=f"10.0.1.{number}")
        refused = Client(shell.transport, "10.0.2.1")
        await refused.send(b"ruok")
        # Four letter words are refused as well.
        assert await refused.ended()


async def test_words_are_answered_beside_sessions(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = await shell.connect()
        assert await shell.say(b"ruok") == "imok"
        assert await shell.say(b"isro\n") == "rw"
        assert "Connections: 2" in await shell.say(b"srvr")
        assert (await client.ping()).xid == -2


async def test_a_word_in_pieces(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = Client(shell.transport)
        for letter in b"ruo":
            await client.send(bytes([letter]))
            await trio.sleep(0.1)
        await client.send(b"k")
        assert await client.connection.receive() == b"imok"


async def test_a_paused_server_answers_nobody_and_forgets_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(tick_ms=1000) as shell:
        client = await shell.connect(timeout_ms=10_000)
        shell.server.pause()
        await client.start(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0)
        with trio.move_on_after(8.0) as scope:
            await client.reply()
        assert scope.cancelled_caught
        shell.server.resume()
        assert (await client.reply(o.CREATE)).value.path == "/a"


async def test_a_ping_that_waited_out_a_pause_still_counts(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(tick_ms=1000) as shell:
        client = await shell.connect(timeout_ms=5000)
        shell.server.pause()
        await trio.sleep(30.0)
        await client.send(o.PING.frame(-2))
        shell.server.resume()
        assert (await client.reply()).xid == -2
        await trio.sleep(2.0)
        assert (await client.ping()).xid == -2


async def test_a_stop_answers_what_it_has_and_keeps_sessions(autojump_clock: trio.testing.MockClock) -> None:
    storage = MemoryStorage()
    async with serving(storage) as shell:
        client = await shell.connect()
        await client.create("/e", flags=EPHEMERAL)
        shell.server.stop()
        assert await client.ended()
    async with serving(storage) as shell:
        again = await shell.connect(session_id=client.session_id, password=client.password)
        assert again.session_id == client.session_id
        assert (await again.ask(o.EXISTS, "/e", False)).err == 0


async def test_a_killed_server_comes_back_with_what_was_acknowledged(autojump_clock: trio.testing.MockClock) -> None:
    storage = MemoryStorage()
    async with serving(storage) as shell:
        client = await shell.connect()
        for number in range(20):
            await client.create(f"/a{number}")
        shell.server.kill()
        assert await client.ended()
    storage.crash()
    async with serving(storage) as shell:
        client = await shell.connect()
        assert len((await client.ask(o.GET_CHILDREN, "/", False)).value.children) == 21


async def test_a_session_can_be_expired_and_connections_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        one, two = await shell.connect(), await shell.connect()
        assert not shell.server.expire_session(12345)
        assert shell.server.expire_session(one.session_id)
        assert await one.ended()
        assert (await shell.connect(session_id=one.session_id, password=one.password)).session_id == 0
        assert shell.server.drop_connections() == 1
        assert await two.ended()
        assert (await shell.connect(session_id=two.session_id, password=two.password)).session_id == two.session_id


async def test_snapshots_are_written_as_the_log_grows(autojump_clock: trio.testing.MockClock) -> None:
    storage = MemoryStorage()
    async with serving(storage, snap_count=20) as shell:
        client = await shell.connect()
        for number in range(100):
            await client.create(f"/a{number}")
        await trio.testing.wait_all_tasks_blocked()
        assert shell.server.journal.snapshots_written >= 5
        # In memory the log behind a snapshot is of no use.
        assert storage.size < 20_000


# -- a disk that takes its time


async def synced(disk: Disk) -> None:
    """Waits until a sync runs."""
    assert await trio.to_thread.run_sync(disk.running.wait, 30.0)


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def test_no_write_is_answered_before_it_is_synced(disk: Disk) -> None:
    async with serving(disk) as shell:
        writer, reader = await shell.connect(), await shell.connect()
        disk.hold()
        await writer.start(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0)
        await synced(disk)
        # Others read on, and see nothing yet; the writer's own read waits behind its write.
        assert (await reader.ask(o.EXISTS, "/a", False)).err == -101
        await writer.start(o.EXISTS, "/a", False)
        with trio.move_on_after(0.05) as scope:
            await writer.frame()
        assert scope.cancelled_caught
        disk.release()
        assert (await writer.reply(o.CREATE)).value.path == "/a"
        assert (await writer.reply()).err == 0


async def test_one_sync_serves_all_writes_that_came_during_the_last(disk: Disk) -> None:
    async with serving(disk) as shell:
        clients = [await shell.connect() for _ in range(10)]
        disk.hold()
        await clients[0].start(o.CREATE, "/first", b"", OPEN_ACL_UNSAFE, 0)
        await synced(disk)
        before = disk.syncs
        for number, client in enumerate(clients[1:]):
            await client.start(o.CREATE, f"/a{number}", b"", OPEN_ACL_UNSAFE, 0)
        await trio.testing.wait_all_tasks_blocked()
        disk.release()
        for client in clients:
            assert (await client.reply()).err == 0
        assert disk.syncs == before + 1


async def test_too_many_outstanding_requests_stop_the_reading(disk: Disk) -> None:
    async with serving(disk, global_outstanding_limit=10) as shell:
        eager, other = await shell.connect(), await shell.connect()
        disk.hold()
        for number in range(30):
            await eager.start(o.CREATE, f"/a{number}", b"", OPEN_ACL_UNSAFE, 0)
            await trio.testing.wait_all_tasks_blocked()
        # One request over the limit is what it takes to notice.
        assert shell.server.processor.outstanding == 11
        assert (await other.ask(o.EXISTS, "/", False)).err == 0
        disk.release()
        for number in range(30):
            assert (await eager.reply(o.CREATE)).value.path == f"/a{number}"


async def write_to_a_full(disk: Disk) -> None:
    async with serving(disk) as shell:
        client = await shell.connect()
        disk.fail = OSError(errno.ENOSPC, "no space")
        await client.start(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0)
        assert await client.ended()


async def test_a_failed_sync_ends_the_server_unanswered(disk: Disk) -> None:
    with pytest.raises(OSError, match="no space"):
        await write_to_a_full(disk)
