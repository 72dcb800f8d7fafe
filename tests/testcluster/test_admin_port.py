"""The admin server over real HTTP, asked by the standard library's client and by hand."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from terzetto.testcluster import EnsembleError, start_ensemble
from terzetto.testcluster.admin_port import BODY_MAX, open_admin_listeners
from terzetto.testcluster.client_ports import open_listening_socket
from terzetto.testcluster.reserved_port import ReservedPort


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    reserved = ReservedPort()
    settings = {
        "admin.enableServer": True,
        "admin.serverAddress": "127.0.0.1",
        "admin.serverPort": reserved.number,
    }
    with start_ensemble(settings=settings):
        yield reserved.number
    reserved.close()


@pytest.fixture
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    yield client
    client.close()


def get(connection: http.client.HTTPConnection, target: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection.request(method, target)
    answer = connection.getresponse()
    return answer.status, answer.getheader("Content-Type", ""), answer.read()


def test_a_command_is_json(connection: http.client.HTTPConnection) -> None:
    status, kind, body = get(connection, "/commands/ruok")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"command": "ruok", "error": None}


def test_one_connection_serves_many_requests(connection: http.client.HTTPConnection) -> None:
    first: Any = None
    for _ in range(20):
        status, _, body = get(connection, "/commands/srvr")
        assert status == 200
        assert json.loads(body)["server_stats"]["server_state"] == "standalone"
        first = first or connection.sock
        assert connection.sock is first


def test_arguments(connection: http.client.HTTPConnection) -> None:
    assert json.loads(get(connection, "/commands/stmk?traceMask=77")[2])["tracemask"] == 77
    assert json.loads(get(connection, "/commands/gtmk")[2])["tracemask"] == 77


def test_an_unknown_command_is_answered_with_an_error_in_json(connection: http.client.HTTPConnection) -> None:
    status, _, body = get(connection, "/commands/no%20such")
    assert status == 200
    assert json.loads(body)["error"] == "Unknown command: no such"


@pytest.mark.parametrize("target", ["/commands", "/commands/"])
def test_the_list_of_commands_is_html(connection: http.client.HTTPConnection, target: str) -> None:
    status, kind, body = get(connection, target)
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert body.startswith(b'<a href="/commands/configuration">configuration</a>\n<br/>\n')


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/", 404), ("GET", "/commandsx/ruok", 404), ("POST", "/commands/ruok", 405), ("DELETE", "/commands", 405)],
)
def test_what_there_is_not(connection: http.client.HTTPConnection, method: str, target: str, status: int) -> None:
    assert get(connection, target, method)[0] == status
    assert get(connection, "/commands/ruok")[0] == 200


def test_head(connection: http.client.HTTPConnection) -> None:
    assert get(connection, "/commands/ruok", "HEAD")[::2] == (200, b"")
    assert get(connection, "/commands/ruok")[0] == 200


def by_hand(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(data)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    return answer


def test_noise_is_refused(port: int) -> None:
    assert by_hand(port, b"\x00\x01\x02\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert by_hand(port, b"GET /commands/ruok HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_body_without_end_is_refused(port: int) -> None:
    head = b"POST /commands/ruok HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"
    assert by_hand(port, head + bytes(BODY_MAX + 1)).startswith(b"HTTP/1.1 413 ")


def test_a_port_that_is_taken_is_named(port: int) -> None:
    settings = {"admin.enableServer": True, "admin.serverAddress": "127.0.0.1", "admin.serverPort": port}
    with pytest.raises(EnsembleError, match=f"the admin server cannot listen at 127.0.0.1:{port}"):
        with start_ensemble(settings=settings):
            pass


@pytest.mark.parametrize("listen", [open_admin_listeners, open_listening_socket])
async def test_a_name_that_nobody_has_is_no_unknown_error(listen: Callable[[str, int], Awaitable[object]]) -> None:
    with pytest.raises(OSError, match=r"cannot listen at no such name:1: (?!Unknown error)\w+"):
        await listen("no such name", 1)
