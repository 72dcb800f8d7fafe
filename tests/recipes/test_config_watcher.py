"""Configuration that is followed while it changes."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, NoAuthError, NoNodeError, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import ConfigParseError, ConfigTreeWatcher, ConfigWatcher
from tests.client.deposed import DeposedLeader
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Code, Fault, Received

from .losing import losses
from .truth import now
from .walking import tree, walk


class BodyError(Exception):
    pass


def serialize(value: int) -> bytes:
    return str(value).encode()


# One znode ------------------------------------------------------------------------------------------------------------


async def test_the_value_at_once_and_its_changes(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/c", b'{"a": 1}')
    async with ensemble.open() as zk:
        watcher: ConfigWatcher[Any] = ConfigWatcher(zk, "/c", json.loads)
        with pytest.raises(RuntimeError, match="block"):
            assert watcher.value
        async with watcher as config:
            assert config.value == {"a": 1}
            assert config.age == 0.0
            assert not config.is_missing
            changes = aiter(config)
            assert await anext(changes) == {"a": 1}
            ensemble.realm.set("/c", b'{ "a" : 1 }')  # says the same
            ensemble.realm.set("/c", b'{"a": 2}')
            assert await anext(changes) == {"a": 2}
            assert config.value == {"a": 2}


async def test_what_cannot_be_parsed_changes_nothing_and_is_told(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/c", b"1")
    errors: list[ConfigParseError] = []
    async with ensemble.open() as zk, ConfigWatcher(zk, "/c", int, on_error=errors.append) as config:
        assert config.error is None
        ensemble.realm.set("/c", b"one")
        await settle()
        assert config.value == 1
        assert [error.path for error in errors] == ["/c"]
        assert now(config.error is errors[0])
        assert isinstance(errors[0].__cause__, ValueError)
        assert errors[0].version == 1
        ensemble.realm.set("/c", b"2")
        await settle()
        assert (config.value, config.error) == (2, None)
        assert len(errors) == 1


async def test_a_first_value_is_needed_or_a_default(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(NoNodeError):
            async with ConfigWatcher(zk, "/c", int):
                pass
        async with ConfigWatcher(zk, "/c", int, default=7) as config:
            assert config.value == 7
            assert config.is_missing
            ensemble.realm.create("/c", b"one")
            await settle()
            assert config.value == 7
            assert config.error is not None
            ensemble.realm.set("/c", b"1")
            await settle()
            assert config.value == 1
            ensemble.realm.delete("/c")
            await settle()
            assert config.value == 7
        ensemble.realm.create("/c", b"one")
        with pytest.raises(ConfigParseError, match="version 0 of /c"):
            async with ConfigWatcher(zk, "/c", int):
                pass
        async with ConfigWatcher(zk, "/c", int, default=7) as config:
            assert config.value == 7


async def test_deleted_without_a_default_the_last_value_stays(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/c", b"1")
    async with ensemble.open() as zk, ConfigWatcher(zk, "/c", int) as config:
        ensemble.realm.delete("/c")
        await settle()
        assert config.value == 1
        assert config.is_missing
        ensemble.realm.create("/c", b"2")
        await settle()
        assert config.value == 2


async def test_functions_are_called(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/c", b"1")
    seen: list[int] = []

    async def changed(value: int) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(value)
        if value == 3:
            raise BodyError

    async with ensemble.open() as zk:
        with pytest.raises(BodyError):
            async with ConfigWatcher(zk, "/c", int, changed):
                assert seen == [1]
                ensemble.realm.set("/c", b"2")
                await until(lambda: seen == [1, 2])
                ensemble.realm.set("/c", b"3")
                await trio.sleep_forever()


async def test_it_survives_what_a_connection_can_suffer(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/c", b"0")
    async with ensemble.open() as zk, ConfigWatcher(zk, "/c", int) as config:
        for number in (1, 2):
            ensemble.shut(Door.REFUSES)
            if number == 2:
                ensemble.expire(zk.session_id)
            ensemble.cut()
            await pass_time(3)
            assert config.value == number - 1
            assert config.age > 2
            ensemble.realm.set("/c", str(number).encode())
            ensemble.shut(Door.OPEN)
            await until(lambda number=number: config.value == number)  # type: ignore[misc]
            assert config.age == 0.0


# Updates --------------------------------------------------------------------------------------------------------------


async def test_updates_lose_nobodys_change(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/c", b"0")
    async with ensemble.open() as one, ensemble.open() as other:
        async with (
            ConfigWatcher(one, "/c", int, serialize=serialize) as first,
            ConfigWatcher(other, "/c", int, serialize=serialize) as second,
            trio.open_nursery() as nursery,
        ):

            async def count(config: ConfigWatcher[int]) -> None:
                for _ in range(10):
                    await config.update(lambda value: value + 1)

            nursery.start_soon(count, first)
            nursery.start_soon(count, second)
        assert ensemble.realm.get("/c").data == b"20"


async def test_updates_that_cannot_be(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/c", b"1")
    async with ensemble.open() as zk:
        async with ConfigWatcher(zk, "/c", int) as plain:
            with pytest.raises(ValueError, match="serialize"):
                await plain.update(lambda value: value)
        async with ConfigWatcher(zk, "/c", int, serialize=serialize) as config:
            ensemble.realm.set("/c", b"one")
            with pytest.raises(ConfigParseError):
                await config.update(lambda value: value + 1)
            assert ensemble.realm.get("/c").data == b"one"
            ensemble.realm.delete("/c")
            with pytest.raises(NoNodeError):
                await config.update(lambda value: value + 1)


async def test_an_update_makes_the_znode_from_the_default(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ConfigWatcher(zk, "/a/c", int, default=5, serialize=serialize) as config:
        assert await config.update(lambda value: value + 1) == 6
        await settle()
        assert config.value == 6


async def test_an_update_is_made_once_or_said_to_be_unknown(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    for znode in (b"10", None):
        async for loss in losses(ensemble):
            if znode:
                ensemble.realm.create("/c", znode)
            async with (
                ensemble.open() as zk,
                ConfigWatcher(zk, "/c", int, default=10, serialize=serialize) as config,
            ):
                assert await config.update(lambda value: value + 1) == 11, loss
            assert ensemble.realm.get("/c").data == b"11", loss


async def test_a_deposed_leader_does_not_tell_whether_an_update_was_made(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/c", b"1")
    deposed = DeposedLeader(ensemble, Opcode.SET_DATA)
    async with ensemble.open() as zk:
        ensemble.rules.append(deposed)
        assert await ConfigWatcher(zk, "/c", int, serialize=serialize).update(lambda value: value + 1) == 2
    assert deposed.asked
    assert ensemble.realm.get("/c").data == b"2"


async def test_a_new_session_on_a_server_that_lags_does_not_tell_whether_an_update_was_made(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    seen: list[int] = []

    def lagging(request: Received) -> Fault | Code | None:
        seen.append(request.opcode)
        if seen.count(Opcode.CREATE) == 1 and request.opcode == Opcode.CREATE:
            return Fault.DO_AND_CUT
        if Opcode.CREATE in seen and request.opcode == Opcode.GET_DATA:
            reads = seen[seen.index(Opcode.CREATE) :].count(Opcode.GET_DATA)
            if reads == 1:
                ensemble.expire(zk.session_id)
                return Fault.CUT
            if reads == 2:
                return Code(NoNodeError.code or 0)
        return None

    async with ensemble.open() as zk:
        ensemble.rules.append(lagging)
        config = ConfigWatcher(zk, "/c", int, default=10, serialize=serialize)
        assert await config.update(lambda value: value + 1) == 11
    assert ensemble.realm.get("/c").data == b"11"


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DO_AND_CUT])
async def test_where_others_have_written_over_it_nobody_can_tell(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, fault: Fault
) -> None:
    ensemble.realm.create("/c", b"1")
    lost: list[Received] = []

    def lose(request: Received) -> Fault | None:
        if request.opcode != Opcode.SET_DATA or lost:
            return None
        lost.append(request)
        return fault

    async with ensemble.open() as zk, ConfigWatcher(zk, "/c", int, serialize=serialize) as config:
        ensemble.rules.append(lose)
        ensemble.shut(Door.REFUSES)
        async with trio.open_nursery() as nursery:

            async def others() -> None:
                await until(lambda: lost)
                await settle()
                for _ in range(2):
                    ensemble.realm.set("/c", b"99")
                ensemble.shut(Door.OPEN)

            nursery.start_soon(others)
            with pytest.raises(ConnectionLoss) as caught:
                await config.update(lambda value: value + 1)
            assert caught.value.outcome_unknown
        assert ensemble.realm.get("/c").data == b"99"


# Trees ----------------------------------------------------------------------------------------------------------------


def plant(ensemble: MemoryEnsemble, znodes: dict[str, bytes]) -> None:
    for path, data in znodes.items():
        ensemble.realm.create(path, data)


async def test_later_trees_cover_earlier_ones(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    plant(
        ensemble,
        {"/d": b"", "/d/db": b"", "/d/db/port": b"1", "/d/log": b"2", "/s": b"", "/s/db": b"", "/s/db/port": b"3"},
    )
    async with ensemble.open() as zk, ConfigTreeWatcher(zk, ["/d", "/s", "/i"], int) as config:
        assert config.value == {"db/port": 3, "log": 2}
        assert config.layer("/d") == {"db/port": 1, "log": 2}
        changes = aiter(config)
        await anext(changes)
        await zk.create("/i/log", b"4", makepath=True)
        assert await anext(changes) == {"db/port": 3, "log": 4}
        await zk.delete("/s", recursive=True)
        assert await anext(changes) == {"db/port": 1, "log": 4}


async def test_each_znode_keeps_its_own_last_good_value(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    plant(ensemble, {"/d": b"", "/d/a": b"1", "/d/b": b"x"})
    errors: list[ConfigParseError] = []
    async with ensemble.open() as zk, ConfigTreeWatcher(zk, "/d", int, on_error=errors.append) as config:
        await settle()
        assert config.value == {"a": 1}
        assert set(config.errors) == {"/d/b"}
        ensemble.realm.set("/d/a", b"y")
        ensemble.realm.set("/d/b", b"2")
        await settle()
        assert config.value == {"a": 1, "b": 2}
        assert set(config.errors) == {"/d/a"}
        assert [error.path for error in errors] == ["/d/b", "/d/a"]
        ensemble.realm.set("/d/a", b"")
        await settle()
        assert config.value == {"b": 2}
        assert config.errors == {}
        ensemble.realm.delete("/d/b")
        await settle()
        assert config.value == {}
        with pytest.raises(ValueError, match="at least one"):
            ConfigTreeWatcher(zk, [], int)


# Interruptions --------------------------------------------------------------------------------------------------------


async def _use_znode(zk: ZooKeeper) -> None:
    async with ConfigWatcher(zk, "/c", int, lambda value: None, default=1, serialize=serialize) as config:
        await config.update(lambda value: value + 1)


async def _use_tree(zk: ZooKeeper) -> None:
    async with ConfigTreeWatcher(zk, ["/c", "/d"], int, on_error=lambda error: None):
        await pass_time(1)


@pytest.mark.parametrize("work", [_use_znode, _use_tree])
async def test_cancelled_anywhere_nothing_stays(ensemble: MemoryEnsemble, autojump_clock: MockClock, work: Any) -> None:
    assert await walk(ensemble, work, leaves={"/c"}) >= 5


async def test_whatever_is_lost_trees_are_followed(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        plant(ensemble, {"/d": b"", "/d/a": b"1"})
        async with ensemble.open() as zk, ConfigTreeWatcher(zk, ["/d", "/e"], int) as config:
            assert config.value == {"a": 1}, loss
            plant(ensemble, {"/e": b"", "/e/a": b"2"})
            await until(lambda config=config: config.value == {"a": 2})  # type: ignore[misc]
    assert tree(ensemble) == {"/d", "/d/a", "/e", "/e/a"}


async def test_iterations_end_with_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    seen: list[int] = []

    async def consume(config: ConfigWatcher[int]) -> None:
        seen.extend([value async for value in config])

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        await zk.create("/c", b"1")
        async with ConfigWatcher(zk, "/c", int) as config:
            nursery.start_soon(consume, config)
            await settle()
    assert seen == [1]


async def test_an_update_that_changes_what_it_is_given_leaves_the_default_alone(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    seen: list[dict[str, int]] = []

    def change(value: dict[str, int]) -> dict[str, int]:
        value["a"] = 1
        return value

    def serialize(value: dict[str, int]) -> bytes:
        return json.dumps(value).encode()

    default: dict[str, int] = {}
    async with ensemble.open() as zk:
        parse: Callable[[bytes], dict[str, int]] = json.loads
        watcher = ConfigWatcher(
            zk, "/c", parse, lambda value: seen.append(dict(value)), default=default, serialize=serialize
        )
        async with watcher as config:
            assert await config.update(change) == {"a": 1}
            await until(lambda: config.value == {"a": 1})
            await zk.delete("/c")
            await until(lambda: config.is_missing)
            await settle()
            assert config.value == default == {}
            assert seen == [{}, {"a": 1}, {}]


async def test_an_equal_value_of_another_type_comes_into_force(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        await zk.create("/c", b"1")
        async with ConfigWatcher(zk, "/c", json.loads) as config:
            await zk.set("/c", b"true")
            await until(lambda: config.value is True)


NO_AUTH = -102


@pytest.mark.parametrize("options", [{}, {"default": 5}])
async def test_what_may_not_be_read_is_an_error_and_takes_no_value_away(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    refused = True

    def refuse(request: Received) -> Code | None:
        return Code(NO_AUTH) if refused and request.opcode == Opcode.GET_DATA else None

    async with ensemble.open() as zk:
        await zk.create("/c", b"1")
        ensemble.rules.append(refuse)
        with pytest.raises(NoAuthError):
            async with ConfigWatcher(zk, "/c", int, **options):
                pass
        refused = False
        async with ConfigWatcher(zk, "/c", int, **options) as config, ConfigTreeWatcher(zk, "/", int) as tree_config:
            refused = True
            ensemble.realm.set("/c", b"2")
            await settle()
            assert config.value == 1
            assert tree_config.value["c"] == 1
            assert not config.is_missing
            assert caplog.text.count("may not be read any more") == 1
            refused = False
            ensemble.realm.set("/c", b"3")
            await until(lambda: config.value == 3 and tree_config.value["c"] == 3)
            ensemble.realm.delete("/c")
            await until(lambda: config.is_missing and "c" not in tree_config.value)
            assert config.value == options.get("default", 3)
