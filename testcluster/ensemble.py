"""An ensemble inside this process: a thread and an event loop of its own, free ports, in memory unless told otherwise.

Decides how servers are configured for tests, how a call crosses into their thread and what becomes of a server that
fails. Refuses to know what a server does. `open_ensemble` is for trio, `start_ensemble` is its blocking twin.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from terzetto.client._scopes import PlainNursery
from terzetto.client.errors import ConfigurationError, KazooException

from .config import ServerConfig, build_config
from .config_syntax import Setting
from .journal import open_storage
from .reserved_port import ReservedPort
from .server import ZooKeeperServer
from .storage.interface import Storage
from .storage.memory import MemoryStorage

if TYPE_CHECKING:
    from outcome import Outcome

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

HOST = "127.0.0.1"

DEFAULT_TICK = 0.2
"""Tick of an ensemble for tests, in seconds: sessions may be as short as two of them, and expire at most one late."""

MAX_SESSION = 60.0
START_TIMEOUT = 10.0
STOP_TIMEOUT = 15.0


class EnsembleError(KazooException):
    """The ensemble or one of its servers could not do what was asked; names the server, and has the cause."""


class _Member:
    """One server across its lives: its port and its storage stay, the server is made anew."""

    def __init__(self, sid: int, config: ServerConfig, secret: bytes, port: ReservedPort) -> None:
        self.sid = sid
        self.config = config
        self.memory = MemoryStorage() if config.data_dir is None else None
        self.port = port
        self.server: ZooKeeperServer | None = None
        self.ended = trio.Event()
        self.failure: BaseException | None = None
        self._secret = secret

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One life. A failure is kept for those who ask, and does not touch the other servers."""
        self.ended, self.failure = trio.Event(), None
        server: ZooKeeperServer | None = None
        try:
            storage: Storage = self.memory or open_storage(self.config)
            server = self.server = ZooKeeperServer(self.config, storage=storage, secret=self._secret)
            async with PlainNursery() as nursery:
                await nursery.start(server.run)
                task_status.started()
        except (KazooException, OSError) as error:
            # Anything else is a bug, which ends the whole ensemble and reaches whoever asks next.
            self.failure = error
            if server is not None and server.has_served:
                _log.error("server %d failed", self.sid, exc_info=error)
            task_status.started()
        finally:
            self.server = None
            self.ended.set()


