"""The exception tree: as drawn, as kazoo has it, one class a server's code, and whole after a copy."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Mapping
from typing import Any

import kazoo.exceptions
import pytest
from hypothesis import given, strategies as st

from terzetto.client import GatewayRefusedError, errors
from terzetto.client.errors import (
    EXCEPTIONS,
    ConfigurationError,
    ConnectionLoss,
    FrameTooLargeError,
    KazooException,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    UnknownServerError,
    ZookeeperError,
    error_from_code,
)

from .wire.strategies import PATIENT

KAZOO: Mapping[str, Any] = vars(kazoo.exceptions)
CLASSES: dict[str, type[KazooException]] = {
    name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, KazooException)
}

# ZooKeeper's KeeperException codes that its servers put on the wire (3.5 to 3.9), and kazoo's names for them.
SENT_BY_SERVERS = {
    -2: "RuntimeInconsistency",
    -5: "MarshallingError",
    -6: "UnimplementedError",
    -8: "BadArgumentsError",
    -12: "UnknownSessionError",
    -13: "NewConfigNoQuorumError",
    -14: "ReconfigInProcessError",
    -101: "NoNodeError",
    -102: "NoAuthError",
    -103: "BadVersionError",
    -108: "NoChildrenForEphemeralsError",
    -110: "NodeExistsError",
    -111: "NotEmptyError",
    -112: "SessionExpiredError",
    -114: "InvalidACLError",
    -115: "AuthFailedError",
    -118: "SessionMovedError",
    -119: "NotReadOnlyCallError",
    -120: "EphemeralOnLocalSessionError",
    -121: "NoWatcherError",
    -123: "ReconfigDisabledError",
    -124: "SessionClosedRequireSaslError",
    -125: "QuotaExceededError",
    -127: "ThrottledOpError",
}


@pytest.mark.parametrize(("code", "name"), SENT_BY_SERVERS.items())
def test_a_code_becomes_its_class(code: int, name: str) -> None:
    error = error_from_code(code, "/a")
    assert type(error).__name__ == name
    assert type(error) is CLASSES[name] is EXCEPTIONS[code]
    assert (error.code, error.path, error.outcome_unknown) == (code, "/a", False)
    assert "/a" in str(error)
    assert error_from_code(code).path is None


def test_codes_and_names_are_kazoos() -> None:
    # kazoo's table invents no entry when it is only walked.
    assert {code: cls.__name__ for code, cls in EXCEPTIONS.items()} == {
        code: cls.__name__ for code, cls in KAZOO["EXCEPTIONS"].items()
    }
    assert {code: cls.code for code, cls in EXCEPTIONS.items()} == {code: code for code in EXCEPTIONS}


def _kazoos_classes() -> dict[str, type[Exception]]:
    return {cls.__name__: cls for cls in KAZOO.values() if isinstance(cls, type) and issubclass(cls, Exception)}


def test_whoever_catches_a_class_of_kazoo_catches_the_same_here() -> None:
    shared = _kazoos_classes().keys() & CLASSES.keys()
    assert len(shared) > len(EXCEPTIONS)
    for name in shared:
        theirs = [cls.__name__ for cls in _kazoos_classes()[name].__mro__]
        ours = [cls.__name__ for cls in CLASSES[name].__mro__]
        assert [cls for cls in ours if cls in theirs] == theirs


def test_no_class_of_kazoos_is_missing_but_those_of_its_own_threads_and_packages() -> None:
    assert _kazoos_classes().keys() - CLASSES.keys() == {
        *("ConnectionDropped", "SASLException", "WriterNotClosedException", "ZookeeperStoppedError")
    }


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        EXCEPTIONS[-101] = NotEmptyError  # type: ignore[index]


@PATIENT
@given(code=st.integers(-(2**31), 2**31 - 1).filter(lambda code: code not in EXCEPTIONS))
def test_a_code_nobody_knows_is_an_error_like_others(code: int) -> None:
    error = error_from_code(code, "/a")
    assert isinstance(error, UnknownServerError)
    assert (error.server_code, error.code, error.path, error.outcome_unknown) == (code, None, "/a", False)
    assert str(error) == f"unknown error code {code} from the server (/a)"


@pytest.mark.parametrize("code", [-9, -15, -116, -117, -126, 1, -1000])
def test_codes_of_other_clients_own_are_unknown(code: int) -> None:
    assert isinstance(error_from_code(code), UnknownServerError)


def test_success_of_one_operation_in_a_failed_transaction_is_an_error() -> None:
    assert type(error_from_code(0)) is RolledBackError


# The tree -------------------------------------------------------------------------------------------------------------


def _drawn() -> dict[str, str]:
    """Class to parent, as the module's docstring draws them."""
    assert errors.__doc__
    lines = errors.__doc__.splitlines()
    start = lines.index("    KazooException")
    parents: dict[str, str] = {}
    path = ["KazooException"]
    for line in lines[start + 1 :]:
        row = re.fullmatch(r"    ((?:\|   |    )*)\+-- (\w+(?:, \w+)*)(?:, \.\.\.)?(?:  .*)?", line)
        if row is None:
            break
        depth = len(row[1]) // 4 + 1
        for name in row[2].split(", "):
            parents[name] = path[depth - 1]
        path[depth:] = [row[2].split(", ")[0]]
    return parents


