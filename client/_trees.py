"""Operations on more than one znode, made of several requests: a path with all that is missing above it, a whole tree.

Not atomic: others may create and delete at the same time, and what they do is taken as it is found.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import BadArgumentsError, NodeExistsError, NoNodeError, NotEmptyError
from .paths import join, parent
from .values import ACL

if TYPE_CHECKING:
    from ._client import ZooKeeper

DELETE_ROUNDS = 10
"""How often a tree is deleted again because others have created children meanwhile."""


async def create_missing(client: ZooKeeper, path: str, acl: list[ACL] | None) -> None:
    """Creates a znode that is missing, and its missing parents first, all persistent and empty."""
    missing: list[str] = []
    while path != "/":
        missing.append(path)
        path = parent(path)
        if await client.exists(path) is not None:
            break
    for znode in reversed(missing):
        with suppress(NodeExistsError):
            await client.create(znode, b"", acl)


async def delete_tree(client: ZooKeeper, path: str) -> None:
    """Deletes a znode and everything below it, children first; what is gone already is fine.

    Raises:
        NotEmptyError: others keep creating children.
        BadArgumentsError: the path is one that the server reserves.
    """
    for _ in range(DELETE_ROUNDS):
        try:
            await _delete_once(client, path)
            return
        except NotEmptyError:
            continue
    raise NotEmptyError(f"others created children during {DELETE_ROUNDS} rounds of deletion", path=path)


async def _delete_once(client: ZooKeeper, path: str) -> None:
    tree = [path]
    for znode in tree:
        with suppress(NoNodeError):
            tree += [join(znode, name) for name in await client.get_children(znode)]
    for znode in reversed(tree):
        try:
            await client.delete(znode)
        except NoNodeError:
            continue
        except BadArgumentsError:
            if znode == path:
                raise  # "/" and what the server reserves
