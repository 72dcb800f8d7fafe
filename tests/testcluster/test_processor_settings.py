"""What of a configuration reaches the state machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from terzetto.testcluster.config import build_config
from terzetto.testcluster.config_syntax import Setting
from terzetto.testcluster.processor_settings import processor_settings
from terzetto.testcluster.settings import ServerSettings


def settings(given: Mapping[str, str], secret: bytes | None = None) -> ServerSettings:
    lines = [Setting(key, value, "f", 0) for key, value in {"dataDir": "/d", **given}.items()]
    return processor_settings(build_config(lines), secret=secret, random_bytes=bytes)


def test_defaults_are_zookeepers() -> None:
    found = settings({})
    given = ("min_session_timeout_ms", "max_session_timeout_ms", "digest_algorithm")
    expected = ServerSettings(**{name: getattr(found, name) for name in given})
    assert found == expected
    assert (found.min_session_timeout_ms, found.max_session_timeout_ms) == (6000, 60_000)
    assert found.digest_algorithm.lower() == expected.digest_algorithm.lower()


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"tickTime": "7", "maxSessionTimeout": "50"}, "tick_ms", 7),
        ({"jute.maxbuffer": "4096"}, "max_frame", 4096),
        ({"skipACL": "yes"}, "skip_acl", True),
        ({"DigestAuthenticationProvider.enabled": "false"}, "digest_enabled", False),
        ({"DigestAuthenticationProvider.superDigest": "super:x"}, "digest_super", "super:x"),
        ({"authProvider.1": "x.SASLAuthenticationProvider"}, "sasl_acls", True),
        ({"superUser": "a", "superUser.1": "b"}, "sasl_super", ("a", "b")),
        ({"letAnySaslUserDoX": "x"}, "sasl_anyone", "x"),
        ({"allowSaslFailedClients": "true"}, "sasl_failed_allowed", True),
        ({"enforce.auth.enabled": "true", "enforce.auth.schemes": "digest"}, "required_schemes", ("digest",)),
        ({"secureClientPort": "1", "ssl.keyStore.location": "/k.pem", "ssl.clientAuth": "none"}, "x509_acls", True),
        ({"authProvider.1": "x.X509AuthenticationProvider"}, "x509_acls", True),
        (
            {"client.portUnification": "true", "ssl.keyStore.location": "/k.pem", "ssl.clientAuth": "none"},
            "x509_acls",
            True,
        ),
        ({"digest.enabled": "false"}, "tree_digest", False),
    ],
)
def test_keys_arrive(given: dict[str, str], field: str, value: Any) -> None:
    assert getattr(settings({}), field) != value
    assert getattr(settings(given), field) == value


def test_sasl_is_on_where_somebody_has_a_password() -> None:
    assert settings({}).sasl_exchange is None
    begin = settings({"saslUser.bob": "s3cret"}, b"s3cret").sasl_exchange
    assert begin is not None
    assert begin().step(b"") == b'realm="zk-sasl-md5",nonce="' + b"A" * 40 + b'",charset=utf-8,algorithm=md5-sess'


def test_settings_show_no_secret() -> None:
    given = {"saslUser.bob": "s3cret", "DigestAuthenticationProvider.superDigest": "super:s3cret"}
    found = settings(given, b"s3cret")
    assert "s3cret" not in repr(found)
    assert "DIGEST-MD5 for 1 users" in repr(found)
    assert found.session_secret == b"s3cret"
    assert found.sasl_exchange is not None
    assert "s3cret" not in f"{found.sasl_exchange()!r}"
