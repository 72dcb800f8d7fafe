"""The commit rule, and rounds of PINGs, against plain sets."""

from __future__ import annotations

from hypothesis import given, strategies as st

from terzetto.testcluster.proposals import Proposals, Rounds

from .bench import config, entry, zxid

E = zxid(2, 0)


def proposed(count: int, voters: int = 5) -> Proposals:
    proposals = Proposals(config(voters), E)
    for counter in range(1, count + 1):
        proposals.add(entry(E + counter))
    return proposals


def committed(proposals: Proposals) -> list[int]:
    return [each.zxid - E for each in proposals.take_committed()]


def test_a_quorum_commits_in_order() -> None:
    proposals = proposed(3)
    for sid in (1, 2, 3):
        proposals.acknowledge(sid, E + 2)
    assert committed(proposals) == []
    for sid in (1, 2, 3):
        proposals.acknowledge(sid, E + 1)
    assert committed(proposals) == [1, 2]
    assert (proposals.last_committed, proposals.last_proposed) == (E + 2, E + 3)
    assert [each.zxid for each in proposals] == [E + 3]
    assert len(proposals) == 1


def test_nobody_counts_twice_and_observers_never() -> None:
    proposals = Proposals(config(3, 2), E)
    proposals.add(entry(E + 1))
    for sid in (1, 1, 4, 5, 99):
        proposals.acknowledge(sid, E + 1)
    assert committed(proposals) == []
    proposals.acknowledge(2, E + 1)
    assert committed(proposals) == [1]


def test_acks_of_other_things_are_ignored() -> None:
    proposals = proposed(1)
    for number in (0, -1, E, E + 2, zxid(1, 1), zxid(3, 1)):
        for sid in (1, 2, 3):
            proposals.acknowledge(sid, number)
    assert committed(proposals) == []


def test_who_comes_back_has_what_it_says_and_no_more() -> None:
    proposals = proposed(3, voters=3)
    for number in (1, 2, 3):
        proposals.acknowledge(2, E + number)
    proposals.resume(2, E + 1)
    for number in (1, 2, 3):
        proposals.acknowledge(1, E + number)
    assert committed(proposals) == [1]
    proposals.resume(3, E + 3)
    proposals.resume(99, E + 3)
    assert committed(proposals) == [2, 3]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 7))), st.integers(1, 6))
def test_what_is_committed_is_the_longest_prefix_with_quorums(acks: list[tuple[int, int]], count: int) -> None:
    proposals = proposed(count)
    for sid, counter in acks:
        proposals.acknowledge(sid, E + counter)
    expected: list[int] = []
    for counter in range(1, count + 1):
        if len({sid for sid, acked in acks if acked == counter and sid <= 5}) < 3:
            break
        expected.append(counter)
    assert committed(proposals) == expected


def test_a_round_is_confirmed_by_a_quorum_of_its_own_answers() -> None:
    rounds = Rounds(1, config(3, 1))
    assert rounds.take_confirmed() is None
    assert rounds.want() == (1, True)
    rounds.begin()
    rounds.echoed(2, 0)
    rounds.echoed(4, 1)
    rounds.echoed(2, 2)
    assert rounds.take_confirmed() is None
    rounds.echoed(3, 1)
    assert rounds.take_confirmed() == 1
    assert rounds.take_confirmed() is None


def test_who_wants_the_proof_during_a_round_gets_the_next() -> None:
    rounds = Rounds(1, config(3))
    rounds.want()
    rounds.begin()
    assert rounds.want() == (2, False)
    assert rounds.want() == (2, False)
    rounds.echoed(2, 1)
    assert rounds.take_confirmed() == 1
    assert rounds.is_wanted
    rounds.begin()
    rounds.echoed(3, 1)
    assert rounds.take_confirmed() is None
    rounds.echoed(3, 2)
    assert rounds.take_confirmed() == 2
