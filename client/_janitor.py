"""Clean-up that outlives the call which needs it: deletions that go on in the client's own tasks.

A cancelled caller cannot wait for a deletion, and a caller whose create reply was lost does not know what to delete.
Both leave it here. Each deletion is tried until it succeeds or the session ends; ephemeral znodes go with the session
anyway, and what outlives it may be deleted in the next one.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import tenacity
import trio

from ._backoff import FullJitter
from .errors import (
    AuthFailedError,
    BadVersionError,
    ConnectionLoss,
    KazooException,
    NoNodeError,
    NotReadOnlyCallError,
    ReplyTooLargeError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
)
from .values import ZnodeStat

log = logging.getLogger("terzetto.client")


_PASSING = (ConnectionLoss, ThrottledOpError, NotReadOnlyCallError, SessionMovedError)
_NOT_TOO_LARGE = tenacity.retry_if_not_exception_type(ReplyTooLargeError)


class Znodes(Protocol):
    """What the janitor needs of a client; a view, so that chroots are honoured."""

    async def delete(self, path: str, version: int = -1) -> bool:
        """Deletes a znode."""
        ...

    async def get(self, path: str) -> tuple[bytes | None, ZnodeStat]:
        """Reads a znode's data."""
        ...

    async def get_children(self, path: str) -> list[str]:
        """Lists a znode's children."""
        ...

    async def sync(self, path: str, *, strict: bool = False) -> str:
        """Makes this server as new as the leader was; strictly, as a quorum was."""
        ...


@dataclass(frozen=True, slots=True)
class Doomed:
    """What is to be deleted.

    Attributes:
        path: the znode, or with a prefix its parent.
        prefix: beginning of the names of the children that are meant.
        data: only a znode that holds these.
        owner: only an ephemeral znode of this session; 0 for any znode.
    """

    path: str
    prefix: str | None = None
    data: bytes | None = None
    owner: int = 0

    def __post_init__(self) -> None:
        if self.prefix is not None and (not isinstance(self.prefix, str) or not self.prefix or "/" in self.prefix):
            raise ValueError(f"prefix must be the beginning of a znode's name, not {self.prefix!r}")
        if self.data is not None and not isinstance(self.data, bytes):
            raise TypeError(f"data must be bytes or None, not {type(self.data).__name__}: {self.data!r:.100}")

    @property
    def is_conditional(self) -> bool:
        """Whether a znode has to be looked at first."""
        return self.data is not None or self.owner != 0

    def means(self, data: bytes, stat: ZnodeStat) -> bool:
        """Whether a znode with these contents is meant."""
        return self.data in (None, data) and self.owner in (0, stat.ephemeralOwner)


_Deletion = tuple[Znodes, Doomed, Callable[[], bool], tuple[type[KazooException], ...]]
"""What `Janitor._delete` takes."""


class Janitor:
    """Runs deferred deletions, all at the same time.

    `run` is a task of the client's nursery. It is shielded, so that the deletions of a cancelled program are made;
    `drain` waits for them and `stop` ends them.
    """

    def __init__(self, rng: random.Random) -> None:
        self._wait = FullJitter(rng, maximum=1.0)
        self._scope = trio.CancelScope(shield=True)
        self._nursery: trio.Nursery | None = None
        self._early: list[_Deletion] = []
        self._idle = trio.Event()
        self._idle.set()
        self._pending = 0

    @property
    def pending(self) -> int:
        """Deletions that are not done."""
        return self._pending

    async def run(self) -> None:
        """Keeps the nursery of the deletions until `stop`."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for deletion in self._early:
                    nursery.start_soon(self._delete, *deletion)
                self._early.clear()
                await trio.sleep_forever()

    def defer(
        self, znodes: Znodes, doomed: Doomed, session_over: Callable[[], bool], *, in_any_session: bool = False
    ) -> None:
        """Deletes what is doomed. Tried until it is done or `session_over` is true; in a later session only with
        `in_any_session`.
        """
        if self._scope.cancel_called:
            raise RuntimeError("the client is closed")
        self._pending += 1
        self._idle = trio.Event() if self._pending == 1 else self._idle
        passing = (*_PASSING, SessionExpiredError) if in_any_session else _PASSING
        deletion: _Deletion = (znodes, doomed, session_over, passing)
        if self._nursery is None:  # `run` has not had its turn yet
            self._early.append(deletion)
        else:
            self._nursery.start_soon(self._delete, *deletion)

    async def drain(self) -> None:
        """Waits until nothing is pending."""
        await self._idle.wait()

    def stop(self) -> None:
        """Gives up what is pending."""
        self._scope.cancel()

    async def _delete(
        self,
        znodes: Znodes,
        doomed: Doomed,
        session_over: Callable[[], bool],
        passing: tuple[type[KazooException], ...],
    ) -> None:
        failures: list[KazooException] = []

        async def attempt() -> None:
            if failures:
                raise failures.pop()
            if not session_over():
                for path in await _paths(znodes, doomed):
                    await _delete_meant(znodes, path, doomed)

        try:
            try:
                await attempt()
            except ReplyTooLargeError:
                raise  # each attempt would cost everybody the connection
            except passing as error:
                failures.append(error)
            if failures:  # only what is repeated pays for repetitions
                await tenacity.AsyncRetrying(
                    sleep=trio.sleep,
                    wait=self._wait,
                    retry=tenacity.retry_if_exception_type(passing) & _NOT_TOO_LARGE,
                    reraise=True,
                )(attempt)
        except (SessionExpiredError, AuthFailedError):
            log.debug("the session ended before %s was deleted", doomed.path)
        except (KazooException, ValueError) as error:  # a name that no path may have, from another client
            log.warning("%s could not be deleted: %s", doomed.path, error)
        finally:
            self._pending -= 1
            if not self._pending:
                self._idle.set()


async def _paths(znodes: Znodes, doomed: Doomed) -> list[str]:
    """The znodes that may be meant."""
    if doomed.prefix is not None or doomed.is_conditional:
        # A create whose reply was lost may have been committed through another server, and a leader that was deposed
        # before does not know of it.
        await znodes.sync(doomed.path, strict=True)
    if doomed.prefix is None:
        return [doomed.path]
    try:
        names = await znodes.get_children(doomed.path)
    except NoNodeError:
        return []
    root = "" if doomed.path == "/" else doomed.path
    return [f"{root}/{name}" for name in names if name.startswith(doomed.prefix)]


async def _delete_meant(znodes: Znodes, path: str, doomed: Doomed) -> None:
    """Deletes a znode if it is meant; what was looked at is what is deleted."""
    version = -1
    while True:
        try:
            if doomed.is_conditional:
                data, stat = await znodes.get(path)
                if not doomed.means(data or b"", stat):
                    return
                version = stat.version
            await znodes.delete(path, version)
        except NoNodeError:
            return
        except BadVersionError:
            continue  # written to since: another look
        return
