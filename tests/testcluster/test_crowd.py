"""Many idle sessions and many watches on one server, for a moment; `make soak` has ten times as many, for longer."""

from __future__ import annotations

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster import start_ensemble

from .crowd import Crowd
from .test_epoll_port import Wire

SESSIONS = 200
WATCHES_EACH = 50
TIMEOUT = 6.0
SILENT = 20


@pytest.mark.slow
def test_idle_sessions_live_their_watches_fire_and_only_silent_ones_expire() -> None:
    with start_ensemble(tick_time=0.2) as ensemble:
        crowd = Crowd(int(ensemble.hosts.rpartition(":")[2]), SESSIONS, TIMEOUT)
        try:
            assert len({idler.session_id for idler in crowd.idlers}) == SESSIONS
            crowd.watch([[f"/{number}-{each}" for each in range(WATCHES_EACH)] for number in range(SESSIONS)])
            crowd.run(2 * TIMEOUT / 3)
            assert len(crowd.latencies) >= SESSIONS
            with Wire(ensemble) as wire:
                wire.handshake()
                for number in range(SESSIONS):
                    wire.ask(o.CREATE, f"/{number}-0", b"", OPEN_ACL_UNSAFE, 0)
            crowd.run(30.0, until=lambda: all(idler.events for idler in crowd.idlers))
            assert [idler.events for idler in crowd.idlers] == [[f"/{number}-0"] for number in range(SESSIONS)]
            crowd.silent.update(crowd.idlers[:SILENT])
            crowd.run(10 * TIMEOUT, until=lambda: all(idler.gone for idler in crowd.silent))
            assert [idler for idler in crowd.idlers if idler.gone] == crowd.idlers[:SILENT]
        finally:
            crowd.close()
