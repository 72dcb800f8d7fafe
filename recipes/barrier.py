"""Barriers: one znode that stands in the way, and N members that begin together and end together.

The znodes are kazoo's and Curator's, who agree here.

In a double barrier the znode `ready` decides, not the number of members: whoever has seen it is through. It goes with
the last member, in one transaction, so that no member misses it and no later round finds it; one that a group left
behind when it died is removed by the next member that comes. Where kazoo's members are around it goes with the first
that leaves: they remove it then, and who of them leaves last waits for it to go.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

import trio

from terzetto.client import (
    ConnectionLoss,
    EventType,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
    Transaction,
    WatchedEvent,
    ZnodeStat,
    ZooKeeper,
)

from ._following import in_any_session, looks_once, within
from ._znodes import (
    ChangeWait,
    delete_once,
    encoded,
    join,
    make_path,
    native,
    pause_if_throttled,
    until_answered,
    wait_deleted,
)

T = TypeVar("T")

_READY = "ready"
# Ours have dashes, as Curator's have. As theirs they stand before `ready`, which kazoo counts as a member.
_KAZOO_S = re.compile("[0-9a-f]{32}")


class Barrier:
    """A barrier that somebody sets up and takes away: `await Barrier(zk, "/barriers/import").wait()`.

    Args:
        client: the client.
        path: the znode. The barrier stands as long as it is there.
    """

    def __init__(self, client: ZooKeeper, path: str) -> None:
        self.client = native(client)
        self.path = path

    async def create(self) -> None:
        """Sets it up; fine if it stands."""
        await in_any_session(self.client, make_path, self.client, self.path, container=False)

    async def remove(self) -> bool:
        """Takes it away, this one and none that is set up after it. False: there was none."""
        stat = await in_any_session(self.client, self.client.exists, self.path)
        first, unsure = stat, False
        while stat is not None and first is not None and stat.czxid == first.czxid:
            try:
                return await self.client.delete(self.path)
            except NoNodeError:
                return unsure
            except (ConnectionLoss, SessionMovedError, ThrottledOpError, SessionExpiredError) as error:
                if self.client.is_over:
                    raise
                unsure = unsure or error.outcome_unknown
                await pause_if_throttled(error)
            stat = await in_any_session(self.client, self._exists_now)
        return unsure

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - kazoo's, with kazoo's result
        """Waits until it is away. False: it stood for all of `timeout` seconds; with 0, it stands now.

        Lost connections and lost sessions do not end the wait. What was set up before the call is seen, whichever
        server is asked: a quorum is, first.

        Raises:
            SessionExpiredError: the client is over (closed, or its only session lost).
        """
        with within(timeout):
            while True:
                async with ChangeWait(self.client, self.path) as change:
                    if await in_any_session(self.client, self._exists_now, change.told) is None:
                        return True
                    if looks_once(timeout):
                        return False
                    await change.happened()
        return False

    async def _exists_now(self, watch: Callable[[WatchedEvent], None] | None = None) -> ZnodeStat | None:
        """`exists` on a server that knows what a quorum knew. A new session might find one that lags behind."""
        while True:
            session = self.client.session_id
            await until_answered(self.client.sync, self.path, strict=True)
            stat = await until_answered(self.client.exists, self.path, watch=watch)
            if stat is not None or (session and self.client.session_id == session):
                return stat


class _Vanished(Exception):
    """Our member's znode is gone, or its session."""


class _ReadyWait(ChangeWait):
    """Waits for `ready`; that it was created counts, though it may be gone again.

    Attributes:
        created: it was.
    """

    created = False

    def told(self, event: object) -> None:
        self.created = isinstance(event, WatchedEvent) and event.type == EventType.CREATED
        super().told(event)