class _Core:
    """The ensemble in its own event loop: what stands under "the thread" is for others."""

    def __init__(self, members: dict[int, _Member]) -> None:
        self.members = members
        self._nursery: trio.Nursery
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._crash: BaseException | None = None

    # -- the thread

    def launch(self) -> None:
        """Starts the thread and every server; returns when they serve.

        Raises:
            EnsembleError: one of them failed, or they do not serve in time.
        """
        trio.lowlevel.start_thread_soon(lambda: trio.run(self._main), self._take_outcome, "terzetto ensemble")
        if not self._ready.wait(START_TIMEOUT):
            raise EnsembleError(f"the ensemble's event loop does not start within {START_TIMEOUT:g} s")
        try:
            for sid in self.members:
                self.call(self.start, sid)
        except BaseException:
            with contextlib.suppress(EnsembleError):
                self.shut_down()
            raise

    def _take_outcome(self, outcome: Outcome[None]) -> None:
        self._crash = getattr(outcome, "error", None)
        self._token = None
        self._ended.set()
        self._ready.set()

    def _raise_crash(self) -> None:
        if self._crash is not None:
            raise EnsembleError(f"the ensemble's event loop failed: {self._crash!r}") from self._crash

    async def _main(self) -> None:
        self._stop = trio.Event()
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await self._stop.wait()
            self._nursery.cancel_scope.cancel()

    def call(self, function: Callable[..., Awaitable[_T]], *args: object) -> _T:
        """Runs one of the methods below in the ensemble's loop, from a thread without one."""
        token = self._token
        if token is None:
            self._raise_crash()
            raise EnsembleError("the ensemble is not running")
        try:
            return trio.from_thread.run(function, *args, trio_token=token)
        except (trio.RunFinishedError, trio.Cancelled) as error:
            self._ended.wait(STOP_TIMEOUT)
            self._raise_crash()
            raise EnsembleError("the ensemble was stopped meanwhile") from error

    def shut_down(self) -> None:
        """Stops every server and the thread.

        Raises:
            EnsembleError: a server had failed, or the thread does not end.
        """
        failures: list[_Member] = []
        with contextlib.suppress(EnsembleError):
            failures = self.call(self._stop_all)
        ended = self._ended.wait(STOP_TIMEOUT)
        for member in self.members.values():
            member.port.close()
        if not ended:
            raise EnsembleError(f"the ensemble does not stop within {STOP_TIMEOUT:g} s")
        for member in failures:
            raise EnsembleError(f"server {member.sid} failed: {member.failure}") from member.failure
        self._raise_crash()

    async def _stop_all(self) -> list[_Member]:
        with trio.move_on_after(STOP_TIMEOUT / 2):
            for member in self.members.values():
                if member.server is not None:
                    member.server.stop()
            for member in self.members.values():
                if member.server is not None:
                    await member.ended.wait()
        self._stop.set()
        return [member for member in self.members.values() if member.failure is not None]

    # -- what is done to servers

    def member(self, sid: int) -> _Member:
        """A member by its id. Raises `EnsembleError` for an id that there is not."""
        if sid not in self.members:
            raise EnsembleError(f"there is no server {sid}; the servers are {', '.join(map(str, self.members))}")
        return self.members[sid]

    def living(self, sid: int) -> ZooKeeperServer:
        """A running server by its id. Raises `EnsembleError`."""
        member = self.member(sid)
        if member.server is None:
            raise EnsembleError(f"server {sid} is not running" + _reason(member)) from member.failure
        return member.server

    async def start(self, sid: int) -> None:
        """Starts a server; returns when clients can connect."""
        member = self.member(sid)
        if member.server is not None:
            raise EnsembleError(f"server {sid} is running already")
        with trio.move_on_after(START_TIMEOUT) as scope:
            await self._nursery.start(member.run)
        if member.failure is not None:
            raise EnsembleError(f"server {sid} does not start: {member.failure}") from member.failure
        if scope.cancelled_caught:
            raise EnsembleError(f"server {sid} does not start within {START_TIMEOUT:g} s")

    async def kill(self, sid: int) -> None:
        """Ends a server as SIGKILL does."""
        member = self.member(sid)
        self.living(sid).kill()
        await member.ended.wait()
        if member.memory is not None:
            member.memory.crash()

    async def stop(self, sid: int) -> None:
        """Ends a server as SIGTERM does."""
        member = self.member(sid)
        self.living(sid).stop()
        await member.ended.wait()

    async def pause(self, sid: int) -> None:
        """Stops a server's clockwork as SIGSTOP does."""
        self.living(sid).pause()

    async def resume(self, sid: int) -> None:
        """Lets a paused server go on."""
        self.living(sid).resume()

    async def wait_serving(self, within: float) -> None:
        """Waits until every server that was not killed serves."""
        with trio.move_on_after(within):
            while True:
                waiting = [m for m in self.members.values() if m.server is None or not m.server.is_serving]
                for member in waiting:
                    if member.failure is not None:
                        raise EnsembleError(f"server {member.sid} failed: {member.failure}") from member.failure
                if not waiting:
                    return
                await trio.sleep(0.005)
        names = ", ".join(str(m.sid) for m in self.members.values() if m.server is None or not m.server.is_serving)
        raise EnsembleError(f"server {names} does not serve after {within:g} s")

    @property
    def leader(self) -> int | None:
        """The id of the server that orders writes; for any thread."""
        return next((m.sid for m in self.members.values() if m.server is not None and m.server.is_serving), None)

    async def expire_session(self, session_id: int) -> None:
        """Ends a session as if its client had been silent for too long."""
        found = False
        for member in self.members.values():
            if member.server is not None and member.server.is_serving:
                found = member.server.expire_session(session_id) or found
        if not found:
            raise EnsembleError(f"there is no session 0x{session_id & (1 << 64) - 1:x}")

    async def drop_connections(self, sid: int | None) -> int:
        """Cuts clients off, of one server or of all."""
        chosen = [self.living(sid)] if sid is not None else [m.server for m in self.members.values() if m.server]
        return sum(server.drop_connections() for server in chosen)

    @property
    def hosts(self) -> str:
        """The connect string."""
        return ",".join(f"{HOST}:{member.port.number}" for member in self.members.values())


