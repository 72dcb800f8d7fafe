"""kazoo's transaction: operations collected in any thread, committed by the native client's transaction."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from .._requests import check_value, check_version
from ..values import check_acl
from ._arguments import bad_arguments
from .exceptions import ConnectionClosedError, RolledBackError, RuntimeInconsistency
from .handlers.utils import AsyncResult
from .protocol.paths import absolute
from .security import ACL

if TYPE_CHECKING:
    from .client import KazooClient


class Operation(NamedTuple):
    """One operation: a method of the native transaction, and its arguments."""

    method: str
    args: tuple[Any, ...]


class TransactionRequest:
    """Operations that happen together or not at all.

    Attributes:
        client: whose connection is used.
        operations: what was added so far.
        committed: nothing can be added any more.
    """

    def __init__(self, client: KazooClient) -> None:
        self.client = client
        self.operations: list[Operation] = []
        self.committed = False

    def create(
        self,
        path: str,
        value: bytes = b"",
        acl: list[ACL] | tuple[ACL, ...] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
    ) -> None:
        """Adds a create. Its result is the path. A sequential one keeps a slash at the end, which kazoo drops."""
        for name, flag in (("ephemeral", ephemeral), ("sequence", sequence)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name} must be a bool, not {flag!r}")
        if not isinstance(value, bytes):
            raise TypeError(f"value must be bytes, not {value!r:.100}")
        entries = list(acl or self.client.default_acl or ()) or None
        path = _path(path, trailing=sequence)
        self._add("create", path, value, None if entries is None else check_acl(entries), ephemeral, sequence)

    def delete(self, path: str, version: int = -1) -> None:
        """Adds a delete. Its result is True."""
        self._add("delete", _path(path), check_version(version))

    def set_data(self, path: str, value: bytes, version: int = -1) -> None:
        """Adds a write. Its result is the ZnodeStat."""
        if not isinstance(value, bytes):
            raise TypeError(f"value must be bytes, not {value!r:.100}")
        self._add("set_data", _path(path), check_value(value), check_version(version))

    def check(self, path: str, version: int) -> None:
        """Adds a condition: the znode has this version. Its result is True."""
        self._add("check", _path(path), check_version(version))

    def _add(self, method: str, *args: Any) -> None:
        if self.committed:
            raise ValueError("the transaction was committed already")
        self.operations.append(Operation(method, args))

    def commit_async(self) -> AsyncResult:
        """As `commit`, without waiting."""
        if self.committed:
            raise ValueError("the transaction was committed already")
        self.committed = True
        try:
            return self.client.spawn_native(self._commit)
        except ConnectionClosedError as error:
            result = self.client.handler.async_result()
            result.set_exception(error)
            return result

    def commit(self) -> list[Any]:
        """Commits; the results of the operations, or the errors of those of a transaction that failed.

        Raises:
            ValueError: it was committed before.
        """
        results: list[Any] = self.commit_async().get()
        return results

    async def _commit(self) -> list[Any]:
        if not self.operations:
            return []
        transaction = self._begin()
        for index, operation in enumerate(self.operations):
            try:
                getattr(transaction, operation.method)(*operation.args)
            except ValueError as error:  # what a server would refuse; it fails in a server's way
                behind = len(self.operations) - index - 1
                refused = bad_arguments(error)
                return [*[RolledBackError()] * index, refused, *[RuntimeInconsistency()] * behind]
        results: list[Any] = await transaction.commit()
        return results

    def _begin(self) -> Any:
        return self.client.native.transaction()

    def __enter__(self) -> TransactionRequest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()


def _path(path: str, *, trailing: bool = False) -> str:
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {path!r}")
    return absolute("", path, trailing=trailing)
