"""What the roles of one peer share."""

from __future__ import annotations

import pytest

from terzetto.testcluster.local import Local, PeerSettings
from terzetto.testcluster.ready import AppendTxns, WriteAcceptedEpoch, WriteCurrentEpoch

from .bench import Disk, config, entry, txn, zxid


def local(accepted: int = 1, current: int = 1) -> Local:
    return Local(
        1,
        config(),
        PeerSettings(tick_ms=100, init_limit=10, sync_limit=5),
        history=Disk([zxid(1, 1)]).history(),
        accepted_epoch=accepted,
        current_epoch=current,
        touches=bytes,
    )


def test_patience_is_counted_in_ticks() -> None:
    settings = PeerSettings(tick_ms=100, init_limit=10, sync_limit=5)
    assert (settings.init_ms, settings.sync_ms) == (1000, 500)


def test_epochs_go_up_and_the_promise_first() -> None:
    """I2."""
    server = local()
    with pytest.raises(AssertionError):
        server.accept_epoch(1)
    with pytest.raises(AssertionError):
        server.enter_epoch(2)
    server.accept_epoch(3)
    server.enter_epoch(2)
    server.enter_epoch(2)
    with pytest.raises(AssertionError):
        server.enter_epoch(1)
    ready = server.outbox.take()
    assert ready is not None
    assert ready.writes == [WriteAcceptedEpoch(3), WriteCurrentEpoch(2)]


def test_what_is_logged_is_durable_once_the_disk_says_so() -> None:
    server = local()
    server.log([entry(zxid(1, 2)), entry(zxid(1, 3))])
    ready = server.outbox.take()
    assert ready is not None
    assert ready.writes == [AppendTxns([entry(zxid(1, 2)), entry(zxid(1, 3))])]
    assert (server.history.last_logged, server.history.last_durable) == (zxid(1, 3), zxid(1, 1))
    server.outbox.end_role()
    server.outbox.durable(ready.number)
    assert server.history.last_durable == zxid(1, 3)


def test_what_is_committed_is_applied_once() -> None:
    server = local()
    server.log([entry(zxid(1, 2)), entry(zxid(1, 3))])
    server.commit(zxid(1, 2))
    server.commit(zxid(1, 2))
    ready = server.outbox.take()
    assert ready is not None
    assert ready.applies == [txn(zxid(1, 2))]


def test_an_observer_has_no_vote() -> None:
    assert local().is_voter
    observer = Local(
        4,
        config(3, 1),
        PeerSettings(),
        history=Disk().history(),
        accepted_epoch=0,
        current_epoch=0,
        touches=bytes,
    )
    assert not observer.is_voter
