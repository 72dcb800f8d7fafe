"""What all views of one client share: the session and its runner, the janitor, streams, the state's history, the
proof and those who rest on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Any

import trio

from ._clock import Clock
from ._janitor import Janitor
from ._pending import Request
from ._proof import AMPLE_SHARE
from ._requests import Requests, check_watch
from ._retry import RetryPolicy
from ._runner import SessionRunner
from ._session import Session
from ._watching import StateNode, WatchCallback, WatchStream
from .errors import ConnectionLoss, KazooException, NoNodeError, SessionMovedError, ThrottledOpError
from .values import ACL, EventType, KazooState, WatchedEvent


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
        self.guard = LapseGuard(self.session, self.clock)
        self._session_was_lost = False
        runner.listeners[self._state_changed] = None

    def _state_changed(self, state: str) -> None:
        if state != self.states.state:
            self.states = self.states.append(state)
        self.guard.look()
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
        self.guard.look()


RETRYABLE = (ConnectionLoss, ThrottledOpError)
_ASKED_AGAIN = (*RETRYABLE, SessionMovedError)


class LapseGuard(trio.abc.Instrument):
    """Cancels scopes when the proof that they rest on has lapsed. One task of the client serves all of them.

    A scope's `deadline` is the guard's while the scope is guarded: set to the end of the proof, and moved on when the
    proof is renewed. So trio itself cancels it in time, before any task that became ready meanwhile runs, also in a
    process that was stopped. What trio's clock does not see, a sleep of the machine, the guard sees in the same place:
    it looks at the client's clock in every pass of the scheduler, before the tasks.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._guarded: dict[trio.CancelScope, SessionProof] = {}
        self._due: dict[DeletionWatch, None] = {}
        self._wanted = trio.Event()
        self._in_every_pass = False

    def add(self, scope: trio.CancelScope, proof: SessionProof) -> None:
        """Guards a scope from now on."""
        self._guarded[scope] = proof
        self._look_at(scope, proof)
        self._wanted.set()
        if self._guarded and not self._in_every_pass:
            self._in_every_pass = True
            trio.lowlevel.add_instrument(self)

    def discard(self, scope: trio.CancelScope) -> None:
        """Guards it no more; its deadline is left without a limit."""
        if self._guarded.pop(scope, None) is not None and not scope.cancel_called:
            scope.deadline = math.inf

    def look(self) -> None:
        """Moves the deadlines to where the proofs are, and cancels what has none any more."""
        for scope, proof in list(self._guarded.items()):
            self._look_at(scope, proof)

    def _look_at(self, scope: trio.CancelScope, proof: SessionProof) -> None:
        left = proof.remaining()
        if left > 0:
            scope.deadline = trio.current_time() + left
        else:
            scope.cancel()
            self._guarded.pop(scope, None)

    def after_io_wait(self, timeout: float) -> None:
        """Called by trio before it looks at its own deadlines, and then runs tasks."""
        if self._guarded and self._clock.now() >= self._session.proof.deadline:
            self.look()

    def send_soon(self, watch: DeletionWatch) -> None:
        """Has a watch sent in the next scheduler pass, unless it is withdrawn until then."""
        self._due[watch] = None
        self._wanted.set()

    def withdraw(self, watch: DeletionWatch) -> None:
        """It is not sent any more. One that was is left alone."""
        self._due.pop(watch, None)

    async def run(self) -> None:
        """Looks, as long as there is anything to guard. Without this task nothing is prolonged, which errs on the safe
        side.
        """
        try:
            while True:
                with trio.CancelScope() as pause:
                    await self._send_what_is_due(pause)
                self.look()
                # Not with every scope that is let go: a lock may be taken a thousand times a second.
                if not self._guarded:
                    self._leave_the_passes()
        finally:
            self._leave_the_passes()

    async def _send_what_is_due(self, pause: trio.CancelScope) -> None:
        """Goes on until the next look, for which `pause` gets its deadline once there is anything to look at."""
        while True:
            if self._in_every_pass and pause.deadline == math.inf:
                pause.deadline = trio.current_time() + max(self._session.timeout / 20, 0.01)
            await self._wanted.wait()
            self._wanted = trio.Event()
            due, self._due = self._due, {}
            for watch in due:
                watch.send()

    def _leave_the_passes(self) -> None:
        if self._in_every_pass:
            self._in_every_pass = False
            trio.lowlevel.remove_instrument(self)


