"""Names of contenders: kazoo's and Curator's spelling, who blocks whom, and in which order they came.

Plain values and text; knows no client.

The order is the order of sequence numbers. ZooKeeper counts them in 32 signed bits, so after 2**31 creations below one
parent they go on at -2**31. kazoo and Curator compare the text, which lets newcomers pass then; here the numbers are
compared around the circle, which is the order of creation as long as all contenders fit into half of it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

LayoutName = Literal["kazoo", "curator"]

_CIRCLE = 2**32
_NUMBER = r"(-[0-9]{9,10}|[0-9]{10})\Z"
"""As `%010d` prints a signed int32: the sign is one of the ten characters, for which -2**31 needs one more."""
_TAGS = {"kazoo": ("__lock__", "__rlock__"), "curator": ("lock-", "latch-", "lease-", "__READ__", "__WRIT__")}


class Seat(NamedTuple):
    """A contender's place in the queue."""

    number: int
    name: str


@dataclass(frozen=True)
class Role:
    """What a contender calls itself and whom it waits for.

    Attributes:
        layout: whose names these are.
        tag: what stands between the unique prefix and the number.
        blockers: tags of those whom it waits for, when they came earlier.
        extra: further patterns of those, regular expressions without the number (kazoo's `extra_lock_patterns`).
    """

    layout: LayoutName
    tag: str
    blockers: tuple[str, ...]
    extra: tuple[str, ...] = ()

    def new_prefix(self) -> str:
        """A name without its number that nobody else has, so that its znode can be found again."""
        guid = uuid.uuid4()
        return f"{guid.hex}{self.tag}" if self.layout == "kazoo" else f"_c_{guid}-{self.tag}"

    def seat(self, name: str) -> Seat | None:
        """Where a blocker, or a contender of our own kind, stands; `None` for any other znode."""
        found = self._queued.search(name)
        # The last group: extra patterns may have groups of their own.
        return None if found is None else Seat(int(found.group(found.re.groups)), name)

    def blocks(self, name: str) -> bool:
        """Whether a znode with this name is waited for, when it came earlier."""
        return self._blocking.search(name) is not None

    @cached_property
    def _blocking(self) -> re.Pattern[str]:
        return _numbered([*map(re.escape, self.blockers), *self.extra])

    @cached_property
    def _queued(self) -> re.Pattern[str]:
        return _numbered([*map(re.escape, dict.fromkeys((self.tag, *self.blockers))), *self.extra])

    @cached_property
    def _foreign(self) -> re.Pattern[str]:
        others = [tag for layout, tags in _TAGS.items() if layout != self.layout for tag in tags]
        return _numbered(map(re.escape, others))

    def foreigner(self, names: Iterable[str]) -> str | None:
        """The first name that is a contender in the other layout and none in this one."""
        return next((name for name in names if self._foreign.search(name) and self.seat(name) is None), None)

    def queue(self, names: Iterable[str]) -> list[Seat]:
        """Contenders in the order in which they came."""
        return in_order(seat for name in names if (seat := self.seat(name)) is not None)


def _numbered(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile(f"(?:{'|'.join(patterns)}){_NUMBER}")


def in_order(seats: Iterable[Seat]) -> list[Seat]:
    """Seats in the order of creation: around the circle of numbers, from behind its widest gap."""
    ordered = sorted(seats)
    gaps = [
        (seat.number - before.number) % _CIRCLE for before, seat in zip(ordered[-1:] + ordered, ordered, strict=False)
    ]
    first = gaps.index(max(gaps)) if len(ordered) > 1 else 0
    return ordered[first:] + ordered[:first]


def lock_role(layout: LayoutName, kind: Literal["lock", "read", "write", "latch"], extra: Iterable[str] = ()) -> Role:
    """The role of a lock's contender.

    Raises:
        ValueError: the layout is neither "kazoo" nor "curator", or an extra pattern is no regular expression.
        TypeError: the extra patterns are no collection of texts.
    """
    roles: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
        ("kazoo", "lock"): ("__lock__", ("__lock__",)),
        ("kazoo", "read"): ("__rlock__", ("__lock__",)),
        ("kazoo", "write"): ("__lock__", ("__lock__", "__rlock__")),
        ("kazoo", "latch"): ("__lock__", ("__lock__",)),
        ("curator", "lock"): ("lock-", ("lock-",)),
        ("curator", "read"): ("__READ__", ("__WRIT__",)),
        ("curator", "write"): ("__WRIT__", ("__READ__", "__WRIT__")),
        ("curator", "latch"): ("latch-", ("latch-",)),
    }
    found = roles.get((layout, kind))
    if found is None:
        raise ValueError(f"layout must be 'kazoo' or 'curator', not {layout!r}")
    return Role(layout, *found, _checked(extra))


def _checked(extra: Iterable[str]) -> tuple[str, ...]:
    if isinstance(extra, (str, bytes)):
        raise TypeError(f"extra_lock_patterns must be a collection of regular expressions, not the text {extra!r}")
    patterns = tuple(extra)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"each of extra_lock_patterns must be a str, not {pattern!r}")
        try:
            re.compile(pattern)  # on its own: an open bracket would swallow what follows
            _numbered([pattern])
        except re.error as error:
            raise ValueError(f"{pattern!r} in extra_lock_patterns is no regular expression: {error}") from None
    return patterns
