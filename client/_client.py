"""The client that applications use: every operation as an async method, on one view (chroot) of one session.

Thin: arguments are checked and turned into requests by `Requests`, sent by the core, and awaited. Names, argument order
and results are kazoo's where async allows; docs/design has the table.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Literal, TypeVar, overload

import trio

from ._clock import Clock
from ._commands import ask_server, release_in
from ._core import RETRYABLE, ClientCore, SessionProof
from ._hosts import Endpoint, parse_hosts
from ._janitor import Doomed
from ._pipeline import Pipeline
from ._requests import Requests, check_watch
from ._retry import RetryPolicy
from ._transaction import ReadChildren, ReadData, Transaction, multi_read_ops, multi_read_outcome
from ._trees import create_below, create_missing, delete_tree
from ._watching import CallbackWatcher, StateStream, WatchCallback, WatchStream
from .errors import ConfigurationError, NoWatcherError, ZookeeperError
from .paths import Chroot
from .values import ACL, AddWatchMode, ClientInfo, ServerVersion, WatcherType, ZnodeStat, check_acl

T = TypeVar("T")


class ZooKeeper:
    """A session with a ZooKeeper ensemble, seen through a chroot. Made by `open_zookeeper` and `with_chroot`.

    Every operation may raise, besides what it names:

    - `ConnectionLoss`: the connection went after the call; `outcome_unknown` says whether it may have happened.
    - `SessionExpiredError`: the session ended. `ConnectionClosedError`: the client was closed.
    - `AuthFailedError`: the server refused the client's credentials; no call can succeed any more.
    - `ValueError`, `TypeError`: an argument that no server would take; nothing was sent.
    - `RuntimeError`: the call comes from another trio run than the one that opened the client.

    A call made without a connection waits for one, within the caller's own cancel scope.
    """

    def __init__(self, core: ClientCore, chroot: Chroot) -> None:
        self._core = core
        self._chroot = chroot
        self._requests = Requests(core.session, chroot, core.default_acl, core.max_request_size)

    def __repr__(self) -> str:
        return f"<ZooKeeper {self.state} session 0x{self.session_id % 2**64:x} chroot {self.chroot or '/'!r}>"

    # State ------------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """One of `KazooState`."""
        return self._core.session.state

    @property
    def client_state(self) -> str:
        """One of `KeeperState`."""
        return self._core.session.keeper_state

    @property
    def connected(self) -> bool:
        """Whether requests go out at once."""
        return self._core.session.queue.open

    @property
    def is_over(self) -> bool:
        """Whether the client takes no more requests: closed, refused by the servers, or its only session is lost."""
        return self._core.session.is_over

    def check_usable(self) -> None:
        """Raises what every call would raise, if the client is over."""
        self._core.session.check_usable()

    @property
    def last_error(self) -> BaseException | None:
        """Why the last connection, or attempt at one, failed."""
        return self._core.runner.last_error

    @property
    def server(self) -> Endpoint | None:
        """The address connected to, `None` without a connection."""
        return self._core.runner.endpoint

    @property
    def hosts(self) -> list[Endpoint]:
        """The servers that are tried for the next connection: the connect string's, and what became known since."""
        return list(self._core.runner.hosts.endpoints)

    @property
    def session_id(self) -> int:
        """Id of the session, 0 when there is none."""
        return self._core.session.session_id

    @property
    def session_passwd(self) -> bytes:
        """Password of the session, 16 bytes. A secret."""
        return self._core.session.passwd

    @property
    def client_id(self) -> tuple[int, bytes] | None:
        """(session id, password) to resume the session with, `None` without a session."""
        return (self.session_id, self.session_passwd) if self.session_id else None

    @property
    def session_timeout(self) -> float:
        """Negotiated session timeout in seconds."""
        return self._core.session.timeout

    @property
    def last_zxid(self) -> int:
        """Newest transaction that any reply has shown."""
        return self._core.session.last_zxid

    @property
    def chroot(self) -> str:
        """The path put before every path, "" for none."""
        return self._chroot.prefix

    @property
    def clock(self) -> Clock:
        """The clock of `SessionProof.deadline`; has `now() -> float`."""
        return self._core.clock

    @property
    def default_acl(self) -> list[ACL]:
        """ACL of znodes that are created without one."""
        return self._requests.default_acl

    @default_acl.setter
    def default_acl(self, acl: Iterable[ACL]) -> None:
        self._requests.default_acl = check_acl(acl)

    def states(self) -> StateStream:
        """`KazooState` values as an async iterator: the present one, then each change; ends when the client is
        closed.
        """
        return StateStream(self._core.states)

    def add_listener(self, listener: Callable[[str], Any]) -> Callable[[str], Any]:
        """Calls `listener(state)` at each change of `state`, from the client's own task; it must not block.

        One that returns True is removed; what it raises is logged. Returns the listener, so it serves as a decorator.
        """
        if not callable(listener):
            raise ConfigurationError(f"a listener must be a callable that takes a state, not {listener!r}")
        if iscoroutinefunction(listener):
            raise ConfigurationError(f"a listener must be a plain function, async ones are never awaited: {listener!r}")
        self._core.runner.listeners[listener] = None
        return listener

    def remove_listener(self, listener: Callable[[str], Any]) -> None:
        """Takes a listener off; an unknown one is ignored."""
        self._core.runner.listeners.pop(listener, None)

    def keep_proof(self, session_id: int | None = None) -> SessionProof:
        """`with zk.keep_proof() as proof:` keeps a proof that the session is alive. What ownership rests on.

        With `session_id` (a znode's `ephemeralOwner`) it is about that session, no other.
        """
        return SessionProof(self._core, self._requests, session_id)

    # Views and servers ------------------------------------------------------------------------------------------------

    def with_chroot(self, path: str) -> ZooKeeper:
        """A view of the same session below `path`, which is relative to this view. The znode need not exist."""
        return ZooKeeper(self._core, Chroot(self._requests.absolute(path)))

    def unchroot(self, path: str) -> str:
        """A server's path as this view names it; a path outside the chroot comes back unchanged."""
        return self._chroot.relative(path)

    def set_hosts(self, hosts: str | Iterable[str], randomize_hosts: bool | None = None) -> None:
        """Servers for the next connection; the present one stays. Raises `ConfigurationError` for another chroot."""
        endpoints, chroot = parse_hosts(hosts)
        if chroot is not None and chroot != self.chroot:
            raise ConfigurationError(f"hosts {hosts!r} name the chroot {chroot!r}, this client has {self.chroot!r}")
        self._core.runner.hosts.endpoints = endpoints
        if randomize_hosts is not None:
            self._core.runner.hosts.shuffle = randomize_hosts

    async def command(self, cmd: bytes | str = b"ruok") -> str:
        """Sends a four-letter word to the present server, on a connection of its own; returns the whole answer.

        Raises:
            ConnectionLoss: there is no present server, or it hung up.
            OperationTimeoutError: no answer within 10 s.
        """
        return await ask_server(self._core.runner, cmd)

    async def server_version(self) -> ServerVersion:
        """Release of the present server, from its `srvr` answer. Raises as `command`; `KazooException` if it says
        none.
        """
        return release_in(await self.command(b"srvr"))

    # Calls ------------------------------------------------------------------------------------------------------------

    async def _call(self, build: Callable[..., Any], *args: Any) -> Any:
        request = build(*args)
        core = self._core
        if core.retry is None:
            return await core.call(request)
        try:
            return await core.call(request)
        except RETRYABLE as error:
            return await core.call_again(error, request.operation.opcode, build, args)

    async def retry(self, func: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Awaits `func(*args, **kwargs)`, again after each lost connection, by the client's retry policy.

        The caller answers for repeating it: also a write whose outcome is unknown is sent again.
        """
        policy = self._core.retry or RetryPolicy()

        async def attempt() -> T:
            return await func(*args, **kwargs)

        result: T = await policy.retrying()(attempt)
        return result

    async def get(self, path: str, watch: WatchCallback | None = None) -> tuple[bytes | None, ZnodeStat]:
        """Data, `None` where the znode holds null, and Stat. `watch` is told once of the next change or deletion.

        Raises:
            NoNodeError, NoAuthError: and the watch is not set.
        """
        result: tuple[bytes | None, ZnodeStat] = await self._call(self._requests.get, path, watch)
        return result

    async def exists(self, path: str, watch: WatchCallback | None = None) -> ZnodeStat | None:
        """Stat, or `None` for a missing znode. `watch` is told once of the next creation, change or deletion."""
        result: ZnodeStat | None = await self._call(self._requests.exists, path, watch)
        return result

    @overload
    async def get_children(
        self, path: str, watch: WatchCallback | None = None, include_data: Literal[False] = False
    ) -> list[str]: ...
    @overload
    async def get_children(
        self, path: str, watch: WatchCallback | None = None, *, include_data: Literal[True]
    ) -> tuple[list[str], ZnodeStat]: ...
    async def get_children(self, path: str, watch: WatchCallback | None = None, include_data: bool = False) -> Any:
        """Names of the children, in no order; with `include_data` also the Stat.

        `watch` is told once when a child comes or goes, or the znode is deleted.

        Raises:
            NoNodeError, NoAuthError: and the watch is not set.
        """
        return await self._call(self._requests.get_children, path, watch, include_data)

    @overload
    async def create(
        self,
        path: str,
        value: bytes | None = b"",
        acl: Iterable[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        makepath: bool = False,
        include_data: Literal[False] = False,
        *,
        ttl: float | None = None,
        container: bool = False,
    ) -> str: ...
    @overload
    async def create(
        self,
        path: str,
        value: bytes | None = b"",
        acl: Iterable[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        makepath: bool = False,
        *,
        include_data: Literal[True],
        ttl: float | None = None,
        container: bool = False,
    ) -> tuple[str, ZnodeStat]: ...
    async def create(
        self,
        path: str,
        value: bytes | None = b"",
        acl: Iterable[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        makepath: bool = False,
        include_data: bool = False,
        *,
        ttl: float | None = None,
        container: bool = False,
    ) -> Any:
        """Creates a znode; returns its path (with the number of a sequential one), or (path, Stat) with `include_data`.

        Args:
            path: may end in "/" for a sequential znode without a name of its own.
            value: data, `None` for null.
            acl: `default_acl` if not given.
            ephemeral: it lives as long as the session.
            sequence: the server appends a number of ten digits.
            makepath: create missing parents, persistent and empty, with the same ACL.
            include_data: also return the Stat.
            ttl: seconds without a change, and without children, after which the server may delete it (3.5.3, and
                `extendedTypesEnabled` on the server).
            container: the server may delete it once its last child is gone (3.5.1).

        Raises:
            NoNodeError: a parent is missing.
            NodeExistsError, NoAuthError, NoChildrenForEphemeralsError, InvalidACLError, QuotaExceededError.
            UnimplementedError: the server has no TTL znodes.
        """
        acl = None if acl is None else check_acl(acl)  # an iterator gives its entries only once
        args = (path, value, acl, ephemeral, sequence, include_data, ttl, container)
        if not makepath:
            return await self._call(self._requests.create, *args)
        create = partial(self._call, self._requests.create, *args)
        above = self._requests.parent(path, sequence=sequence)
        return await create_below(create, partial(self._create_missing, above, acl))

    async def ensure_path(self, path: str, acl: Iterable[ACL] | None = None) -> bool | str:
        """Creates the path and all that is missing above it, also above the chroot.

        Returns:
            True if it was there already, else the path.
        """
        acl = None if acl is None else check_acl(acl)
        if await self.exists(path) is not None:
            return True
        await self._create_missing(self._requests.absolute(path), acl)
        return path

    async def _create_missing(self, absolute: str, acl: list[ACL] | None) -> None:
        plain = ZooKeeper(self._core, Chroot())
        try:
            await create_missing(plain, absolute, acl or self._requests.default_acl)
        except ZookeeperError as error:
            error.path = None if error.path is None else self.unchroot(error.path)
            raise

    async def delete(self, path: str, version: int = -1, recursive: bool = False) -> bool:
        """Deletes a znode; returns True.

        Args:
            path: the znode.
            version: it must have this version, -1 for any.
            recursive: delete everything below it first, by several requests; not atomic, `version` is not looked at,
                and a tree that is gone already is fine.

        Raises:
            NoNodeError, BadVersionError, NoAuthError.
            NotEmptyError: it has children; with `recursive` only if others keep creating them.
        """
        if not recursive:
            result: bool = await self._call(self._requests.delete, path, version)
            return result
        await delete_tree(self, path)
        return True

    async def set(self, path: str, value: bytes | None, version: int = -1) -> ZnodeStat:
        """Writes the data of a znode that exists; returns its new Stat.

        Raises:
            NoNodeError, BadVersionError, NoAuthError, QuotaExceededError.
        """
        result: ZnodeStat = await self._call(self._requests.set, path, value, version)
        return result

    async def get_acls(self, path: str) -> tuple[list[ACL], ZnodeStat]:
        """ACL and Stat. Without ADMIN, digests are hidden. Raises `NoNodeError`, `NoAuthError`."""
        result: tuple[list[ACL], ZnodeStat] = await self._call(self._requests.get_acls, path)
        return result

    async def set_acls(self, path: str, acls: Iterable[ACL], version: int = -1) -> ZnodeStat:
        """Replaces the ACL; `version` is compared with `ZnodeStat.aversion`. Returns the new Stat.

        Raises:
            NoNodeError, BadVersionError, NoAuthError, InvalidACLError.
        """
        result: ZnodeStat = await self._call(self._requests.set_acls, path, check_acl(acls), version)
        return result

    async def sync(self, path: str = "/", *, strict: bool = False) -> str:
        """Makes the present server as new as the leader is; returns the path.

        ZooKeeper's own sync may be answered by a leader that was deposed and does not know it yet. With `strict` a
        quorum confirms (an empty transaction), so that reads which follow see every write acknowledged before the call.
        """
        if strict:
            self._requests.absolute(path)
            await self._call(self._requests.multi, [], len)
            return path
        result: str = await self._call(self._requests.sync, path)
        return result

    async def add_auth(self, scheme: str, credential: str | bytes) -> bool:
        """Authenticates the connection, and all later ones of this client. Returns True.

        Args:
            scheme: "digest" with a credential "user:password", or another scheme of the server.
            credential: never logged.

        Raises:
            AuthFailedError: the server refused; it closes the connection, the session goes on without this credential.
        """
        result: bool = await self._call(self._requests.add_auth, scheme, credential)
        return result

    def transaction(self) -> Transaction:
        """A new transaction, also as `async with zk.transaction() as t:`."""
        return Transaction(self._requests, self._call)

    def pipeline(self, window: int = 2048) -> Pipeline:
        """`async with zk.pipeline() as p:` sends many requests from one task.

        Args:
            window: requests that may be unanswered before a submission waits.
        """
        return Pipeline(self._core.runner, self._requests, window)

    async def multi_read(self, reads: Iterable[ReadData | ReadChildren]) -> list[Any]:
        """Several reads in one request (3.6); one result each, the error in its place where a read failed. No
        snapshot.
        """
        ops, paths = multi_read_ops(self._requests, reads)
        if not ops:
            await trio.lowlevel.checkpoint()
            return []
        results: list[Any] = await self._call(self._requests.multi_read, ops, partial(multi_read_outcome, paths))
        return results

    async def get_config(self, watch: WatchCallback | None = None) -> tuple[bytes | None, ZnodeStat]:
        """Configuration of the ensemble ("server.N=..." lines and the version); empty on a standalone server."""
        result: tuple[bytes | None, ZnodeStat] = await self._call(self._requests.get_config, watch)
        return result

    async def reconfig(
        self,
        joining: str | None = None,
        leaving: str | None = None,
        new_members: str | None = None,
        from_config: int = -1,
    ) -> tuple[bytes | None, ZnodeStat]:
        """Changes the members of the ensemble; returns the new configuration and its Stat.

        Args:
            joining: "server.5=host:port:port:role;port" entries, comma separated.
            leaving: server ids, comma separated.
            new_members: the whole new membership instead.
            from_config: version (hex in the configuration, here an int) that must be in force, -1 for any.

        Raises:
            ReconfigDisabledError, ReconfigInProcessError, NewConfigNoQuorumError, BadVersionError, NoAuthError.
            UnimplementedError: a standalone server.
        """
        result: tuple[bytes | None, ZnodeStat] = await self._call(
            self._requests.reconfig, joining, leaving, new_members, from_config
        )
        return result

    async def who_am_i(self) -> list[ClientInfo]:
        """Identities that the server holds for this connection (3.7)."""
        result: list[ClientInfo] = await self._call(self._requests.who_am_i)
        return result

    async def get_ephemerals(self, prefix: str = "/") -> list[str]:
        """Ephemerals of this session whose path starts with `prefix` (plain text, not path elements), sorted (3.6)."""
        result: list[str] = await self._call(self._requests.get_ephemerals, prefix)
        return result

    async def count_descendants(self, path: str) -> int:
        """Number of znodes below a path, at any depth (3.6). Raises `NoNodeError`, `NoAuthError`."""
        result: int = await self._call(self._requests.count_descendants, path)
        return result

    # Watches ----------------------------------------------------------------------------------------------------------

    async def add_watch(self, path: str, mode: AddWatchMode, watch: WatchCallback) -> None:
        """Calls `watch(event)` for every change, until it is removed or the session ends (3.6).

        Changes during a lost connection are not reported, and this watch does not say so: `watch()` does.

        Args:
            path: need not exist.
            mode: PERSISTENT watches the znode and its children's coming and going, PERSISTENT_RECURSIVE everything
                below.
            watch: called from the client's own task; it must not block.
        """
        await self._add_persistent(path, AddWatchMode(mode), CallbackWatcher(check_watch(watch), self.chroot))

    async def _add_persistent(self, path: str, mode: AddWatchMode, watcher: Any) -> None:
        core = self._core
        core.runner.check_run()
        request, take_back = self._requests.add_watch(path, mode, watcher)
        try:
            await core.call(request)
        except BaseException:
            take_back()
            core.runner.flush()
            raise

    async def remove_watches(self, path: str, kind: WatcherType = WatcherType.ANY) -> None:
        """Removes every watch of this client on a path; each is told by a last event (`DATA_WATCH_REMOVED`, ...).

        Raises:
            NoWatcherError: there is none.
        """
        core = self._core
        core.runner.check_run()
        absolute = self._requests.absolute(path)
        await trio.lowlevel.checkpoint_if_cancelled()
        found, requests, effects = core.session.unwatch_all(absolute, WatcherType(kind))
        core.runner.apply(effects)
        if not found:
            raise NoWatcherError("no such watch", path=path)
        if requests:
            await core.runner.wait_for(requests[-1])
        else:
            await trio.lowlevel.checkpoint()

    def forget_watch(self, path: str, watch: WatchCallback) -> None:
        """Takes back a one-shot watch of `get`, `exists` or `get_children`; it is not told. Others are ignored."""
        watcher = CallbackWatcher(watch, self.chroot)
        self._core.session.unwatch(self._requests.absolute(path), None, watcher)
        self._core.runner.flush()

    @asynccontextmanager
    async def watch(
        self, path: str, *, recursive: bool = False, max_buffered: int = 1024
    ) -> AsyncIterator[WatchStream]:
        """`async with zk.watch("/a") as changes: async for item in changes: ...`: all changes, across reconnects (3.6).

        Items are `WatchedEvent`, and `Resync` where changes may have been missed: after each reconnect, after a lost
        session, and when the buffer was full. Registered when the block begins; begin by reading what is watched.

        Args:
            path: need not exist.
            recursive: everything below the path too, but no events of type CHILD.
            max_buffered: events that wait for a slow reader.
        """
        core = self._core
        mode = AddWatchMode.PERSISTENT_RECURSIVE if recursive else AddWatchMode.PERSISTENT
        stream = WatchStream(self._chroot, max_buffered)
        await self._add_persistent(path, mode, stream)
        core.streams[stream] = None
        try:
            yield stream
        finally:
            core.streams.pop(stream, None)
            stream.finish(StopAsyncIteration())
            core.session.unwatch(self._requests.absolute(path), mode, stream)
            core.runner.flush()

    # Clean-up ---------------------------------------------------------------------------------------------------------

    def defer_delete(
        self,
        path: str,
        *,
        prefix: str | None = None,
        data: bytes | None = None,
        own: bool = False,
        in_any_session: bool = False,
    ) -> None:
        """Deletes a znode in the background, whatever becomes of the caller: tried until it is done or the session
        ends.

        Args:
            path: the znode; one that is gone already is fine.
            prefix: delete those children of `path` whose names start with it instead, for a sequential znode whose
                create reply was lost.
            data: only if it holds these, for a znode that may be somebody else's by then.
            own: only if it is an ephemeral znode of the present session.
            in_any_session: go on in the next session where the present one ends, for a znode that outlives them.
        """
        self._requests.absolute(path)
        self._core.runner.check_run()
        session, first = self._core.session, self._core.session.resumable_id
        doomed = Doomed(path, prefix, data, (first or -1) if own else 0)
        over = (lambda: session.is_over) if in_any_session else (lambda: session.resumable_id != first)
        self._core.janitor.defer(self, doomed, over, in_any_session=in_any_session)


def core_of(client: ZooKeeper) -> ClientCore:
    """What stands behind a view, for the package's own shells."""
    return client._core  # pyright: ignore[reportPrivateUsage]


def requests_of(client: ZooKeeper) -> Requests:
    """What builds a view's requests, for the package's own shells."""
    return client._requests  # pyright: ignore[reportPrivateUsage]
