"""One tree of exceptions under both names, with kazoo's aliases and codes."""

from __future__ import annotations

import kazoo.exceptions as theirs

import terzetto.client as native
from terzetto.client.kazoo import exceptions


def test_every_name_of_kazoos_is_there() -> None:
    names = {name for name, value in vars(theirs).items() if isinstance(value, type) and value is not dict}
    names -= {"defaultdict"}
    assert {name for name in names if not hasattr(exceptions, name)} == set()


def test_codes_are_kazoos() -> None:
    for code, cls in theirs.EXCEPTIONS.items():
        assert exceptions.EXCEPTIONS[code].__name__ == cls.__name__


def test_the_classes_are_the_clients_own() -> None:
    assert exceptions.NoNodeError is native.NoNodeError
    assert exceptions.NoNodeException is native.NoNodeError
    assert issubclass(exceptions.ConnectionClosedError, exceptions.SessionExpiredError)
    for name in ("ZookeeperStoppedError", "ConnectionDropped", "WriterNotClosedException", "SASLException"):
        assert issubclass(getattr(exceptions, name), exceptions.KazooException)


def test_aliases_are_those_of_kazoo() -> None:
    for name, value in vars(theirs).items():
        if isinstance(value, type) and value.__module__ == theirs.__name__:
            assert getattr(exceptions, name).__name__ == value.__name__
