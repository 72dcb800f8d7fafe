"""The first frames: what is asked, how every kind of answer is understood."""

from __future__ import annotations

import pytest

from terzetto.client import WireError
from terzetto.client._handshake import NO_PASSWD, connect_frame, decode_connect_response, is_rejection
from terzetto.client.wire import codec
from terzetto.client.wire.records import ConnectRequest, ConnectResponse

PASSWD = bytes(range(16))


def test_the_frame_of_a_new_session_is_the_protocols() -> None:
    expected = "0000002d 00000000 0000000000000000 00007530 0000000000000000 00000010" + "00" * 16 + "00"
    assert connect_frame(0, 30.0, 0, NO_PASSWD, False) == bytes.fromhex(expected)


def test_a_session_is_resumed_with_what_was_seen_last() -> None:
    frame = connect_frame(0x500, 1.5, -7, PASSWD, True)
    request, _ = codec(ConnectRequest).decode(frame, 4, len(frame))
    assert request == ConnectRequest(0, 0x500, 1500, -7, PASSWD, True)


@pytest.mark.parametrize("timeout", [2.2e6, 1e300, float("inf")])
def test_a_timeout_that_the_field_cannot_hold_is_the_longest(timeout: float) -> None:
    frame = connect_frame(0, timeout, 0, NO_PASSWD, False)
    assert codec(ConnectRequest).decode(frame, 4, len(frame))[0].timeout == 2**31 - 1


@pytest.mark.parametrize("read_only", [False, True])
def test_an_answer(read_only: bool) -> None:
    response = ConnectResponse(0, 10_000, 99, PASSWD, read_only)
    body = b"...." + codec(ConnectResponse).encode(response)
    assert decode_connect_response(body, 4, len(body)) == response


def test_an_answer_without_the_read_only_byte() -> None:
    body = codec(ConnectResponse).encode(ConnectResponse(0, 10_000, 99, PASSWD, False))[:-1]
    assert decode_connect_response(body, 0, len(body)) == ConnectResponse(0, 10_000, 99, PASSWD, False)


def test_a_read_only_server_without_local_sessions_sends_a_bare_header() -> None:
    with pytest.raises(WireError, match=r"refused the session: NotReadOnlyCallError"):
        decode_connect_response(bytes(12) + (-119).to_bytes(4, "big", signed=True), 0, 16)


@pytest.mark.parametrize("filling", [b"\x00", b"\xff", b"A"])
@pytest.mark.parametrize("size", [0, 1, 15, 17, 20, 35, 36, 37, 38, 200])
def test_garbage_is_no_answer_and_ends_no_session(size: int, filling: bytes) -> None:
    with pytest.raises(WireError):
        decode_connect_response(filling * size, 0, size)


@pytest.mark.parametrize(
    ("timeout", "session_id", "read_only", "asked_for", "rejected"),
    [
        (10_000, 99, False, 0, False),
        (10_000, 99, False, 99, False),
        (0, 0, False, 99, True),
        (0, 99, False, 99, True),
        (-1, 99, False, 99, True),
        (10_000, 0, False, 99, True),
        (10_000, 98, False, 99, True),
        # A read-only server may give a session of its own making, which ends none.
        (10_000, 98, True, 99, False),
        (0, 0, True, 99, True),
    ],
)
def test_a_rejection(timeout: int, session_id: int, read_only: bool, asked_for: int, rejected: bool) -> None:
    assert is_rejection(ConnectResponse(0, timeout, session_id, PASSWD, read_only), asked_for) is rejected
