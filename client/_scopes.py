"""The one place that decides what becomes of exceptions at the edge of a block that runs background tasks.

What the body raises leaves the block as it is: same object, same traceback, never inside an exception group of the
library's making.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import cast

import trio

if sys.version_info < (3, 11):  # trio depends on the backport there
    from exceptiongroup import BaseExceptionGroup


def leaves_of(error: BaseException | None) -> list[BaseException]:
    """The exceptions inside a group, however deep; a bare one is its own, `None` has none."""
    if error is None:
        return []
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for inner in group.exceptions for leaf in leaves_of(inner)]


class PlainNursery:
    """`trio.open_nursery`, except that a single failure leaves bare.

    Its tasks must not raise; should one do so all the same, that error leaves the block, bare as well. Only where body
    and task both fail does a group leave, because neither may be lost.
    """

    def __init__(self) -> None:
        self._opened = trio.open_nursery()

    async def __aenter__(self) -> trio.Nursery:
        return await self._opened.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await self._opened.__aexit__(kind, error, traceback)
        except BaseException as raised:
            # Told by their leaves: a group that passes a cancelled nursery is another group of the same errors.
            own = {id(leaf) for leaf in leaves_of(error)}
            leaves = leaves_of(raised)
            others = [leaf for leaf in leaves if id(leaf) not in own and not isinstance(leaf, trio.Cancelled)]
            if not others and own and own <= {id(leaf) for leaf in leaves}:
                return False  # Python goes on raising the body's own error.
            if len(others) == 1 and all(isinstance(leaf, trio.Cancelled) for leaf in leaves_of(error)):
                raise others[0] from others[0].__cause__
            raise
