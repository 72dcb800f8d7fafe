"""Connections and their counters."""

from __future__ import annotations

import pytest

from terzetto.client.values import Id
from terzetto.testcluster.connection import Connection, Phase, Request, Traffic


def _connection() -> Connection:
    return Connection("127.0.0.1", (Id("ip", "127.0.0.1"),), max_frame=1000, now_ms=5)


def test_output_leaves_in_one_piece() -> None:
    connection = _connection()
    assert connection.take_output() == b""
    connection.out += [b"ab", b"cd"]
    connection.out_size = 4
    assert connection.take_output() == b"abcd"
    assert (connection.take_output(), connection.out_size) == (b"", 0)
    connection.out.append(b"ef")
    assert connection.take_output() == b"ef"


@pytest.mark.parametrize(
    ("phase", "paused", "closing"),
    [
        (Phase.NEW, False, False),
        (Phase.HANDSHAKING, True, False),
        (Phase.OPEN, False, False),
        (Phase.ENDING, False, False),
        (Phase.CLOSING, False, True),
        (Phase.CLOSED, False, True),
    ],
)
def test_what_a_phase_means_to_the_shell(phase: Phase, paused: bool, closing: bool) -> None:
    connection = _connection()
    connection.phase = phase
    assert (connection.paused, connection.closing) == (paused, closing)
    connection.stalled = True
    assert connection.paused


def test_a_new_connection_waits_for_nothing() -> None:
    connection = _connection()
    assert (connection.queued, connection.session_id, connection.last_opcode) == (0, 0, None)
    assert repr(connection) == "<Connection 127.0.0.1 session=0x0 NEW>"


def test_a_request_is_shown_without_its_content() -> None:
    assert repr(Request(0x10, 3, 100, b"digest user:password")) == "<Request 100 cxid=3 session=0x10 20 bytes>"


def test_counters() -> None:
    traffic = Traffic()
    assert (traffic.latency_average, traffic.latency_min) == (0.0, None)
    traffic.add_answers(3, 2)
    traffic.add_answers(1, 6)
    traffic.add_answers(1, 4)
    assert (traffic.answered, traffic.latency_min, traffic.latency_max, traffic.latency_average) == (5, 2, 6, 3.2)
    traffic.received = traffic.sent = 9
    traffic.reset()
    assert (traffic.received, traffic.sent, traffic.answered, traffic.latency_min) == (0, 0, 0, None)
