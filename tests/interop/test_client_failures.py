"""What the client makes of servers that die, stop, lie or fall silent. Real servers, and real connections to bad ones.

Every wait is bounded: the tests say by what.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from terzetto.client import (
    ConnectionLoss,
    ConnectTimeoutError,
    EphemeralOnLocalSessionError,
    EventType,
    NewConfigNoQuorumError,
    NotReadOnlyCallError,
    PipelineResult,
    ReconfigInProcessError,
    ReplyTooLargeError,
    SessionExpiredError,
    UnknownServerError,
    WatchedEvent,
    ZooKeeper,
    make_digest_acl,
    open_zookeeper,
)

from . import badpeer
from .badpeer import open_bad_peer
from .conftest import OwnEnsemble, OwnZooKeeper
from .proxy import open_proxy
from .zookeeper import RealEnsemble, RealServer, RealZooKeeper

BOUND = 30.0
"""Seconds for anything that involves an election of Java servers."""

SECRET = make_digest_acl("user", "secret", all=True)


async def in_thread(function: Callable[[], object]) -> None:
    await trio.to_thread.run_sync(function)


def server_of(ensemble: RealEnsemble, zk: ZooKeeper) -> RealServer:
    """The server that the client is connected to."""
    assert zk.server is not None
    return next(server for server in ensemble.servers.values() if server.address == str(zk.server))


async def wait_for_state(zk: ZooKeeper, wanted: str) -> None:
    with trio.fail_after(BOUND):
        async for state in zk.states():
            if state == wanted:
                return


class Owned:
    """Things that a client has on its session, and proof that it still has them."""

    def __init__(self, zk: ZooKeeper) -> None:
        self.zk = zk
        self.session_id = zk.session_id
        self.events: list[WatchedEvent] = []
        self.watching = False

    async def take(self) -> None:
        await self.zk.add_auth("digest", "user:secret")
        await self.zk.create("/owned", ephemeral=True, acl=[SECRET])
        await self.zk.create("/watched")
        await self.watch()

    async def watch(self) -> None:
        self.events.clear()
        await self.zk.get("/watched", watch=self.events.append)
        self.watching = True

    async def check(self) -> None:
        """Same session, same ephemeral, authenticated, and the watch works. May be repeated after a lost connection."""
        zk = self.zk
        assert zk.session_id == self.session_id
        _, stat = await zk.get("/owned")  # readable only with the credential
        assert stat.owner_session_id == self.session_id
        if self.events or not self.watching:
            # An attempt that lost its connection has used the watch up, or could not set it again.
            await self.watch()
        await zk.set("/watched", b"x")
        await zk.sync("/watched")
        assert [(event.type, event.path) for event in self.events] == [(EventType.CHANGED, "/watched")]
        self.watching = False
        await self.watch()


@asynccontextmanager
async def owner(hosts: str, session_timeout: float = 15.0) -> AsyncIterator[tuple[ZooKeeper, Owned]]:
    async with open_zookeeper(hosts, session_timeout=session_timeout) as zk:
        owned = Owned(zk)
        await owned.take()
        yield zk, owned


async def retried(call: Callable[[], object]) -> None:
    """Repeats an idempotent check while connections are lost under it."""
    with trio.fail_after(BOUND):
        while True:
            try:
                await call()  # type: ignore[misc]
                return
            except ConnectionLoss:
                continue


async def end_session(hosts: str, client_id: tuple[int, bytes] | None) -> None:
    """Closes somebody else's session: to him it has expired, on a machine of any speed."""
    assert client_id is not None
    async with open_zookeeper(hosts, client_id=client_id) as thief:
        assert thief.session_id == client_id[0]


async def test_the_servers_of_an_ensemble_die_one_by_one(own_ensemble: OwnEnsemble) -> None:
    ensemble = own_ensemble(3)
    async with owner(ensemble.hosts) as (zk, owned):
        for which in ("mine", "leader"):
            server = server_of(ensemble, zk) if which == "mine" else ensemble.leader()
            await in_thread(server.kill)
            await retried(lambda: zk.sync("/", strict=True))
            await retried(owned.check)
            await in_thread(lambda sid=server.sid: ensemble.restart(sid))  # type: ignore[misc]
            await retried(owned.check)


async def test_a_session_outlives_a_total_outage(own_zookeeper: OwnZooKeeper) -> None:
    server = own_zookeeper()
    # Java counts a session's time from early in its start, of which several seconds may be left on a busy machine.
    async with owner(server.hosts, session_timeout=8.0) as (zk, owned):
        states: list[str] = []
        zk.add_listener(states.append)
        await in_thread(server.kill)
        await wait_for_state(zk, "SUSPENDED")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(retried, lambda: zk.set("/watched", b"submitted while suspended"))
            await trio.testing.wait_all_tasks_blocked()
            # Longer than the session's timeout without a server. Once one is back, the client has that time again.
            await trio.sleep(1.25 * zk.session_timeout)
            await in_thread(server.restart)
        assert "LOST" not in states
        assert (await zk.get("/watched"))[0] == b"submitted while suspended"
        assert zk.session_id == owned.session_id
        assert await zk.exists("/owned") is not None


