"""Paths as `kazoo.protocol.paths` reads them: more generous than ZooKeeper, and made to fit it.

A relative path stands for an absolute one, slashes are collapsed, "" is the root. What is left is for
`terzetto.client.paths` to judge.
"""

from __future__ import annotations

import re

_SLASHES = re.compile("/{2,}")


def normpath(path: str, trailing: bool = False) -> str:
    """The path with one slash between its elements, and none at its end (but the root's, or with `trailing`).

    Raises:
        ValueError: an element is "." or "..".
    """
    if not path:
        return ""
    path = _SLASHES.sub("/", path)
    elements = path.split("/")
    if "." in elements or ".." in elements:
        raise ValueError(f"relative paths not allowed: {path!r}")
    if path == "/" or trailing:
        return path
    return path.rstrip("/")


def join(a: str, *p: str) -> str:
    """The elements with slashes between them; an absolute one begins anew, as with `posixpath.join`."""
    path = a
    for element in p:
        if element.startswith("/"):
            path = element
        elif not path or path.endswith("/"):
            path += element
        else:
            path += "/" + element
    return path


def isabs(s: str) -> bool:
    """Whether the path begins with a slash."""
    return s.startswith("/")


def basename(p: str) -> str:
    """What stands behind the last slash."""
    return p.rpartition("/")[2]


def absolute(root: str, path: str, trailing: bool = False) -> str:
    """The path below a root, as the server knows it."""
    return normpath(join(_norm_root(root), path.lstrip("/")), trailing=trailing)


def _norm_root(root: str) -> str:
    """The root as an absolute path."""
    return normpath(join("/", root))


_prefix_root = absolute
"""kazoo's name for it, which programs call though it is private."""
