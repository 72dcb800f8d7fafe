"""Servers as processes: what `terzetto server` and `terzetto ensemble` do until a signal ends them."""

from __future__ import annotations

import logging
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from terzetto.client._scopes import PlainNursery
from terzetto.client.errors import ConfigurationError, KazooException

from ..config import ServerConfig, load_config
from ..ensemble import HOST, loopback_config
from ..journal import open_storage
from ..server import ZooKeeperServer

_log = logging.getLogger("terzetto")

SECRET_MIN = 16
"""Bytes that a session secret must have at least."""


def run_server(path: str, *, verbose: bool) -> int:
    """One server from its configuration file, until SIGTERM or SIGINT; the exit status.

    Raises:
        ConfigurationError: the file is wrong.
    """
    _start_logging(verbose)
    config = load_config(path)
    for notice in config.notices:
        _log.warning("%s", notice)
    if not config.is_standalone:
        raise ConfigurationError(
            f"{path}: {len(config.members)} servers: not yet; a quorum arrives with Zab, the protocol between servers"
        )
    host = config.client_address or HOST
    return _serve(config, _read_secret(config.session_secret_file), host)


def run_ensemble(
    servers: int,
    *,
    base_port: int | None,
    data_dir: str | None,
    tick_time: float,
    settings: Mapping[str, object],
    verbose: bool,
) -> int:
    """An ensemble on loopback, until SIGTERM or SIGINT; the exit status.

    Raises:
        ConfigurationError: an argument cannot be used.
    """
    _start_logging(verbose)
    if servers != 1:
        raise ConfigurationError(
            f"--servers {servers}: not yet; an ensemble of more than one server arrives with Zab, the quorum protocol"
        )
    folder = None if data_dir is None else Path(data_dir) / "1"
    config = loopback_config(tick_time, folder, settings, port=base_port or 0)
    return _serve(config, secrets.token_bytes(32), HOST)


def _serve(config: ServerConfig, secret: bytes | None, host: str) -> int:
    try:
        server = ZooKeeperServer(config, storage=open_storage(config), secret=secret)
        trio.run(_run_until_signal, server, host)
    except (KazooException, OSError) as error:
        print(f"terzetto: {error}", file=sys.stderr)
        return 1
    return 0


async def _run_until_signal(server: ZooKeeperServer, host: str) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with PlainNursery() as nursery:
            port = await nursery.start(server.run)
            # Whoever started this process waits for the line.
            print(f"ready {host}:{port}", flush=True)
            async for number in signals:
                _log.info("%s: stopping", signal.Signals(number).name)
                break
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


def _start_logging(verbose: bool) -> None:
    """Log lines go to stderr: coloured on a terminal, else one line a record."""
    handler: logging.Handler = logging.StreamHandler()
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("terzetto")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
