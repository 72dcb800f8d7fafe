"""The election port: one connection between each two servers, over which messages go in both directions.

Decides by ZooKeeper's rules (QuorumCnxManager of 3.8.0): the connection that the larger sid has dialled is kept, a
smaller one is dialled back where it is configured, or else at the address in its hello, of unsent messages only the
last counts, and a new connection begins with the last message of the old one. Whatever arrives, the listener goes on.
Refuses to know what a message means (`election.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection, Listener, Transport
from terzetto.client.errors import WireError
from terzetto.client.wire.primitives import LENGTH

from .messages import NOTIFICATION_MAX, Hello, decode_hello, encode_hello

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
"""Seconds for one attempt to dial a server (ZooKeeper's `cnxTimeout`)."""

REDIAL_FIRST = 0.05
REDIAL_MAX = 1.0
"""Seconds between attempts to deliver a message to a server that cannot be reached: doubled up to the second."""

GREETING_MAX = 64
"""Connections that may be open without having said who they are."""

STRANGERS_MAX = 64
"""Servers outside the configuration that are served at a time."""

ACCEPT_PAUSE = 0.1
"""Seconds after an accept that failed."""

ANONYMOUS_SID = 0x7FFFFFFFFFFFFFFF
"""Who an observer without an id says that it is."""

_LOST = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)
_WILDCARDS = frozenset({"", "0.0.0.0", "::", "0:0:0:0:0:0:0:0"})

Gate = Callable[[], trio.Event | None]


class _Wire:
    """One live connection to a server."""

    __slots__ = ("connection", "scope", "wake")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.scope = trio.CancelScope()
        self.wake = trio.Event()


class _Route:
    """What goes to one server, over whatever connection there is."""

    __slots__ = ("addresses", "dialling", "last", "waiting", "wire")

    def __init__(self, addresses: Sequence[Endpoint]) -> None:
        self.addresses = addresses
        self.wire: _Wire | None = None
        self.waiting: bytes | None = None
        self.last: bytes | None = None
        self.dialling = False


