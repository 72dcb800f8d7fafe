"""`open_zookeeper`: from arguments to a connected client, and back to nothing left."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import trio

from ._client import ZooKeeper
from ._clock import BootClock, Clock
from ._core import ClientCore
from ._effects import SaslMechanism, SessionConfig
from ._ensemble import follow_ensemble
from ._hosts import Endpoint, HostList, parse_hosts
from ._janitor import Janitor
from ._retry import RetryPolicy
from ._runner import SessionRunner, Timeouts
from ._scopes import PlainNursery
from ._session import Session
from ._transport import TcpTransport, Transport
from ._websocket import WebSocketOptions, WebSocketTransport, refuse_exposure
from .errors import ConfigurationError, ConnectTimeoutError
from .paths import Chroot
from .values import ACL, OPEN_ACL_UNSAFE, check_acl
from .wire.primitives import DEFAULT_MAX_FRAME


def _seconds(name: str, value: float, *, zero: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not (value >= 0 if zero else value > 0):
        raise ValueError(f"{name} must be {'at least' if zero else 'more than'} 0 seconds, not {value!r}")
    return float(value)


def _positive(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive int, not {value!r}")
    return value


def _parse(hosts: str | Iterable[str], chroot: str | None) -> tuple[list[Endpoint], Chroot]:
    endpoints, chroot_of_hosts = parse_hosts(hosts)
    if chroot is not None and chroot_of_hosts is not None and chroot != chroot_of_hosts:
        raise ConfigurationError(f"two chroots: {chroot!r}, and {chroot_of_hosts!r} in hosts {hosts!r}")
    return endpoints, Chroot(chroot if chroot is not None else chroot_of_hosts)


def _credentials(auth: Iterable[tuple[str, str | bytes]]) -> tuple[tuple[str, bytes], ...]:
    checked: list[tuple[str, bytes]] = []
    if not isinstance(auth, Iterable):
        raise ConfigurationError("auth must be a list of (scheme, credential) pairs, like ('digest', 'user:password')")
    for pair in auth:
        # The message must not show what may be a secret.
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ConfigurationError("auth must be (scheme, credential) pairs, like ('digest', 'user:password')")
        scheme, credential = pair
        if not isinstance(scheme, str) or not isinstance(credential, (str, bytes)):
            raise ConfigurationError("auth must be (scheme, credential) pairs of str (or bytes for the credential)")
        try:
            scheme.encode()
            checked.append((scheme, credential.encode() if isinstance(credential, str) else credential))
        except UnicodeEncodeError:
            raise ConfigurationError("a scheme or credential of auth cannot be encoded as UTF-8") from None
    return tuple(checked)


def _client_id(client_id: tuple[int, bytes] | None) -> tuple[int, bytes] | None:
    if client_id is None:
        return None
    # The message shows nothing of it: the password is a secret.
    if not isinstance(client_id, tuple) or len(client_id) != 2:
        raise ConfigurationError("client_id must be (session id, password)")
    session_id, passwd = client_id
    if isinstance(session_id, bool) or not isinstance(session_id, int) or not -(2**63) <= session_id < 2**63:
        raise ConfigurationError("the session id of client_id must be an int of 64 bits")
    if not isinstance(passwd, bytes) or len(passwd) != 16:
        raise ConfigurationError("the password of client_id must be 16 bytes")
    return client_id


def _check_combination(
    endpoints: list[Endpoint],
    tls: ssl.SSLContext | None,
    transport: Transport | None,
    websocket: WebSocketOptions | None,
    track_ensemble: bool,
) -> None:
    through_gateways = any(endpoint.url is not None for endpoint in endpoints)
    if tls is not None and track_ensemble:
        raise ConfigurationError(
            "track_ensemble cannot go with tls: the ensemble's configuration names plain ports only"
        )
    if through_gateways and track_ensemble:
        raise ConfigurationError(
            "track_ensemble cannot go with ws:// and wss:// hosts: the ensemble's configuration names no gateways"
        )
    if tls is not None and transport is not None and not any(endpoint.is_secure for endpoint in endpoints):
        raise ConfigurationError("tls belongs to the default transport; give the context to your transport instead")
    if websocket is not None:
        if not isinstance(websocket, WebSocketOptions):
            raise TypeError(f"websocket must be WebSocketOptions, not {type(websocket).__name__}")
        refuse_exposure(websocket, endpoints)


def _dialler(
    transport: Transport | None, tls: ssl.SSLContext | None, websocket: WebSocketOptions | None, config: SessionConfig
) -> WebSocketTransport:
    """The transport for plain servers and gateways; without one of the caller's, gateways get TLS by their address."""
    plain, bare = transport or TcpTransport(tls), transport or TcpTransport()
    return WebSocketTransport(plain, bare, options=websocket, tls=tls, max_reply_size=config.max_reply_size)


