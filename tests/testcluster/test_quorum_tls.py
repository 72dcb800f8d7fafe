"""TLS between servers: who is let in, what a certificate must name, and an ensemble that speaks nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from terzetto.client import open_zookeeper
from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection, Transport
from terzetto.client.errors import ConfigurationError
from terzetto.testcluster import open_ensemble
from terzetto.testcluster.config_tls import QuorumTlsSettings
from terzetto.testcluster.embedded import host_name
from terzetto.testcluster.memory_network import Network
from terzetto.testcluster.quorum_tls import QuorumTls, names_host

from .test_tls_port import unreadable_certificate

HOSTS = frozenset({"one", "two"})
LOST = (OSError, trio.BrokenResourceError)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def identity(authority: trustme.CA, folder: Path, *names: str, trust: trustme.CA | None = None) -> QuorumTlsSettings:
    """The keys of a server with a certificate for these names, which trusts the authority, or another one."""
    store = folder / f"{'-'.join(names)}.pem"
    authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(store)
    trusted = folder / f"{'-'.join(names)}.trust.pem"
    (trust or authority).cert_pem.write_to_path(trusted)
    return QuorumTlsSettings(key_store=store, trust_store=trusted, is_used=True)


class Pair:
    """Two servers, of which the first dials the second."""

    def __init__(self, one: Transport, two: Transport) -> None:
        self.one = one
        self.two = two

    @asynccontextmanager
    async def echoing(self) -> AsyncIterator[None]:
        """The second one sends everything back that it receives."""
        listener = await self.two.listen(Endpoint("two", 1, "two"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._accept, listener, nursery)
            yield
            nursery.cancel_scope.cancel()
        listener.close()

    async def _accept(self, listener: Any, nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(self._echo, await listener.accept())

    async def _echo(self, connection: Connection) -> None:
        try:
            while data := await connection.receive():
                await connection.send(data)
        except LOST:
            pass
        finally:
            with trio.CancelScope(shield=True):
                await connection.aclose()

    async def ask(self, data: bytes = b"\x00\x00\x00\x01") -> bytes:
        """What comes back; virtual time bounds it."""
        with trio.fail_after(30):
            connection = await self.one.dial(Endpoint("two", 1, "two"))
            try:
                await connection.send(data)
                answer = b""
                while len(answer) < len(data):
                    piece = await connection.receive()
                    if not piece:
                        raise trio.BrokenResourceError("closed")
                    answer += piece
                return answer
            finally:
                await connection.aclose()


def pair(one: QuorumTlsSettings | None, two: QuorumTlsSettings) -> Pair:
    network = Network()
    plain = network.transport("one")
    return Pair(plain if one is None else QuorumTls(plain, one, HOSTS), QuorumTls(network.transport("two"), two, HOSTS))


async def test_bytes_cross_in_both_directions(authority: trustme.CA, tmp_path: Path, autojump_clock: object) -> None:
    servers = pair(identity(authority, tmp_path, "one"), identity(authority, tmp_path, "two"))
    async with servers.echoing():
        assert await servers.ask() == b"\x00\x00\x00\x01"
        large = bytes(range(256)) * 8000
        assert await servers.ask(large) == large


@pytest.mark.parametrize("side", ["the one that dials", "the one that is dialled"])
async def test_a_server_of_another_authority_is_refused(
    authority: trustme.CA, side: str, tmp_path: Path, autojump_clock: object
) -> None:
    stranger = trustme.CA()
    dials = side == "the one that dials"
    one = identity(stranger if dials else authority, tmp_path, "one", trust=authority)
    two = identity(authority if dials else stranger, tmp_path, "two", trust=authority)
    servers = pair(one, two)
    async with servers.echoing():
        with pytest.raises(LOST):
            await servers.ask()


async def test_a_dialled_server_must_have_a_certificate_for_its_host(
    authority: trustme.CA, tmp_path: Path, autojump_clock: object
) -> None:
    one, other = identity(authority, tmp_path, "one"), identity(authority, tmp_path, "elsewhere")
    other = replace(other, verify_dialler_names=False)
    servers = pair(one, other)
    async with servers.echoing():
        with pytest.raises(LOST):
            await servers.ask()
    trusting = pair(replace(one, verify_names=False), other)
    async with trusting.echoing():
        assert await trusting.ask()


async def test_a_server_that_dials_must_have_a_certificate_for_a_host_of_the_ensemble(
    authority: trustme.CA, tmp_path: Path, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    stranger, two = identity(authority, tmp_path, "elsewhere"), identity(authority, tmp_path, "two")
    servers = pair(stranger, two)
    async with servers.echoing():
        with pytest.raises(LOST):
            await servers.ask()
    assert "is for no server of the ensemble" in caplog.text
    trusting = pair(stranger, replace(two, verify_dialler_names=False))
    async with trusting.echoing():
        assert await trusting.ask()


async def test_a_certificate_whose_names_are_no_text_is_refused(
    authority: trustme.CA, tmp_path: Path, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = identity(authority, tmp_path, "one"), identity(authority, tmp_path, "two")
    servers = pair(replace(one, key_store=unreadable_certificate(authority, tmp_path)), two)
    async with servers.echoing():
        with pytest.raises(LOST):
            await servers.ask()
        assert "cannot be read" in caplog.text


async def test_a_handshake_that_has_failed_is_the_end(
    authority: trustme.CA, tmp_path: Path, autojump_clock: object
) -> None:
    network = Network()
    unified = replace(identity(authority, tmp_path, "two"), is_unified=True)
    listener = await QuorumTls(network.transport("two"), unified, HOSTS).listen(Endpoint("two", 1, "two"))
    stranger = await network.transport("three").dial(Endpoint("two", 1, "two"))
    arrived = await listener.accept()
    await stranger.send(b"\x16 no handshake")
    with pytest.raises(LOST):
        await arrived.receive()
    await stranger.send(b"plain text")
    with trio.fail_after(1), pytest.raises(trio.BrokenResourceError, match="handshake has failed"):
        await arrived.receive()
    await arrived.aclose()
    await stranger.aclose()
    listener.close()


async def test_plain_text_is_refused_unless_the_port_is_for_both(
    authority: trustme.CA, tmp_path: Path, autojump_clock: object
) -> None:
    two = identity(authority, tmp_path, "two")
    servers = pair(None, two)
    async with servers.echoing():
        with pytest.raises(LOST):
            await servers.ask()
    unified = pair(None, replace(two, is_unified=True))
    async with unified.echoing():
        assert await unified.ask() == b"\x00\x00\x00\x01"
    both = pair(identity(authority, tmp_path, "one"), replace(two, is_unified=True))
    async with both.echoing():
        assert await both.ask() == b"\x00\x00\x00\x01"


async def test_nobody_waits_for_a_peer_that_says_nothing(
    authority: trustme.CA, tmp_path: Path, autojump_clock: object
) -> None:
    network = Network()
    two = QuorumTls(network.transport("two"), identity(authority, tmp_path, "two"), HOSTS)
    servers = Pair(QuorumTls(network.transport("one"), identity(authority, tmp_path, "one"), HOSTS), two)
    async with servers.echoing():
        silent = await network.transport("three").dial(Endpoint("two", 1, "two"))
        assert await servers.ask()
        await silent.aclose()


async def test_new_certificates_are_used_without_a_restart(
    authority: trustme.CA, tmp_path: Path, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    successor = trustme.CA()
    one, two = identity(authority, tmp_path, "one"), identity(authority, tmp_path, "two")
    servers = pair(one, two)
    async with servers.echoing():
        assert await servers.ask()
        # One side alone is refused; what cannot be read changes nothing.
        before = one.key_store.read_bytes() if one.key_store else b""
        identity(successor, tmp_path, "one")
        with pytest.raises(LOST):
            await servers.ask()
        identity(successor, tmp_path, "two")
        assert await servers.ask()
        assert one.key_store is not None
        one.key_store.write_bytes(before[:100])
        assert await servers.ask()
        assert "the certificates stay as they were" in caplog.text


async def test_reading_again_can_be_switched_off(authority: trustme.CA, tmp_path: Path, autojump_clock: object) -> None:
    one, two = identity(authority, tmp_path, "one"), identity(authority, tmp_path, "two")
    servers = pair(replace(one, reload=False), replace(two, reload=False))
    async with servers.echoing():
        identity(trustme.CA(), tmp_path, "one")
        assert await servers.ask()


def test_what_cannot_be_used_is_named(authority: trustme.CA, tmp_path: Path) -> None:
    settings = replace(identity(authority, tmp_path, "one"), key_store=tmp_path / "nowhere.pem")
    with pytest.raises(ConfigurationError, match=r"ssl\.quorum\.keyStore\.location .*nowhere\.pem cannot be used"):
        QuorumTls(Network().transport("one"), settings, HOSTS)


NAMED = {"subjectAltName": (("DNS", "*.example.org"), ("DNS", "Zk.Example.com"), ("IP Address", "10.0.0.1"))}


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("a.example.org", True),
        ("a.b.example.org", False),
        ("example.org", False),
        (".example.org", False),
        ("zk.example.com", True),
        ("10.0.0.1", True),
        ("10.0.0.2", False),
        ("::1", False),
        ("common", False),
    ],
)
def test_names_of_a_certificate(host: str, named: bool) -> None:
    assert names_host({**NAMED, "subject": ((("commonName", "common"),),)}, host) is named


def test_the_common_name_counts_where_there_is_no_other() -> None:
    subject = ((("organizationName", "x"),), (("commonName", "zk1"),))
    assert names_host({"subject": subject}, "zk1")
    assert not names_host({"subject": subject}, "x")


@pytest.mark.slow
async def test_an_ensemble_speaks_tls(authority: trustme.CA, tmp_path: Path) -> None:
    names = [host_name(sid) for sid in (1, 2, 3)]
    settings = identity(authority, tmp_path, *names)
    given: dict[str, Any] = {
        "sslQuorum": "true",
        "ssl.quorum.keyStore.location": settings.key_store,
        "ssl.quorum.trustStore.location": settings.trust_store,
    }
    with trio.fail_after(60):
        async with (
            open_ensemble(servers=3, settings=given) as ensemble,
            open_zookeeper(ensemble.hosts) as zk,
        ):
            await zk.create("/a", b"1")
            leader = ensemble.leader
            assert leader is not None
            await ensemble.kill(leader)
            await zk.retry(zk.set, "/a", b"2")
            await ensemble.start(leader)
            await ensemble.wait_serving()
            await zk.sync("/a")
            assert (await zk.get("/a"))[0] == b"2"
