"""Curator's service discovery, PersistentNode and GroupMember beside ours, on the real and on the embedded server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import trio

from terzetto.client import open_zookeeper
from terzetto.recipes import GroupMember, PersistentNode, PersistentTtlNode, ServiceInstance, ServiceRegistry
from terzetto.testcluster import start_ensemble

from .background import DEADLINE
from .curator import CuratorPeer
from .installation import PeerMissing
from .java_programs import find_curator_classpath, find_javac


class Peer(NamedTuple):
    """A Curator process and its server."""

    curator: CuratorPeer
    hosts: str

    async def ask(self, line: str) -> str:
        """Curator's answer to a command."""
        return await trio.to_thread.run_sync(self.curator.ask, line)


@pytest.fixture(scope="module", params=["real", "embedded"])
def peer(request: pytest.FixtureRequest, zookeeper_installed: None) -> Iterator[Peer]:
    try:
        find_curator_classpath()
        find_javac()
    except PeerMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    if request.param == "real":
        hosts = request.getfixturevalue("zookeeper").hosts
        with CuratorPeer(hosts) as curator:
            yield Peer(curator, hosts)
    else:
        with start_ensemble(servers=1) as ensemble, CuratorPeer(ensemble.hosts) as curator:
            yield Peer(curator, ensemble.hosts)


@pytest.fixture
def path() -> str:
    """Of this test alone."""
    return f"/{uuid.uuid4().hex}"


async def test_curator_finds_our_instances(peer: Peer, path: str) -> None:
    name = f"d{path[1:9]}"
    assert await peer.ask(f"{name} new discovery {path}") == "ok"
    async with open_zookeeper(peer.hosts) as zk:
        instance = ServiceInstance("web", "id-1", "10.0.0.1", 8080, payload="hello")
        async with ServiceRegistry(zk, path).register(instance):
            assert await peer.ask(f"{name} names") == "[web]"
            found = await peer.ask(f"{name} instances web")
            assert "id-1" in found
            assert "10.0.0.1" in found
            assert "8080" in found
            assert "hello" in found
        assert await peer.ask(f"{name} instances web") == "[]"
    assert await peer.ask(f"{name} close") == "ok"


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"plugins": ["com.acme.Foo", "com.acme.Bar"], "in": {"deep": [1, [2]]}},
         "{plugins=[com.acme.Foo, com.acme.Bar], in={deep=[1, [2]]}}"),
        (["a", [1, 2], {"b": ["c"]}], "[a, [1, 2], {b=[c]}]"),
        ({"@class": "java.util.TreeMap", "z": 1, "a": 2}, "{a=2, z=1}"),
    ],
)  # fmt: skip
async def test_curator_reads_our_payloads_as_they_are(peer: Peer, path: str, payload: object, shown: str) -> None:
    name = f"p{uuid.uuid4().hex[:8]}"
    assert await peer.ask(f"{name} new discovery {path}") == "ok"
    async with open_zookeeper(peer.hosts) as zk:
        async with ServiceRegistry(zk, path).register(ServiceInstance("web", "id-1", "h", 80, payload=payload)):
            assert await peer.ask(f"{name} instances web") == f"[id-1@h:80={shown}]"
    assert await peer.ask(f"{name} close") == "ok"


async def test_we_find_curators_instances(peer: Peer, path: str) -> None:
    name = f"d{path[1:9]}"
    assert await peer.ask(f"{name} new discovery {path}") == "ok"
    async with open_zookeeper(peer.hosts) as zk, ServiceRegistry(zk, path).provider("web") as provider:
        assert provider.choose() is None
        assert await peer.ask(f"{name} register web id-2 10.0.0.2 9090 there") == "ok"
        with trio.fail_after(DEADLINE):
            instance = await provider.wait_instance()
            assert (instance.name, instance.id, instance.address) == ("web", "id-2", "10.0.0.2")
            assert (instance.port, instance.payload) == (9090, "there")
            assert await peer.ask(f"{name} update web id-2 10.0.0.3 9090 moved") == "ok"
            async for instances in provider.changes():
                if instances and instances[0].payload == "moved":
                    break
            assert await peer.ask(f"{name} unregister web id-2 10.0.0.3 9090 moved") == "ok"
            async for instances in provider.changes():
                if not instances:
                    break
        assert await ServiceRegistry(zk, path).names() == ["web"]
    assert await peer.ask(f"{name} close") == "ok"


async def test_curator_s_cache_follows_our_registrations(peer: Peer, path: str) -> None:
    name = f"e{path[1:9]}"
    assert await peer.ask(f"{name} new discovery {path}") == "ok"
    async with open_zookeeper(peer.hosts) as zk:
        assert await peer.ask(f"{name} watch web") == "ok"

        async def follows(*instances: str) -> None:
            with trio.fail_after(DEADLINE):
                while await peer.ask(f"{name} watched web") != f"[{', '.join(instances)}]":
                    await zk.sync(path)

        await follows()
        registry = ServiceRegistry(zk, path)
        async with registry.register(ServiceInstance("web", "a", "10.0.0.1", 80, payload="1")) as registration:
            await follows("a@10.0.0.1:80=1")
            async with registry.register(ServiceInstance("web", "b", "10.0.0.2", 80, payload="2")):
                await registration.update(ServiceInstance("web", "a", "10.0.0.1", 80, payload="3"))
                await follows("a@10.0.0.1:80=3", "b@10.0.0.2:80=2")
            # Deleted by somebody, it is registered again.
            await zk.delete(f"{path}/web/a")
            await follows("a@10.0.0.1:80=3")
        await follows()
    assert await peer.ask(f"{name} close") == "ok"


