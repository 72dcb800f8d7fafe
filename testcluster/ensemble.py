"""An ensemble inside this process: a thread and an event loop of its own, free ports, in memory unless told otherwise.

Decides how a call crosses into that thread, and what reaches the caller when servers or the thread fail. Refuses to
know what is done to a server (`embedded.py`). `open_ensemble` is for trio, `start_ensemble` is its blocking twin.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from .embedded import START_TIMEOUT, STOP_TIMEOUT, Cut, Embedded, EnsembleError, Member, host_name
from .loopback import DEFAULT_TICK, Seat, reserve_seats, session_secret, with_users
from .own_time import OwnTime

if TYPE_CHECKING:
    from outcome import Outcome

__all__ = ["BlockingEnsemble", "Ensemble", "EnsembleError", "open_ensemble", "start_ensemble"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Group = Collection[int]
"""Servers by their ids."""


class _Loop:
    """The thread in which an ensemble runs."""

    def __init__(self, seats: list[Seat]) -> None:
        self.embedded = Embedded()
        self._seats = seats
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._crash: BaseException | None = None

    def launch(self) -> None:
        """Starts the thread and every server; returns when they serve.

        Raises:
            EnsembleError: one of them failed, or they do not serve in time.
        """
        trio.lowlevel.start_thread_soon(lambda: trio.run(self._main), self._take_outcome, "terzetto ensemble")
        if not self._ready.wait(START_TIMEOUT):
            raise EnsembleError(f"the ensemble's event loop does not start within {START_TIMEOUT:g} s")
        try:
            self.call(self.embedded.start_all)
        except BaseException:
            with contextlib.suppress(EnsembleError):
                self.shut_down()
            raise

    def _take_outcome(self, outcome: Outcome[None]) -> None:
        self._crash = getattr(outcome, "error", None)
        if self._crash is not None:
            _log.error("the ensemble's event loop failed", exc_info=self._crash)
        self._token = None
        self._ended.set()
        self._ready.set()

    def _raise_crash(self) -> None:
        if self._crash is not None:
            raise EnsembleError(f"the ensemble's event loop failed: {self._crash!r}") from self._crash

    async def _main(self) -> None:
        self._stop = trio.Event()
        secret = session_secret(self._seats)
        embedded = self.embedded
        clock = OwnTime(self._seats[0].config.tick_ms / 1000)
        for seat in self._seats:
            embedded.members[seat.sid] = Member(
                seat.sid, seat.config, secret, seat.client, embedded.network, clock, embedded.changed
            )
        async with trio.open_nursery() as embedded.nursery:
            embedded.nursery.start_soon(clock.run)
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await self._stop.wait()
            embedded.nursery.cancel_scope.cancel()

    def call(self, function: Callable[..., Awaitable[_T]], *args: object) -> _T:
        """Runs a method of the ensemble in its loop, from a thread without one."""
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
        failures: list[Member] = []
        with contextlib.suppress(EnsembleError):
            failures = self.call(self._stop_all)
        ended = self._ended.wait(STOP_TIMEOUT)
        for seat in self._seats:
            seat.close()
        if not ended:
            raise EnsembleError(f"the ensemble does not stop within {STOP_TIMEOUT:g} s")
        for member in failures:
            raise EnsembleError(f"server {member.sid} failed: {member.failure}") from member.failure
        self._raise_crash()

    async def _stop_all(self) -> list[Member]:
        try:
            return await self.embedded.stop_all()
        finally:
            self._stop.set()

    @property
    def hosts(self) -> str:
        """The connect string of all servers."""
        return ",".join(self.host(seat.sid) for seat in self._seats)

    @property
    def websocket_hosts(self) -> str:
        """The WebSocket doors of all servers."""
        found = [
            f"ws://{seat.config.client_address}:{seat.web.number}{seat.config.websocket.path}"
            for seat in self._seats
            if seat.web is not None
        ]
        if not found:
            raise EnsembleError("the servers have no WebSocket doors: start the ensemble with websocket=True")
        return ",".join(found)

    @property
    def sids(self) -> tuple[int, ...]:
        """Every server's id."""
        return tuple(seat.sid for seat in self._seats)

    def host(self, sid: int) -> str:
        """The connect string of one server."""
        for seat in self._seats:
            if seat.sid == sid:
                return f"{seat.config.client_address}:{seat.client.number}"
        raise EnsembleError(f"there is no server {sid}; the servers are {', '.join(map(str, self.sids))}")