async def test_give_up_after_bounds_an_outage(own_zookeeper: OwnZooKeeper) -> None:
    server = own_zookeeper()
    async with open_zookeeper(server.hosts, give_up_after=0.5, close_timeout=0.5) as zk:
        await in_thread(server.kill)
        await wait_for_state(zk, "SUSPENDED")
        with trio.fail_after(BOUND), pytest.raises(SessionExpiredError, match="give_up_after") as caught:
            await zk.exists("/")
        assert not caught.value.outcome_unknown
        assert zk.state == "LOST"


async def test_a_server_that_stops(own_ensemble: OwnEnsemble) -> None:
    ensemble = own_ensemble(3)
    async with owner(ensemble.hosts, session_timeout=12.0) as (zk, owned):
        server = server_of(ensemble, zk)
        await in_thread(server.pause)
        # Silence for two thirds of the timeout makes the client move; a third is left to it for that.
        await retried(lambda: zk.sync("/", strict=True))
        assert server_of(ensemble, zk) is not server
        await retried(owned.check)
        await in_thread(server.resume)
        await retried(owned.check)


async def test_a_client_that_stops_for_longer_than_the_session(zookeeper: RealZooKeeper) -> None:
    """What a stopped process looks like from outside: nothing passes, either way, until the session is over."""
    async with (
        open_proxy(zookeeper.address) as proxy,
        open_zookeeper(zookeeper.hosts) as other,
        open_zookeeper(zookeeper.hosts_at(proxy.hosts), session_timeout=4.0) as zk,
    ):
        states: list[str] = []
        zk.add_listener(states.append)
        path = await zk.create("/stopped-", ephemeral=True, sequence=True)
        gone = trio.Event()
        await other.sync("/")
        assert await other.exists(path, watch=lambda _: gone.set()) is not None
        proxy.stall("client")
        proxy.stall("server")
        with trio.fail_after(BOUND):
            await gone.wait()
        proxy.flow("client")
        proxy.flow("server")
        proxy.cut()
        with trio.fail_after(BOUND):
            while "LOST" not in states or zk.state != "CONNECTED":
                async for _ in zk.states():
                    if "LOST" in states and zk.state == "CONNECTED":
                        break
        assert await zk.exists(path) is None


async def test_an_expired_session_without_renewal_is_the_end(zookeeper: RealZooKeeper) -> None:
    async with (
        open_proxy(zookeeper.address) as proxy,
        open_zookeeper(zookeeper.hosts) as other,
        open_zookeeper(zookeeper.hosts_at(proxy.hosts), renew_session=False) as zk,
    ):
        path = await zk.create("/unrenewed-", ephemeral=True, sequence=True)
        gone = trio.Event()
        await other.sync("/")
        assert await other.exists(path, watch=lambda _: gone.set()) is not None
        proxy.refuse()
        proxy.cut()
        with trio.fail_after(BOUND):
            await end_session(zookeeper.hosts, zk.client_id)
            await gone.wait()
        waiting_failed: list[bool] = []

        async def wait_suspended() -> None:
            with pytest.raises(SessionExpiredError):
                await zk.get("/")
            waiting_failed.append(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_suspended)
            await trio.testing.wait_all_tasks_blocked()
            await proxy.accept()
        assert waiting_failed
        with pytest.raises(SessionExpiredError):
            await zk.get("/")
        assert (zk.state, zk.client_state) == ("LOST", "EXPIRED_SESSION")


async def hangs_up(caller: badpeer.Caller) -> None:
    """Takes the connect request and closes, as a server without a quorum does."""
    await caller.frame()


BAD_BEGINNINGS: dict[str, badpeer.Script] = {
    "never answers": badpeer.never_answers(),
    "garbage": badpeer.garbage(),
    "garbage, then closes": badpeer.garbage(then="close"),
    "announces 2 GiB": badpeer.oversized_length(),
    "negative length": badpeer.oversized_length(-5),
    "half a frame": badpeer.half_frame(),
    "half a frame, then closes": badpeer.half_frame(then="close"),
    "half a frame, then resets": badpeer.half_frame(then="reset"),
    "accepts and closes": hangs_up,
}


