"""The names that programs take from kazoo's connection module."""

from __future__ import annotations

import kazoo.protocol.connection as theirs

from terzetto.client.kazoo.protocol import connection


def test_codes_are_kazoos() -> None:
    codes = [name for name in connection.__all__ if name.isupper() and not name.startswith("_")]
    assert len(codes) == 8
    for name in codes:
        assert getattr(connection, name) == getattr(theirs, name), name


def test_sentinels_are_two_and_have_names() -> None:
    for name in ("_SESSION_EXPIRED", "_CONNECTION_DROP"):
        assert hasattr(theirs, name)
        assert repr(getattr(connection, name)) == name
    assert connection._SESSION_EXPIRED is not connection._CONNECTION_DROP
