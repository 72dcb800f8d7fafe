"""The arguments of `KazooClient`, checked, and in the form that the native client takes.

Decides what an argument means; opens nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, cast

from .exceptions import ConfigurationError
from .handlers.threading import SequentialThreadingHandler
from .retry import KazooRetry

_OLD_RETRY_ARGUMENTS = {
    "max_retries": "max_tries",
    "retry_delay": "delay",
    "retry_backoff": "backoff",
    "retry_max_delay": "max_delay",
}
_RETRY_DEFAULTS: dict[str, Any] = {"max_tries": None, "delay": 0.1, "backoff": 2, "max_jitter": 0.4, "max_delay": 3600}


def make_retry(name: str, given: object, old: dict[str, Any], handler: SequentialThreadingHandler) -> KazooRetry:
    """The policy from a `KazooRetry`, a dict of its arguments, or `None`.

    Args:
        name: of the argument, for messages.
        given: its value. A subclass of `KazooRetry` is taken as it is (kazoo ignores it).
        old: deprecated arguments of the client, used where nothing is given.
        handler: whose way of sleeping the policy must have.

    Raises:
        ConfigurationError: the value is none of these, or sleeps otherwise than the handler.
    """
    if isinstance(given, KazooRetry):
        if given.sleep_func is not handler.sleep_func:
            raise ConfigurationError(f"{name}: its sleep_func is not that of the handler")
        return given
    if given is not None and not isinstance(given, dict):
        raise ConfigurationError(f"{name} must be a KazooRetry, a dict of its arguments or None, not {given!r}")
    arguments: dict[str, Any] = {**_RETRY_DEFAULTS, "sleep_func": handler.sleep_func}
    arguments.update(old if given is None else cast("dict[str, Any]", given))
    return KazooRetry(**arguments)


def take_old_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """kazoo's deprecated retry arguments under their present names.

    Raises:
        TypeError: another argument is left.
    """
    found: dict[str, Any] = {}
    for old, new in _OLD_RETRY_ARGUMENTS.items():
        if old in kwargs:
            warnings.warn(f"KazooClient({old}=) is deprecated: use command_retry", DeprecationWarning, stacklevel=3)
            found[new] = kwargs.pop(old)
    if kwargs:
        raise TypeError(f"KazooClient() got unexpected keyword arguments: {', '.join(sorted(kwargs))}")
    return found


def take_auth(
    auth_data: Iterable[tuple[str, str]] | None, sasl_options: dict[str, Any] | None
) -> tuple[set[tuple[str, str]], dict[str, Any] | None]:
    """The credentials, with kazoo's old form of SASL ("sasl", "user:password") turned into options."""
    pairs: set[tuple[str, str]] = set() if auth_data is None else set(auth_data)
    for pair in list(pairs):
        scheme, credential = pair
        if scheme != "sasl":
            continue
        if sasl_options is not None:
            raise ConfigurationError("SASL credentials are in auth_data and in sasl_options; give one of them")
        text = "auth_data with the scheme 'sasl' is deprecated: use sasl_options"
        warnings.warn(text, DeprecationWarning, stacklevel=3)
        user, _, password = credential.partition(":")
        sasl_options = {"mechanism": "DIGEST-MD5", "username": user, "password": password}
        pairs.discard(pair)
    return pairs, sasl_options
