"""A change that is made once, though its request or its reply may be lost: it leaves a receipt, in one transaction.

The receipt is an ephemeral znode with a name of its own. After a lost connection it says whether the change was made;
where the session ended in between it went with the session, and nobody can say any more. It is deleted in the
background as soon as it has served.

Refuses to know what is changed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from terzetto.client import (
    ConnectionLoss,
    NodeExistsError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
    Transaction,
    ZooKeeper,
    ZookeeperError,
)

from ._znodes import pause_if_throttled, until_answered

RECEIPT = "__receipt__"
"""In the name of each receipt. No recipe, here or elsewhere, takes such a znode for one of its own."""

_CONSEQUENCES = (0, -2)
"""Codes of the operations before and behind the one that made a transaction fail."""


async def change_once(zk: ZooKeeper, prefix: str, fill: Callable[[Transaction], None]) -> list[Any] | None:
    """Makes a change once.

    Args:
        zk: the client.
        prefix: path of the receipt, to which a unique name is added. Its parent must exist.
        fill: adds the operations of the change to a transaction. Called again for each attempt.

    Returns:
        One result an operation. `None`: the change was made, by a request whose reply was lost.

    Raises:
        SessionExpiredError: the session ended; `outcome_unknown` says whether the change may have been made.
        ZookeeperError: of the operation that made the transaction fail. Nothing was changed.
    """
    receipt = f"{prefix}{RECEIPT}{uuid.uuid4().hex}"
    left = True
    try:
        while True:
            transaction = zk.transaction()
            transaction.create(receipt, ephemeral=True)
            fill(transaction)
            try:
                results = await transaction.commit()
            except (ConnectionLoss, SessionMovedError, ThrottledOpError) as error:
                await pause_if_throttled(error)
                if error.outcome_unknown and await _is_there(zk, receipt):
                    return None
                continue
            except SessionExpiredError as error:
                if error.outcome_unknown or zk.is_over:
                    raise
                continue  # never sent; the next session is as good
            if isinstance(results[0], NodeExistsError):
                return None  # an attempt that was given up got there after all
            for result in results:
                if isinstance(result, ZookeeperError) and result.code not in _CONSEQUENCES:
                    left = False
                    raise result
            return results[1:]
    finally:
        if left and not zk.is_over:
            zk.defer_delete(receipt)


async def _is_there(zk: ZooKeeper, receipt: str) -> bool:
    """Whether the change of a lost reply was made. What was under way then is refused: the session has moved. A quorum
    is asked: a leader that was deposed before the change does not know of it.

    Raises:
        SessionExpiredError: the receipt would have gone with its session, so nobody knows.
    """
    session = zk.session_id
    try:
        await until_answered(zk.sync, receipt, strict=True)
        found = await until_answered(zk.exists, receipt)
    except SessionExpiredError as error:
        error.outcome_unknown = True
        raise
    if found is None and (zk.session_id != session or not session):
        raise SessionExpiredError(
            "the session ended before the outcome of the change was known", path=receipt, outcome_unknown=True
        )
    return found is not None
