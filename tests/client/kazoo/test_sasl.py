"""kazoo's `sasl_options`: what each becomes, and clients that use them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from terzetto.client import DigestMd5
from terzetto.client.kazoo._sasl import mechanism_of
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import AuthFailedError, ConfigurationError, NoAuthError
from terzetto.client.kazoo.security import CREATOR_ALL_ACL
from terzetto.testcluster import BlockingEnsemble, start_ensemble

PASSWORD: dict[str, Any] = {"mechanism": "DIGEST-MD5", "username": "bob", "password": "bobsecret"}


@pytest.mark.parametrize(
    "more", [{}, {"service": "zookeeper", "principal": "zk-sasl-md5"}, {"qops": (), "max_buffer": 1}]
)
def test_a_password(more: dict[str, Any]) -> None:
    assert mechanism_of({**PASSWORD, **more}) == DigestMd5("bob", "bobsecret")
    assert mechanism_of({**PASSWORD, **more, "password": b"bobsecret"}) == DigestMd5("bob", "bobsecret")


def test_none() -> None:
    assert mechanism_of(None) is None


def test_kerberos_without_its_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ConfigurationError, match=r"terzetto\[sasl\]"):
        KazooClient(sasl_options={"mechanism": "GSSAPI", "service": "zk", "principal": "ada@R"})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "mechanism must be DIGEST-MD5 or GSSAPI, not None"),
        ({**PASSWORD, "mechanism": "PLAIN"}, "not 'PLAIN'"),
        ({**PASSWORD, "realm": "x"}, "realm cannot be used with DIGEST-MD5"),
        ({"mechanism": "GSSAPI", "password": "x"}, "password cannot be used with GSSAPI"),
        ({**PASSWORD, "service": "other"}, "zookeeper/zk-sasl-md5"),
        ({"mechanism": "DIGEST-MD5", "username": "bob"}, "needs password"),
        ({**PASSWORD, "password": b"bobsecret\xff"}, "password is no UTF-8"),
        ({**PASSWORD, "username": 7}, "username must be a str"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        KazooClient(sasl_options=options)
    assert "bobsecret" not in str(caught.value)


@pytest.fixture(scope="module")
def identifying() -> Iterator[BlockingEnsemble]:
    with start_ensemble(sasl_users={"bob": "bobsecret", "eve": "evesecret"}) as ensemble:
        yield ensemble


def run(hosts: str, path: str, **options: Any) -> Any:
    client = KazooClient(hosts, **options)
    client.start()
    try:
        client.ensure_path(path, acl=CREATOR_ALL_ACL if options else None)
        return client.get(path)[0]
    finally:
        client.stop()
        client.close()


def test_a_client_is_who_it_says(identifying: BlockingEnsemble) -> None:
    assert run(identifying.hosts, "/bobs", sasl_options=PASSWORD) == b""
    with pytest.warns(DeprecationWarning, match="sasl_options"):
        assert run(identifying.hosts, "/bobs", auth_data=[("sasl", "bob:bobsecret")]) == b""
    for options in ({}, {"sasl_options": {**PASSWORD, "username": "eve", "password": "evesecret"}}):
        with pytest.raises(NoAuthError):
            run(identifying.hosts, "/bobs", **options)


def test_a_wrong_password_is_said_by_start_and_never_shows_as_connected(identifying: BlockingEnsemble) -> None:
    states: list[str] = []
    client = KazooClient(identifying.hosts, sasl_options={**PASSWORD, "password": "wrong"})
    client.add_listener(states.append)
    with pytest.raises(AuthFailedError, match="SASL"):
        client.start()
    assert "CONNECTED" not in states
    assert not client.connected
