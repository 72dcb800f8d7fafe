"""Frames of a server as they are read past trio-websocket, judged by wsproto: the same bytes, or none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from terzetto.client._websocket_frames import MESSAGE_MAX, FrameWalk, masked_message, messages_of, plain_payload


def encoded(events: Sequence[BytesMessage | TextMessage | Ping | CloseConnection]) -> bytes:
    server = Connection(ConnectionType.SERVER)
    return b"".join(server.send(event) for event in events)


WHOLE = st.builds(BytesMessage, data=st.binary(max_size=300))
ODD = st.one_of(
    st.builds(TextMessage, data=st.text(max_size=5)),
    st.builds(Ping, payload=st.binary(max_size=5)),
    st.just(BytesMessage(data=bytes(70_000))),
)


@given(st.lists(WHOLE, min_size=1, max_size=4))
def test_whole_messages_are_read(messages: list[BytesMessage]) -> None:
    data = encoded(messages)
    assert plain_payload(data) == b"".join(bytes(message.data) for message in messages)
    for cut in range(1, len(encoded(messages[-1:]))):
        assert plain_payload(data[:-cut]) is None


@given(st.lists(WHOLE, max_size=2), ODD, st.lists(WHOLE, max_size=2))
def test_all_else_is_for_others_to_judge(
    before: list[BytesMessage], odd: BytesMessage | TextMessage | Ping, behind: list[BytesMessage]
) -> None:
    assert plain_payload(encoded([*before, odd, *behind])) is None


@pytest.mark.parametrize(
    "data", [b"\x82\x81\0\0\0\0x", b"\x82\x7e\x00\x01x", b"\xc2\x01x", b"\x02\x01x", b"\x82", b"\x82\x7e\0"]
)
def test_a_mask_a_wrong_length_and_half_a_message_are_not_read(data: bytes) -> None:
    assert plain_payload(data) is None


@given(
    st.lists(
        st.one_of(WHOLE, ODD, st.builds(BytesMessage, data=st.binary(max_size=5), message_finished=st.just(False)))
    ),
    st.data(),
)
def test_a_walk_knows_where_messages_end(events: list[BytesMessage | TextMessage | Ping], data: st.DataObject) -> None:
    walk = FrameWalk()
    messages, is_open = 0, False
    for event in events:
        if is_open and isinstance(event, TextMessage):
            continue
        frame = encoded_in(event, is_open)
        cut = data.draw(st.integers(0, len(frame)))
        walk.take(frame[:cut])
        assert not (walk.is_between and 0 < cut < len(frame))
        walk.take(frame[cut:])
        if not isinstance(event, Ping):
            is_open = not event.message_finished
            messages += not is_open
        assert walk.is_between is not is_open
        assert walk.messages == messages


def encoded_in(event: BytesMessage | TextMessage | Ping, is_open: bool) -> bytes:
    """One frame; where a message is open, one that goes on with it."""
    frame = encoded([event])
    return bytes([frame[0] & 0xF0]) + frame[1:] if is_open and not isinstance(event, Ping) else frame


def test_nothing_is_between_messages_behind_a_closing_frame() -> None:
    walk = FrameWalk()
    walk.take(encoded([BytesMessage(data=b"x"), CloseConnection(code=1001, reason="gone")]))
    assert not walk.is_between
    assert walk.messages == 1


def test_many_frames_are_cut_into_messages_and_a_long_one_has_its_own() -> None:
    def frame(size: int) -> bytes:
        return size.to_bytes(4, "big") + bytes(size)

    small, half, long = frame(10), frame(MESSAGE_MAX // 2), frame(MESSAGE_MAX + 5)
    assert list(messages_of(small * 3)) == [small * 3]
    assert list(messages_of(half + half + small)) == [half, half + small]
    assert list(messages_of(small + long + small)) == [small, long, small]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65535, 65536, 200_001])
def test_a_message_is_masked_with_a_key_of_its_own(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    server = Connection(ConnectionType.SERVER)
    first, second = masked_message(data), masked_message(data)
    server.receive_data(first + second)
    events = list(server.events())
    assert all(isinstance(event, BytesMessage) for event in events)
    assert b"".join(bytes(event.data) for event in events if isinstance(event, BytesMessage)) == 2 * data
    head = len(first) - size - 4
    assert first[head : head + 4] != second[head : head + 4]
