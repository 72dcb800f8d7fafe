"""kazoo's cluster for tests, by an ensemble in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConfigurationError
from terzetto.client.kazoo.testing.common import ZookeeperCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[ZookeeperCluster]:
    made = ZookeeperCluster()
    made.start()
    try:
        yield made
    finally:
        made.terminate()


def hosts(cluster: ZookeeperCluster) -> str:
    return ",".join(server.address for server in cluster)


def test_a_cluster_is_its_servers(cluster: ZookeeperCluster) -> None:
    assert cluster.running
    assert [server.address for server in cluster] == [f"127.0.0.1:{server.client_port}" for server in cluster]
    assert len(cluster) == len({server.client_port for server in cluster}) == 3
    with pytest.raises(ConfigurationError, match="TLS"):
        _ = cluster[0].secure_address


def test_it_is_set_up_as_kazoos(cluster: ZookeeperCluster) -> None:
    with KazooClient(hosts(cluster)) as client:
        assert client.add_auth("digest", "super:test")
        assert b"server.1=" in (client.get("/zookeeper/config")[0] or b"")
        assert client.set_acls("/zookeeper/config", client.get_acls("/zookeeper/config")[0])
        assert "zk_version" in client.command(b"mntr")


def test_servers_stop_and_come_back_with_the_data(cluster: ZookeeperCluster) -> None:
    with KazooClient(hosts(cluster)) as client:
        client.create("/kept", b"1")
        cluster[0].stop()
        assert [server.running for server in cluster] == [False, True, True]
        cluster[0].stop()
        client.retry(client.set, "/kept", b"2")
        cluster[0].run()
        cluster[0].run()
        assert cluster[0].running
        cluster[1].stop()
        cluster.start()
        assert client.retry(client.get, "/kept")[0] == b"2"


def test_a_reset_forgets_everything() -> None:
    cluster = ZookeeperCluster(size=1)
    assert not cluster.running
    with pytest.raises(ConfigurationError, match="not started"):
        _ = cluster.ensemble
    cluster.start()
    try:
        with KazooClient(hosts(cluster)) as client:
            client.create("/forgotten")
        server = cluster[0]
        cluster.reset()
        assert not server.running or cluster[0] is not server
        with KazooClient(hosts(cluster)) as client:
            assert client.exists("/forgotten") is None
    finally:
        cluster.stop()
    assert (list(cluster), cluster.running) == ([], False)