class ElectionPort:
    """One server's election connections.

    Args:
        sid: this server.
        addresses: the election addresses of every server of the configuration, this one too.
        transport: dials them.
        take: called with the sender's sid and each message; a sender without an id of its own gets a negative one.
        refused: called with the sid of a server that does not listen, as its machine says.
        handshake_timeout: seconds that a hello may take.
        gate: what to wait for before anything is done, None while the server is not paused.
    """

    def __init__(
        self,
        sid: int,
        addresses: Mapping[int, Sequence[Endpoint]],
        transport: Transport,
        take: Callable[[int, bytes], None],
        refused: Callable[[int], None],
        *,
        handshake_timeout: float,
        gate: Gate,
    ) -> None:
        self._sid = sid
        self._addresses = addresses
        self._transport = transport
        self._take = take
        self._refused = refused
        self._handshake_timeout = handshake_timeout
        self._gate = gate
        self._hello = encode_hello(Hello(sid, tuple((place.host, place.port) for place in addresses[sid])))
        self._routes: dict[int, _Route] = {}
        self._greeting = 0
        self._anonymous = 0
        self._nursery: trio.Nursery | None = None

    @property
    def connected(self) -> frozenset[int]:
        """The servers there is a connection to."""
        return frozenset(sid for sid, route in self._routes.items() if route.wire is not None)

    async def serve(self, listener: Listener) -> None:
        """Accepts, dials, sends and receives until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            # What was sent before.
            for sid, route in self._routes.items():
                self._deliver(sid, route)
            try:
                await self._accept(listener, nursery)
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    def send(self, sid: int, message: bytes) -> None:
        """Sends a message as soon as there is a connection, unless a newer one comes first."""
        if sid == self._sid:
            return
        route = self._routes.get(sid)
        if route is None:
            if sid not in self._addresses:
                return
            route = self._routes[sid] = _Route(self._addresses[sid])
        route.waiting = message
        self._deliver(sid, route)

    def _deliver(self, sid: int, route: _Route) -> None:
        if route.waiting is None:
            return
        if route.wire is not None:
            route.wire.wake.set()
        elif not route.dialling and self._nursery is not None:
            route.dialling = True
            self._nursery.start_soon(self._dial, sid, route)

    # -- those who come

    async def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        while True:
            try:
                connection = await listener.accept()
            except OSError as error:
                _log.warning("server %d cannot accept an election connection: %s", self._sid, error)
                await trio.sleep(ACCEPT_PAUSE)
                continue
            await self._pass_gate()
            if self._greeting >= GREETING_MAX:
                await connection.aclose()
                continue
            self._greeting += 1
            nursery.start_soon(self._greet, connection)

    async def _greet(self, connection: Connection) -> None:
        found: tuple[Hello, bytes] | None = None
        try:
            with trio.move_on_after(self._handshake_timeout):
                found = await _receive_hello(connection)
        except _LOST as error:
            _log.debug("election connection from %s: %s", connection.peer, error)
        except WireError as error:
            _log.warning("election connection from %s: %s", connection.peer, error)
        finally:
            self._greeting -= 1
            if found is None:
                await _close(connection)
        if found is None:
            return
        await self._pass_gate()
        hello, rest = found
        sid, route = self._route_of(hello)
        if route is None or sid == self._sid:
            await _close(connection)
        elif hello.sid > self._sid and hello.sid != ANONYMOUS_SID:
            await self._serve_wire(sid, route, connection, rest)
        else:
            await self._dial_back(sid, route, connection)

    def _route_of(self, hello: Hello) -> tuple[int, _Route | None]:
        """Who has come, and the route to them; without one for too many strangers, or one that says no address."""
        sid = hello.sid
        given = [Endpoint(host, port, host) for host, port in hello.addresses if host not in _WILDCARDS]
        if sid == ANONYMOUS_SID:
            self._anonymous += 1
            sid = -self._anonymous
        # The configured ones first: anybody can say where a server is, which might then never be found again.
        known = self._addresses.get(sid, ())
        addresses = [*known, *(place for place in given if place not in known)]
        if not addresses:
            return sid, None
        route = self._routes.get(sid)
        if route is None:
            if sid not in self._addresses and not self._make_room():
                return sid, None
            route = self._routes[sid] = _Route(addresses)
        route.addresses = addresses
        return sid, route

    def _make_room(self) -> bool:
        strangers = [sid for sid in self._routes if sid not in self._addresses]
        for sid in strangers:
            route = self._routes[sid]
            if route.wire is None and not route.dialling:
                del self._routes[sid]
        return sum(sid not in self._addresses for sid in self._routes) < STRANGERS_MAX

    async def _dial_back(self, sid: int, route: _Route, connection: Connection) -> None:
        """A smaller sid has dialled: that connection ends, and so does the one before it, which it has lost."""
        await _close(connection)
        if route.wire is not None:
            route.wire.scope.cancel()
            route.wire = None
        if not route.dialling:
            route.dialling = True
            await self._dial(sid, route)

    # -- those to reach

    async def _dial(self, sid: int, route: _Route) -> None:
        """Dials until there is a connection, or nothing is left to send; at least once."""
        pause = REDIAL_FIRST
        kept: Connection | None = None
        try:
            while True:
                connection, is_refused = await self._dial_once(route)
                await self._pass_gate()
                if is_refused and route.wire is None:
                    self._refused(sid)
                if connection is not None and route.wire is None and sid <= self._sid:
                    kept = connection
                    break
                if connection is not None:
                    # A server with a larger sid takes the hello as a request to dial back.
                    await _close(connection)
                if route.wire is None:
                    await trio.sleep(pause)
                if route.wire is not None or route.waiting is None:
                    return
                pause = min(2 * pause, REDIAL_MAX)
        finally:
            route.dialling = False
        await self._serve_wire(sid, route, kept, b"")

    async def _dial_once(self, route: _Route) -> tuple[Connection | None, bool]:
        """A connection on which the hello was sent, None when it cannot be had; and whether it was refused."""
        refusals = 0
        for place in route.addresses:
            connection: Connection | None = None
            try:
                with trio.move_on_after(CONNECT_TIMEOUT):
                    for address in await self._transport.resolve(place):
                        connection = await self._transport.dial(address)
                        # In one piece: ZooKeeper reads it with a single call.
                        await connection.send(self._hello)
                        return connection, False
            except _LOST as error:
                refusals += connection is None and isinstance(error, ConnectionRefusedError)
                _log.debug("server %d cannot reach %s: %s", self._sid, place, error)
            if connection is not None:
                await _close(connection)
        return None, refusals == len(route.addresses)

    # -- a connection that counts

    async def _serve_wire(self, sid: int, route: _Route, connection: Connection, rest: bytes) -> None:
        if route.wire is not None:
            route.wire.scope.cancel()
        wire = route.wire = _Wire(connection)
        if route.waiting is None:
            # It may have been lost with the connection before.
            route.waiting = route.last
        try:
            with wire.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, route, wire)
                    await self._read(sid, wire, rest)
                    nursery.cancel_scope.cancel()
        finally:
            if route.wire is wire:
                route.wire = None
            await _close(connection)
        self._deliver(sid, route)

    async def _write(self, route: _Route, wire: _Wire) -> None:
        try:
            while True:
                await self._pass_gate()
                message, route.waiting = route.waiting, None
                if message is None:
                    wire.wake = trio.Event()
                    await wire.wake.wait()
                    continue
                route.last = message
                await wire.connection.send(LENGTH.pack(len(message)) + message)
        except _LOST:
            wire.scope.cancel()

    async def _read(self, sid: int, wire: _Wire, rest: bytes) -> None:
        """Gives away what comes until the connection ends or what comes is no message."""
        try:
            while True:
                pos = 0
                while len(rest) - pos >= LENGTH.size:
                    (length,) = LENGTH.unpack_from(rest, pos)
                    if not 0 < length <= NOTIFICATION_MAX:
                        _log.warning("server %d announces an election message of %d bytes", sid, length)
                        return
                    end = pos + LENGTH.size + length
                    if end > len(rest):
                        break
                    self._take(sid, rest[pos + LENGTH.size : end])
                    pos = end
                data = await wire.connection.receive()
                await self._pass_gate()
                if not data:
                    return
                rest = rest[pos:] + data
        except _LOST:
            return

    async def _pass_gate(self) -> None:
        while (closed := self._gate()) is not None:
            await closed.wait()


async def _receive_hello(connection: Connection) -> tuple[Hello, bytes]:
    """The hello and the bytes behind it.

    Raises:
        WireError: something else comes, or nothing.
    """
    data = b""
    while True:
        piece = await connection.receive()
        if not piece:
            raise WireError("the connection ended before its hello")
        data += piece
        found = decode_hello(data)
        if found is not None:
            hello, pos = found
            return hello, data[pos:]


async def _close(connection: Connection) -> None:
    with trio.CancelScope(shield=True):
        await connection.aclose()
