"""What the keys for TLS say together, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from terzetto.testcluster.config_tls import QuorumTlsSettings, TlsSettings

STORE, TRUST = Path("/server.pem"), Path("/trust.pem")


@pytest.mark.parametrize(
    ("settings", "mistakes"),
    [
        (TlsSettings(key_store=STORE, trust_store=TRUST), []),
        (TlsSettings(key_store=STORE, client_auth="none"), []),
        (TlsSettings(client_auth="none"), ["port needs ssl.keyStore.location"]),
        (TlsSettings(key_store=STORE), ["ssl.clientAuth=need needs ssl.trustStore.location"]),
        (TlsSettings(key_store=STORE, client_auth="want"), ["ssl.clientAuth=want needs ssl.trustStore.location"]),
        (QuorumTlsSettings(key_store=STORE, trust_store=TRUST), []),
        (
            QuorumTlsSettings(),
            [
                "port needs ssl.quorum.keyStore.location",
                "ssl.quorum.clientAuth=need needs ssl.quorum.trustStore.location",
            ],
        ),
        # Whoever asks for no certificate must still be able to judge those of the servers that it dials.
        (QuorumTlsSettings(key_store=STORE, client_auth="none"), ["port needs ssl.quorum.trustStore.location"]),
    ],
)
def test_what_is_missing_is_named(settings: TlsSettings, mistakes: list[str]) -> None:
    assert settings.mistakes("port") == mistakes


def test_the_password_of_the_key_is_in_no_repr() -> None:
    for made in (TlsSettings(key_store_password="hunter2"), QuorumTlsSettings(key_store_password="hunter2")):
        assert "hunter2" not in repr(made)


def test_files_are_read_again_and_names_checked_unless_said_otherwise() -> None:
    assert TlsSettings().reload
    assert QuorumTlsSettings().reload
    assert QuorumTlsSettings().verify_names
