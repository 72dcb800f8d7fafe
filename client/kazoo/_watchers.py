"""A program's watches: on which thread their functions are called, and a client's watches as kazoo's clients keep them.

`_data_watchers` and `_child_watchers`, path to functions, are views of the session's own table, which every look and
every change goes to. A watch is set by a read, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableSet
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .protocol.states import EventType, KeeperState, WatchedEvent

if TYPE_CHECKING:
    from .._core import ClientCore
    from .client import KazooClient

Watch = Callable[[WatchedEvent], Any]

DATA_KINDS = ("data", "exist")
CHILD_KINDS = ("child",)

Look = Callable[[Callable[["ClientCore"], Any], Any], Any]


class ProgramWatch(NamedTuple):
    """A program's watch as the native client calls it. Equal for the same callable, so that it is told once.

    One that watches data and children is told of a deletion for each, as by kazoo, which keeps them apart. No function
    is called because the program itself stops its client: many set their watch again at any event.
    """

    client: KazooClient
    func: Watch
    is_for_children: bool = False

    def __call__(self, event: WatchedEvent) -> None:
        if event.type == EventType.NONE:
            if not self.client.lifecycle.running:
                return
            event = WatchedEvent(event.type, event.state, cast("Any", None))  # what kazoo says of no one path
        elif event.state == KeeperState.CONNECTING:
            # From a server that has not restored all watches yet; programs look for the state in which kazoo tells it.
            event = event._replace(state=KeeperState.CONNECTED)
        self.client.handler.callback_queue.put(lambda: self.func(event))


def _function(watcher: Any) -> Any:
    """The program's function behind what the session has registered."""
    callback = getattr(watcher, "callback", watcher)
    return callback.func if isinstance(callback, ProgramWatch) else callback


class WatcherTable(Mapping[str, "WatcherSet"]):
    """Paths, as the servers know them, and who watches them. A path that nobody watches has an empty set.

    Args:
        look: `look(question, otherwise)` asks the client's loop, where there is one.
        kinds: of the session's tables.
    """

    def __init__(self, look: Look, kinds: tuple[str, ...]) -> None:
        self._look = look
        self._kinds = kinds

    def _paths(self, core: ClientCore) -> list[str]:
        tables = core.session.watches.oneshot
        return list(dict.fromkeys(path for kind in self._kinds for path in tables[kind]))

    def __getitem__(self, path: str) -> WatcherSet:
        return WatcherSet(self._look, self._kinds, path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._look(self._paths, []))

    def __len__(self) -> int:
        return len(self._look(self._paths, []))

    def __contains__(self, path: object) -> bool:
        return path in self._look(self._paths, [])

    def __repr__(self) -> str:
        return repr({path: set(self[path]) for path in self})


class WatcherSet(MutableSet[Any]):
    """Who watches a path. Taking a function off takes its watch back; see `WatcherTable`."""

    def __init__(self, look: Look, kinds: tuple[str, ...], path: str) -> None:
        self._look = look
        self._kinds = kinds
        self._path = path

    @classmethod
    def _from_iterable(cls, it: Any) -> set[Any]:
        """What set operations give: a plain set."""
        return set(it)

    def _registered(self, core: ClientCore) -> list[Any]:
        tables = core.session.watches.oneshot
        return list(dict.fromkeys(watcher for kind in self._kinds for watcher in tables[kind].get(self._path, ())))

    def _functions(self, core: ClientCore) -> list[Any]:
        return [_function(watcher) for watcher in self._registered(core)]

    def __contains__(self, value: object) -> bool:
        return value in self._look(self._functions, [])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._look(self._functions, []))

    def __len__(self) -> int:
        return len(self._look(self._functions, []))

    def __repr__(self) -> str:
        return repr(set(self))

    def add(self, value: Any) -> None:
        """Raises `TypeError`: a watch is set by a read, which tells the servers."""
        raise TypeError("a watch is set by the watch= of get, exists or get_children")

    def discard(self, value: Any) -> None:
        """Has a function told no more; an unknown one is ignored."""

        def forget(core: ClientCore) -> None:
            for watcher in self._registered(core):
                if _function(watcher) == value:
                    core.session.unwatch(self._path, None, watcher)
                    core.runner.wake_writer()

        self._look(forget, None)
