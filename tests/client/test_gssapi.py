"""Kerberos without a realm: arguments, a missing package, and what a server may offer. The rest needs a real KDC."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from terzetto.client import AuthFailedError, ConfigurationError, Gssapi, SaslMechanism

UNREACHABLE = -1765328228


class GSSError(Exception):
    """What the foreign library raises."""

    def __init__(self, text: str, min_code: int) -> None:
        super().__init__(text)
        self.min_code = min_code


class Context:
    """A foreign security context that is complete after one step."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.complete = False
        self.failure: GSSError | None = None

    def step(self, token: bytes | None = None) -> bytes | None:
        if self.failure is not None:
            raise self.failure
        self.complete = token is not None
        return None if self.complete else b"ticket"

    def unwrap(self, token: bytes) -> Any:
        return SimpleNamespace(message=token.removeprefix(b"wrapped "))

    def wrap(self, message: bytes, encrypt: bool) -> Any:
        assert not encrypt
        return SimpleNamespace(message=b"wrapped " + message)


def named(name: str, kind: str) -> tuple[str, str]:
    return name, kind


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stands for the package gssapi, which needs a C library and a realm."""
    found: Any = ModuleType("gssapi")
    found.contexts = []

    def context(**arguments: Any) -> Context:
        found.contexts.append(Context(**arguments))
        found.contexts[-1].failure = found.failure
        return found.contexts[-1]  # type: ignore[no-any-return]

    found.failure = None
    found.SecurityContext = context
    found.Name = named
    found.NameType = SimpleNamespace(hostbased_service="host", kerberos_principal="principal")
    found.RequirementFlag = SimpleNamespace(mutual_authentication=2, integrity=32)
    found.OID = SimpleNamespace(from_int_seq=str)
    found.Credentials = dict
    found.exceptions = SimpleNamespace(GSSError=GSSError)
    monkeypatch.setitem(sys.modules, "gssapi", found)
    return found  # type: ignore[no-any-return]


def test_a_missing_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ConfigurationError, match=r"pip install terzetto\[sasl\]"):
        Gssapi()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({"service": ""}, "service"), ({"principal": 7}, "principal"), ({"keytab": ""}, "keytab")],
)
def test_arguments_are_checked(library: ModuleType, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{reason} of Gssapi"):
        Gssapi(**arguments)


def test_a_conversation(library: Any) -> None:
    mechanism: SaslMechanism = Gssapi()("zk1.example.org")
    assert mechanism.blocks
    assert repr(mechanism) == "<GSSAPI conversation with zk1.example.org>"
    assert mechanism.initial() == b"ticket"
    (context,) = library.contexts
    assert context.arguments["name"] == ("zookeeper@zk1.example.org", "host")
    assert context.arguments["creds"] is None
    assert context.arguments["flags"] == [2, 32]
    assert mechanism.respond(b"the server's proof") == b""
    # No layer, of no size, and no other identity.
    assert mechanism.respond(b"wrapped \x07\x01\x00\x00") == b"wrapped \x01\x00\x00\x00"
    assert mechanism.respond(None) is None


def test_who_is_who_can_be_said(library: Any) -> None:
    Gssapi(server_principal="zk/all@R", principal="ada@R", keytab="/k")("host").initial()
    Gssapi(principal="ada@R")("host").initial()
    first, second = library.contexts
    assert first.arguments["name"] == ("zk/all@R", "principal")
    credentials = first.arguments["creds"]
    assert credentials["name"] == ("ada@R", "principal")
    assert credentials["store"]["client_keytab"] == "/k"
    assert credentials["store"]["ccache"].startswith("MEMORY:terzetto-")
    assert second.arguments["creds"]["store"] is None


@pytest.mark.parametrize(
    ("offer", "reason"),
    [(b"wrapped \x06\x00\x00\x00", "demands a SASL security layer"), (b"wrapped \x01", "1 bytes, expected 4")],
)
def test_offers_that_cannot_be_taken(library: Any, offer: bytes, reason: str) -> None:
    mechanism = Gssapi()("host")
    mechanism.initial()
    mechanism.respond(b"proof")
    with pytest.raises(AuthFailedError, match=reason):
        mechanism.respond(offer)


def test_a_server_without_sasl(library: Any) -> None:
    mechanism = Gssapi()("host")
    mechanism.initial()
    with pytest.raises(AuthFailedError, match="has no SASL"):
        mechanism.respond(None)


@pytest.mark.parametrize(("code", "expected"), [(UNREACHABLE, ConnectionError), (1, AuthFailedError)])
def test_only_a_kerberos_server_that_is_away_may_come_back(library: Any, code: int, expected: type[Exception]) -> None:
    # The library gives the code without its sign.
    library.failure = GSSError("it failed", code & 0xFFFFFFFF)
    with pytest.raises(expected, match="for the server zookeeper/host: it failed"):
        Gssapi()("host").initial()
