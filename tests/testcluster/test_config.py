"""The configuration: defaults as ZooKeeper's, every mistake with its file and line, the same from zoo.cfg and YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from terzetto.client.errors import ConfigurationError
from terzetto.testcluster.config import KEYS, ServerConfig, load_config
from terzetto.testcluster.config_auth import AuthReading
from terzetto.testcluster.membership import parse_member

MINIMAL = "dataDir=/var/lib/zookeeper\nclientPort=2181\n"


def write(folder: Path, text: str, name: str = "zoo.cfg") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_config(write(folder, text))
    return str(caught.value).replace(str(folder), "").splitlines()


def test_defaults_are_zookeepers(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.tick_ms == 3000
    assert (config.min_session_ms, config.max_session_ms) == (6000, 60000)
    assert config.data_log_dir == config.data_dir == Path("/var/lib/zookeeper")
    assert config.max_client_connections == 60
    assert config.global_outstanding_limit == 1000
    assert config.snap_count == 100_000
    assert config.max_frame == 0xFFFFF
    assert config.four_letter_words == {"srvr"}
    assert config.admin_enabled
    assert config.admin_port == 8080
    assert config.is_standalone
    assert config.notices == ()


def test_everything_is_read(tmp_path: Path) -> None:
    config = load_config(
        write(
            tmp_path,
            MINIMAL
            + "tickTime=2000\nminSessionTimeout=100\nmaxSessionTimeout=5000\nmaxClientCnxns=0\nmaxCnxns=9\n"
            + "dataLogDir=/log\nsnapCount=10\nautopurge.purgeInterval=1\nautopurge.snapRetainCount=1\nforceSync=no\n"
            + "4lw.commands.whitelist=ruok, mntr ,*\nextendedTypesEnabled=TRUE\nskipACL=yes\n"
            + "secureClientPort=2281\nssl.keyStore.location=/k.pem\nssl.trustStore.location=/t.pem\n"
            + "ssl.clientAuth=want\n"
            + "admin.serverPort=9090\nadmin.commandURL=/cmd\nclientPortAddress=127.0.0.1\njute.maxbuffer=4096\n"
            + "db.autocreate=false\nsnapshot.compression.method=gz\nsnapshot.trust.empty=true\n"
            + "sessionSecretFile=/secret\nDigestAuthenticationProvider.superDigest=super:x=\n",
        )
    )
    assert (config.tick_ms, config.min_session_ms, config.max_session_ms) == (2000, 100, 5000)
    assert (config.max_client_connections, config.max_connections) == (0, 9)
    assert config.data_log_dir == Path("/log")
    # Fewer than three snapshots are never kept.
    assert (config.snap_count, config.purge_hours, config.purge_retain) == (10, 1, 3)
    assert not config.force_sync
    assert not config.trust_empty_database
    assert (config.trust_empty_snapshot, config.snapshot_compression) == (True, "gz")
    assert config.extended_types
    assert config.skip_acl
    assert config.four_letter_words == {"ruok", "mntr", "*"}
    assert config.tls.key_store == Path("/k.pem")
    assert config.tls.client_auth == "want"
    assert (config.admin_port, config.admin_url, config.client_address) == (9090, "/cmd", "127.0.0.1")
    assert config.max_frame == 4096
    assert config.session_secret_file == Path("/secret")
    assert config.super_digest == "super:x="


PROVIDERS = (
    "X509AuthenticationProvider, DigestAuthenticationProvider, IPAuthenticationProvider, SASLAuthenticationProvider"
)
MISTAKES = {
    "tickTme=2000": "tickTme is unknown; did you mean tickTime?",
    "completely=else": "completely is unknown",
    "tickTime=x": "tickTime must be a whole number, not 'x'",
    "tickTime=0": "tickTime must be between 1 and 2147483647, not 0",
    "clientPort=2182": "clientPort stands twice, first at /zoo.cfg:2",
    "reconfigEnabled=yes": "reconfigEnabled must be true or false, not 'yes'",
    "forceSync=true": "forceSync must be yes or no, not 'true'",
    "server.1=h:1": "server.1 must be host:quorumPort:electionPort[:role][;[host:]clientPort], not 'h:1'",
    "server.x=h:1:2": "server.x is unknown; did you mean server.1?",
    "server.255=h:1:2": "server.255 has an id above 254",
    "4lw.commands.whitelist=stats": "4lw.commands.whitelist 'stats' is no four letter word",
    "sslQuorum=true": "sslQuorum needs ssl.quorum.keyStore.location",
    "portUnification=true": "portUnification needs ssl.quorum.keyStore.location",
    "client.portUnification=true": "ssl.clientAuth=need needs ssl.trustStore.location",
    "ssl.quorum.keyStore.location=/a.p12": (
        "ssl.quorum.keyStore.location must be a PEM file; convert a key store with keytool and openssl"
    ),
    "ssl.keyStore.location=/a.jks": (
        "ssl.keyStore.location must be a PEM file; convert a key store with keytool and openssl"
    ),
    "ssl.keystore.location=/a.pem": "ssl.keystore.location is unknown; did you mean ssl.keyStore.location?",
    "admin.forceHttps=true": "admin.forceHttps must be false: the admin server speaks plain HTTP",
    "secureClientPort=1": "secureClientPort needs ssl.keyStore.location",
    "maxSessionTimeout=1": "minSessionTimeout (6000) is above maxSessionTimeout (1)",
    "authProvider.1=org.example.KeyAuthenticationProvider": (
        f"authProvider.1 is not offered here; known are {PROVIDERS}"
    ),
    "snapshot.compression.method=snappy": (
        "snapshot.compression.method must be gz or nothing, not 'snappy'; snappy is read here, but not written"
    ),
    "snapshot.compression.method=zstd": "snapshot.compression.method must be gz or nothing, not 'zstd'",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_reported_with_file_and_line(tmp_path: Path, line: str) -> None:
    assert f"/zoo.cfg:3: {MISTAKES[line]}" in mistakes(tmp_path, MINIMAL + line)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "tickTime=x\nfoo=1\n") == [
        "/zoo.cfg:1: tickTime must be a whole number, not 'x'",
        "/zoo.cfg:2: foo is unknown",
        "/zoo.cfg: dataDir is missing",
    ]


def test_what_has_no_effect_is_noted(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL + "nio.numWorkerThreads=4\nmetricsProvider.httpPort=7000\n"))
    assert [notice.partition("zoo.cfg")[2] for notice in config.notices] == [
        ":3: nio.numWorkerThreads has no effect: it tunes Java's threads",
        ":4: metricsProvider.httpPort has no effect: the figures are those of mntr and of the admin server",
    ]


def test_yaml_is_the_same(tmp_path: Path) -> None:
    flat = load_config(
        write(tmp_path, MINIMAL + "tickTime=200\nserver.1=127.0.0.1:2888:3888\nautopurge.purgeInterval=2\n")
    )
    nested = load_config(
        write(
            tmp_path,
            "dataDir: /var/lib/zookeeper\nclientPort: 2181\ntickTime: 200\n"
            "server: [{id: 1, host: 127.0.0.1, ports: [2888, 3888]}]\nautopurge: {purgeInterval: 2}\n",
            "zoo.yaml",
        )
    )
    assert flat.members == nested.members
    assert {name: getattr(flat, name) for name in ServerConfig.__slots__ if name != "text"} == {
        name: getattr(nested, name) for name in ServerConfig.__slots__ if name != "text"
    }


def quorum_file(folder: Path, more: str = "") -> Path:
    (folder / "data").mkdir(exist_ok=True)
    return write(
        folder,
        f"dataDir={folder}/data\ninitLimit=10\nsyncLimit=5\n"
        f"server.1=a:2888:3888;2181\nserver.2=b:2888:3888;2182\n{more}",
    )


def test_quorum(tmp_path: Path) -> None:
    path = quorum_file(tmp_path)
    (tmp_path / "data" / "myid").write_text("2\n")
    config = load_config(path)
    assert not config.is_standalone
    assert (config.sid, config.client_port) == (2, 2182)
    assert config.voters == (parse_member(1, "a:2888:3888;2181"), parse_member(2, "b:2888:3888;2182"))


@pytest.mark.parametrize(
    ("myid", "mistake"),
    [(None, "myid: cannot be read"), ("x", "myid:1: myid must be a number"), ("3", "there is no server.3")],
)
def test_myid(tmp_path: Path, myid: str | None, mistake: str) -> None:
    path = quorum_file(tmp_path)
    if myid is not None:
        (tmp_path / "data" / "myid").write_text(myid)
    with pytest.raises(ConfigurationError, match=mistake):
        load_config(path)


def test_client_port_of_the_member_must_agree(tmp_path: Path) -> None:
    path = write(tmp_path, f"dataDir={tmp_path}\nclientPort=1\nserver.1=a:2888:3888;2181\n")
    with pytest.raises(ConfigurationError, match=r"clientPort is 1, but server\.1 says 2181"):
        load_config(path)


def test_a_single_member_is_standalone(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, f"dataDir={tmp_path}\nserver.1=a:2888:3888;127.0.0.1:2181\n"))
    assert config.is_standalone
    assert (config.client_port, config.client_address) == (2181, "127.0.0.1")


def test_quorum_needs_its_limits(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "dataDir=/d\nclientPort=1\nserver.1=a:1:2\nserver.2=b:1:2\n") == [
        "/zoo.cfg: initLimit is missing, which an ensemble needs",
        "/zoo.cfg: syncLimit is missing, which an ensemble needs",
    ]


def test_dynamic_file(tmp_path: Path) -> None:
    dynamic = write(tmp_path, "server.1=a:1:2:participant;3\nserver.2=b:1:2:observer;3\n", "zoo.cfg.dynamic.1a")
    (tmp_path / "myid").write_text("1")
    config = load_config(
        write(tmp_path, f"dataDir={tmp_path}\ninitLimit=1\nsyncLimit=1\ndynamicConfigFile={dynamic}\n")
    )
    assert config.config_version == 0x1A
    assert [str(member) for member in config.members] == [
        "server.1=a:1:2:participant;0.0.0.0:3",
        "server.2=b:1:2:observer;0.0.0.0:3",
    ]
    write(tmp_path, "tickTime=1\n", "zoo.cfg.dynamic.1a")
    assert mistakes(tmp_path, f"dataDir=/d\nclientPort=1\ndynamicConfigFile={dynamic}\n") == [
        "/zoo.cfg.dynamic.1a:1: tickTime may not stand in a dynamic configuration file"
    ]


def test_no_port_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no clientPort and no secureClientPort"):
        load_config(write(tmp_path, "dataDir=/d\n"))


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_a_field(key: str) -> None:
    field = KEYS[key].field
    if field is not None:
        family, _, name = field.rpartition(".")
        owner: Any = ServerConfig(tick_ms=1)
        if family:
            owner = AuthReading() if family == "auth" else getattr(owner, family)
        assert hasattr(owner, name)


@pytest.mark.parametrize(
    ("allowed", "word", "answer"),
    [({"srvr"}, "stat", False), (set[str](), "srvr", True), ({"*"}, "stat", True), ({"stat"}, "stat", True)],
)
def test_words(allowed: set[str], word: str, answer: bool) -> None:
    assert ServerConfig(four_letter_words=frozenset(allowed)).allows_word(word) is answer


def test_isro_is_allowed_with_read_only_mode() -> None:
    assert ServerConfig(read_only_mode=True).allows_word("isro")
