"""Settings: the session timeout that a client gets."""

from __future__ import annotations

import pytest

from terzetto.testcluster.settings import ServerSettings


@pytest.mark.parametrize(
    ("wanted", "given"),
    [(0, 4000), (-5, 4000), (3999, 4000), (4000, 4000), (10_001, 10_001), (40_001, 40_000), (2**31 - 1, 40_000)],
)
def test_a_timeout_is_two_to_twenty_ticks(wanted: int, given: int) -> None:
    assert ServerSettings(tick_ms=2000).negotiated_timeout(wanted) == given


def test_the_bounds_can_be_set() -> None:
    settings = ServerSettings(tick_ms=2000, min_session_timeout_ms=100, max_session_timeout_ms=90_000)
    assert [settings.negotiated_timeout(wanted) for wanted in (1, 500, 10**6)] == [100, 500, 90_000]


def test_the_defaults_are_those_of_zookeeper() -> None:
    settings = ServerSettings()
    assert (settings.tick_ms, settings.max_frame, settings.server_id) == (3000, 1_048_575, 1)
    assert {settings.extended_types, settings.enforce_quota, settings.reconfig_enabled, settings.skip_acl} == {False}
    assert settings.session_secret is None
