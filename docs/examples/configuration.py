"""A service that follows its configuration, through lost connections and lost sessions, and an operator who changes it.

Run it against any ZooKeeper server: python configuration.py 127.0.0.1:2181
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import trio

from terzetto.client import BadVersionError, ConnectionLoss, NoNodeError, ZooKeeper, open_zookeeper

ROOT = "/example-configuration"


async def configurations(zk: ZooKeeper, path: str) -> AsyncGenerator[dict[str, Any], None]:
    """The configuration now, and again after each change. Older ones may be left out, the newest never is.

    Every item of the watch means the same: look again. So nothing needs to be done for a `Resync` in particular.
    """
    async with zk.watch(path) as changes:
        seen = -1
        while True:
            try:
                data, stat = await zk.get(path)
            except NoNodeError:
                seen = -1
            except ConnectionLoss:
                continue  # the next attempt waits for the connection
            else:
                if stat.mzxid != seen:
                    seen = stat.mzxid
                    yield json.loads(data or b"{}")
            await anext(changes)


async def serve(zk: ZooKeeper) -> None:
    """The service: works with each configuration until the next one, and ends when it is told so."""
    async with aclosing(configurations(zk, f"{ROOT}/service")) as following:
        async for configuration in following:
            print("service:", configuration)
            if configuration.get("stop"):
                return


async def change(zk: ZooKeeper, **settings: object) -> None:
    """The operator: adds settings to whatever is there, and overwrites nobody's change."""
    while True:
        data, stat = await zk.get(f"{ROOT}/service")
        changed = {**json.loads(data or b"{}"), **settings}
        try:
            await zk.set(f"{ROOT}/service", json.dumps(changed).encode(), version=stat.version)
        except BadVersionError:
            continue
        return


async def main(hosts: str) -> None:
    """Both, on sessions of their own."""
    async with open_zookeeper(hosts) as service, open_zookeeper(hosts) as operator:
        await operator.create(f"{ROOT}/service", b'{"level": 1}', makepath=True)
        await service.sync(ROOT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, service)
            async with trio.open_nursery() as operators:
                operators.start_soon(lambda: change(operator, level=2))
                operators.start_soon(lambda: change(operator, colour="green"))
            await change(operator, stop=True)
        data, _ = await operator.get(f"{ROOT}/service")
        assert json.loads(data or b"") == {"level": 2, "colour": "green", "stop": True}
        await operator.delete(ROOT, recursive=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
