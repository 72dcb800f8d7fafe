"""Requests that recipes repeat without harm, and parents that may be missing or vanish.

A request that was lost with its connection is made again: a call without a connection waits for one, so nothing here
spins. Only requests whose second time changes nothing may come here; a create whose name nobody else has is found again
by that name. What ends is a session: its errors pass through to those who know what was meant for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import trio

from terzetto.client import (
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    ReplyTooLargeError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
    ZooKeeper,
)

T = TypeVar("T")

THROTTLED_PAUSE = 0.1
"""Seconds before a request is made again that an overloaded server has dropped."""

_REPEATED = (ConnectionLoss, ThrottledOpError, SessionMovedError)


def join(path: str, name: str) -> str:
    """The path of a child. Raises `TypeError`: the path is no text, which would be made one here."""
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {type(path).__name__}: {path!r}")
    return f"/{name}" if path == "/" else f"{path}/{name}"


def native(client: ZooKeeper) -> ZooKeeper:
    """The client that a recipe is given. Raises `TypeError`: it is none, which would come out at the first request."""
    if not isinstance(client, ZooKeeper):
        raise TypeError(
            f"client must be what open_zookeeper() gives, a ZooKeeper, not {type(client).__name__}: {client!r}"
        )
    return client


def encoded(identifier: str | bytes | None) -> bytes:
    """What a recipe writes into its znode to say whose it is. Bytes are taken as they are."""
    return identifier if isinstance(identifier, bytes) else str(identifier or "").encode()


async def pause_if_throttled(error: Exception) -> None:
    """Gives an overloaded server a moment; after any other failure the next call waits for a connection anyway."""
    if isinstance(error, ThrottledOpError):
        await trio.sleep(THROTTLED_PAUSE)


async def until_answered(call: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
    """Awaits `call(*args, **kwargs)`, again after each lost connection, until a server has answered it.

    Raises:
        SessionExpiredError: the session ended; the request was meant for it.
        ZookeeperError: the server's refusal.
    """
    while True:
        try:
            return await call(*args, **kwargs)
        except ReplyTooLargeError:
            raise
        except _REPEATED as error:
            await pause_if_throttled(error)


async def delete_once(zk: ZooKeeper, path: str, *, in_any_session: bool = False) -> bool:
    """Deletes a znode that nobody makes again. False: it was gone before we asked.

    Args:
        zk: the client.
        path: the znode.
        in_any_session: go on in the next session where the present one ends, for a znode that outlives them.

    Raises:
        SessionExpiredError: the session ended; with `in_any_session`, the client is over.
    """
    unsure = False
    while True:
        try:
            return await zk.delete(path)
        except NoNodeError:
            return unsure
        except _REPEATED as error:
            unsure = unsure or error.outcome_unknown
            await pause_if_throttled(error)
        except SessionExpiredError as error:
            if not in_any_session or zk.is_over:
                raise
            unsure = unsure or error.outcome_unknown


async def find_children(zk: ZooKeeper, path: str, prefix: str) -> list[str]:
    """The children whose names start with a prefix that only we use: what a request whose reply was lost has made.

    What another server had still on its way is decided by then: it is refused, because the session has moved. A quorum
    is asked: a leader that was deposed before the request does not know of what it made.
    """
    await until_answered(zk.sync, path, strict=True)
    try:
        names = await until_answered(zk.get_children, path)
    except NoNodeError:
        return []
    return [name for name in names if name.startswith(prefix)]


async def find_child(zk: ZooKeeper, path: str, prefix: str) -> str | None:
    """As `find_children`, for one child."""
    return next(iter(await find_children(zk, path, prefix)), None)


async def make_path(zk: ZooKeeper, path: str, *, container: bool) -> None:
    """Creates a parent and what is missing above it; fine if it is there.

    Args:
        zk: the client.
        path: the parent.
        container: as containers, which the server deletes once they have had a child and are empty again.
    """
    while True:
        try:
            if not container or path == "/":
                await until_answered(zk.ensure_path, path)
                return
            with suppress(NodeExistsError):
                await until_answered(zk.create, path, container=True)
            return
        except NoNodeError:  # also where a parent went while the path was being made
            await make_path(zk, path.rpartition("/")[0] or "/", container=container)


class ChangeWait:
    """Waits for the one event of a one-shot watch, and takes the watch back where it is not waited for to the end.

    `async with ChangeWait(zk, path) as change:` then a read with `watch=change.told`, then `await change.happened()`.
    """

    def __init__(self, zk: ZooKeeper, path: str) -> None:
        self._zk = zk
        self._path = path
        self._happened = trio.Event()

    def told(self, event: object) -> None:
        """The callable for the read."""
        self._happened.set()

    async def happened(self) -> None:
        """Returns once the watch has fired, or the session is over. A checkpoint."""
        await self._happened.wait()

    async def __aenter__(self) -> ChangeWait:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Also where it was told: a read that was repeated in another session may have set the watch once more.
        self._zk.forget_watch(self._path, self.told)


async def wait_deleted(zk: ZooKeeper, path: str) -> None:
    """Returns once a znode without children is gone, or the session over.

    By a watch on its children: that one fires when the znode is deleted and not when its data changes, and it is not
    set where there is no znode, so it never waits for a name that will not come again.
    """
    async with ChangeWait(zk, path) as change:
        with suppress(NoNodeError):
            await until_answered(zk.get_children, path, watch=change.told)
            await change.happened()
