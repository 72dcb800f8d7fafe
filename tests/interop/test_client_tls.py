"""The client over TLS: the real server's Netty port, right and wrong certificates, and the wrong kind of port."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trustme

from terzetto.client import ConnectTimeoutError, EventType, WatchedEvent, open_zookeeper

from .conftest import OwnZooKeeper
from .identities import server_identity
from .zookeeper import RealServer, RealZooKeeper


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_server(own_zookeeper: OwnZooKeeper, authority: trustme.CA, tmp_path: Path) -> RealServer:
    """A server whose TLS port wants a client certificate, as by default."""
    return own_zookeeper(
        secure=True,
        zoo_cfg={
            **server_identity(authority, tmp_path),
            "authProvider.x509": "org.apache.zookeeper.server.auth.X509AuthenticationProvider",
        },
    )


def context(authority: trustme.CA, *, certificate_of: trustme.CA | None = None) -> ssl.SSLContext:
    """A client's context that trusts the authority and has a certificate of the other one."""
    tls = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    if certificate_of is not None:
        certificate = certificate_of.issue_cert("client.example.org", common_name="client one")
        with certificate.private_key_and_cert_chain_pem.tempfile() as both:
            tls.load_cert_chain(both)
    return tls


async def test_everything_works_over_tls(secure_server: RealServer, authority: trustme.CA) -> None:
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
        assert tuple(await zk.server_version()) == (3, 8, 0)


async def refused(address: str, tls: ssl.SSLContext | None) -> str:
    """The reason that a client gives for not getting a session; bounded."""
    with trio.fail_after(15), pytest.raises(ConnectTimeoutError) as caught:
        async with open_zookeeper(address, tls=tls, connect_timeout=1.0, session_timeout=1.0):
            pytest.fail("the block must not begin")
    return str(caught.value)


async def test_a_server_of_another_authority_is_refused(secure_server: RealServer, authority: trustme.CA) -> None:
    stranger = trustme.CA()
    reason = await refused(secure_server.secure_address, context(stranger, certificate_of=authority))
    assert "certificate verify failed" in reason


async def test_a_server_of_another_name_is_refused(secure_server: RealServer, authority: trustme.CA) -> None:
    address = secure_server.secure_address.replace("127.0.0.1", "localhost")
    reason = await refused(address, context(authority, certificate_of=authority))
    assert "localhost" in reason
    assert "certificate" in reason


@pytest.mark.parametrize("certificate", ["none", "of another authority"])
async def test_a_client_without_the_right_certificate_is_refused(
    secure_server: RealServer, authority: trustme.CA, certificate: str
) -> None:
    other = trustme.CA() if certificate != "none" else None
    reason = await refused(secure_server.secure_address, context(authority, certificate_of=other))
    assert "last failure: none" not in reason


async def test_plain_text_on_the_tls_port(secure_server: RealServer) -> None:
    assert "closed the connection" in await refused(secure_server.secure_address, None)


async def test_tls_on_the_plain_port(zookeeper: RealZooKeeper, authority: trustme.CA) -> None:
    reason = await refused(zookeeper.address, context(authority))
    assert "last failure: none" not in reason
