"""TLS between clients and servers: right, wrong and expired certificates, wrong names, and the wrong kind of port.

Everything on the real server's Netty port and on terzetto's; kazoo and Java's client beside our own.
"""

from __future__ import annotations

import datetime as dt
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
import trustme
from kazoo.client import KazooClient

from terzetto.client import ConnectTimeoutError, EventType, WatchedEvent, open_zookeeper
from terzetto.testcluster import start_ensemble
from terzetto.testcluster.reserved_port import ReservedPort

from .identities import server_identity
from .installation import find_classpath, find_java
from .zookeeper import RealZooKeeper, ServerOptions

_X509 = "org.apache.zookeeper.server.auth.X509AuthenticationProvider"

WHAT_A_SERVER_SAYS = r"alert (certificate|unknown ca|bad certificate|handshake failure)|closed the connection"
"""To a client whose certificate will not do: Java's server may leave it at the end of the connection."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=["ZooKeeper 3.8.0", "terzetto"])
def secure_server(
    request: pytest.FixtureRequest, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Address]:
    """A server whose TLS port wants a client certificate, as by default; it has shaken hands before."""
    folder = tmp_path_factory.mktemp("tls")
    keys = {**server_identity(authority, folder), "authProvider.x509": _X509}
    with ExitStack() as stack:
        if request.param == "terzetto":
            reserved = stack.enter_context(closing(ReservedPort()))
            keys |= {"secureClientPort": reserved.number, "secureClientPortAddress": "127.0.0.1"}
            ensemble = stack.enter_context(start_ensemble(settings={**keys, "4lw.commands.whitelist": "*"}))
            address = Address(f"127.0.0.1:{reserved.number}", ensemble.hosts, (3, 9, 0))
        else:
            request.getfixturevalue("zookeeper_installed")
            options = ServerOptions(secure=True, zoo_cfg=keys)
            server = stack.enter_context(RealZooKeeper(options, directory=folder / "server"))
            address = Address(server.secure_address, server.address, (3, 8, 0))
        # Java loads what it needs for TLS at the first handshake, which takes seconds on a busy machine.
        trio.run(_shake_hands, address.secure_address, context(authority, certificate_of=authority))
        yield address


async def _shake_hands(address: str, tls: ssl.SSLContext) -> None:
    async with open_zookeeper(address, tls=tls, connect_timeout=60.0):
        pass


class Address(NamedTuple):
    """Where a server's two ports are."""

    secure_address: str
    address: str
    version: tuple[int, ...]


def context(authority: trustme.CA, *, certificate_of: trustme.CA | None = None) -> ssl.SSLContext:
    """A client's context that trusts the authority and has a certificate of the other one."""
    tls = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    if certificate_of is not None:
        certificate = certificate_of.issue_cert("client.example.org", common_name="client one")
        with certificate.private_key_and_cert_chain_pem.tempfile() as both:
            tls.load_cert_chain(both)
    return tls


async def test_everything_works_over_tls(secure_server: Address, authority: trustme.CA) -> None:
    tls = context(authority, certificate_of=authority)
    async with open_zookeeper(secure_server.secure_address, tls=tls) as zk:
        events: list[WatchedEvent] = []
        await zk.create("/tls", b"x" * 100_000)
        assert len((await zk.get("/tls", watch=events.append))[0] or b"") == 100_000
        async with zk.pipeline() as pipeline:
            handles = [await pipeline.set("/tls", b"%d" % i) for i in range(2000)]
        assert [handle.result().version for handle in handles] == list(range(1, 2001))
        assert [event.type for event in events] == [EventType.CHANGED]
        assert {info.auth_scheme for info in await zk.who_am_i()} == {"ip", "x509"}
        # kazoo cannot do these over TLS.
        assert await zk.command(b"ruok") == "imok"
        assert tuple(await zk.server_version()) == secure_server.version


async def refused(address: str, tls: ssl.SSLContext | None) -> str:
    """The reason that a client gives for not getting a session; bounded.

    A server that is busy may have said nothing by the end of the time; then it is asked once more.
    """
    with trio.fail_after(30):
        while True:
            with pytest.raises(ConnectTimeoutError) as caught:
                async with open_zookeeper(address, tls=tls, connect_timeout=2.0):
                    pytest.fail("the block must not begin")
            if "last failure: none" not in str(caught.value):
                return str(caught.value)


async def test_a_server_of_another_authority_is_refused(secure_server: Address, authority: trustme.CA) -> None:
    stranger = trustme.CA()
    reason = await refused(secure_server.secure_address, context(stranger, certificate_of=authority))
    assert "certificate verify failed" in reason


async def test_a_server_of_another_name_is_refused(secure_server: Address, authority: trustme.CA) -> None:
    address = secure_server.secure_address.replace("127.0.0.1", "localhost")
    reason = await refused(address, context(authority, certificate_of=authority))
    assert "localhost" in reason
    assert "certificate" in reason


