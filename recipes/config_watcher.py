"""Configuration that is followed while it changes: one znode, or layered trees of them, parsed by the user's function.

The last good value stays in force when a newer one cannot be parsed, and the failure is told. A copy that follows the
servers (`_mirror`) says what there is; what a configuration means is the user's business.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any, Generic, TypeVar, cast

import trio

from terzetto.client import (
    BadVersionError,
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    PlainNursery,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
    ZnodeStat,
    ZooKeeper,
    ZookeeperError,
)

from ._following import Latest, LatestStream, Standing, call_back, in_any_session
from ._mirror import CachedZnode, TreeMirror
from ._znodes import make_path, native, pause_if_throttled
from .errors import ConfigParseError

log = logging.getLogger("terzetto.recipes")

ConfigT = TypeVar("ConfigT")
ValueT = TypeVar("ValueT")

_UNSET: Any = object()
_REFUSED = -2
"""In the place of the newest write's zxid."""


class _Watcher(Standing, Generic[ConfigT]):
    """What both watchers share: a value, its changes, its age, and the failures on the way to it."""

    def __init__(
        self,
        client: ZooKeeper,
        func: Callable[[ConfigT], Any] | None,
        on_error: Callable[[ConfigParseError], Any] | None,
    ) -> None:
        self.client = native(client)
        self._func = func
        self._on_error = on_error
        self._latest: Latest[Any] = Latest(_UNSET)
        self._mirrors: list[TreeMirror] = []
        self._failures: list[ConfigParseError] = []
        self._failed = trio.Event()

    @property
    def value(self) -> ConfigT:
        """The configuration in force.

        Raises:
            RuntimeError: the block has not begun.
        """
        if self._latest.value is _UNSET:
            raise RuntimeError("a configuration is read inside the watcher's block: async with ... as config")
        return cast(ConfigT, self._latest.value)

    @property
    def age(self) -> float:
        """Seconds since the value was last known to be up to date: 0.0 while connected."""
        return max((mirror.age for mirror in self._mirrors), default=float("inf"))

    def __aiter__(self) -> AsyncIterator[ConfigT]:
        """The configuration in force, now and after each change, until the block ends. Slow readers skip some."""
        return LatestStream(self._latest, lambda: self.value)

    @abstractmethod
    def _start(self) -> list[TreeMirror]:
        """The copies that it rests on."""

    @abstractmethod
    def _look(self) -> None:
        """The copies may have changed."""

    @abstractmethod
    def _check_complete(self) -> None:
        """The first look is over. Raises where there is nothing that could be in force."""

    def _put(self, value: ConfigT) -> None:
        if value != self._latest.value:
            self._latest.put(value)
        else:
            # 1 == True, and 1 == 1.0: no change to tell of, but what is in force is what stands there.
            self._latest.value = value

    def _fail(self, error: ConfigParseError) -> None:
        log.warning("%s", error)
        if self._on_error is not None:
            self._failures.append(error)
            self._failed.set()

    async def _report(self, on_error: Callable[[ConfigParseError], Any]) -> None:
        while True:
            await self._failed.wait()
            self._failed = trio.Event()
            failures, self._failures = self._failures, []
            for failure in failures:
                await call_back(on_error, failure)

    async def _call(self, func: Callable[[ConfigT], Any], values: AsyncIterator[ConfigT]) -> None:
        async for value in values:
            await call_back(func, value)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self._mirrors = self._start()
        async with PlainNursery() as nursery:
            for mirror in self._mirrors:
                await nursery.start(mirror.follow)
            self._look()
            self._check_complete()
            if self._on_error is not None:
                nursery.start_soon(self._report, self._on_error)
            if self._func is not None:
                values = aiter(self)
                await call_back(self._func, await anext(values))
                nursery.start_soon(self._call, self._func, values)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
                self._latest.finish()


