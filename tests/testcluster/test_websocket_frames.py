"""Frames in messages: what clients may send, and how what servers send is cut."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection as Frames
from wsproto.events import BytesMessage, CloseConnection, Ping

from terzetto.testcluster.websocket_frames import (
    FIRST_FRAME_MAX,
    HOLD_MAX,
    MESSAGE_MAX,
    BadMessage,
    MessageCheck,
    MessageCutter,
    binary_frame,
    frame_size,
    whole_messages,
)

LIMIT = 5000
CONNECT = bytes(41)


def framed(*bodies: bytes) -> bytes:
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


def introduced(limit: int = LIMIT) -> MessageCheck:
    check = MessageCheck(limit)
    check.take(framed(CONNECT), True)
    return check


def refusal(check: MessageCheck, *pieces: tuple[bytes, bool]) -> BadMessage:
    *passed, (last, finished) = pieces
    for piece, more in passed:
        check.take(piece, more)
    with pytest.raises(BadMessage) as caught:
        check.take(last, finished)
    assert caught.value.reason
    return caught.value


def test_a_client_is_introduced_by_its_first_whole_frame() -> None:
    check = MessageCheck(LIMIT)
    frame = framed(CONNECT)
    for piece, following in pairwise([*(frame[i : i + 1] for i in range(len(frame))), b""]):
        assert not check.is_introduced
        check.take(piece, not following)
    assert check.is_introduced
    assert check.word is None


def test_the_first_frame_is_a_short_one() -> None:
    assert refusal(MessageCheck(LIMIT), (framed(bytes(FIRST_FRAME_MAX + 1)), True)).code == 1009
    MessageCheck(LIMIT).take(framed(bytes(FIRST_FRAME_MAX)), True)
    # Also when the connect request and more come together.
    MessageCheck(LIMIT).take(framed(CONNECT, bytes(LIMIT)), True)


@pytest.mark.parametrize("length", [LIMIT + 1, -1, 2**31 - 1, -(2**31)])
def test_a_length_over_the_limit_is_refused_as_soon_as_it_is_there(length: int) -> None:
    prefix = length.to_bytes(4, "big", signed=True)
    assert refusal(introduced(), (framed(b"a") + prefix, False)).code == 1009
    check = introduced()
    check.take(prefix[:3], False)
    assert refusal(check, (prefix[3:], False)).code == 1009


@pytest.mark.parametrize(
    "pieces",
    [
        [(b"", True)],
        [(framed(b"abc")[:-1], True)],
        [(framed(b"abc") + b"\0\0", True)],
        [(framed(b"abc"), False), (b"\0", True)],
    ],
)
def test_a_message_ends_where_a_frame_ends(pieces: list[tuple[bytes, bool]]) -> None:
    assert refusal(introduced(), *pieces).code == 1007


def test_frames_are_joined_up_to_a_bound_and_a_longer_one_goes_alone() -> None:
    limit = 2 * MESSAGE_MAX
    introduced(limit).take(framed(bytes(limit)), True)
    assert refusal(introduced(limit), (framed(bytes(MESSAGE_MAX), b""), True)).code == 1009
    fitting = framed(b"a", bytes(MESSAGE_MAX - 9))
    assert len(fitting) == MESSAGE_MAX
    introduced(limit).take(fitting, True)
    # The bound is a message's, not a connection's.
    check = introduced(limit)
    for _ in range(3):
        check.take(fitting, True)


@pytest.mark.parametrize("words", [None, {b"ruok"}])
def test_a_four_letter_word_comes_first_and_alone(words: set[bytes] | None) -> None:
    check = MessageCheck(LIMIT, words)
    check.take(b"ruok", True)
    assert (check.word, check.is_introduced) == (b"ruok", True)
    assert refusal(check, (framed(CONNECT), True)).code == 1008


def test_words_that_are_not_passed_on() -> None:
    assert "dump" in refusal(MessageCheck(LIMIT, {b"ruok"}), (b"dump", True)).reason
    assert refusal(MessageCheck(LIMIT, set()), (b"ruok", True)).code == 1008
    assert refusal(MessageCheck(LIMIT), (b"\0\0\0\1", True)).code == 1007
    # Behind a session's beginning it is a length.
    assert refusal(introduced(), (b"ruok", True)).code == 1009


@given(
    bodies=st.lists(st.binary(max_size=40), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 600), max_size=8),
)
def test_whole_frames_pass_however_they_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    data = framed(*bodies)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    check = introduced()
    pieces = [data[a:b] for a, b in pairwise(places)]
    for number, piece in enumerate(pieces, 1):
        check.take(piece, number == len(pieces))
    check.take(framed(b"next"), True)


def messages(pieces: list[tuple[bytes, bool]]) -> list[bytes]:
    """Whole messages; what is not finished comes last, if there is such a thing."""
    found = [b""]
    for piece, last in pieces:
        assert piece or last
        found[-1] += piece
        if last:
            found.append(b"")
    return found if found[-1] else found[:-1]


@given(
    sizes=st.lists(st.sampled_from([0, 1, 4, 50, 5000, HOLD_MAX, HOLD_MAX + 1, 3 * HOLD_MAX]), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 400_000), max_size=10),
)
def test_what_is_cut_is_whole_frames_again(sizes: list[int], cuts: list[int]) -> None:
    data = framed(*(bytes([number]) * size for number, size in enumerate(sizes)))
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    cutter = MessageCutter()
    pieces: list[tuple[bytes, bool]] = []
    for a, b in pairwise(places):
        fresh = cutter.cut(data[a:b])
        pieces += fresh
        # Nothing is held back but the beginning of a short frame.
        assert b - sum(len(piece) for piece, _ in pieces) <= HOLD_MAX + 4
    whole = messages(pieces)
    assert b"".join(whole) == data
    check = introduced(4 * HOLD_MAX)
    for message in whole:
        check.take(message, True)


def test_a_chunk_of_whole_frames_is_not_copied() -> None:
    data = framed(b"a", b"bc")
    ((piece, last),) = MessageCutter().cut(data)
    assert piece is data
    assert last


def test_an_answer_to_a_word_is_passed_on_as_it_comes() -> None:
    cutter = MessageCutter()
    cutter.is_raw = True
    assert cutter.cut(b"imok") == [(b"imok", True)]


def test_a_server_that_announces_a_negative_length() -> None:
    with pytest.raises(ValueError, match="negative"):
        MessageCutter().cut(b"\xff\xff\xff\xff")


# Frames of WebSocket, beside wsproto ----------------------------------------------------------------------------------

SIZES = st.one_of(st.integers(0, 200), st.sampled_from([125, 126, 127, 65535, 65536, 70_000]))


@given(st.lists(SIZES, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_whole_messages_are_what_wsproto_reads(sizes: list[int], chance: random.Random) -> None:
    client = Frames(ConnectionType.CLIENT)
    messages = [chance.randbytes(size) for size in sizes]
    frames = [bytes(client.send(BytesMessage(data=message))) for message in messages]
    for message, frame in zip(messages, frames, strict=True):
        assert len(frame) == frame_size(len(message))
    # Longer ones come in several pieces anyway.
    assert whole_messages(b"".join(frames)) == (messages if max(sizes) < 1 << 16 else None)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_what_is_not_whole_or_not_plain_is_left_to_wsproto(payload: bytes, cut: int) -> None:
    client = Frames(ConnectionType.CLIENT)
    good = bytes(client.send(BytesMessage(data=payload)))
    if 0 < cut < len(good):
        assert whole_messages(good[:cut]) is None
        assert whole_messages(good + good[:cut]) is None
    for event in (Ping(payload=payload[:100]), BytesMessage(data=payload, message_finished=False)):
        assert whole_messages(good + bytes(client.send(event))) is None
    for bit in (0x10, 0x20, 0x40):
        assert whole_messages(bytes([good[0] | bit]) + good[1:]) is None
    assert whole_messages(good[:1] + bytes([good[1] & 0x7F]) + good[2:]) is None


@given(st.binary(max_size=500))
def test_whatever_is_read_quickly_means_the_same_to_wsproto(data: bytes) -> None:
    found = whole_messages(b"\x82\x85" + data)
    server = Frames(ConnectionType.SERVER)
    server.receive_data(b"\x82\x85" + data)
    events = list(server.events())
    if found is not None:
        assert not any(isinstance(event, CloseConnection) for event in events)
        assert [bytes(event.data) for event in events if isinstance(event, BytesMessage)] == found


def test_a_length_in_too_many_bytes_is_left_to_wsproto() -> None:
    assert whole_messages(b"\x82\xfe\x00\x7d" + bytes(4 + 125)) is None
    assert whole_messages(b"\x82\xff" + (126).to_bytes(8, "big") + bytes(4 + 126)) is None


@given(st.lists(st.tuples(SIZES, st.booleans()), min_size=1, max_size=6))
def test_a_servers_frames_are_what_wsproto_reads(pieces: list[tuple[int, bool]]) -> None:
    client, first = Frames(ConnectionType.CLIENT), True
    for size, last in pieces:
        client.receive_data(binary_frame(bytes(size), first=first, last=last))
        found = list(client.events())
        assert all(isinstance(event, BytesMessage) for event in found)
        assert sum(len(event.data) for event in found if isinstance(event, BytesMessage)) == size
        assert isinstance(found[-1], BytesMessage)
        assert found[-1].message_finished is last
        first = last
