"""`terzetto gateway` as a process, from the first log line to the last connection.

Decides what is said at the start, and what signals do. Refuses to know what a gateway does (`testcluster/gateway.py`).
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import resource
import signal
import ssl
import sys
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, cast

import trio

from terzetto.client._hosts import Endpoint, parse_hosts
from terzetto.client._scopes import PlainNursery
from terzetto.client._transport import TcpTransport
from terzetto.client.errors import ConfigurationError

from .log_lines import start_logging

if TYPE_CHECKING:
    from ..gateway import Gateway

_log = logging.getLogger("terzetto")

# Strangers, questions to the servers, and what every process has open.
_SPARE_FILES = 512


def run_gateway(chosen: argparse.Namespace) -> int:
    """A gateway until SIGTERM or SIGINT; the exit status.

    Raises:
        ConfigurationError: an option cannot be used.
    """
    start_logging(chosen.verbose)
    listen = _one_address(chosen.listen)
    ensemble, chroot = parse_hosts(chosen.ensemble)
    if chroot is not None or any(endpoint.url is not None for endpoint in ensemble):
        raise ConfigurationError("--ensemble: plain servers, without a chroot: clients give theirs as chroot=")
    try:
        trio.run(_serve, chosen, listen, tuple(ensemble))
    except OSError as error:
        print(f"terzetto: {error}", file=sys.stderr)
        return 1
    return 0


def _one_address(text: str) -> Endpoint:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"--listen {text!r}: must be HOST:PORT")
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"
    return Endpoint(host, int(port), host)


def make_room(connections: int) -> None:
    """Raises this process's limit of open files as far as it needs to and may; a warning says where that is too little.

    Args:
        connections: how many there may be, 0 for any number. Each is two files: the client's end, and the server's.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (inf if limit == resource.RLIM_INFINITY else limit for limit in limits)
    needed = 2 * connections + _SPARE_FILES if connections else hard
    if soft < min(needed, hard):
        wanted = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1] if wanted == hard else int(wanted), limits[1]))
    if hard < needed:
        _log.warning("%d connections need %d open files, and this process may have %d", connections, needed, hard)


class Contexts:
    """A gateway's TLS on both sides, as the files hold it; each handshake uses what was read last.

    Args:
        chosen: names the files.

    Attributes:
        door: for clients; `None` without TLS.
        onward: the transport to the servers.

    Raises:
        ConfigurationError: a file cannot be used, or one is missing.
    """

    def __init__(self, chosen: argparse.Namespace) -> None:
        self._chosen = chosen
        self.door = _door_context(chosen)
        self.onward = TcpTransport(_ensemble_context(chosen))

    def read_again(self) -> None:
        """What cannot be used changes nothing, and is logged."""
        if self.door is None and self.onward.tls is None:
            return
        try:
            self.door, self.onward.tls = _door_context(self._chosen), _ensemble_context(self._chosen)
        except ConfigurationError as error:
            _log.error("SIGHUP: %s; the old certificates stay", error)
        else:
            _log.info("SIGHUP: the certificates were read again")


def _door_context(chosen: argparse.Namespace) -> ssl.SSLContext | None:
    if chosen.tls_cert is None:
        if chosen.tls_key is not None or chosen.tls_client_ca is not None:
            raise ConfigurationError("--tls-key and --tls-client-ca need --tls-cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, "--tls-cert", chosen.tls_cert, chosen.tls_key)
    if chosen.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, "--tls-client-ca", chosen.tls_client_ca)
    return context


def _load(context: ssl.SSLContext, option: str, path: str, key: str | None = None) -> None:
    from ..tls_port import load_certificate

    try:
        load_certificate(context, Path(path), None if key is None else Path(key))
    except ValueError as error:
        raise ConfigurationError(f"{option} {path} cannot be used: {error}") from error


