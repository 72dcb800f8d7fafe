"""How the shell looks for a server: all of them, all addresses of a name, in which order, how long, how often.

And what a server can do to a client that has found it: hang up, say nothing, say nonsense, stop in the middle.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from terzetto.client import (
    Connection,
    ConnectTimeoutError,
    Endpoint,
    KazooState,
    RunClock,
    StreamConnection,
    ZooKeeper,
    open_zookeeper,
)
from terzetto.client.wire import Opcode
from terzetto.client.wire.primitives import LENGTH

from .memory_server import Door, MemoryEnsemble, pass_time, until
from .server_link import Fault, Oversized, every, nth


class Names(MemoryEnsemble):
    """Names have several addresses, or none; some addresses lead to a peer of the test's own.

    Attributes:
        addresses: by name; a name without an entry is its own address.
        resolved: every name that was asked for.
        peers: by address, what is done on the far end of a connection to it.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self.addresses: dict[str, list[str]] = {}
        self.resolved: list[str] = []
        self.peers: dict[str, Callable[[trio.abc.Stream], Any]] = {}
        self._tasks = nursery

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        await trio.lowlevel.checkpoint()
        self.resolved.append(endpoint.host)
        addresses = self.addresses.get(endpoint.host, [endpoint.host])
        if not addresses:
            raise OSError(f"{endpoint.host} is not known")
        if addresses == ["slow"]:
            await trio.sleep_forever()
        return [Endpoint(address, endpoint.port, endpoint.server_name) for address in addresses]

    async def dial(self, endpoint: Endpoint) -> Connection:
        peer = self.peers.get(endpoint.host)
        if peer is None:
            return await super().dial(endpoint)
        self.dials.append((trio.current_time(), endpoint.host))
        near, far = trio.testing.memory_stream_pair()
        self._tasks.start_soon(peer, far)
        return StreamConnection(near, str(endpoint))

    def dialled(self, since: int = 0) -> list[str]:
        return [host for _, host in self.dials[since:]]

    def seeded(self, hosts: str, seed: int = 0, **options: Any) -> AbstractAsyncContextManager[ZooKeeper]:
        return open_zookeeper(hosts, transport=self, clock=RunClock(), rng=random.Random(seed), **options)


@pytest.fixture
def names(nursery: trio.Nursery) -> Names:
    return Names(nursery)


async def lose(names: Names, zk: ZooKeeper) -> None:
    """The connection goes, and the client has noticed."""
    names.cut()
    await until(lambda: not zk.connected)


@contextmanager
def counted_dials(names: Names, most: int) -> Iterator[None]:
    before = len(names.dials)
    yield
    assert len(names.dials) - before <= most


# --- whom


async def test_all_addresses_of_a_name_are_tried_in_their_order(names: Names, autojump_clock: MockClock) -> None:
    names.addresses["zk"] = ["10.0.0.1", "fe80::1", "10.0.0.3"]
    names.doors.update({"10.0.0.1": Door.REFUSES, "fe80::1": Door.REFUSES})
    async with names.seeded("zk:2181") as zk:
        assert names.dialled() == ["10.0.0.1", "fe80::1", "10.0.0.3"]
        assert zk.state == KazooState.CONNECTED


