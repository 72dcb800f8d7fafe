"""Znode paths: what is valid, how a chroot is put on and taken off, names of sequential znodes.

The rules are ZooKeeper's own (PathUtils of 3.5 to 3.9), so that a malformed path is refused before it is sent, with the
rule it breaks. Knows no client and no server.
"""

from __future__ import annotations

import re

_FORBIDDEN = "\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff"
# One element: no slash, no forbidden character, and neither "." nor "..".
_ELEMENT = rf"(?!\.{{1,2}}(?:/|\Z))[^/{_FORBIDDEN}]+"
_VALID = re.compile(rf"/(?:{_ELEMENT}(?:/{_ELEMENT})*)?")
_BAD_CHARACTER = re.compile(f"[{_FORBIDDEN}]")
_SEQUENCE = re.compile(r"-?[0-9]{10}\Z")

is_valid = _VALID.fullmatch
"""Truthy for a valid absolute path. The hot paths of the client call it directly and explain only failures."""


def check_path(path: str, what: str = "path") -> str:
    """Returns `path` unchanged when it is a valid absolute znode path.

    Raises:
        TypeError: `path` is no str.
        ValueError: it breaks a rule of ZooKeeper's paths; the message names the value and the rule.
    """
    if not isinstance(path, str):
        raise TypeError(f"{what} must be a str, not {type(path).__name__}: {path!r}")
    if is_valid(path):
        return path
    raise ValueError(f"invalid {what} {path!r}: {_broken_rule(path)}")


def _broken_rule(path: str) -> str:
    if not path:
        return "it is empty"
    bad = _BAD_CHARACTER.search(path)
    if bad:
        return f"character U+{ord(bad.group()):04X} at index {bad.start()} is not allowed"
    if not path.startswith("/"):
        return "it must start with '/'"
    if path.endswith("/"):
        return "it must not end with '/'"
    elements = path[1:].split("/")
    if "" in elements:
        return "it has an empty element ('//')"
    return f"relative element {'.' if '.' in elements else '..'!r} is not allowed"


def check_create_path(path: str, *, sequence: bool) -> str:
    """As `check_path` for a znode to be created; a sequential one is judged with its suffix, so it may end in "/"."""
    if not sequence:
        return check_path(path)
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {type(path).__name__}: {path!r}")
    if not is_valid(path + "1"):
        raise ValueError(f"invalid path {path!r} for a sequential znode: {_broken_rule(path + '1')}")
    return path


def parent(path: str) -> str:
    """The parent's path; the root's parent is the root."""
    return path.rpartition("/")[0] or "/"


def basename(path: str) -> str:
    """The last element of the path, "" for the root."""
    return path.rpartition("/")[2]


def join(root: str, *names: str) -> str:
    """Joins a parent's path and the names below it, with exactly one slash between them."""
    return "/".join([root.rstrip("/"), *(name.strip("/") for name in names)]) or "/"


def sequence_number(name: str) -> int:
    """The number at the end of a sequential znode's name or path (ten digits, after 2**31 creations a minus before
    them).

    Raises:
        ValueError: the name ends in no sequence number.
    """
    found = _SEQUENCE.search(name)
    if found is None:
        raise ValueError(f"{name!r} does not end in a sequence number of ten digits")
    text = found.group()
    # A prefix may itself end in "-" ("lock-0000000001"): only a full negative int32 has the sign as part of the number.
    return int(text) if text[0] == "-" and int(text) == -(2**31) else int(text.lstrip("-"))


class Chroot:
    """A path that is put before every path of a view, and taken off every path that comes back.

    `prefix` is "" for no chroot, else a valid path other than "/". The server knows nothing of it.
    """

    __slots__ = ("prefix",)

    def __init__(self, path: str | None = None) -> None:
        self.prefix = "" if path is None or path in ("", "/") else check_path(path, "chroot")

    def __repr__(self) -> str:
        return f"Chroot({self.prefix or '/'!r})"

    def absolute(self, path: str, *, sequence: bool = False) -> str:
        """The path as the server knows it. `path` must be valid already.

        Args:
            path: as the view's user knows it.
            sequence: the server appends a number to it, so that "/" stands for a name below the root, not beside it.
        """
        if not self.prefix:
            return path
        return self.prefix if path == "/" and not sequence else self.prefix + path

    def relative(self, path: str) -> str:
        """The path as the view's user knows it; a path outside the chroot comes back unchanged."""
        prefix = self.prefix
        if not prefix or not path.startswith(prefix):
            return path
        rest = path[len(prefix) :]
        if rest == "":
            return "/"
        # "/app-other" is not inside "/app".
        return rest if rest[0] == "/" else path