@pytest.mark.parametrize("certificate", ["none", "of another authority"])
async def test_a_client_without_the_right_certificate_is_refused(
    secure_server: Address, authority: trustme.CA, certificate: str
) -> None:
    other = trustme.CA() if certificate != "none" else None
    reason = await refused(secure_server.secure_address, context(authority, certificate_of=other))
    assert re.search(WHAT_A_SERVER_SAYS, reason), reason


async def test_plain_text_on_the_tls_port(secure_server: Address) -> None:
    reason = await refused(secure_server.secure_address, None)
    assert "closed the connection" in reason or "frame" in reason


async def test_tls_on_the_plain_port(secure_server: Address, authority: trustme.CA) -> None:
    reason = await refused(secure_server.address, context(authority))
    assert "closed the connection during the TLS handshake: it may speak no TLS there" in reason


YESTERDAY = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1)


async def test_a_client_whose_certificate_has_expired_is_refused(
    secure_server: Address, authority: trustme.CA, tmp_path: Path
) -> None:
    tls = context(authority)
    expired = authority.issue_cert("client.example.org", not_after=YESTERDAY)
    with expired.private_key_and_cert_chain_pem.tempfile(dir=str(tmp_path)) as both:
        tls.load_cert_chain(both)
    reason = await refused(secure_server.secure_address, tls)
    assert re.search(WHAT_A_SERVER_SAYS, reason), reason


async def test_a_server_whose_certificate_has_expired_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    expired = authority.issue_cert("127.0.0.1", not_after=YESTERDAY)
    context_of_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with expired.private_key_and_cert_chain_pem.tempfile(dir=str(tmp_path)) as both:
        context_of_server.load_cert_chain(both)
    listeners = await trio.open_ssl_over_tcp_listeners(0, context_of_server, host="127.0.0.1")
    port = listeners[0].transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]

    async def shake(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, shake, listeners)
        reason = await refused(f"127.0.0.1:{port}", context(authority))
        nursery.cancel_scope.cancel()
    assert "certificate has expired" in reason


def client_files(authority: trustme.CA, folder: Path) -> dict[str, Path]:
    """A client's identity in the forms that kazoo and Java want."""
    folder.mkdir()
    identity = authority.issue_cert(
        "client.example.org", common_name="client one", organization_name="Acme", organization_unit_name="Unit #1=a"
    )
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    identity.cert_chain_pems[0].write_to_path(certificate)
    identity.private_key_pem.write_to_path(key)
    trusted = folder / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)
    store = server_identity(authority, folder)["ssl.keyStore.location"]
    return {"certificate": certificate, "key": key, "trusted": trusted, "store": store}


def test_kazoo_is_known_by_its_certificate(secure_server: Address, authority: trustme.CA, tmp_path: Path) -> None:
    files = client_files(authority, tmp_path / "kazoo")
    client = KazooClient(
        secure_server.secure_address, use_ssl=True, certfile=str(files["certificate"]), keyfile=str(files["key"]),
        ca=str(files["trusted"]), verify_certs=True, check_hostname=True,
    )  # fmt: skip
    client.start(15)
    try:
        from kazoo.security import CREATOR_ALL_ACL

        client.create("/kazoo", b"mine", acl=CREATOR_ALL_ACL)
        (acl,) = client.get_acls("/kazoo")[0]
        assert (acl.id.scheme, acl.id.id) == ("x509", "CN=client one,OU=Unit \\#1\\=a,O=Acme")
        assert client.get("/kazoo")[0] == b"mine"
    finally:
        client.stop()
        client.close()


_KAZOO_WITHOUT = """
import sys
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError
client = KazooClient(sys.argv[1], use_ssl=True, ca=sys.argv[2], connection_retry={"max_tries": 2})
try:
    client.start(3)
except KazooTimeoutError:
    print("refused")
"""


def test_kazoo_without_a_certificate_is_refused(secure_server: Address, authority: trustme.CA, tmp_path: Path) -> None:
    files = client_files(authority, tmp_path / "kazoo")
    # In a process of its own: kazoo leaves the sockets of failed attempts open.
    done = subprocess.run(
        [sys.executable, "-c", _KAZOO_WITHOUT, secure_server.secure_address, str(files["trusted"])],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.slow
def test_java_is_known_by_its_certificate(secure_server: Address, authority: trustme.CA, tmp_path: Path) -> None:
    files = client_files(authority, tmp_path / "java")
    properties = {
        "zookeeper.client.secure": "true",
        "zookeeper.clientCnxnSocket": "org.apache.zookeeper.ClientCnxnSocketNetty",
        "zookeeper.ssl.keyStore.location": str(files["store"]),
        "zookeeper.ssl.trustStore.location": str(files["trusted"]),
    }
    done = subprocess.run(
        [find_java(), "-cp", find_classpath(), "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
         *(f"-D{key}={value}" for key, value in properties.items()),
         "org.apache.zookeeper.ZooKeeperMain", "-server", secure_server.secure_address],
        input="create /java mine auth::cdrwa\ngetAcl /java\nget /java\nquit\n",
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert "Created /java" in (*lines, *done.stderr.splitlines()), done.stdout + done.stderr
    assert any(line.startswith("'x509,'") for line in lines), done.stdout
    assert "mine" in lines
