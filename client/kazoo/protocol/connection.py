"""Names that programs take from kazoo's connection module: what test harnesses give to `KazooClient._call`, codes, and
the attributes of `client._connection` that programs touch.

The connection itself is the native client's. Decides only what a program's own `_connect` means here.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from ..._client import core_of
from ..._pending import Request
from ..._transport import SocketConnection
from ...wire.operations import PING
from ..exceptions import EXCEPTIONS, ConnectionClosedError, OperationTimeoutError
from ..loggingsupport import BLATHER
from ..retry import KazooRetry
from .serialization import PingInstance
from .states import EVENT_TYPE_MAP

if TYPE_CHECKING:
    from ..._core import ClientCore
    from ..client import KazooClient

log = logging.getLogger(__name__)

CREATED_EVENT = 1
DELETED_EVENT = 2
CHANGED_EVENT = 3
CHILD_EVENT = 4

WATCH_XID = -1
PING_XID = -2
AUTH_XID = -4
CLOSE_RESPONSE = -11

_CONNECTING_PAUSE = 0.1
"""Seconds between two looks for a connection whose silence is to be watched."""

Connect = Callable[[Any, Any, Any], tuple[float, float]]


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


_SESSION_EXPIRED = _Sentinel("_SESSION_EXPIRED")
"""`client._call(_SESSION_EXPIRED, None)` ends the session, on the server too, so that its ephemerals go."""

_CONNECTION_DROP = _Sentinel("_CONNECTION_DROP")
"""`client._call(_CONNECTION_DROP, None)` cuts the connection; the session goes on at the next one."""

STOP_CONNECTING = _Sentinel("STOP_CONNECTING")
"""kazoo's word to itself for the end of its attempts; nothing here returns it."""


class RWServerAvailable(Exception):
    """kazoo's word to itself that a server with a quorum was found; the native client looks for one by itself."""


class ConnectionHandler:
    """What programs touch of `client._connection`. It opens and closes nothing.

    Args:
        client: whose connection.
        retry_sleeper: the policy of its attempts to connect.
        logger: the client's.
        sasl_options: the client's.
    """

    def __init__(
        self,
        client: KazooClient,
        retry_sleeper: KazooRetry,
        logger: logging.Logger | None = None,
        sasl_options: dict[str, Any] | None = None,
    ) -> None:
        self.client = client
        self.handler = client.handler
        self.retry_sleeper = retry_sleeper
        self.logger = logger or log
        self.sasl_options = sasl_options
        self._replaced: Connect | None = None

    def _core(self) -> ClientCore:
        native = self.client.lifecycle.native
        if native is None or not self.client.lifecycle.running:
            raise ConnectionClosedError("the client is not started")
        return core_of(native)

    @property
    def _socket(self) -> socket.socket | None:
        """The socket of the present connection, to look at or to shut down; `None` without one, and under TLS."""
        try:
            present = self._core().runner._connection  # pyright: ignore[reportPrivateUsage]
        except ConnectionClosedError:
            return None
        return present.socket if isinstance(present, SocketConnection) else None

    @property
    def _xid(self) -> int | None:
        """The number of the newest request, `None` when the client is not started. kazoo's count begins with each
        connection, this one with each start.
        """
        try:
            return self._core().session._xid  # pyright: ignore[reportPrivateUsage]
        except ConnectionClosedError:
            return None

    @property
    def _connect(self) -> Connect:
        """`_connect(host, hostip, port)`, from kazoo's point of view; it tells the timeouts of the present connection.

        A program may put a function of its own in its place, which usually calls the one before. It is called, in the
        client's loop, whenever a connection stands; its result is (read timeout, connect timeout) in milliseconds.
        A server from which nothing was heard for the read timeout is given up, however long the session timeout is.
        """
        return self._timeouts if self._replaced is None else self._replaced

    @_connect.setter
    def _connect(self, function: Connect) -> None:
        self._replaced = function
        if self.client.lifecycle.running:
            self.opened()

    def _timeouts(self, host: Any, hostip: Any, port: Any) -> tuple[float, float]:
        session = self._core().session
        return session.timeout * 1000 * 2 / 3, session.timeout * 1000 / max(1, len(self.client.hosts))

    def opened(self) -> None:
        """The client was started. Has the servers' silence watched, if a program has its own idea of it."""
        if self._replaced is not None:
            self.client.spawn_native(self._watch_silence, self._replaced)

    async def _watch_silence(self, connect: Connect) -> None:
        """Gives up a server that is silent for longer than the program allows; pings it in the middle of that time.

        Ends when another function has taken the place of this one, or with the loop.
        """
        core = self._core()
        session, runner = core.session, core.runner
        liveness = session._liveness  # pyright: ignore[reportPrivateUsage]
        established, limit = 0, 0.0
        while self._replaced is connect:
            pause, endpoint = _CONNECTING_PAUSE, runner.endpoint
            if self.client.connected and endpoint is not None:
                if session.established != established:
                    established = session.established
                    limit = connect(endpoint.server_name, endpoint.host, endpoint.port)[0] / 1000
                silent = core.clock.now() - liveness.heard_at
                if silent >= limit:
                    runner.drop_link(OperationTimeoutError(f"nothing heard from the server for {silent:.3f} s"))
                elif silent >= limit / 2 and not session.queue.has_output:
                    session.queue.control.append(Request(PING, PING_XID, PING.frame(PING_XID)))
                    runner.wake_writer()
                pause = max(0.01, limit / 8)
            await trio.sleep(pause)


__all__ = [
    "AUTH_XID",
    "BLATHER",
    "CHANGED_EVENT",
    "CHILD_EVENT",
    "CLOSE_RESPONSE",
    "CREATED_EVENT",
    "DELETED_EVENT",
    "EVENT_TYPE_MAP",
    "EXCEPTIONS",
    "PING_XID",
    "STOP_CONNECTING",
    "WATCH_XID",
    "_CONNECTION_DROP",
    "_SESSION_EXPIRED",
    "ConnectionHandler",
    "PingInstance",
    "RWServerAvailable",
]