class DoubleBarrier:
    """N members begin together and end together: `async with DoubleBarrier(zk, "/barriers/epoch", 3): ...`.

    Args:
        client: the client.
        path: the znode below which the members stand; made when it is missing.
        num_clients: how many must have entered before any is let through.
        identifier: who we are; the host's name and the process id if not given.

    Attributes:
        participating: entered, and not left.
    """

    def __init__(self, client: ZooKeeper, path: str, num_clients: int, identifier: str | bytes | None = None) -> None:
        if isinstance(num_clients, bool) or not isinstance(num_clients, int) or num_clients < 1:
            raise ValueError(f"num_clients must be a positive int, not {num_clients!r}")
        self.client = native(client)
        self.path = path
        self.num_clients = num_clients
        self.data = encoded(f"{socket.getfqdn()}-{os.getpid()}" if identifier is None else identifier)
        self.participating = False
        self._ready = join(path, _READY)
        self._name = ""
        self._beside_kazoo = False

    async def enter(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - kazoo's shape
        """Waits until `num_clients` members have entered. After a lost session it enters again, and goes on waiting.

        Returns:
            False: they had not within `timeout` seconds (0: not yet), and we do not take part.

        Raises:
            RuntimeError: this object has entered already.
            SessionExpiredError: the client is over (closed, or its only session lost).
        """
        if self.participating or self._name:
            raise RuntimeError(f"this object has entered {self.path} already; make one for each member")
        try:
            with within(timeout):
                while not self.participating:
                    # Never one of an earlier session's: its znode may outlive that for a while.
                    self._name = str(uuid.uuid4())
                    session = self.client.session_id
                    try:
                        self.participating = await self._is_complete(session, wait=not looks_once(timeout))
                        if not self.participating:
                            break
                    except _Vanished:
                        self._withdraw()
                    except SessionExpiredError:
                        if self.client.is_over:
                            raise
                        self._withdraw()
        finally:
            if not self.participating:
                self._withdraw()
        return self.participating

    async def leave(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - kazoo's shape
        """Waits until all members who were there have left, or their sessions have ended. We have left in any case.

        Returns:
            False: some had not within `timeout` seconds (0: not yet), or we did not take part.

        Raises:
            SessionExpiredError: the client is over (closed, or its only session lost).
        """
        if not self.participating:
            await trio.lowlevel.checkpoint()
            return False
        self.participating = False
        left = False
        try:
            with within(timeout):
                names = await self._in_any_session(self._members)
                if self._beside_kazoo:
                    await self._in_any_session(delete_once, self.client, self._ready)
                # Whoever comes from here on belongs to another round.
                round_ = set(names)
                while names and not (looks_once(timeout) and names != [self._name]):
                    await self._in_any_session(self._step_back, names)
                    names = [name for name in await self._in_any_session(self._members) if name in round_]
                left = not names
        finally:
            if left:
                self._name = ""
            else:
                self._withdraw()
        return left

    async def __aenter__(self) -> DoubleBarrier:
        await self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.leave()
        elif self.participating:
            # Who fails does not wait for the others, and they do not wait for us.
            self.participating = False
            if self._beside_kazoo and not self.client.is_over:
                self.client.defer_delete(self._ready)
            self._withdraw()

    def _withdraw(self) -> None:
        if self._name and not self.client.is_over:
            self.client.defer_delete(join(self.path, self._name))
        self._name = ""

    async def _in_any_session(self, call: Callable[..., Awaitable[T]], *args: object) -> T:
        return await in_any_session(self.client, call, *args)

    async def _members(self) -> list[str]:
        """Names of all members, in order. A child that is no member counts in none of the implementations but here."""
        try:
            names = await until_answered(self.client.get_children, self.path)
        except NoNodeError:
            return []
        members = sorted(name for name in names if name != _READY)
        self._beside_kazoo = self._beside_kazoo or any(map(_KAZOO_S.fullmatch, members))
        return members

    # Entering ---------------------------------------------------------------------------------------------------------

    async def _take_place(self, change: _ReadyWait) -> bool:
        """Our znode, and no `ready` that nobody is there for. Returns whether there is one, and watches it."""
        zk, own = self.client, join(self.path, self._name)
        while True:
            try:
                names = await until_answered(zk.get_children, self.path)
                if names == [_READY]:
                    with suppress(NodeExistsError):  # as below
                        await self._commit(lambda transaction: self._replace_ready(transaction, own))
                    return await until_answered(zk.exists, self._ready, watch=change.told) is not None
                return await until_answered(self._create_and_look, own, change)
            except NoNodeError:
                await make_path(zk, self.path, container=False)

    async def _create_and_look(self, own: str, change: _ReadyWait) -> bool:
        # One behind the other, so that nobody sees us, is let through and has left before we look: those of kazoo would
        # have taken `ready` along.
        async with self.client.pipeline() as pipeline:
            created = await pipeline.create(own, self.data, ephemeral=True)
            looked = await pipeline.exists(self._ready, watch=change.told)
        with suppress(NodeExistsError):  # by a request whose reply was lost: nobody else has the name
            created.result()
        return looked.result() is not None

    def _replace_ready(self, change: Transaction, own: str) -> None:
        change.create(own, self.data, ephemeral=True)
        change.delete(self._ready)

    async def _commit(self, fill: Callable[[Transaction], None]) -> None:
        """A transaction, until it is answered; raises what made it fail."""

        async def attempt() -> None:
            async with self.client.transaction() as transaction:
                fill(transaction)

        await until_answered(attempt)

    async def _is_complete(self, session: int, *, wait: bool) -> bool:
        """Takes our place; whether the members are complete; waits until they are.

        Raises:
            _Vanished: we are none of them any more.
        """
        has_place = False
        while True:
            change = _ReadyWait(self.client, self._ready)
            async with change:
                if has_place:
                    is_ready = await until_answered(self.client.exists, self._ready, watch=change.told) is not None
                else:
                    is_ready = await self._take_place(change)
                    has_place = True
                names = [] if is_ready else await self._members()
                if self.client.session_id != session:
                    raise _Vanished  # though the znode may still be there
                if is_ready:
                    return True
                if self._name not in names:
                    raise _Vanished
                if len(names) >= self.num_clients:
                    with suppress(NodeExistsError):
                        await until_answered(self.client.create, self._ready)
                    return True
                if not wait:
                    return False
                await change.happened()
                if change.created:
                    return True

    # Leaving ----------------------------------------------------------------------------------------------------------

    async def _step_back(self, names: list[str]) -> None:
        """One step of the way out: the first stays until the others have gone, and takes `ready` along."""
        own = join(self.path, self._name)
        if self._name not in names:
            await wait_deleted(self.client, join(self.path, names[0]))
        elif names == [self._name]:
            try:
                await self._commit(lambda change: self._take_ready(change, own))
            except NoNodeError:
                # Somebody else took `ready`, or a request whose reply was lost took both.
                await delete_once(self.client, own)
        elif names[0] == self._name:
            await wait_deleted(self.client, join(self.path, names[-1]))
        else:
            await delete_once(self.client, own)

    def _take_ready(self, change: Transaction, own: str) -> None:
        change.delete(own)
        change.delete(self._ready)
