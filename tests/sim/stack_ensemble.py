"""Real servers and real clients in one trio run, on memory streams and virtual time: the whole stack, nothing replaced.

Decides who is where on the network, and which process and clock each of them has. The servers are `ZooKeeperServer`s
with their own storage in memory, the clients are `open_zookeeper`'s; what lies between them is
`memory_network.Network`, and what can be stopped is a `stack_processes.Process`. The same seed is the same run.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from trio.testing import MockClock

from terzetto.client import ZooKeeper, open_zookeeper
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.membership import Member
from terzetto.testcluster.memory_network import Network
from terzetto.testcluster.messages import ServerState
from terzetto.testcluster.server import ZooKeeperServer
from terzetto.testcluster.storage.memory import MemoryStorage

from .stack_processes import Process, Processes

CLIENT_PORT = 2181
EPOCH = 1_700_000_000.0


DRIFT = 0.0099
"""How fast or slow a process's clock may run: two of them differ by less than 2 %, which a proof's margin allows."""


@dataclass
class Machine:
    """One server across its lives."""

    sid: int
    config: ServerConfig
    process: Process
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    server: ZooKeeperServer | None = None
    ended: trio.Event = field(default_factory=trio.Event)
    is_killed: bool = False

    @property
    def name(self) -> str:
        """What it is called in the network."""
        return f"s{self.sid}"

    @property
    def leads(self) -> bool:
        """Whether it believes to lead, and serves."""
        server = self.server
        if server is None or server.role is None or server.gate() is not None or self.process.stopped:
            return False
        return server.role.serving and server.role.state is ServerState.LEADING


class Stack:
    """The servers, the network and what is done to them.

    Args:
        nursery: where the servers run.
        servers: how many vote.
        observers: how many do not.
        rng: draws the clocks and the servers' own chance.
        settings: of every server, over the defaults here.
    """

    def __init__(
        self, nursery: trio.Nursery, servers: int, observers: int, rng: random.Random, settings: dict[str, Any]
    ) -> None:
        self.network = Network()
        self.processes = Processes.of_this_run()
        self.machines: dict[int, Machine] = {}
        self._nursery = nursery
        self._rng = rng
        sids = range(1, servers + observers + 1)
        members = tuple(Member(sid, ((f"s{sid}", 2888, 3888),), sid > servers, f"s{sid}", CLIENT_PORT) for sid in sids)
        for sid in sids:
            options: dict[str, Any] = {"tick_ms": 200, "init_limit": 20, "sync_limit": 8, **settings}
            config = ServerConfig(
                client_port=CLIENT_PORT,
                client_address=f"s{sid}",
                sid=sid,
                members=members,
                observer=sid > servers,
                max_session_ms=60_000,
                max_client_connections=0,
                admin_enabled=False,
                four_letter_words=frozenset({"*"}),
                **options,
            )
            self.machines[sid] = Machine(sid, config, self.process(f"s{sid}"))

    def process(self, name: str) -> Process:
        """A new process, with a clock that is off and goes at a rate of its own."""
        return Process(self.processes, name, self._rng.uniform(0, 1e6), self._rng.uniform(1 - DRIFT, 1 + DRIFT))

    # -- servers

    async def start(self, sid: int) -> None:
        """Starts a server with what its storage has kept."""
        machine = self.machines[sid]
        machine.ended, machine.is_killed = trio.Event(), False
        transport = self.network.transport(machine.name)
        machine.server = ZooKeeperServer(
            machine.config,
            storage=machine.storage,
            transport=transport,
            chance=random.Random(self._rng.getrandbits(64)),
            clock=machine.process.now,
            wall_clock=lambda: EPOCH + machine.process.now(),
        )
        await self._nursery.start(self._live, machine)

    async def _live(self, machine: Machine, task_status: trio.TaskStatus[int]) -> None:
        assert machine.server is not None
        machine.process.enter()
        try:
            await machine.server.run(task_status=task_status)
        finally:
            machine.server = None
            machine.ended.set()

    async def kill(self, sid: int) -> None:
        """Ends a server as SIGKILL does."""
        machine = self.machines[sid]
        if machine.server is not None:
            machine.is_killed = True
            machine.server.kill()
            machine.process.go_on()
            await machine.ended.wait()

    def living(self, sid: int) -> ZooKeeperServer:
        """A server that runs."""
        server = self.machines[sid].server
        assert server is not None, f"server {sid} does not run"
        return server

    @property
    def leader(self) -> Machine | None:
        """Who leads; the newest of several who believe so."""
        leading = [machine for machine in self.machines.values() if machine.leads]
        return max(leading, key=lambda machine: self.living(machine.sid).role.epoch) if leading else None  # type: ignore[union-attr]

    def describe(self) -> str:
        """What everybody is doing."""
        return "; ".join(
            f"{machine.name} {'is down' if machine.server is None else machine.server.state}"
            for machine in self.machines.values()
        )

    async def until(self, condition: Callable[[], bool], within: float = 60.0) -> None:
        """Waits for a condition. Fails with everybody's state when it does not come."""
        assert isinstance(trio.lowlevel.current_clock(), MockClock), "not on the real clock"
        with trio.move_on_after(within):
            while not condition():  # noqa: ASYNC110 - any condition, on virtual time
                await trio.sleep(0.01)
            return
        raise AssertionError(f"not within {within:g} s: {self.describe()}")

    async def wait_serving(self, within: float = 60.0) -> None:
        """Waits until every server serves under one leader."""

        def all_serve() -> bool:
            servers = [machine.server for machine in self.machines.values()]
            roles = [None if server is None else server.role for server in servers]
            return all(role is not None and role.serving for role in roles) and len({r.epoch for r in roles if r}) == 1

        await self.until(all_serve, within)

    # -- clients

    @property
    def hosts(self) -> str:
        """The connect string of all servers."""
        return ",".join(f"{machine.name}:{CLIENT_PORT}" for machine in self.machines.values())

    def server_of(self, client: str) -> str | None:
        """The server that a client has a connection to."""
        pipes = self.network._pipes  # pyright: ignore[reportPrivateUsage]
        return next((pipe.target for pipe in pipes if pipe.source == client and not pipe.ended), None)

    def client(self, name: str, sid: int | None = None, **options: Any) -> AbstractAsyncContextManager[ZooKeeper]:
        """A client on a machine of its own, which is a host of the network under this name.

        Its process is a new one that is never stopped, unless `clock` is a `Process` that the caller is part of.
        """
        hosts = self.hosts if sid is None else f"s{sid}:{CLIENT_PORT}"
        given: dict[str, Any] = {
            "transport": self.network.transport(name),
            "clock": self.process(name),
            "rng": random.Random(self._rng.getrandbits(64)),
            "session_timeout": 4.0,
            "connect_timeout": 120.0,
            **options,
        }
        return open_zookeeper(hosts, **given)

    async def word(self, sid: int, word: bytes) -> str:
        """What a server answers to a four letter word."""
        from terzetto.client._hosts import Endpoint

        connection = await self.network.transport("monitor").dial(Endpoint(f"s{sid}", CLIENT_PORT, ""))
        await connection.send(word)
        answer = b""
        while data := await connection.receive():
            answer += data
        await connection.aclose()
        return answer.decode()


@asynccontextmanager
async def open_stack(
    servers: int = 3, observers: int = 0, *, seed: int = 0, start: bool = True, **settings: Any
) -> AsyncIterator[Stack]:
    """Servers while the block runs; all of them serve when it begins, unless they are not to be started."""
    async with trio.open_nursery() as nursery:
        stack = Stack(nursery, servers, observers, random.Random(seed), settings)
        if start:
            for sid in stack.machines:
                await stack.start(sid)
            await stack.wait_serving()
        yield stack
        for sid in stack.machines:
            await stack.kill(sid)
        nursery.cancel_scope.cancel()