async def test_an_ipv6_address_is_shown_in_brackets(
    names: Names, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    names.doors["::1"] = Door.REFUSES
    with pytest.raises(ConnectTimeoutError, match=r"no server of \[::1\]:2182 gave a session"):
        async with names.seeded("[::1]:2182", connect_timeout=1.0):
            pass
    assert "no session from [::1]:2182: [::1]:2182 refuses" in caplog.text


async def test_names_are_resolved_again_in_every_round(names: Names, autojump_clock: MockClock) -> None:
    """So that a server which comes back with another address is found."""
    names.addresses["zk"] = ["old"]
    async with names.seeded("zk") as zk:
        names.addresses["zk"] = ["new"]
        names.doors["old"] = Door.REFUSES
        await lose(names, zk)
        await zk.exists("/")
        assert names.dialled() == ["old", "new"]
        assert names.resolved == ["zk", "zk"]


@pytest.mark.parametrize("addresses", [[], ["slow"]], ids=["unknown", "slow"])
async def test_a_name_that_cannot_be_resolved_is_passed_over(
    names: Names, autojump_clock: MockClock, addresses: list[str]
) -> None:
    names.addresses["bad"] = addresses
    before = trio.current_time()
    async with names.seeded("bad,good", session_timeout=9.0, randomize_hosts=False) as zk:
        assert zk.connected
        assert trio.current_time() - before == pytest.approx(4.5 if addresses else 0.0)


async def test_every_round_has_each_server_once(names: Names, autojump_clock: MockClock) -> None:
    names.shut(Door.REFUSES)
    with pytest.raises(ConnectTimeoutError):
        async with names.seeded("a,b,c", connect_timeout=3.0):
            pass
    rounds = [names.dialled()[start : start + 3] for start in range(0, len(names.dials) - 2, 3)]
    assert len(rounds) > 3
    assert all(sorted(tried) == ["a", "b", "c"] for tried in rounds)
    assert len({tuple(tried) for tried in rounds}) > 1


async def test_which_server_comes_first_is_left_to_chance(names: Names, autojump_clock: MockClock) -> None:
    firsts: set[str] = set()
    for seed in range(12):
        before = len(names.dials)
        async with names.seeded("a,b,c", seed):
            firsts.add(names.dialled(before)[0])
    assert firsts == {"a", "b", "c"}


# --- how long


async def test_each_server_has_its_share_of_the_session_timeout(names: Names, autojump_clock: MockClock) -> None:
    """Of what is asked for, until a server has granted one; then all servers fit into it once."""
    names.shut(Door.HANGS)
    with pytest.raises(ConnectTimeoutError):
        async with names.seeded("a,b,c", session_timeout=9.0, connect_timeout=8.0):
            pass
    times = [at for at, _ in names.dials]
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([3.0, 3.0])


async def test_so_has_the_answer_to_the_connect_request(names: Names, autojump_clock: MockClock) -> None:
    names.shut(Door.SILENT)
    with pytest.raises(ConnectTimeoutError, match="did not answer the connect request"):
        async with names.seeded("a,b,c", session_timeout=9.0, connect_timeout=8.0):
            pass
    times = [at for at, _ in names.dials]
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([3.0, 3.0], abs=0.1)


# --- how often


async def test_pauses_between_rounds_grow_and_are_left_to_chance(names: Names, autojump_clock: MockClock) -> None:
    names.shut(Door.REFUSES)
    longest: list[float] = []
    for seed in range(20):
        before = len(names.dials)
        with pytest.raises(ConnectTimeoutError):
            async with names.seeded("a", seed, connect_timeout=60.0, session_timeout=100.0):
                pass
        times = [at for at, _ in names.dials[before:]]
        pauses = [later - earlier for earlier, later in pairwise(times)]
        for number, pause in enumerate(pauses):
            assert 0 <= pause <= min(5.0, 0.1 * 2**number)
        longest.append(max(pauses))
    assert 3.0 < max(longest) <= 5.0
    assert len(set(longest)) == 20


async def test_a_server_that_accepts_and_hangs_up_is_not_dialled_in_a_hot_loop(
    names: Names, autojump_clock: MockClock
) -> None:
    async def hang_up(stream: trio.abc.Stream) -> None:
        await stream.aclose()

    async with names.seeded("a", session_timeout=20.0) as zk:
        names.peers["a"] = hang_up
        await lose(names, zk)
        with counted_dials(names, 100):
            await pass_time(60.0)
        assert zk.state == KazooState.SUSPENDED


async def test_one_that_grants_a_session_and_hangs_up_is_not_either(names: Names, autojump_clock: MockClock) -> None:
    """Each connection was established, so each is looked for again soon, but after a pause."""
    async with names.seeded("a", session_timeout=20.0) as zk:
        names.rules.append(every(Opcode.EXISTS, Fault.CUT))
        started = len(names.dials)

        async def ask(zk: ZooKeeper = zk) -> None:
            while True:
                with pytest.raises(Exception, match="connection lost"):
                    await zk.exists("/")

        with trio.move_on_after(30.0):
            await ask()
        # At most every 50 ms on average.
        assert 30 < len(names.dials) - started < 30 / 0.05 * 1.3


async def test_a_session_that_the_servers_do_not_restore_is_not_either(names: Names, autojump_clock: MockClock) -> None:
    async with names.seeded("a", session_timeout=20.0) as zk:
        await zk.exists("/x", watch=print)
        names.rules.append(every(Opcode.SET_WATCHES, Fault.CUT))
        await lose(names, zk)
        with counted_dials(names, 100):
            await pass_time(60.0)
        names.rules.clear()
        await until(lambda: zk.connected)


# --- bad servers


async def say(stream: trio.abc.Stream, data: bytes, *, hang_up: bool) -> None:
    await stream.receive_some(1000)
    await stream.send_all(data)
    if hang_up:
        await stream.aclose()
    else:
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("data", "hang_up"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", True),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", False),
        (LENGTH.pack(-1), False),
        (LENGTH.pack(1 << 30), False),
        (LENGTH.pack(37) + bytes(20), False),
        (LENGTH.pack(37) + bytes(20), True),
        (LENGTH.pack(37) + bytes(37), False),
        (LENGTH.pack(0), False),
        (b"\x00", True),
    ],
    ids=["http", "tls", "negative", "huge", "half", "half and gone", "zeros", "empty", "one byte"],
)
async def test_no_nonsense_in_the_handshake_stops_the_client_or_ends_its_session(
    names: Names, autojump_clock: MockClock, data: bytes, hang_up: bool
) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await say(stream, data, hang_up=hang_up)

    async with names.seeded("good", session_timeout=9.0) as zk:
        session_id, lost = zk.session_id, list[str]()
        zk.add_listener(lost.append)
        names.peers["bad"] = peer
        zk.set_hosts("bad,good", randomize_hosts=False)
        await lose(names, zk)
        before = trio.current_time()
        await zk.exists("/")
        assert names.dialled()[-2:] == ["bad", "good"]
        assert zk.session_id == session_id
        assert lost == [KazooState.SUSPENDED, KazooState.CONNECTED]
        assert trio.current_time() - before <= 4.7


