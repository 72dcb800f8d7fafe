"""DIGEST-MD5 beside what Java's client and server said to each other."""

from __future__ import annotations

import base64
import time

import pytest

from terzetto.client.wire import operations as o
from terzetto.testcluster.digest_md5 import DigestMd5, DigestMd5Exchange, secret_of
from terzetto.testcluster.settings import SaslError
from tests.vectors import Frame, conversations

from .port import Port

PASSWORDS = {"bob": "secret", "eve": "", 'quo"te\\d': "ü"}
USERS = {user: secret_of(user, password) for user, password in PASSWORDS.items()}
NONCE = "evejKL9lDqNIU/KJKTPkvPgnnfQCwUw7DNxUUA5d"


def _token(frame: Frame) -> bytes:
    text: str | None = None if frame.value is None else frame.value["token"]
    return b"" if text is None else bytes.fromhex(text)


def _recorded() -> list[tuple[bytes, bytes, int, bytes]]:
    """(challenge, response, code, proof) of each exchange of the recording."""
    found: list[tuple[bytes, bytes, int, bytes]] = []
    for frames in conversations():
        if not frames[0].name.startswith("java-sasl"):
            continue
        _, challenge, response, proof = [frame for frame in frames if frame.operation == "sasl"]
        header = proof.header
        assert header is not None
        found.append((_token(challenge), _token(response), header["err"], _token(proof)))
    return found


RECORDED = _recorded()
RIGHT = next(response for _, response, err, _ in RECORDED if err == 0)


def _nonce(challenge: bytes) -> str:
    return challenge.decode().split('nonce="')[1].split('"')[0]


def _challenged(nonce: str = NONCE) -> DigestMd5Exchange:
    exchange = DigestMd5Exchange(USERS, nonce)
    exchange.step(b"")
    return exchange


def test_the_recording_has_both_outcomes() -> None:
    assert {err for _, _, err, _ in RECORDED} == {0, -115}


@pytest.mark.parametrize(("challenge", "response", "err", "proof"), RECORDED)
def test_java_is_answered_as_by_java(challenge: bytes, response: bytes, err: int, proof: bytes) -> None:
    exchange = DigestMd5Exchange(USERS, _nonce(challenge))
    assert exchange.step(b"") == challenge
    if err:
        with pytest.raises(SaslError, match="wrong password"):
            exchange.step(response)
        assert exchange.authorization_id is None
    else:
        assert exchange.step(response) == proof
        assert exchange.authorization_id == "bob"
        with pytest.raises(SaslError, match="over already"):
            exchange.step(b"")


def test_the_first_token_does_not_matter() -> None:
    assert DigestMd5Exchange(USERS, "n").step(b"anything") == DigestMd5Exchange(USERS, "n").step(b"")


def _changed(**directives: str | None) -> bytes:
    parts = dict(part.split("=", 1) for part in RIGHT.decode().split(","))
    for key, value in directives.items():
        name = key.replace("_", "-")
        if value is None:
            parts.pop(name, None)
        else:
            parts[name] = value
    return ",".join(f"{name}={value}" for name, value in parts.items()).encode()


def test_the_untouched_response_is_right() -> None:
    assert _challenged().step(_changed()).startswith(b"rspauth=")
    assert _challenged().step(_changed(qop=None)).startswith(b"rspauth=")
    assert _challenged().step(b" " + _changed().replace(b",", b" , ")).startswith(b"rspauth=")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"realm": '"elsewhere"'}, "realm"),
        ({"realm": None}, "realm"),
        ({"nonce": '"another"'}, "nonce"),
        ({"nc": "00000002"}, "nc"),
        ({"digest_uri": '"zookeeper/host"'}, "digest-uri"),
        ({"digest_uri": None}, "digest-uri"),
        ({"qop": "auth-conf"}, "qop"),
        ({"cnonce": '""'}, "cnonce"),
        ({"cnonce": None}, "cnonce"),
        ({"response": None}, "response"),
        ({"response": "0" * 32}, "wrong password"),
        ({"response": "ü"}, "wrong password"),
        ({"username": '"nobody"'}, "unknown user"),
        ({"username": None}, "unknown user"),
        ({"username": '"eve"'}, "wrong password"),
        ({"authzid": '"eve"'}, "wrong password"),
        ({"authzid": None}, "wrong password"),
    ],
)
def test_what_is_refused(changes: dict[str, str | None], reason: str) -> None:
    exchange = _challenged()
    with pytest.raises(SaslError, match=reason):
        exchange.step(_changed(**changes))
    assert exchange.authorization_id is None


@pytest.mark.parametrize(
    "token", [b"", b"\xff", b"username", b"=", b"a=b=c", b'a="b', b"a=b,a=c", RIGHT + b",,", b"a=" + b"b" * 5000]
)
def test_responses_that_cannot_be_read(token: bytes) -> None:
    with pytest.raises(SaslError):
        _challenged().step(token)


def test_quoted_names_are_unquoted() -> None:
    exchange = _challenged()
    with pytest.raises(SaslError, match="wrong password"):
        exchange.step(_changed(username=r'"quo\"te\\d"'))


def test_a_response_is_refused_without_delay() -> None:
    started = time.process_time()
    with pytest.raises(SaslError):
        _challenged().step(b'a="' + b"\\" * 4000)
    assert time.process_time() - started < 0.5


def test_through_the_client_port() -> None:
    port = Port(sasl_exchange=DigestMd5(PASSWORDS, lambda size: base64.b64decode(NONCE)[:size]), sasl_acls=True)
    peer = port.connect()
    assert peer.ok(o.SASL, b"").token.startswith(b'realm="zk-sasl-md5"')
    assert peer.ok(o.SASL, RIGHT).token.startswith(b"rspauth=")
    assert ("sasl", "bob") in [tuple(info) for info in peer.ok(o.WHO_AM_I).client_info]
