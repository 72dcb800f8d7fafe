"""What programs and test harnesses touch of kazoo's client though its name begins with an underscore.

Read from where the native client keeps it. Decides nothing but how a test loses a connection or a session on purpose.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .._client import core_of
from .._pending import Request
from ..wire.operations import CLOSE_SESSION
from ._lifecycle import Lifecycle
from .exceptions import ConnectionClosedError, ConnectionLoss, KazooException, SessionExpiredError
from .handlers.utils import AsyncResult
from .protocol.connection import (
    _CONNECTION_DROP,  # pyright: ignore[reportPrivateUsage]
    _SESSION_EXPIRED,  # pyright: ignore[reportPrivateUsage]
)

if TYPE_CHECKING:
    from .._core import ClientCore

_NO_PASSWD = bytes(16)


class PrivateAttributes:
    """kazoo's semi-private attributes; see each. `lifecycle` is the client's."""

    lifecycle: Lifecycle
    _timeout: float

    @property
    def _live(self) -> threading.Event:
        """Set while connected."""
        return self.lifecycle.live

    @property
    def _stopped(self) -> threading.Event:
        """Set before `start` and behind `stop`."""
        return self.lifecycle.stopped

    @property
    def _state(self) -> str:
        """One of `KeeperState`."""
        return self.lifecycle.keeper_state

    @property
    def _session_id(self) -> int | None:
        """Id of the session, `None` without one."""
        native = self.lifecycle.native
        return (native.session_id or None) if native is not None and self.lifecycle.running else None

    @property
    def _session_passwd(self) -> bytes:
        """Password of the session, zeros without one."""
        native = self.lifecycle.native
        return native.session_passwd if native is not None and self.lifecycle.running else _NO_PASSWD

    @property
    def _session_timeout(self) -> int:
        """Session timeout that is asked for, in milliseconds."""
        return int(self._timeout * 1000)

    @property
    def _queue(self) -> list[Request]:
        """Requests that wait to be sent, as they are now."""
        native = self.lifecycle.native
        return [] if native is None or not self.lifecycle.running else list(core_of(native).session.queue.unsent)

    def _call(self, request: object, async_result: AsyncResult | None = None) -> None:
        """Breaks something for a test, and returns at once.

        Args:
            request: `_CONNECTION_DROP`: the connection is cut, the session goes on. `_SESSION_EXPIRED`: the server ends
                the session; listeners are told LOST, without SUSPENDED before it.
            async_result: told `ConnectionLoss` or `SessionExpiredError` when it has happened.

        Raises:
            TypeError: it is neither.
        """
        error: type[KazooException]
        if request is _CONNECTION_DROP:
            step, error = self._drop_connection, ConnectionLoss
        elif request is _SESSION_EXPIRED:
            step, error = self._expire_session, SessionExpiredError
        else:
            raise TypeError(f"requests are made by the client's methods; _call takes two sentinels, not {request!r}")

        def tell(done: AsyncResult) -> None:
            if async_result is not None:
                async_result.set_exception(done.exception or error(f"{request!r} for a test"))

        try:
            self.lifecycle.running_loop().spawn(step).rawlink(tell)
        except ConnectionClosedError as closed:
            if async_result is not None:
                async_result.set_exception(closed)

    def _core(self) -> ClientCore:
        native = self.lifecycle.native
        if native is None:
            raise ConnectionClosedError("the client is not started")
        return core_of(native)

    async def _drop_connection(self) -> None:
        self._core().runner.drop_link(ConnectionError("dropped for a test"))

    async def _expire_session(self) -> None:
        """Has the server end the session as if a client had closed it, and lets this client find out by itself."""
        runner = self._core().runner
        session = runner.session
        xid = session.next_xid()
        self.lifecycle.expects_loss = True
        try:
            await runner.call(Request(CLOSE_SESSION, xid, CLOSE_SESSION.frame(xid)))
        except ConnectionLoss:
            pass  # the server may hang up before its answer is read
        except KazooException:
            self.lifecycle.expects_loss = False
            raise
        runner.drop_link(ConnectionError("the session was ended for a test"))
