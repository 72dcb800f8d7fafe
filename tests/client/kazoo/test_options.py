"""kazoo's constructor arguments and what they mean here."""

from __future__ import annotations

import pytest

from terzetto.client.kazoo._options import make_retry, take_auth, take_old_arguments
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
