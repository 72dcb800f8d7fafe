"""Curator's frames, as Curator 5.4.0 wrote them, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from terzetto.recipes._item_frames import pack_items, unpack_items

WRITTEN = {
    "000100010100000003" + b"one".hex() + "02": [b"one"],
    "00010001010000000002": [b""],
    "000100010100000002" + b"m1".hex() + "0100000002" + b"m2".hex() + "02": [b"m1", b"m2"],
    "0001000102": [],
}


@pytest.mark.parametrize(("text", "values"), WRITTEN.items())
def test_what_curator_writes(text: str, values: list[bytes]) -> None:
    assert pack_items(values).hex() == text
    assert unpack_items(bytes.fromhex(text)) == values


@given(st.lists(st.binary()), st.binary())
def test_there_and_back(values: list[bytes], behind: bytes) -> None:
    assert unpack_items(pack_items(values) + behind) == values


@given(st.lists(st.binary(max_size=20), max_size=3), st.data())
def test_what_is_cut_off_is_no_item(values: list[bytes], data: st.DataObject) -> None:
    whole = pack_items(values)
    with pytest.raises(ValueError, match=r"data|item"):
        unpack_items(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begin with 00010001, but with nothing"),
        ("68656c6c6f", "but with 68656c6c"),
        ("00010001" + "0300000000" + "02", "not 3"),
        ("00010001" + "01ffffffff" + "02", "an item of -1 bytes"),
        ("00010001" + "0100000005" + "02", "an item of 5 bytes, where 1 are left"),
    ],
)
def test_what_is_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack_items(bytes.fromhex(text))
