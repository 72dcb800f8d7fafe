"""What goes wrong while clients contend. Every fault takes a while, and is over when it returns.

Decides what happens to whom; mostly to the owner, its server, and the leader. Sessions are ended by nobody but the
leader's own clock.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass

import trio

from tests.recipes.truth import now

from .exclusion_ledger import Ledger
from .stack_ensemble import Machine, Stack
from .stack_processes import Process, pass_time


@dataclass
class Harm:
    """The faults of one run.

    Attributes:
        stack: the servers and the network.
        ledger: who owns, and the trace.
        clients: the clients' processes.
        rng: draws the faults.
        timeout: T, in seconds.
        sleeps: whether stops of clients may be machines that sleep.
    """

    stack: Stack
    ledger: Ledger
    clients: list[Process]
    rng: random.Random
    timeout: float
    sleeps: bool = True

    async def run(self, duration: float, kinds: tuple[str, ...]) -> None:
        """One fault after the other, sometimes two at once."""
        with trio.move_on_after(duration):
            while True:
                await pass_time(self.rng.uniform(0, self.timeout))
                async with trio.open_nursery() as nursery:
                    for _ in range(self.rng.choice((1, 1, 2))):
                        kind = self.rng.choice(kinds)
                        self.ledger.counts[kind] += 1
                        nursery.start_soon(FAULTS[kind], self)
        for process in self.clients:
            process.go_on()
        for sid, machine in self.stack.machines.items():
            machine.process.go_on()
            if machine.is_killed:
                # One that was stopped as it was killed has not come to its end yet.
                await machine.ended.wait()
            if machine.server is None:
                await self.stack.start(sid)

    # Whom it meets ----------------------------------------------------------------------------------------------------

    def client(self) -> Process:
        """A client; mostly one that owns."""
        owners = [body.process for body in self.ledger.inside if not body.process.stopped]
        if owners and self.rng.random() < 0.8:
            return self.rng.choice(owners)
        return self.rng.choice(self.clients)

    def server(self) -> Machine:
        """A server; mostly the one that a client of interest talks to, or the leader."""
        draw = self.rng.random()
        if draw < 0.6 and (name := self.stack.server_of(self.client().name)) is not None:
            return self.stack.machines[int(name[1:])]
        leader = self.stack.leader
        if draw < 0.85 and leader is not None:
            return leader
        return self.rng.choice(list(self.stack.machines.values()))

    def between(self, machine: Machine) -> tuple[str, str]:
        """A server, and the one that it hears from as leader or tells as leader."""
        leader = self.stack.leader
        if leader is not None and leader is not machine:
            return machine.name, leader.name
        return machine.name, self.rng.choice(
            [other.name for other in self.stack.machines.values() if other is not machine]
        )

    def a_while(self, most: float = 2.0) -> float:
        """Seconds; up to so many T."""
        return self.rng.uniform(0, most * self.timeout)

    async def cut_for(self, seconds: float, *links: tuple[str, str]) -> None:
        """Nothing passes on these links, each in the one direction given."""
        self.ledger.note(f"cut {', '.join(f'{a}>{b}' for a, b in links)} for {seconds:.3f}")
        with ExitStack() as stack:
            for source, target in links:
                self.stack.network.cut(source, target)
                stack.callback(self.stack.network.mend, source, target)
            await pass_time(seconds)
        self.ledger.note(f"mend {', '.join(f'{a}>{b}' for a, b in links)}")


def _directions(one: str, other: str, rng: random.Random) -> list[tuple[str, str]]:
    return rng.choice([[(one, other), (other, one)], [(one, other)], [(other, one)]])


async def _cut_client(harm: Harm) -> None:
    """A client and its server."""
    client = harm.client().name
    server = harm.stack.server_of(client)
    if server is not None:
        await harm.cut_for(harm.a_while(), *_directions(client, server, harm.rng))


async def _cut_client_from_all(harm: Harm) -> None:
    client = harm.client().name
    links = [
        link for machine in harm.stack.machines.values() for link in ((client, machine.name), (machine.name, client))
    ]
    await harm.cut_for(harm.a_while(), *links)


async def _cut_follower(harm: Harm) -> None:
    """A follower and its leader; its clients still reach it."""
    await harm.cut_for(harm.a_while(), *_directions(*harm.between(harm.server()), harm.rng))


async def _isolate_server(harm: Harm) -> None:
    """A server and all others, so that it is a leader without followers or the reverse; its clients still reach it."""
    machine = harm.server()
    others = [other.name for other in harm.stack.machines.values() if other is not machine]
    await harm.cut_for(
        harm.a_while(), *[link for name in others for link in ((machine.name, name), (name, machine.name))]
    )


async def _lone_follower(harm: Harm) -> None:
    """The owner's server, for longer than a session lasts, if it does not lead. It goes on answering reads."""
    server, leader = harm.stack.server_of(harm.client().name), harm.stack.leader
    if server is None or leader is None or server == leader.name:
        return
    others = [machine.name for machine in harm.stack.machines.values() if machine.name != server]
    links = [link for name in others for link in ((server, name), (name, server))]
    await harm.cut_for(harm.rng.uniform(1.2, 2.5) * harm.timeout, *links)


