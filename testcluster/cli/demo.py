"""`terzetto demo`: the main job of a coordination service, live, on a real ensemble.

Each step does what it says with clients of its own and checks the outcome; nothing is printed that did not happen. The
exit status is 0 only if every step succeeded.
"""

from __future__ import annotations

import json
import signal

import trio
from rich.console import Console
from rich.markup import escape

from terzetto.client import (
    ConfigurationError,
    EventType,
    KazooException,
    WatchedEvent,
    ZooKeeper,
    open_zookeeper,
)
from terzetto.client._scopes import PlainNursery

from ..ensemble import BlockingEnsemble
from .coordination import contend, elect, outlive_the_leader
from .stage import Stage, expect

CONNECT_TIMEOUT = 15.0
"""Bound for the first connection, in seconds."""
PIPELINED = 5000
"""Requests of the pipeline step, each way."""


class Demo(Stage):
    """The steps of a single client and of services; those of several are in `coordination.py`."""

    # The steps ----------------------------------------------------------------------------------------------------

    async def meet(self, zk: ZooKeeper) -> str:
        """Who is there."""
        version = ".".join(map(str, await zk.server_version()))
        config, _ = await zk.get_config()
        members = [line for line in (config or b"").decode().splitlines() if line.startswith("server.")]
        self.say("client", f"session 0x{zk.session_id:x}, timeout {zk.session_timeout:g} s, server {version}")
        for member in members:
            self.say("ensemble", member)
        return f"ZooKeeper {version}, " + (f"{len(members)} servers" if members else "one server")

    async def register(self, zk: ZooKeeper) -> str:
        """Services register, find each other, and are gone when they leave."""
        await zk.ensure_path("/services")
        seen: list[str] = []
        async with zk.watch("/services", recursive=True) as changes, trio.open_nursery() as nursery:
            leave = {name: trio.Event() for name in ("orders", "billing")}
            for port, name in enumerate(leave, 9001):
                nursery.start_soon(self._service, name, port, leave[name])
            async for item in changes:
                if not isinstance(item, WatchedEvent) or item.path == "/services":
                    continue
                name = item.path.rpartition("/")[2].partition("-")[0]
                if item.type == EventType.CREATED:
                    data, _ = await zk.get(item.path)
                    address = json.loads(data or b"{}")
                    self.say("discovery", f"[green]+[/] {name} at {address['host']}:{address['port']}")
                    seen.append(f"+{name}")
                    if seen.count(f"+{name}") == 1 and len(seen) == len(leave):
                        leave["orders"].set()
                elif item.type == EventType.DELETED:
                    self.say("discovery", f"[red]-[/] {name}")
                    seen.append(f"-{name}")
                    break
            leave["billing"].set()
        expect(sorted(seen[:2]) == ["+billing", "+orders"] and seen[2:] == ["-orders"], f"discovery saw {seen}")
        await zk.sync("/services", strict=True)  # the services were connected to servers of their own
        expect(await zk.get_children("/services") == [], "a service that has left is still registered")
        return "two services registered, one seen leaving"

    async def _service(self, name: str, port: int, leave: trio.Event) -> None:
        async with open_zookeeper(self.hosts, chroot=self.chroot) as zk:
            address = json.dumps({"host": "127.0.0.1", "port": port}).encode()
            await zk.create(f"/services/{name}-", address, ephemeral=True, sequence=True)
            await leave.wait()
        # The session is closed with its block, and the registration went with it.

    async def configure(self, zk: ZooKeeper) -> str:
        """A change of configuration reaches a running service."""
        await zk.create("/config", b'{"level": 0}')
        changes = 3
        _, stat = await zk.get("/config")
        async with zk.watch("/config") as stream:
            for level in range(1, changes + 1):
                await zk.set("/config", json.dumps({"level": level}).encode(), version=stat.version)
                expect(isinstance(await anext(stream), WatchedEvent), "no event for a change of the configuration")
                data, stat = await zk.get("/config")
                self.say("service", f"reloaded: {(data or b'').decode()} (version {stat.version})")
        expect(stat.version == changes, f"the configuration has version {stat.version}, not {changes}")
        return f"{changes} compare-and-set updates, each seen"

    async def transact(self, zk: ZooKeeper) -> str:
        """All or nothing."""
        await zk.create("/stock", b"1")
        sold = 0
        for buyer in ("ada", "ben"):
            order = zk.transaction()
            order.check("/stock", 0)
            order.set_data("/stock", b"0")
            order.create(f"/order-{buyer}")
            results = await order.commit()
            won = not any(isinstance(result, Exception) for result in results)
            sold += won
            self.say(buyer, "[green]bought the last one[/]" if won else "sold out, and no order was made")
        expect(sold == 1 and await zk.exists("/order-ben") is None, "a transaction that failed left something behind")
        return "one of two orders went through"

    async def pipeline(self, zk: ZooKeeper) -> str:
        """Many requests from one task."""
        await zk.ensure_path("/bulk")
        began = trio.current_time()
        async with zk.pipeline() as pipeline:
            created = [await pipeline.create(f"/bulk/{i}", b"%d" % i) for i in range(PIPELINED)]
        written = trio.current_time() - began
        async with zk.pipeline() as pipeline:
            read = [await pipeline.get(handle.result()) for handle in created]
        elapsed = trio.current_time() - began
        expect(all(handle.result()[0] == b"%d" % i for i, handle in enumerate(read)), "a read gave another value")
        self.say("writer", f"{PIPELINED} znodes created in {written:.2f} s")
        self.say("reader", f"{PIPELINED} znodes read in {elapsed - written:.2f} s")
        rates = f"{PIPELINED / written:,.0f} creates/s, {PIPELINED / (elapsed - written):,.0f} reads/s"
        return f"{2 * PIPELINED} requests, {rates}"

    async def prove(self, zk: ZooKeeper) -> str:
        """What ownership rests on."""
        with zk.keep_proof() as proof:
            await proof.renew()
            left = proof.remaining()
            self.say("owner", f"the session is proven to live for another {left:.2f} s of its {zk.session_timeout:g} s")
            expect(0 < left <= zk.session_timeout / 2, f"a proof of {left} s")
        return f"a quorum confirmed the session, good for {left:.1f} s"

    async def clean_up(self, zk: ZooKeeper) -> str:
        """Nothing is left behind."""
        for name in await zk.get_children("/"):
            await zk.delete(f"/{name}", recursive=True)
        expect(await zk.get_children("/") == [], "znodes of the demonstration are left")
        return "no znode left"