class _Shown:
    """What both kinds of ensemble show."""

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop

    @property
    def hosts(self) -> str:
        """The connect string, as "127.0.0.1:40001,127.0.0.1:40002"."""
        return self._loop.hosts

    @property
    def websocket_hosts(self) -> str:
        """The same by WebSocket, as "ws://127.0.0.1:40003/,ws://127.0.0.1:40004/", with `websocket=True`.

        Raises:
            EnsembleError: there are no WebSocket doors.
        """
        return self._loop.websocket_hosts

    def host(self, sid: int) -> str:
        """The connect string of one server.

        Raises:
            EnsembleError: there is no such server.
        """
        return self._loop.host(sid)

    @property
    def sids(self) -> tuple[int, ...]:
        """The servers' ids; those of observers come last."""
        return self._loop.sids

    @property
    def leader(self) -> int | None:
        """The id of the server that orders writes now, None while there is none."""
        return self._loop.embedded.leader

    def describe(self) -> str:
        """What every server is doing, in words."""
        return self._loop.embedded.describe()


class Ensemble(_Shown):
    """An ensemble for trio programs; see `open_ensemble`.

    Methods raise `EnsembleError` when what they ask for cannot be done, or does not come about in time; it says what
    was not reached, and what every server is doing.
    """

    async def _call(self, function: Callable[..., Awaitable[_T]], *args: object) -> _T:
        return await trio.to_thread.run_sync(lambda: self._loop.call(function, *args), abandon_on_cancel=True)

    async def _call_to_the_end(self, function: Callable[..., Awaitable[_T]], *args: object) -> _T:
        # For what somebody has to take back: were it abandoned, it would happen all the same and stay.
        return await trio.to_thread.run_sync(lambda: self._loop.call(function, *args))

    async def wait_serving(self, within: float = START_TIMEOUT) -> None:
        """Waits until every server serves that was not killed, stopped or paused, for at most `within` seconds."""
        await self._call(self._loop.embedded.wait_serving, within)

    async def wait_leader(self, within: float = START_TIMEOUT) -> int:
        """Waits until a server leads and serves; its id."""
        return await self._call(self._loop.embedded.wait_leader, within)

    async def wait_quorum(self, within: float = START_TIMEOUT) -> int:
        """Waits until a server leads and a quorum of voters serves with it; the leader's id."""
        return await self._call(self._loop.embedded.wait_quorum, within)

    async def start(self, sid: int) -> None:
        """Starts a server that was killed or stopped, with its data; returns when it listens for clients."""
        await self._call(self._loop.embedded.start, sid)

    async def kill(self, sid: int) -> None:
        """Ends a server at once, as SIGKILL does; returns when it is gone."""
        await self._call(self._loop.embedded.kill, sid)

    async def stop(self, sid: int) -> None:
        """Ends a server as SIGTERM does; returns when it is gone."""
        await self._call(self._loop.embedded.stop, sid)

    async def restart(self, sid: int) -> None:
        """`stop`, then `start`."""
        await self.stop(sid)
        await self.start(sid)

    async def pause(self, sid: int) -> None:
        """Stops a server's clockwork, as SIGSTOP does: connections stay open and nobody is answered."""
        await self._call(self._loop.embedded.pause, sid)

    async def resume(self, sid: int) -> None:
        """Lets a paused server go on."""
        await self._call(self._loop.embedded.resume, sid)

    async def heal(self, within: float = START_TIMEOUT) -> None:
        """Starts every server that is down, resumes those that are paused, and waits until all serve."""
        await self._call(self._loop.embedded.heal, within)

    @asynccontextmanager
    async def partition(
        self, one: Group, other: Group, *, one_way: bool = False, servers_only: bool = True
    ) -> AsyncIterator[None]:
        """Cuts all links between two groups of servers while the block runs. Connections stay open, nothing arrives.

        Args:
            one: ids of servers.
            other: ids of others.
            one_way: cuts only what the first group sends to the second.
            servers_only: False cuts the servers of the first group off from all clients as well.
        """
        cut = await self._call_to_the_end(self._loop.embedded.cut, one, other, one_way, servers_only)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self._call(self._loop.embedded.mend, cut)

    @asynccontextmanager
    async def slow_links(self, delay: float, one: Group, other: Group) -> AsyncIterator[None]:
        """Makes everything between two groups of servers arrive `delay` seconds later while the block runs."""
        await self._call_to_the_end(self._loop.embedded.slow, delay, one, other)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await self._call(self._loop.embedded.slow, 0.0, one, other)

    async def break_links(self, one: Group, other: Group) -> int:
        """Resets all connections between two groups of servers; what is under way is lost. Returns how many."""
        return await self._call(self._loop.embedded.break_links, one, other)

    async def expire_session(self, session_id: int, within: float = START_TIMEOUT) -> None:
        """Ends a session as if its client had been silent for too long; its connection is closed without a word."""
        await self._call(self._loop.embedded.expire_session, session_id, within)

    async def drop_connections(self, sid: int | None = None) -> int:
        """Cuts the clients of one server or of all off; their sessions live on. Returns how many there were."""
        return await self._call(self._loop.embedded.drop_connections, sid)


