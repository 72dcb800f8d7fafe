"""Asking an owner to let go, by a sign in its znode: Curator's `Revoker`. Cooperative: who does not look goes on."""

from __future__ import annotations

from terzetto.client import NoNodeError, ZooKeeper

from ._ownership import Ownership
from ._znodes import ChangeWait, until_answered

REVOKE = b"__REVOKE__"
"""Curator's sign."""


async def revoke(client: ZooKeeper, znode: str) -> None:
    """Asks the owner of a lock's znode to let go.

    Raises:
        NoNodeError: there is no such owner any more.
    """
    await until_answered(client.set, znode, REVOKE)


async def wait_revoked(held: Ownership) -> None:
    """Returns once somebody has asked the owner to let go. Run it beside the work, in a task of the same block.

    Raises:
        OwnershipLost: the znode is gone.
    """
    while True:
        async with ChangeWait(held.client, held.znode) as change:
            try:
                data, _ = await until_answered(held.client.get, held.znode, watch=change.told)
            except NoNodeError:
                held.found_missing()
                held.check()
                raise
            if data == REVOKE:
                return
            await change.happened()
