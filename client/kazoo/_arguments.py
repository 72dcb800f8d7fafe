"""The arguments of the client's operations, checked, and in the form that the native client takes.

Decides what raises at once, as in kazoo: wrong types, and "." or ".." in a path. What else is wrong with a path or a
request a server would say, and `bad_arguments` says it in its place.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..paths import is_valid
from .exceptions import BadArgumentsError, KazooException
from .protocol.paths import absolute
from .security import ACL

AclArgument = list[ACL] | tuple[ACL, ...] | None


def bad_arguments(error: ValueError) -> KazooException:
    """What a server says to a path or a request that the native client does not even send."""
    if isinstance(error, KazooException):
        return error
    refused = BadArgumentsError(str(error))
    refused.__cause__ = error
    return refused


def znode_path(path: str, *, trailing: bool = False) -> str:
    """The path as the native client takes it: absolute, and normal.

    Raises:
        TypeError: it is no str.
        ValueError: it has an element "." or "..".
    """
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {path!r}")
    return path if is_valid(path) else absolute("", path, trailing=trailing)


def check_bool(name: str, value: object) -> None:
    """Raises `TypeError`: it is no bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {value!r}")


def check_acls(name: str, acl: Iterable[ACL] | None) -> list[ACL]:
    """The ACL as a list, empty for `None`. Raises `TypeError`: it is neither list nor tuple."""
    if acl is None:
        return []
    if isinstance(acl, ACL) or not isinstance(acl, (tuple, list)):
        raise TypeError(f"{name} must be a list or tuple of ACL, not {acl!r}")
    return list(acl)
