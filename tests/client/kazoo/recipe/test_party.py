"""kazoo's parties."""

from __future__ import annotations

import threading

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.testcluster import BlockingEnsemble

from ..conftest import Connect

BOUND = 10.0


@pytest.mark.parametrize("name", ["Party", "ShallowParty"])
def test_members_come_and_go(client: KazooClient, connect: Connect, name: str) -> None:
    first, second = getattr(client, name)("/p", "first"), getattr(connect(), name)("/p", "second")
    assert (len(first), list(first), first.participating, first.leave()) == (0, [], False, False)
    for party in (first, first, second):
        party.join()
    assert sorted(second) == ["first", "second"]
    assert (len(first), first.participating) == (2, True)
    assert first.leave()
    assert not first.leave()
    assert list(second) == ["second"]
    first.join()
    assert len(second) == 2
    second.client.stop()
    assert not second.participating
    assert list(first) == ["first"]
    client.restart()
    assert len(first) == 0
    first.join()
    assert list(first) == ["first"]


def test_a_member_comes_back_after_a_lost_session(
    client: KazooClient, connect: Connect, ensemble: BlockingEnsemble
) -> None:
    party, peer = client.Party("/p", "me"), connect()
    party.join()
    assert client.client_id is not None
    before = peer.get_children("/p")
    session = client.client_id
    back = threading.Event()

    def watch(names: list[str]) -> None:
        if names and peer.get(f"/p/{names[0]}")[1].ephemeralOwner != session[0]:
            back.set()

    ensemble.expire_session(session[0])
    peer.ChildrenWatch("/p", watch)
    assert back.wait(BOUND)
    assert peer.get_children("/p") == before
    assert party.participating