class BlockingEnsemble(_Shown):
    """An ensemble for programs without an event loop; see `start_ensemble`. The methods are those of `Ensemble`."""

    def wait_serving(self, within: float = START_TIMEOUT) -> None:
        """See `Ensemble.wait_serving`."""
        self._loop.call(self._loop.embedded.wait_serving, within)

    def wait_leader(self, within: float = START_TIMEOUT) -> int:
        """See `Ensemble.wait_leader`."""
        return self._loop.call(self._loop.embedded.wait_leader, within)

    def wait_quorum(self, within: float = START_TIMEOUT) -> int:
        """See `Ensemble.wait_quorum`."""
        return self._loop.call(self._loop.embedded.wait_quorum, within)

    def start(self, sid: int) -> None:
        """See `Ensemble.start`."""
        self._loop.call(self._loop.embedded.start, sid)

    def kill(self, sid: int) -> None:
        """See `Ensemble.kill`."""
        self._loop.call(self._loop.embedded.kill, sid)

    def stop(self, sid: int) -> None:
        """See `Ensemble.stop`."""
        self._loop.call(self._loop.embedded.stop, sid)

    def restart(self, sid: int) -> None:
        """See `Ensemble.restart`."""
        self.stop(sid)
        self.start(sid)

    def pause(self, sid: int) -> None:
        """See `Ensemble.pause`."""
        self._loop.call(self._loop.embedded.pause, sid)

    def resume(self, sid: int) -> None:
        """See `Ensemble.resume`."""
        self._loop.call(self._loop.embedded.resume, sid)

    def heal(self, within: float = START_TIMEOUT) -> None:
        """See `Ensemble.heal`."""
        self._loop.call(self._loop.embedded.heal, within)

    @contextmanager
    def partition(
        self, one: Group, other: Group, *, one_way: bool = False, servers_only: bool = True
    ) -> Iterator[None]:
        """See `Ensemble.partition`."""
        cut: Cut = self._loop.call(self._loop.embedded.cut, one, other, one_way, servers_only)
        try:
            yield
        finally:
            self._loop.call(self._loop.embedded.mend, cut)

    @contextmanager
    def slow_links(self, delay: float, one: Group, other: Group) -> Iterator[None]:
        """See `Ensemble.slow_links`."""
        self._loop.call(self._loop.embedded.slow, delay, one, other)
        try:
            yield
        finally:
            self._loop.call(self._loop.embedded.slow, 0.0, one, other)

    def break_links(self, one: Group, other: Group) -> int:
        """See `Ensemble.break_links`."""
        return self._loop.call(self._loop.embedded.break_links, one, other)

    def expire_session(self, session_id: int, within: float = START_TIMEOUT) -> None:
        """See `Ensemble.expire_session`."""
        self._loop.call(self._loop.embedded.expire_session, session_id, within)

    def drop_connections(self, sid: int | None = None) -> int:
        """See `Ensemble.drop_connections`."""
        return self._loop.call(self._loop.embedded.drop_connections, sid)