@pytest.mark.parametrize("size", [0, 1, 4, 10, 20, 30])
async def test_an_answer_that_stops_in_the_middle_is_waited_for_no_longer_than_for_silence(
    names: Names, autojump_clock: MockClock, size: int
) -> None:
    async with names.seeded("a", session_timeout=9.0) as zk:
        await zk.create("/a", b"x" * 50)
        names.rules.append(nth(1, Opcode.GET_DATA, Fault.IGNORE))
        before = trio.current_time()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                with pytest.raises(Exception, match="nothing heard from the server"):
                    await zk.get("/a")

            await until(lambda: any(request.opcode == Opcode.GET_DATA for request in names.received))
            names.link.paused = True
            names.link.send((LENGTH.pack(150) + bytes(60))[:size])
        assert trio.current_time() - before == pytest.approx(6.0, abs=0.2)
        assert (await zk.get("/a"))[0] == b"x" * 50


async def test_an_oversized_reply_costs_its_request_and_the_connection(names: Names, autojump_clock: MockClock) -> None:
    async with names.seeded("a", max_reply_size=1000) as zk:
        await zk.create("/a")
        names.rules.append(nth(1, Opcode.GET_DATA, Oversized(1001)))
        with pytest.raises(Exception, match="1001 bytes was announced, the limit is 1000 bytes"):
            await zk.get("/a")
        await zk.get("/a")
        assert len(names.links) == 2


# --- secrets


async def test_no_secret_is_ever_logged_or_shown(
    names: Names, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """At the finest level, with everything that is logged along: losses, refusals, a failing callback, the end."""
    caplog.set_level(logging.DEBUG)
    secrets = [b"hush-one", b"hush-two", b"hush-three"]
    shown: list[str] = []

    def fail(event: object) -> None:
        raise ValueError("a callback's")

    names.refused_credentials = frozenset({b"user:hush-three"})
    async with names.seeded("a,b", auth=[("digest", b"user:hush-one")]) as zk:
        passwd = zk.session_passwd
        await zk.add_auth("digest", b"user:hush-two")
        zk.add_listener(fail)
        await zk.exists("/x", watch=fail)
        names.realm.create("/x")
        names.doors["a"] = Door.REFUSES
        await lose(names, zk)
        await zk.exists("/")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it is looked at
            await zk.add_auth("digest", "user:hush-three")
        shown += [repr(caught.value), str(caught.value), repr(zk), repr(vars(zk))]
        names.refused_credentials = frozenset({b"user:hush-one"})
        await lose(names, zk)
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await zk.exists("/")
        shown += [repr(caught.value), str(caught.value)]
    shown.append(caplog.text)
    assert "connection to" in caplog.text
    for secret in [*secrets, passwd]:
        assert not any(secret.decode("latin-1") in text or repr(secret)[2:-1] in text for text in shown)
