"""The ensemble's configuration: which client addresses it names, and `track_ensemble`."""

from __future__ import annotations

import logging

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock

from terzetto.client import KazooState
from terzetto.client._ensemble import client_endpoints
from terzetto.client.wire import Opcode

from .memory_server import Door, MemoryEnsemble, pass_time, settle, until
from .server_link import Code, every


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("server.1=h1:2888:3888:participant;h1:2181", ["h1:2181"]),
        ("server.1=h1:2888:3888:observer;public.example:2182", ["public.example:2182"]),
        ("server.1=h1:2888:3888;2181", ["h1:2181"]),
        ("server.1=h1:2888:3888:participant;0.0.0.0:2181", ["h1:2181"]),
        ("server.1=[::1]:2888:3888:participant;[::]:2181", ["[::1]:2181"]),
        ("server.1=[fd00::7]:2888:3888:participant;0.0.0.0:2181", ["[fd00::7]:2181"]),
        ("server.1=h1:2888:3888:participant;[2001:db8::1]:2181", ["[2001:db8::1]:2181"]),
        ("server.1=h1:2888:3888:participant;0:0:0:0:0:0:0:0:2181", ["h1:2181"]),
        ("server.1=h1:2888:3888|h2:2889:3889:participant;0.0.0.0:2181", ["h1:2181"]),
        ("server.1=h1:2888:3888:participant;h1:2181;h1:2281", ["h1:2181"]),
        ("  server.10=h10:1:2:participant;h10:65535  ", ["h10:65535"]),
        # A static configuration has no client part.
        ("server.1=h1:2888:3888:participant", []),
        ("server.1=h1:2888:3888:participant;", []),
        ("server.1=h1:2888:3888:participant;h1:0", []),
        ("server.1=h1:2888:3888:participant;h1:65536", []),
        ("server.1=h1:2888:3888:participant;h1:port", []),
        ("server.1=h1:2888:3888:participant;h1:\u0662\u0661\u0668\u0661", []),
        ("server.1=;2181", []),
        ("server.1", []),
        ("version=100000000", []),
        ("group.1=1:2;3", []),
        ("", []),
    ],
)
def test_client_addresses_of_a_member(line: str, expected: list[str]) -> None:
    assert [str(endpoint) for endpoint in client_endpoints(line)] == expected


def test_members_keep_their_order_and_unreadable_lines_are_left_out() -> None:
    text = "server.1=a:1:2:participant;a:2181\r\nnonsense\nserver.2=b:1:2\nserver.3=c:1:2:observer;c:2183\nversion=0"
    assert [str(endpoint) for endpoint in client_endpoints(text)] == ["a:2181", "c:2183"]


@given(st.text())
def test_no_text_is_a_crash(text: str) -> None:
    for endpoint in client_endpoints(text) + client_endpoints("server.1=" + text):
        assert endpoint.host
        assert 1 <= endpoint.port <= 65535


def _member(host: str) -> bytes:
    return f"server.1={host}:2888:3888:participant;{host}:2181\nversion=100000000".encode()


async def test_a_server_that_joined_is_tried_for_the_next_connection(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open("a", track_ensemble=True) as zk:
        await settle()
        ensemble.realm.set_config(_member("joined"))
        await settle()
        ensemble.doors["a"] = Door.REFUSES
        ensemble.cut()
        await until(lambda: len(ensemble.links) == 2 and zk.connected)
        assert ensemble.dials[-1][1] == "joined"


async def test_each_change_is_followed_and_the_servers_given_stay_known(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open("a", track_ensemble=True) as zk:
        await settle()
        for host in ("x", "y"):
            ensemble.realm.set_config(_member(host))
            await settle()
        ensemble.doors.update(y=Door.REFUSES)
        ensemble.cut()
        await until(lambda: len(ensemble.links) == 2 and zk.connected)
        tried = {host for _, host in ensemble.dials}
        assert ensemble.dials[-1][1] == "a"
        assert "x" not in tried


async def test_it_is_followed_through_losses_and_into_the_next_session(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open("a", track_ensemble=True) as zk:
        await settle()
        ensemble.cut()
        await until(lambda: len(ensemble.links) == 2 and zk.connected)
        first = zk.session_id
        ensemble.expire(first)
        await until(lambda: zk.connected and zk.session_id not in (0, first))
        await settle()
        ensemble.realm.set_config(_member("joined"))
        await settle()
        ensemble.doors["a"] = Door.REFUSES
        links = len(ensemble.links)
        ensemble.cut()
        await until(lambda: len(ensemble.links) > links and zk.connected)
        assert ensemble.dials[-1][1] == "joined"


async def test_a_configuration_without_client_addresses_changes_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.set_config(b"server.1=x:2888:3888:participant\nversion=0")
    async with ensemble.open("a", track_ensemble=True) as zk:
        await settle()
        ensemble.cut()
        await until(lambda: len(ensemble.links) == 2 and zk.connected)
    assert {host for _, host in ensemble.dials} == {"a"}


async def test_what_may_not_be_read_is_logged_once_and_not_followed(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    ensemble.rules.append(every(Opcode.GET_DATA, Code(-102)))
    async with ensemble.open("a", track_ensemble=True) as zk:
        await pass_time(100.0)
        assert zk.connected
    assert ensemble.opcodes().count(Opcode.GET_DATA) == 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "cannot be followed" in warning


async def test_it_ends_with_a_session_that_is_not_renewed(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    await settle()
    async with ensemble.open("a", track_ensemble=True, renew_session=False) as zk:
        await settle()
        with_follower = trio.lowlevel.current_statistics().tasks_living
        ensemble.expire(zk.session_id)
        await until(lambda: zk.state == KazooState.LOST)
        await settle()
        assert trio.lowlevel.current_statistics().tasks_living < with_follower


async def test_it_is_not_followed_unless_asked_for(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open("a"):
        await pass_time(1.0)
    assert Opcode.GET_DATA not in ensemble.opcodes()
