"""A server's ports together: one for both kinds of clients, certificates that change, what closes with what."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from terzetto.client import open_zookeeper
from terzetto.testcluster import EnsembleError, start_ensemble
from terzetto.testcluster.reserved_port import ReservedPort


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write_identity(authority: trustme.CA, folder: Path) -> dict[str, Path]:
    """The stores of a server at 127.0.0.1, and the keys that name them."""
    store, trust = folder / "server.pem", folder / "authority.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(store)
    authority.cert_pem.write_to_path(trust)
    return {"ssl.keyStore.location": store, "ssl.trustStore.location": trust}


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


@contextmanager
def secure_server(keys: dict[str, Any]) -> Iterator[str]:
    """A server with a TLS port; where that is."""
    with closing(ReservedPort()) as port, start_ensemble(settings={**keys, "secureClientPort": port.number}):
        yield f"127.0.0.1:{port.number}"


@pytest.fixture
def keys(authority: trustme.CA, tmp_path: Path) -> dict[str, Any]:
    return {**write_identity(authority, tmp_path), "ssl.clientAuth": "none"}


@pytest.fixture
def reloading(keys: dict[str, Any]) -> Iterator[str]:
    with secure_server(keys) as address:
        yield address


@pytest.fixture
def keeping(keys: dict[str, Any]) -> Iterator[str]:
    with secure_server({**keys, "client.certReload": "false"}) as address:
        yield address


@pytest.fixture
def unified(keys: dict[str, Any]) -> Iterator[str]:
    """Where a server's only port is, which takes both."""
    with start_ensemble(settings={**keys, "client.portUnification": "true"}) as ensemble:
        yield ensemble.hosts


async def test_one_port_takes_clients_with_tls_and_without(unified: str, authority: trustme.CA) -> None:
    with trio.fail_after(30):
        async with (
            open_zookeeper(unified) as plain,
            open_zookeeper(unified, tls=trusting(authority)) as secure,
        ):
            await plain.create("/both", b"plain")
            await secure.set("/both", b"s" * 200_000)
            await plain.sync("/both")
            assert (await plain.get("/both"))[0] == b"s" * 200_000
            words = (await plain.command(b"ruok"), await secure.command(b"ruok"))
    assert words == ("imok", "imok")


def test_a_word_shorter_than_a_tls_header_is_plain(unified: str) -> None:
    host, port = unified.split(":")
    with socket.create_connection((host, int(port)), 10) as asking:
        asking.sendall(b"r")
        asking.sendall(b"uok")
        assert asking.recv(100) == b"imok"


def test_whoever_comes_and_goes_without_a_word_harms_nobody(unified: str) -> None:
    host, port = unified.split(":")
    for first in (b"", b"\x16", b"\x16\x03\x01\xff\xff"):
        with socket.create_connection((host, int(port)), 10) as stranger:
            stranger.sendall(first)
    with socket.create_connection((host, int(port)), 10) as asking:
        asking.sendall(b"ruok")
        assert asking.recv(100) == b"imok"


async def test_new_certificates_are_shown_without_a_restart(
    reloading: str, authority: trustme.CA, tmp_path: Path
) -> None:
    successor = trustme.CA()
    with trio.fail_after(30):
        async with open_zookeeper(reloading, tls=trusting(authority)) as before:
            write_identity(successor, tmp_path)
            async with open_zookeeper(reloading, tls=trusting(successor)) as after:
                await after.create("/renewed")
            # Whoever was connected stays so.
            assert await before.exists("/renewed")


async def test_certificates_stay_where_reading_again_is_switched_off(
    keeping: str, authority: trustme.CA, tmp_path: Path
) -> None:
    write_identity(trustme.CA(), tmp_path)
    with trio.fail_after(30):
        async with open_zookeeper(keeping, tls=trusting(authority)) as zk:
            assert await zk.exists("/")


def test_a_key_store_that_cannot_be_used_is_named_at_the_start(keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("no certificate")
    keys["ssl.keyStore.location"] = tmp_path / "broken.pem"
    with pytest.raises(EnsembleError, match=r"ssl\.keyStore\.location .*broken\.pem cannot be used"):
        with secure_server(keys):
            pytest.fail("it must not start")
