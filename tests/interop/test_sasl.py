"""SASL between all who speak it: kazoo, Apache's Java client, the native client and the drop-in, each with ZooKeeper
3.8.0 and with this server, both configured by the same login file; and raw answers compared.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import kazoo.client
import kazoo.exceptions
import pytest
import trio
from kazoo.handlers.threading import KazooTimeoutError

from terzetto.client import (
    ACL,
    AuthFailedError,
    DigestMd5,
    Id,
    KazooException,
    NoAuthError,
    Permissions,
    ZooKeeper,
    open_zookeeper,
)
from terzetto.client._sasl import DigestMd5Conversation
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.wire import Opcode
from terzetto.testcluster import start_ensemble

from .java_programs import talk_to_zkcli
from .rawclient import Closed, Frame, RawClient, request
from .zookeeper import QUICK_JVM_FLAGS, TICK_TIME, RealZooKeeper, ServerOptions

# What kazoo hashes otherwise (in UTF-8, where RFC 2831 and Java take ISO 8859-1) is in no password that it is given.
USERS = {"super": "adminsecret", "bob": "bobsecret", "esc": 'a"b\\c', "cyr": "пароль", "lat": "pässwörd"}
KAZOO_FAILS = frozenset({"lat"})
PROVIDER = {"authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"}
MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"


class Place(NamedTuple):
    """A server to be spoken to."""

    name: str
    hosts: str

    @property
    def port(self) -> int:
        return int(self.hosts.rpartition(":")[2])


def login_file(folder: Path) -> Path:
    """A login file with all users, for either kind of server."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "jaas.conf"
    users = " ".join(
        f'user_{name}="{password}"'.replace("\\", "\\\\").replace('a"b', 'a\\"b') for name, password in USERS.items()
    )
    path.write_text(f"Server {{ {MODULE} required {users}; }};\n", encoding="utf-8")
    return path


Start = Callable[..., Place]


