"""What programs import from `kazoo.client` though it belongs elsewhere."""

from __future__ import annotations

from typing import Any

import kazoo.client as theirs

from terzetto.client.kazoo import _reexports, client as ours
from terzetto.client.kazoo.recipe.lock import Lock


def test_names_are_the_objects_themselves() -> None:
    assert ours.Lock is Lock
    for name in _reexports.__all__:
        assert getattr(ours, name) is getattr(_reexports, name)
        assert name in ours.__all__


def test_they_are_kazoos() -> None:
    assert [name for name in _reexports.__all__ if not hasattr(theirs, name)] == []
    # All that a client makes by itself can be imported as well.
    client: Any = theirs.KazooClient()
    attributes: dict[str, object] = client.__dict__
    made = [name for name, value in attributes.items() if name[0].isupper() and callable(value)]
    assert len(made) == 17
    assert set(made) <= set(_reexports.__all__)
