"""kazoo's leases: had at once or not at all, until their time is over."""

from __future__ import annotations

import inspect
import json
import socket
from datetime import datetime, timedelta

import kazoo.recipe.lease as theirs
import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.recipe import lease as ours

MINUTE = timedelta(minutes=1)


class Clock:
    """Naive UTC that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1)

    def __call__(self) -> datetime:
        return self.now


@pytest.mark.parametrize("name", ["NonBlockingLease", "MultiNonBlockingLease"])
def test_signatures_are_kazoos(name: str) -> None:
    mine, other = (inspect.signature(getattr(module, name)).parameters for module in (ours, theirs))
    assert list(mine) == list(other)


def test_a_lease_has_one_holder_until_it_ends(client: KazooClient) -> None:
    clock = Clock()
    first = client.NonBlockingLease("/le", MINUTE, "first", utcnow=clock)
    assert first
    assert first.obtained
    assert first.fencing_token is not None
    second = client.NonBlockingLease("/le", MINUTE, "second", utcnow=clock)
    assert not second
    assert second.fencing_token is None
    assert client.NonBlockingLease("/le", MINUTE, "first", utcnow=clock)
    clock.now += 2 * MINUTE
    assert client.NonBlockingLease("/le", MINUTE, "second", utcnow=clock)
    stored = json.loads(client.get("/le/lease_holder")[0] or b"")
    assert stored == {"version": 1, "holder": "second", "end": "2030-01-01T00:03:00"}


def test_the_host_holds_a_lease_without_a_name(client: KazooClient) -> None:
    assert client.NonBlockingLease("/le", MINUTE).identifier == socket.gethostname()
    assert client.NonBlockingLease("/le", MINUTE)
    assert not client.NonBlockingLease("/le", MINUTE, "somebody else")


def test_one_of_many_leases_is_had(client: KazooClient) -> None:
    had = [client.MultiNonBlockingLease(2, "/m", MINUTE, name) for name in ("a", "b", "c")]
    assert [bool(lease) for lease in had] == [True, True, False]
    assert [lease.obtained for lease in had] == [True, True, False]
    assert had[2].fencing_token is None
    assert had[0].fencing_token is not None
    assert sorted(client.get_children("/m")) == ["0", "1"]
