"""Operations on more than one znode, made of several requests: a path with all that is missing above it, a whole tree.

Not atomic: others may create and delete at the same time, and what they do is taken as it is found.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from .errors import BadArgumentsError, NodeExistsError, NoNodeError, NotEmptyError
from .paths import join, parent
from .values import ACL

if TYPE_CHECKING:
    from ._client import ZooKeeper

T = TypeVar("T")

DELETE_ROUNDS = 10
"""How often a tree is deleted again because others have created children meanwhile."""
CREATE_ROUNDS = 10
"""How often a path is made again because a parent has gone meanwhile, like a container that had no child yet."""


async def create_below(create: Callable[[], Awaitable[T]], make_parent: Callable[[], Awaitable[object]]) -> T:
    """Creates a znode whose parent may be missing, or vanish before it has this child.

    Raises:
        NoNodeError: others keep deleting the parent.
    """
    for _ in range(CREATE_ROUNDS - 1):
        try:
            return await create()
        except NoNodeError:
            await make_parent()
    return await create()


async def create_missing(client: ZooKeeper, path: str, acl: list[ACL]) -> None:
    """Creates a znode that is missing, and its missing parents first, all persistent and empty.

    Raises:
        NoNodeError: others keep deleting a parent.
    """
    # A refused create has shown this server the tree as it is, so another look is a better one.
    for _ in range(CREATE_ROUNDS - 1):
        with suppress(NoNodeError):
            await _create_once(client, path, acl)
            return
    await _create_once(client, path, acl)


async def _create_once(client: ZooKeeper, path: str, acl: list[ACL]) -> None:
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
