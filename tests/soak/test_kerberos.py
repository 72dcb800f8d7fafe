"""Kerberos: a throw-away realm, the real ZooKeeper as the acceptor, the native client and the drop-in."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from terzetto.client import (
    CREATOR_ALL_ACL,
    AuthFailedError,
    ConnectTimeoutError,
    Gssapi,
    NoAuthError,
    open_zookeeper,
)
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import AuthFailedError as KazooAuthFailedError
from terzetto.testcluster import open_ensemble
from tests.interop.installation import PeerMissing
from tests.interop.kerberos import REALM, KerberosRealm
from tests.interop.zookeeper import RealZooKeeper, ServerOptions

SERVER = "zookeeper/localhost"
_JAAS = """
Server {{
    com.sun.security.auth.module.Krb5LoginModule required
    useKeyTab=true keyTab="{keytab}" storeKey=true useTicketCache=false principal="{principal}@{realm}";
}};
"""


@pytest.fixture(scope="module")
def realm() -> Iterator[KerberosRealm]:
    pytest.importorskip("gssapi", reason="needs the extra sasl")
    try:
        running = KerberosRealm()
    except PeerMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    with running:
        yield running


@pytest.fixture(scope="module")
def keytabs(realm: KerberosRealm) -> dict[str, Path]:
    """Keytab by principal."""
    return {name: realm.add(name) for name in (SERVER, "ada", "eve", "zookeeper/elsewhere")}


@pytest.fixture(scope="module")
def server(
    zookeeper_installed: None, realm: KerberosRealm, keytabs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a real server that takes Kerberos tickets."""
    jaas = realm.folder / "jaas.conf"
    jaas.write_text(_JAAS.format(keytab=keytabs[SERVER], principal=SERVER, realm=REALM))
    options = ServerOptions(
        zoo_cfg={"authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"},
        jvm_properties={"java.security.auth.login.config": jaas, "java.security.krb5.conf": realm.krb5_conf},
    )
    with RealZooKeeper(options, directory=tmp_path_factory.mktemp("zookeeper")) as running:
        # By the name in the server's principal.
        yield running.hosts.replace("127.0.0.1", "localhost")


@pytest.fixture(autouse=True)
def member(realm: KerberosRealm, monkeypatch: pytest.MonkeyPatch) -> KerberosRealm:
    """This process is of the realm, with an empty ticket cache."""
    for key, value in realm.environment.items():
        monkeypatch.setenv(key, value)
    realm.drop_tickets()
    return realm


async def identities(hosts: str, sasl: Gssapi) -> list[tuple[str, str]]:
    with trio.fail_after(20):
        async with open_zookeeper(hosts, sasl=sasl) as zk:
            return [(info.auth_scheme, info.user) for info in await zk.who_am_i()]


async def test_a_ticket_says_who_the_client_is(server: str, member: KerberosRealm, keytabs: dict[str, Path]) -> None:
    member.take_ticket("ada", keytabs["ada"])
    async with open_zookeeper(server, sasl=Gssapi()) as zk:
        path = await zk.create("/adas-", b"x", acl=CREATOR_ALL_ACL, sequence=True)
        assert (await zk.get_acls(path))[0][0].id == ("sasl", f"ada@{REALM}")
        await zk.delete(path, version=0)
        path = await zk.create("/adas", b"x", acl=CREATOR_ALL_ACL)
    member.take_ticket("eve", keytabs["eve"])
    async with open_zookeeper(server, sasl=Gssapi()) as zk:
        with pytest.raises(NoAuthError):
            await zk.get(path)
    async with open_zookeeper(server) as zk:
        with pytest.raises(NoAuthError):
            await zk.get(path)


