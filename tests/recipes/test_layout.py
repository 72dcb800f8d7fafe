"""Names and order of contenders."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.recipes._layout import LayoutName, Role, Seat, in_order, lock_role

KAZOO = "0123456789abcdef0123456789abcdef"
CURATOR = "_c_01234567-89ab-cdef-0123-456789abcdef"


def names(queue: list[Seat]) -> list[str]:
    return [seat.name for seat in queue]


def test_kazoo_names_what_it_creates() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}__lock__", lock_role("kazoo", "lock").new_prefix())
    assert re.fullmatch(r"[0-9a-f]{32}__rlock__", lock_role("kazoo", "read").new_prefix())
    assert re.fullmatch(r"[0-9a-f]{32}__lock__", lock_role("kazoo", "write").new_prefix())


@pytest.mark.parametrize(
    ("kind", "tag"), [("lock", "lock-"), ("read", "__READ__"), ("write", "__WRIT__"), ("latch", "latch-")]
)
def test_curator_names_what_it_creates(kind: str, tag: str) -> None:
    prefix = lock_role("curator", kind).new_prefix()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert prefix.endswith(tag)
    assert prefix.startswith("_c_")
    # Curator recognises a protected name by its length and by a UUID that can be parsed.
    assert prefix[39] == "-"
    uuid.UUID(prefix[3:39])


def test_no_two_prefixes_are_the_same() -> None:
    role = lock_role("kazoo", "lock")
    assert len({role.new_prefix() for _ in range(100)}) == 100


def test_the_queue_is_in_the_order_of_the_numbers_whatever_stands_before_them() -> None:
    role = lock_role("kazoo", "lock")
    given = ["b__lock__0000000002", "a__lock__0000000010", "c__lock__0000000001"]
    assert names(role.queue(given)) == [given[2], given[0], given[1]]


def test_who_blocks_whom() -> None:
    lock, reader, writer = "a__lock__0000000001", "b__rlock__0000000002", "c__lock__0000000003"
    for kind, blockers in (("lock", [lock, writer]), ("read", [lock, writer]), ("write", [lock, reader, writer])):
        role = lock_role("kazoo", kind)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert [name for name in (lock, reader, writer) if role.blocks(name)] == blockers
    for kind, blockers in (
        ("read", ["w__WRIT__0000000001"]),
        ("write", ["w__WRIT__0000000001", "r__READ__0000000002"]),
    ):
        role = lock_role("curator", kind)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert [name for name in ("w__WRIT__0000000001", "r__READ__0000000002") if role.blocks(name)] == blockers


def test_readers_are_in_the_queue_of_readers_but_block_none() -> None:
    role = lock_role("kazoo", "read")
    assert names(role.queue(["a__rlock__0000000001", "b__lock__0000000002"])) == [
        "a__rlock__0000000001",
        "b__lock__0000000002",
    ]
    assert not role.blocks("a__rlock__0000000001")


@pytest.mark.parametrize("name", ["lease_holder", "a__lock__", "a__lock__123", "a__lock__0000000001x", "0000000001"])
def test_what_is_no_contender_is_left_out(name: str) -> None:
    role = lock_role("kazoo", "lock")
    assert role.seat(name) is None
    assert not role.blocks(name)
    assert role.foreigner([name]) is None


@pytest.mark.parametrize(
    ("layout", "foreign"),
    [
        ("kazoo", f"{CURATOR}-lock-0000000001"),
        ("kazoo", f"{CURATOR}-latch-0000000001"),
        ("kazoo", f"{CURATOR}-__WRIT__0000000001"),
        ("kazoo", f"{CURATOR}-lock--2147483648"),
        ("curator", f"{KAZOO}__lock__0000000001"),
        ("curator", f"{KAZOO}__rlock__-2147483648"),
    ],
)
def test_contenders_of_the_other_layout_are_recognised(layout: LayoutName, foreign: str) -> None:
    role = lock_role(layout, "lock")
    assert role.foreigner(["config", foreign]) == foreign


def test_an_extra_pattern_makes_a_foreigner_one_of_us() -> None:
    role = lock_role("kazoo", "lock", ["-lock-"])
    name = f"{CURATOR}-lock-0000000001"
    assert role.foreigner([name]) is None
    assert role.blocks(name)
    assert role.seat(name) == Seat(1, name)


def test_patterns_are_kazoo_s_regular_expressions() -> None:
    role = lock_role("kazoo", "lock", ["-(?:lock|latch)-"])
    assert role.blocks("x-latch-0000000001")
    assert role.blocks("x-lock-0000000001")
    # Ours are taken literally.
    assert not Role("kazoo", "a.b", ("a.b",)).blocks("axb0000000001")


def test_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="layout must be 'kazoo' or 'curator', not 'java'"):
        lock_role("java", "lock")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def spelled(number: int) -> str:
    """As ZooKeeper does it: the counter is a signed int32, printed with %010d."""
    signed = (number + 2**31) % 2**32 - 2**31
    return f"x__lock__{signed:010d}"


def test_the_counter_s_overflow_lets_no_newcomer_pass() -> None:
    role = lock_role("kazoo", "lock")
    created = [spelled(number) for number in range(2**31 - 2, 2**31 + 3)]
    assert created[2].endswith("-2147483648")
    assert sorted(created) != created  # as text
    assert names(role.queue(reversed(created))) == created


@given(st.integers(-(2**31), 2**31 - 1), st.lists(st.integers(0, 2**31 - 1), unique=True, min_size=1), st.randoms())
def test_the_order_is_that_of_creation_wherever_the_counter_stands(
    first: int, offsets: list[int], random: object
) -> None:
    created = [spelled(first + offset) for offset in sorted(offsets)]
    shuffled = list(created)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert names(lock_role("kazoo", "lock").queue(shuffled)) == created


def test_nobody_is_a_queue_too() -> None:
    assert in_order([]) == []


def test_an_extra_pattern_may_have_groups_of_its_own() -> None:
    role = lock_role("kazoo", "lock", ["(-lock-|(_lk)_)"])
    created = ["a-lock-0000000001", "b__lock__0000000002", "c_lk_0000000003"]
    assert names(role.queue(reversed(created))) == created
    assert [seat.number for seat in role.queue(created)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        ("-lock-", TypeError, "extra_lock_patterns must be a collection of regular expressions, not the text '-lock-'"),
        ([5], TypeError, "each of extra_lock_patterns must be a str, not 5"),
        (["[x"], ValueError, r"'\[x' in extra_lock_patterns is no regular expression"),
    ],
)
def test_extra_patterns_that_are_none_are_refused(extra: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lock_role("kazoo", "lock", extra)
