"""The clock, chance and trace of a run."""

from __future__ import annotations

from .world import SECOND, World


def run_all(world: World, until: int = SECOND) -> int:
    return sum(1 for _ in world.run(until))


def test_events_happen_in_time_and_those_of_one_time_in_the_order_in_which_they_were_planned() -> None:
    world = World(1)
    seen: list[tuple[int, str]] = []

    def note(name: str) -> None:
        seen.append((world.now, name))

    for name, delay in (("late", 30), ("first", 10), ("second", 10)):
        world.after(delay, note, name)
    assert run_all(world) == 3
    assert seen == [(10, "first"), (10, "second"), (30, "late")]
    assert world.now == SECOND


def test_what_is_planned_for_later_stays_planned() -> None:
    world = World(1)
    seen: list[int] = []
    world.after(2 * SECOND, lambda: seen.append(world.now))
    run_all(world)
    assert not seen
    run_all(world, 3 * SECOND)
    assert seen == [2 * SECOND]


def test_each_concern_has_chance_of_its_own() -> None:
    one, other = World(5), World(5)
    one.chance("network").random()
    assert one.chance("faults").random() == other.chance("faults").random()
    assert World(6).chance("faults").random() != World(5).chance("faults").random()


def test_the_fingerprint_is_that_of_the_trace() -> None:
    one, other = World(1), World(1)
    for world in (one, other):
        world.note("boot", 1, 0x1_0000_0001, "x")
    assert list(one.trace()) == ["  0.000000 boot       1 0x100000001 x"]
    assert one.fingerprint() == other.fingerprint()
    other.note("boot", 2)
    assert one.fingerprint() != other.fingerprint()
