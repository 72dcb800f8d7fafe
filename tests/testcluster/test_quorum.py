"""Quorums of majorities and of groups, and the text of a configuration."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from hypothesis import given, strategies as st

from terzetto.testcluster.membership import Member, parse_member
from terzetto.testcluster.quorum import QuorumConfig, parse_config

EXAMPLE = """\
server.1=127.0.0.1:24911:25011:participant
server.2=127.0.0.1:24912:25012:participant
server.3=127.0.0.1:24913:25013:participant
server.4=127.0.0.1:24914:25014:observer
version=0"""


def ensemble(voters: int, observers: int = 0, **more: object) -> QuorumConfig:
    members = {
        sid: Member(sid, ((f"10.0.0.{sid}", 2888, 3888),), observer=sid > voters)
        for sid in range(1, voters + observers + 1)
    }
    return QuorumConfig(members, **more)  # type: ignore[arg-type]


def subsets(sids: frozenset[int]) -> list[set[int]]:
    return [set(some) for some in chain(*(combinations(sids, size) for size in range(len(sids) + 1)))]


@pytest.mark.parametrize("voters", range(1, 7))
def test_a_quorum_is_more_than_half_of_the_voters(voters: int) -> None:
    config = ensemble(voters, observers=2)
    for some in subsets(frozenset(config.members)):
        assert config.has_quorum(some) == (2 * len(some & set(range(1, voters + 1))) > voters)


def test_strangers_and_observers_do_not_count() -> None:
    config = ensemble(3, observers=2)
    assert config.voters == {1, 2, 3}
    assert config.observers == {4, 5}
    assert not config.is_voter(4)
    assert not config.has_quorum({1, 4, 5, 77, -1})
    assert config.has_quorum([1, 1, 2])
    assert not config.has_quorum([1, 1, 1])


GROUPS = {1: (1, 2, 3), 2: (4, 5, 6), 3: (7, 8, 9)}


def test_a_quorum_of_groups_needs_most_groups_and_most_weight_in_each() -> None:
    config = ensemble(9, groups=GROUPS)
    assert config.has_quorum({1, 2, 4, 5})
    assert not config.has_quorum({1, 2, 3, 4, 7})
    assert not config.has_quorum({1, 2, 3})
    heavy = ensemble(9, groups=GROUPS, weights={1: 3})
    assert heavy.has_quorum({1, 4, 5})
    assert not heavy.has_quorum({2, 3, 4, 5})


def test_a_group_without_weight_does_not_count() -> None:
    config = ensemble(9, groups=GROUPS, weights={7: 0, 8: 0, 9: 0})
    assert config.has_quorum({1, 2, 4, 5})
    assert not config.has_quorum({1, 2, 7, 8, 9})
    assert config.weight(7) == 0
    assert config.weight(1) == 1


def test_an_observer_in_a_group_adds_no_weight() -> None:
    config = ensemble(3, observers=2, groups={1: (1, 2, 3, 4, 5)})
    assert config.has_quorum({1, 2})
    assert not config.has_quorum({1, 4, 5})


def test_weights_without_groups_mean_nothing() -> None:
    config = ensemble(3, weights={1: 0})
    assert config.weight(1) == 1
    assert config.has_quorum({1, 2})


@given(st.integers(1, 6), st.data())
def test_any_two_quorums_meet(voters: int, data: st.DataObject) -> None:
    sids = list(range(1, voters + 1))
    group_of = {sid: data.draw(st.integers(0, 2)) for sid in sids}
    groups = {group: tuple(sid for sid in sids if group_of[sid] == group) for group in set(group_of.values())}
    weights = {sid: data.draw(st.integers(0, 3)) for sid in sids}
    if not any(weights.values()):
        weights[1] = 1
    config = ensemble(voters, groups=groups, weights=weights)
    quorums = [some for some in subsets(config.voters) if config.has_quorum(some)]
    assert quorums
    assert all(one & other for one in quorums for other in quorums)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"groups": {1: (1, 2), 2: (2, 3)}}, "two groups"),
        ({"groups": {1: (1, 2)}}, "belong to no group"),
        ({"groups": {1: (1, 2, 3)}, "weights": {1: -1}}, "negative"),
        ({"groups": {1: (1, 2, 3)}, "weights": {1: 0, 2: 0, 3: 0}}, "no group has any weight"),
    ],
)
def test_groups_that_make_no_quorum_are_refused(more: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ensemble(3, 0, **more)


def test_somebody_must_vote() -> None:
    with pytest.raises(ValueError, match="votes"):
        ensemble(0, observers=2)


def test_the_text_is_zookeepers() -> None:
    config = parse_config(EXAMPLE)
    assert config.text() == EXAMPLE
    assert config.voters == {1, 2, 3}
    assert config.members[4] == parse_member(4, "127.0.0.1:24914:25014:observer")


def test_the_text_names_groups_client_ports_and_the_version() -> None:
    member = parse_member(1, "[::1]:1:2|b:3:4:participant;[::1]:2181")
    config = QuorumConfig({1: member}, 0x100000000, {1: (1,)}, {1: 2})
    lines = ["server.1=[::1]:1:2|b:3:4:participant;[::1]:2181", "group.1=1", "weight.1=2", "version=100000000"]
    assert config.text() == "\n".join(lines)
    assert parse_config(config.text()) == config


@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 2**63 - 1), st.booleans())
def test_a_configuration_survives_a_round_trip(voters: int, observers: int, version: int, grouped: bool) -> None:
    groups = {7: tuple(range(1, voters + 1))} if grouped else {}
    weights = dict.fromkeys(range(1, voters + 1), 2) if grouped else {}
    config = ensemble(voters, observers, version=version, groups=groups, weights=weights)
    assert parse_config(config.text()) == config


def test_comments_blanks_and_unknown_keys_are_left_out() -> None:
    text = "# a comment\n! another\n\n  server.1 = h:1:2 \nserver.x.y=3\nfoo=bar\n" + "dynamic: thing\n"
    with pytest.raises(ValueError, match="no number"):
        parse_config(text)
    config = parse_config(text.replace("server.x.y=3\n", ""))
    assert set(config.members) == {1}
    assert config.version == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version=0",
        "server.1",
        "server.=h:1:2",
        "server.-1=h:1:2",
        "server.\u0663=h:1:2",
        "server.1=h:1:2\nversion=",
        "server.1=h:1:2\nversion=0x1",
        "server.1=h:1:2\nversion=10000000000000000",
        "server.1=h:1:2\nversion=8000000000000000",
        "server.1=h:1:2\nversion=-1",
        "server.1=h:1:2\ngroup.1=1:x",
        "server.1=h:1:2\ngroup.1=1\nweight.1=-2",
        "server.1=h:1:2\ngroup.1=1\nweight.1=" + "9" * 5000,
        "server.1=h:1",
        "server.1=h:1:2:observer",
    ],
)
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_config(text)


@given(st.text(max_size=40))
def test_any_text_is_a_configuration_or_a_value_error(text: str) -> None:
    for candidate in (text, "server.1=" + text, "server.1=h:1:2\n" + text):
        try:
            parse_config(candidate)
        except ValueError:
            pass
