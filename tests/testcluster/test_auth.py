"""How connections come by identities."""

from __future__ import annotations

import logging
import struct
from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.client._sasl import DigestMd5Conversation
from terzetto.client.values import CREATOR_ALL_ACL, Id
from terzetto.client.wire import Opcode, operations as o
from terzetto.testcluster.auth import CREDENTIAL_MAX, IDS_MAX, PACKETS_MAX, digest_id
from terzetto.testcluster.connection import Phase
from terzetto.testcluster.digest_md5 import DigestMd5
from terzetto.testcluster.settings import SaslError

from .port import Peer, Port, framed

SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="


class Password:
    """A SASL mechanism in one step: the token is the password of a user."""

    def __init__(self) -> None:
        self.authorization_id: str | None = None

    def step(self, token: bytes) -> bytes | None:
        user, _, password = token.decode().partition(":")
        if self.authorization_id is not None or password != "right":
            raise SaslError("wrong password")
        self.authorization_id = user
        return b"welcome"


class TwoSteps(Password):
    """The same after a greeting."""

    def step(self, token: bytes) -> bytes | None:
        return b"who?" if token == b"" else super().step(token)


def _ids(peer: Peer) -> list[tuple[str, str]]:
    return [tuple(info) for info in peer.ok(o.WHO_AM_I).client_info]


def _auth(peer: Peer, scheme: str | None, auth: bytes | None) -> int:
    answer = peer.ask(o.AUTH, 0, scheme, auth)
    assert (answer.zxid, answer.value) == (0, None)
    return answer.err


def test_the_digest_of_a_password() -> None:
    assert digest_id(b"super:test") == SUPER
    assert digest_id(b"nocolon").startswith("nocolon:")
    assert digest_id(b"").startswith(":")
    assert digest_id(b"a:b", "sha256") != digest_id(b"a:b")
    assert digest_id(b"a:b:c") == digest_id(b"a:b:c")


def test_an_address_is_the_first_identity() -> None:
    assert _ids(Port().connect(peer_ip="10.1.2.3")) == [("ip", "10.1.2.3")]


def test_a_certificate_is_an_identity_at_once() -> None:
    port = Port(x509_acls=True, x509_super="CN=root")
    assert _ids(port.connect(certificate_subject="CN=a")) == [("ip", "127.0.0.1"), ("x509", "CN=a")]
    assert ("super", "") in _ids(port.connect(certificate_subject="CN=root"))
    peer = port.connect(certificate_subject="CN=a")
    assert _auth(peer, "x509", b"") == 0
    assert len(_ids(peer)) == 2


@pytest.mark.parametrize("credentials", [b"u:p", b"nocolon", b"", b"\xff\xfe", b"a:b:c"])
def test_digest_credentials_are_always_taken(credentials: bytes) -> None:
    peer = Port().connect()
    assert _auth(peer, "digest", credentials) == 0
    assert _auth(peer, "digest", credentials) == 0
    assert peer.connection.ids == (Id("ip", "127.0.0.1"), Id("digest", digest_id(credentials)))


def test_ip_is_taken_and_adds_nothing() -> None:
    peer = Port().connect()
    assert _auth(peer, "ip", None) == 0
    assert _ids(peer) == [("ip", "127.0.0.1")]


@pytest.mark.parametrize(
    ("scheme", "auth"),
    [
        ("digest", None),
        (None, b""),
        ("world", b"anyone"),
        ("auth", b""),
        ("super", b"x"),
        ("sasl", b"x"),
        ("x509", b""),
        ("nope", b""),
    ],
)
def test_other_packets_are_refused_and_end_the_connection(scheme: str | None, auth: bytes | None) -> None:
    port = Port()
    peer = port.connect()
    assert _auth(peer, scheme, auth) == -115
    assert peer.closed
    assert peer.session_id in port.tree.sessions
    assert port.machine.auth_failures == 1


def test_the_super_user_is_two_identities() -> None:
    peer = Port(digest_super=SUPER).connect()
    assert _auth(peer, "digest", b"super:test") == 0
    assert _ids(peer) == [("ip", "127.0.0.1"), ("super", ""), ("digest", "super")]
    other = Port(digest_super=SUPER).connect()
    assert _auth(other, "digest", b"super:guess") == 0
    assert ("super", "") not in _ids(other)


