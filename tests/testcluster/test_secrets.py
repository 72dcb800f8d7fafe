"""Secrets of a server stay where they are: neither logs at DEBUG nor reprs nor what it tells operators shows one.

And no time tells how much of one was guessed.

Every secret of these tests holds the word `s3cret`; so a search for that word finds whatever leaks.
"""

from __future__ import annotations

import gc
import hmac
import logging
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from terzetto.client import AuthFailedError, DigestMd5, KazooException, make_digest_acl, open_zookeeper
from terzetto.client.wire import operations as o
from terzetto.testcluster import open_ensemble
from terzetto.testcluster.acl import DigestScheme
from terzetto.testcluster.auth import digest_id
from terzetto.testcluster.config import load_config
from terzetto.testcluster.digest_md5 import DigestMd5 as DigestMd5Server
from terzetto.testcluster.ids import is_session_password
from terzetto.testcluster.journal import open_storage
from terzetto.testcluster.server import ZooKeeperServer
from terzetto.testcluster.settings import SaslError
from terzetto.testcluster.websocket_rules import Tokens

from .port import Port

WORD = "s3cret"
WORDS = ("srvr", "stat", "conf", "cons", "envi", "mntr", "dump", "wchs", "wchc", "wchp", "dirs", "crst")


async def speak(hosts: str) -> None:
    """All that clients do with secrets, right and wrong."""
    with pytest.raises(AuthFailedError) as refused:
        async with open_zookeeper(hosts, sasl=DigestMd5("bob", f"{WORD}-wrong")):
            pytest.fail("the block must not begin")
    assert WORD not in f"{refused.value!r} {refused.value.__cause__!r}"
    auth = [("digest", f"ada:{WORD}-ada")]
    async with open_zookeeper(hosts, sasl=DigestMd5("bob", f"{WORD}-bob"), auth=auth) as zk:
        for said in (repr(zk), repr(zk.client_id and zk.session_id)):
            assert WORD not in said
        await zk.ensure_path("/p", acl=[make_digest_acl("ada", f"{WORD}-ada", all=True)])
        await zk.add_auth("digest", f"super:{WORD}-super")
        assert "super" in {info.auth_scheme for info in await zk.who_am_i()}
        with pytest.raises(KazooException) as unknown:
            await zk.add_auth("nonsense", f"{WORD}-misplaced")
        assert WORD not in f"{unknown.value!r} {unknown.value.__cause__!r}"


def seen_objects() -> str:
    """The reprs of all living objects of terzetto's own classes."""
    shown: list[str] = []
    things: list[object] = gc.get_objects()
    for thing in things:
        # Of some foreign classes it is no text.
        module: object = type(thing).__module__
        if isinstance(module, str) and module.startswith("terzetto.") and not isinstance(thing, tuple):
            # One whose making failed, in another test of this process, lacks attributes; and what belongs to the
            # ensemble's thread may change under the look.
            with suppress(AttributeError, RuntimeError):
                shown.append(repr(thing))
    return "\n".join(shown)


async def test_an_ensemble_tells_nobody(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {
        "SASLAuthenticationProvider.superPassword": f"{WORD}-of-super",
        "DigestAuthenticationProvider.superDigest": digest_id(f"super:{WORD}-super".encode()),
    }
    users = {"bob": f"{WORD}-bob", "super": f"{WORD}-old"}
    async with open_ensemble(3, sasl_users=users, settings=settings, data_dir=tmp_path) as ensemble:
        await speak(ensemble.hosts)
        async with open_zookeeper(ensemble.hosts) as zk:
            for word in WORDS:
                assert WORD not in await zk.command(word.encode())
        assert WORD not in ensemble.describe()
        assert WORD not in seen_objects()
    assert "wrong password" in caplog.text
    assert WORD not in caplog.text


async def test_a_server_tells_its_operator_what_its_file_says_but_for_the_secrets(tmp_path: Path) -> None:
    file = tmp_path / "zoo.cfg"
    file.write_text(
        f"dataDir={tmp_path}/data\nclientPort=1\nclientPortAddress=127.0.0.1\nadmin.serverAddress=127.0.0.1\n"
        f"admin.serverPort=1\n4lw.commands.whitelist=*\nsaslUser.bob={WORD}-bob\n"
        f"ssl.keyStore.password={WORD}-store\nDigestAuthenticationProvider.superDigest=super:{WORD}\n"
    )
    config = load_config(file)
    object.__setattr__(config, "client_port", 0)
    object.__setattr__(config, "admin_port", 0)
    server = ZooKeeperServer(config, storage=open_storage(config))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        port = server._admin_listeners[0].socket.getsockname()[1]  # pyright: ignore[reportPrivateUsage]

        def read(command: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/commands/{command}", timeout=10) as answer:
                return str(answer.read().decode())

        said = await trio.to_thread.run_sync(read, "initial_configuration")
        assert "saslUser.bob=(hidden)" in said
        for command in ("initial_configuration", "configuration", "environment", "monitor", "connections"):
            assert WORD not in await trio.to_thread.run_sync(read, command)
        server.stop()


CHALLENGE = b'realm="zk-sasl-md5",nonce="n",algorithm=md5-sess'


def a_token() -> bool:
    return Tokens([f"{WORD}-of-sixteen-or-more"]).know(f"{WORD}-of-sixteen-or-mor".encode())


def a_session_password() -> bool:
    return is_session_password(7, bytes(16), b"secret")


def a_digest_of_an_acl() -> bool:
    return DigestScheme().matches(digest_id(b"ada:right"), digest_id(b"ada:wrong"))


def the_super_users_password() -> bool:
    peer = Port(digest_super=digest_id(b"super:right")).connect()
    assert peer.ask(o.AUTH, 0, "digest", b"super:wrong").err == 0
    return "super" in {identity.scheme for identity in peer.connection.ids}


def a_proof_of_a_client() -> bool:
    exchange = DigestMd5Server({"bob": "right"}, bytes)()
    challenge = exchange.step(b"")
    answer = DigestMd5("bob", "wrong")("").respond(challenge)
    with pytest.raises(SaslError, match="wrong password"):
        exchange.step(answer or b"")
    return exchange.authorization_id is not None


def a_proof_of_a_server() -> bool:
    conversation = DigestMd5("bob", "right")("")
    conversation.respond(CHALLENGE)
    with pytest.raises(AuthFailedError, match="impostor"):
        conversation.respond(b"rspauth=" + b"0" * 32)
    return False


@pytest.mark.parametrize(
    "guess",
    [
        a_token,
        a_session_password,
        a_digest_of_an_acl,
        the_super_users_password,
        a_proof_of_a_client,
        a_proof_of_a_server,
    ],
)
def test_a_wrong_guess_is_found_out_in_a_time_that_tells_nothing(
    guess: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bool] = []
    compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append(compare(one, other))
        return compared[-1]

    monkeypatch.setattr(hmac, "compare_digest", watched)
    assert guess() is False
    assert compared == [False], "told apart by something else"
