"""kazoo's cluster for tests, by an ensemble in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConfigurationError, NotReadOnlyCallError
from terzetto.client.kazoo.security import make_acl
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


def test_a_server_without_quorum_reads_for_who_allows_it(cluster: ZookeeperCluster) -> None:
    for server in (cluster[1], cluster[2]):
        server.stop()
    try:
        with KazooClient(hosts(cluster), read_only=True) as client:
            assert client.client_state == "CONNECTED_RO"
            assert "zookeeper" in client.get_children("/")
            with pytest.raises(NotReadOnlyCallError):
                client.create("/written")
    finally:
        cluster.start()


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


def test_a_cluster_takes_kazoos_arguments() -> None:
    cluster = ZookeeperCluster(
        install_path="/usr/share/java",
        classpath=None,
        size=3,
        port_offset=30000,
        observer_start_id=3,
        configuration_entries=["4lw.commands.whitelist=ruok, srvr"],
        java_system_properties=["-Dzookeeper.readonlymode.enabled=true", "-Dsun.security.krb5.debug=true"],
        jaas_config='Server { DigestLoginModule required\n    user_me="secret";\n};',
    )
    cluster.start()
    try:
        with KazooClient(hosts(cluster)) as client:
            assert client.command(b"ruok") == "imok"
            assert "not in the whitelist" in client.command(b"mntr")
        sasl = {"mechanism": "DIGEST-MD5", "username": "me", "password": "secret"}
        with KazooClient(hosts(cluster), sasl_options=sasl) as client:
            client.create("/mine", acl=[make_acl("sasl", "me", all=True)])
            assert client.get("/mine")[0] == b""
        with KazooClient(cluster[2].address, randomize_hosts=False) as client:
            assert "Mode: observer" in client.command(b"srvr")
        assert [server.classpath for server in cluster] == ["", "", ""]
        with pytest.raises(ConfigurationError, match="TLS"):
            _ = cluster[0].secure_client_port
    finally:
        cluster.terminate()
    with pytest.raises(ConfigurationError, match="DIGEST-MD5"):
        ZookeeperCluster(jaas_config="Server { Krb5LoginModule required; };")


def test_servers_are_reset_and_their_log_is_kept(cluster: ZookeeperCluster) -> None:
    log = logging.getLogger("terzetto.testcluster.something")
    for number in range(120):
        log.warning("line %d", number)
    # A server may say something of its own meanwhile.
    own = [line for line in cluster.get_logs() if line.startswith("line ")]
    assert own[-2:] == ["line 118\n", "line 119\n"]
    assert len(cluster.get_logs()) == 100
    assert len(cluster[1].get_logs(num_lines=2)) == 2
    with KazooClient(hosts(cluster)) as client:
        client.ensure_path("/kept/there")
        cluster[0].reset()
        assert cluster[0].running
        cluster[1].destroy()
        assert not cluster[1].running
        assert client.retry(client.exists, "/kept/there")
    cluster.start()
