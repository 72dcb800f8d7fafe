"""Clean-up that outlives the call which needs it: deletions that go on in the client's own tasks.

A cancelled caller cannot wait for a deletion, and a caller whose create reply was lost does not know what to delete.
Both leave it here. Each deletion is tried until it succeeds or the session ends; ephemeral znodes go with the session
anyway.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Protocol

import tenacity
import trio

from ._backoff import FullJitter
from .errors import (
    AuthFailedError,
    ConnectionLoss,
    KazooException,
    NoNodeError,
    NotReadOnlyCallError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
)

log = logging.getLogger("terzetto.client")


_PASSING = (ConnectionLoss, ThrottledOpError, NotReadOnlyCallError, SessionMovedError)


class Znodes(Protocol):
    """What the janitor needs of a client; a view, so that chroots are honoured."""

    async def delete(self, path: str, version: int = -1) -> bool:
        """Deletes a znode."""
        ...

    async def get_children(self, path: str) -> list[str]:
        """Lists a znode's children."""
        ...

    async def sync(self, path: str) -> str:
        """Makes this server as new as the leader was."""
        ...


class Janitor:
    """Runs deferred deletions, all at the same time.

    `run` is a task of the client's nursery. It is shielded, so that the deletions of a cancelled program are made;
    `drain` waits for them and `stop` ends them.
    """

    def __init__(self, rng: random.Random) -> None:
        self._wait = FullJitter(rng, maximum=1.0)
        self._scope = trio.CancelScope(shield=True)
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()
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
                self._started.set()
                await trio.sleep_forever()

    def defer(self, znodes: Znodes, path: str, prefix: str | None, session_over: Callable[[], bool]) -> None:
        """Deletes a znode, or, with a prefix, those children of `path` whose names start with it.

        Tried until it is done or `session_over` is true.
        """
        if self._nursery is None or self._scope.cancel_called:
            raise RuntimeError("the client is closed")
        self._pending += 1
        self._idle = trio.Event() if self._pending == 1 else self._idle
        self._nursery.start_soon(self._delete, znodes, path, prefix, session_over)

    async def drain(self) -> None:
        """Waits until nothing is pending."""
        await self._idle.wait()

    def stop(self) -> None:
        """Gives up what is pending."""
        self._scope.cancel()

    async def _delete(self, znodes: Znodes, path: str, prefix: str | None, session_over: Callable[[], bool]) -> None:
        try:
            async for attempt in tenacity.AsyncRetrying(
                sleep=trio.sleep,
                wait=self._wait,
                retry=tenacity.retry_if_exception_type(_PASSING),
                reraise=True,
            ):
                with attempt:
                    if session_over():
                        return
                    await self._delete_once(znodes, path, prefix)
        except (SessionExpiredError, AuthFailedError):
            log.debug("the session ended before %s was deleted", path)
        except (KazooException, ValueError) as error:  # a name that no path may have, from another client
            log.warning("%s could not be deleted: %s", path, error)
        finally:
            self._pending -= 1
            if not self._pending:
                self._idle.set()

    async def _delete_once(self, znodes: Znodes, path: str, prefix: str | None) -> None:
        if prefix is None:
            doomed = [path]
        else:
            # A create whose reply was lost may have been committed through another server.
            await znodes.sync(path)
            try:
                names = await znodes.get_children(path)
            except NoNodeError:
                return
            root = "" if path == "/" else path
            doomed = [f"{root}/{name}" for name in names if name.startswith(prefix)]
        for znode in doomed:
            try:
                await znodes.delete(znode)
            except NoNodeError:
                continue
