"""DIGEST-MD5, the client's side, against what ZooKeeper 3.8.0 said; and a client that must identify itself."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from terzetto.client import (
    CREATOR_ALL_ACL,
    AuthFailedError,
    ConfigurationError,
    ConnectTimeoutError,
    DigestMd5,
    NoAuthError,
    SaslMechanism,
    SessionClosedRequireSaslError,
    open_zookeeper,
)
from terzetto.client._sasl import DigestMd5Conversation
from terzetto.testcluster import open_ensemble

CNONCE = "Xy7-cnonce_01"

# A server's challenge, the response that it took, its proof. The passwords show how names and passwords are hashed: in
# ISO 8859-1 if that can hold them, else in UTF-8.
RECORDED = {
    ("bob", "bobsecret"): (
        "9V9vFU5LXBi7DfX9M+f4HSxiHAh5ys89KR04O1hh",
        "3739074e3892c16e2f8f730bf3ae6af5",
        "9567d6e0c632edcbfd1286824d8b6077",
    ),
    ("lat", "pässwörd"): (
        "d6vadv3oetxF4C9hc+ic3Q2GyNqxSfrx93cO+lvB",
        "c9715cfed3b85cf34e9ab629906d0cc6",
        "bb53d83c022ccb07d7a64146261c8495",
    ),
    ("cyr", "пароль"): (
        "SxI652jdYx/KilwRbJf+Z+kM9P2rEaD2ISfPY7ke",
        "f4dea931cd30213c76f054d75f001c3d",
        "f036196f8705463a6841aa8c7f8ee189",
    ),
    ("esc", 'a"b\\c'): (
        "UlJakZFgwUr8+uyHH4I5I3luOmZBS8mQTJLwYmUE",
        "e418edf877e402893d6f3bd995d0ebac",
        "b998f64711718004655b9f13db14139d",
    ),
}
NONCE, RESPONSE, PROOF = RECORDED["bob", "bobsecret"]


def challenge(nonce: str = NONCE, more: str = ",charset=utf-8,algorithm=md5-sess") -> bytes:
    return f'realm="zk-sasl-md5",nonce="{nonce}"{more}'.encode()


def conversation(username: str = "bob", password: str = "bobsecret") -> DigestMd5Conversation:
    return DigestMd5Conversation(username, password, lambda: CNONCE)


@pytest.mark.parametrize(("username", "password"), RECORDED)
def test_what_a_real_server_took(username: str, password: str) -> None:
    nonce, response, proof = RECORDED[username, password]
    talk = conversation(username, password)
    assert talk.initial() == b""
    assert (
        talk.respond(challenge(nonce))
        == (
            f'charset=utf-8,username="{username}",realm="zk-sasl-md5",nonce="{nonce}",nc=00000001,cnonce="{CNONCE}",'
            f'digest-uri="zookeeper/zk-sasl-md5",maxbuf=65536,response={response},qop=auth'
        ).encode()
    )
    assert talk.respond(f"rspauth={proof}".encode()) is None


def test_a_server_that_does_not_know_the_password_is_refused() -> None:
    for last in (b"rspauth=" + b"0" * 32, b"", b'rspauth="\xc3\xbc"', b"something=else"):
        talk = conversation()
        talk.respond(challenge())
        with pytest.raises(AuthFailedError, match="does not prove that it knows the password"):
            talk.respond(last)


@pytest.mark.parametrize("at", [0, 1])
def test_a_server_without_sasl_is_refused(at: int) -> None:
    talk = conversation()
    if at:
        talk.respond(challenge())
    with pytest.raises(AuthFailedError, match="has no SASL"):
        talk.respond(None)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"\xff", "no UTF-8"),
        (b"nonsense", "malformed"),
        (b'nonce="x', "malformed"),
        (b"", "no nonce"),
        (challenge(more=",algorithm=md5"), "another algorithm"),
        (challenge(more=""), "another algorithm"),
        (challenge(more=',algorithm=md5-sess,qop="auth-int,auth-conf"'), "security layer"),
    ],
)
def test_a_challenge_that_will_not_do(token: bytes, reason: str) -> None:
    with pytest.raises(AuthFailedError, match=reason):
        conversation().respond(token)


def test_a_challenge_may_be_spelled_otherwise() -> None:
    plain = conversation().respond(challenge())
    more = ' , charset = utf-8 , algorithm=md5-sess, qop="auth-conf, auth",realm="another", stale=x'
    assert conversation().respond(challenge(more=more)) == plain


def test_every_conversation_has_a_nonce_of_its_own() -> None:
    said = {DigestMd5("bob", "bobsecret")("host").respond(challenge()) for _ in range(3)}
    assert len(said) == 3


def test_names_are_quoted() -> None:
    said = conversation('b"o\\b').respond(challenge())
    assert said is not None
    assert rb'username="b\"o\\b"' in said


def test_passwords_are_shown_nowhere() -> None:
    credentials = DigestMd5("bob", "bobsecret")
    talk = credentials("host")
    assert isinstance(talk.blocks, bool)
    mechanism: SaslMechanism = talk
    for shown in (repr(credentials), str(credentials), repr(mechanism)):
        assert "bob" in shown
        assert "bobsecret" not in shown
    talk.respond(challenge())
    assert "bobsecret" not in str(vars(talk))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [((b"bob", "x"), "both str"), (("bob", None), "both str"), (("", "x"), "needs a user"), (("b", "\udc80"), "UTF-8")],
)
def test_arguments_are_checked(arguments: tuple[str, str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        DigestMd5(*arguments)
    assert caught.value.__cause__ is None


async def test_a_client_is_who_it_says_from_the_first_request_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    users = {"bob": "bobsecret", "eve": "evesecret"}
    async with open_ensemble(3, sasl_users=users) as ensemble:
        for sid in ensemble.sids:
            async with open_zookeeper(ensemble.host(sid), sasl=DigestMd5("bob", "bobsecret")) as zk:
                assert ("sasl", "bob") in [tuple(info) for info in await zk.who_am_i()]
                # The leader judges what a follower's client may do.
                await zk.create(f"/bobs{sid}", b"mine", acl=CREATOR_ALL_ACL)
                await zk.set(f"/bobs{sid}", b"still mine")
                await ensemble.drop_connections(sid)
                await zk.set(f"/bobs{sid}", b"and after a reconnect")
        async with open_zookeeper(ensemble.hosts, sasl=DigestMd5("eve", "evesecret")) as zk:
            with pytest.raises(NoAuthError):
                await zk.get("/bobs1")
    assert "secret" not in caplog.text


@pytest.mark.parametrize("credentials", [DigestMd5("bob", "wrong"), DigestMd5("nobody", "bobsecret")])
async def test_wrong_credentials_are_said_at_once_and_for_good(credentials: DigestMd5) -> None:
    async with open_ensemble(sasl_users={"bob": "bobsecret"}) as ensemble:
        with trio.fail_after(5), pytest.raises(AuthFailedError, match="refused the SASL credentials"):
            async with open_zookeeper(ensemble.hosts, sasl=credentials):
                pytest.fail("the block must not begin")


async def test_a_password_that_is_changed_ends_the_client_at_its_next_connection(tmp_path: Path) -> None:
    async with open_ensemble(data_dir=tmp_path, sasl_users={"bob": "before"}) as before:
        async with open_zookeeper(before.hosts, sasl=DigestMd5("bob", "before")) as zk:
            await before.kill(1)
            async with open_ensemble(data_dir=tmp_path, sasl_users={"bob": "after"}) as after:
                zk.set_hosts(after.hosts)
                with trio.fail_after(10), pytest.raises(AuthFailedError, match="refused the SASL credentials"):
                    await zk.retry(zk.exists, "/")
                assert zk.client_state == "AUTH_FAILED"
                # So does every call from now on, at once.
                with trio.fail_after(1), pytest.raises(AuthFailedError):
                    await zk.get("/")


async def test_a_server_that_has_no_sasl_is_no_server_for_those_who_want_it() -> None:
    async with open_ensemble() as ensemble:
        with trio.fail_after(5), pytest.raises(AuthFailedError, match="has no SASL"):
            async with open_zookeeper(ensemble.hosts, sasl=DigestMd5("bob", "x")):
                pytest.fail("the block must not begin")


async def test_a_server_that_demands_sasl_says_so_to_those_who_have_none() -> None:
    settings = {"sessionRequireClientSASLAuth": "true"}
    async with open_ensemble(sasl_users={"bob": "x"}, settings=settings) as ensemble:
        async with open_zookeeper(ensemble.hosts, sasl=DigestMd5("bob", "x")) as zk:
            assert await zk.exists("/") is not None
        async with open_zookeeper(ensemble.hosts) as zk:
            with trio.fail_after(5):
                with pytest.raises(SessionClosedRequireSaslError):
                    await zk.exists("/")
                with pytest.raises(AuthFailedError, match=r"demands authentication first \(-124\)"):
                    await zk.exists("/")


class Silent:
    """A mechanism that cannot reach what it needs, until it can."""

    blocks = True

    def __init__(self) -> None:
        self.attempts = 0

    def __call__(self, server: str) -> SaslMechanism:
        self.attempts += 1
        return self

    def initial(self) -> bytes:
        raise ConnectionRefusedError(f"attempt {self.attempts}: nobody there")

    def respond(self, challenge: bytes | None) -> bytes | None:
        raise AssertionError("it has not begun")


async def test_what_cannot_be_tried_now_is_tried_again_within_the_bound() -> None:
    mechanism = Silent()
    async with open_ensemble(sasl_users={"bob": "x"}) as ensemble:
        with trio.fail_after(10), pytest.raises(ConnectTimeoutError, match="SASL could not be tried: attempt"):
            async with open_zookeeper(ensemble.hosts, sasl=mechanism, connect_timeout=1.0):
                pytest.fail("the block must not begin")
    assert mechanism.attempts > 1
