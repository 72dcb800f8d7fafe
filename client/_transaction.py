"""Several operations as one: `transaction()` (all or nothing) and the reads of `multi_read` (each on its own)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ._requests import Requests, check_value, check_version, create_mode
from .errors import WireError, ZookeeperError, error_from_code
from .paths import check_create_path
from .values import ACL, check_acl
from .wire import records as r
from .wire.multi import MultiOp, MultiResult
from .wire.operations import Opcode


class Transaction:
    """A list of operations that happen together or not at all (ZooKeeper's multi).

    `commit` returns one result an operation; a failed transaction is not raised but told by its results, as in kazoo:
    the operation that failed has its error, those before it `RolledBackError`, those after it `RuntimeInconsistency`.
    As an async context manager it commits when the block ends without an exception, keeps `results`, and raises the
    error of the operation that failed.

    Attributes:
        operations: what was added so far.
        committed: `commit` was called; nothing can be added any more.
        results: of the context manager's commit.
    """

    def __init__(self, requests: Requests, call: Callable[..., Awaitable[Any]]) -> None:
        self.operations: list[MultiOp] = []
        self.committed = False
        self.results: list[Any] = []
        self._call = call
        self._requests = requests
        self._paths: list[str] = []

    def create(
        self,
        path: str,
        value: bytes | None = b"",
        acl: Iterable[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        include_data: bool = False,
        *,
        ttl: float | None = None,
        container: bool = False,
    ) -> None:
        """Adds a create. Result: the path, or (path, ZnodeStat) with `include_data`.

        Servers before 3.7.2 and 3.8.2 give no Stat inside a transaction; then it is `None`.
        """
        operation, mode, ttl_ms = create_mode(ephemeral=ephemeral, sequence=sequence, container=container, ttl=ttl)
        absolute = self._requests.chroot.absolute(check_create_path(path, sequence=sequence), sequence=sequence)
        entries = self._requests.default_acl if acl is None else check_acl(acl)
        opcode = Opcode.CREATE2 if include_data and operation.opcode == Opcode.CREATE else operation.opcode
        request: Any
        if ttl_ms is None:
            request = r.CreateRequest(absolute, check_value(value), entries, int(mode))
        else:
            request = r.CreateTTLRequest(absolute, check_value(value), entries, int(mode), ttl_ms)
        self._add(opcode, request, path + ("\0" if include_data else ""))

    def delete(self, path: str, version: int = -1) -> None:
        """Adds a delete. Result: True."""
        self._add(Opcode.DELETE, r.DeleteRequest(self._requests.absolute(path), check_version(version)), path)

    def set_data(self, path: str, value: bytes | None, version: int = -1) -> None:
        """Adds a write. Result: ZnodeStat."""
        request = r.SetDataRequest(self._requests.absolute(path), check_value(value), check_version(version))
        self._add(Opcode.SET_DATA, request, path)

    def check(self, path: str, version: int) -> None:
        """Adds a condition: the znode exists and has this version (-1: any). Result: True."""
        self._add(Opcode.CHECK, r.CheckVersionRequest(self._requests.absolute(path), check_version(version)), path)

    def _add(self, opcode: int, request: Any, path: str) -> None:
        if self.committed:
            raise ValueError("the transaction was committed already")
        self.operations.append(MultiOp(opcode, request))
        self._paths.append(path)

    async def commit(self) -> list[Any]:
        """Sends it. An empty transaction is sent too: a quorum orders it.

        Raises:
            ValueError: it was committed before, or is longer than the server takes.
            ConnectionLoss: see `outcome_unknown`.
        """
        if self.committed:
            raise ValueError("the transaction was committed already")
        self.committed = True
        results: list[Any] = await self._call(self._requests.multi, self.operations, self._outcome)
        return results

    def _outcome(self, results: list[MultiResult]) -> list[Any]:
        _same_number(self._paths, results)
        return [self._result(path, result) for path, result in zip(self._paths, results, strict=True)]

    def _result(self, path: str, result: MultiResult) -> Any:
        with_stat = path.endswith("\0")
        if result.type == Opcode.ERROR:
            return error_from_code(result.err, path.rstrip("\0"))
        if result.type in (Opcode.CREATE, Opcode.CREATE2):
            created = self._requests.chroot.relative(result.value.path)
            return (created, getattr(result.value, "stat", None)) if with_stat else created
        return result.value.stat if result.type == Opcode.SET_DATA else True

    async def __aenter__(self) -> Transaction:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and not self.committed:
            self.results = await self.commit()
            for result in self.results:
                if isinstance(result, ZookeeperError) and result.code not in (0, -2):
                    raise result


@dataclass(frozen=True, slots=True)
class ReadData:
    """One read of `multi_read`; its result is (data, ZnodeStat)."""

    path: str


@dataclass(frozen=True, slots=True)
class ReadChildren:
    """One read of `multi_read`; its result is the list of names."""

    path: str


def _same_number(paths: list[str], results: list[MultiResult]) -> None:
    if len(paths) != len(results):
        raise WireError(f"the server gave {len(results)} results for {len(paths)} operations")


def multi_read_ops(requests: Requests, reads: Iterable[ReadData | ReadChildren]) -> tuple[list[MultiOp], list[str]]:
    """The operations of a multiRead and their paths. Raises `TypeError` for anything that is no read."""
    ops: list[MultiOp] = []
    paths: list[str] = []
    if not isinstance(reads, Iterable):
        raise TypeError(f"multi_read takes a list of ReadData and ReadChildren, not {reads!r}")
    for read in reads:
        if isinstance(read, ReadData):
            ops.append(MultiOp(Opcode.GET_DATA, r.GetDataRequest(requests.absolute(read.path), False)))
        elif isinstance(read, ReadChildren):
            ops.append(MultiOp(Opcode.GET_CHILDREN, r.GetChildrenRequest(requests.absolute(read.path), False)))
        else:
            raise TypeError(f"multi_read takes ReadData and ReadChildren, not {read!r}")
        paths.append(read.path)
    return ops, paths


def multi_read_outcome(paths: list[str], results: list[MultiResult]) -> list[Any]:
    """One result a read; one that failed has its error in its place."""
    _same_number(paths, results)
    outcome: list[Any] = []
    for path, result in zip(paths, results, strict=True):
        if result.type == Opcode.ERROR:
            outcome.append(error_from_code(result.err, path))
        else:
            outcome.append(result.value.children if result.type == Opcode.GET_CHILDREN else result.value)
    return outcome
