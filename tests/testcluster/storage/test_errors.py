"""The storage's exceptions."""

from __future__ import annotations

import inspect

from terzetto.client.errors import KazooException
from terzetto.testcluster import storage
from terzetto.testcluster.storage import errors


def test_damage_says_where_it_is() -> None:
    error = errors.CorruptLogError("log.5", 77, "no end")
    assert str(error) == "log.5 is damaged at byte 77: no end"
    assert (error.name, error.offset, error.reason) == ("log.5", 77, "no end")


def test_one_tree() -> None:
    classes = [found for _, found in inspect.getmembers(errors, inspect.isclass) if found.__module__ == errors.__name__]
    assert len(classes) == 9
    for found in classes:
        assert issubclass(found, errors.StorageError)
        assert getattr(storage, found.__name__) is found
        assert found.__name__ in (errors.__doc__ or "")
    assert issubclass(errors.StorageError, KazooException)