async def _demonstrate(demo: Demo, ensemble: BlockingEnsemble | None) -> int:
    """Runs all steps below a znode of this run's own; returns the number of the signal that ended it, 0 for none."""
    ended_by = 0
    hosts, root = demo.hosts, ""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with PlainNursery() as nursery:

            async def end_on_signal() -> None:
                nonlocal ended_by
                ended_by = await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_on_signal)
            async with open_zookeeper(hosts, connect_timeout=CONNECT_TIMEOUT) as zk:
                root = await zk.create("/terzetto-demo-", sequence=True)
                demo.hosts, demo.chroot = hosts.removesuffix(zk.chroot), zk.chroot + root
                await _take_steps(demo, zk.with_chroot(root), ensemble)
            nursery.cancel_scope.cancel()
        if root and not (ended_by and ensemble is not None):
            await _remove(demo, hosts, root)
    return ended_by


async def _take_steps(demo: Demo, zk: ZooKeeper, ensemble: BlockingEnsemble | None) -> None:
    await demo.step("connect", lambda: demo.meet(zk))
    await demo.step("register and discover services", lambda: demo.register(zk))
    await demo.step("contend for a lock", lambda: contend(demo, zk))
    await demo.step("elect a leader", lambda: elect(demo, zk))
    await demo.step("change the configuration", lambda: demo.configure(zk))
    await demo.step("sell the last item once", lambda: demo.transact(zk))
    await demo.step("many requests from one task", lambda: demo.pipeline(zk))
    await demo.step("prove that the session lives", lambda: demo.prove(zk))
    if ensemble is not None and len(ensemble.sids) > 1:
        await demo.step("outlive the ensemble's leader", lambda: outlive_the_leader(demo, zk, ensemble))
    await demo.step("clean up", lambda: demo.clean_up(zk))


async def _remove(demo: Demo, hosts: str, root: str) -> None:
    """Takes the run's own znode away, also where it did not come to its last step."""
    with trio.move_on_after(CONNECT_TIMEOUT):
        async with open_zookeeper(hosts, connect_timeout=CONNECT_TIMEOUT) as zk:
            await zk.sync(root)
            if await zk.exists(root) is None:
                demo.results.append(("clean up", False, f"{root} was gone before it was deleted"))
            await zk.delete(root, recursive=True)


def run_demo(hosts: str, ensemble: BlockingEnsemble | None = None) -> int:
    """Runs the demonstration; returns the exit status, 128 and its number after a signal.

    Args:
        hosts: connect string of the servers.
        ensemble: the servers, where they may be killed.

    Raises:
        ConfigurationError: the connect string is wrong.
    """
    console = Console()
    demo = Demo(console, hosts, "")
    console.print(f"[bold]terzetto demo[/] on {escape(hosts)}", highlight=False)
    try:
        ended_by = trio.run(_demonstrate, demo, ensemble)
    except ConfigurationError:
        raise
    except KazooException as error:
        console.print(f"[red]{type(error).__name__}:[/] {escape(str(error))}", highlight=False)
        return 1
    if ended_by:
        console.print(f"ended by {signal.Signals(ended_by).name}", highlight=False)
        return 128 + ended_by
    console.print()
    console.print(demo.summary())
    return 0 if demo.succeeded else 1
