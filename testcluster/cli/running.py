"""Servers as processes: what `terzetto server` and `terzetto ensemble` do until a signal ends them.

Decides what a server in a process of its own prints and when it ends. How several are started and watched is in
`forked.py`, what a server does in the modules around this folder.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from terzetto.client._scopes import PlainNursery
from terzetto.client.errors import ConfigurationError, KazooException

from ..config import ServerConfig, load_config
from ..journal import open_storage
from ..loopback import HOST, Seat, reserve_seats, session_secret
from ..server import ZooKeeperServer
from .forked import READY, Family
from .log_lines import start_logging

_log = logging.getLogger("terzetto")

SECRET_MIN = 16
"""Bytes that a session secret must have at least."""


def run_server(path: str, *, verbose: bool) -> int:
    """One server from its configuration file, until SIGTERM or SIGINT; the exit status.

    Raises:
        ConfigurationError: the file is wrong.
    """
    start_logging(verbose)
    config = load_config(path)
    for notice in config.notices:
        _log.warning("%s", notice)
    host = config.client_address or HOST
    return _serve(config, _read_secret(config.session_secret_file), _announcing(host))


def run_ensemble(
    servers: int,
    *,
    observers: int,
    base_port: int | None,
    data_dir: str | None,
    tick_time: float,
    settings: Mapping[str, object],
    verbose: bool,
) -> int:
    """An ensemble on loopback, a process a server, until SIGTERM or SIGINT; the exit status.

    Raises:
        ConfigurationError: an argument cannot be used.
    """
    start_logging(verbose)
    try:
        seats = reserve_seats(
            servers,
            observers,
            base_port=base_port,
            data_dir=None if data_dir is None else Path(data_dir),
            tick_time=tick_time,
            settings=settings,
        )
    except OSError as error:
        print(f"terzetto: {error}", file=sys.stderr)
        return 1
    secret = session_secret(seats)
    try:
        if len(seats) == 1:
            return _serve(seats[0].config, secret, _announcing(HOST))
        # A server imports Zab only when it is to be a member; here it must be there before the processes part.
        importlib.import_module("..quorum_member", __package__)
        hosts = ",".join(f"{HOST}:{seat.client.number}" for seat in seats)
        bodies = {seat.sid: functools.partial(_be_server, seat, secret) for seat in seats}
        return Family(bodies, lambda: print(f"ready {hosts}", flush=True)).run()
    finally:
        for seat in seats:
            seat.close()


def _be_server(seat: Seat, secret: bytes, tells: int, life: int) -> int:
    """One server of an ensemble, in its own process."""

    def announce(_port: int) -> None:
        os.write(tells, READY)

    return _serve(seat.config, secret, announce, life)


def _announcing(host: str) -> Callable[[int], None]:
    # Whoever started this process waits for the line.
    return lambda port: print(f"ready {host}:{port}", flush=True)


def _serve(config: ServerConfig, secret: bytes | None, announce: Callable[[int], None], life: int | None = None) -> int:
    try:
        trio.run(_run_until_signal, config, secret, announce, life)
    except (KazooException, OSError) as error:
        print(f"terzetto: {error}", file=sys.stderr)
        return 1
    return 0


async def _run_until_signal(
    config: ServerConfig, secret: bytes | None, announce: Callable[[int], None], life: int | None
) -> None:
    changed = trio.Event()

    def tell() -> None:
        changed.set()

    server = ZooKeeperServer(config, storage=open_storage(config), secret=secret, on_change=tell)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with PlainNursery() as nursery:
            if life is not None:
                nursery.start_soon(_end_with, life, server)

            async def stop_on_signal() -> None:
                async for number in signals:
                    _log.info("%s: stopping", signal.Signals(number).name)
                    break
                server.stop()

            nursery.start_soon(stop_on_signal)
            port = await nursery.start(server.run)
            while not (server.is_serving or server.has_ended):
                changed = trio.Event()
                await changed.wait()
            if server.is_serving:
                announce(port)
            while not server.has_ended:
                changed = trio.Event()
                await changed.wait()
            nursery.cancel_scope.cancel()


async def _end_with(life: int, server: ZooKeeperServer) -> None:
    """Ends the server when the process that has forked this one is gone, however it went."""
    await trio.lowlevel.wait_readable(life)
    _log.warning("the process that started this one is gone: stopping")
    server.stop()


def _read_secret(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"sessionSecretFile {path} cannot be read: {error.strerror}") from error
    if len(secret) < SECRET_MIN:
        raise ConfigurationError(
            f"sessionSecretFile {path} holds {len(secret)} bytes; at least {SECRET_MIN} are needed"
        )
    return secret
