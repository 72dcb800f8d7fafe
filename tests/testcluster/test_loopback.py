"""Places for the servers of test ensembles: configurations and ports."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from terzetto.client.errors import ConfigurationError
from terzetto.testcluster.loopback import (
    HOST,
    INIT_LIMIT,
    SECRET_FILE,
    SECRET_SIZE,
    Seat,
    reserve_seats,
    session_secret,
)


def seats(servers: int = 3, observers: int = 0, **options: object) -> list[Seat]:
    given: dict[str, object] = {"base_port": None, "data_dir": None, "tick_time": 0.2, "settings": None, **options}
    return reserve_seats(servers, observers, **given)  # type: ignore[arg-type]


def test_each_server_knows_itself_and_the_others() -> None:
    found = seats(2, 1)
    try:
        assert [seat.sid for seat in found] == [1, 2, 3]
        assert [seat.config.observer for seat in found] == [False, False, True]
        members = found[0].config.members
        assert all(seat.config.members == members and not seat.config.is_standalone for seat in found)
        for seat, member in zip(found, members, strict=True):
            quorum, election = seat.others
            assert member.addresses == ((HOST, quorum.number, election.number),)
            assert (member.client_host, member.client_port) == (HOST, seat.client.number)
        assert len({port.number for seat in found for port in (seat.client, *seat.others)}) == 9
        assert found[0].config.init_limit == INIT_LIMIT
    finally:
        for seat in found:
            seat.close()


def test_one_server_is_no_ensemble() -> None:
    (seat,) = seats(1, settings={"initLimit": 3})
    assert seat.config.is_standalone
    assert (seat.sid, seat.others) == (1, ())
    seat.close()


def test_inside_a_process_no_ports_are_needed_between_servers() -> None:
    found = seats(3, peer_host="inside-{}".format)
    assert all(seat.others == () for seat in found)
    assert found[2].config.members[2].addresses == (("inside-3", 2888, 3888),)
    for seat in found:
        seat.close()


def _taken_behind_a_free_one() -> socket.socket:
    """A listening socket whose lower neighbour is free, and stays so: the kernel hands out none of these ports."""
    for port in range(20_001 + os.getpid() % 5_000, 32_000, 2):
        with contextlib.suppress(OSError), socket.create_server((HOST, port - 1)):
            return socket.create_server((HOST, port))
    raise AssertionError("there are no two neighbouring ports")


def test_a_port_that_is_taken_gives_the_others_back() -> None:
    with _taken_behind_a_free_one() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port}"):
            seats(2, base_port=port - 1)
    found = seats(2, base_port=port - 1)
    assert [seat.client.number for seat in found] == [port - 1, port]
    for seat in found:
        seat.close()


@pytest.mark.parametrize(("servers", "observers"), [(0, 1), (1, -1), (254, 1)])
def test_impossible_numbers(servers: int, observers: int) -> None:
    with pytest.raises(ConfigurationError):
        seats(servers, observers)


@pytest.mark.parametrize("base_port", [-5, 0, 65534, 70_000])
def test_impossible_ports(base_port: int) -> None:
    with pytest.raises(ConfigurationError, match="must be between 1 and 65535"):
        seats(3, base_port=base_port)


@pytest.mark.parametrize("tick_time", [float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 0.0004])
def test_a_tick_is_a_number_of_seconds(tick_time: float) -> None:
    with pytest.raises(ConfigurationError, match="the tick must be a number of seconds"):
        seats(1, tick_time=tick_time)


def test_data_belong_to_as_many_voters_as_wrote_them(tmp_path: Path) -> None:
    for observers in (0, 2):
        for seat in seats(3, observers, data_dir=tmp_path):
            seat.close()
    for servers in (1, 2, 5):
        with pytest.raises(ConfigurationError, match=r"holds the data of an ensemble with servers=3"):
            seats(servers, data_dir=tmp_path)


def test_what_could_not_start_claims_no_folder(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken, pytest.raises(OSError, match="cannot be had"):
        seats(1, base_port=taken.getsockname()[1], data_dir=tmp_path)
    for seat in seats(3, data_dir=tmp_path):
        seat.close()


def test_sessions_that_are_kept_have_passwords_that_are(tmp_path: Path) -> None:
    secrets: list[bytes] = []
    for folder in (tmp_path / "kept", tmp_path / "kept", tmp_path / "other", None, None):
        found = seats(3, data_dir=folder)
        secrets.append(session_secret(found))
        for seat in found:
            seat.close()
    assert secrets[0] == secrets[1]
    assert len(set(secrets)) == 4
    assert {len(secret) for secret in secrets} == {SECRET_SIZE}
    path = tmp_path / "kept" / "1" / SECRET_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    # As a crash may leave it.
    path.write_bytes(b"")
    found = seats(3, data_dir=tmp_path / "kept")
    assert session_secret(found) == session_secret(found) != secrets[0]
    for seat in found:
        seat.close()
