"""kazoo's `sasl_options`, turned into what the native client takes.

kazoo hands them to the package pure-sasl; here both mechanisms that ZooKeeper has are the native client's own. Opens
nothing, and shows no password.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._effects import SaslMechanism
from .._gssapi import Gssapi
from .._sasl import SERVER, DigestMd5
from .exceptions import ConfigurationError

_SERVICE = "zookeeper"
_KNOWN = {
    "DIGEST-MD5": frozenset({"username", "password", "service", "principal"}),
    "GSSAPI": frozenset({"service", "principal"}),
}
# Of pure-sasl's, those that choose among what ZooKeeper does not have, or that it ignores.
_WITHOUT_MEANING = frozenset({"authorization_id", "max_buffer", "mutual_auth", "qops"})


def mechanism_of(options: Mapping[str, Any] | None) -> Callable[[str], SaslMechanism] | None:
    """What `open_zookeeper(sasl=)` takes for kazoo's options, `None` for none.

    Raises:
        ConfigurationError: an option is missing, or cannot be used.
    """
    if options is None:
        return None
    name = options.get("mechanism")
    if name not in _KNOWN:
        raise ConfigurationError(f"sasl_options: mechanism must be {' or '.join(_KNOWN)}, not {name!r}")
    given = {key: value for key, value in options.items() if key not in _WITHOUT_MEANING and key != "mechanism"}
    unknown = sorted(given.keys() - _KNOWN[name])
    if unknown:
        raise ConfigurationError(f"sasl_options: {', '.join(unknown)} cannot be used with {name}")
    if name == "GSSAPI":
        return Gssapi(service=given.get("service", _SERVICE), principal=given.get("principal"))
    if given.get("service", _SERVICE) != _SERVICE or given.get("principal", SERVER) != SERVER:
        raise ConfigurationError(f"sasl_options: every ZooKeeper server is {_SERVICE}/{SERVER} to DIGEST-MD5")
    missing = [key for key in ("username", "password") if given.get(key) is None]
    if missing:
        raise ConfigurationError(f"sasl_options: DIGEST-MD5 needs {' and '.join(missing)}")
    return DigestMd5(_text(given, "username"), _text(given, "password"))


def _text(options: Mapping[str, Any], key: str) -> str:
    value = options[key]
    if isinstance(value, bytes):
        # Not chained: the error holds the text.
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ConfigurationError(f"sasl_options: {key} is no UTF-8") from None
    if not isinstance(value, str):
        raise ConfigurationError(f"sasl_options: {key} must be a str")
    return value