@pytest.fixture(scope="module")
def start(zookeeper_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a server of a kind, "there" or "here", with all users, unless without; once for each configuration."""
    login = login_file(tmp_path_factory.mktemp("login"))
    started: dict[tuple[object, ...], Place] = {}
    with ExitStack() as running:

        def begin(name: str, *, with_users: bool = True, **properties: str) -> Place:
            key = (name, with_users, *sorted(properties.items()))
            if key in started:
                return started[key]
            given = {key.replace("__", "."): value for key, value in properties.items()}
            file = {"java.security.auth.login.config": str(login)} if with_users else {}
            if name == "there":
                # In Java both are properties of the process.
                named = {f"zookeeper.{key}": value for key, value in given.items()}
                options = ServerOptions(zoo_cfg=PROVIDER, jvm_properties={**file, **named})
                folder = tmp_path_factory.mktemp("zookeeper")
                hosts = running.enter_context(RealZooKeeper(options, directory=folder)).hosts
            else:
                settings = {**PROVIDER, **file, **given}
                hosts = running.enter_context(start_ensemble(tick_time=TICK_TIME, settings=settings)).hosts
            started[key] = Place(name, hosts)
            return started[key]

        yield begin


@pytest.fixture(params=["there", "here"])
def place(request: pytest.FixtureRequest, start: Start) -> Place:
    return start(request.param)


# -- the native client


@pytest.mark.parametrize("user", USERS)
async def test_the_native_client_is_who_it_says(place: Place, user: str) -> None:
    async with open_zookeeper(place.hosts, sasl=DigestMd5(user, USERS[user])) as zk:
        assert ("sasl", user) in [(info.auth_scheme, info.user) for info in await zk.who_am_i()]


@pytest.mark.parametrize("credentials", [("bob", "wrong"), ("bob", ""), ("nobody", "x"), ('b"o\\b', "x")])
async def test_wrong_credentials_of_the_native_client(place: Place, credentials: tuple[str, str]) -> None:
    with trio.fail_after(10), pytest.raises(AuthFailedError, match=r"refused the SASL credentials \(-115\)"):
        async with open_zookeeper(place.hosts, sasl=DigestMd5(*credentials)):
            pytest.fail("the block must not begin")


@pytest.mark.parametrize("name", ["there", "here"])
async def test_a_server_without_users(start: Start, name: str) -> None:
    hosts = (await trio.to_thread.run_sync(partial(start, name, with_users=False))).hosts
    with trio.fail_after(10), pytest.raises(AuthFailedError, match="has no SASL"):
        async with open_zookeeper(hosts, sasl=DigestMd5("bob", "bobsecret")):
            pytest.fail("the block must not begin")


# -- kazoo, and the drop-in


def lives(make: type[KazooClient], place: Place, user: str, password: str) -> object:
    """What a client of kazoo's kind gets back from a znode that only its user may see."""
    options = {"mechanism": "DIGEST-MD5", "username": user, "password": password}
    client = make(place.hosts, sasl_options=options)
    # The first call, and not kazoo's start(), tells of a refusal.
    client.start(timeout=10)
    try:
        path = f"/{make.__module__}-{user}"
        client.create(path, b"mine", acl=[kazoo_acl(user)])
        return client.get(path)[0]
    finally:
        client.stop()
        client.close()


# kazoo's start may miss the refusal where that comes fast, and then waits as long as it may.
KAZOO_REFUSED = (kazoo.exceptions.AuthFailedError, KazooTimeoutError)


def kazoo_acl(user: str) -> ACL:
    return ACL(Permissions.ALL, Id("sasl", user))


@pytest.mark.parametrize("make", [kazoo.client.KazooClient, KazooClient], ids=["kazoo", "the drop-in"])
@pytest.mark.parametrize("user", USERS)
def test_clients_of_kazoos_kind(place: Place, make: type[KazooClient], user: str) -> None:
    pytest.importorskip("puresasl", reason="kazoo does SASL with the package pure-sasl")
    if make is not KazooClient and user in KAZOO_FAILS:
        with pytest.raises(KAZOO_REFUSED):
            lives(make, place, user, USERS[user])
        return
    assert lives(make, place, user, USERS[user]) == b"mine"


@pytest.mark.parametrize("make", [kazoo.client.KazooClient, KazooClient], ids=["kazoo", "the drop-in"])
def test_a_wrong_password_of_kazoos_kind(place: Place, make: type[KazooClient]) -> None:
    pytest.importorskip("puresasl", reason="kazoo does SASL with the package pure-sasl")
    told = AuthFailedError if make is KazooClient else KAZOO_REFUSED
    began = time.monotonic()
    with pytest.raises(told):
        lives(make, place, "bob", "wrong")
    assert make is not KazooClient or time.monotonic() - began < 10


# -- Apache's Java client


def java(place: Place, folder: Path, user: str, password: str, commands: str, state: str) -> str:
    """What zkCli prints on commands, as a user, at least until the connection has come to that state."""
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    jaas = folder / "client.conf"
    jaas.write_text(f'Client {{ {MODULE} required username="{user}" password="{quoted}"; }};\n', encoding="utf-8")
    flags = [*QUICK_JVM_FLAGS, f"-Djava.security.auth.login.config={jaas}"]
    return "".join(talk_to_zkcli(place.hosts, commands, f"state:{state}", folder, flags))


@pytest.mark.parametrize("user", ["bob", "lat", "cyr", "esc"])
def test_javas_client_is_who_it_says(start: Start, tmp_path: Path, user: str) -> None:
    here = start("here")
    commands = f"whoami\ncreate /java-{user} x sasl:{user}:cdrwa\nget /java-{user}\n"
    said = java(here, tmp_path, user, USERS[user], commands, "SaslAuthenticated")
    assert f"sasl: {user}" in said
    assert f"Created /java-{user}" in said


def test_a_wrong_password_of_javas_client(start: Start, tmp_path: Path) -> None:
    said = java(start("here"), tmp_path, "bob", "wrong", "whoami\n", "AuthFailed")
    assert "sasl: bob" not in said


# -- what identities are good for


async def outcomes(start: Start, name: str, **properties: str) -> list[object]:
    """What each user may do to znodes of several users; one list for each kind of server, to be compared."""
    place = await trio.to_thread.run_sync(partial(start, name, **properties))
    found: list[object] = []
    async with open_zookeeper(place.hosts, sasl=DigestMd5("bob", USERS["bob"])) as bob:
        for acl_id in ("bob", "esc", "anybody", "super", "no@such", "a/b/c@d", "bob@REALM", ""):
            found.append(await outcome(bob, f"/of-{acl_id.replace('/', '-')}", acl_id))
    for user, password in USERS.items():
        async with open_zookeeper(place.hosts, sasl=DigestMd5(user, password)) as zk:
            found.append((user, sorted(tuple(info) for info in await zk.who_am_i())))
            for acl_id in ("bob", "esc", "anybody", "super"):
                try:
                    found.append((await zk.get(f"/of-{acl_id}"))[0])
                except NoAuthError:
                    found.append("NoAuth")
    return found


async def outcome(zk: ZooKeeper, path: str, acl_id: str) -> str:
    try:
        await zk.create(path, b"x", acl=[ACL(Permissions.ALL, Id("sasl", acl_id))])
    except KazooException as error:
        return type(error).__name__
    return "created"


@pytest.mark.parametrize(
    "properties", [{}, {"superUser": "super"}, {"letAnySaslUserDoX": "anybody"}], ids=["plain", "superUser", "anybody"]
)
async def test_identities_count_for_the_same(start: Start, properties: dict[str, str]) -> None:
    there = await outcomes(start, "there", **properties)
    here = await outcomes(start, "here", **properties)
    assert here == there
    assert "NoAuth" in there


# -- raw answers


def token(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def right(challenge: Frame, user: str = "bob", password: str = "bobsecret") -> bytes:
    answer = DigestMd5Conversation(user, password, lambda: "cnonce").respond(challenge.body[4:])
    assert answer is not None
    return answer


Step = bytes | str | None
"""A token; "right" or "wrong" for the answer to the challenge; other words for other requests."""

SCRIPTS: dict[str, list[Step]] = {
    "right": [b"", "right", "exists"],
    "a first token": [b"anything", "right", "exists"],
    "wrong": [b"", "wrong", "exists"],
    "nonsense": [b"", b"nonsense", "exists"],
    "empty": [b"", b"", "exists"],
    "null first": [None],
    "null second": [b"", None],
    "one more": [b"", "right", b"", "exists"],
    "again": [b"", "right", b"", "right"],
    "before": ["exists", b"", "right"],
    "a ping before": ["ping"],
    "digest instead": ["digest", "exists"],
    "sasl as an auth packet": ["sasl"],
    "closing": ["close"],
}


WORDS = {"right": "bobsecret", "wrong": "guessed"}


def play(port: int, script: list[Step]) -> list[object]:
    """What a server answers: xid, code and kind of body of each frame, and whether it hangs up."""
    said: list[object] = []
    challenge = Frame(0, 0, 0, b"")
    with RawClient(port) as client:
        client.connect()
        for xid, step in enumerate(script, 1):
            expected = xid
            if step == "exists":
                client.send(request(xid, Opcode.EXISTS, struct.pack(">i", 1) + b"/\0"))
            elif step == "ping":
                expected = -2
                client.send(request(-2, Opcode.PING))
            elif step == "close":
                client.send(request(xid, Opcode.CLOSE_SESSION))
            elif step in ("digest", "sasl"):
                expected = -4
                body = struct.pack(">ii", 0, len(step)) + str(step).encode() + token(b"bob:bobsecret")
                client.send(request(-4, Opcode.AUTH, body))
            else:
                data = right(challenge, password=WORDS[step]) if isinstance(step, str) else step
                client.send(request(xid, Opcode.SASL, token(data)))
            try:
                frame = client.read_until(expected)[-1]
            except Closed:
                said.append("closed")
                return said
            if frame.body[4:].startswith(b"realm="):
                challenge = frame
            said.append((frame.xid, frame.err, kind(frame)))
        try:
            client.barrier()
        except Closed:
            said.append("closed")
        return said


def kind(frame: Frame) -> object:
    """A body without what is another each time."""
    for word in (b"realm=", b"rspauth="):
        if frame.body[4:].startswith(word):
            return word
    return len(frame.body)


MODES: dict[str, dict[str, str]] = {
    "optional": {},
    "lenient": {"allowSaslFailedClients": "true"},
    "required": {"sessionRequireClientSASLAuth": "true"},
    "required of a lenient server": {"sessionRequireClientSASLAuth": "true", "allowSaslFailedClients": "true"},
    "enforced": {"enforce__auth__enabled": "true", "enforce__auth__schemes": "sasl,digest"},
}


@pytest.mark.parametrize("mode", [*MODES, "no users"])
def test_raw_answers(start: Start, mode: str) -> None:
    properties: dict[str, str] = MODES.get(mode, {})
    with_users = mode != "no users"
    there = start("there", with_users=with_users, **properties).port
    here = start("here", with_users=with_users, **properties).port
    scripts = {name: script for name, script in SCRIPTS.items() if with_users or "right" not in script}
    scripts = {name: script for name, script in scripts.items() if with_users or "wrong" not in script}
    answers = {name: (play(there, script), play(here, script)) for name, script in scripts.items()}
    assert {name: found for name, (_, found) in answers.items()} == {
        name: found for name, (found, _) in answers.items()
    }
