"""What the raw client says to servers that are configured, or broken, for one conversation.

Decides which server each needs. Refuses to repeat what an ordinary server answers: `raw_scenarios` has that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.interop.proxy import open_proxy
from tests.interop.zookeeper import (
    SUPER_AUTH,
    SUPER_DIGEST,
    SUPER_DIGEST_PROPERTY,
    RealEnsemble,
    RealServer,
    RealZooKeeper,
    ServerOptions,
)

from .raw_client import TERMINATOR, Capture, ServerClosed
from .raw_scenarios import OPEN
from .recorder import conversations

# The server's version, and the conversations.
Recorded = tuple[str, list[dict[str, Any]]]
_LOCAL = {"extendedTypesEnabled": "true", "localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "false"}
_READ_ONLY_MODE = {"readonlymode.enabled": "true"}
_NO_WATCHES: dict[str, Any] = {
    "relative_zxid": 0,
    "data_watches": [],
    "exist_watches": [],
    "child_watches": [],
    "persistent_watches": ["/"],
    "persistent_recursive_watches": [],
}
_NODE: dict[str, Any] = {"path": "/x", "data": b"", "acl": OPEN}
_RECONFIG: dict[str, Any] = {"joining_servers": None, "leaving_servers": None, "new_members": None, "cur_config_id": -1}


def _reconfig(**changes: Any) -> dict[str, Any]:
    return {**_RECONFIG, **changes}


_WRITES: dict[str, dict[str, Any]] = {
    "sync": {"path": "/"},
    "create": {**_NODE, "flags": 0},
    "create2": {**_NODE, "flags": 0},
    "createContainer": {**_NODE, "flags": 4},
    "createTTL": {**_NODE, "flags": 5, "ttl": 1000},
    "delete": {"path": "/x", "version": -1},
    "setData": {"path": "/", "data": b"", "version": -1},
    "setACL": {"path": "/", "acl": OPEN, "version": -1},
    "multi": {"operations": [TERMINATOR]},
    "reconfig": _RECONFIG,
}


async def _recorded(server: RealServer, scenario: Callable[[Capture], Awaitable[None]]) -> Recorded:
    async with open_proxy(server.address) as proxy:
        capture = Capture(proxy)
        await scenario(capture)
        return server.version(), conversations(proxy, capture.connections)


async def _alone(options: ServerOptions, scenario: Callable[[Capture], Awaitable[None]]) -> Recorded:
    with RealZooKeeper(options) as server:
        return await _recorded(server, scenario)


async def quota() -> Recorded:
    """QuotaExceeded."""

    async def scenario(capture: Capture) -> None:
        async with capture.session("a hard quota of two nodes") as client:
            limits = b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2"
            stats = b"count=1,bytes=0"
            base = "/zookeeper/quota/full"
            await client.request("create", path="/full", data=b"", acl=OPEN, flags=0)
            await client.request("create", path=base, data=b"", acl=OPEN, flags=0)
            await client.request("create", path=f"{base}/zookeeper_limits", data=limits, acl=OPEN, flags=0)
            await client.request("create", path=f"{base}/zookeeper_stats", data=stats, acl=OPEN, flags=0)
            await client.request("create", path="/full/1", data=b"", acl=OPEN, flags=0)
            header = await client.request("create", "QuotaExceeded", path="/full/2", data=b"", acl=OPEN, flags=0)
            assert header["err"] == -125

    return await _alone(ServerOptions(zoo_cfg={"enforceQuota": "true"}), scenario)


async def unsupported() -> Recorded:
    """Unimplemented: TTL nodes that are switched off, a reconfig of a standalone server."""

    async def scenario(capture: Capture) -> None:
        async with capture.session("a server without TTL nodes and without an ensemble") as client:
            node: dict[str, Any] = {**_NODE, "flags": 5, "ttl": 1000}
            header = await client.request("createTTL", "Unimplemented", **node)
            assert header["err"] == -6
            await client.request("auth", type=0, scheme="digest", auth=SUPER_AUTH.encode())
            joining = _reconfig(joining_servers="server.2=127.0.0.1:1:2:participant;3")
            header = await client.request("reconfig", "Unimplemented", **joining)
            assert header["err"] == -6

    options = ServerOptions(zoo_cfg={"reconfigEnabled": "true"}, jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST})
    return await _alone(options, scenario)


async def authentication_enforced() -> Recorded:
    """SessionClosedRequireSaslAuth."""

    async def scenario(capture: Capture) -> None:
        async with capture.connect("a server that serves nobody unauthenticated") as client:
            await client.handshake()
            header = await client.request("exists", "-124, then the server closes", path="/", watch=False)
            assert header["err"] == -124
            await client.await_close()

    options = ServerOptions(zoo_cfg={"enforce.auth.enabled": "true", "enforce.auth.schemes": "digest"})
    return await _alone(options, scenario)


async def reconfiguration() -> Recorded:
    """reconfig and the configuration node, on an ensemble of three."""
    options = ServerOptions(zoo_cfg={"reconfigEnabled": "true"}, jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST})
    with RealEnsemble(3, options) as ensemble:
        leader = ensemble.leader()
        leaving = ensemble.followers()[0]

        async def scenario(capture: Capture) -> None:
            async with capture.session("reconfig: errors, a member leaves, and comes back") as client:
                gone = _reconfig(leaving_servers=str(leaving.sid))
                assert (await client.request("reconfig", "NoAuth", **gone))["err"] == -102
                await client.request("auth", "the superuser", type=0, scheme="digest", auth=SUPER_AUTH.encode())
                await client.request("getData", "the configuration", path="/zookeeper/config", watch=True)
                stale = _reconfig(leaving_servers=str(leaving.sid), cur_config_id=0x1234)
                assert (await client.request("reconfig", "BadVersion", **stale))["err"] == -103
                broken = _reconfig(joining_servers="server.9=nonsense")
                assert (await client.request("reconfig", "BadArguments", **broken))["err"] == -8
                absent = ",".join(
                    f"server.{sid}=127.0.0.1:{sid}:{sid + 1}:participant;127.0.0.1:{sid + 2}" for sid in (11, 21, 31)
                )
                unreachable = _reconfig(new_members=absent)
                assert (await client.request("reconfig", "NewConfigNoQuorum", **unreachable))["err"] == -13
                await client.request("reconfig", "NodeDataChanged, then the new configuration", **gone)
                back = _reconfig(joining_servers=f"server.{leaving.sid}={leaving.specification()}")
                await client.request("reconfig", "back again", **back)
                await client.request("getData", path="/zookeeper/config", watch=False)

        return await _recorded(leader, scenario)


@contextmanager
def _without_quorum(local_sessions: bool) -> Iterator[RealServer]:
    options = ServerOptions(zoo_cfg=_LOCAL if local_sessions else {}, jvm_properties=_READ_ONLY_MODE)
    with RealEnsemble(3, options) as ensemble:
        left = ensemble.followers()[0]
        for server in ensemble.servers.values():
            if server is not left:
                server.kill()
        # It goes on answering as a follower until it has noticed.
        left.wait_mode("read-only")
        yield left


async def read_only() -> Recorded:
    """A read-only server: what it answers, what it refuses, and how it refuses a session."""

    async def served(capture: Capture) -> None:
        async with capture.connect("a client that accepts read-only") as client:
            await client.handshake("the answer's last byte is 1", read_only=True)
            await client.request("ping")
            await client.request("getData", "reads are served", path="/", watch=True)
            await client.request("setWatches2", "so are watches", **_NO_WATCHES)
            for name, fields in _WRITES.items():
                assert (await client.request(name, "NotReadOnly", **fields))["err"] == -119, name
            await client.close_session()
        async with capture.connect("a client that does not accept read-only") as client:
            with contextlib.suppress(ServerClosed):
                await client.handshake("closed without an answer")

    async def refused(capture: Capture) -> None:
        async with capture.connect("without local sessions: a reply header in place of a ConnectResponse") as client:
            await client.handshake("refused with -119", read_only=True)

    with _without_quorum(local_sessions=True) as server:
        version, first = await _recorded(server, served)
    with _without_quorum(local_sessions=False) as server:
        _, second = await _recorded(server, refused)
    return version, first + second


async def local_session() -> Recorded:
    """EphemeralOnLocalSession."""

    async def scenario(capture: Capture) -> None:
        async with capture.session("a local session that may not become a global one") as client:
            header = await client.request("create", "EphemeralOnLocalSession", path="/e", data=b"", acl=OPEN, flags=1)
            assert header["err"] == -120

    with RealEnsemble(3, ServerOptions(zoo_cfg=_LOCAL)) as ensemble:
        return await _recorded(ensemble.followers()[0], scenario)


SCENARIOS = {
    "quota": quota,
    "unsupported": unsupported,
    "authentication-enforced": authentication_enforced,
    "reconfig": reconfiguration,
    "read-only": read_only,
    "local-session": local_session,
}