@pytest.mark.parametrize("script", list(BAD_BEGINNINGS))
async def test_a_bad_server_alone_ends_in_a_clear_error(script: str) -> None:
    async with open_bad_peer(BAD_BEGINNINGS[script]) as peer:
        with trio.fail_after(10), pytest.raises(ConnectTimeoutError, match=r"within 0\.5 s; last failure: \S"):
            async with open_zookeeper(peer.hosts, connect_timeout=0.5, session_timeout=1.0):
                pytest.fail("the block must not begin")
        assert peer.accepted < 30, "dialled in a hot loop"


@pytest.mark.parametrize("script", list(BAD_BEGINNINGS))
async def test_a_bad_server_does_not_keep_the_client_from_a_good_one(zookeeper: RealZooKeeper, script: str) -> None:
    async with open_bad_peer(BAD_BEGINNINGS[script]) as peer:
        hosts = f"{peer.hosts},{zookeeper.hosts}"
        with trio.fail_after(BOUND):
            async with open_zookeeper(hosts, randomize_hosts=False, session_timeout=1.0) as zk:
                await retried(lambda: root_of_a_short_session(zk))
        assert peer.accepted >= 1


async def root_of_a_short_session(zk: ZooKeeper) -> None:
    """Raises `ConnectionLoss` also where a slow machine has cost the session, with the connection."""
    try:
        assert await zk.exists("/") is not None
    except SessionExpiredError as error:
        raise ConnectionLoss from error


BAD_LATER = {
    "mute": badpeer.mute_after_handshake(),
    "garbage": badpeer.garbage(greeted=True),
    "announces 2 GiB": badpeer.oversized_length(greeted=True),
    "half a frame": badpeer.half_frame(greeted=True),
    "half a frame, then resets": badpeer.half_frame(greeted=True, then="reset"),
    "wrong xid": badpeer.wrong_xid(),
    "unasked reply": badpeer.unasked_reply(),
    "truncated record": badpeer.truncated_record(),
    "closes": badpeer.closes_after(1),
    "resets": badpeer.closes_after(1, then="reset"),
}


@pytest.mark.parametrize("script", list(BAD_LATER))
async def test_a_server_that_turns_bad_fails_its_requests_in_bounded_time(script: str) -> None:
    async with open_bad_peer(BAD_LATER[script], badpeer.polite()) as peer:
        with trio.fail_after(BOUND):
            async with open_zookeeper(peer.hosts, session_timeout=1.0, close_timeout=1.0) as zk:
                outcomes: list[str] = []

                async def call(zk: ZooKeeper = zk, outcomes: list[str] = outcomes) -> None:
                    try:
                        await zk.exists("/a")
                        outcomes.append("answered")
                    except ConnectionLoss:
                        outcomes.append("lost")

                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(call)
                # Either the loss came before the calls, which then waited for the next connection, or it failed them.
                assert len(outcomes) == 3
                for _ in range(3):
                    await retried(lambda zk=zk: zk.exists("/a"))  # type: ignore[misc]
                assert peer.accepted >= 2


async def test_an_unknown_error_code_is_an_error_and_no_crash() -> None:
    async with (
        open_bad_peer(badpeer.unknown_error(-4711)) as peer,
        open_zookeeper(peer.hosts, close_timeout=1.0) as zk,
    ):
        for _ in range(2):
            with trio.fail_after(BOUND), pytest.raises(UnknownServerError) as caught:
                await zk.get("/a")
            assert caught.value.server_code == -4711
        assert peer.accepted == 1


async def test_frames_may_come_byte_by_byte() -> None:
    async with (
        open_bad_peer(badpeer.dribbles()) as peer,
        open_zookeeper(peer.hosts, session_timeout=5.0, close_timeout=2.0) as zk,
    ):
        with trio.fail_after(10):
            assert await zk.exists("/nope") is None


async def test_a_reply_over_the_limit_fails_its_request(zookeeper: RealZooKeeper) -> None:
    async with open_zookeeper(zookeeper.hosts, chroot="/oversized", ensure_chroot=True, max_reply_size=10_000) as zk:
        await zk.create("/big", b"x" * 20_000)
        await zk.create("/e", ephemeral=True)
        with trio.fail_after(10), pytest.raises(ReplyTooLargeError, match="max_reply_size") as caught:
            await zk.get("/big")
        assert caught.value.path == "/big"
        assert await zk.exists("/e") is not None


async def test_leaving_is_bounded_when_the_server_is_gone(own_zookeeper: OwnZooKeeper) -> None:
    server = own_zookeeper()
    began = math.inf
    async with open_zookeeper(server.hosts, close_timeout=0.5) as zk:
        await in_thread(server.pause)
        zk.defer_delete("/whatever")
        began = trio.current_time()
    assert trio.current_time() - began < 5
    server.resume()


async def test_a_body_error_leaves_the_block_unchanged(zookeeper: RealZooKeeper) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with open_zookeeper(zookeeper.hosts):
            raise error
    assert caught.value is error


