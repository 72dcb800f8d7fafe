"""`KazooClient`: kazoo's blocking client as a shell over the native one.

Decides how kazoo's calls, arguments and results map to the native client's. Every operation is the native client's own;
one that takes more than one request runs as the native coroutine in the client's loop.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import trio

from .._client import ZooKeeper, core_of, requests_of
from .._open import open_zookeeper
from .._pending import Request
from ..paths import Chroot
from . import _reexports
from ._arguments import AclArgument, bad_arguments, check_acls, check_bool, znode_path
from ._lending import LendingTransport
from ._lifecycle import Lifecycle
from ._options import make_retry, take_auth, take_old_arguments
from ._patience import Patience
from ._private import PrivateAttributes
from ._recipes import RecipeFactories
from ._reexports import *  # noqa: F403  programs import these names from here
from ._sasl import mechanism_of
from ._tls import make_tls
from ._transaction import TransactionRequest
from ._watchers import ProgramWatch, Watch
from .exceptions import (
    ConfigurationError,
    ConnectionClosedError,
    ConnectionLoss,
    InvalidACLError,
    KazooException,
)
from .handlers.threading import SequentialThreadingHandler
from .handlers.utils import AsyncResult
from .hosts import read_hosts
from .protocol.connection import ConnectionHandler
from .protocol.paths import absolute
from .protocol.states import KeeperState, ZnodeStat
from .security import ACL

T = TypeVar("T")

CLOSED_STATES = (KeeperState.EXPIRED_SESSION, KeeperState.AUTH_FAILED, KeeperState.CLOSED)
ENVI_VERSION_KEY = "zookeeper.version"
ENVI_VERSION = re.compile(r"(\d+(?:\.\d+)+)")
"""A release in the answer to `envi`: at least two numbers."""

log = logging.getLogger(__name__)


class KazooClient(RecipeFactories, PrivateAttributes):
    """A session with a ZooKeeper ensemble, for programs that block. Arguments, methods and results are kazoo's.

    Any thread may call any method, also from watch callbacks and listeners. A call that is interrupted
    (KeyboardInterrupt) leaves nothing behind. Use in a forked child raises `ForkedError`.

    Args:
        hosts: "h1:p1,h2:p2/chroot", or a list of "h:p".
        timeout: session timeout to ask for, in seconds.
        client_id: (session id, password) of a session to resume.
        handler: a `SequentialThreadingHandler`; a new one if not given.
        default_acl: for znodes created without one.
        auth_data: (scheme, credential) pairs.
        sasl_options: for a SASL mechanism, as kazoo takes them: "mechanism" is "DIGEST-MD5", with "username" and
            "password", or "GSSAPI", with "service" and "principal" if need be.
        read_only: also take a server without a quorum.
        randomize_hosts: try servers in random order.
        connection_retry: its `max_tries`, in rounds over all servers, and its `deadline` bound how long a connection is
            looked for; then the client is LOST, calls raise `ConnectionClosedError`, and `start` begins anew.
        command_retry: policy of `retry`.
        logger: in place of this module's own.
        keyfile, keyfile_password, certfile, ca, use_ssl, verify_certs, check_hostname: TLS.

    Raises:
        ConfigurationError: an argument that cannot be used.
    """

    def __init__(
        self,
        hosts: str | list[str] = "127.0.0.1:2181",
        timeout: float = 10.0,
        client_id: tuple[int, bytes] | None = None,
        handler: SequentialThreadingHandler | None = None,
        default_acl: AclArgument = None,
        auth_data: Iterable[tuple[str, str]] | None = None,
        sasl_options: dict[str, Any] | None = None,
        read_only: bool | None = None,
        randomize_hosts: bool = True,
        connection_retry: Any = None,
        command_retry: Any = None,
        logger: logging.Logger | None = None,
        keyfile: str | None = None,
        keyfile_password: str | None = None,
        certfile: str | None = None,
        ca: str | None = None,
        use_ssl: bool = False,
        verify_certs: bool = True,
        check_hostname: bool = False,
        **kwargs: Any,
    ) -> None:
        self.logger = logger or log
        self.handler = SequentialThreadingHandler() if handler is None else handler
        if not isinstance(self.handler, SequentialThreadingHandler):
            raise ConfigurationError(f"handler must be a SequentialThreadingHandler instance, not {handler!r}")
        old = take_old_arguments(kwargs)
        self._conn_retry = make_retry("connection_retry", connection_retry, old, self.handler)
        self._retry = make_retry("command_retry", command_retry, old, self.handler)
        self.auth_data: set[tuple[str, str]]
        self.auth_data, self.sasl_options = take_auth(auth_data, sasl_options)
        mechanism_of(self.sasl_options)
        self.default_acl = default_acl
        self.read_only = bool(read_only)
        self.randomize_hosts = randomize_hosts
        self.keyfile = keyfile
        self.keyfile_password = keyfile_password
        self.certfile = certfile
        self.ca = ca
        self.use_ssl = use_ssl
        self.verify_certs = verify_certs
        self.check_hostname = check_hostname
        if check_hostname and not verify_certs:
            raise ConfigurationError("check_hostname needs verify_certs")
        self._resume = client_id or None
        self._timeout = timeout
        self.hosts: list[tuple[str, int]] = []
        self.chroot = self._take_hosts(hosts) or ""
        self.lifecycle = Lifecycle(self.handler, self.logger)
        self._connection = ConnectionHandler(self, self._conn_retry.copy(), self.logger, self.sasl_options)
        super().__init__(self)

    def _take_hosts(self, hosts: str | list[str], chroot: str | None = None) -> str | None:
        """Takes over the servers, and returns the chroot that stands beside them, which must be `chroot` if given."""
        endpoints, found = read_hosts(hosts)
        if chroot is not None and found is not None and found != chroot:
            raise ConfigurationError(f"hosts {hosts!r} name the chroot {found!r}, this client has {chroot!r}")
        self._endpoints = [str(endpoint) for endpoint in endpoints]
        self.hosts = [(endpoint.host, endpoint.port) for endpoint in endpoints]
        return found

    # -- life

    def start(self, timeout: float = 15) -> None:
        """Connects. A client that is connecting already is only waited for.

        Raises:
            KazooTimeoutError: no session within `timeout` seconds, or within what `connection_retry` allows; the client
                is stopped again.
            AuthFailedError: a server refused the credentials.
        """
        was_running = self.lifecycle.running
        try:
            self.start_async()
            self.lifecycle.settled.wait(timeout)
        except BaseException:  # an interrupt: who was stopped before is stopped again
            if not was_running:
                self.stop()
            raise
        if not self.connected:
            try:
                if not self.lifecycle.gave_up:
                    self.lifecycle.check_usable()
            finally:
                reason = self.lifecycle.last_error
                self.stop()
            raise self.handler.timeout_exception("Connection time-out") from reason
        if self.chroot and not self.exists("/"):
            warnings.warn("No chroot path exists, the chroot path should be created before normal use.", stacklevel=2)

    def start_async(self) -> threading.Event:
        """Begins to connect; the event is set whenever the client is connected. A started client goes on as it is."""
        return self.lifecycle.start(self._open)

    async def _open(self, stop: trio.Event, opened: Callable[[ZooKeeper], None]) -> None:
        tls = make_tls(
            use_ssl=self.use_ssl,
            ca=self.ca,
            certfile=self.certfile,
            keyfile=self.keyfile,
            keyfile_password=self.keyfile_password,
            verify_certs=self.verify_certs,
            check_hostname=self.check_hostname,
        )
        resume, self._resume = self._resume, None
        async with open_zookeeper(
            self._endpoints,
            session_timeout=self._timeout,
            client_id=resume,
            connect_timeout=None,
            close_timeout=self.lifecycle.close_timeout,
            read_only=self.read_only,
            auth=sorted(self.auth_data),
            sasl=mechanism_of(self.sasl_options),
            tls=tls,
            transport=LendingTransport() if tls is None else None,
            randomize_hosts=self.randomize_hosts,
        ) as zk:
            opened(zk)
            self._connection.opened()
            enough = await Patience(self._conn_retry, lambda: len(self.hosts)).wait(zk, stop)
            if enough is not None:
                self.logger.warning("the client gives up, as its connection_retry says: %s", enough)
                self.lifecycle.give_up(enough)

    def stop(self) -> None:
        """Closes the session and ends the client's threads, within a bound. May be called from a callback."""
        self.lifecycle.stop()

    def restart(self) -> None:
        """Stops and starts: a new session."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Nothing is left to free when the client is stopped.

        Raises:
            KazooException: it is not.
        """
        if self.lifecycle.running:
            raise KazooException("stop the client before closing it")

    def __enter__(self) -> KazooClient:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.close()

    # -- state

    @property
    def state(self) -> str:
        """One of `KazooState`."""
        return self.lifecycle.state

    @property
    def client_state(self) -> str:
        """One of `KeeperState`."""
        return self.lifecycle.keeper_state

    @property
    def connected(self) -> bool:
        """Whether there is a connection with a session."""
        return self.lifecycle.live.is_set()

    @property
    def client_id(self) -> tuple[int, bytes] | None:
        """(session id, password), `None` unless connected."""
        return self.native.client_id if self.connected else None

    @property
    def last_zxid(self) -> int:
        """Newest transaction that any reply has shown, 0 without a session."""
        native = self.lifecycle.native
        return native.last_zxid if native is not None and self.lifecycle.running else 0

    @property
    def state_listeners(self) -> set[Callable[[str], Any]]:
        """The listeners."""
        return self.lifecycle.state_listeners

    def add_listener(self, listener: Callable[[str], Any]) -> None:
        """Calls `listener(state)` at each change, on the callback worker; it may block and call the client.

        Raises:
            ConfigurationError: it cannot be called.
        """
        self.lifecycle.add_listener(listener)

    def remove_listener(self, listener: Callable[[str], Any]) -> None:
        """Takes a listener off."""
        self.lifecycle.remove_listener(listener)

    def set_hosts(self, hosts: str | list[str], randomize_hosts: bool | None = None) -> None:
        """Servers for the next connection.

        Raises:
            ConfigurationError: another chroot.
        """
        self._take_hosts(hosts, self.chroot)
        if randomize_hosts is not None:
            self.randomize_hosts = randomize_hosts
        native = self.lifecycle.native
        if native is not None and self.lifecycle.running:
            self.lifecycle.running_loop().post(lambda: native.set_hosts(self._endpoints, self.randomize_hosts))

    # -- the native client

    @property
    def native(self) -> ZooKeeper:
        """The native client, seen through the present chroot; for use in the client's loop only.

        Raises:
            ConnectionClosedError: the client is not started.
        """
        native = self.lifecycle.native
        if native is None:
            raise ConnectionClosedError("the client is not started")
        if native.chroot != self.chroot:
            chroot = Chroot(absolute("", self.chroot))
            if native.chroot != chroot.prefix:
                native = self.lifecycle.native = ZooKeeper(core_of(native), chroot)
        return native

    def spawn_native(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> AsyncResult:
        """Runs a coroutine function in the client's loop; the result tells its outcome."""
        return self.lifecycle.running_loop().spawn(function, *args, **kwargs)

    def call_native(self, function: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """As `spawn_native`, and waits.

        Raises:
            KazooException: called from the client's own loop, which would wait for itself.
        """
        return self.lifecycle.running_loop().call(function, *args, **kwargs)

    def _send(self, build: Callable[[Any], Request]) -> AsyncResult:
        """Sends one request, built here so that an argument of a wrong type raises here; a client that is not started,
        and what a server would refuse, is told by the result, as kazoo does.
        """
        try:
            loop = self.lifecycle.running_loop()
            request = build(requests_of(self.native))
        except ConnectionClosedError as error:
            return self._refused(error)
        except ValueError as error:
            return self._refused(bad_arguments(error))
        return self._by_call(request) if self._is_call_overridden() else loop.submit(request)

    def _run(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> AsyncResult:
        """As `_send`, for what takes more than one request."""

        async def run() -> Any:
            try:
                return await function(*args, **kwargs)
            except ValueError as error:
                raise bad_arguments(error) from error

        try:
            return self._by_call(run) if self._is_call_overridden() else self.spawn_native(run)
        except ConnectionClosedError as error:
            return self._refused(error)

    def _watch(self, watch: Watch | None, *, is_for_children: bool = False) -> ProgramWatch | None:
        if watch is None:
            return None
        if not callable(watch):
            raise TypeError(f"watch must be callable, not {watch!r}")
        return ProgramWatch(self, watch, is_for_children)

    def retry(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls a function again after lost connections, by `command_retry`."""
        return self._retry.copy()(func, *args, **kwargs)

    # -- operations

    def get_async(self, path: str, watch: Watch | None = None) -> AsyncResult:
        """As `get`, without waiting."""
        path, watcher = znode_path(path), self._watch(watch)
        return self._send(lambda requests: requests.get(path, watcher))

    def get(self, path: str, watch: Watch | None = None) -> tuple[bytes | None, ZnodeStat]:
        """Data and Stat. `watch` is called once, at the next change or deletion. Raises `NoNodeError`."""
        result: tuple[bytes | None, ZnodeStat] = self.get_async(path, watch).get()
        return result

    def exists_async(self, path: str, watch: Watch | None = None) -> AsyncResult:
        """As `exists`, without waiting."""
        path, watcher = znode_path(path), self._watch(watch)
        return self._send(lambda requests: requests.exists(path, watcher))

    def exists(self, path: str, watch: Watch | None = None) -> ZnodeStat | None:
        """Stat, or `None` for a missing znode."""
        result: ZnodeStat | None = self.exists_async(path, watch).get()
        return result

    def get_children_async(self, path: str, watch: Watch | None = None, include_data: bool = False) -> AsyncResult:
        """As `get_children`, without waiting."""
        path, watcher = znode_path(path), self._watch(watch, is_for_children=True)
        check_bool("include_data", include_data)
        return self._send(lambda requests: requests.get_children(path, watcher, include_data))

    def get_children(self, path: str, watch: Watch | None = None, include_data: bool = False) -> Any:
        """Names of the children; with `include_data` also the Stat. Raises `NoNodeError`."""
        return self.get_children_async(path, watch, include_data).get()

    def get_acls_async(self, path: str) -> AsyncResult:
        """As `get_acls`, without waiting."""
        path = znode_path(path)
        return self._send(lambda requests: requests.get_acls(path))

    def get_acls(self, path: str) -> tuple[list[ACL], ZnodeStat]:
        """ACL and Stat. Raises `NoNodeError`."""
        result: tuple[list[ACL], ZnodeStat] = self.get_acls_async(path).get()
        return result

    def set_acls_async(self, path: str, acls: Iterable[ACL], version: int = -1) -> AsyncResult:
        """As `set_acls`, without waiting."""
        path = znode_path(path)
        if acls is None:
            raise TypeError("acls must be a list or tuple of ACL, not None")
        acls = check_acls("acls", acls)
        if not acls:
            return self._refused(InvalidACLError("the ACL is empty", path=path))
        return self._send(lambda requests: requests.set_acls(path, acls, version))

    def set_acls(self, path: str, acls: Iterable[ACL], version: int = -1) -> ZnodeStat:
        """Replaces the ACL. Raises `NoNodeError`, `BadVersionError`, `InvalidACLError`."""
        result: ZnodeStat = self.set_acls_async(path, acls, version).get()
        return result

    def set_async(self, path: str, value: bytes | None, version: int = -1) -> AsyncResult:
        """As `set`, without waiting."""
        path = znode_path(path)
        return self._send(lambda requests: requests.set(path, value, version))

    def set(self, path: str, value: bytes | None, version: int = -1) -> ZnodeStat:
        """Writes the data of a znode that exists. Raises `NoNodeError`, `BadVersionError`."""
        result: ZnodeStat = self.set_async(path, value, version).get()
        return result

    def create_async(
        self,
        path: str,
        value: bytes | None = b"",
        acl: AclArgument = None,
        ephemeral: bool = False,
        sequence: bool = False,
        makepath: bool = False,
        include_data: bool = False,
    ) -> AsyncResult:
        """As `create`, without waiting."""
        for name, flag in (("ephemeral", ephemeral), ("sequence", sequence), ("makepath", makepath)):
            check_bool(name, flag)
        check_bool("include_data", include_data)
        path = znode_path(path, trailing=sequence)
        entries = check_acls("acl", acl if acl is not None else self.default_acl)
        if entries == [] and acl is not None:
            return self._refused(InvalidACLError("the ACL is empty", path=path))
        args = (path, value, entries or None, ephemeral, sequence)
        if makepath:
            return self._run(self._create_tree, *args, include_data=include_data)
        return self._send(lambda requests: requests.create(*args, include_data))

    def create(
        self,
        path: str,
        value: bytes | None = b"",
        acl: AclArgument = None,
        ephemeral: bool = False,
        sequence: bool = False,
        makepath: bool = False,
        include_data: bool = False,
    ) -> Any:
        """Creates a znode; its path, or (path, Stat) with `include_data`.

        Raises:
            NodeExistsError, NoNodeError, NoChildrenForEphemeralsError, InvalidACLError.
        """
        return self.create_async(path, value, acl or None, ephemeral, sequence, makepath, include_data).get()

    def ensure_path_async(self, path: str, acl: AclArgument = None) -> AsyncResult:
        """As `ensure_path`, without waiting."""
        entries = check_acls("acl", acl or self.default_acl)
        return self._run(self._ensure_path, znode_path(path), entries or None)

    def ensure_path(self, path: str, acl: AclArgument = None) -> bool | str:
        """Creates the path and all that is missing above it; True if it was there already, else the path."""
        result: bool | str = self.ensure_path_async(path, acl).get()
        return result

    def delete_async(self, path: str, version: int = -1) -> AsyncResult:
        """As `delete`, without waiting, and of one znode only."""
        path = znode_path(path)
        return self._send(lambda requests: requests.delete(path, version))

    def delete(self, path: str, version: int = -1, recursive: bool = False) -> bool | None:
        """Deletes a znode, with `recursive` everything below it first. Raises `NoNodeError`, `NotEmptyError`."""
        check_bool("recursive", recursive)
        if not recursive:
            return bool(self.delete_async(path, version).get())
        result: bool | None = self._run(self._delete_tree, znode_path(path)).get()
        return result

    async def _create_tree(self, *args: Any, include_data: bool) -> Any:
        native: Any = self.native
        return await native.create(*args, makepath=True, include_data=include_data)

    async def _ensure_path(self, path: str, acl: list[ACL] | None) -> bool | str:
        return await self.native.ensure_path(path, acl)

    async def _delete_tree(self, path: str) -> bool | None:
        # kazoo tells a tree that was not there, by True, from one that it has deleted.
        if await self.native.exists(path) is None:
            return True
        await self.native.delete(path, recursive=True)
        return None

    def sync_async(self, path: str) -> AsyncResult:
        """As `sync`, without waiting."""
        path = znode_path(path)
        return self._send(lambda requests: requests.sync(path))

    def sync(self, path: str) -> str:
        """Makes the present server as new as the leader is; the path."""
        result: str = self.sync_async(path).get()
        return result

    def add_auth_async(self, scheme: str, credential: str) -> AsyncResult:
        """As `add_auth`, without waiting."""
        for name, value in (("scheme", scheme), ("credential", credential)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")

        async def add_auth() -> bool:
            taken = await self.native.add_auth(scheme, credential)
            self.auth_data.add((scheme, credential))
            return taken

        if not self.lifecycle.running:
            self.auth_data.add((scheme, credential))  # for the next start
        return self._run(add_auth)

    def add_auth(self, scheme: str, credential: str) -> bool:
        """Authenticates this connection and all later ones.

        Raises:
            AuthFailedError: a server refused the pair, which is not kept.
            ConnectionClosedError: the client is not started; the pair is for its next start.
        """
        return bool(self.add_auth_async(scheme, credential).get())

    def reconfig_async(
        self, joining: str | None, leaving: str | None, new_members: str | None, from_config: int = -1
    ) -> AsyncResult:
        """As `reconfig`, without waiting."""
        return self._send(lambda requests: requests.reconfig(joining, leaving, new_members, from_config))

    def reconfig(
        self, joining: str | None, leaving: str | None, new_members: str | None, from_config: int = -1
    ) -> tuple[bytes | None, ZnodeStat]:
        """Changes the members of the ensemble. See the native `ZooKeeper.reconfig`."""
        result: tuple[bytes | None, ZnodeStat] = self.reconfig_async(joining, leaving, new_members, from_config).get()
        return result

    def transaction(self) -> TransactionRequest:
        """A new transaction."""
        return TransactionRequest(self)

    def command(self, cmd: bytes = b"ruok") -> str:
        """Sends a four-letter word to the present server; the whole answer, also under TLS.

        Raises:
            ConnectionLoss: there is none.
        """
        if not self.connected:
            raise ConnectionLoss(f"not connected, {cmd!r} cannot be asked")
        return self.call_native(self.native.command, cmd)

    def server_version(self, retries: int = 3) -> tuple[int, ...]:
        """Release of the present server, as (3, 8, 0).

        Raises:
            KazooException: no attempt, 1 + `retries` of them, gave an answer that names it.
        """
        answer = ""
        for _ in range(retries + 1):
            answer = self.command(b"envi")
            for line in answer.splitlines():
                key, _, value = line.partition("=")
                number = ENVI_VERSION.match(value)
                if key == ENVI_VERSION_KEY and number is not None:
                    return tuple(int(part) for part in number[1].split("."))
        raise KazooException(f"the server's answer to 'envi' names no version: {answer[:200]!r}")

    def unchroot(self, path: str) -> str:
        """A server's path without this client's chroot; one outside of it comes back unchanged."""
        return Chroot(absolute("", self.chroot)).relative(path)

    def _refused(self, error: KazooException) -> AsyncResult:
        result = AsyncResult(self.handler)
        result.set_exception(error)
        return result


__all__: list[str] = ["CLOSED_STATES", "ENVI_VERSION", "ENVI_VERSION_KEY", "KazooClient", "TransactionRequest"]
__all__ += _reexports.__all__
