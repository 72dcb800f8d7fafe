"""Certificates for the clusters of `kazoo.testing`: one authority, one for the servers, one for their clients.

Decides what stands in them, and in which files servers find them. Needs the package trustme.
"""

from __future__ import annotations

from pathlib import Path

from ..exceptions import ConfigurationError


class Certificates:
    """An authority that is made for one cluster, and what it has issued. PEM throughout.

    Raises:
        ConfigurationError: the package trustme is missing.
    """

    def __init__(self) -> None:
        try:
            import trustme  # a second's third to import, for clusters that speak TLS only
        except ImportError as error:
            raise ConfigurationError(f"a cluster that speaks TLS needs the package trustme ({error})") from error
        authority = trustme.CA()
        server = authority.issue_cert("localhost", "127.0.0.1")
        # With a name beside its subject's: Python 3.13 takes no other.
        client = authority.issue_cert("client", common_name="client")
        self._server = server.private_key_and_cert_chain_pem.bytes()
        self.for_clients = {
            "client_key": client.private_key_pem.bytes(),
            "client_cert": b"".join(pem.bytes() for pem in client.cert_chain_pems),
            "ca_cert": authority.cert_pem.bytes(),
        }
        """What kazoo's `get_ssl_client_configuration` gives."""

    def settings(self, folder: Path) -> dict[str, str]:
        """Writes what servers need into a folder, and returns the settings with which their one port speaks TLS too.

        As with kazoo's cluster, a client needs a certificate there.
        """
        key_store, trust_store = folder / "server.pem", folder / "authority.pem"
        key_store.write_bytes(self._server)
        trust_store.write_bytes(self.for_clients["ca_cert"])
        return {
            "client.portUnification": "true",
            "ssl.keyStore.location": str(key_store),
            "ssl.trustStore.location": str(trust_store),
        }