def _load_authorities(context: ssl.SSLContext, option: str, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{option} {path} cannot be used: {error}") from error


def _ensemble_context(chosen: argparse.Namespace) -> ssl.SSLContext | None:
    if chosen.ensemble_ca is None:
        if chosen.ensemble_cert is not None:
            raise ConfigurationError("--ensemble-cert needs --ensemble-ca")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load_authorities(context, "--ensemble-ca", chosen.ensemble_ca)
    if chosen.ensemble_cert is not None:
        _load(context, "--ensemble-cert", chosen.ensemble_cert)
    return context


async def _serve(chosen: argparse.Namespace, listen: Endpoint, ensemble: tuple[Endpoint, ...]) -> None:
    from ..client_ports import not_listening
    from ..gateway import Gateway, GatewaySettings, cannot_keep
    from ..tls_port import LateTlsListener
    from ..websocket_door import DoorLimits, TokenFile
    from ..websocket_rules import DoorRules, parse_networks

    try:
        tokens = None if chosen.token_file is None else TokenFile(Path(chosen.token_file))
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"--token-file {chosen.token_file} cannot be used: {error}") from error
    try:
        settings = GatewaySettings(
            ensemble,
            DoorRules(
                path=chosen.path,
                health_path=chosen.health_path,
                origins=frozenset(chosen.origin),
                proxies=parse_networks(chosen.trusted_proxy),
                forwarded_header=chosen.forwarded_header,
            ),
            DoorLimits(
                connections=_natural("--max-connections", chosen.max_connections),
                connections_an_address=_natural("--max-connections-per-address", chosen.max_connections_per_address),
                handshake_timeout=_seconds("--handshake-timeout", chosen.handshake_timeout),
                max_frame=_natural("--max-frame", chosen.max_frame),
            ),
            words=_words(chosen.words),
            drain_timeout=_seconds("--drain-timeout", chosen.drain_timeout),
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    contexts = Contexts(chosen)
    make_room(settings.limits.connections)
    try:
        listener = await TcpTransport().listen(listen)
    except OSError as error:
        raise not_listening("cannot", listen.host, listen.port, error) from error
    is_secure = contexts.door is not None
    if is_secure:
        listener = LateTlsListener(listener, lambda: cast("ssl.SSLContext", contexts.door))
    gateway = Gateway(settings, listener, contexts.onward, tokens=None if tokens is None else tokens.current)
    for line in cannot_keep(settings):
        _log.warning("%s", line)
    if not is_secure and not _is_loopback(gateway.endpoint.host):
        _log.warning("without --tls-cert all traffic is plain text: only an ingress with TLS may reach this port")
    if tokens is None and chosen.tls_client_ca is None and not _is_loopback(gateway.endpoint.host):
        _log.warning("without --token-file or --tls-client-ca whoever reaches this port reaches the ensemble")
    await _run_until_signal(gateway, contexts, chosen.path)


async def _run_until_signal(gateway: Gateway, contexts: Contexts, path: str) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with PlainNursery() as nursery:

            async def take_signals() -> None:
                is_leaving = False
                async for number in signals:
                    if number == signal.SIGHUP:
                        contexts.read_again()
                    elif is_leaving:
                        nursery.cancel_scope.cancel()
                    else:
                        _log.info("%s: stopping", signal.Signals(number).name)
                        is_leaving = True
                        gateway.drain()

            nursery.start_soon(take_signals)
            await nursery.start(_run, gateway, nursery.cancel_scope)
            # Whoever started this process waits for the line.
            scheme = "ws" if contexts.door is None else "wss"
            print(f"ready {scheme}://{gateway.endpoint}{path}", flush=True)


async def _run(
    gateway: Gateway, scope: trio.CancelScope, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED
) -> None:
    await gateway.run(task_status=task_status)
    scope.cancel()


def _words(text: str) -> frozenset[bytes] | None:
    if text.strip() == "*":
        return None
    words = frozenset(word.strip().encode() for word in text.split(",") if word.strip())
    for word in words:
        if len(word) != 4 or not word.isalpha():
            raise ConfigurationError(f"--words: {word.decode()!r} is no four letter word")
    return words


def _natural(option: str, value: int) -> int:
    if value < 0:
        raise ConfigurationError(f"{option} {value}: must not be negative")
    return value


def _seconds(option: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise ConfigurationError(f"{option} {value}: must be a number of seconds above 0")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
