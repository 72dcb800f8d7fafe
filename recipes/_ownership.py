"""Ownership as a scope: the one implementation under every recipe that owns something.

An `Ownership` stands for one znode that its owner has, and answers one question at any time: may I still act? It keeps
the client's proof that the session lives (docs/design/ownership.md derives its bound), watches the znode, and cancels
the owner's body as soon as either is gone. What a clock cannot promise it offers by other means: transactions that
commit only while the znode is there, and a number that grows with every owner.

It refuses to know how ownership is won, and in which order.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeVar, cast, get_args

import trio

from terzetto.client import (
    ConnectionLoss,
    EventType,
    KazooState,
    NoNodeError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
    WatchedEvent,
    ZnodeStat,
    ZooKeeper,
    ZookeeperError,
)

from ._znodes import delete_once, pause_if_throttled, until_answered
from .errors import OwnershipLost

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

ProofMode = Literal["quorum", "session"]
SuspendMode = Literal["wait", "cancel"]

SUSPENDED_SHARE = 1 / 3
"""With `proof="session"`: the share of the session timeout after which a lost connection ends ownership."""
PROOF_LEFT_SHARE = 1 / 4
"""The share of the session timeout that a proof must still have when a body begins; else it is renewed first."""
PROOF_PAUSE_SHARE = 1 / 20
"""The share of the session timeout between two attempts at that."""


@dataclass(frozen=True)
class Terms:
    """On what ownership rests, and what ends it.

    Attributes:
        proof: "quorum": the answer to a write or an empty transaction, at least every quarter of the session timeout;
            "session": no traffic, the session's state as the client knows it.
        on_suspend: what a lost connection does: "wait" for as long as the proof lasts, or "cancel" at once.
    """

    proof: ProofMode = "quorum"
    on_suspend: SuspendMode = "wait"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("proof", self.proof, get_args(ProofMode)),
            ("on_suspend", self.on_suspend, get_args(SuspendMode)),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


_USUAL = Terms()


class Ownership:
    """What `async with Lock(...) as held` gives: one term of ownership, from its begin to its end.

    Attributes:
        client: the client that owns it.
        path: path of the recipe.
        znode: path of the owner's own znode. Nobody else ever has one of this name.
        fencing_token: grows with every owner of this path, for other stores to compare; `None` where there is no such
            order (readers, semaphores).
    """

    def __init__(self, zk: ZooKeeper, path: str, znode: str, stat: ZnodeStat, terms: Terms) -> None:
        self.path = path
        self.znode = znode
        self.fencing_token: int | None = stat.czxid
        self.client = zk
        self._terms = terms
        self._is_ephemeral = stat.ephemeralOwner != 0
        self._proof = zk.keep_proof(stat.ephemeralOwner)
        self._reason: str | None = None
        # Begun and not ended: the proof is kept, and what happens to it counts.
        self._active = False
        # Takes a watch back that has not been asked for yet.
        self._unwatch: Callable[[], None] | None = None
        # While one znode takes the place of another, both may be there.
        self._spare: str | None = None
        # Never entered by anyone: trio keeps its deadline, so that a proof that ran out once stays run out.
        self._term = trio.CancelScope()
        self._scopes: set[trio.CancelScope] = {self._term}

    @property
    def znodes(self) -> tuple[str, ...]:
        """All that must be there for this to be owned; `znode` is the first."""
        return (self.znode,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.znode} token {self.fencing_token} {self.loss or 'held'}>"

    # Still mine? ------------------------------------------------------------------------------------------------------

    @property
    def loss(self) -> str | None:
        """Why this is owned no more, `None` while it is. Looks at the clock, not at the servers."""
        if self._reason is None and self._active and self._is_ephemeral:
            if self._proof.session_over:
                self._lose("the session is over")
            elif self._terms.proof == "quorum" and self._proof.remaining() <= 0:
                self._lose("no quorum has confirmed for too long that the session lives")
            elif self._term.cancel_called:
                self._lose("the connection was lost for too long to be sure that the session lives")
        return self._reason

    @property
    def is_lost(self) -> bool:
        """Whether this is owned no more. Looks at the clock, not at the servers."""
        return self.loss is not None

    def check(self) -> None:
        """Raises `OwnershipLost` if this is owned no more. For long computations without a checkpoint."""
        if self.loss is not None:
            raise OwnershipLost(self.path, self.loss)

    def check_session(self) -> None:
        """Raises `OwnershipLost` if the session that owned this is over: the znode may be another's since."""
        if self._is_ephemeral and self._proof.session_over:
            self._lose("the session is over")
            raise OwnershipLost(self.path, "the session is over")

    async def wait_lost(self) -> str:
        """Returns the reason once this is owned no more."""
        with self.body():
            await trio.sleep_forever()
        return self.loss or "it was given up"

    def body(self) -> OwnedBody:
        """A cancel scope that ends with the ownership, for other tasks than the owner's: `with held.body(): ...`.

        Leaving it says nothing: look at `loss`.
        """
        return OwnedBody(self)

    async def assert_owned(self) -> None:
        """Asks a quorum whether the znode is there, now. A checkpoint.

        Raises:
            OwnershipLost: it is not.
            SessionExpiredError: the client is closed.
        """

        async def ask() -> None:
            await self.transaction().commit()

        try:
            await until_answered(ask)
        except SessionExpiredError:
            if self._is_ephemeral:
                self._lose("the session is over")
                self.check()
            raise
        self.check()

    def transaction(self) -> GuardedTransaction:
        """A transaction that commits only while this is owned, whatever the clocks say."""
        return GuardedTransaction([self])

    # Begin and end ----------------------------------------------------------------------------------------------------

    async def begin(self, *, is_watched: bool = False) -> bool:
        """Proves the ownership and watches over it. False: the znode or its session has gone already.

        Whatever this raises, `abandon` has been called.

        Args:
            is_watched: a watch that calls `watcher()` has been set.
        """
        self._active = True
        if not self._is_ephemeral:
            return True
        if self._terms.proof == "quorum":
            self._proof.__enter__()
        if self._terms != _USUAL:
            self.client.add_listener(self._state_changed)
        try:
            await self._prove(is_watched)
        except (NoNodeError, SessionExpiredError):
            self.abandon()
            return False
        except BaseException:
            self.abandon()
            raise
        if self._reason is not None:
            self.abandon()
            return False
        return True

    async def _prove(self, is_watched: bool) -> None:
        if not is_watched:
            await self._watch_znode()
        while (
            self._terms.proof == "quorum" and self._proof.remaining() < self.client.session_timeout * PROOF_LEFT_SHARE
        ):
            if self._proof.session_over:
                raise SessionExpiredError("the session ended before its znode was owned")
            await until_answered(self._proof.renew)
            if self._proof.remaining() < self.client.session_timeout * PROOF_LEFT_SHARE:
                # The server was out of reach for a while, and the leader may not have been told of us since.
                await trio.sleep(self.client.session_timeout * PROOF_PAUSE_SHARE)
        if self._proof.session_over:
            raise SessionExpiredError("the session ended before its znode was owned")
        self._state_changed(self.client.state)
        if self._terms.proof == "quorum":
            for scope in self._scopes:
                self._proof.guard(scope)

    def watch_znode_soon(self) -> None:
        """Has the znode watched without waiting for an answer; then `begin` is called with `is_watched`.

        That costs no round trip. A znode that is gone when the watch comes to be set is lost then, as one is that goes
        a moment later.
        """
        if self._is_ephemeral:
            self._unwatch = self._proof.watch_deleted(self.znode, self.watcher())

    async def _watch_znode(self) -> None:
        for znode in self.znodes:
            await until_answered(self.client.get_children, znode, watch=self.watcher(znode))

    def watcher(self, znode: str | None = None) -> Callable[[WatchedEvent], None]:
        """What a watch on the children of the znode calls, or of another one of `znodes`.

        Such a watch fires when the znode is deleted and not when its data changes; an ephemeral has no children.
        """
        watched = znode or self.znode

        def told(event: WatchedEvent) -> None:
            if event.type == EventType.NONE:
                self._lose("the session is over")
            elif event.type == EventType.DELETED and watched in self.znodes and self._spare is None:
                self._lose(f"its znode {watched} was deleted")

        return told

    async def release(self) -> bool:
        """Ends the ownership by deleting its znode; waits for a server's answer. False: the znode was gone before."""
        self._finish()
        try:
            return await delete_once(self.client, self.znode, in_any_session=not self._is_ephemeral)
        except SessionExpiredError:
            if not self._is_ephemeral:
                raise
            return True  # it went with its session, after the body
        except BaseException:
            self._delete_later()
            raise

    def abandon(self) -> None:
        """Ends the ownership without waiting: the znode is deleted in the background, or goes with its session."""
        if self._active:
            self._finish()
            self._delete_later()

    def _delete_later(self) -> None:
        if not self.client.is_over and not (self._is_ephemeral and self._proof.session_over):
            for znode in (*self.znodes, self._spare):
                if znode is not None:
                    self.client.defer_delete(znode, in_any_session=not self._is_ephemeral)

    def _finish(self) -> None:
        """Nothing that happens from here on concerns this any more."""
        if not self._active:
            return
        reason = self.loss
        self._active = False
        if self._unwatch is not None:
            self._unwatch()
        if self._is_ephemeral:
            for scope in self._scopes:
                self._proof.unguard(scope)
            if self._terms.proof == "quorum":
                self._proof.__exit__(None, None, None)
            self.client.remove_listener(self._state_changed)
        self._reason = reason or "it was given up"
        for scope in self._scopes - {self._term}:
            scope.cancel()

    async def _move(self, znode: str) -> None:
        """Goes on under another znode of ours, which takes the place of this one in one transaction."""
        self.check()
        try:
            data, _ = await until_answered(self.client.get, self.znode)
            self._spare = znode
            await self._replace(self.znode, znode, data)
            self.znode, self._spare = znode, None
            if self._is_ephemeral:
                await self._watch_znode()
        except NoNodeError:
            self.found_missing()
        except BaseException:
            if self.znode == znode or self._spare is not None:
                # Others may have stopped waiting for the old one, and the caller does not know.
                self._lose(f"the change of its znode to {znode} was interrupted")
            raise
        self.check()

    async def _replace(self, before: str, after: str, data: bytes | None) -> None:
        """Raises `NoNodeError`: the old znode is gone."""
        unsure = False
        while True:
            transaction = self.client.transaction()
            transaction.delete(before)
            transaction.create(after, data, ephemeral=self._is_ephemeral)
            try:
                results = await transaction.commit()
            except (ConnectionLoss, SessionMovedError, ThrottledOpError) as error:
                unsure = unsure or error.outcome_unknown
                await pause_if_throttled(error)
                continue
            if isinstance(results[0], NoNodeError) and unsure:
                # Gone by our own hand, if the new one is there.
                await until_answered(self.client.get, after)
                return
            for result in results:
                if isinstance(result, ZookeeperError) and result.code not in (0, -2):
                    raise result
            return

    # Loss -------------------------------------------------------------------------------------------------------------

    def bind(self, scope: trio.CancelScope) -> None:
        """Has a scope cancelled when the ownership ends, until `unbind`."""
        self._scopes.add(scope)
        if self.loss is not None:
            scope.cancel()
        elif self._is_ephemeral and self._terms.proof == "quorum":
            self._proof.guard(scope)
        elif self._is_ephemeral:
            scope.deadline = self._term.deadline

    def unbind(self, scope: trio.CancelScope) -> None:
        """Lets go of a scope."""
        self._proof.unguard(scope)
        self._scopes.discard(scope)

    def found_missing(self, znode: str | None = None) -> None:
        """A quorum said that the znode is gone, or another one of `znodes`."""
        self._lose(f"its znode {znode or self.znode} is gone")

    def _lose(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
            for scope in self._scopes:
                scope.cancel()

    def _state_changed(self, state: str) -> None:
        """What the session's state alone means, under other terms than the usual ones."""
        if self.loss is not None:
            return  # a connection that is back gives nothing back
        if state == KazooState.LOST:
            self._lose("the session is over")
        elif state == KazooState.SUSPENDED and self._terms.on_suspend == "cancel":
            self._lose("the connection was lost (on_suspend='cancel')")
        elif self._terms.proof == "session":
            suspended = state == KazooState.SUSPENDED
            left = self.client.session_timeout * SUSPENDED_SHARE if suspended else float("inf")
            for scope in self._scopes:
                scope.deadline = trio.current_time() + left


class OwnedBody:
    """A block that is cancelled when an ownership ends. Made by `Ownership.body()`."""

    def __init__(self, owner: Ownership) -> None:
        self._owner = owner
        self._scope = trio.CancelScope()

    def __enter__(self) -> Ownership:
        self._scope.__enter__()
        self._owner.bind(self._scope)
        return self._owner

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._owner.unbind(self._scope)
        return bool(self._scope.__exit__(kind, error, traceback))


class GuardedTransaction:
    """`ZooKeeper.transaction()` with the owner's znode checked first: it commits only while that is there.

    `create`, `delete`, `set_data` and `check` collect operations as `Transaction` does. As an async context manager
    it commits when the block ends without an exception, keeps `results`, and raises the error of what failed.
    """

    def __init__(self, owners: Sequence[Ownership]) -> None:
        if any(owner.client is not owners[0].client for owner in owners):
            raise ValueError("what one transaction checks must be owned through one client")
        self.results: list[Any] = []
        self._owners = owners
        self._inner = owners[0].client.transaction()
        self._checked = self._guards()
        for _, znode in self._checked:
            # Any version: a request to give the lock up writes to the znode, and the name is its owner's alone.
            self._inner.check(znode, -1)
        self.create = self._inner.create
        self.delete = self._inner.delete
        self.set_data = self._inner.set_data
        self.check = self._inner.check

    def _guards(self) -> list[tuple[Ownership, str]]:
        return [(owner, znode) for owner in self._owners for znode in owner.znodes]

    async def commit(self) -> list[Any]:
        """Sends it; one result an operation, as `Transaction.commit` gives them (the guard has none).

        Raises:
            OwnershipLost: the owner's znode is gone. Nothing was done.
            ConnectionLoss: see `outcome_unknown`.
            ValueError: it was begun before a `downgrade`, or committed before.
        """
        guards = self._checked
        if guards != self._guards():
            raise ValueError(
                f"{guards[0][0].path} has another znode since this transaction was begun: begin another one"
            )
        for owner in self._owners:
            owner.check_session()
        results = await self._inner.commit()
        for (owner, znode), result in zip(guards, results, strict=False):
            if isinstance(result, NoNodeError):
                owner.found_missing(znode)
                raise OwnershipLost(owner.path, f"its znode {znode} is gone")
        return results[len(guards) :]

    async def __aenter__(self) -> GuardedTransaction:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and not self._inner.committed:
            self.results = await self.commit()
            for result in self.results:
                if isinstance(result, ZookeeperError) and result.code not in (0, -2):
                    raise result


OwnershipT = TypeVar("OwnershipT", bound=Ownership)


@asynccontextmanager
async def owning(
    claim: Callable[[], Awaitable[OwnershipT]], ended: Callable[[OwnershipT], None] = lambda _: None
) -> AsyncIterator[OwnershipT]:
    """Runs the block while `claim()`'s ownership lasts, releases it, and calls `ended(ownership)` in any case.

    What leaves the block:

    - the body's own exception, unchanged, with a note if the ownership was lost: it is never replaced;
    - else `OwnershipLost`, if the ownership ended before the body did, also when the body never noticed, or so close to
      its end that nobody can tell (the znode was gone when it was to be deleted);
    - else nothing, and the znode is deleted.
    """
    held = await claim()
    try:
        with held.body():
            yield held
        held.check()
        if not await held.release():
            raise OwnershipLost(held.path, f"its znode {held.znode} was gone before it was released")
    except BaseException as error:
        if held.loss is not None and not isinstance(error, (OwnershipLost, trio.Cancelled)):
            add_note(error, f"{held.path} was no longer owned: {held.loss}")
        held.abandon()
        raise
    finally:
        ended(held)


def leaves_of(error: BaseException) -> list[BaseException]:
    """The exceptions inside a group, however deep; a bare one is its own."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for inner in group.exceptions for leaf in leaves_of(inner)]


def is_loss(error: BaseException, path: str) -> bool:
    """Whether an exception says nothing but that this path is owned no more, also in groups as nurseries raise them."""
    return all(isinstance(leaf, OwnershipLost) and leaf.path == path for leaf in leaves_of(error))


def add_note(error: BaseException, note: str) -> None:
    """`BaseException.add_note`, which Python 3.10 does not have."""
    error.__dict__.setdefault("__notes__", []).append(note)
