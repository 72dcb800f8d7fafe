"""Microservices: instances that register, clients that discover them, a configuration that is rolled out with care.

An instance of the service "quotes" listens on a free port, registers itself, and shows in its registration which
configuration it works with. A client asks the instances in turn; one that does not answer is left alone for a while,
long before the servers have noticed that it is dead. A change of the configuration goes to one instance after the
other, each time after the one before has said that it works with it; a value that an instance cannot read is taken
back, and has done no harm.

    python microservices.py 127.0.0.1:2181             a client and three instances, of which one is killed
    python microservices.py 127.0.0.1:2181 quotes-4    the instance quotes-4; run some, and kill them
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from terzetto.client import NoNodeError, ZooKeeper, open_zookeeper
from terzetto.recipes import (
    ConfigTreeWatcher,
    Registration,
    ServiceInstance,
    ServiceProvider,
    ServiceRegistry,
)

ROOT = "/example-services"
REGISTRY, CONFIG = f"{ROOT}/registry", f"{ROOT}/config"
DEFAULTS, SERVICE = f"{CONFIG}/defaults", f"{CONFIG}/quotes"
SESSION_TIMEOUT = 3.0
ANSWER_WITHIN = 2.0
"""Seconds after which a client asks somebody else."""


def setting(data: bytes) -> float:
    """All settings are shares. Raises `ValueError` for anything else."""
    value = float(data)
    if not 0 <= value <= 1:
        raise ValueError(f"a share is from 0 to 1, not {value}")
    return value


# An instance ----------------------------------------------------------------------------------------------------------


async def serve(hosts: str, name: str) -> None:
    """One instance, until the process is told to end. A value that it cannot read is logged, and changes nothing."""
    logging.basicConfig(stream=sys.stdout, format=f"{name}: %(message)s")
    async with open_zookeeper(hosts, session_timeout=SESSION_TIMEOUT) as zk:
        # What is said for this instance counts more than what is said for the service, and that more than the defaults.
        layers = [DEFAULTS, SERVICE, f"{CONFIG}/{name}"]
        async with ConfigTreeWatcher(zk, layers, setting) as config:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            me = ServiceInstance("quotes", name, "127.0.0.1", port, payload=dict(config.value))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, partial(answer, name, config), listeners)
                with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    # First out of the registry, then no more answers.
                    async with ServiceRegistry(zk, REGISTRY).register(me) as registration, trio.open_nursery() as inner:
                        inner.start_soon(show_configuration, registration, config)
                        print(f"{name}: port {port}", flush=True)
                        await anext(aiter(signals))
                        inner.cancel_scope.cancel()
                nursery.cancel_scope.cancel()


async def answer(name: str, config: ConfigTreeWatcher[float], stream: trio.SocketStream) -> None:
    """One request: whoever connects gets a quote, by the configuration of this moment."""
    await stream.send_all(json.dumps({"by": name, **config.value}).encode())


async def show_configuration(registration: Registration, config: ConfigTreeWatcher[float]) -> None:
    """Registers again with each configuration that is in force."""
    async for settings in config:
        await registration.update(replace(registration.instance, payload=dict(settings)))


# A client -------------------------------------------------------------------------------------------------------------


def discover(zk: ZooKeeper) -> ServiceProvider:
    """The instances; one error takes an instance out for a while, until it registers again."""
    return ServiceRegistry(zk, REGISTRY).provider("quotes", down_after=1)


async def ask(quotes: ServiceProvider) -> dict[str, Any]:
    """One request to the service, whichever instance answers it."""
    while True:
        instance = await quotes.wait_instance()
        try:
            with trio.fail_after(ANSWER_WITHIN):
                stream = await trio.open_tcp_stream(str(instance.address), instance.port or 0)
                async with stream:
                    reply: dict[str, Any] = json.loads(b"".join([part async for part in stream]))
                    return reply
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, ValueError):
            quotes.note_error(instance)


# Whoever operates it --------------------------------------------------------------------------------------------------


async def put(zk: ZooKeeper, path: str, data: bytes) -> None:
    """Writes a znode, whether it is there or not."""
    try:
        await zk.set(path, data)
    except NoNodeError:
        await zk.create(path, data, makepath=True)


async def roll_out(zk: ZooKeeper, quotes: ServiceProvider, key: str, value: float, within: float = 10.0) -> bool:
    """Brings a setting to one instance after the other, then to the whole service.

    Args:
        zk: the client.
        quotes: shows what each instance works with.
        key: of the setting.
        value: for it.
        within: seconds that an instance has to say that it works with the value.

    Returns:
        False: one did not; then nobody works with it any more.
    """
    data, tried = str(value).encode(), list[str]()
    try:
        for instance in quotes.all_instances():
            tried.append(f"{CONFIG}/{instance.id}/{key}")
            await put(zk, tried[-1], data)
            with trio.move_on_after(within) as patience:
                await adopted(quotes, instance.id, key, value)
            if patience.cancelled_caught:
                return False
        # For all of them, and for those who come later.
        await put(zk, f"{SERVICE}/{key}", data)
        return True
    finally:
        # Also where this is cancelled: nobody stays behind with a value of its own.
        with trio.move_on_after(within, shield=True):
            for path in tried:
                await zk.delete(path, recursive=True)  # which minds no znode that is gone


async def adopted(quotes: ServiceProvider, name: str, key: str, value: float) -> None:
    """Returns once an instance says that it works with the value, or is gone."""
    async for _ in quotes.changes():
        present = {instance.id: instance.metadata for instance in quotes.all_instances()}
        if name not in present or present[name].get(key) == value:
            return


# The program ----------------------------------------------------------------------------------------------------------


async def keep_asking(quotes: ServiceProvider, answered: Counter[str]) -> None:
    """A client that never stops."""
    while True:
        reply = await ask(quotes)
        answered[f"{reply.pop('by')} {reply}"] += 1
        await trio.sleep(0.005)


async def main(hosts: str) -> None:
    """Three instances under load: a roll-out, another one that fails, and a death; no request remains unanswered."""
    async with open_zookeeper(hosts, session_timeout=SESSION_TIMEOUT) as zk, trio.open_nursery() as nursery:
        await put(zk, f"{DEFAULTS}/fee", b"0.5")
        instances: list[trio.Process] = []
        for name in ("quotes-1", "quotes-2", "quotes-3"):
            command = [sys.executable, __file__, hosts, name]
            # run_process sends SIGTERM when it is cancelled.
            start = partial(trio.run_process, command, stdin=subprocess.DEVNULL, check=False)
            instances.append(await nursery.start(start))
        answered = Counter[str]()
        async with discover(zk) as quotes:
            async for present in quotes.changes():
                if len(present) == len(instances):
                    break
            async with trio.open_nursery() as clients:
                clients.start_soon(keep_asking, quotes, answered)
                print("fee = 0.2, one instance after the other:", await roll_out(zk, quotes, "fee", 0.2), flush=True)
                print("fee = 20:", await roll_out(zk, quotes, "fee", 20, within=0.5), flush=True)
                print("quotes-2 is killed", flush=True)
                instances[1].kill()
                async for present in quotes.changes():
                    if len(present) < len(instances):  # noticed by a request; the servers still wait for it
                        break
                await trio.sleep(0.5)
                clients.cancel_scope.cancel()
            for text, count in sorted(answered.items()):
                print(f"{count:6} answers by {text}")
        nursery.cancel_scope.cancel()
    async with open_zookeeper(hosts) as zk:
        await zk.delete(ROOT, recursive=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        trio.run(serve, sys.argv[1], sys.argv[2])
    else:
        trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
