"""Captures the golden frames anew: `python -m tests.vectors.capture [NAME ...]`, without names all of them.

Decides which servers and clients meet and which file each meeting goes to. Nothing that was captured is masked: session
ids, passwords of sessions, zxids, times and ports are those of the run, so every new capture changes every file.

Needs what `tests.interop` needs, and for the clients' files a JDK (javac), cli_mt (Debian's zookeeper-bin) and kazoo.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.interop.proxy import CuttableProxy, open_proxy
from tests.interop.zookeeper import SUPER_DIGEST, SUPER_DIGEST_PROPERTY, RealZooKeeper, ServerOptions

from . import clients, raw_scenarios, raw_special
from .raw_client import Capture
from .recorder import Connection, conversations, write

_HERE = Path(__file__).parent
_RAW = "a raw socket that sends what it is told"
_OPTIONS = ServerOptions(
    zoo_cfg={"extendedTypesEnabled": "true", "reconfigEnabled": "false"},
    jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST},
)


_SASL = """
Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_bob="secret"; };
Client { org.apache.zookeeper.server.auth.DigestLoginModule required username="bob" password="PASSWORD"; };
"""
_JAAS = "java.security.auth.login.config"


async def _raw(name: str, scenario: Callable[[Capture], Awaitable[None]]) -> None:
    with RealZooKeeper(_OPTIONS) as server:
        async with open_proxy(server.address) as proxy:
            capture = Capture(proxy)
            await scenario(capture)
            write(_HERE / f"raw-{name}.json", server.version(), _RAW, conversations(proxy, capture.connections))


async def _special(name: str, scenario: Callable[[], Awaitable[raw_special.Recorded]]) -> None:
    version, recorded = await scenario()
    write(_HERE / f"raw-{name}.json", version, _RAW, recorded)


async def _client(
    name: str,
    client: str,
    parts: Mapping[str, Callable[[CuttableProxy], Awaitable[None]]],
    options: ServerOptions = _OPTIONS,
) -> None:
    recorded: list[dict[str, Any]] = []
    with RealZooKeeper(options) as server:
        version = server.version()
        for what, part in parts.items():
            async with open_proxy(server.address) as proxy:
                await part(proxy)
                await proxy.wait_until(lambda proxy: proxy.live == 0)
                names = {n: Connection(f"{what}, connection {n + 1}") for n in range(proxy.accepted)}
                recorded += conversations(proxy, names)
    write(_HERE / f"{name}.json", version, client, recorded)


async def _java() -> None:
    parts = {
        "every call, and one-shot watches over a reconnect": partial(clients.java, what="oneshot"),
        "persistent watches over a reconnect": partial(clients.java, what="persistent"),
    }
    await _client("java", "Apache's Java client", parts)


def _jaas(path: Path, password: str) -> Path:
    path.write_text(_SASL.replace("PASSWORD", password))
    return path


async def _sasl() -> None:
    with tempfile.TemporaryDirectory() as folder:
        right = _jaas(Path(folder, "right"), "secret")
        wrong = _jaas(Path(folder, "wrong"), "guess")
        options = ServerOptions(
            zoo_cfg={"authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"},
            jvm_properties={_JAAS: right},
        )
        parts = {
            "the right password": partial(clients.java, what="sasl", flags=[f"-D{_JAAS}={right}"]),
            "a wrong password": partial(clients.java, what="sasl-refused", flags=[f"-D{_JAAS}={wrong}"]),
        }
        await _client("java-sasl", "Apache's Java client, with DIGEST-MD5", parts, options)


async def _c() -> None:
    await _client("c", "Apache's C client (cli_mt)", {"commands, and watches over a reconnect": clients.c})


async def _kazoo() -> None:
    await _client("kazoo", clients.kazoo_version(), {"calls, and a reconnect": clients.kazoo_client})


CAPTURES: dict[str, Callable[[], Awaitable[None]]] = {
    **{f"raw-{name}": partial(_raw, name, scenario) for name, scenario in raw_scenarios.SCENARIOS.items()},
    **{f"raw-{name}": partial(_special, name, scenario) for name, scenario in raw_special.SCENARIOS.items()},
    "java": _java,
    "java-sasl": _sasl,
    "c": _c,
    "kazoo": _kazoo,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Captures what was named, one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.vectors.capture", description="Capture the golden frames anew."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(CAPTURES)}; all of them by default"
    )
    chosen = parser.parse_args(arguments).names or list(CAPTURES)
    if unknown := set(chosen).difference(CAPTURES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for name in chosen:
        print(name, flush=True)
        trio.run(CAPTURES[name])


if __name__ == "__main__":
    main()
