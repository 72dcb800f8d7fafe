"""Three servers in one loop and everything that can be done to them, driven by the real client."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest
import trio

from terzetto.client import ConnectionLoss, NodeExistsError, SessionExpiredError, ZooKeeper, open_zookeeper
from terzetto.testcluster import Ensemble, EnsembleError, embedded, open_ensemble
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.journal import open_storage
from terzetto.testcluster.storage.interface import Storage

from .free_ports import free_ports

pytestmark = pytest.mark.slow


@asynccontextmanager
async def client(ensemble: Ensemble, sid: int | None = None) -> AsyncIterator[ZooKeeper]:
    hosts = ensemble.hosts if sid is None else ensemble.host(sid)
    async with open_zookeeper(hosts, session_timeout=10.0, connect_timeout=20.0) as zk:
        yield zk


async def write(zk: ZooKeeper, path: str) -> None:
    """Creates a znode, whatever happens to the connection."""
    with trio.fail_after(30):
        while True:
            try:
                if await zk.exists(path) is None:
                    await zk.create(path)
            except ConnectionLoss:
                continue
            except NodeExistsError:
                pass  # an attempt whose reply was lost, which this server has heard of only now
            return


def others(ensemble: Ensemble, sid: int) -> set[int]:
    return set(ensemble.sids) - {sid}


async def led(ensemble: Ensemble) -> int:
    leader = await ensemble.wait_leader()
    await ensemble.wait_serving()
    return leader


async def test_three_servers_serve_when_the_block_begins() -> None:
    async with open_ensemble(servers=3) as ensemble:
        assert ensemble.sids == (1, 2, 3)
        assert ensemble.hosts == ",".join(ensemble.host(sid) for sid in ensemble.sids)
        assert ensemble.leader == await ensemble.wait_quorum() == await ensemble.wait_leader()
        for sid in ensemble.sids:
            async with client(ensemble, sid) as zk:
                await zk.create(f"/{sid}")
        async with client(ensemble, 1) as zk:
            await zk.sync("/")
            assert sorted(await zk.get_children("/")) == ["1", "2", "3", "zookeeper"]


@pytest.mark.parametrize("on_disk", [False, True])
async def test_each_server_dies_and_comes_back_and_nothing_is_lost(
    on_disk: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("data") if on_disk else None
    async with open_ensemble(servers=3, data_dir=folder) as ensemble, client(ensemble) as zk:
        names: list[str] = []
        for end in (ensemble.kill, ensemble.stop):
            for sid in ensemble.sids:
                names.append(f"/{end.__name__}-{sid}")
                await end(sid)
                await write(zk, names[-1])
                await ensemble.start(sid)
                await ensemble.wait_serving()
        for sid in ensemble.sids:
            async with client(ensemble, sid) as one:
                await one.sync("/")
                assert {f"/{name}" for name in await one.get_children("/")} == {*names, "/zookeeper"}


async def test_all_can_die_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with open_ensemble(servers=3, data_dir=tmp_path_factory.mktemp("data")) as ensemble, client(ensemble) as zk:
        await zk.create("/kept")
        for sid in ensemble.sids:
            await ensemble.kill(sid)
        assert ensemble.leader is None
        assert ensemble.describe() == "; ".join(f"server {sid} was killed" for sid in ensemble.sids)
        for sid in ensemble.sids:
            await ensemble.start(sid)
        await ensemble.wait_serving()
        await write(zk, "/more")
        assert await zk.exists("/kept")


async def test_without_a_quorum_nobody_leads_and_that_is_said() -> None:
    async with open_ensemble(servers=3) as ensemble:
        first = await led(ensemble)
        last = max(others(ensemble, first))
        for sid in ensemble.sids:
            if sid != last:
                await ensemble.kill(sid)
        with pytest.raises(EnsembleError) as failed:
            await ensemble.wait_leader(within=0.7)
        assert re.fullmatch(
            rf"no server leads after 0\.7 s: .*server {last} is looking for a leader, zxid 0x\w+.*", str(failed.value)
        )
        with pytest.raises(EnsembleError, match=r"not every server serves after 0\.1 s"):
            await ensemble.wait_serving(within=0.1)
        with pytest.raises(EnsembleError, match=r"there is no quorum that serves after 0\.1 s"):
            await ensemble.wait_quorum(within=0.1)


async def test_a_paused_leader_is_replaced_and_follows_when_it_goes_on() -> None:
    async with open_ensemble(servers=3) as ensemble:
        old = await led(ensemble)
        async with client(ensemble, min(others(ensemble, old))) as zk:
            await ensemble.pause(old)
            assert "paused" in ensemble.describe()
            await write(zk, "/without")
            new = await ensemble.wait_leader()
            assert new != old
            await ensemble.resume(old)
            await ensemble.wait_serving()
            assert await ensemble.wait_leader() == new
        async with client(ensemble, old) as zk:
            await zk.sync("/")
            assert await zk.exists("/without")


async def test_a_leader_that_is_cut_off_loses_its_place() -> None:
    async with open_ensemble(servers=3) as ensemble:
        old = await led(ensemble)
        rest = others(ensemble, old)
        async with client(ensemble, min(rest)) as majority, client(ensemble, old) as minority:
            async with ensemble.partition({old}, rest):
                await write(majority, "/majority")
                assert ensemble.leader in rest
                with trio.move_on_after(1.0):
                    try:
                        await minority.sync("/", strict=True)
                    except ConnectionLoss:
                        await minority.sync("/", strict=True)
                    pytest.fail("a leader without a quorum has confirmed that it leads")
            await ensemble.wait_serving()
            assert ensemble.leader in rest
            with trio.fail_after(10):
                while True:
                    try:
                        await minority.sync("/")
                        assert await minority.exists("/majority")
                        break
                    except ConnectionLoss:
                        continue


async def test_a_partition_from_clients_too() -> None:
    async with open_ensemble(servers=3) as ensemble:
        leader = await led(ensemble)
        lonely = min(others(ensemble, leader))
        async with client(ensemble, lonely) as zk:
            await zk.create("/before")
            async with ensemble.partition({lonely}, others(ensemble, lonely), servers_only=False):
                with trio.move_on_after(0.5) as scope:
                    await zk.exists("/")
                assert scope.cancelled_caught
            await write(zk, "/after")


async def test_one_way_and_slow_links() -> None:
    async with open_ensemble(servers=3) as ensemble, client(ensemble) as zk:
        leader = await led(ensemble)
        follower = min(others(ensemble, leader))
        async with ensemble.partition({follower}, {leader}, one_way=True):
            await write(zk, "/deaf")
        await ensemble.wait_serving()
        leader = await led(ensemble)
        async with client(ensemble, leader) as own:
            async with ensemble.slow_links(0.1, {leader}, others(ensemble, leader)):
                began = trio.current_time()
                await own.create("/slow")
                assert trio.current_time() - began > 0.19
            assert await ensemble.break_links({leader}, others(ensemble, leader)) >= 2
            await write(own, "/broken")
        await ensemble.wait_serving()


async def test_observers_serve_and_do_not_vote() -> None:
    async with open_ensemble(servers=3, observers=1) as ensemble:
        assert ensemble.sids == (1, 2, 3, 4)
        assert "server 4 observes server" in ensemble.describe()
        async with client(ensemble, 4) as zk:
            await zk.create("/through-the-observer")
        leader = await led(ensemble)
        for sid in others(ensemble, leader) - {4}:
            await ensemble.kill(sid)
        with pytest.raises(EnsembleError, match="no quorum"):
            await ensemble.wait_quorum(within=0.5)


async def test_a_session_is_expired_wherever_its_client_is() -> None:
    async with open_ensemble(servers=3) as ensemble:
        leader = await led(ensemble)
        for sid in (leader, min(others(ensemble, leader))):
            async with client(ensemble, sid) as zk:
                session_id = zk.session_id
                assert session_id is not None
                await zk.create(f"/mine-{sid}", ephemeral=True)
                await ensemble.expire_session(session_id)
                with pytest.raises(EnsembleError, match=f"there is no session 0x{session_id:x}"):
                    await ensemble.expire_session(session_id)
                async with client(ensemble, leader) as other:
                    assert await other.exists(f"/mine-{sid}") is None
                with trio.fail_after(20):
                    # The client learns of it, and begins another session.
                    while zk.session_id == session_id:
                        with contextlib.suppress(SessionExpiredError, ConnectionLoss):
                            await zk.get("/")
        assert await ensemble.drop_connections() == 0


async def test_a_session_moves_with_its_client() -> None:
    async with open_ensemble(servers=3) as ensemble, client(ensemble) as zk:
        session_id = zk.session_id
        await zk.create("/mine", ephemeral=True)
        for _ in range(5):
            assert await ensemble.drop_connections() == 1
            await write(zk, "/again")
        assert zk.session_id == session_id
        assert await zk.exists("/mine")


async def test_what_cannot_be_done_to_several_servers_is_said() -> None:
    async with open_ensemble(servers=3) as ensemble:
        with pytest.raises(EnsembleError, match="there is no server 9; the servers are 1, 2, 3"):
            ensemble.host(9)
        for one, other in (({1}, {1, 2}), (set[int](), {2})):
            with pytest.raises(EnsembleError, match="two groups of servers are needed that share none"):
                async with ensemble.partition(one, other):
                    pass
        with pytest.raises(EnsembleError, match="there is no server 7"):
            async with ensemble.slow_links(1.0, {1}, {7}):
                pass
        await ensemble.kill(2)
        with pytest.raises(EnsembleError, match="server 2 is not running: it was killed"):
            await ensemble.pause(2)


async def test_a_server_whose_disk_fails_takes_no_other_with_it(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    storages: dict[int, Storage] = {}

    def opened(config: ServerConfig) -> Storage:
        return storages.setdefault(config.sid, open_storage(config))

    def failing() -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(embedded, "open_storage", opened)
    folder = tmp_path_factory.mktemp("data")
    async with open_ensemble(servers=3, data_dir=folder) as ensemble, client(ensemble) as zk:
        broken = min(others(ensemble, await led(ensemble)))
        monkeypatch.setattr(storages[broken], "sync", failing)
        await write(zk, "/one")
        with trio.fail_after(20):
            while f"server {broken} failed" not in ensemble.describe():
                await write(zk, f"/more-{trio.current_time()}")
        with pytest.raises(EnsembleError, match=rf"server {broken} failed: .*no space"):
            await ensemble.wait_serving()
        assert await ensemble.wait_quorum() != broken
        await write(zk, "/last")
        storages.clear()
        await ensemble.start(broken)
        await ensemble.wait_serving()


async def test_a_server_that_is_started_twice_at_once_lives_once() -> None:
    async with open_ensemble(servers=3) as ensemble:
        await ensemble.kill(1)
        refused: list[EnsembleError] = []

        async def start() -> None:
            try:
                await ensemble.start(1)
            except EnsembleError as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(start)
        assert [str(error) for error in refused] == ["server 1 is running already"] * 3
        await ensemble.wait_serving()


async def test_a_server_may_be_killed_while_it_starts() -> None:
    async with open_ensemble(servers=3) as ensemble:
        await ensemble.kill(1)
        outcomes: list[str] = []

        async def kill() -> None:
            while not outcomes:
                # Too early, it is not running.
                with contextlib.suppress(EnsembleError):
                    await ensemble.kill(1)
                    outcomes.append("killed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            # Also refused in between, where the kill came first.
            with contextlib.suppress(EnsembleError):
                await ensemble.start(1)
        assert "server 1 was killed" in ensemble.describe()
        await ensemble.start(1)
        await ensemble.wait_serving()


async def test_a_fault_whose_caller_is_cancelled_meanwhile_does_not_stay() -> None:
    async with open_ensemble(servers=3) as ensemble:
        faults: list[Callable[[], AbstractAsyncContextManager[None]]] = [
            lambda: ensemble.partition({1}, {2, 3}),
            lambda: ensemble.slow_links(120.0, {1}, {2, 3}),
        ]
        for fault in faults:
            for number in range(20):
                with trio.move_on_after(number / 20_000):
                    async with fault():
                        pass
        for sid in ensemble.sids:
            async with client(ensemble, sid) as zk:
                with trio.fail_after(60):
                    await write(zk, f"/{sid}")


async def test_a_session_outlives_a_restart_of_everything_with_its_data(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("data")
    port = free_ports(3)
    async with AsyncExitStack() as life:
        ensemble = await life.enter_async_context(open_ensemble(servers=3, data_dir=folder, base_port=port))
        async with client(ensemble) as zk:
            session_id = zk.session_id
            await zk.create("/mine", ephemeral=True)
            await life.aclose()
            async with open_ensemble(servers=3, data_dir=folder, base_port=port):
                await write(zk, "/again")
                assert await zk.exists("/mine")
                assert zk.session_id == session_id