def test_the_tree_is_as_drawn() -> None:
    drawn = _drawn()
    assert {name: CLASSES[name].__bases__[0].__name__ for name in drawn} == drawn


def test_the_drawing_leaves_nothing_out() -> None:
    """All classes are drawn but those that "one a server code" stands for."""
    drawn = {"KazooException", *_drawn()}
    for name in set(CLASSES) - drawn:
        assert CLASSES[name].__bases__ == (ZookeeperError,)
        assert CLASSES[name] in EXCEPTIONS.values()


def test_every_class_says_what_it_means() -> None:
    for cls in CLASSES.values():
        assert cls.__doc__
        assert "docstring" not in cls.__doc__


def test_a_configuration_error_is_a_value_error_too() -> None:
    assert issubclass(ConfigurationError, ValueError)


# One error ------------------------------------------------------------------------------------------------------------


def test_nothing_is_known_of_an_outcome_unless_it_is_said() -> None:
    assert ConnectionLoss().outcome_unknown is False
    assert ConnectionLoss(outcome_unknown=True).outcome_unknown is True


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NoNodeError(), ""),
        (NoNodeError("gone"), "gone"),
        (NoNodeError(path="/a"), "/a"),
        (NoNodeError("gone", path="/a"), "gone (/a)"),
        (NoNodeError("gone", path=""), "gone ()"),
        (error_from_code(-101, "/a"), "no such znode (/a)"),
        (error_from_code(-101), "no such znode"),
        (FrameTooLargeError(5, 4), "a frame of 5 bytes was announced, the limit is 4 bytes"),
        (
            FrameTooLargeError(int.from_bytes(b"HTTP", "big"), 4),
            (
                "a frame of 1213486160 bytes was announced, the limit is 4 bytes; "
                'these are the letters "HTTP": a WebSocket gateway is named by ws:// or wss://'
            ),
        ),
        (
            FrameTooLargeError(int.from_bytes(b"\x15\x03\x03\x00", "big"), 4),
            "a frame of 352518912 bytes was announced, the limit is 4 bytes; this is an alert of TLS",
        ),
    ],
)
def test_the_text_names_the_path(error: KazooException, text: str) -> None:
    assert str(error) == text


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLoss("gone", path="/a", outcome_unknown=True),
        error_from_code(-999, "/a"),
        FrameTooLargeError(5, 4),
        GatewayRefusedError("refused", 401),
        *(error_from_code(code, "/a") for code in EXCEPTIONS),
    ],
    ids=repr,
)
def test_an_error_survives_a_copy_and_another_process(error: KazooException | GatewayRefusedError) -> None:
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert twin is not error
        assert type(twin) is type(error)
        assert (str(twin), repr(twin), vars(twin)) == (str(error), repr(error), vars(error))