def _check_collaborators(
    tls: ssl.SSLContext | None, transport: Transport | None, clock: Clock | None, rng: random.Random | None
) -> None:
    if tls is not None and not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls must be an ssl.SSLContext, not {tls!r}")
    if transport is not None and not (hasattr(transport, "resolve") and hasattr(transport, "dial")):
        raise TypeError(f"transport must be a Transport, with 'resolve' and 'dial', not {transport!r}")
    if clock is not None and not hasattr(clock, "now"):
        raise TypeError(f"clock must be a Clock, with 'now', not {clock!r}")
    if rng is not None and not isinstance(rng, random.Random):
        raise TypeError(f"rng must be a random.Random, not {rng!r}")


def _mechanism(sasl: Callable[[str], SaslMechanism] | None) -> Callable[[str], SaslMechanism] | None:
    if sasl is not None and not callable(sasl):
        # Not shown: it may be a user and a password.
        raise ConfigurationError("sasl must be DigestMd5(...), Gssapi(...), or make a mechanism from a server's name")
    return sasl


@asynccontextmanager
async def open_zookeeper(
    hosts: str | Iterable[str] = "127.0.0.1:2181",
    *,
    chroot: str | None = None,
    ensure_chroot: bool = False,
    session_timeout: float = 10.0,
    client_id: tuple[int, bytes] | None = None,
    connect_timeout: float | None = 15.0,
    close_timeout: float = 5.0,
    give_up_after: float | None = None,
    renew_session: bool = True,
    read_only: bool = False,
    auth: Iterable[tuple[str, str | bytes]] = (),
    sasl: Callable[[str], SaslMechanism] | None = None,
    tls: ssl.SSLContext | None = None,
    websocket: WebSocketOptions | None = None,
    default_acl: Iterable[ACL] | None = None,
    retry: RetryPolicy | None = None,
    randomize_hosts: bool = True,
    track_ensemble: bool = False,
    max_request_size: int = DEFAULT_MAX_FRAME,
    max_reply_size: int = 16 * 1024 * 1024,
    max_in_flight: int = 16_384,
    transport: Transport | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> AsyncIterator[ZooKeeper]:
    """Opens a session for the block. On exit it is closed, so that its ephemerals go at once.

    What the body raises leaves the block unchanged.

    Args:
        hosts: "h1:p1,h2:p2/chroot", "[::1]:2181", or a list of "host:port". Names are resolved again at every dial.
            "ws://host:port/path" and "wss://..." entries are WebSocket gateways.
        chroot: path put before every path; instead of the one in `hosts`, and the only way beside gateways.
        ensure_chroot: create the chroot if it is missing, instead of raising `ConfigurationError`.
        session_timeout: asked for, in seconds; the server's limits apply (`ZooKeeper.session_timeout` is what it gave).
        client_id: (session id, password) of a session to resume.
        connect_timeout: bound for the first connection, in seconds; `None`: the block begins without one, its calls
            wait until there is one, and the chroot is not looked at.
        close_timeout: bound for the end: deferred deletions and the close of the session, in seconds.
        give_up_after: seconds without any server after which the session counts as lost; `None`: only a server's word
            makes it so, because ZooKeeper gives every session a fresh timeout after a total outage.
        renew_session: after a lost session open a new one, instead of failing every further call.
        read_only: also take a server that has lost its quorum; the client moves on as soon as it finds one that has
            not.
        auth: (scheme, credential) pairs, sent on every connection before anything else.
        sasl: `DigestMd5(...)`, `Gssapi(...)`, or whatever makes a mechanism for a connection from the server's name as
            it stands in `hosts`. Nothing else is sent before the conversation is over.
        tls: context for TLS connections, also those of wss:// entries; without it these trust the system's authorities.
        websocket: headers and token for ws:// and wss:// entries.
        default_acl: for znodes created without one; world:anyone with all permissions if not given.
        retry: retries of requests that failed with a lost connection, where that is safe; `None` for none.
        randomize_hosts: try the servers in random order.
        track_ensemble: follow `/zookeeper/config`, so that servers which join or leave are known for the next
            connection.
        max_request_size: longest request in bytes, the server's `jute.maxbuffer`.
        max_reply_size: longest reply in bytes; a longer one costs the connection and fails its request.
        max_in_flight: requests that may wait for an answer at a time.
        transport: how to reach servers; TCP, or TLS with `tls`, if not given.
        clock: for the session's times; one that goes on while the machine sleeps if not given.
        rng: source of chance, for reproducible runs.

    Raises:
        ConfigurationError, ValueError, TypeError: an argument.
        ConnectTimeoutError: no server gave a session within `connect_timeout`; the last failure is the cause.
        AuthFailedError: a server refused `auth` or `sasl`.
        SessionExpiredError: `client_id` names no live session, and `renew_session` is False.
    """
    endpoints, view = _parse(hosts, chroot)
    _check_collaborators(tls, transport, clock, rng)
    _check_combination(endpoints, tls, transport, websocket, track_ensemble)
    config = SessionConfig(
        session_timeout=_seconds("session_timeout", session_timeout),
        read_only=read_only,
        client_id=_client_id(client_id),
        auth=_credentials(auth),
        max_reply_size=_positive("max_reply_size", max_reply_size),
        max_in_flight=_positive("max_in_flight", max_in_flight),
        renew_session=renew_session,
        sasl=_mechanism(sasl),
    )
    patience = None if give_up_after is None else _seconds("give_up_after", give_up_after)
    chance = rng or random.Random()
    dialler = _dialler(transport, tls, websocket, config)
    core = ClientCore(
        SessionRunner(
            Session(config),
            dialler,
            HostList(endpoints, chance, shuffle=randomize_hosts),
            clock or BootClock(),
            chance,
            Timeouts(_seconds("close_timeout", close_timeout, zero=True), patience),
        ),
        Janitor(chance),
        default_acl=OPEN_ACL_UNSAFE if default_acl is None else check_acl(default_acl),
        retry=retry,
        max_request_size=_positive("max_request_size", max_request_size),
    )
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise TypeError(f"retry must be a RetryPolicy or None, not {retry!r}")
    limit = None if connect_timeout is None else _seconds("connect_timeout", connect_timeout)
    async with _running(core, dialler, limit) as nursery:
        client = ZooKeeper(core, view)
        if view.prefix and limit is not None:
            await _check_chroot(client, ensure_chroot)
        if track_ensemble:
            nursery.start_soon(follow_ensemble, client, core.runner.hosts)
        yield client


@asynccontextmanager
async def _running(
    core: ClientCore, dialler: WebSocketTransport, connect_limit: float | None
) -> AsyncIterator[trio.Nursery]:
    """Runs the client's tasks, connected, for the block; closes the session and ends them behind it."""
    try:
        async with PlainNursery() as nursery:
            dialler.run_links_in(nursery)
            nursery.start_soon(core.janitor.run)
            nursery.start_soon(core.runner.run)
            nursery.start_soon(core.guard.run)
            try:
                if connect_limit is not None:
                    await _connected(core, connect_limit)
                yield nursery
            finally:
                await core.runner.aclose(core.janitor)
                nursery.cancel_scope.cancel()
    finally:
        # Not before the runner has ended, which may have a last state to tell.
        core.end()


async def _connected(core: ClientCore, limit: float) -> None:
    runner = core.runner
    with trio.move_on_after(limit):
        await runner.settled.wait()
    runner.session.check_usable()
    if runner.session.established == 0:
        raise ConnectTimeoutError(
            f"no server of {', '.join(map(str, runner.hosts.endpoints))} gave a session within {limit} s; "
            f"last failure: {runner.last_error or 'none, no answer yet'}"
        ) from runner.last_error


async def _check_chroot(client: ZooKeeper, ensure: bool) -> None:
    # Harmless to repeat: a connection that goes right now is no reason for the block not to begin.
    if await client.retry(client.exists, "/") is not None:
        return
    if not ensure:
        raise ConfigurationError(
            f"the chroot {client.chroot!r} does not exist on the servers; create it, or pass ensure_chroot=True"
        )
    await client.retry(client.ensure_path, "/")
