"""Hypothesis strategies for every record, from its declaration; and the same record as the second codec writes it.

Reads annotations with `typing` alone, so that it shares nothing with the compiler.
"""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from hypothesis import HealthCheck, settings, strategies as st

from terzetto.client.values import ACL, ClientInfo, Id, ZnodeStat
from terzetto.client.wire.multi import READ_REQUESTS, WRITE_REQUESTS, MultiOp, MultiResult
from terzetto.client.wire.operations import Opcode
from terzetto.client.wire.primitives import Blob, Scalar, Sequence, Text

from ...vectors import jute
from .golden import RECORD_CLASSES

CLASSES: dict[str, Any] = {cls.__name__: cls for cls in RECORD_CLASSES}

# The machine may be slow; what is tested is not how fast examples are made.
PATIENT = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(["/", "/a/b", "\U0001f600"])
BUFFERS = st.none() | st.binary(max_size=20)
OPTIONAL_TEXTS = st.none() | TEXTS
_SCALARS: dict[str, st.SearchStrategy[Any]] = {"?": st.booleans(), "i": INTS, "q": LONGS}
IDS = st.builds(Id, OPTIONAL_TEXTS, OPTIONAL_TEXTS)
ACLS = st.builds(ACL, INTS, IDS)
STATS = st.tuples(LONGS, LONGS, LONGS, LONGS, INTS, INTS, INTS, LONGS, INTS, INTS, LONGS).map(lambda v: ZnodeStat(*v))
_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    ACL: ACLS,
    ZnodeStat: STATS,
    ClientInfo: st.builds(ClientInfo, TEXTS, TEXTS),
}


_instances: dict[Any, st.SearchStrategy[Any]] = {}


def instances(cls: Any) -> st.SearchStrategy[Any]:
    """Records of a class with any values that its declaration allows."""
    if cls not in _instances:
        hints = get_type_hints(cls, include_extras=True)
        fields = st.tuples(*(_values(hints[name]) for name in cls._fields))
        _instances[cls] = fields.map(lambda values: cls(*values))
    return _instances[cls]


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is not Annotated:
        return _VALUES[hint]
    plain, *kinds = get_args(hint)
    for kind in kinds:
        if isinstance(kind, Scalar):
            return _SCALARS[kind.code]
        if isinstance(kind, Text):
            return OPTIONAL_TEXTS if kind.nullable else TEXTS
        if isinstance(kind, Blob):
            return BUFFERS
        if isinstance(kind, Sequence):
            vectors = st.lists(_values(_element(plain)), max_size=5)
            return st.none() | vectors if kind.nullable else vectors
    raise AssertionError(f"no wire type in {hint!r}")


def _element(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        hint = next(choice for choice in get_args(hint) if get_origin(choice) is list)
    return get_args(hint)[0]


def plainly_encoded(record: Any) -> bytes:
    """A record's bytes as the second codec of `tests.vectors` writes them."""
    name = type(record).__name__.removeprefix("Short")
    fields = [field.partition(":")[0] for field in jute.RECORDS[name].split()]
    return jute.encode(name, dict(zip(fields, map(_plain, record), strict=False)))


def _plain(value: Any) -> Any:
    if value.__class__ is list:
        return [_plain(item) for item in value]
    if isinstance(value, ACL):
        return [value.perms, value.id.scheme, value.id.id]
    return list(value) if isinstance(value, (ZnodeStat, ClientInfo)) else value


def multi_ops(allowed: dict[int, type[Any]]) -> st.SearchStrategy[list[MultiOp]]:
    """Operations that a multi (or multiRead) may hold."""
    one = [st.builds(MultiOp, st.just(int(opcode)), instances(cls)) for opcode, cls in allowed.items()]
    return st.lists(st.one_of(one), max_size=6)


MULTIS = multi_ops(WRITE_REQUESTS)
MULTI_READS = multi_ops(READ_REQUESTS)
_RESULT_RECORDS = {
    Opcode.CREATE: "CreateResponse",
    Opcode.CREATE2: "Create2Response",
    Opcode.SET_DATA: "SetDataResponse",
    Opcode.GET_DATA: "GetDataResponse",
    Opcode.GET_CHILDREN: "GetChildrenResponse",
}
_RESULTS: list[st.SearchStrategy[MultiResult]] = [
    *(
        st.builds(MultiResult, st.just(int(kind)), INTS, instances(CLASSES[name]))
        for kind, name in _RESULT_RECORDS.items()
    ),
    st.builds(MultiResult, st.sampled_from([int(Opcode.DELETE), int(Opcode.CHECK)]), INTS, st.none()),
    st.builds(MultiResult, st.just(-1), INTS, st.none()),
]
RESULTS = st.lists(st.one_of(_RESULTS), max_size=6)
"""Results of a multi or multiRead."""