def test_digest_can_be_switched_off() -> None:
    assert _auth(Port(digest_enabled=False).connect(), "digest", b"u:p") == -115


def test_identities_of_a_connection_are_bounded() -> None:
    peer = Port().connect()
    for number in range(IDS_MAX - 1):
        assert _auth(peer, "digest", b"%d:x" % number) == 0
    assert _auth(peer, "digest", b"one more:x") == -115
    assert peer.closed


def test_packets_of_a_connection_are_bounded() -> None:
    peer = Port().connect()
    for _ in range(PACKETS_MAX):
        assert _auth(peer, "digest", b"the same:x") == 0
    assert _auth(peer, "digest", b"the same:x") == -115
    assert peer.closed


def test_credentials_are_bounded() -> None:
    peer = Port().connect()
    assert _auth(peer, "digest", b"x" * CREDENTIAL_MAX) == 0
    assert _auth(peer, "digest", b"x" * (CREDENTIAL_MAX + 1)) == -115
    assert peer.closed


@pytest.mark.parametrize("lenient", [False, True])
def test_tokens_are_bounded(lenient: bool) -> None:
    port = Port(sasl_exchange=TwoSteps, sasl_failed_allowed=lenient)
    peer = port.connect()
    assert (_token(peer, b"x" * (CREDENTIAL_MAX + 1)).err, peer.closed) == (-115, True)
    peer = port.connect()
    for _ in range(PACKETS_MAX):
        assert _token(peer, b"").value.token == b"who?"
    assert (_token(peer, b"").err, peer.closed) == (-115, True)


def test_who_may_stay_after_a_failure_cannot_try_again() -> None:
    """Else one connection could go through a dictionary on one nonce."""
    port = Port(sasl_exchange=DigestMd5({"bob": "secret"}, bytes), sasl_failed_allowed=True)
    peer = port.connect()
    peer.ok(o.SASL, b"")
    assert _token(peer, b"nonsense").value.token is None
    talk = DigestMd5Conversation("bob", "secret")
    right = talk.respond(f'realm="zk-sasl-md5",nonce="{"A" * 40}",algorithm=md5-sess'.encode())
    assert _token(peer, right).value.token is None
    assert _ids(peer) == [("ip", "127.0.0.1")]
    other = port.connect()
    other.ok(o.SASL, b"")
    assert _token(other, right).value.token.startswith(b"rspauth=")


def test_failures_are_logged_without_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    port = Port(sasl_exchange=Password, digest_super=SUPER)
    _auth(port.connect(peer_ip="10.1.2.3"), "s3cret", b"s3cret")
    _token(port.connect(peer_ip="10.1.2.4"), b"bob:s3cret")
    _auth(port.connect(), "digest", b"super:s3cret")
    assert [record.getMessage() for record in caplog.records] == [
        "an auth packet of 10.1.2.3 is refused",
        "SASL with 10.1.2.4 failed: wrong password",
    ]


@pytest.mark.parametrize(("settings", "settled"), [({}, True), ({"required_schemes": ("digest",)}, False)])
def test_a_connection_is_settled_once_it_has_proved_what_it_must(settings: dict[str, Any], settled: bool) -> None:
    port = Port(**settings)
    stranger = port.open()
    assert not port.machine.is_settled(stranger.connection)
    peer = port.connect()
    assert port.machine.is_settled(peer.connection) is settled
    assert _auth(peer, "digest", b"u:p") == 0
    assert port.machine.is_settled(peer.connection)


@given(st.lists(st.tuples(st.sampled_from([o.AUTH, o.SASL]), st.binary(max_size=80)), max_size=6))
def test_whatever_a_stranger_sends_it_proves_nothing(frames: list[tuple[o.Operation, bytes]]) -> None:
    port = Port(sasl_exchange=DigestMd5({"bob": "secret"}, bytes), digest_super=SUPER, required_schemes=("sasl",))
    peer = port.connect()
    for operation, body in frames:
        opcode = Opcode.AUTH if operation is o.AUTH else Opcode.SASL
        peer.send(framed(struct.pack(">ii", 1, opcode) + body))
    assert not {held.scheme for held in peer.connection.ids} & {"sasl", "super"}
    assert peer.connection.phase is Phase.CLOSED or not port.machine.is_settled(peer.connection)


