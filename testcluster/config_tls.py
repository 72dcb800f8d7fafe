"""The keys of a configuration that say with which certificates a server speaks TLS, to clients and to other servers.

Decides what follows from them together. Refuses to read a certificate (`tls_port.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The `ssl.*` keys of the client ports. Stores are PEM files.

    Attributes:
        key_store: certificate chain and private key.
        key_store_password: of the key, `None` for a key without one.
        trust_store: the authorities whose certificates are accepted.
        client_auth: whether whoever connects needs a certificate: "none", "want" or "need".
        protocols: "TLSv1.2", "TLSv1.3"; both where there is none.
        ciphers: OpenSSL's names for TLS 1.2; OpenSSL's own choice where there is none.
        reload: whether files that have changed are read again (`client.certReload`, which is off in ZooKeeper).
        is_unified: `client.portUnification`: the plain port speaks TLS, too.
        key_store_password_path: a file with that password, which then counts instead; read with the key.
    """

    PREFIX: ClassVar[str] = "ssl"

    key_store: Path | None = None
    key_store_password: str | None = field(default=None, repr=False)
    trust_store: Path | None = None
    client_auth: str = "need"
    protocols: tuple[str, ...] = ()
    ciphers: tuple[str, ...] = ()
    reload: bool = True
    is_unified: bool = False
    key_store_password_path: Path | None = None

    def mistakes(self, key: str) -> list[str]:
        """What is missing for the port that `key` opens."""
        missing: list[str] = []
        if self.key_store is None:
            missing.append(f"{key} needs {self.PREFIX}.keyStore.location")
        if self.trust_store is None and self.client_auth != "none":
            missing.append(f"{self.PREFIX}.clientAuth={self.client_auth} needs {self.PREFIX}.trustStore.location")
        return missing


@dataclass(frozen=True, slots=True)
class QuorumTlsSettings(TlsSettings):
    """The `ssl.quorum.*` keys: how the servers of an ensemble speak to each other.

    Attributes:
        is_used: `sslQuorum`: whom this server dials, it dials with TLS.
        is_unified: `portUnification`: who dials this server may do it with TLS or without.
        reload: see `TlsSettings`; `sslQuorumReloadCertFiles`.
        verify_names: `ssl.quorum.hostnameVerification`: a server that is dialled must have a certificate for its host.
        verify_dialler_names: `ssl.quorum.clientHostnameVerification`: and one that dials, for a host of the ensemble or
            for the address that it comes from. As `verify_names` where nothing is said.
    """

    PREFIX: ClassVar[str] = "ssl.quorum"

    is_used: bool = False
    verify_names: bool = True
    verify_dialler_names: bool | None = None

    def mistakes(self, key: str) -> list[str]:
        """See `TlsSettings.mistakes`."""
        missing = TlsSettings.mistakes(self, key)
        if self.trust_store is None and self.client_auth == "none":
            missing.append(f"{key} needs {self.PREFIX}.trustStore.location")
        return missing
