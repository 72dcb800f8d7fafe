"""The values between session and shell: frozen, equal by content, and silent about secrets."""

from __future__ import annotations

import dataclasses

import pytest

from terzetto.client import ConnectionLoss, WatchedEvent
from terzetto.client._effects import Deliver, DropLink, SessionConfig, StateChanged


def test_the_configuration_shows_no_secret() -> None:
    config = SessionConfig(client_id=(5, b"the-password-of-"), auth=(("digest", b"alice:the-secret"),))
    assert "the-password-of-" not in repr(config)
    assert "the-secret" not in repr(config)
    assert "session_timeout=10.0" in repr(config)


@pytest.mark.parametrize(
    ("effect", "field"),
    [
        (StateChanged("CONNECTED", "CONNECTED_RO"), "state"),
        (DropLink(ConnectionLoss()), "error"),
        (Deliver(WatchedEvent("CREATED", "CONNECTED", "/a"), {}), "event"),
        (SessionConfig(), "auth"),
    ],
)
def test_effects_do_not_change(effect: object, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(effect, field, None)


def test_effects_are_compared_and_shown_by_content() -> None:
    assert StateChanged("LOST", "CLOSED") == StateChanged("LOST", "CLOSED")
    assert repr(StateChanged("LOST", "CLOSED")) == "StateChanged(state='LOST', keeper_state='CLOSED')"