async def test_a_keytab_needs_no_ticket(server: str, keytabs: dict[str, Path]) -> None:
    mine = Gssapi(keytab=str(keytabs["ada"]), principal=f"ada@{REALM}")
    assert ("sasl", f"ada@{REALM}") in await identities(server, mine)
    whole = Gssapi(keytab=str(keytabs["eve"]), server_principal=f"{SERVER}@{REALM}")
    assert ("sasl", f"eve@{REALM}") in await identities(server.replace("localhost", "127.0.0.1"), whole)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "(?i)credential|ticket|cache"),
        ({"principal": f"nobody@{REALM}"}, "(?i)credential|ticket|cache|principal"),
        ({"keytab": "/no/such/keytab"}, "(?i)keytab|credential"),
    ],
    ids=["no ticket", "another's ticket", "no keytab"],
)
async def test_without_credentials_it_is_said_at_once(server: str, asked: dict[str, str], reason: str) -> None:
    with trio.fail_after(20), pytest.raises(AuthFailedError, match=reason):
        async with open_zookeeper(server, sasl=Gssapi(**asked)):
            pytest.fail("the block must not begin")


async def test_a_server_of_another_name_is_refused(
    server: str, member: KerberosRealm, keytabs: dict[str, Path]
) -> None:
    member.take_ticket("ada", keytabs["ada"])
    # The realm knows no such server; and the ticket for another server means nothing to this one.
    for sasl, reason in (
        (Gssapi(service="unheard-of"), "not found in Kerberos database"),
        (Gssapi(server_principal=f"zookeeper/elsewhere@{REALM}"), "refused the SASL credentials"),
    ):
        with trio.fail_after(20), pytest.raises(AuthFailedError, match=reason):
            async with open_zookeeper(server, sasl=sasl):
                pytest.fail("the block must not begin")


async def test_a_server_with_passwords_only_is_refused(member: KerberosRealm, keytabs: dict[str, Path]) -> None:
    member.take_ticket("ada", keytabs["ada"])
    async with open_ensemble(sasl_users={"ada": "x"}) as ensemble:
        hosts = ensemble.hosts.replace("127.0.0.1", "localhost")
        with trio.fail_after(20), pytest.raises(AuthFailedError):
            async with open_zookeeper(hosts, sasl=Gssapi()):
                pytest.fail("the block must not begin")
    async with open_ensemble() as ensemble:
        hosts = ensemble.hosts.replace("127.0.0.1", "localhost")
        with trio.fail_after(20), pytest.raises(AuthFailedError, match="has no SASL"):
            async with open_zookeeper(hosts, sasl=Gssapi()):
                pytest.fail("the block must not begin")


async def test_a_kerberos_server_that_is_away_is_waited_for(
    server: str, member: KerberosRealm, keytabs: dict[str, Path]
) -> None:
    """Nobody else in the event loop waits with it, and the client goes on when it is back."""
    member.stop()
    sasl = Gssapi(keytab=str(keytabs["ada"]))
    longest, before = 0.0, time.monotonic()

    async def watch_the_clock() -> None:
        nonlocal longest, before
        while True:
            before = time.monotonic()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.monotonic() - before)
            await trio.to_thread.run_sync(time.monotonic)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_the_clock)
            with trio.fail_after(20), pytest.raises(ConnectTimeoutError, match="SASL could not be tried") as caught:
                async with open_zookeeper(server, sasl=sasl, connect_timeout=3.0):
                    pytest.fail("the block must not begin")
            assert "contact" in str(caught.value)
            nursery.cancel_scope.cancel()
    finally:
        member.start()
    assert longest < 1.0
    assert ("sasl", f"ada@{REALM}") in await identities(server, sasl)


def test_the_drop_in_takes_kazoos_options(server: str, member: KerberosRealm, keytabs: dict[str, Path]) -> None:
    member.take_ticket("ada", keytabs["ada"])
    client = KazooClient(server, sasl_options={"mechanism": "GSSAPI", "service": "zookeeper"})
    client.start()
    try:
        client.create("/dropped-in", b"x", acl=CREATOR_ALL_ACL)
        assert client.get_acls("/dropped-in")[0][0].id == ("sasl", f"ada@{REALM}")
    finally:
        client.stop()
        client.close()
    member.drop_tickets()
    client = KazooClient(server, sasl_options={"mechanism": "GSSAPI", "principal": f"ada@{REALM}"})
    with pytest.raises(KazooAuthFailedError):
        client.start(timeout=20)
