"""The TLS context that kazoo's arguments describe."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from terzetto.client.kazoo._tls import make_tls
from terzetto.client.kazoo.exceptions import ConfigurationError


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
