"""An ensemble of servers on memory streams, for clients that run whole: a `Transport`, and faults on request.

Decides how bytes travel (at once, late, cut off in the middle, never). What servers answer is `server_link`'s business,
what they hold is `realm`'s.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
import trio.testing

from terzetto.client import Connection, Endpoint, Listener, RunClock, StreamConnection, ZooKeeper, open_zookeeper

from .realm import Realm
from .server_link import Code, Fault, Received, Rule, ServerLink
from .watch_tables import Release

_FOUR_LETTERS = 4
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Door(enum.Enum):
    """What a client meets at a server's address."""

    OPEN = enum.auto()
    REFUSES = enum.auto()
    """The connection is refused at once."""
    HANGS = enum.auto()
    """The connection never comes about."""
    SILENT = enum.auto()
    """The connection stands, and nobody ever says a word."""


class LongestPauses(random.Random):
    """Draws the upper end of every interval, so that times can be computed."""

    def uniform(self, a: float, b: float) -> float:
        return b


class MemoryEnsemble:
    """See the module. Serves as the client's `Transport`.

    Attributes:
        realm: what all servers share.
        rules: faults, asked for each request on any connection.
        doors: by host; OPEN where nothing is said.
        read_only: hosts that have lost their quorum.
        dials: (time, host) of each attempt to connect.
        links: every connection that came about, oldest first.
        latency: seconds from the arrival of a request to its work.
        cut_after: bytes that the client still gets before its connection goes; `None` for no limit.
        four_letters: answers to four-letter words; `None` for no answer.
        streams_open: connections that the client has not closed.
    """

    def __init__(self, nursery: trio.Nursery, release: Release = Release.V38) -> None:
        self.realm = Realm()
        self.release = release
        self.rules: list[Rule] = []
        self.doors: dict[str, Door] = {}
        self.read_only: set[str] = set()
        self.refused_credentials: frozenset[bytes] = frozenset()
        self.dials: list[tuple[float, str]] = []
        self.links: list[ServerLink] = []
        self.latency = 0.0
        self.cut_after: int | None = None
        self.four_letters: dict[bytes, bytes | None] = {}
        self.streams_open = 0
        self._nursery = nursery

    # Transport --------------------------------------------------------------------------------------------------------

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        await trio.lowlevel.checkpoint()
        return [endpoint]

    async def dial(self, endpoint: Endpoint) -> Connection:
        self.dials.append((trio.current_time(), endpoint.host))
        await trio.lowlevel.checkpoint()
        door = self.doors.get(endpoint.host, Door.OPEN)
        if door is Door.REFUSES:
            raise ConnectionRefusedError(f"{endpoint} refuses")
        if door is Door.HANGS:
            await trio.sleep_forever()
        near, far = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, far, endpoint.host, door)
        return StreamConnection(near, str(endpoint))

    async def listen(self, endpoint: Endpoint) -> Listener:
        raise OSError("nobody listens on memory")

    def open(self, hosts: Any = "a:2181", **options: Any) -> AbstractAsyncContextManager[ZooKeeper]:
        """A client of this ensemble, on the run's clock and with chance that repeats."""
        given: dict[str, Any] = {"transport": self, "clock": RunClock(), "rng": LongestPauses(), **options}
        return open_zookeeper(hosts, **given)

    # What tests do to it ----------------------------------------------------------------------------------------------

    @property
    def link(self) -> ServerLink:
        """The newest connection."""
        return self.links[-1]

    @property
    def received(self) -> list[Received]:
        """Every request on any connection, in order."""
        return [request for link in self.links for request in link.received]

    def opcodes(self) -> list[int]:
        return [request.opcode for request in self.received]

    def cut(self) -> None:
        """All connections go; sessions go on."""
        for link in self.links:
            link.hang_up()

    def expire(self, session_id: int) -> None:
        """The leader expires a session."""
        self.realm.end_session(session_id)

    def shut(self, door: Door) -> None:
        """The servers "a", "b" and "c" are like this from now on."""
        self.doors.update(a=door, b=door, c=door)

    # Serving ----------------------------------------------------------------------------------------------------------

    async def _serve(self, stream: trio.StapledStream[Any, Any], host: str, door: Door) -> None:
        self.streams_open += 1
        try:
            async with stream:
                if door is Door.SILENT:
                    while await stream.receive_some():
                        pass
                    return
                first = await stream.receive_some()
                if len(first) == _FOUR_LETTERS and first.isalpha():
                    await self._four_letters(stream, bytes(first), host)
                elif first:
                    await self._session(stream, bytes(first), host)
        except _GONE:
            pass
        finally:
            self.streams_open -= 1

    async def _four_letters(self, stream: trio.StapledStream[Any, Any], word: bytes, host: str) -> None:
        answer = self.four_letters.get(word, b"")
        if word == b"isro":
            answer = b"ro" if host in self.read_only else b"rw"
        if answer is not None:
            await stream.send_all(answer)
        else:
            await stream.receive_some()

    async def _session(self, stream: trio.StapledStream[Any, Any], data: bytes, host: str) -> None:
        wake = _Wake()
        link = ServerLink(
            self.realm,
            self.release,
            host in self.read_only,
            self.rules,
            wake.up,
            refused_credentials=self.refused_credentials,
        )
        self.links.append(link)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer, stream, link, wake)
            try:
                while data:
                    if self.latency:
                        await pass_time(self.latency)
                    link.receive(data)
                    data = bytes(await stream.receive_some())
            except _GONE:
                pass
            finally:
                link.hang_up()
            nursery.cancel_scope.cancel()

    async def _answer(self, stream: trio.StapledStream[Any, Any], link: ServerLink, wake: _Wake) -> None:
        try:
            while True:
                data = link.take()
                if self.cut_after is not None and len(data) >= self.cut_after:
                    data, self.cut_after = data[: self.cut_after], None
                    await stream.send_all(data)
                    break
                if self.cut_after is not None:
                    self.cut_after -= len(data)
                if data:
                    await stream.send_all(data)
                elif link.closed:
                    break
                else:
                    await wake.wait()
        except _GONE:
            pass
        await stream.aclose()


class _Wake:
    """An event that can happen again."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def up(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


def in_turn(opcode: int, *faults: Fault | Code) -> Rule:
    """The faults befall the first requests of an opcode, one each."""
    left = list(faults)

    def rule(request: Received) -> Fault | Code | None:
        return left.pop(0) if left and request.opcode == opcode else None

    return rule


async def until(condition: Callable[[], object]) -> None:
    """Waits, on the run's clock, until the condition holds. Raises `trio.TooSlowError` after a minute."""
    with trio.fail_after(60):
        while not condition():
            await pass_time(0.001)


async def pass_time(seconds: float) -> None:
    """Sleeps, on virtual time only."""
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    await trio.sleep(seconds)


async def settle() -> None:
    """Waits until nothing moves any more unless time passes."""
    await trio.testing.wait_all_tasks_blocked()