def test_a_broken_auth_packet_ends_the_connection_without_an_answer() -> None:
    peer = Port().connect()
    peer.send(framed(b"\0\0\0\1" + b"\0\0\0\x64" + b"\0"))
    assert (peer.closed, peer.replies()) == (True, [])


def _token(peer: Peer, token: bytes | None) -> Any:
    return peer.ask(o.SASL, token)


def test_a_server_without_sasl_answers_with_null() -> None:
    peer = Port().connect()
    answer = _token(peer, b"x")
    assert (answer.err, answer.zxid, answer.value.token) == (0, 0, None)
    assert not peer.closed


def test_a_null_token_ends_the_connection() -> None:
    peer = Port().connect()
    peer.send(peer.frame(o.SASL, None))
    assert (peer.closed, peer.replies()) == (True, [])


def test_an_exchange_gives_an_identity() -> None:
    peer = Port(sasl_exchange=TwoSteps, sasl_acls=True, sasl_super=("root",)).connect()
    assert _token(peer, b"").value.token == b"who?"
    assert _ids(peer) == [("ip", "127.0.0.1")]
    assert _token(peer, b"bob:right").value.token == b"welcome"
    assert _ids(peer) == [("ip", "127.0.0.1"), ("sasl", "bob")]


def test_a_super_user_by_sasl() -> None:
    peer = Port(sasl_exchange=Password, sasl_super=("root",)).connect()
    assert _token(peer, b"root:right").err == 0
    assert ("super", "") in _ids(peer)


@pytest.mark.parametrize(
    "tokens", [[b"bob:wrong"], [b"bob:right", b"bob:right"]], ids=["wrong password", "after the end"]
)
def test_a_failed_exchange_ends_the_connection(tokens: list[bytes]) -> None:
    peer = Port(sasl_exchange=Password).connect()
    for token in tokens[:-1]:
        assert _token(peer, token).err == 0
    answer = _token(peer, tokens[-1])
    assert (answer.err, answer.zxid, answer.value) == (-115, 0, b"\xff\xff\xff\xff")
    assert peer.closed


def test_a_failed_exchange_may_be_allowed() -> None:
    peer = Port(sasl_exchange=Password, sasl_failed_allowed=True).connect()
    answer = _token(peer, b"bob:wrong")
    assert (answer.err, answer.value.token, peer.closed) == (0, None, False)
    assert _ids(peer) == [("ip", "127.0.0.1")]


def test_a_required_exchange_must_not_fail() -> None:
    peer = Port(sasl_exchange=Password, sasl_failed_allowed=True, required_schemes=("sasl",)).connect()
    assert (_token(peer, b"bob:wrong").err, peer.closed) == (-124, True)


@pytest.mark.parametrize("operation", [o.PING, o.WHO_AM_I, o.CLOSE_SESSION])
def test_what_is_required_comes_before_everything_else(operation: o.Operation) -> None:
    peer = Port(required_schemes=("digest",)).connect()
    peer.send(peer.frame(operation))
    (answer,) = peer.replies()
    assert (answer.err, answer.zxid, peer.closed) == (-124, 0, True)


def test_once_identified_everything_is_open() -> None:
    peer = Port(required_schemes=("digest", "sasl")).connect()
    assert _auth(peer, "digest", b"u:p") == 0
    assert peer.create("/a") == "/a"


def test_requests_before_the_packet_keep_the_old_identities() -> None:
    port = Port()
    peer = port.connect()
    create = [peer.frame(o.CREATE, path, b"", CREATOR_ALL_ACL, 0) for path in ("/a", "/b")]
    peer.send(create[0] + peer.frame(o.AUTH, 0, "digest", b"u:p") + create[1])
    assert [answer.err for answer in peer.replies()] == [-114, 0, 0]


def test_an_auth_packet_is_answered_in_its_turn() -> None:
    peer = Port().connect()
    frames = [
        peer.frame(o.CREATE, "/a", b"", None, 0),
        peer.frame(o.AUTH, 0, "digest", b"u:p"),
        peer.frame(o.SASL, b""),
    ]
    peer.send(b"".join(frames) + peer.frame(o.WHO_AM_I))
    assert [answer.xid for answer in peer.replies()] == [1, 2, 3, 4]
