"""Certificates for kazoo's cluster."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from terzetto.client.kazoo.exceptions import ConfigurationError
from terzetto.client.kazoo.testing._certificates import Certificates


def test_both_ends_trust_each_other(tmp_path: Path) -> None:
    made = Certificates()
    settings = made.settings(tmp_path)
    for name, pem in made.for_clients.items():
        (tmp_path / name).write_bytes(pem)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings["ssl.trustStore.location"])
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(settings["ssl.keyStore.location"])
    client = ssl.create_default_context(cafile=tmp_path / "ca_cert")
    client.load_cert_chain(tmp_path / "client_cert", tmp_path / "client_key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[1].getpeercert() != {}
    assert ends[0].version() == ends[1].version() == "TLSv1.3"


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ConfigurationError, match="trustme"):
        Certificates()
