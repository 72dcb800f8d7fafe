"""kazoo's constructor arguments and what they mean here."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from terzetto.client.kazoo._options import make_retry, make_tls, take_auth, take_old_arguments
from terzetto.client.kazoo.exceptions import ConfigurationError
from terzetto.client.kazoo.handlers.threading import SequentialThreadingHandler
from terzetto.client.kazoo.retry import KazooRetry

HANDLER = SequentialThreadingHandler()


def test_the_default_policy_is_kazoos() -> None:
    retry = make_retry("command_retry", None, {}, HANDLER)
    assert (retry.max_tries, retry.delay, retry.backoff, retry.max_delay, retry.max_jitter) == (None, 0.1, 2, 3600, 0.4)
    assert retry.sleep_func is HANDLER.sleep_func
    assert make_retry("command_retry", {"max_tries": 3}, {}, HANDLER).max_tries == 3
    assert make_retry("command_retry", None, {"max_tries": 4}, HANDLER).max_tries == 4


def test_a_subclass_is_taken_as_it_is() -> None:
    class Mine(KazooRetry):
        pass

    mine = Mine(sleep_func=HANDLER.sleep_func)
    assert make_retry("command_retry", mine, {}, HANDLER) is mine


@pytest.mark.parametrize("value", [5, "x", KazooRetry(sleep_func=print)])
def test_another_value_is_named(value: object) -> None:
    with pytest.raises(ConfigurationError, match="command_retry"):
        make_retry("command_retry", value, {}, HANDLER)


def test_old_arguments_are_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="max_retries"):
        assert take_old_arguments({"max_retries": 3}) == {"max_tries": 3}
    with pytest.raises(TypeError, match="surprise"):
        take_old_arguments({"surprise": 1})


def test_old_sasl_credentials_become_options() -> None:
    with pytest.warns(DeprecationWarning, match="sasl"):
        pairs, options = take_auth([("sasl", "u:p:q"), ("digest", "a:b")], None)
    assert pairs == {("digest", "a:b")}
    assert options == {"mechanism": "DIGEST-MD5", "username": "u", "password": "p:q"}
    with pytest.raises(ConfigurationError):
        take_auth([("sasl", "u:p")], {"mechanism": "GSSAPI"})


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
