"""The other clients that real programs use, led through their calls once: Java's, C's and kazoo.

Decides the calls of kazoo and of C's command line; `VectorClient.java` those of Java. Refuses to touch what they send.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import kazoo
import kazoo.client
import kazoo.exceptions
import kazoo.security
import kazoo.version
import trio

from tests.interop.installation import find_classpath, find_java
from tests.interop.proxy import CuttableProxy

_JAVA_PROGRAM = Path(__file__).parents[1] / "interop" / "java" / "VectorClient.java"
_CLI = "/usr/lib/zookeeper/bin/cli_mt"
_DEADLINE = 60.0


async def java(proxy: CuttableProxy, what: str, flags: Sequence[str] = ()) -> None:
    """Runs a part of VectorClient.java and cuts its connection where it asks for that."""
    command = [find_java(), *flags, "-cp", find_classpath(), str(_JAVA_PROGRAM), proxy.hosts, what]
    with trio.fail_after(_DEADLINE), tempfile.TemporaryFile() as log:
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=log)
        try:
            assert process.stdout is not None
            async for output in process.stdout:
                for _ in range(output.count(b"cut\n")):
                    proxy.cut()
            status = await process.wait()
        finally:
            process.kill()
        if status != 0:
            log.seek(0)
            raise AssertionError(f"VectorClient {what} ended with {status}\n{log.read().decode(errors='replace')}")


def _answered(proxy: CuttableProxy, more_than: int) -> bool:
    return proxy.count("server") > more_than


async def c(proxy: CuttableProxy) -> None:
    """Types into C's command line; each command after the first waits for the answer of the one before."""
    commands = [
        "addauth digest user:secret",
        "create /c",
        "create +e /c-ephemeral",
        "create2 +s /c-sequential-",
        "create2 +c /c-container",
        "create2 +t=3600000 /c-ttl",
        "set /c data",
        "get /c",
        "ls /",
        "ls2 /c",
        "exists /c",
        "exists /c-missing",
        "sync /c",
        "config",
        "reconfig -remove 3 -version 0",
        "wexists /c",
        "wexists /c-missing",
        "set /c changed",
        "wexists /c",
    ]
    with trio.fail_after(_DEADLINE):
        process = await trio.lowlevel.open_process(
            [_CLI, "-h", proxy.hosts],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.stdin is not None
            await proxy.wait_until(lambda proxy: proxy.count("server") > 0)
            for command in commands:
                answered = proxy.count("server")
                await process.stdin.send_all(f"{command}\n".encode())
                await proxy.wait_until(partial(_answered, more_than=answered))
            proxy.cut()
            restored = (101).to_bytes(4, "big")
            await proxy.wait_until(lambda proxy: any(frame.body[4:8] == restored for frame in proxy.frames))
            answered = proxy.count("server")
            await process.stdin.send_all(b"delete /c\n")
            # The restored watch's notification, and the answer.
            await proxy.wait_until(partial(_answered, more_than=answered + 1))
            await process.stdin.send_all(b"quit\n")
            await process.wait()
        finally:
            process.kill()


def _ignore(event: object) -> None:
    pass


def _kazoo_calls(hosts: str, cut: Callable[[], None]) -> None:
    client = kazoo.client.KazooClient(hosts, timeout=10.0, auth_data=[("digest", "user:secret")], randomize_hosts=False)
    client.start(timeout=30)
    try:
        client.create("/kazoo", b"data")
        client.create("/kazoo/e-", b"", ephemeral=True, sequence=True)
        client.create("/kazoo/stat", b"", include_data=True)
        client.create("/kazoo/own", b"", acl=[kazoo.security.make_acl("auth", "", all=True)])
        client.ensure_path("/kazoo/a/b")
        client.exists("/kazoo")
        client.get("/kazoo")
        client.get_children("/kazoo")
        client.get_children("/kazoo", include_data=True)
        client.get_acls("/kazoo/own")
        client.set_acls("/kazoo/own", kazoo.security.OPEN_ACL_UNSAFE)
        client.set("/kazoo", b"new", version=0)
        client.sync("/kazoo")
        client.add_auth("digest", "other:secret")
        transaction = client.transaction()
        transaction.check("/kazoo", version=1)
        transaction.create("/kazoo/t", b"t")
        transaction.set_data("/kazoo", b"t")
        transaction.delete("/kazoo/t")
        transaction.commit()
        try:
            client.reconfig(joining=None, leaving="3", new_members=None)
        except kazoo.exceptions.ReconfigDisabledError:
            pass
        client.exists("/kazoo/later", watch=_ignore)
        client.get("/kazoo", watch=_ignore)
        cut()
        created = threading.Event()

        def see(event: object) -> None:
            created.set()

        client.retry(client.exists, "/kazoo/later", watch=see)
        client.retry(client.create, "/kazoo/later", b"")
        assert created.wait(30)
        client.delete("/kazoo/later")
    finally:
        client.stop()
        client.close()


async def kazoo_client(proxy: CuttableProxy) -> None:
    """Calls kazoo's methods, and cuts its connection once."""
    await trio.to_thread.run_sync(_kazoo_calls, proxy.hosts, lambda: trio.from_thread.run_sync(proxy.cut))


def kazoo_version() -> str:
    """As in "kazoo 2.11.0"."""
    return f"kazoo {kazoo.version.__version__}"
