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
    payload: Any = None
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
_CLASS = re.compile(r"(?:[a-z_]\w*\.)+[A-Z][\w$]*")


class UnreadableInstanceError(ValueError):
    """A znode below a service does not hold an instance."""


def _parts(template: str) -> list[tuple[str, bool]]:
    """A template's texts and variables, in order: (text, is a variable)."""
    pieces = _VARIABLE.split(template)
    return [(piece, bool(index % 2)) for index, piece in enumerate(pieces) if piece]


def encode(instance: ServiceInstance) -> bytes:
    """The znode's data.

    Raises:
        TypeError, ValueError: the payload is nothing that JSON can hold.
    """
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


def _typed(value: object) -> object:
    """Lists in the form that Jackson reads where it knows no type; everything else it reads as it is."""
    if (entries := _entries(value)) is not None:
        return {key: _typed(inner) for key, inner in entries.items()}
    if (items := _items(value)) is not None:
        return ["java.util.ArrayList", [_typed(inner) for inner in items]]
    return value


def _untyped(value: object) -> object:
    """Without Jackson's names of classes: `["java.lang.Long", 7]`, `{"@class": ..., ...}`."""
    if (entries := _entries(value)) is not None:
        return {key: _untyped(inner) for key, inner in entries.items() if key != "@class"}
    if (items := _items(value)) is not None:
        if len(items) == 2 and isinstance(items[0], str) and _CLASS.fullmatch(items[0]):
            return _untyped_inside(items[1])
        return [_untyped(item) for item in items]
    return value


def _untyped_inside(value: object) -> object:
    """What a name of a class was taken off: a list is a list now, whatever its items look like."""
    items = _items(value)
    return _untyped(value) if items is None else [_untyped(item) for item in items]


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
            enabled=_of(given, "enabled", bool, True),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnreadableInstanceError(f"not an instance: {error}") from error


def _of(record: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = record.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{key} is {value!r}")
    return value


def _template(spec: Any) -> str | None:
    if spec is None:
        return None
    return "".join(f"{{{part['value']}}}" if part["variable"] else part["value"] for part in spec["parts"])
