"""kazoo's counter: a number that `+=` and `-=` change on the servers. A shell over the native one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from terzetto import recipes

from ._crossing import Crossing

if TYPE_CHECKING:
    from ..client import KazooClient

Number = int | float


class Counter:
    """A shared number: `counter += 2` changes it, once, also when a connection is lost meanwhile.

    Args:
        client: the client.
        path: its znode; made, empty, when it is missing.
        default: its value while the znode is empty. All values have its type.
        support_curator: as Curator's SharedCount writes it, a big-endian int32.

    Attributes:
        pre_value: the number before our last change, `None` before the first.
        post_value: the number that our last change made of it.

    Raises:
        TypeError: the default is no number, or not an int with `support_curator`.
    """

    def __init__(self, client: KazooClient, path: str, default: Number = 0, support_curator: bool = False) -> None:
        if isinstance(default, bool) or not isinstance(default, int if support_curator else (int, float)):
            raise TypeError(f"default must be {'an int' if support_curator else 'a number'}, not {default!r}")
        self.client = client
        self.path = path
        self.default = default
        self.default_type = type(default)
        self.support_curator = support_curator
        self.pre_value: Number | None = None
        self.post_value: Number | None = None
        given: Any = default
        self._native: Crossing[recipes.Counter[Any]] = Crossing(
            client, lambda zk: recipes.Counter[Any](zk, path, given, support_curator)
        )

    @property
    def value(self) -> Number:
        """The number now, as the connected server knows it."""
        value: Number = self._native.call(lambda counter: counter.get())
        return value

    def __add__(self, value: Number) -> Counter:
        """Adds to it on the servers, and returns this object.

        Raises:
            TypeError: the value has not the default's type.
            SessionExpiredError: the session ended; `outcome_unknown` says whether the change may have been made.
        """
        return self._change(value)

    def __sub__(self, value: Number) -> Counter:
        """Subtracts from it on the servers. As `+`."""
        if not isinstance(value, (int, float)):
            raise TypeError(f"a counter changes by numbers, not by {value!r}")
        return self._change(-value)

    def _change(self, value: Number) -> Counter:
        async def add(counter: recipes.Counter[Any]) -> tuple[Number | None, Number]:
            after = await counter.add(value)
            return counter.pre_value, after

        self.pre_value, self.post_value = self._native.call(add)
        return self
