"""What a blocking program can ask about something it owns, and what it hears when it owns it no more."""

from __future__ import annotations

import threading

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import NodeExistsError
from terzetto.client.kazoo.recipe._ownership import Ownership
from terzetto.recipes import OwnershipLost
from terzetto.testcluster import BlockingEnsemble

BOUND = 10.0


def owned(client: KazooClient, path: str = "/owned") -> Ownership:
    lock = client.Lock(path, "me")
    assert lock.acquire(timeout=BOUND)
    held = lock.ownership
    assert held is not None
    return held


def test_an_owner_is_told_nothing_while_it_owns(client: KazooClient) -> None:
    held = owned(client)
    assert (held.path, held.loss, held.is_lost) == ("/owned", None, False)
    assert held.znode.startswith("/owned/")
    assert held.wait_lost(timeout=0.01) is None
    held.check()
    held.assert_owned()
    assert f"token {held.fencing_token}" in repr(held)


def test_tokens_grow_with_each_owner(client: KazooClient) -> None:
    lock = client.Lock("/owned")
    tokens: list[int | None] = []
    for _ in range(3):
        with lock as held:
            assert held is not None
            assert held == lock.ownership
            assert hash(held) == hash(lock.ownership)
            tokens.append(held.fencing_token)
    assert None not in tokens
    assert tokens == sorted(set(tokens), key=str)
    assert client.ReadLock("/owned").acquire()


@pytest.mark.parametrize("how", ["deleted", "expired"])
def test_a_loss_is_told(client: KazooClient, connect: object, ensemble: BlockingEnsemble, how: str) -> None:
    held = owned(client)
    heard: list[str | None] = []
    listener = threading.Thread(target=lambda: heard.append(held.wait_lost(BOUND)), daemon=True)
    listener.start()
    if how == "deleted":
        client.delete(held.znode)
    else:
        assert client.client_id is not None
        ensemble.expire_session(client.client_id[0])
    listener.join(BOUND)
    assert heard == [held.loss]
    assert held.is_lost
    with pytest.raises(OwnershipLost):
        held.check()
    with pytest.raises(OwnershipLost):
        held.assert_owned()
    guarded = held.transaction()
    guarded.create("/written")
    with pytest.raises(OwnershipLost):
        guarded.commit()
    assert client.exists("/written") is None


def test_a_guarded_transaction_commits_while_owned(client: KazooClient) -> None:
    guarded = owned(client).transaction()
    guarded.create("/written", b"1")
    guarded.set_data("/written", b"2")
    results = guarded.commit()
    assert results[0] == "/written"
    assert client.get("/written")[0] == b"2"
    again = owned(client, "/other").transaction()
    again.create("/written")
    assert isinstance(again.commit()[0], NodeExistsError)


def test_a_stopped_client_owns_nothing(client: KazooClient) -> None:
    held = owned(client)
    client.stop()
    assert held.loss == "the client is stopped"
    assert held.wait_lost() == "the client is stopped"
