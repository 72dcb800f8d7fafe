"""TLS identities in the form that ZooKeeper's PEM stores read.

Decides the files and the ssl.* settings of a test server. Refuses to know the client's side: there a context is made
with `ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())`.
"""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


def server_identity(authority: trustme.CA, folder: Path, host: str = "127.0.0.1") -> dict[str, Path]:
    """Issues a certificate for `host` and writes the stores; returns their lines for zoo.cfg.

    ZooKeeper reads private keys as PKCS#8 only, and trustme writes the older form.

    Args:
        authority: signs the server's certificate; clients with a certificate of the same authority are trusted.
        folder: where server.pem and authority.pem are written.
    """
    identity = authority.issue_cert(host)
    key = load_pem_private_key(identity.private_key_pem.bytes(), password=None)
    chain = b"".join(blob.bytes() for blob in identity.cert_chain_pems)
    key_store = folder / "server.pem"
    key_store.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)
    trust_store = folder / "authority.pem"
    trust_store.write_bytes(authority.cert_pem.bytes())
    return {"ssl.keyStore.location": key_store, "ssl.trustStore.location": trust_store}
