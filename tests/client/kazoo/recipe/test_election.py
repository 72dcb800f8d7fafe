"""kazoo's election: a function that runs while it leads."""

from __future__ import annotations

import threading

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import CancelledError

from ..conftest import Connect
from .test_lock import BOUND, Running, queued


def test_a_leader_runs_its_function(client: KazooClient) -> None:
    election = client.Election("/e", "me")

    def lead(value: int, *, plus: int) -> tuple[int, list[str], bool]:
        return value + plus, election.contenders(), election.lock.is_acquired

    assert election.run(lead, 1, plus=2) == (3, ["me"], True)
    assert election.contenders() == []
    with pytest.raises(ValueError, match="function"):
        election.run(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_what_the_function_raises_leaves_and_resigns(client: KazooClient) -> None:
    election = client.Election("/e")

    def fail() -> None:
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        election.run(fail)

    def cancelled() -> None:
        raise CancelledError("inside")

    election.run(cancelled)
    assert client.get_children("/e") == []


def test_one_leads_at_a_time_and_waits_can_be_cancelled(client: KazooClient, connect: Connect) -> None:
    leads, resign = threading.Event(), threading.Event()

    def lead() -> str:
        leads.set()
        assert resign.wait(BOUND)
        return "led"

    first = Running(lambda: client.Election("/e", "first").run(lead))
    assert leads.wait(BOUND)
    candidate = connect().Election("/e", "second")
    second = Running(lambda: candidate.run(lambda: "led too"))
    queued(client, "/e", 2)
    assert candidate.contenders() == ["first", "second"]
    candidate.cancel()
    assert second.outcome() is None
    third = Running(lambda: candidate.run(lambda: "led too"))
    resign.set()
    assert (first.outcome(), third.outcome()) == ("led", "led too")
    candidate.cancel()
    assert candidate.run(lambda: "led too") is None
