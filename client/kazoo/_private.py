"""What programs and test harnesses touch of kazoo's client though its name begins with an underscore.

Read from where the native client keeps it. Decides nothing but how a test loses a connection or a session on purpose.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, TypeVar

from .._client import core_of
from .._pending import Request
from ..wire.operations import CLOSE_SESSION
from ._lifecycle import Lifecycle
from ._watchers import CHILD_KINDS, DATA_KINDS, WatcherTable
from .exceptions import ConnectionClosedError, ConnectionLoss, KazooException, SessionExpiredError
from .handlers.threading import SequentialThreadingHandler
from .handlers.utils import AsyncResult
from .protocol.connection import (
    _CONNECTION_DROP,  # pyright: ignore[reportPrivateUsage]
    _SESSION_EXPIRED,  # pyright: ignore[reportPrivateUsage]
)

if TYPE_CHECKING:
    from .._core import ClientCore

T = TypeVar("T")

_NO_PASSWD = bytes(16)


def _resume(core: ClientCore, session_id: int, passwd: bytes) -> None:
    session = core.session
    session.session_id, session.passwd = session_id, passwd
    session._resumable = (session_id, passwd)  # pyright: ignore[reportPrivateUsage]


class PrivateAttributes:
    """kazoo's semi-private attributes; see each. `lifecycle` is the client's."""

    lifecycle: Lifecycle
    handler: SequentialThreadingHandler
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
        """Id of the session, `None` without one. Another one counts from the next connection on."""
        native = self.lifecycle.native
        return (native.session_id or None) if native is not None and self.lifecycle.running else None

    @_session_id.setter
    def _session_id(self, value: int | None) -> None:
        self._look(lambda core: _resume(core, value or 0, core.session.passwd), None)

    @property
    def _session_passwd(self) -> bytes:
        """Password of the session, zeros without one. Another one counts from the next connection on."""
        native = self.lifecycle.native
        return native.session_passwd if native is not None and self.lifecycle.running else _NO_PASSWD

    @_session_passwd.setter
    def _session_passwd(self, value: bytes) -> None:
        self._look(lambda core: _resume(core, core.session.session_id, value), None)

    @property
    def _session_timeout(self) -> int:
        """Session timeout that is asked for, in milliseconds. Another one counts from the next start on."""
        return int(self._timeout * 1000)

    @_session_timeout.setter
    def _session_timeout(self, value: int) -> None:
        self._timeout = value / 1000

    @property
    def _queue(self) -> list[Request]:
        """Requests that wait to be sent, as they are now."""
        return self._look(lambda core: [request for request in core.session.queue.unsent if not request.withdrawn], [])

    @property
    def _pending(self) -> list[Request]:
        """Requests that wait for their answers, as they are now."""
        return self._look(lambda core: list(core.session.queue.sent), [])

    @property
    def _data_watchers(self) -> WatcherTable:
        """Functions that wait for a change of a znode's data, by its path with the chroot. A view."""
        return WatcherTable(self._look, DATA_KINDS)

    @property
    def _child_watchers(self) -> WatcherTable:
        """Functions that wait for a change of a znode's children, by its path with the chroot. A view."""
        return WatcherTable(self._look, CHILD_KINDS)

    def _look(self, question: Callable[[ClientCore], T], otherwise: T) -> T:
        """What `question(core)` says in the loop, behind all that was asked before; `otherwise` without a session."""
        native, loop = self.lifecycle.native, self.lifecycle.loop
        if native is None or loop is None:
            return otherwise
        core = core_of(native)
        if loop.is_inside:
            return question(core)

        async def look() -> T:
            return question(core)

        try:
            return loop.call(look)
        except ConnectionClosedError:
            return otherwise

    def _is_call_overridden(self) -> bool:
        """Whether a subclass wants to see each call before it is sent."""
        return type(self)._call is not PrivateAttributes._call

    def _by_call(self, request: object) -> AsyncResult:
        """Hands a call to the subclass's `_call`."""
        result = AsyncResult(self.handler)
        self._call(request, result)
        return result

    def _call(self, request: object, async_result: AsyncResult | None = None) -> None:
        """Where all calls come through once a subclass has overridden it, which may answer them itself. Or breaks
        something for a test. Returns at once.

        Args:
            request: what the client's methods have made, for this method only. Or `_CONNECTION_DROP`: the connection is
                cut, the session goes on. `_SESSION_EXPIRED`: the server ends the session; listeners are told LOST,
                without SUSPENDED before it.
            async_result: told the outcome; `ConnectionLoss` or `SessionExpiredError` where something was to be broken
                and is.

        Raises:
            TypeError: it is none of these.
        """
        if isinstance(request, Request) or iscoroutinefunction(request):
            result = AsyncResult(self.handler) if async_result is None else async_result
            try:
                loop = self.lifecycle.running_loop()
            except ConnectionClosedError as closed:
                result.set_exception(closed)
            else:
                if isinstance(request, Request):
                    loop.submit(request, result)
                else:
                    loop.spawn_for(result, request)
            return
        error: type[KazooException]
        if request is _CONNECTION_DROP:
            step, error = self._drop_connection, ConnectionLoss
        elif request is _SESSION_EXPIRED:
            step, error = self._expire_session, SessionExpiredError
        else:
            raise TypeError(f"requests are made by the client's methods; _call takes no {request!r}")

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
