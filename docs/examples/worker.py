"""A pool of workers: each registers itself with an ephemeral znode, and a dispatcher sees them come and go.

Run it against any ZooKeeper server: python worker.py 127.0.0.1:2181
"""

from __future__ import annotations

import sys

import trio

from terzetto.client import Resync, ZooKeeper, open_zookeeper

POOL = "/example/workers"


async def work(hosts: str, name: str, stop: trio.Event) -> None:
    """One worker, with a session of its own; when it ends, its znode goes."""
    async with open_zookeeper(hosts) as zk:
        await zk.create(f"{POOL}/{name}", b"idle", ephemeral=True)
        await stop.wait()


async def wait_for_pool(zk: ZooKeeper, size: int) -> None:
    """Returns when so many workers are there. The watch stands before the first look, so nothing is missed between."""
    async with zk.watch(POOL) as changes:
        workers = await zk.get_children(POOL)
        if len(workers) == size:
            return
        async for item in changes:
            workers = await zk.get_children(POOL)
            print("resync" if isinstance(item, Resync) else item.type, sorted(workers))
            if len(workers) == size:
                return


async def main(hosts: str) -> None:
    """Starts three workers, sees them arrive, stops them, sees them go."""
    async with open_zookeeper(hosts) as zk, trio.open_nursery() as nursery:
        await zk.ensure_path(POOL)
        stop = trio.Event()
        for name in ("ada", "grace", "edsger"):
            nursery.start_soon(work, hosts, name, stop)
        await wait_for_pool(zk, 3)
        stop.set()
        await wait_for_pool(zk, 0)
        await zk.delete("/example", recursive=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
