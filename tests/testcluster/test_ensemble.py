"""The ensemble in its own thread, driven by kazoo and raw sockets, from trio and without an event loop."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from terzetto.client.errors import ConfigurationError
from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster import BlockingEnsemble, EnsembleError, open_ensemble, start_ensemble
from terzetto.testcluster.ids import session_password

from .free_ports import free_ports
from .port import connect_frame
from .test_epoll_port import Wire


def word(hosts: str, text: bytes) -> str:
    host, _, port = hosts.rpartition(":")
    with socket.create_connection((host, int(port)), 20) as asking:
        asking.sendall(text)
        answer = b""
        while piece := asking.recv(65536):
            answer += piece
    return answer.decode()


@contextmanager
def session(ensemble: BlockingEnsemble) -> Iterator[Wire]:
    with Wire(ensemble) as wire:
        yield wire.handshake()


def create(wire: Wire, path: str) -> int:
    return wire.ask(o.CREATE, path, b"", OPEN_ACL_UNSAFE, 0)[0]


def exists(wire: Wire, path: str) -> bool:
    return wire.ask(o.EXISTS, path, False)[0] == 0


def test_it_serves_when_the_block_begins_and_is_gone_behind_it() -> None:
    before = threading.active_count()
    with start_ensemble() as ensemble:
        assert ensemble.sids == (1,)
        assert ensemble.leader == 1
        assert word(ensemble.hosts, b"ruok") == "imok"
    with pytest.raises(ConnectionRefusedError):
        word(ensemble.hosts, b"ruok")
    with pytest.raises(EnsembleError, match="not running"):
        ensemble.wait_serving()
    # trio keeps a thread for a moment, to use it again.
    assert threading.active_count() <= before + 3


async def test_the_same_from_trio() -> None:
    async with open_ensemble() as ensemble:
        leaders = [ensemble.leader]
        await ensemble.wait_serving()
        await ensemble.kill(1)
        leaders.append(ensemble.leader)
        assert leaders == [1, None]
        await ensemble.start(1)
        await ensemble.pause(1)
        await ensemble.resume(1)
        assert await ensemble.drop_connections() == 0
        await ensemble.stop(1)
        await ensemble.start(1)
        assert await trio.to_thread.run_sync(word, ensemble.hosts, b"isro") == "rw"


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_server_comes_back_with_its_port_and_its_data(tmp_path: Path, on_disk: bool, end: str) -> None:
    with start_ensemble(data_dir=tmp_path if on_disk else None) as ensemble:
        hosts = ensemble.hosts
        with session(ensemble) as wire:
            assert [create(wire, f"/{number}") for number in range(50)] == [0] * 50
            getattr(ensemble, end)(1)
            assert wire.ended()
        with pytest.raises(ConnectionRefusedError):
            word(hosts, b"ruok")
        ensemble.start(1)
        assert ensemble.hosts == hosts
        with session(ensemble) as wire:
            assert all(exists(wire, f"/{number}") for number in range(50))


def test_data_outlives_the_ensemble_in_a_folder(tmp_path: Path) -> None:
    with start_ensemble(data_dir=tmp_path) as ensemble, session(ensemble) as wire:
        create(wire, "/kept")
    with start_ensemble(data_dir=tmp_path) as ensemble, session(ensemble) as wire:
        assert exists(wire, "/kept")
    assert (tmp_path / "1" / "version-2").is_dir()


def test_a_paused_server_answers_later() -> None:
    with start_ensemble() as ensemble, session(ensemble) as wire:
        ensemble.pause(1)
        wire.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            exists(wire, "/")
        ensemble.resume(1)
        wire.socket.settimeout(20)
        assert len(wire.frame()) == 16 + 68


def test_sessions_are_expired_and_connections_dropped() -> None:
    with start_ensemble() as ensemble:
        with session(ensemble) as one, session(ensemble) as two:
            owner = int(word(ensemble.hosts, b"cons").split("sid=0x")[1].split(",")[0], 16)
            ensemble.expire_session(owner)
            assert one.ended()
            with pytest.raises(EnsembleError, match=f"there is no session 0x{owner:x}"):
                ensemble.expire_session(owner)
            assert ensemble.drop_connections() == 1
            assert two.ended()


def test_what_cannot_be_done_is_said() -> None:
    with start_ensemble() as ensemble:
        with pytest.raises(EnsembleError, match="there is no server 2; the servers are 1"):
            ensemble.kill(2)
        with pytest.raises(EnsembleError, match="server 1 is running already"):
            ensemble.start(1)
        ensemble.kill(1)
        with pytest.raises(EnsembleError, match="server 1 is not running"):
            ensemble.pause(1)
        with pytest.raises(EnsembleError, match=r"not every server serves after 0\.01 s: server 1 was killed"):
            ensemble.wait_serving(within=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"servers": 0}, "at least 1"),
        ({"observers": -1}, "observers must be at least 0, not -1"),
        ({"servers": 200, "observers": 55}, "at most 254 together"),
        ({"settings": {"tickTme": 1}}, "settings: tickTme is unknown; did you mean tickTime"),
        ({"settings": {"snapCount": "many"}}, "settings: snapCount must be a whole number"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        with start_ensemble(**arguments):  # type: ignore[arg-type]
            pass


def test_settings_reach_the_server() -> None:
    with start_ensemble(tick_time=0.5, settings={"4lw.commands.whitelist": "conf"}) as ensemble:
        text = word(ensemble.hosts, b"conf")
        assert "tickTime=500\n" in text
        assert "minSessionTimeout=1000\n" in text
        assert "not executed" in word(ensemble.hosts, b"mntr")


def test_ports_can_be_chosen_and_are_refused_when_taken() -> None:
    port = free_ports(1)
    with start_ensemble(base_port=port) as ensemble:
        assert ensemble.hosts == f"127.0.0.1:{port}"
        with pytest.raises(OSError, match=f"port {port}"):
            with start_ensemble(base_port=port):
                pass
    with start_ensemble(base_port=port) as ensemble:
        assert ensemble.hosts == f"127.0.0.1:{port}"


def test_a_folder_that_is_in_use_is_named(tmp_path: Path) -> None:
    with start_ensemble(data_dir=tmp_path):
        with pytest.raises(EnsembleError, match=r"server 1 does not start: .*in use by another server"):
            with start_ensemble(data_dir=tmp_path):
                pass


class Boom(Exception):
    pass


def test_what_the_body_raises_leaves_the_block() -> None:
    def fail() -> None:
        with start_ensemble() as ensemble:
            ensemble.kill(1)
            raise Boom

    with pytest.raises(Boom):
        fail()


async def test_a_cancelled_block_leaves_nothing() -> None:
    hosts = ""
    with trio.CancelScope() as scope:
        async with open_ensemble() as ensemble:
            hosts = ensemble.hosts
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(ConnectionRefusedError):
        await trio.to_thread.run_sync(word, hosts, b"ruok")


def test_passwords_cannot_be_computed_from_the_id() -> None:
    with start_ensemble() as ensemble, Wire(ensemble) as wire:
        wire.socket.sendall(connect_frame())
        frame = wire.frame()
        session_id, password = int.from_bytes(frame[8:16], "big", signed=True), frame[20:36]
        assert password != session_password(session_id)
