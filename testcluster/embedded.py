"""The servers of an ensemble in one event loop, and what can be done to them.

Decides how long each control may take, and what is said when it cannot be done: what was not reached, and the state of
every server. Faults between servers are made in the network that connects them (`memory_network.py`). Refuses to know
threads: `ensemble.py` lets this run in one of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass

import trio

from terzetto.client._scopes import PlainNursery
from terzetto.client.errors import KazooException

from .config import ServerConfig
from .journal import open_storage
from .memory_network import Network
from .messages import ServerState
from .reserved_port import ReservedPort
from .server import ZooKeeperServer
from .storage.interface import Storage
from .storage.memory import MemoryStorage

_log = logging.getLogger(__name__)

START_TIMEOUT = 10.0
"""Seconds for a server to start, and the default of every wait."""

STOP_TIMEOUT = 15.0
"""Seconds for the whole ensemble to stop; a server that was told to has half of them."""


class EnsembleError(KazooException):
    """The ensemble or one of its servers could not do what was asked; names the servers' states, and has the cause."""


def host_name(sid: int) -> str:
    """What a server is called in the network inside the process."""
    return f"in-process-{sid}"


class Member:
    """One server across its lives: its port and its storage stay, the server is made anew.

    Args:
        sid: its id.
        config: its configuration.
        secret: the ensemble's session passwords are made with it.
        port: its client port.
        network: where the other servers are.
        clock: what all of them go by.
        on_change: called when it begins or ends to serve, or becomes something else.

    Attributes:
        server: the server of this life, None while there is none.
        lives: whether a life has begun that has not ended; from before there is a server.
        ended: set when this life has ended.
        failure: what ended the last life by itself.
    """

    def __init__(
        self,
        sid: int,
        config: ServerConfig,
        secret: bytes,
        port: ReservedPort,
        network: Network,
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self.sid = sid
        self.config = config
        self.memory = MemoryStorage() if config.data_dir is None else None
        self.port = port
        self.server: ZooKeeperServer | None = None
        self.lives = False
        self.ended = trio.Event()
        self.failure: BaseException | None = None
        self.end = "was not started"
        self._secret = secret
        self._network = network
        self._clock = clock
        self._on_change = on_change

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One life. A failure is kept for those who ask, and does not touch the other servers."""
        self.lives = True
        self.ended, self.failure = trio.Event(), None
        self.end = "has stopped"
        server: ZooKeeperServer | None = None
        is_told = False
        try:
            storage: Storage = self.memory or open_storage(self.config)
            server = self.server = ZooKeeperServer(
                self.config,
                storage=storage,
                peers=self._network.transport(host_name(self.sid)),
                secret=self._secret,
                clock=self._clock,
                on_change=self._on_change,
            )
            async with PlainNursery() as nursery:
                await nursery.start(server.run)
                is_told = True
                task_status.started()
        except (KazooException, OSError) as error:
            # Anything else is a bug, which ends the whole ensemble and reaches whoever asks next.
            self.failure = error
            self.end = f"failed: {error}"
            if server is not None and server.has_served:
                _log.error("server %d failed", self.sid, exc_info=error)
            if not is_told:
                task_status.started()
        finally:
            self.server = None
            self.lives = False
            self.ended.set()
            self._on_change()

    @property
    def is_serving(self) -> bool:
        """Whether its clients are served; those of a paused server are not."""
        # Also asked by other threads, between any two of whose steps the server may be gone.
        server = self.server
        return server is not None and server.is_serving and server.gate() is None

    @property
    def leads(self) -> bool:
        """Whether it orders writes: as a leader with a quorum, or alone."""
        server = self.server
        if server is None or not self.is_serving:
            return False
        role = server.role
        return role is None or role.state is ServerState.LEADING

    def describe(self) -> str:
        """Its state in words."""
        server = self.server
        if server is None:
            return f"server {self.sid} {self.end}"
        paused = ", paused" if server.gate() is not None else ""
        return f"server {self.sid} {server.state}, zxid 0x{server.tree.last_zxid:x}{paused}"


@dataclass(frozen=True)
class Cut:
    """Links that are cut, and servers that no client reaches."""

    links: tuple[tuple[str, str], ...]
    isolated: tuple[ZooKeeperServer, ...]


class Embedded:
    """An ensemble in its event loop. Every method raises `EnsembleError` when it cannot do what it says in time.

    Args:
        sids: what there is.

    Attributes:
        members: by sid.
        network: connects them.
    """

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.network = Network()
        self.nursery: trio.Nursery
        self._changed: trio.Event | None = None

    def changed(self) -> None:
        """A server has become something else."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def describe(self) -> str:
        """The state of every server in words."""
        return "; ".join(member.describe() for member in self.members.values())

    async def _wait(self, condition: Callable[[], bool], within: float, goal: str) -> None:
        with trio.move_on_after(within):
            while not condition():
                if self._changed is None:
                    self._changed = trio.Event()
                await self._changed.wait()
            return
        raise EnsembleError(f"{goal} after {within:g} s: {self.describe()}")

    async def _bounded(self, wait: Callable[[], Awaitable[object]], within: float, goal: str) -> None:
        with trio.move_on_after(within):
            await wait()
            return
        raise EnsembleError(f"{goal} within {within:g} s: {self.describe()}")

    # -- who there is

    def member(self, sid: int) -> Member:
        """A member by its id."""
        if sid not in self.members:
            raise EnsembleError(f"there is no server {sid}; the servers are {', '.join(map(str, self.members))}")
        return self.members[sid]

    def living(self, sid: int) -> ZooKeeperServer:
        """A running server by its id."""
        member = self.member(sid)
        if member.server is None:
            raise EnsembleError(f"server {sid} is not running: it {member.end}") from member.failure
        return member.server

    @property
    def leader(self) -> int | None:
        """The id of the server that orders writes; for any thread."""
        # A leader that is cut off may not know yet that there is a newer one.
        leading = [member for member in self.members.values() if member.leads]
        return max(leading, key=_epoch).sid if leading else None

    # -- life and death

    async def start_all(self) -> None:
        """Starts every server at once; returns when a quorum serves and every server with it."""
        async with PlainNursery() as nursery:
            for sid in self.members:
                nursery.start_soon(self._start, sid)
        await self.wait_serving(START_TIMEOUT)

    async def start(self, sid: int) -> None:
        """Starts a server; returns when it listens for clients, which it serves once it has a quorum."""
        await self._start(sid)

    async def _start(self, sid: int) -> None:
        member = self.member(sid)
        if member.lives:
            raise EnsembleError(f"server {sid} is running already")
        # At once: who asks again before it has begun must not get a second life on the same data.
        member.lives = True
        await self._bounded(lambda: self.nursery.start(member.run), START_TIMEOUT, f"server {sid} does not start")
        if member.failure is not None:
            raise EnsembleError(f"server {sid} does not start: {member.failure}") from member.failure
        if member.server is None or member.server.has_ended:
            raise EnsembleError(f"server {sid} does not start: it {member.end} meanwhile")

    async def kill(self, sid: int) -> None:
        """Ends a server as SIGKILL does."""
        server, member = self.living(sid), self.member(sid)
        server.kill()
        await self._bounded(member.ended.wait, STOP_TIMEOUT, f"server {sid} cannot be killed")
        member.end = "was killed"

    async def stop(self, sid: int) -> None:
        """Ends a server as SIGTERM does."""
        server, member = self.living(sid), self.member(sid)
        server.stop()
        await self._bounded(member.ended.wait, STOP_TIMEOUT, f"server {sid} does not stop")
        if member.failure is None:
            member.end = "was stopped"

    async def stop_all(self) -> list[Member]:
        """Stops what runs, by force what does not stop; returns those that had failed."""
        running = [member for member in self.members.values() if member.server is not None]
        with trio.move_on_after(STOP_TIMEOUT / 2):
            for member in running:
                if member.server is not None:
                    member.server.stop()
            for member in running:
                await member.ended.wait()
        return [member for member in self.members.values() if member.failure is not None]

    async def pause(self, sid: int) -> None:
        """Stops a server's clockwork as SIGSTOP does."""
        self.living(sid).pause()
        self.changed()

    async def resume(self, sid: int) -> None:
        """Lets a paused server go on."""
        self.living(sid).resume()
        self.changed()

    async def heal(self, within: float) -> None:
        """Starts what is down, resumes what is paused, and waits until every server serves."""
        for sid, member in self.members.items():
            if not member.lives:
                await self._start(sid)
            elif member.server is not None:
                member.server.resume()
        self.changed()
        await self.wait_serving(within)

    # -- waiting

    def _running(self) -> list[Member]:
        return [m for m in self.members.values() if (m.server is not None and m.server.gate() is None) or m.failure]

    async def wait_serving(self, within: float) -> None:
        """Waits until every server that was not killed, stopped or paused serves."""

        def all_serve() -> bool:
            running = self._running()
            for member in running:
                if member.failure is not None:
                    raise EnsembleError(f"server {member.sid} failed: {member.failure}") from member.failure
            return bool(running) and all(member.is_serving for member in running)

        await self._wait(all_serve, within, "not every server serves")

    async def wait_leader(self, within: float) -> int:
        """Waits until a server leads and serves; its id."""
        await self._wait(lambda: self.leader is not None, within, "no server leads")
        leader = self.leader
        assert leader is not None
        return leader

    async def wait_quorum(self, within: float) -> int:
        """Waits until a server leads, and a quorum of voters serves in its epoch; the leader's id."""
        await self._wait(self._has_quorum, within, "there is no quorum that serves")
        leader = self.leader
        assert leader is not None
        return leader

    def _has_quorum(self) -> bool:
        leader = self.leader
        if leader is None:
            return False
        epoch = _epoch(self.members[leader])
        voters = [member for member in self.members.values() if not member.config.observer]
        return 2 * sum(member.is_serving and _epoch(member) == epoch for member in voters) > len(voters)

    # -- faults between servers

    def _group(self, sids: Iterable[int]) -> list[str]:
        return [host_name(self.member(sid).sid) for sid in sids]

    def _pairs(self, one: Collection[int], other: Collection[int]) -> list[tuple[str, str]]:
        if not one or not other or set(one) & set(other):
            raise EnsembleError(f"two groups of servers are needed that share none, not {one} and {other}")
        return [(a, b) for a in self._group(one) for b in self._group(other)]

    async def cut(self, one: Collection[int], other: Collection[int], one_way: bool, servers_only: bool) -> Cut:
        """Cuts the links between two groups, and the first off from all clients unless `servers_only`."""
        pairs = self._pairs(one, other)
        links = tuple(pairs if one_way else [*pairs, *((b, a) for a, b in pairs)])
        isolated = () if servers_only else tuple(self.living(sid) for sid in one)
        for link in links:
            self.network.cut(*link)
        for server in isolated:
            server.isolate()
        return Cut(links, isolated)

    async def mend(self, cut: Cut) -> None:
        """Takes back one `cut`."""
        for link in cut.links:
            self.network.mend(*link)
        for server in cut.isolated:
            server.rejoin()

    async def slow(self, delay: float, one: Collection[int], other: Collection[int]) -> None:
        """Makes everything between two groups arrive `delay` seconds later; 0 takes it back."""
        for a, b in self._pairs(one, other):
            self.network.slow(a, b, delay)
            self.network.slow(b, a, delay)

    async def break_links(self, one: Collection[int], other: Collection[int]) -> int:
        """Resets all connections between two groups, with what is under way; how many there were."""
        return sum(self.network.break_connections(a, b) for a, b in self._pairs(one, other))

    # -- what is done to clients

    async def expire_session(self, session_id: int, within: float) -> None:
        """Ends a session as if its client had been silent for too long; returns when the leader has closed it."""
        server = self.living(await self.wait_leader(within))
        if not server.expire_session(session_id):
            raise EnsembleError(f"there is no session 0x{session_id & (1 << 64) - 1:x}")
        with trio.move_on_after(within):
            while session_id in server.tree.sessions and server.is_serving:  # noqa: ASYNC110 - trees tell nobody
                await trio.sleep(0.002)
        if session_id in server.tree.sessions:
            raise EnsembleError(
                f"session 0x{session_id & (1 << 64) - 1:x} is not closed after {within:g} s: {self.describe()}"
            )

    async def drop_connections(self, sid: int | None) -> int:
        """Cuts clients off, of one server or of all."""
        chosen = [self.living(sid)] if sid is not None else [m.server for m in self.members.values() if m.server]
        return sum(server.drop_connections() for server in chosen)


def _epoch(member: Member) -> int:
    server = member.server
    role = None if server is None else server.role
    return 0 if role is None else role.epoch
