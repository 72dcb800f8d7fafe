"""Services that register and find each other."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ZooKeeper
from terzetto.recipes import (
    RandomChoice,
    RoundRobinChoice,
    ServiceInstance,
    ServiceProvider,
    ServiceRegistry,
    ServiceType,
    StickyChoice,
    WeightedChoice,
)
from terzetto.recipes._service_json import decode, encode
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until

from .losing import losses
from .walking import tree, walk


def instance(id_: str, **options: Any) -> ServiceInstance:
    return ServiceInstance("web", id_, "10.0.0.1", 80, registration_time_utc=1, **options)


def put(ensemble: MemoryEnsemble, *instances: ServiceInstance) -> None:
    for path in ("/services", "/services/web"):
        if path not in ensemble.realm.znodes:
            ensemble.realm.create(path)
    for one in instances:
        path = f"/services/web/{one.id}"
        if path in ensemble.realm.znodes:
            ensemble.realm.set(path, encode(one))
        else:
            ensemble.realm.create(path, encode(one))


def ids(instances: list[ServiceInstance]) -> list[str]:
    return [one.id for one in instances]


# Registering ----------------------------------------------------------------------------------------------------------


async def test_a_registration_is_a_scope(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        registry = ServiceRegistry(zk)
        assert await registry.names() == []
        assert await registry.instances("web") == []
        async with registry.register(instance("a")) as registration:
            assert registration.is_present
            assert ensemble.realm.stat("/services/web/a").ephemeralOwner == zk.session_id
            assert await registry.names() == ["web"]
            assert await registry.instances("web") == [instance("a")]
            assert await registry.instance("web", "a") == instance("a")
            changed = replace(instance("a"), enabled=False, payload="new")
            await registration.update(changed)
            assert await registry.instance("web", "a") == registration.instance == changed
        assert tree(ensemble) == {"/services", "/services/web"}
        assert await registry.instance("web", "a") is None


async def test_after_a_lost_session_it_is_registered_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ServiceRegistry(zk, "/s").register(instance("a")) as registration:
        await registration.update(replace(instance("a"), payload="new"))
        ensemble.expire(zk.session_id)
        await until(lambda: "/s/web/a" in ensemble.realm.znodes)
        assert decode(ensemble.realm.get("/s/web/a").data).payload == "new"


@pytest.mark.parametrize("kind", [ServiceType.STATIC, ServiceType.PERMANENT])
async def test_persistent_instances(ensemble: MemoryEnsemble, autojump_clock: MockClock, kind: ServiceType) -> None:
    async with ensemble.open() as zk:
        async with ServiceRegistry(zk).register(instance("a", service_type=kind)):
            assert ensemble.realm.stat("/services/web/a").ephemeralOwner == 0
        assert "/services/web/a" not in ensemble.realm.znodes


async def test_names_that_no_znode_can_have(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        registry = ServiceRegistry(zk)
        for name in ("", "a/b", ".", ".."):
            with pytest.raises(ValueError, match="name"):
                registry.register(instance(name))
            with pytest.raises(ValueError, match="name"):
                registry.provider(name)
        with pytest.raises(ValueError, match="SEQUENTIAL"):
            registry.register(instance("a", service_type=ServiceType.DYNAMIC_SEQUENTIAL))
        with pytest.raises(ValueError, match="become"):
            await registry.register(instance("a")).update(instance("b"))
        with pytest.raises(ValueError, match="down_after"):
            registry.provider("web", down_after=0)


# Providing ------------------------------------------------------------------------------------------------------------


async def test_a_provider_follows(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ServiceRegistry(zk).provider("web") as provider:
        assert provider.choose() is None
        changes = provider.changes()
        assert await anext(changes) == []
        put(ensemble, instance("b"), instance("a"))
        while len(seen := await anext(changes)) < 2:
            pass
        assert seen == [instance("a"), instance("b")]
        put(ensemble, instance("a", payload="new"))
        assert (await anext(changes))[0].payload == "new"
        ensemble.realm.delete("/services/web/a")
        assert ids(await anext(changes)) == ["b"]
        assert provider.choose() == instance("b")


async def test_waiting_for_an_instance(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ServiceRegistry(zk).provider("web") as provider, trio.open_nursery() as nursery:

        async def come() -> None:
            await pass_time(5)
            put(ensemble, instance("a"))

        nursery.start_soon(come)
        assert (await provider.wait_instance()).id == "a"
        assert (await provider.wait_instance()).id == "a"


async def test_curator_12_one_that_cannot_be_read_hides_no_other(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """In Curator an empty znode fails the whole query."""
    put(ensemble, instance("a"))
    ensemble.realm.create("/services/web/empty")
    async with ensemble.open() as zk:
        registry = ServiceRegistry(zk)
        assert ids(await registry.instances("web")) == ["a"]
        async with registry.provider("web") as provider:
            assert ids(provider.instances()) == ["a"]
            assert set(provider.unreadable) == {"empty"}
            ensemble.realm.set("/services/web/empty", encode(instance("empty")))
            await settle()
            assert ids(provider.instances()) == ["a", "empty"]
            assert provider.unreadable == {}


async def test_filters(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    put(
        ensemble,
        instance("a", payload={"zone": "x", "version": 1}),
        instance("b", payload={"zone": "x", "version": 2}),
        instance("c", payload={"zone": "y", "version": 2}),
        instance("d", payload="text"),
        instance("e", payload={"zone": "x", "version": 2}, enabled=False),
    )
    async with ensemble.open() as zk:
        registry = ServiceRegistry(zk)
        async with (
            registry.provider("web", metadata={"zone": "x"}) as zone,
            registry.provider("web", filters=[lambda one: one.metadata.get("version") == 2]) as version,
        ):
            assert ids(zone.instances()) == ["a", "b"]
            assert ids(version.instances()) == ["b", "c"]
            assert ids(zone.all_instances()) == ["a", "b", "c", "d", "e"]


async def test_without_a_connection_it_answers_and_says_how_old_that_is(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    put(ensemble, instance("a"))
    async with ensemble.open() as zk:
        provider = ServiceProvider(zk, "/services", "web")
        assert provider.age == float("inf")
        async with provider:
            assert provider.age == 0.0
            ensemble.shut(Door.REFUSES)
            ensemble.cut()
            await until(lambda: not zk.connected)
            await pass_time(20)
            assert provider.choose() == instance("a")
            assert provider.age == pytest.approx(20, abs=0.1)
            ensemble.realm.delete("/services/web/a")
            ensemble.shut(Door.OPEN)
            await until(lambda: provider.age == 0.0)
            assert provider.choose() is None


async def test_errors_take_an_instance_out_for_a_while(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    put(ensemble, instance("a"), instance("b"))
    async with ensemble.open() as zk, ServiceRegistry(zk).provider("web", down_after=2, down_for=30) as provider:
        changes = provider.changes()
        await anext(changes)
        provider.note_error(instance("a"))
        assert ids(await anext(changes)) == ["a", "b"]
        await pass_time(10)
        provider.note_error(instance("a"))
        assert ids(await anext(changes)) == ["b"]
        out_since = trio.current_time()
        while ids(await anext(changes)) != ["a", "b"]:
            pass
        assert trio.current_time() - out_since == pytest.approx(20, abs=0.1)
        # The count began anew.
        provider.note_error(instance("a"))
        assert ids(provider.instances()) == ["a", "b"]
        await pass_time(31)
        provider.note_error(instance("a"))
        assert ids(provider.instances()) == ["a", "b"]


async def test_a_new_registration_clears_the_errors(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    put(ensemble, instance("a"))
    async with ensemble.open() as zk, ServiceRegistry(zk).provider("web", down_after=1) as provider:
        provider.note_error(instance("a"))
        assert provider.choose() is None
        put(ensemble, replace(instance("a"), registration_time_utc=2))
        await settle()
        assert provider.choose() is not None


# Choosing -------------------------------------------------------------------------------------------------------------

THREE = [instance("a"), instance("b", payload={"weight": 3}), instance("c", payload={"weight": 0})]


def test_round_robin() -> None:
    choice = RoundRobinChoice()
    assert [choice.choose(THREE).id for _ in range(5)] == ["a", "b", "c", "a", "b"]


def test_random() -> None:
    choice = RandomChoice(random.Random(1))
    assert set(ids([choice.choose(THREE) for _ in range(50)])) == {"a", "b", "c"}


def test_sticky() -> None:
    choice = StickyChoice(RoundRobinChoice())
    assert [choice.choose(THREE).id for _ in range(3)] == ["a"] * 3
    newer = instance("a", payload="new")
    assert choice.choose([newer]) is newer
    assert choice.choose(THREE[1:]).id == "c"
    assert choice.choose(THREE).id == "c"
    assert StickyChoice().choose(THREE) in THREE


def test_weighted() -> None:
    choice = WeightedChoice(rng=random.Random(1))
    drawn = Counter(choice.choose(THREE).id for _ in range(4000))
    assert drawn["c"] == 0
    assert drawn["b"] / drawn["a"] == pytest.approx(3, rel=0.2)
    assert choice.choose(THREE[2:]).id == "c"
    by_port = WeightedChoice(lambda one: -1.0 if one.id == "a" else 1.0, random.Random(1))
    assert {by_port.choose(THREE).id for _ in range(50)} == {"b", "c"}
    assert choice.choose([instance("x", payload={"weight": "heavy"})]).id == "x"


# Interruptions --------------------------------------------------------------------------------------------------------


async def _use(zk: ZooKeeper) -> None:
    registry = ServiceRegistry(zk)
    async with registry.register(instance("a")), registry.provider("web") as provider:
        await provider.wait_instance()


async def test_cancelled_anywhere_nothing_stays(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    assert await walk(ensemble, _use, leaves={"/services", "/services/web"}) > 5


async def test_whatever_is_lost_it_is_found(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        async with ensemble.open() as zk:
            registry = ServiceRegistry(zk)
            async with registry.provider("web") as provider:
                async with registry.register(instance("a")):
                    assert (await provider.wait_instance()).id == "a", loss
                await until(lambda provider=provider: not provider.all_instances())  # type: ignore[misc]
        assert tree(ensemble) == {"/services", "/services/web"}, loss


def test_weights_that_others_made_up_do_no_harm() -> None:
    weights = [float("inf"), 1, 10**400, float("nan"), 1e308, -1, "heavy"]
    instances = [instance(str(number), payload={"weight": weight}) for number, weight in enumerate(weights)]
    chosen = {WeightedChoice(rng=random.Random(seed)).choose(instances).id for seed in range(100)}
    assert chosen == {"0", "2", "4"}, "by far the heaviest"


async def test_errors_take_out_one_of_those_that_do_not_say_who_they_are(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    put(ensemble)
    for name in "ab":
        ensemble.realm.create(f"/services/web/{name}", b'{"name":"web","address":"%s"}' % name.encode())
    async with ensemble.open() as zk, ServiceRegistry(zk).provider("web", down_after=1) as provider:
        bad = provider.choose()
        assert bad is not None
        provider.note_error(bad)
        assert [left.address for left in provider.instances()] == [{"a": "b", "b": "a"}[bad.address or ""]]


async def test_what_waits_for_a_provider_ends_with_its_block(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    seen: list[list[str]] = []

    async def consume(provider: ServiceProvider) -> None:
        seen.extend([ids(instances) async for instances in provider.changes()])

    async def wait(provider: ServiceProvider) -> None:
        with pytest.raises(RuntimeError, match=r"'web'.*block has ended"):
            await provider.wait_instance()

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        async with ServiceRegistry(zk).provider("web") as provider:
            nursery.start_soon(consume, provider)
            nursery.start_soon(wait, provider)
            await settle()
    assert seen == [[]]


async def test_an_update_that_cannot_be_written_changes_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, ServiceRegistry(zk).register(instance("a")) as registration:
        with pytest.raises(TypeError, match="port of the instance 'a' must be an int or None, not '80'"):
            await registration.update(replace(instance("a"), port="80"))  # type: ignore[arg-type]
        assert registration.instance == instance("a")


async def test_names_are_texts(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(TypeError, match="the name of a service must be a str, not 5"):
            await ServiceRegistry(zk).instances(5)  # type: ignore[arg-type]


async def test_what_a_process_left_behind_is_taken_over_also_where_it_was_of_another_type(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    put(ensemble, instance("a", service_type=ServiceType.STATIC))
    async with ensemble.open() as zk:
        async with ServiceRegistry(zk).register(instance("a")):
            assert ensemble.realm.stat("/services/web/a").ephemeralOwner == zk.session_id
            assert await ServiceRegistry(zk).instances("web") == [instance("a")]
        assert await ServiceRegistry(zk).instances("web") == []