def _reason(member: _Member) -> str:
    return "" if member.failure is None else f": {member.failure}"


class Ensemble:
    """An ensemble for trio programs; see `open_ensemble`.

    Methods raise `EnsembleError` when a server is not in a state for what is asked, and are bounded in time.
    """

    def __init__(self, core: _Core) -> None:
        self._core = core

    async def _call(self, function: Callable[..., Awaitable[_T]], *args: object) -> _T:
        return await trio.to_thread.run_sync(lambda: self._core.call(function, *args), abandon_on_cancel=True)

    @property
    def hosts(self) -> str:
        """The connect string, as "127.0.0.1:40001,127.0.0.1:40002"."""
        return self._core.hosts

    @property
    def sids(self) -> tuple[int, ...]:
        """The servers' ids."""
        return tuple(self._core.members)

    @property
    def leader(self) -> int | None:
        """The id of the server that orders writes now, None while there is none."""
        return self._core.leader

    async def wait_serving(self, within: float = START_TIMEOUT) -> None:
        """Waits until all servers serve, for at most `within` seconds."""
        await self._call(self._core.wait_serving, within)

    async def start(self, sid: int) -> None:
        """Starts a server that was killed or stopped, with its data; returns when clients can connect."""
        await self._call(self._core.start, sid)

    async def kill(self, sid: int) -> None:
        """Ends a server at once, as SIGKILL does; returns when it is gone."""
        await self._call(self._core.kill, sid)

    async def stop(self, sid: int) -> None:
        """Ends a server as SIGTERM does; returns when it is gone."""
        await self._call(self._core.stop, sid)

    async def pause(self, sid: int) -> None:
        """Stops a server's clockwork, as SIGSTOP does: connections stay open and nobody is answered."""
        await self._call(self._core.pause, sid)

    async def resume(self, sid: int) -> None:
        """Lets a paused server go on."""
        await self._call(self._core.resume, sid)

    async def expire_session(self, session_id: int) -> None:
        """Ends a session as if its client had been silent for too long; its connection is closed without a word."""
        await self._call(self._core.expire_session, session_id)

    async def drop_connections(self, sid: int | None = None) -> int:
        """Cuts the clients of one server or of all off; their sessions live on. Returns how many there were."""
        return await self._call(self._core.drop_connections, sid)


