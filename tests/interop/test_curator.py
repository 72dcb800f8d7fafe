"""The driver of the Curator process: answers find their questions, and nothing waits for ever."""

from __future__ import annotations

import time

import pytest

from .curator import ANSWER_DEADLINE, CuratorError, CuratorPeer
from .zookeeper import RealZooKeeper

pytestmark = pytest.mark.slow


@pytest.fixture
def peer(curator_installed: None, zookeeper: RealZooKeeper) -> CuratorPeer:
    return CuratorPeer(zookeeper.hosts, session_timeout=5.0)


def test_commands_to_several_subjects_overlap_and_those_to_one_are_answered_in_order(peer: CuratorPeer) -> None:
    with peer:
        for name in ("a", "b"):
            assert peer.ask(f"{name} new mutex /driver") == "ok"
        assert peer.ask("a acquire 5000") == "true"
        waiting, then = peer.send("b acquire 20000"), peer.send("b held")
        assert peer.ask("a held") == "true"
        assert peer.ask("a release") == "ok"
        assert waiting.wait() == "true"
        assert then.wait() == "true"
        assert peer.ask("b release") == "ok"
        peer.ask("- delete-tree /driver")


def test_what_goes_wrong_is_raised(peer: CuratorPeer) -> None:
    with peer:
        with pytest.raises(CuratorError, match=r"^NONODE$"):
            peer.ask("- get /driver/none")
        for line in ("- nonsense", "x nonsense", "x new nonsense", "- get"):
            with pytest.raises(CuratorError, match="IllegalArgumentException"):
                peer.ask(line)
        assert peer.ask("- create EPHEMERAL /driver-data ü\\n") == "/driver-data"
        assert peer.ask("- data /driver-data") == "ü\\n"


def test_a_wait_ends(peer: CuratorPeer) -> None:
    with peer:
        for name in ("a", "b"):
            peer.ask(f"{name} new mutex /driver")
        peer.ask("a acquire 5000")
        with pytest.raises(TimeoutError, match="waited"):
            peer.ask("b acquire 60000", timeout=0.1)
        waiting = peer.send("b acquire 60000")
        peer.kill()
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="has ended"):
            waiting.wait()
        assert time.monotonic() - began < ANSWER_DEADLINE / 2