@asynccontextmanager
async def open_ensemble(
    servers: int = 1,
    *,
    observers: int = 0,
    base_port: int | None = None,
    data_dir: str | Path | None = None,
    tick_time: float = DEFAULT_TICK,
    sasl_users: Mapping[str, str] | None = None,
    websocket: bool = False,
    settings: Mapping[str, object] | None = None,
) -> AsyncIterator[Ensemble]:
    """Runs an ensemble on loopback while the block runs. All servers serve when it begins.

    Args:
        servers: how many voters; their ids are 1, 2, ...
        observers: how many servers without a vote; their ids follow.
        base_port: client port of server 1, the others' follow; None picks free ones.
        data_dir: a folder that keeps the data, one sub-folder a server; None keeps it in memory.
        tick_time: in seconds; sessions time out after two ticks at the earliest.
        sasl_users: password by name of those who may authenticate by SASL, and whom ACLs may name then.
        websocket: open a WebSocket door at each server; see `websocket_hosts`.
        settings: more of zoo.cfg's keys.

    Raises:
        ConfigurationError: an argument or a setting that cannot be used.
        EnsembleError: a server did not start, or had failed when the block ended.
    """
    loop = _build(servers, observers, base_port, data_dir, tick_time, with_users(settings, sasl_users), websocket)
    await trio.to_thread.run_sync(loop.launch)
    failed = True
    try:
        yield Ensemble(loop)
        failed = False
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_closer(loop, failed))


@contextmanager
def start_ensemble(
    servers: int = 1,
    *,
    observers: int = 0,
    base_port: int | None = None,
    data_dir: str | Path | None = None,
    tick_time: float = DEFAULT_TICK,
    sasl_users: Mapping[str, str] | None = None,
    websocket: bool = False,
    settings: Mapping[str, object] | None = None,
) -> Iterator[BlockingEnsemble]:
    """The blocking twin of `open_ensemble`, with the same arguments and errors."""
    loop = _build(servers, observers, base_port, data_dir, tick_time, with_users(settings, sasl_users), websocket)
    loop.launch()
    failed = True
    try:
        yield BlockingEnsemble(loop)
        failed = False
    finally:
        _closer(loop, failed)()


def _build(
    servers: int,
    observers: int,
    base_port: int | None,
    data_dir: str | Path | None,
    tick_time: float,
    settings: Mapping[str, object] | None,
    websocket: bool,
) -> _Loop:
    seats = reserve_seats(
        servers,
        observers,
        base_port=base_port,
        data_dir=data_dir,
        tick_time=tick_time,
        settings=settings,
        peer_host=host_name,
        websocket=websocket,
    )
    return _Loop(seats)


def _closer(loop: _Loop, failed: bool) -> Callable[[], None]:
    def close() -> None:
        # What the body raised says more than what became of a server because of it.
        with contextlib.suppress(EnsembleError) if failed else contextlib.nullcontext():
            loop.shut_down()

    return close
