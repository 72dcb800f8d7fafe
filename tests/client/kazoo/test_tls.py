"""The TLS context that kazoo's arguments describe."""

from __future__ import annotations

import ssl
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from terzetto.client.kazoo._tls import make_tls
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConfigurationError
from terzetto.client.kazoo.handlers.threading import KazooTimeoutError
from terzetto.testcluster import start_ensemble
from terzetto.testcluster.reserved_port import ReservedPort


def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    plain = {
        "ca": str(ca),
        "certfile": str(cert),
        "keyfile": str(key),
        "keyfile_password": None,
        "verify_certs": True,
        "check_hostname": True,
    }
    assert make_tls(use_ssl=False, **plain) is None  # type: ignore[arg-type]
    context = make_tls(use_ssl=True, **plain)  # type: ignore[arg-type]
    assert context is not None
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    loose = make_tls(use_ssl=True, **{**plain, "verify_certs": False, "check_hostname": False})  # type: ignore[arg-type]
    assert loose is not None
    assert loose.verify_mode == ssl.CERT_NONE
    with pytest.raises(ConfigurationError):
        make_tls(use_ssl=True, **{**plain, "verify_certs": False})  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No such file"):
        make_tls(use_ssl=True, **{**plain, "ca": str(tmp_path / "none.pem")})  # type: ignore[arg-type]
    picky = make_tls(use_ssl=True, **plain, ciphers="ECDHE+AESGCM", options=int(ssl.OP_NO_TICKET))  # type: ignore[arg-type]
    assert picky is not None
    assert picky.options & ssl.OP_NO_TICKET
    assert all("GCM" in cipher["name"] or cipher["protocol"] == "TLSv1.3" for cipher in picky.get_ciphers())


def test_a_client_shows_its_certificate_whose_key_is_encrypted(tmp_path: Path) -> None:
    authority = trustme.CA()
    server, ca, cert, key = (tmp_path / name for name in ("server.pem", "ca.pem", "cert.pem", "key.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(server)
    authority.cert_pem.write_to_path(ca)
    mine = authority.issue_cert("a-client")
    mine.cert_chain_pems[0].write_to_path(cert)
    private = serialization.load_pem_private_key(mine.private_key_pem.bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, encryption))
    port = ReservedPort()
    settings = {
        "secureClientPort": port.number,
        "secureClientPortAddress": "127.0.0.1",
        "ssl.keyStore.location": server,
        "ssl.trustStore.location": ca,
        "ssl.clientAuth": "need",
    }
    with closing(port), start_ensemble(settings=settings):
        options = {"ca": str(ca), "certfile": str(cert), "keyfile": str(key), "keyfile_password": "secret"}
        with KazooClient(f"127.0.0.1:{port.number}", use_ssl=True, check_hostname=True, **options) as client:  # type: ignore[arg-type]
            assert client.exists("/") is not None
        stranger = KazooClient(f"127.0.0.1:{port.number}", use_ssl=True, ca=str(ca), connection_retry={"max_tries": 1})
        with pytest.raises(KazooTimeoutError):
            stranger.start(timeout=5)
