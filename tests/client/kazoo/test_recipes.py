"""The recipes as a client's attributes, as kazoo attaches them."""

from __future__ import annotations

from functools import partial
from typing import Any

import kazoo.client as theirs

from terzetto.client.kazoo.client import KazooClient


def partials(client: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = client.__dict__
    return {name: value for name, value in attributes.items() if isinstance(value, partial)}


def test_recipes_are_attached_as_in_kazoo() -> None:
    mine = KazooClient()
    expected = partials(theirs.KazooClient())
    made = partials(mine)
    assert set(made) == set(expected)
    for name, value in made.items():
        assert value.func.__name__ == expected[name].func.__name__ == name
        assert value.func.__module__ == f"terzetto.client.{expected[name].func.__module__}"
        assert value.args == (mine,)
