"""Curator's service discovery, PersistentNode and GroupMember beside ours, on the real and on the embedded server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import trio

from terzetto.client import open_zookeeper
from terzetto.recipes import GroupMember, PersistentNode, ServiceInstance, ServiceRegistry
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
