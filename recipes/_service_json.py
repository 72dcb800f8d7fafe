"""A service instance and its JSON: that of Curator's service discovery, so that Java and Python find each other.

Written like Curator's own serializer (compact, the same keys in the same order), read tolerantly: unknown keys are
ignored, missing ones have Curator's defaults, and Jackson's class names are taken off the payload. Knows no znodes.
"""

from __future__ import annotations

import enum
import json
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

DEPTH_MAX = 500
"""Levels of values within values that a record may have."""


class ServiceType(enum.Enum):
    """How an instance's znode lives."""

    DYNAMIC = "DYNAMIC"
    """Ephemeral: it goes with its session."""
    STATIC = "STATIC"
    """Persistent, until it is taken off."""
    PERMANENT = "PERMANENT"
    """Persistent, until it is taken off."""
    DYNAMIC_SEQUENTIAL = "DYNAMIC_SEQUENTIAL"
    """Curator's; can be read, not registered."""


@dataclass(frozen=True)
class ServiceInstance:
    """One instance of a service.

    Attributes:
        name: of the service.
        id: of the instance, also the name of its znode; a random UUID if not given.
        address: host name or address.
        port: port without TLS, `None` for none.
        ssl_port: port with TLS, `None` for none.
        payload: whatever JSON can hold. For Java: a string, or a mapping.
        registration_time_utc: milliseconds since 1970; now if not given.
        service_type: how its znode lives.
        uri_spec: a template like "{scheme}://{address}:{port}/path", see `uri`.
        enabled: a provider offers it.
    """

    name: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    address: str | None = None
    port: int | None = None
    ssl_port: int | None = None
    payload: Any = field(default=None, hash=False)
    registration_time_utc: int = field(default_factory=lambda: int(time.time() * 1000))
    service_type: ServiceType = ServiceType.DYNAMIC
    uri_spec: str | None = None
    enabled: bool = True

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The payload where it is a mapping with strings as keys, else an empty one."""
        entries = _entries(self.payload)
        return _NOTHING if entries is None else MappingProxyType(entries)

    def uri(self, **variables: object) -> str:
        """The URI by its template.

        Args:
            variables: besides scheme (https where there is an `ssl_port`), name, id, address, port, ssl-port,
                registration-time-utc and service-type, which they replace; underscores stand for hyphens.

        Raises:
            ValueError: there is no template, or a variable in it is not known.
        """
        if self.uri_spec is None:
            raise ValueError(f"the instance {self.id!r} of {self.name!r} has no template of a URI")
        known: dict[str, object] = {
            "scheme": "http" if self.ssl_port is None else "https",
            "name": self.name,
            "id": self.id,
            "address": self.address or "",
            "port": "" if self.port is None else self.port,
            "ssl-port": "" if self.ssl_port is None else self.ssl_port,
            "registration-time-utc": self.registration_time_utc,
            "service-type": self.service_type.value.lower(),
            "[": "{",
            "]": "}",
        } | {key.replace("_", "-"): value for key, value in variables.items()}
        parts: list[str] = []
        for text, is_variable in _parts(self.uri_spec):
            if is_variable and text not in known:
                raise ValueError(f"the template {self.uri_spec!r} has an unknown variable {text!r}")
            parts.append(str(known[text]) if is_variable else text)
        return "".join(parts)


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_VARIABLE = re.compile(r"\{([^{}]+)\}")
# As Jackson names classes: java.util.Arrays$ArrayList, java.util.EnumSet<a.B>, [Ljava.lang.String;, [I.
_CLASS = re.compile(r"(?:\[+L)?(?:[a-z_]\w*\.)+[A-Z][\w$]*(?:<.*>)?;?|\[+[ZBCSIJFD]")
_PAIR = 2


class UnreadableInstanceError(ValueError):
    """A znode below a service does not hold an instance."""


def _parts(template: str) -> list[tuple[str, bool]]:
    """A template's texts and variables, in order: (text, is a variable)."""
    pieces = _VARIABLE.split(template)
    return [(piece.strip(), True) if index % 2 else (piece, False) for index, piece in enumerate(pieces) if piece]