class BlockingEnsemble:
    """An ensemble for programs without an event loop; see `start_ensemble`. The methods are those of `Ensemble`."""

    def __init__(self, core: _Core) -> None:
        self._core = core

    @property
    def hosts(self) -> str:
        """See `Ensemble.hosts`."""
        return self._core.hosts

    @property
    def sids(self) -> tuple[int, ...]:
        """See `Ensemble.sids`."""
        return tuple(self._core.members)

    @property
    def leader(self) -> int | None:
        """See `Ensemble.leader`."""
        return self._core.leader

    def wait_serving(self, within: float = START_TIMEOUT) -> None:
        """See `Ensemble.wait_serving`."""
        self._core.call(self._core.wait_serving, within)

    def start(self, sid: int) -> None:
        """See `Ensemble.start`."""
        self._core.call(self._core.start, sid)

    def kill(self, sid: int) -> None:
        """See `Ensemble.kill`."""
        self._core.call(self._core.kill, sid)

    def stop(self, sid: int) -> None:
        """See `Ensemble.stop`."""
        self._core.call(self._core.stop, sid)

    def pause(self, sid: int) -> None:
        """See `Ensemble.pause`."""
        self._core.call(self._core.pause, sid)

    def resume(self, sid: int) -> None:
        """See `Ensemble.resume`."""
        self._core.call(self._core.resume, sid)

    def expire_session(self, session_id: int) -> None:
        """See `Ensemble.expire_session`."""
        self._core.call(self._core.expire_session, session_id)

    def drop_connections(self, sid: int | None = None) -> int:
        """See `Ensemble.drop_connections`."""
        return self._core.call(self._core.drop_connections, sid)


def _build(
    servers: int,
    base_port: int | None,
    data_dir: str | Path | None,
    tick_time: float,
    settings: Mapping[str, object] | None,
) -> _Core:
    if servers < 1:
        raise ConfigurationError(f"servers must be at least 1, not {servers}")
    if servers > 1:
        raise ConfigurationError(
            f"servers={servers}: not yet; an ensemble of more than one server arrives with Zab, the quorum protocol"
        )
    secret = secrets.token_bytes(32)
    members: dict[int, _Member] = {}
    with contextlib.ExitStack() as ports:
        for sid in range(1, servers + 1):
            port = ReservedPort(HOST, 0 if base_port is None else base_port + sid - 1)
            ports.callback(port.close)
            folder = None if data_dir is None else Path(data_dir) / str(sid)
            config = loopback_config(tick_time, folder, settings, port=port.number)
            members[sid] = _Member(sid, config, secret, port)
        # From here on they are the members' own.
        ports.pop_all()
    return _Core(members)


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
    tick_ms = round(tick_time * 1000)
    defaults: dict[str, object] = {
        "tickTime": tick_ms,
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


@asynccontextmanager
async def open_ensemble(
    servers: int = 1,
    *,
    base_port: int | None = None,
    data_dir: str | Path | None = None,
    tick_time: float = DEFAULT_TICK,
    settings: Mapping[str, object] | None = None,
) -> AsyncIterator[Ensemble]:
    """Runs an ensemble on loopback while the block runs. All servers serve when it begins.

    Args:
        servers: how many; their ids are 1, 2, ...
        base_port: client port of server 1, the others' follow; None picks free ones.
        data_dir: a folder that keeps the data, one sub-folder a server; None keeps it in memory.
        tick_time: in seconds; sessions time out after two ticks at the earliest.
        settings: more of zoo.cfg's keys.

    Raises:
        ConfigurationError: an argument or a setting that cannot be used.
        EnsembleError: a server did not start, or had failed when the block ended.
    """
    core = _build(servers, base_port, data_dir, tick_time, settings)
    await trio.to_thread.run_sync(core.launch)
    failed = True
    try:
        yield Ensemble(core)
        failed = False
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_closer(core, failed))


@contextmanager
def start_ensemble(
    servers: int = 1,
    *,
    base_port: int | None = None,
    data_dir: str | Path | None = None,
    tick_time: float = DEFAULT_TICK,
    settings: Mapping[str, object] | None = None,
) -> Iterator[BlockingEnsemble]:
    """The blocking twin of `open_ensemble`, with the same arguments and errors."""
    core = _build(servers, base_port, data_dir, tick_time, settings)
    core.launch()
    failed = True
    try:
        yield BlockingEnsemble(core)
        failed = False
    finally:
        _closer(core, failed)()


def _closer(core: _Core, failed: bool) -> Callable[[], None]:
    def close() -> None:
        # What the body raised says more than what became of a server because of it.
        with contextlib.suppress(EnsembleError) if failed else contextlib.nullcontext():
            core.shut_down()

    return close