async def _island(harm: Harm) -> None:
    """A client and its server, cut off from all others; and they lose sight of each other again and again."""
    client = harm.client().name
    island = (client, harm.stack.server_of(client) or "s1")
    others = [other.name for other in harm.stack.machines.values() if other.name not in island]
    links = [link for here in island for there in others for link in ((here, there), (there, here))]
    async with trio.open_nursery() as nursery:

        async def lose_sight() -> None:
            while True:
                harm.stack.network.break_connections(*island)
                await pass_time(harm.a_while(0.4))

        nursery.start_soon(lose_sight)
        await harm.cut_for(harm.a_while(2.5), *links)
        nursery.cancel_scope.cancel()


async def _flap(harm: Harm) -> None:
    """A link that is cut, whole for a moment, and cut again, in one direction and then perhaps in the other."""
    if harm.rng.random() < 0.3:
        client = harm.client().name
        ends = (client, harm.stack.server_of(client) or "s1")
    else:
        ends = harm.between(harm.server())
    for _ in range(harm.rng.randrange(2, 4)):
        source, target = harm.rng.sample(ends, 2)
        await harm.cut_for(harm.a_while(1.0), (source, target))
        await pass_time(harm.rng.choice((0.0, harm.rng.uniform(0, harm.timeout / 20))))


async def _stall(harm: Harm) -> None:
    """A link on which nothing comes for a while and then all of it, when the way back to the leader has just gone.

    What was asked for in time is answered late, and the leader hears nothing of whoever asked.
    """
    owners = [body.process for body in harm.ledger.inside]
    waiting = [process for process in harm.clients if process not in owners] or harm.clients
    client = harm.rng.choice(waiting).name
    server = harm.stack.server_of(client) or "s1"
    follower, leader = harm.between(harm.stack.machines[int(server[1:])])
    if harm.rng.random() < 0.7:
        await harm.cut_for(harm.rng.uniform(0.4, 0.8) * harm.timeout, (leader, follower))
    else:
        await harm.cut_for(harm.rng.uniform(0.2, 0.6) * harm.timeout, (client, server))
        await pass_time(0.001)  # what has come from the client is passed on
    await harm.cut_for(harm.rng.uniform(0.5, 1.5) * harm.timeout, (follower, leader))


async def _slow(harm: Harm) -> None:
    """A link on which everything takes long, in one direction."""
    client = harm.client().name
    ends = harm.between(harm.server()) if harm.rng.random() < 0.6 else (client, harm.stack.server_of(client) or "s1")
    source, target = harm.rng.sample(ends, 2)
    delay, seconds = harm.rng.uniform(0, harm.timeout * 0.7), harm.a_while()
    harm.ledger.note(f"slow {source}>{target} by {delay:.3f} for {seconds:.3f}")
    try:
        harm.stack.network.slow(source, target, delay)
        await pass_time(seconds)
    finally:
        harm.stack.network.slow(source, target, 0)


async def _break(harm: Harm) -> None:
    """The connections between two hosts."""
    client = harm.client().name
    ends = harm.between(harm.server()) if harm.rng.random() < 0.5 else (client, harm.stack.server_of(client) or "s1")
    harm.ledger.note(f"break {ends[0]}-{ends[1]}")
    harm.stack.network.break_connections(*ends)


async def _kill_server(harm: Harm) -> None:
    machine = harm.server()
    if machine.server is None:
        return
    harm.ledger.note(f"kill {machine.name}{', the leader' if machine.leads else ''}")
    harm.ledger.counts["leaders killed"] += machine.leads
    await harm.stack.kill(machine.sid)
    await pass_time(harm.a_while())
    if harm.stack.machines[machine.sid].server is None:
        harm.ledger.note(f"start {machine.name}")
        await harm.stack.start(machine.sid)


async def _stop_server(harm: Harm) -> None:
    await _stopped(harm, harm.server().process, harm.a_while(1.5))


async def _stop_client(harm: Harm) -> None:
    await _stopped(harm, harm.client(), harm.a_while(3.0))


async def _client_sleeps(harm: Harm) -> None:
    await _stopped(harm, harm.client(), harm.a_while(3.0), slept=harm.sleeps)


async def _stopped(harm: Harm, process: Process, seconds: float, *, slept: bool = False) -> None:
    if process.stopped:
        return
    inside = [body for body in harm.ledger.inside if body.process is process]
    harm.ledger.counts["owners stopped"] += bool(inside)
    harm.ledger.note(f"{'puts' if slept else 'stops'} {process.name}{' to sleep' if slept else ''} for {seconds:.3f}")
    process.stop()
    await pass_time(seconds)
    harm.ledger.note(f"{process.name} goes on")
    harm.ledger.counts["woken as a former owner"] += any(body.over and not body.left for body in inside)
    if now(process.stopped):
        with ExitStack() as stack:
            if harm.rng.random() < 0.6:
                # It is not back on the network at once.
                everybody = [(machine.name, process.name) for machine in harm.stack.machines.values()]
                for source, target in [*everybody, *[(target, source) for source, target in everybody]]:
                    harm.stack.network.cut(source, target)
                    stack.callback(harm.stack.network.mend, source, target)
            process.go_on(slept=slept)
            await pass_time(harm.a_while(0.5))


FAULTS: dict[str, Callable[[Harm], Awaitable[None]]] = {
    "cut client": _cut_client,
    "cut client from all": _cut_client_from_all,
    "cut follower": _cut_follower,
    "isolate server": _isolate_server,
    "lone follower": _lone_follower,
    "island": _island,
    "flap": _flap,
    "stall": _stall,
    "slow": _slow,
    "break": _break,
    "kill server": _kill_server,
    "stop server": _stop_server,
    "stop client": _stop_client,
    "client sleeps": _client_sleeps,
}
"""All kinds of faults, by their names."""
