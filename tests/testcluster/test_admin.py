"""The admin commands give the keys, and the kinds of values, that ZooKeeper 3.8.0 gave (vectors/)."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pytest
import trio.testing

from terzetto.testcluster import admin

from .shell import serving
from .test_fourletter import CAPTURED as WORDS, situation

SHAPES: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "zookeeper_3_8_0_admin.json").read_text())
# Keyed by a path, a session or a time, so that the keys say nothing.
FREE_KEYS = ("expiry_time_to_session_ids", "session_id_to_ephemeral_paths", "session_id_to_watched_paths")


def shape(value: Any) -> Any:
    """The value with the names of types in the place of plain values; a list is as its first item."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in cast("dict[str, Any]", value).items()}
    items: Any = value
    if isinstance(value, list):
        return [shape(item) for item in items[:1]]
    return type(value).__name__


def unkeyed(found: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(map(str, value.values())) if key in FREE_KEYS else value for key, value in found.items()}


@pytest.mark.parametrize("command", sorted(SHAPES))
async def test_a_command_has_the_keys_that_it_has_there(command: str, autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        answer = admin.run_command(shell.server.view, command, {})
    assert unkeyed(shape(json.loads(json.dumps(answer)))) == unkeyed(SHAPES[command])


async def test_monitor_has_the_keys_of_mntr(autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        answer = admin.run_command(shell.server.view, "monitor", {})
    known = {line.partition("\t")[0].removeprefix("zk_") for line in WORDS["mntr"].splitlines()}
    assert set(answer) - {"command", "error"} <= known
    assert answer["znode_count"] == 7


async def test_what_the_answers_say(autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        view = shell.server.view
        one, two = sorted(session for session in shell.server.tree.sessions)
        dump = admin.run_command(view, "dump", {})
        assert dump["session_id_to_ephemeral_paths"] == {str(one): ["/e"]}
        buckets: dict[str, list[int]] = dump["expiry_time_to_session_ids"]
        assert sorted(chain(*buckets.values())) == [one, two]
        assert admin.run_command(view, "watches", {})["session_id_to_watched_paths"] == {
            str(one): ["/a", "/zz"],
            str(two): ["/a"],
        }
        assert admin.run_command(view, "watches_by_path", {})["path_to_session_ids"] == {"/a": [one, two], "/zz": [one]}
        assert len(admin.run_command(view, "connections", {})["connections"]) == 2


@pytest.mark.parametrize(
    ("alias", "command"),
    [
        ("conf", "configuration"),
        ("mntr", "monitor"),
        ("srvr", "server_stats"),
        ("stat", "stats"),
        ("isro", "is_read_only"),
    ],
)
async def test_aliases(alias: str, command: str, autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        assert admin.run_command(shell.server.view, alias, {})["command"] == command


async def test_unknown_commands_and_arguments(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        view = shell.server.view
        assert admin.run_command(view, "nosuch", {}) == {"command": "nosuch", "error": "Unknown command: nosuch"}
        assert admin.run_command(view, "stmk", {"traceMask": "9"})["tracemask"] == 9
        assert "long traceMask argument" in admin.run_command(view, "stmk", {"traceMask": "x"})["error"]
        assert view.trace_mask == 9


async def test_resets(autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        admin.run_command(shell.server.view, "srst", {})
        admin.run_command(shell.server.view, "crst", {})
        stats = admin.run_command(shell.server.view, "stats", {})
        assert stats["server_stats"]["packets_received"] == 0
        assert {connection["packets_received"] for connection in stats["connections"]} == {0}


async def test_a_server_that_does_not_serve_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        shell.server.is_serving = False
        assert "not currently serving" in admin.run_command(shell.server.view, "dump", {})["error"]
        assert admin.run_command(shell.server.view, "ruok", {})["error"] is None


def test_the_list_of_commands() -> None:
    assert set(admin.command_names()) == {*SHAPES, "monitor", "system_properties"}
