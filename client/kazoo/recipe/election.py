"""kazoo's blocking election: a function that runs while its thread's client leads. The queue is `Lock`'s."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ..exceptions import CancelledError
from .lock import Lock

if TYPE_CHECKING:
    from ..client import KazooClient

P = ParamSpec("P")
T = TypeVar("T")


class Election:
    """Runs for leadership: `client.Election("/leader", "me").run(func)`.

    Args:
        client: the client.
        path: the znode below which the candidates stand.
        identifier: who we are, for `contenders()`.

    Attributes:
        lock: the `Lock` behind it. `lock.is_acquired` tells the function whether it still leads, `lock.ownership` more.
    """

    def __init__(self, client: KazooClient, path: str, identifier: str | bytes | None = None) -> None:
        self.lock = Lock(client, path, identifier)

    def run(self, func: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Waits for leadership, runs `func(*args, **kwargs)` once in this thread, resigns.

        Returns:
            Its result, where kazoo drops it; `None` if `cancel()` ended the wait.

        Raises:
            ValueError: `func` cannot be called.
        """
        if not callable(func):
            raise ValueError(f"an election runs a function, not {func!r}")
        try:
            with self.lock:
                return func(*args, **kwargs)
        except CancelledError:
            return None

    def cancel(self) -> None:
        """Ends the wait in `run`, or that of the next one. A leader goes on."""
        self.lock.cancel()

    def contenders(self) -> list[str]:
        """Identifiers of the leader and of those who wait, in their order."""
        return self.lock.contenders()