class DeletionWatch:
    """A watch on a znode's children that is being set; waits for its own requests. See `SessionProof.watch_deleted`."""

    def __init__(self, runner: SessionRunner, requests: Requests, path: str, watch: WatchCallback) -> None:
        self._runner = runner
        self._requests = requests
        self._path = path
        self._watch = watch

    def send(self) -> None:
        """Hands the request over."""
        request = self._requests.get_children(self._path, self._watch)
        request.waiter = self
        try:
            self._runner.session.submit(request)
        except KazooException:
            self._tell(EventType.NONE)
        else:
            self._runner.wake_writer()

    def completed(self, request: Request) -> None:
        """Called by the shell once the outcome is known."""
        if isinstance(request.error, _ASKED_AGAIN) and not self._runner.session.is_over:
            self.send()
        elif isinstance(request.error, NoNodeError):
            self._tell(EventType.DELETED)
        elif request.error is not None:
            self._tell(EventType.NONE)

    def _tell(self, event_type: str) -> None:
        self._runner.tell(self._watch, WatchedEvent(event_type, self._runner.session.keeper_state, self._path))


class SessionProof:
    """Proof that the session is alive, kept up while its block is open. Opened by `ZooKeeper.keep_proof()`.

    `deadline` is by the client's clock (`ZooKeeper.clock`), in seconds: until then no server can have expired the
    session, whatever the network does. It moves on with every write of the session, or with an empty transaction every
    sixth of the session timeout. Source: the design notes on ownership.
    """

    def __init__(self, core: ClientCore, requests: Requests, session_id: int | None = None) -> None:
        self._core = core
        self._requests = requests
        self._session_id = session_id

    @property
    def session_over(self) -> bool:
        """Whether the session that this is about is over, as far as the client knows."""
        return self._session_id is not None and self._session_id != self._core.session.resumable_id

    @property
    def deadline(self) -> float:
        """Until when the session is proven to live; -inf when there is no proof."""
        return -math.inf if self.session_over else self._core.session.proof.deadline

    def remaining(self) -> float:
        """Seconds until the deadline, 0 when it has passed."""
        return max(0.0, self.deadline - self._core.clock.now())

    async def renew(self) -> float:
        """Asks a quorum now; returns the new deadline. Raises as any write does.

        It asks a second time when the first answer alone proves little: after an idle time it takes two, one behind the
        other, to know that the leader has been told of the session.
        """
        core = self._core
        for _ in range(2):
            await core.runner.call(core.session.new_proof())
            if self.remaining() >= core.session.timeout * AMPLE_SHARE:
                break
        return self.deadline

    async def wait_lapsed(self) -> None:
        """Returns when the proof has run out, at once when there is none. A checkpoint."""
        await trio.lowlevel.checkpoint()
        while self.remaining() > 0:
            with trio.CancelScope() as scope:
                self.guard(scope)
                try:
                    await trio.sleep_forever()
                finally:
                    self.unguard(scope)

    def guard(self, scope: trio.CancelScope) -> None:
        """Has a cancel scope end with the proof, until `unguard`: cancelled when it lapses, at once when it has.

        The scope's `deadline` is the client's meanwhile. Only within the block of `keep_proof` is a proof renewed.
        """
        self._core.guard.add(scope, self)

    def unguard(self, scope: trio.CancelScope) -> None:
        """Lets go of a guarded scope; an unknown one is ignored."""
        self._core.guard.discard(scope)

    def watch_deleted(self, path: str, watch: WatchCallback) -> Callable[[], None]:
        """Has `watch` told once a znode without children is gone, or the session over; what owns nothing but that znode
        owns nothing then.

        A one-shot watch as `get_children` leaves it, but nobody waits for the answer: the request goes out once the
        calling task waits for something, and is made again after a lost connection; a znode that is gone already is
        told as DELETED.

        Returns:
            What withdraws the request, as long as it has not gone out; later it does nothing.
        """
        core = self._core
        self._requests.absolute(path)
        deletion = DeletionWatch(core.runner, self._requests, path, check_watch(watch))
        core.guard.send_soon(deletion)
        return lambda: core.guard.withdraw(deletion)

    def __enter__(self) -> SessionProof:
        self._core.session.proof.hold()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._core.session.proof.release()

    def __repr__(self) -> str:
        left = self.remaining()
        return f"<SessionProof {'none' if math.isinf(self.deadline) else f'{left:.3f} s left'}>"
