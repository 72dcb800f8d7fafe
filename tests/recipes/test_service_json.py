"""Instances of services as JSON, as Curator 5.4 writes and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.recipes import ServiceInstance, ServiceType
from terzetto.recipes._service_json import DEPTH_MAX, UnreadableInstanceError, decode, encode

# What Curator writes for the instance below, byte for byte.
CURATORS = (
    b'{"name":"svc","id":"id-1","address":"10.0.0.1","port":8080,"sslPort":8443,"payload":"hello",'
    b'"registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC","uriSpec":{"parts":['
    b'{"value":"scheme","variable":true},{"value":"://","variable":false},{"value":"address","variable":true},'
    b'{"value":":","variable":false},{"value":"port","variable":true},{"value":"/x","variable":false}]}}'
)
INSTANCE = ServiceInstance(
    "svc",
    "id-1",
    "10.0.0.1",
    8080,
    8443,
    "hello",
    1700000000000,
    uri_spec="{scheme}://{address}:{port}/x",
)


def test_curators_own_bytes() -> None:
    assert encode(INSTANCE) == CURATORS
    assert decode(CURATORS) == INSTANCE


def test_what_is_missing_has_curators_defaults() -> None:
    assert decode(b"{}") == ServiceInstance("", "", registration_time_utc=0)
    assert decode(b'{"name":"n","id":"i","unknown":[1]}').name == "n"
    assert decode(b'{"port":null}').enabled
    assert not decode(b'{"enabled":null}').enabled
    assert decode(b'{"uriSpec":{}}').uri_spec == ""
    assert (
        decode(b'{"uriSpec":{"parts":[{"value":"x"},{"value":"port","variable":true,"z":1},{}]}}').uri_spec == "x{port}"
    )


def test_what_others_write_in_other_types_is_read_as_by_jackson() -> None:
    read = decode(b'{"address":5,"port":"80","sslPort":80.7,"registrationTimeUTC":"12","enabled":"false"}')
    assert (read.address, read.port, read.ssl_port, read.registration_time_utc, read.enabled) == (
        "5",
        80,
        80,
        12,
        False,
    )
    assert decode(b'{"enabled":1}').enabled
    assert decode(b'{"enabled":"true"}').enabled


def test_disabled_is_said_and_enabled_is_not() -> None:
    assert b"enabled" not in encode(INSTANCE)
    disabled = ServiceInstance("svc", "id-1", enabled=False)
    assert encode(disabled).endswith(b',"enabled":false}')
    assert decode(encode(disabled)) == disabled


@pytest.mark.parametrize(
    ("written", "payload"),
    [
        ('["java.lang.Long",7]', 7),
        (
            '{"@class":"java.util.LinkedHashMap","list":["a","b"],"long":7,"map":{"in":[1,2]}}',
            {"list": ["a", "b"], "long": 7, "map": {"in": [1, 2]}},
        ),
        # Only the payload itself has a class: what looks like one further inside is the service's own.
        (
            '{"plugins":["com.acme.Foo","com.acme.Bar"],"bean":{"@class":"x.Y"}}',
            {"plugins": ["com.acme.Foo", "com.acme.Bar"], "bean": {"@class": "x.Y"}},
        ),
        ('["java.util.ArrayList",[["n"],5]]', [["n"], 5]),
        ('["[Ljava.lang.String;",["a","b"]]', ["a", "b"]),
        ('["[I",[1,2]]', [1, 2]),
        ('["java.util.EnumSet<a.B>",["X"]]', ["X"]),
        ('["java.util.ImmutableCollections$Set12",["a"]]', ["a"]),
        ('["java.util.Arrays$ArrayList",["x",1]]', ["x", 1]),
        ('["java.util.ArrayList",["java.lang.Long",1]]', ["java.lang.Long", 1]),
        ('{"@class":"pkg.Bean","name":"b"}', {"name": "b"}),
        ('["a","b"]', ["a", "b"]),
        ("null", None),
        ("1.5", 1.5),
    ],
)
def test_payloads_of_java(written: str, payload: Any) -> None:
    assert decode(f'{{"payload":{written}}}'.encode()).payload == payload


def test_lists_are_written_for_jackson() -> None:
    def written(payload: Any) -> Any:
        return json.loads(encode(ServiceInstance("s", payload=payload)))["payload"]

    assert written([1, (2,)]) == ["java.util.ArrayList", [1, [2]]]
    assert written({"a": [1, (2,)]}) == {"a": [1, [2]]}, "inside a mapping Jackson reads a list as it is"


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "@class"), inner),
    max_leaves=8,
)


@given(st.text(), st.none() | st.text(), st.none() | st.integers(0, 65535), _VALUES, st.booleans())
def test_what_is_written_is_read(id_: str, address: str | None, port: int | None, payload: Any, enabled: bool) -> None:
    instance = ServiceInstance("s", id_, address, port, payload=payload, enabled=enabled)
    assert decode(encode(instance)) == instance


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"127.0.0.1",
        b"\xff",
        b"[]",
        b'{"port":"http"}',
        b'{"port":true}',
        b'{"port":NaN}',
        b'{"port":1e999}',
        b'{"port":[]}',
        b'{"address":true}',
        b'{"enabled":"maybe"}',
        b'{"serviceType":"OTHER"}',
        b'{"uriSpec":{"parts":null}}',
        b'{"uriSpec":[]}',
        b'{"uriSpec":"{scheme}"}',
        b'{"uriSpec":{"parts":[{"value":1,"variable":false}]}}',
    ],
)
def test_anything_else_is_no_instance(data: bytes | None) -> None:
    with pytest.raises(UnreadableInstanceError):
        decode(data)


def test_a_payload_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError):
        encode(ServiceInstance("s", payload=object()))
    with pytest.raises(ValueError, match="JSON"):
        encode(ServiceInstance("s", payload=float("nan")))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("id", 5),
        ("address", b"h"),
        ("port", "80"),
        ("port", True),
        ("ssl_port", 8443.0),
        ("registration_time_utc", 1.5),
        ("service_type", "DYNAMIC"),
        ("uri_spec", 5),
        ("enabled", 1),
    ],
)
def test_what_others_could_not_read_is_not_written(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"name": "svc", "id": "id-1", field: value}
    with pytest.raises(TypeError, match=rf"^{field} of the instance .* must be an? .*, not {value!r}"):
        encode(ServiceInstance(**fields))


@pytest.mark.parametrize(
    ("field", "value"), [("port", 2**31), ("ssl_port", -(2**31) - 1), ("registration_time_utc", 2**63)]
)
def test_numbers_are_no_larger_than_java_s(field: str, value: int) -> None:
    fields: dict[str, Any] = {"name": "svc", "id": "id-1", field: value}
    with pytest.raises(ValueError, match=field):
        encode(ServiceInstance(**fields))


def test_uris() -> None:
    assert INSTANCE.uri() == "https://10.0.0.1:8080/x"
    spec = "{scheme}://{address}:{ssl-port}/{version}/{[}{name}{]}"
    instance = ServiceInstance("svc", "i", "h", 1, 2, uri_spec=spec)
    assert instance.uri(version="v1") == "https://h:2/v1/{svc}"
    assert decode(encode(instance)).uri_spec == spec
    assert ServiceInstance("s", "i", None, uri_spec="{scheme}://{address}{port}").uri() == "http://"
    assert ServiceInstance("s", "i", "h", 1, uri_spec="{ address }:{ port }").uri() == "h:1", "as in Curator"
    with pytest.raises(ValueError, match="version"):
        instance.uri()
    with pytest.raises(ValueError, match="no template"):
        ServiceInstance("s").uri()


def test_metadata_is_a_payload_that_is_a_mapping() -> None:
    assert ServiceInstance("s", payload={"zone": "a"}).metadata == {"zone": "a"}
    assert ServiceInstance("s", payload="text").metadata == {}
    assert ServiceInstance("s").id != ServiceInstance("s").id
    assert ServiceInstance("s").service_type is ServiceType.DYNAMIC


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, *(b'{"payload":' + b"[" * deep + b"]" * deep + b"}" for deep in (DEPTH_MAX, 5000))]
)
def test_what_is_too_deep_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableInstanceError):
        decode(data)


def test_only_what_is_within_others_counts_as_deep() -> None:
    deep = decode(b'{"payload":' + b"[" * (DEPTH_MAX - 2) + b"]" * (DEPTH_MAX - 2) + b"}")
    assert deep == decode(encode(deep))
    assert len(decode(b'{"payload":[' + b"[]," * DEPTH_MAX + b"{}]}").payload) == DEPTH_MAX + 1


def test_instances_are_keys_whatever_their_payload_is() -> None:
    one = ServiceInstance("s", "i", payload={"zone": ["a"]}, registration_time_utc=1)
    other = ServiceInstance("s", "i", payload={"zone": ["a"]}, registration_time_utc=1)
    assert {one: "connection"}[other] == "connection"
    assert len({one, ServiceInstance("s", "i", payload="another", registration_time_utc=1)}) == 2
