"""`open_zookeeper`: which arguments are refused, what the others do, and chroots."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import (
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
    AuthFailedError,
    ConfigurationError,
    ConnectTimeoutError,
    KazooState,
    KeeperState,
    NoAuthError,
    NotReadOnlyCallError,
    ReplyTooLargeError,
    SessionExpiredError,
)
from terzetto.client.wire import Opcode

from .memory_server import Door, MemoryEnsemble, pass_time, settle, until
from .server_link import Code, Fault, nth

# Arguments ------------------------------------------------------------------------------------------------------------

BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"hosts": ""}, ConfigurationError, r"empty entry in hosts ''"),
    ({"hosts": []}, ConfigurationError, r"hosts \[\] name no server"),
    ({"hosts": [1]}, ConfigurationError, r"must be a str like 'host:port', not 1"),
    ({"hosts": None}, ConfigurationError, "hosts must be .* or a list of str, not NoneType"),
    ({"hosts": b"a:2181"}, ConfigurationError, "hosts must be .* or a list of str, not bytes"),
    ({"hosts": "a:0"}, ConfigurationError, r"port '0' is not a number from 1 to 65535"),
    ({"hosts": "::1"}, ConfigurationError, r"stands in brackets"),
    ({"hosts": "a/b//c"}, ConfigurationError, r"'/b//c'.*empty element"),
    ({"hosts": "a/x", "chroot": "/y"}, ConfigurationError, r"two chroots: '/y', and '/x' in hosts 'a/x'"),
    ({"chroot": "x"}, ValueError, r"invalid chroot 'x': it must start with '/'"),
    ({"chroot": "/x/"}, ValueError, r"invalid chroot '/x/': it must not end with '/'"),
    ({"session_timeout": 0}, ValueError, r"session_timeout must be more than 0 seconds, not 0"),
    ({"session_timeout": -1.5}, ValueError, r"session_timeout must be more than 0 seconds, not -1\.5"),
    ({"session_timeout": float("nan")}, ValueError, r"session_timeout must be more than 0 seconds, not nan"),
    ({"session_timeout": "10"}, TypeError, r"session_timeout must be a number of seconds, not '10'"),
    ({"session_timeout": True}, TypeError, r"session_timeout must be a number of seconds, not True"),
    ({"connect_timeout": 0.0}, ValueError, r"connect_timeout must be more than 0 seconds, not 0\.0"),
    ({"connect_timeout": "1"}, TypeError, r"connect_timeout must be a number of seconds, not '1'"),
    ({"close_timeout": -1}, ValueError, r"close_timeout must be at least 0 seconds, not -1"),
    ({"give_up_after": 0}, ValueError, r"give_up_after must be more than 0 seconds, not 0"),
    ({"give_up_after": "x"}, TypeError, r"give_up_after must be a number of seconds, not 'x'"),
    ({"client_id": (1,)}, ConfigurationError, r"client_id must be \(session id, password\)"),
    ({"client_id": (1, b"short")}, ConfigurationError, r"the password of client_id must be 16 bytes"),
    ({"client_id": ("1", bytes(16))}, ConfigurationError, r"session id of client_id must be an int of 64 bits"),
    ({"sasl": ("bob", "s3cret")}, ConfigurationError, r"sasl must be DigestMd5\(...\), Gssapi"),
    ({"auth": None}, ConfigurationError, r"auth must be a list of \(scheme, credential\) pairs"),
    ({"auth": ["digest"]}, ConfigurationError, r"auth must be \(scheme, credential\) pairs"),
    ({"auth": [("digest",)]}, ConfigurationError, r"auth must be \(scheme, credential\) pairs"),
    ({"auth": [("digest", 7)]}, ConfigurationError, r"auth must be \(scheme, credential\) pairs of str"),
    ({"default_acl": OPEN_ACL_UNSAFE[0]}, TypeError, r"acl must be a list of ACL, not one bare ACL"),
    ({"default_acl": []}, ValueError, r"acl is empty"),
    ({"default_acl": 7}, TypeError, r"acl must be a list of ACL, not int: 7"),
    ({"tls": "x"}, TypeError, r"tls must be an ssl.SSLContext, not 'x'"),
    ({"transport": 7}, TypeError, r"transport must be a Transport, with 'resolve' and 'dial', not 7"),
    ({"clock": 7}, TypeError, r"clock must be a Clock, with 'now', not 7"),
    ({"rng": 7}, TypeError, r"rng must be a random.Random, not 7"),
    ({"max_request_size": 0}, ValueError, r"max_request_size must be a positive int, not 0"),
    ({"max_reply_size": 1.5}, ValueError, r"max_reply_size must be a positive int, not 1\.5"),
    ({"max_in_flight": True}, ValueError, r"max_in_flight must be a positive int, not True"),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD_ARGUMENTS)
async def test_bad_arguments_are_refused_before_anything_is_dialled(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        async with ensemble.open(**options):
            raise AssertionError("not connected")
    assert not ensemble.dials


async def test_a_context_for_tls_and_a_transport_of_ones_own_exclude_each_other(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    with pytest.raises(ConfigurationError, match="tls belongs to the default transport"):
        async with ensemble.open(tls=ssl.create_default_context()):
            raise AssertionError("not connected")
    assert not ensemble.dials


@pytest.mark.parametrize("auth", ["digest:alice:secret", [("digest", 7, "secret")], [("digest:secret",)]])
async def test_the_refusal_of_auth_does_not_show_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, auth: Any
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with ensemble.open(auth=auth):
            raise AssertionError("not connected")
    assert "secret" not in str(caught.value)


# What the arguments do ------------------------------------------------------------------------------------------------


async def test_hosts_are_tried_in_the_order_given_when_asked(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.doors.update(a=Door.REFUSES, b=Door.REFUSES)
    async with ensemble.open("a:1,b:2,c:3", randomize_hosts=False):
        assert [host for _, host in ensemble.dials] == ["a", "b", "c"]


async def test_the_session_timeout_is_what_the_server_gave(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.timeout_max_ms = 4_000
    async with ensemble.open(session_timeout=9.5) as zk:
        assert zk.session_timeout == 4.0
        handshake = ensemble.link.handshake
        assert handshake is not None
        assert handshake.timeout == 9_500


async def test_credentials_go_first_on_every_connection(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(auth=[("digest", "a:1"), ("digest", b"b:2")]) as zk:
        await zk.get("/")
        ensemble.cut()
        await until(lambda: len(ensemble.links) == 2 and zk.connected)
        await zk.get("/")
    for link in ensemble.links:
        assert [request.record.auth for request in link.received[:2]] == [b"a:1", b"b:2"]


async def test_a_refused_credential_ends_the_client(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.refused_credentials = frozenset({b"bad"})
    start = trio.current_time()
    with pytest.raises(AuthFailedError):
        async with ensemble.open(auth=[("digest", b"bad")]):
            raise AssertionError("not connected")
    assert trio.current_time() - start < 1.0


async def test_a_session_can_be_resumed(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    session_id = ensemble.realm.open_session(10_000)
    passwd = ensemble.realm.sessions[session_id].passwd
    async with ensemble.open(client_id=(session_id, passwd)) as zk:
        assert zk.client_id == (session_id, passwd)
        assert list(ensemble.realm.sessions) == [session_id]


async def test_a_session_that_is_over_cannot(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    with pytest.raises(SessionExpiredError):
        async with ensemble.open(client_id=(99, b"x" * 16), renew_session=False):
            raise AssertionError("not connected")
    assert not ensemble.realm.sessions


async def test_a_session_that_is_over_is_replaced_by_default(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(client_id=(99, b"x" * 16)) as zk:
        assert zk.session_id in ensemble.realm.sessions
        assert zk.session_id != 99


async def test_without_renewal_a_lost_session_is_the_end(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(renew_session=False) as zk:
        ensemble.expire(zk.session_id)
        await until(lambda: zk.state == KazooState.LOST)
        dials = len(ensemble.dials)
        with pytest.raises(SessionExpiredError):
            await zk.get("/")
        await pass_time(100.0)
        assert len(ensemble.dials) == dials


async def test_a_read_only_server_is_left_for_one_with_a_quorum(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.doors["b"] = Door.REFUSES
    ensemble.read_only = {"a"}
    async with ensemble.open("a,b", randomize_hosts=False, read_only=True) as zk:
        assert zk.client_state == KeeperState.CONNECTED_RO
        with pytest.raises(NotReadOnlyCallError):
            await zk.create("/x")
        ensemble.doors["b"] = Door.OPEN
        await until(lambda: zk.client_state == KeeperState.CONNECTED)
        assert ensemble.dials[-1][1] == "b"
        await zk.create("/x")


async def test_without_read_only_such_a_server_will_not_do(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.read_only = {"a"}
    with pytest.raises(ConnectTimeoutError):
        async with ensemble.open("a", connect_timeout=2.0):
            raise AssertionError("not connected")


async def test_a_reply_over_the_limit_fails_its_request_only(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/big", b"x" * 5000)
    async with ensemble.open(max_reply_size=4000) as zk:
        with pytest.raises(ReplyTooLargeError, match="max_reply_size"):
            await zk.get("/big")
        assert await zk.exists("/big") is not None


async def test_a_request_over_the_limit_is_not_sent(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(max_request_size=1000) as zk:
        sent = len(ensemble.received)
        with pytest.raises(ValueError, match=r"create of '/big' needs \d+ bytes, the server takes 1000"):
            await zk.create("/big", b"x" * 1000)
        assert len(ensemble.received) == sent
        assert await zk.create("/small", b"x" * 900) == "/small"


async def test_requests_in_flight_are_bounded(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(max_in_flight=3) as zk:
        ensemble.link.paused = True
        sent = len(ensemble.received)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(zk.get, "/")
            await settle()
            assert len(ensemble.received) - sent == 3
            ensemble.link.resume()
        assert len(ensemble.received) - sent == 10


async def test_the_default_acl_is_used_where_none_is_given(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(default_acl=READ_ACL_UNSAFE) as zk:
        await zk.create("/a")
        await zk.create("/b", acl=OPEN_ACL_UNSAFE)
        async with zk.transaction() as t:
            t.create("/c")
        assert ensemble.realm.get("/a").acl == READ_ACL_UNSAFE
        assert ensemble.realm.get("/b").acl == OPEN_ACL_UNSAFE
        assert ensemble.realm.get("/c").acl == READ_ACL_UNSAFE
        zk.default_acl = OPEN_ACL_UNSAFE
        await zk.create("/d")
        assert ensemble.realm.get("/d").acl == OPEN_ACL_UNSAFE


# Chroots --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"hosts": "a:1/app/x"}, {"chroot": "/app/x"}])
async def test_an_absent_chroot_is_a_clear_error(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"the chroot '/app/x' does not exist .* ensure_chroot=True"):
        async with ensemble.open(**options):
            raise AssertionError("no chroot")
    assert "/app" not in ensemble.realm.znodes
    assert not ensemble.realm.sessions


@pytest.mark.parametrize("hosts", ["a:1/app/x", ["a:1", "b:1", "/app/x"]])
async def test_an_absent_chroot_is_made_when_asked(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, hosts: Any
) -> None:
    async with ensemble.open(hosts, ensure_chroot=True) as zk:
        assert zk.chroot == "/app/x"
        await zk.create("/y", b"1")
    assert ensemble.realm.get("/app/x/y").data == b"1"


@pytest.mark.parametrize("opcode", [Opcode.EXISTS, Opcode.CREATE])
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DO_AND_CUT])
async def test_a_connection_lost_while_the_chroot_is_looked_at_is_no_error(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, opcode: Opcode, fault: Fault
) -> None:
    ensemble.rules.append(nth(1, opcode, fault))
    async with ensemble.open(chroot="/x/y", ensure_chroot=True) as zk:
        assert await zk.exists("/") is not None
        assert len(ensemble.links) == 2


async def test_others_may_make_the_chroot_at_the_same_time(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.rules.append(_before(Opcode.CREATE, lambda: ensemble.realm.create("/app")))
    async with ensemble.open(chroot="/app/x", ensure_chroot=True) as zk:
        assert await zk.exists("/") is not None


def _before(opcode: int, act: Callable[[], None]) -> Any:
    """Somebody else acts right before the first request of this kind."""
    acted = False

    def rule(request: Any) -> None:
        nonlocal acted
        if request.opcode == opcode and not acted:
            acted = True
            act()

    return rule


async def test_a_chroot_that_cannot_be_looked_at_is_that_error(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.rules.append(nth(1, Opcode.EXISTS, Code(-102)))
    with pytest.raises(NoAuthError):
        async with ensemble.open(chroot="/app"):
            raise AssertionError("no chroot")