async def test_an_instance_that_both_register_is_the_later_one_s(peer: Peer, path: str) -> None:
    name = f"f{path[1:9]}"
    assert await peer.ask(f"{name} new discovery {path}") == "ok"
    assert await peer.ask(f"{name} register web id-1 10.0.0.1 80 java") == "ok"
    async with open_zookeeper(peer.hosts) as zk:
        async with ServiceRegistry(zk, path).register(ServiceInstance("web", "id-1", "10.0.0.2", 80, payload="python")):
            assert await peer.ask(f"{name} instances web") == "[id-1@10.0.0.2:80=python]"
        assert await peer.ask(f"{name} instances web") == "[]"
    assert await peer.ask(f"{name} close") == "ok"


async def test_one_persistent_node_after_the_other(peer: Peer, path: str) -> None:
    name = f"n{path[1:9]}"
    async with open_zookeeper(peer.hosts) as zk:
        async with PersistentNode(zk, f"{path}/node", b"ours") as node:
            assert (await peer.ask(f"- get {path}/node")).startswith("ours ")
            assert await peer.ask(f"- delete -1 {path}/node") == "ok"
            with trio.fail_after(DEADLINE):
                while await zk.exists(f"{path}/node") is None or not node.is_present:
                    await zk.sync(path)
        assert await peer.ask(f"{name} new node EPHEMERAL {path}/node theirs") == "ok"
        assert await peer.ask(f"{name} await 15000") == "true"
        assert (await zk.get(f"{path}/node"))[0] == b"theirs"
        assert await peer.ask(f"{name} close") == "ok"
        assert await zk.exists(f"{path}/node") is None


async def test_our_persistent_node_after_curator_s(peer: Peer, path: str) -> None:
    name = f"o{path[1:9]}"
    assert await peer.ask(f"{name} new node EPHEMERAL {path}/node theirs") == "ok"
    assert await peer.ask(f"{name} await 15000") == "true"
    async with open_zookeeper(peer.hosts) as zk:
        async with PersistentNode(zk, f"{path}/node", b"ours") as node:
            stat = await zk.exists(f"{path}/node")
            assert stat is not None
            assert stat.ephemeralOwner == zk.session_id, "it takes the place of another session's"
            assert node.is_present
        # Curator makes its own again when ours has gone.
        with trio.fail_after(DEADLINE):
            while (found := await zk.exists(f"{path}/node")) is None:
                await zk.sync(path)
        assert found.ephemeralOwner == peer.curator.session_id
        assert (await zk.get(f"{path}/node"))[0] == b"theirs"
        assert await peer.ask(f"{name} close") == "ok"
        assert await zk.exists(f"{path}/node") is None


async def test_a_node_with_a_time_to_live_is_kept_by_either(peer: Peer, path: str) -> None:
    name = f"t{path[1:9]}"
    async with open_zookeeper(peer.hosts) as zk:
        async with PersistentTtlNode(zk, f"{path}/node", 60.0, b"ours"):
            assert await peer.ask(f"{name} new ttl-node {path}/node 60000 theirs") == "ok"
            assert await peer.ask(f"{name} await 15000") == "true"
        touched = await zk.exists(f"{path}/node/touch")
        assert touched is not None, "it stays when its maker has gone"
        assert await peer.ask(f"{name} close") == "ok"
        assert (await zk.get(f"{path}/node"))[0] in (b"ours", b"theirs")
        async with PersistentTtlNode(zk, f"{path}/node", 60.0, b"again"):
            assert (await zk.get(f"{path}/node"))[0] == b"again"


async def test_a_group_that_curator_has_made(peer: Peer, path: str) -> None:
    name = f"h{path[1:9]}"
    assert await peer.ask(f"{name} new member {path} theirs 1") == "ok"
    async with open_zookeeper(peer.hosts) as zk:
        with trio.fail_after(DEADLINE):
            while await zk.exists(f"{path}/theirs") is None:
                await zk.sync(path)
        async with GroupMember(zk, path, "ours", b"2") as group:
            assert group.members() == {"ours": b"2", "theirs": b"1"}
            assert await peer.ask(f"{name} set 3") == "ok"
            with trio.fail_after(DEADLINE):
                async for members in group.changes():
                    if members == {"ours": b"2", "theirs": b"3"}:
                        break
        with trio.fail_after(DEADLINE):
            while "ours" in await peer.ask(f"{name} members"):
                await zk.sync(path)
    assert await peer.ask(f"{name} close") == "ok"


async def test_one_group(peer: Peer, path: str) -> None:
    name = f"g{path[1:9]}"
    async with open_zookeeper(peer.hosts) as zk:
        async with GroupMember(zk, path, "ours", b"1") as group:
            assert await peer.ask(f"{name} new member {path} theirs 2") == "ok"
            with trio.fail_after(DEADLINE):
                async for members in group.changes():
                    if members == {"ours": b"1", "theirs": b"2"}:
                        break
                while "ours" not in (found := await peer.ask(f"{name} members")):
                    await zk.sync(path)
            assert "theirs" in found
            assert await peer.ask(f"{name} close") == "ok"
            with trio.fail_after(DEADLINE):
                async for members in group.changes():
                    if members == {"ours": b"1"}:
                        break
