"""Servers of one ensemble on loopback: how they are configured for tests, and the ports that are theirs.

Decides the defaults of test ensembles. Refuses to start anything.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from terzetto.client.errors import ConfigurationError

from .config import ServerConfig, build_config
from .config_syntax import Setting
from .membership import Member
from .reserved_port import ReservedPort

HOST = "127.0.0.1"

DEFAULT_TICK = 0.2
"""Tick of an ensemble for tests, in seconds: sessions may be as short as two of them, and expire at most one late."""

MAX_SESSION = 60.0

INIT_LIMIT = 20
SYNC_LIMIT = 8
"""Ticks that a learner has to get in step, and ticks of silence before a server is given up."""

SERVERS_MAX = 254
PORT_MAX = 65535

SECRET_FILE = "session-secret"
SECRET_SIZE = 32
"""In the folder of server 1, where data are kept: what the session passwords are made with, and its bytes."""

VOTERS_FILE = "voters"
"""In the folder of server 1, where data are kept: how many servers with a vote have them."""


@dataclass(frozen=True)
class Seat:
    """One server's place: its configuration, and the ports that are kept for it."""

    config: ServerConfig
    client: ReservedPort
    others: tuple[ReservedPort, ...] = ()
    web: ReservedPort | None = None

    @property
    def sid(self) -> int:
        """The server's id, also that of one alone."""
        return self.config.sid or 1

    def close(self) -> None:
        """Gives the ports back."""
        for port in (self.client, *self.others, *([self.web] if self.web is not None else [])):
            port.close()


def reserve_seats(
    servers: int,
    observers: int,
    *,
    base_port: int | None,
    data_dir: str | Path | None,
    tick_time: float,
    settings: Mapping[str, object] | None,
    peer_host: Callable[[int], str] | None = None,
    websocket: bool = False,
) -> list[Seat]:
    """Places for the servers of a new ensemble, ids from 1 on, those without a vote last.

    Args:
        servers: how many voters.
        observers: how many servers without a vote.
        base_port: client port of server 1, the others' follow; None picks free ones.
        data_dir: a folder with one sub-folder a server; None keeps everything in memory.
        tick_time: in seconds.
        settings: more of zoo.cfg's keys.
        peer_host: what a server is called by the others, where that is no TCP address; None reserves ports for it.
        websocket: whether each opens a WebSocket door, on a free port.

    Raises:
        ConfigurationError: an argument or a setting that cannot be used.
        OSError: a port is taken.
    """
    if servers < 1:
        raise ConfigurationError(f"servers must be at least 1, not {servers}")
    if observers < 0:
        raise ConfigurationError(f"observers must be at least 0, not {observers}")
    if servers + observers > SERVERS_MAX:
        raise ConfigurationError(f"{servers} servers and {observers} observers: at most {SERVERS_MAX} together")
    if base_port is not None and not 1 <= base_port <= PORT_MAX - (servers + observers) + 1:
        last = base_port + servers + observers - 1
        raise ConfigurationError(f"client ports from {base_port} to {last}: must be between 1 and {PORT_MAX}")
    sids = range(1, servers + observers + 1)
    with contextlib.ExitStack() as ports:

        def reserve(number: int = 0) -> ReservedPort:
            port = ReservedPort(HOST, number)
            ports.callback(port.close)
            return port

        clients = {sid: reserve(0 if base_port is None else base_port + sid - 1) for sid in sids}
        others: dict[int, tuple[ReservedPort, ...]] = {}
        members: list[Member] = []
        for sid in sids if len(sids) > 1 else ():
            others[sid] = () if peer_host is not None else (reserve(), reserve())
            quorum, election = (port.number for port in others[sid]) if others[sid] else (2888, 3888)
            address = (HOST if peer_host is None else peer_host(sid), quorum, election)
            members.append(Member(sid, (address,), sid > servers, HOST, clients[sid].number))
        seats: list[Seat] = []
        for sid in sids:
            folder = None if data_dir is None else Path(data_dir) / str(sid)
            config = loopback_config(tick_time, folder, settings, port=clients[sid].number)
            if members:
                config = replace(
                    config,
                    sid=sid,
                    members=tuple(members),
                    observer=sid > servers,
                    standalone_enabled=False,
                )
            web = reserve() if websocket else None
            if web is not None:
                config = replace(config, websocket=replace(config.websocket, port=web.number, address=HOST))
            seats.append(Seat(config, clients[sid], others.get(sid, ()), web))
        if data_dir is not None:
            _claim(Path(data_dir), servers)
        # From here on they are the caller's.
        ports.pop_all()
    return seats


def _claim(data_dir: Path, servers: int) -> None:
    """Notes how many voters have their data there. With another number of them, what a quorum has acknowledged may be
    known to none of those who then elect a leader, and would be lost.
    """
    note = data_dir / "1" / VOTERS_FILE
    try:
        found = note.read_text("ascii").strip()
    except FileNotFoundError:
        # A folder that cannot be written to is reported by the server that cannot use it.
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(f"{servers}\n", "ascii")
        return
    except (OSError, ValueError):
        return
    if found != str(servers):
        raise ConfigurationError(
            f"{data_dir} holds the data of an ensemble with servers={found}: with {servers}, a leader might be elected "
            "that lacks what that one has acknowledged"
        )


def session_secret(seats: Sequence[Seat]) -> bytes:
    """What the session passwords of an ensemble are made with. It is kept where data are kept: the sessions are there,
    too, and their clients come back to them.
    """
    fresh = secrets.token_bytes(SECRET_SIZE)
    folder = seats[0].config.data_dir
    if folder is None:
        return fresh
    # A folder that cannot be used is reported by its server.
    with contextlib.suppress(OSError):
        path = folder / SECRET_FILE
        if path.exists() and len(kept := path.read_bytes()) == SECRET_SIZE:
            return kept
        folder.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(fresh)
    return fresh


def with_users(settings: Mapping[str, object] | None, users: Mapping[str, str] | None) -> Mapping[str, object] | None:
    """The settings with users who may authenticate by SASL."""
    if not users:
        return settings
    provider = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
    return {
        "authProvider.sasl": provider,
        **{f"saslUser.{name}": password for name, password in users.items()},
        **(settings or {}),
    }


def loopback_config(
    tick_time: float, folder: Path | None, settings: Mapping[str, object] | None, *, port: int
) -> ServerConfig:
    """The configuration of a server for tests.

    Args:
        tick_time: in seconds.
        folder: its data directory, None to keep everything in memory.
        settings: more of zoo.cfg's keys, or other values for those that are set here.
        port: its client port.

    Raises:
        ConfigurationError: a setting that cannot be used.
    """
    if not 0.001 <= tick_time < math.inf:
        raise ConfigurationError(f"the tick must be a number of seconds from 0.001 on, not {tick_time}")
    tick_ms = round(tick_time * 1000)
    defaults: dict[str, object] = {
        "tickTime": tick_ms,
        "initLimit": INIT_LIMIT,
        "syncLimit": SYNC_LIMIT,
        "maxSessionTimeout": max(round(MAX_SESSION * 1000), 20 * tick_ms),
        "maxClientCnxns": 0,
        "4lw.commands.whitelist": "*",
        "admin.enableServer": "false",
        "extendedTypesEnabled": "true",
        "dataDir": folder or "memory",
    }
    given = {**defaults, **(settings or {})}
    place = "settings"
    config = build_config((Setting(key, _spelled(value), place, 0) for key, value in given.items()), place)
    config = replace(config, client_port=port, client_address=HOST)
    return config if folder is not None else replace(config, data_dir=None, data_log_dir=None)


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