class ConfigWatcher(_Watcher[ConfigT]):
    """Follows the configuration in one znode: `async with ConfigWatcher(zk, "/config/app", json.loads) as config:`.

    `config.value` is the one in force; iterate over `config` for the changes, or give a function. A value that cannot
    be parsed changes nothing: the last good one stays in force, `config.error` says what is wrong, and so does a
    warning in the log. Needs servers from 3.6 on.

    Args:
        client: the client.
        path: the znode.
        parse: makes a value of the data; whatever it raises means that it cannot.
        func: called with the value before the block begins, and with each other one while it runs; async or plain.
            What it raises ends the block.
        on_error: called with each `ConfigParseError`, likewise.
        default: in force while there is no znode, or none that can be parsed at the beginning. Without one, that is an
            error at the beginning; later the last good value stays. A znode that may not be read is an error at the
            beginning in any case, and later the last good value stays.
        serialize: makes data of a value, for `update`.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        parse: Callable[[bytes], ConfigT],
        func: Callable[[ConfigT], Any] | None = None,
        *,
        on_error: Callable[[ConfigParseError], Any] | None = None,
        default: ConfigT = _UNSET,
        serialize: Callable[[ConfigT], bytes] | None = None,
    ) -> None:
        super().__init__(client, func, on_error)
        self.path = path
        self.error: ConfigParseError | None = None
        """Why the newest data are not in force; `None` while they are."""
        self._parse = parse
        self._default = default
        self._serialize = serialize
        self._seen = -1  # newest write that was parsed, or could not be

    @property
    def is_missing(self) -> bool:
        """Whether there is no such znode."""
        return not any(self.path in mirror.znodes or self.path in mirror.refused for mirror in self._mirrors)

    def _start(self) -> list[TreeMirror]:
        return [TreeMirror(self.client, self.path, depth=0, told=self._look)]

    def _look(self) -> None:
        if not self._mirrors or not self._mirrors[0].is_complete:
            return
        znode = self._mirrors[0].znodes.get(self.path)
        if self.path in self._mirrors[0].refused:
            if self._seen != _REFUSED and self._latest.value is not _UNSET:
                self._seen = _REFUSED
                log.warning("the configuration may not be read any more: %s", self._mirrors[0].refused[self.path])
        elif znode is None:
            self._seen, self.error = -1, None
            if self._default is not _UNSET:
                self._put(self._default)
        elif znode.stat.mzxid != self._seen:
            self._seen = znode.stat.mzxid
            self._take(znode)

    def _take(self, znode: CachedZnode) -> None:
        value, self.error = _parsed(self._parse, znode)
        if self.error is None:
            self._put(value)
        else:
            self._fail(self.error)
            if self._latest.value is _UNSET and self._default is not _UNSET:
                self._put(self._default)

    def _check_complete(self) -> None:
        if self.path in self._mirrors[0].refused:
            # Not even where there is a default: nobody would notice that it is not what was configured.
            raise self._mirrors[0].refused[self.path]
        if self._latest.value is _UNSET:
            raise self.error or NoNodeError("there is no configuration, and no default", path=self.path)

    # Changing it ------------------------------------------------------------------------------------------------------

    async def update(self, change: Callable[[ConfigT], ConfigT]) -> ConfigT:
        """Replaces the value by `change(value)`, by compare-and-set: nobody's change in between is lost.

        Args:
            change: called again with the newer value where somebody was faster. Without a znode it is called with the
                default, and the znode is created.

        Returns:
            The value that was written. It comes into force here a moment later, like everybody's.

        Raises:
            ValueError: there is no `serialize`.
            NoNodeError: there is neither a znode nor a default.
            ConfigParseError: what is there cannot be parsed.
            ConnectionLoss, SessionExpiredError: with `outcome_unknown`: the reply was lost, and others have written
                since, so nobody can tell whether this change was made in between.
        """
        if self._serialize is None:
            raise ValueError("a configuration is updated by a watcher that was given serialize=")
        while True:
            try:
                data, stat = await in_any_session(self.client, self.client.get, self.path)
            except NoNodeError:
                if self._default is _UNSET:
                    raise
                # A copy: a function that changes what it is given must not change what is in force.
                value, before = change(deepcopy(self._default)), None
            else:
                current, error = _parsed(self._parse, CachedZnode(self.path, data, stat))
                if error is not None:
                    raise error
                value, before = change(current), stat
            if await self._write(self._serialize(value), before):
                return value

    async def _write(self, data: bytes, stat: ZnodeStat | None) -> bool:
        """Writes over the version of `stat`, or creates. False: somebody was faster."""
        try:
            if stat is None:
                await self.client.create(self.path, data)
            else:
                await self.client.set(self.path, data, stat.version)
        except (BadVersionError, NodeExistsError):
            return False
        except NoNodeError:
            if stat is None:
                await self._make_parent()
            return False
        except (ConnectionLoss, SessionExpiredError, SessionMovedError, ThrottledOpError) as error:
            if self.client.is_over:
                raise
            await pause_if_throttled(error)
            return error.outcome_unknown and await self._was_written(data, stat, error)
        return True

    async def _make_parent(self) -> None:
        parent = self.path.rpartition("/")[0] or "/"
        await in_any_session(self.client, lambda: make_path(self.client, parent, container=False))

    async def _was_written(self, data: bytes, before: ZnodeStat | None, error: ZookeeperError) -> bool:
        """After a lost reply: whether the znode is as our write made it. Raises the error where nobody can tell."""
        now = await self._get_now()
        if now is None:
            if before is None:
                return False
            raise error
        found, stat = now
        if before is None:
            if stat.version > 0:
                raise error
            return found == data
        if stat.czxid != before.czxid or stat.version > before.version + 1:
            raise error
        return stat.version == before.version + 1 and found == data

    async def _get_now(self) -> tuple[bytes | None, ZnodeStat] | None:
        """The znode on a server that knows what a quorum knew, `None` without one.

        What a leader that was deposed before our write does not know would be made again; nor would a server that lags
        behind know it, as a new session may find one.
        """
        while True:
            session = self.client.session_id
            await in_any_session(self.client, self.client.sync, self.path, strict=True)
            try:
                found = await in_any_session(self.client, self.client.get, self.path)
            except NoNodeError:
                found = None
            if session and self.client.session_id == session:
                return found


class ConfigTreeWatcher(_Watcher[Mapping[str, ValueT]], Generic[ValueT]):
    """Follows the configuration in trees of znodes, later ones over earlier ones.

    `async with ConfigTreeWatcher(zk, ["/config/defaults", "/config/web", "/config/web-1"], parse) as config:`; then
    `config.value["db/host"]` comes from the last of the trees that has a znode `db/host` with data. Each znode is
    parsed on its own: one that cannot be parsed keeps its last good value, and is listed in `config.errors`. Znodes
    with empty data count as folders. Needs servers from 3.6 on.

    Args:
        client: the client.
        paths: roots of the trees, the weakest first; one path for one tree. They need not exist.
        parse: makes a value of a znode's data.
        func: as `ConfigWatcher`'s, with the whole mapping.
        on_error: as `ConfigWatcher`'s.
    """

    def __init__(
        self,
        client: ZooKeeper,
        paths: str | Sequence[str],
        parse: Callable[[bytes], ValueT],
        func: Callable[[Mapping[str, ValueT]], Any] | None = None,
        *,
        on_error: Callable[[ConfigParseError], Any] | None = None,
    ) -> None:
        super().__init__(client, func, on_error)
        self.paths = (paths,) if isinstance(paths, str) else tuple(paths)
        if not self.paths:
            raise ValueError("paths must name at least one tree")
        self._parse = parse
        # By absolute path: the write that was looked at last, and the last good value.
        self._seen: dict[str, int] = {}
        self._good: dict[str, ValueT] = {}
        self._errors: dict[str, ConfigParseError] = {}

    @property
    def errors(self) -> Mapping[str, ConfigParseError]:
        """Why the newest data of a znode are not in force, by its path."""
        return dict(self._errors)

    def layer(self, path: str) -> dict[str, ValueT]:
        """What one of the trees says by itself."""
        prefix = "/" if path == "/" else path + "/"
        return {znode[len(prefix) :]: value for znode, value in self._good.items() if znode.startswith(prefix)}

    def _start(self) -> list[TreeMirror]:
        return [TreeMirror(self.client, path, told=self._look) for path in dict.fromkeys(self.paths)]

    def _look(self) -> None:
        if not self._mirrors or not all(mirror.is_complete for mirror in self._mirrors):
            return
        present = {path: znode for mirror in self._mirrors for path, znode in mirror.znodes.items()}
        refused = {path for mirror in self._mirrors for path in mirror.refused}
        for path in self._seen.keys() - present.keys() - refused:
            self._forget(path)
            del self._seen[path]
        for path, znode in present.items():
            if self._seen.get(path) != znode.stat.mzxid:
                self._seen[path] = znode.stat.mzxid
                self._take(znode)
        merged: dict[str, ValueT] = {}
        for path in self.paths:
            merged.update(self.layer(path))
        self._put(merged)

    def _forget(self, path: str) -> None:
        self._good.pop(path, None)
        self._errors.pop(path, None)

    def _take(self, znode: CachedZnode) -> None:
        if not znode.data:
            self._forget(znode.path)
            return
        value, error = _parsed(self._parse, znode)
        if error is None:
            self._good[znode.path] = value
            self._errors.pop(znode.path, None)
        else:
            self._errors[znode.path] = error
            self._fail(error)

    def _check_complete(self) -> None:
        """Nothing at all is an empty configuration."""


def _parsed(parse: Callable[[bytes], ValueT], znode: CachedZnode) -> tuple[ValueT, ConfigParseError | None]:
    """The value, or why there is none."""
    try:
        return parse(znode.data or b""), None
    except Exception as cause:  # noqa: BLE001 - the parser is the program's
        error = ConfigParseError(znode.path, znode.stat.version, cause)
        error.__cause__ = cause
        return cast(ValueT, _UNSET), error
