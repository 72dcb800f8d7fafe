"""What recipes raise of their own; everything else that they raise is the client's.

Knows no recipe.
"""

from __future__ import annotations

from terzetto.client import KazooException


class OwnershipLost(KazooException):
    """Something that was owned (a lock, an election, a lease) is owned no more, or that can no longer be proved.

    Attributes:
        path: path of the recipe.
        reason: what ended the ownership.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} is no longer owned: {self.reason}"


class LayoutConflictError(KazooException):
    """Contenders of the other layout (kazoo's, Curator's) stand on the path, and we would not exclude each other.

    Attributes:
        path: path of the recipe.
        name: name of a foreign contender's znode.
        layout: the recipe's own layout.
    """

    def __init__(self, path: str, name: str, layout: str) -> None:
        super().__init__(path, name, layout)
        self.path = path
        self.name = name
        self.layout = layout

    def __str__(self) -> str:
        return f"{self.path} is in use by {self.name!r}, which is not a contender of the layout {self.layout!r}"


class ConfigParseError(KazooException):
    """A configuration's data could not be parsed; what the parser raised is the cause.

    Attributes:
        path: the znode.
        version: version of its data.
        reason: what the parser raised, as text.
    """

    def __init__(self, path: str, version: int, reason: object) -> None:
        super().__init__(path, version, str(reason))
        self.path = path
        self.version = version
        self.reason = str(reason)

    def __str__(self) -> str:
        return f"version {self.version} of {self.path} cannot be parsed: {self.reason}"


class ItemFormatError(KazooException):
    """The data of an item in a queue are not what Curator writes.

    Attributes:
        path: the item's znode.
        data: its data.
        reason: what is wrong with them.
    """

    def __init__(self, path: str, data: bytes, reason: str) -> None:
        super().__init__(path, data, reason)
        self.path = path
        self.data = data
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} is no item: {self.reason}"