async def test_cancelled_from_outside_the_session_is_still_closed(zookeeper: RealZooKeeper) -> None:
    async with open_zookeeper(zookeeper.hosts) as other:
        path = ""
        with trio.CancelScope() as scope:
            async with open_zookeeper(zookeeper.hosts) as zk:
                path = await zk.create("/cancelled-", ephemeral=True, sequence=True)
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        await other.sync("/")
        assert await other.exists(path) is None


def error_of(handle: PipelineResult[str]) -> ConnectionLoss | None:
    try:
        handle.result()
    except ConnectionLoss as error:
        return error
    return None


async def test_everything_in_flight_fails_in_order_and_says_what_is_known(zookeeper: RealZooKeeper) -> None:
    async with (
        open_proxy(zookeeper.address) as proxy,
        open_zookeeper(zookeeper.hosts_at(proxy.hosts), chroot="/order", ensure_chroot=True) as zk,
    ):
        for _ in range(5):
            proxy.stall("server")
            async with zk.pipeline() as pipeline:
                handles = [await pipeline.create(f"/{i}-", sequence=True) for i in range(300)]
                proxy.cut()
            errors = [error_of(handle) for handle in handles]
            lost = [i for i, error in enumerate(errors) if error is not None]
            assert lost == list(range(min(lost, default=300), 300)), "an answer after a failure"
            proxy.flow("server")
            await zk.sync("/")
            made = len(await zk.get_children("/"))
            answered = sum(error is None for error in errors)
            unknown = sum(error is not None and error.outcome_unknown for error in errors)
            assert answered <= made <= answered + unknown, "a request that was said not to have happened did happen"
            await zk.delete("/", recursive=True)
            await zk.ensure_path("/")


@pytest.fixture
def read_only_ensemble(own_ensemble: OwnEnsemble) -> RealEnsemble:
    return own_ensemble(3, zoo_cfg={"localSessionsEnabled": "true"}, jvm_properties={"readonlymode.enabled": "true"})


async def test_read_only_servers(read_only_ensemble: RealEnsemble) -> None:
    ensemble = read_only_ensemble
    async with open_zookeeper(ensemble.hosts) as zk:
        await zk.create("/before")
    async with open_zookeeper(ensemble[1].address) as zk:
        await zk.sync("/before")  # the two others may have acknowledged it by themselves
    for sid in (2, 3):
        await in_thread(lambda sid=sid: ensemble.kill(sid))  # type: ignore[misc]
    async with open_zookeeper(ensemble.hosts, read_only=True, connect_timeout=BOUND) as zk:
        with trio.fail_after(2 * BOUND):
            # Server 1 may have gone on serving for a moment.
            while zk.client_state != "CONNECTED_RO":
                await retried(lambda: zk.exists("/"))
            assert await zk.exists("/before") is not None
            with pytest.raises(NotReadOnlyCallError):
                await retried(lambda: zk.create("/during"))
            read_only_session = zk.session_id
            await in_thread(lambda: ensemble.start(2))
            await in_thread(lambda: ensemble.start(3))
            # The client looks for a server with a quorum and moves there by itself, into a session that counts.
            async for _ in zk.states():
                if zk.client_state == "CONNECTED":
                    break
            with pytest.raises(EphemeralOnLocalSessionError):  # the session is local still
                await retried(lambda: zk.create("/ephemeral", ephemeral=True))
            await retried(lambda: zk.create("/after"))
            assert zk.session_id != read_only_session


async def test_reconfig_and_tracking(own_ensemble: OwnEnsemble) -> None:
    ensemble = own_ensemble(3, zoo_cfg={"reconfigEnabled": "true"}, jvm_properties={"zookeeper.skipACL": "yes"})
    async with open_zookeeper(ensemble[1].address, track_ensemble=True) as zk:
        data, stat = await zk.get_config()
        assert data is not None
        assert data.count(b"server.") == 3
        assert stat.version == -1
        newcomer = await trio.to_thread.run_sync(ensemble.add_server)
        await in_thread(newcomer.start)
        changed: bytes | None = None
        with trio.fail_after(BOUND):
            while changed is None:
                try:
                    changed, _ = await zk.reconfig(joining=f"server.{newcomer.sid}={newcomer.specification()}")
                except (ConnectionLoss, NewConfigNoQuorumError, ReconfigInProcessError):
                    await retried(lambda: zk.sync("/"))  # the newcomer is not up to date yet
        assert changed.count(b"server.") == 4
        known: set[str] = set()
        with trio.fail_after(BOUND):
            while len(known) != 4:
                await retried(lambda: zk.exists("/"))
                known = {str(endpoint) for endpoint in zk.hosts}
        assert newcomer.address in known
