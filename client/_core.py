"""What all views of one client share: the session and its runner, the janitor, streams, the state's history, the
proof.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import trio

from ._clock import Clock
from ._janitor import Janitor
from ._pending import Request
from ._retry import RetryPolicy
from ._runner import SessionRunner
from ._session import Session
from ._watching import StateNode, WatchStream
from .errors import ConnectionLoss, KazooException, ThrottledOpError
from .values import ACL, KazooState


class ClientCore:
    """One session's machinery. The views (`ZooKeeper`) differ in their chroot only."""

    def __init__(
        self,
        runner: SessionRunner,
        janitor: Janitor,
        *,
        default_acl: list[ACL],
        retry: RetryPolicy | None,
        max_request_size: int,
    ) -> None:
        self.runner = runner
        self.session: Session = runner.session
        self.janitor = janitor
        self.clock: Clock = runner.clock
        self.default_acl = default_acl
        self.retry = retry
        self.max_request_size = max_request_size
        self.streams: dict[WatchStream, None] = {}
        self.states = StateNode(self.session.state)
        self.lapsed = trio.Event()
        """Replaced each time the state changes; waiters for the end of a proof look again then."""
        self._session_was_lost = False
        runner.listeners[self._state_changed] = None

    def _state_changed(self, state: str) -> None:
        if state != self.states.state:
            self.states = self.states.append(state)
        self.lapsed.set()
        self.lapsed = trio.Event()
        if state == KazooState.LOST:
            self._session_was_lost = True
        elif state == KazooState.CONNECTED:
            lost, self._session_was_lost = self._session_was_lost, False
            if self.session.established > 1:
                for stream in self.streams:
                    stream.resync(session_lost=lost)

    async def call(self, request: Request) -> Any:
        """Sends a request and waits for its result."""
        value = await self.runner.call(request)
        return value if request.convert is None else request.convert(value)

    async def call_again(self, error: KazooException, opcode: int, build: Any, args: tuple[Any, ...]) -> Any:
        """The first attempt of a request failed with `error`: what the retry policy makes of it."""
        if self.retry is None or not self.retry.is_safe(error, opcode):
            raise error
        first: list[KazooException] = [error]

        async def attempt() -> Any:
            if first:
                raise first.pop()
            return await self.call(build(*args))

        return await self.retry.retrying(opcode)(attempt)

    def end(self) -> None:
        """No state follows; whoever waits for one is let go."""
        self.states.close()
        self.lapsed.set()


RETRYABLE = (ConnectionLoss, ThrottledOpError)


class SessionProof:
    """Proof that the session is alive, kept up while its block is open. Opened by `ZooKeeper.keep_proof()`.

    `deadline` is by the client's clock (`ZooKeeper.clock`), in seconds: until then no server can have expired the
    session, whatever the network does. It moves on with every write of the session, or with an empty transaction every
    quarter of the session timeout. Source: the design notes on ownership.
    """

    def __init__(self, core: ClientCore) -> None:
        self._core = core

    @property
    def deadline(self) -> float:
        """Until when the session is proven to live; -inf when there is no proof."""
        return self._core.session.proof.deadline

    def remaining(self) -> float:
        """Seconds until the deadline, 0 when it has passed."""
        return max(0.0, self.deadline - self._core.clock.now())

    async def renew(self) -> float:
        """Asks a quorum now; returns the new deadline. Raises as any write does."""
        core = self._core
        request = core.session.new_proof()
        await core.runner.call(request)
        return self.deadline

    async def wait_lapsed(self) -> None:
        """Returns when the proof has run out, at once when there is none. A checkpoint."""
        await trio.lowlevel.checkpoint()
        while (left := self.remaining()) > 0:
            # A short sleep looks at the clock again soon: it may go on while the machine sleeps, trio's does not.
            with trio.move_on_after(min(left, max(self._core.session.timeout / 20, 0.01))):
                await self._core.lapsed.wait()

    def __enter__(self) -> SessionProof:
        self._core.session.proof.hold(self._core.clock.now())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._core.session.proof.release()

    def __repr__(self) -> str:
        left = self.remaining()
        return f"<SessionProof {'none' if math.isinf(self.deadline) else f'{left:.3f} s left'}>"