def encode(instance: ServiceInstance) -> bytes:
    """The znode's data.

    Raises:
        TypeError: a field has the wrong type, or the payload is nothing that JSON can hold.
        ValueError: likewise the payload, or a number is too large for Java, whose queries fail at what they cannot
            read.
    """
    _check(instance)
    spec = instance.uri_spec
    record: dict[str, Any] = {
        "name": instance.name,
        "id": instance.id,
        "address": instance.address,
        "port": instance.port,
        "sslPort": instance.ssl_port,
        "payload": _typed(instance.payload),
        "registrationTimeUTC": instance.registration_time_utc,
        "serviceType": instance.service_type.value,
        "uriSpec": None
        if spec is None
        else {"parts": [{"value": text, "variable": variable} for text, variable in _parts(spec)]},
    }
    if not instance.enabled:
        # Curator's usual serializer has no such key and ignores it; it is written only where it says something.
        record["enabled"] = False
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _entries(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _items(value: object) -> Sequence[Any] | None:
    return cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else None


def _typed(payload: object) -> object:
    """A list in the form that Jackson needs where it knows no type. What is inside a payload has no types in JSON."""
    return payload if _items(payload) is None else ["java.util.ArrayList", payload]


def _untyped(payload: object) -> object:
    """Without Jackson's name of a class: `["java.lang.Long", 7]`, `{"@class": ..., ...}`."""
    if (entries := _entries(payload)) is not None:
        return {key: value for key, value in entries.items() if key != "@class"}
    items = _items(payload)
    if items is not None and len(items) == _PAIR and isinstance(items[0], str) and _CLASS.fullmatch(items[0]):
        return items[1]
    return payload


_TEXT = (str, "a str")
_TEXT_OR_NONE = ((str, type(None)), "a str or None")
_INT_OR_NONE = ((int, type(None)), "an int or None")
_KINDS: Mapping[str, tuple[Any, str]] = MappingProxyType(
    {
        "name": _TEXT,
        "id": _TEXT,
        "address": _TEXT_OR_NONE,
        "port": _INT_OR_NONE,
        "ssl_port": _INT_OR_NONE,
        "registration_time_utc": (int, "an int"),
        "service_type": (ServiceType, "a ServiceType"),
        "uri_spec": _TEXT_OR_NONE,
        "enabled": (bool, "a bool"),
    }
)
_BITS = MappingProxyType({"port": 32, "ssl_port": 32, "registration_time_utc": 64})


def _check(instance: ServiceInstance) -> None:
    """What others could not read is not written."""
    for name, (kind, wanted) in _KINDS.items():
        value: object = getattr(instance, name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{name} of the instance {instance.id!r} must be {wanted}, not {value!r}")
        bits = _BITS.get(name)
        if bits is not None and isinstance(value, int) and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise ValueError(
                f"{name} of the instance {instance.id!r} must fit into {bits} bits, as in Java, not {value}"
            )


def decode(data: bytes | None) -> ServiceInstance:
    """The instance that a znode holds.

    Raises:
        UnreadableInstanceError: it holds something else.
    """
    try:
        record: Any = json.loads(data or b"")
    except (ValueError, RecursionError) as error:
        raise UnreadableInstanceError(f"not JSON: {error}") from error
    given = _entries(record)
    if given is None:
        raise UnreadableInstanceError("not a JSON object")
    if data is not None and data.count(b"[") + data.count(b"{") > DEPTH_MAX and _is_deep(record):
        raise UnreadableInstanceError(f"values within values, more than {DEPTH_MAX} levels deep")
    try:
        return ServiceInstance(
            name=_of(given, "name", str, ""),
            id=_of(given, "id", str, ""),
            address=_of(given, "address", str, None),
            port=_of(given, "port", int, None),
            ssl_port=_of(given, "sslPort", int, None),
            payload=_untyped(given.get("payload")),
            registration_time_utc=_of(given, "registrationTimeUTC", int, 0),
            service_type=ServiceType(_of(given, "serviceType", str, "DYNAMIC")),
            uri_spec=_template(given.get("uriSpec")),
            # Missing means yes; null means no, as in Curator.
            enabled=_of(given, "enabled", bool, "enabled" not in given),
        )
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise UnreadableInstanceError(f"not an instance: {error}") from error


def _is_deep(value: object) -> bool:
    """Whether it has more than `DEPTH_MAX` levels. Some Pythons fail to read such values, others to compare them."""
    level = [value]
    for _ in range(DEPTH_MAX):
        if not level:
            return False
        level = [inner for outer in level for inner in ((_entries(outer) or {}).values() or _items(outer) or ())]
    return bool(level)


def _of(record: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = record.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        value = _coerced(value, kind)
        if value is None:
            raise TypeError(f"{key} is {record[key]!r}")
    return value


def _coerced(value: object, kind: type) -> object:
    """What Jackson makes of another type, `None` for nothing: others write such records, and Java finds them."""
    if kind is bool and (isinstance(value, int) or value in ("true", "false")):
        return value not in (0, "false")
    if isinstance(value, bool):
        return None
    if kind is int and isinstance(value, (str, float)):
        return int(value)
    return str(value) if kind is str and isinstance(value, (int, float)) else None


def _template(spec: Any) -> str | None:
    if spec is None:
        return None
    parts = [(part.get("value", ""), part.get("variable", False)) for part in spec.get("parts", ())]
    return "".join(f"{{{text}}}" if is_variable else text for text, is_variable in parts)
