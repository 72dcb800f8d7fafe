"""Builds requests from the caller's arguments: checks them, puts the chroot on, and says how the reply becomes a
result.

Everything that can be refused before it is sent is refused here, with an error that names the value and the rule.
Shared by the client's methods and by pipelines; sends nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import Any

from ._pending import Request
from ._session import Session
from ._watching import CallbackWatcher, WatchCallback
from .errors import NoNodeError
from .paths import Chroot, check_create_path, check_path, parent
from .values import ACL, MAX_TTL_MS, AddWatchMode, CreateMode, check_acl
from .wire.multi import MULTI, MULTI_READ, MultiOp, MultiResult
from .wire.operations import (
    ADD_WATCH,
    AUTH,
    AUTH_XID,
    CREATE,
    CREATE2,
    CREATE_CONTAINER,
    CREATE_TTL,
    DELETE,
    EXISTS,
    GET_ACL,
    GET_ALL_CHILDREN_NUMBER,
    GET_CHILDREN,
    GET_CHILDREN2,
    GET_DATA,
    GET_EPHEMERALS,
    RECONFIG,
    SET_ACL,
    SET_DATA,
    SYNC,
    WHO_AM_I,
    Operation,
)

CONFIG_PATH = "/zookeeper/config"

# Looking a mode up by its number takes longer than encoding the request.
_PLAIN_MODES = tuple(CreateMode(number) for number in range(4))


def check_version(version: int) -> int:
    """-1 for any version, else the version to compare with; an int32."""
    if isinstance(version, bool) or not isinstance(version, int):
        raise TypeError(f"version must be an int, -1 for any, not {version!r}")
    if not -(2**31) <= version < 2**31:
        raise ValueError(f"version {version} does not fit 32 bits")
    return version


def check_value(value: bytes | None) -> bytes | None:
    """Data of a znode: bytes, or `None` for null."""
    if value is not None and not isinstance(value, bytes):
        raise TypeError(f"value must be bytes or None, not {type(value).__name__}: {value!r:.100}")
    return value


def check_watch(watch: WatchCallback) -> WatchCallback:
    """A callback for a watch."""
    if not callable(watch):
        raise TypeError(f"watch must be a callable that takes a WatchedEvent, not {watch!r}")
    if iscoroutinefunction(watch):
        raise TypeError(f"watch must be a plain function, an async one is never awaited: {watch!r}")
    try:
        hash(watch)
    except TypeError:
        raise TypeError(f"watch must be hashable, so that it is told once however often it is set: {watch!r}") from None
    return watch


def create_mode(
    *, ephemeral: bool, sequence: bool, container: bool, ttl: float | None
) -> tuple[Operation, CreateMode, int | None]:
    """Operation, mode and TTL in milliseconds of a create. Raises `ValueError` for modes that do not exist."""
    for name, flag in (("ephemeral", ephemeral), ("sequence", sequence), ("container", container)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} must be a bool, not {flag!r}")
    if container:
        if ephemeral or sequence or ttl is not None:
            raise ValueError("a container can be neither ephemeral nor sequential, and has no ttl")
        return CREATE_CONTAINER, CreateMode.CONTAINER, None
    if ttl is not None:
        if ephemeral:
            raise ValueError("an ephemeral znode cannot have a ttl")
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
            raise TypeError(f"ttl must be a number of seconds, not {ttl!r}")
        # Compared before it is rounded: what is no number, or infinite, cannot be.
        milliseconds = round(ttl * 1000) if 0 <= ttl * 1000 <= MAX_TTL_MS + 1 else 0
        if not 1 <= milliseconds <= MAX_TTL_MS:
            raise ValueError(f"ttl must be from 0.001 to {MAX_TTL_MS / 1000} seconds, not {ttl!r}")
        mode = CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL if sequence else CreateMode.PERSISTENT_WITH_TTL
        return CREATE_TTL, mode, milliseconds
    return CREATE, _PLAIN_MODES[ephemeral + 2 * sequence], None


def _absent(request: Request, _zxid: int) -> None:
    """exists: a missing znode is an answer, not an error."""
    if isinstance(request.error, NoNodeError):
        request.error = None


def _stat_of(response: Any) -> Any:
    return None if response is None else response.stat


def _first(response: Any) -> Any:
    return response[0]


def _true(_: Any) -> bool:
    return True


class Requests:
    """Requests of one view of a session.

    Args:
        session: gives xids and registers watches.
        chroot: put before every path.
        default_acl: for znodes that are created without an ACL.
        max_request_size: longest request in bytes; the server's `jute.maxbuffer`.
    """

    def __init__(self, session: Session, chroot: Chroot, default_acl: list[ACL], max_request_size: int) -> None:
        self.session = session
        self.chroot = chroot
        self.default_acl = default_acl
        self.max_request_size = max_request_size

    def _path(self, path: str) -> str:
        return self.chroot.absolute(check_path(path))

    def build(
        self, operation: Operation, path: str | None, *fields: Any, convert: Callable[[Any], Any] | None = None
    ) -> Request:
        """A request with its frame. Raises `ValueError` when it is longer than any server would take."""
        xid = self.session.next_xid()
        frame = operation.frame(xid, *fields)
        if len(frame) - 4 > self.max_request_size:
            of = "" if path is None else f" of {path!r}"
            raise ValueError(
                f"{operation.opcode.name.lower()}{of} needs {len(frame) - 4} bytes, the server takes "
                f"{self.max_request_size} (jute.maxbuffer; max_request_size)"
            )
        request = Request(operation, xid, frame, path)
        request.convert = convert
        return request

    def _read(
        self,
        operation: Operation,
        path: str,
        kind: str,
        watch: WatchCallback | None,
        convert: Callable[[Any], Any] | None,
    ) -> Request:
        absolute = self._path(path)
        if watch is None:
            return self.build(operation, path, absolute, False, convert=convert)
        watcher = CallbackWatcher(check_watch(watch), self.chroot.prefix)
        flag, register = self.session.watch_on_reply(kind, absolute, watcher)
        request = self.build(operation, path, absolute, flag, convert=convert)
        request.after = register
        return request

    def get(self, path: str, watch: WatchCallback | None = None) -> Request:
        """Result: (data, ZnodeStat)."""
        return self._read(GET_DATA, path, "data", watch, None)

    def exists(self, path: str, watch: WatchCallback | None = None) -> Request:
        """Result: ZnodeStat or None."""
        request = self._read(EXISTS, path, "exist", watch, _stat_of)
        register = request.after
        if register is None:
            request.after = _absent
        else:

            def register_absent(answered: Request, zxid: int) -> None:
                register(answered, zxid)
                _absent(answered, zxid)

            request.after = register_absent
        return request

    def get_children(self, path: str, watch: WatchCallback | None = None, include_data: bool = False) -> Request:
        """Result: names, or (names, ZnodeStat) with `include_data`."""
        if include_data:
            return self._read(GET_CHILDREN2, path, "child", watch, None)
        return self._read(GET_CHILDREN, path, "child", watch, _first)

    def create(
        self,
        path: str,
        value: bytes | None = b"",
        acl: Iterable[ACL] | None = None,
        ephemeral: bool = False,
        sequence: bool = False,
        include_data: bool = False,
        ttl: float | None = None,
        container: bool = False,
    ) -> Request:
        """Result: the path, or (path, ZnodeStat) with `include_data`."""
        operation, mode, ttl_ms = create_mode(ephemeral=ephemeral, sequence=sequence, container=container, ttl=ttl)
        if include_data and operation is CREATE:
            operation = CREATE2
        absolute = self.chroot.absolute(check_create_path(path, sequence=sequence), sequence=sequence)
        entries = self.default_acl if acl is None else check_acl(acl)
        fields = (absolute, check_value(value), entries, int(mode))
        relative = self.chroot.relative

        def convert(response: Any) -> Any:
            return (relative(response.path), response.stat) if include_data else relative(response.path)

        return self.build(operation, path, *fields, *(() if ttl_ms is None else (ttl_ms,)), convert=convert)

    def delete(self, path: str, version: int = -1) -> Request:
        """Result: True."""
        return self.build(DELETE, path, self._path(path), check_version(version), convert=_true)

    def set(self, path: str, value: bytes | None, version: int = -1) -> Request:
        """Result: ZnodeStat."""
        return self.build(SET_DATA, path, self._path(path), check_value(value), check_version(version), convert=_first)

    def get_acls(self, path: str) -> Request:
        """Result: (list of ACL, ZnodeStat)."""
        return self.build(GET_ACL, path, self._path(path))

    def set_acls(self, path: str, acls: Iterable[ACL], version: int = -1) -> Request:
        """Result: ZnodeStat."""
        return self.build(SET_ACL, path, self._path(path), check_acl(acls), check_version(version), convert=_first)

    def sync(self, path: str) -> Request:
        """Result: the path."""
        return self.build(SYNC, path, self._path(path), convert=lambda _: path)

    def count_descendants(self, path: str) -> Request:
        """Result: int."""
        return self.build(GET_ALL_CHILDREN_NUMBER, path, self._path(path), convert=_first)

    def get_ephemerals(self, prefix: str) -> Request:
        """Result: paths below the chroot that start with the prefix, sorted."""
        if not isinstance(prefix, str) or not prefix.startswith("/"):
            raise ValueError(f"prefix of ephemerals must be a str that starts with '/', not {prefix!r}")
        root = self.chroot.prefix

        def convert(response: Any) -> list[str]:
            inside = [path for path in response.ephemerals if not root or path == root or path.startswith(root + "/")]
            return sorted(self.chroot.relative(path) for path in inside)

        return self.build(GET_EPHEMERALS, prefix, self.chroot.absolute(prefix), convert=convert)

    def who_am_i(self) -> Request:
        """Result: list of ClientInfo."""
        return self.build(WHO_AM_I, None, convert=_first)

    def get_config(self, watch: WatchCallback | None) -> Request:
        """Result: (data, ZnodeStat) of the configuration znode, whatever the chroot."""
        return Requests(self.session, Chroot(), self.default_acl, self.max_request_size).get(CONFIG_PATH, watch)

    def reconfig(self, joining: str | None, leaving: str | None, members: str | None, from_config: int) -> Request:
        """Result: (data, ZnodeStat) of the new configuration."""
        for name, text in (("joining", joining), ("leaving", leaving), ("new_members", members)):
            if text is not None and not isinstance(text, str):
                raise TypeError(f"{name} must be a str or None, not {text!r}")
        if isinstance(from_config, bool) or not isinstance(from_config, int):
            raise TypeError(f"from_config must be an int, -1 for any, not {from_config!r}")
        if not -(2**63) <= from_config < 2**63:
            raise ValueError(f"from_config {from_config} does not fit 64 bits")
        if members is not None and (joining is not None or leaving is not None):
            raise ValueError("reconfig takes either new_members or joining and leaving, not both")
        if members is None and joining is None and leaving is None:
            raise ValueError("reconfig needs joining, leaving or new_members")
        return self.build(RECONFIG, None, joining, leaving, members, from_config)

    def add_auth(self, scheme: str, credential: str | bytes) -> Request:
        """Result: True. The credential is remembered for later connections once the server has taken it."""
        if not isinstance(scheme, str) or not scheme:
            raise TypeError(f"scheme must be a str that is not empty, not {scheme!r}")
        if not isinstance(credential, (str, bytes)):
            # The value itself is a secret.
            raise TypeError(f"credential must be a str or bytes, not {type(credential).__name__}")
        try:
            scheme.encode()
            raw = credential.encode() if isinstance(credential, str) else credential
        except UnicodeEncodeError:
            raise ValueError("a scheme or credential cannot be encoded as UTF-8") from None
        frame = AUTH.frame(AUTH_XID, 0, scheme, raw)
        if len(frame) - 4 > self.max_request_size:
            raise ValueError(f"the credential needs {len(frame) - 4} bytes, the server takes {self.max_request_size}")
        request = Request(AUTH, AUTH_XID, frame)
        request.convert = _true
        request.after = self.session.authenticated(scheme, raw)
        return request

    def add_watch(self, path: str, mode: AddWatchMode, watcher: Any) -> tuple[Request, Callable[[], None]]:
        """Result: None. Registers the watcher at once; the second value takes it back if the request fails."""
        absolute = self._path(path)
        self.build(ADD_WATCH, path, absolute, int(mode))  # too long a path is refused before anything is registered
        number, answered, take_back = self.session.watch_persistent(absolute, mode, watcher)
        request = self.build(ADD_WATCH, path, absolute, number, convert=lambda _: None)
        request.after = answered
        return request, take_back

    def multi(self, ops: list[MultiOp], convert: Callable[[list[MultiResult]], Any]) -> Request:
        """Result: whatever `convert` makes of the results."""
        return self.build(MULTI, None, ops, convert=convert)

    def multi_read(self, ops: list[MultiOp], convert: Callable[[list[MultiResult]], Any]) -> Request:
        """Result: whatever `convert` makes of the results."""
        return self.build(MULTI_READ, None, ops, convert=convert)

    def absolute(self, path: str) -> str:
        """A checked path with the chroot."""
        return self._path(path)

    def parent(self, path: str, *, sequence: bool) -> str:
        """The parent of a znode to be created, with the chroot."""
        return parent(self.chroot.absolute(check_create_path(path, sequence=sequence), sequence=sequence))
