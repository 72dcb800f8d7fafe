"""The bytes between servers: pinned to what Apache ZooKeeper 3.8.0 sent, round trips, truncations, hostile lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import WireError
from terzetto.client.values import Id
from terzetto.testcluster import messages as m
from terzetto.testcluster.messages import (
    ForwardedRequest,
    Hello,
    LearnerInfo,
    Notification,
    PacketReader,
    PacketType as T,
    QuorumPacket,
    Revalidation,
    RevalidationReply,
    ServerState,
)
from terzetto.testcluster.snapshot_body import SnapshotBody, encode_snapshot_body
from terzetto.testcluster.txns import SnapshotNode, StatPersisted

_int32 = st.integers(-(2**31), 2**31 - 1)
_int64 = st.integers(-(2**63), 2**63 - 1)
_text = st.none() | st.text(st.characters(codec="utf-8"), max_size=6)
_data = st.none() | st.binary(max_size=12)
_authinfo = st.none() | st.lists(st.builds(Id, _text, _text), max_size=3)
# A SNAP is followed by its body, which has tests of its own.
_packets = st.builds(QuorumPacket, _int32.filter(lambda kind: kind != T.SNAP), _int64, _data, _authinfo)

FOLLOWER_1 = m.encode_learner_info(LearnerInfo(1))
BODY = SnapshotBody([], [], [SnapshotNode("", b"", -1, StatPersisted(0, 0, 0, 0, 0, 0, 0, 0, 0))])
CONFIG = "server.1=127.0.0.1:24911:25011:participant\nversion=0"


_SESSION = 0x100003357170000
_CREATE_SESSION = ForwardedRequest(_SESSION, 0, -10, b"\0\0\x17\x70")
_SYNC = ForwardedRequest(0x200003357110000, 1, 9, b"\0\0\0\1/")

CAPTURED = {
    "0000000b 0000000000000000 00000014 0000000000000001 00010000 0000000000000000 ffffffff": QuorumPacket(
        T.FOLLOWERINFO, 0, FOLLOWER_1
    ),
    "00000011 0000000100000000 00000004 00010000 ffffffff": QuorumPacket(
        T.LEADERINFO, 1 << 32, m.encode_int(m.PROTOCOL_VERSION)
    ),
    "00000012 0000000000000000 00000004 00000000 ffffffff": QuorumPacket(T.ACKEPOCH, 0, m.encode_int(0)),
    "00000012 0000000000000000 00000004 ffffffff ffffffff": QuorumPacket(T.ACKEPOCH, 0, m.encode_int(-1)),
    "0000000d 0000000100000006 ffffffff ffffffff": QuorumPacket(T.DIFF, 0x100000006),
    "0000000e 0000000100000006 ffffffff ffffffff": QuorumPacket(T.TRUNC, 0x100000006),
    "0000000c ffffffffffffffff ffffffff ffffffff": QuorumPacket(T.UPTODATE, -1),
    "00000003 0000000100000001 ffffffff ffffffff": QuorumPacket(T.ACK, 0x100000001),
    "00000004 0000000100000004 ffffffff ffffffff": QuorumPacket(T.COMMIT, 0x100000004),
    "00000005 0000000100000005 ffffffff ffffffff": QuorumPacket(T.PING, 0x100000005),
    "00000005 0000000100000006 0000000c 0200003357110000 00001770 ffffffff": QuorumPacket(
        T.PING, 0x100000006, m.encode_touches([(0x200003357110000, 6000)])
    ),
    "00000007 0000000000000000 ffffffff ffffffff": QuorumPacket(T.SYNC, 0),
    "00000006 ffffffffffffffff 0000000c 0100003357170000 00001770 ffffffff": QuorumPacket(
        T.REVALIDATE, -1, m.encode_revalidation(Revalidation(_SESSION, 6000))
    ),
    "00000006 ffffffffffffffff 00000009 0400000000123456 00 ffffffff": QuorumPacket(
        T.REVALIDATE, -1, m.encode_revalidation_reply(RevalidationReply(0x400000000123456, False))
    ),
    "00000001 ffffffffffffffff 00000014 0100003357170000 00000000 fffffff6 00001770 ffffffff": QuorumPacket(
        T.REQUEST, -1, m.encode_request(_CREATE_SESSION)
    ),
    "00000001 ffffffffffffffff 00000015 0200003357110000 00000001 00000009 00000001 2f"
    "00000001 00000002 6970 00000009 3132372e302e302e31": QuorumPacket(
        T.REQUEST, -1, m.encode_request(_SYNC), [Id("ip", "127.0.0.1")]
    ),
}


@pytest.mark.parametrize(("captured", "packet"), CAPTURED.items(), ids=lambda each: getattr(each, "type", None))
def test_packets_are_those_of_zookeeper(captured: str, packet: QuorumPacket) -> None:
    raw = bytes.fromhex(captured)
    assert m.encode_packet(packet) == raw
    assert PacketReader().feed(raw) == [packet]


def test_a_packet_type_is_a_number_of_zookeeper() -> None:
    assert {kind.value for kind in T} == set(range(1, 20))


@given(st.lists(_packets, max_size=4), st.data())
def test_a_stream_of_packets_is_cut_right_whatever_its_portions(
    packets: list[QuorumPacket], data: st.DataObject
) -> None:
    raw = b"".join(map(m.encode_packet, packets))
    reader = PacketReader()
    arrived: list[QuorumPacket | SnapshotBody] = []
    pos = 0
    while pos < len(raw):
        size = data.draw(st.integers(1, len(raw) - pos))
        arrived += reader.feed(raw[pos : pos + size])
        pos += size
    assert arrived == packets


@given(_packets)
def test_a_packet_arrives_with_its_last_byte(packet: QuorumPacket) -> None:
    raw = m.encode_packet(packet)
    reader = PacketReader()
    for size in range(len(raw)):
        assert PacketReader().feed(raw[:size]) == []
    arrived = [reader.feed(raw[index : index + 1]) for index in range(len(raw))]
    assert arrived == [[]] * (len(raw) - 1) + [[packet]]


@given(st.binary(max_size=200))
def test_any_bytes_are_packets_or_a_wire_error(raw: bytes) -> None:
    try:
        PacketReader().feed(raw)
    except WireError:
        pass


@pytest.mark.parametrize(
    "hostile",
    [
        b"\0\0\0\5" + bytes(8) + b"\x7f\xff\xff\xff",
        b"\0\0\0\5" + bytes(8) + b"\0\0\4\1",
        b"\0\0\0\5" + bytes(8) + b"\xff\xff\xff\xfe",
        b"\0\0\0\5" + bytes(12) + b"\x7f\xff\xff\xff",
        b"\0\0\0\5" + bytes(12) + b"\0\0\4\1",
        b"\0\0\0\5" + bytes(12) + b"\xff\xff\xff\xfe",
        b"\0\0\0\5" + bytes(12) + b"\0\0\0\1\x7f\xff\xff\xff",
        b"\0\0\0\5" + bytes(12) + b"\0\0\0\1\0\0\0\0\0\0\4\1",
    ],
)
def test_a_length_that_is_too_long_is_refused_before_its_bytes_come(hostile: bytes) -> None:
    with pytest.raises(WireError, match="announces a length"):
        PacketReader(limit=1024).feed(hostile)
    PacketReader(limit=1024).feed(hostile[:-1])


def test_the_longest_data_is_read() -> None:
    packet = QuorumPacket(T.PROPOSAL, 1, bytes(1024))
    assert PacketReader(limit=1024).feed(m.encode_packet(packet)) == [packet]


@pytest.mark.parametrize("packet", [QuorumPacket(1 << 31, 0), QuorumPacket(1, 1 << 63), QuorumPacket(1, 1 << 63, b"")])
def test_what_no_packet_can_hold_is_not_encoded(packet: QuorumPacket) -> None:
    with pytest.raises(WireError):
        m.encode_packet(packet)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_behind_a_snap_comes_a_snapshot(size: int) -> None:
    snap, after = QuorumPacket(T.SNAP, 0x100000000), QuorumPacket(T.UPTODATE, -1)
    captured = bytes.fromhex("0000000f0000000100000000ffffffffffffffff")
    assert m.encode_packet(snap) == captured
    raw = captured + b"".join(encode_snapshot_body(*BODY)) + m.encode_packet(after)
    reader = PacketReader()
    arrived = [each for pos in range(0, len(raw), size) for each in reader.feed(raw[pos : pos + size])]
    assert arrived == [snap, BODY, after]


def test_behind_a_snap_nothing_else_is_accepted() -> None:
    reader = PacketReader()
    snap = m.encode_packet(QuorumPacket(T.SNAP, 1))
    with pytest.raises(WireError):
        reader.feed(snap + b"\xff" * 20)


# What stands in the data of a packet.


@pytest.mark.parametrize(
    ("raw", "info"),
    [
        ("0000000000000007", LearnerInfo(7, 0)),
        ("000000000000000700010000", LearnerInfo(7)),
        ("0000000000000007000100000000000100000000", LearnerInfo(7, 0x10000, 1 << 32)),
    ],
)
def test_learners_of_all_releases_introduce_themselves(raw: str, info: LearnerInfo) -> None:
    assert m.decode_learner_info(bytes.fromhex(raw)) == info


@pytest.mark.parametrize("raw", [None, b"", bytes(7), bytes(11), bytes(19), bytes(21)])
def test_other_lengths_are_no_learner_info(raw: bytes | None) -> None:
    with pytest.raises(WireError):
        m.decode_learner_info(raw)


@given(_int64, _int32, _int32, st.binary(max_size=9), st.booleans())
def test_the_data_of_packets_survives_a_round_trip(
    session_id: int, cxid: int, opcode: int, body: bytes, valid: bool
) -> None:
    request = ForwardedRequest(session_id, cxid, opcode, body)
    assert m.decode_request(m.encode_request(request)) == request
    revalidation = Revalidation(session_id, cxid)
    assert m.decode_revalidation(m.encode_revalidation(revalidation)) == revalidation
    reply = RevalidationReply(session_id, valid)
    assert m.decode_revalidation_reply(m.encode_revalidation_reply(reply)) == reply
    info = LearnerInfo(session_id, cxid, session_id)
    assert m.decode_learner_info(m.encode_learner_info(info)) == info
    assert m.decode_int(m.encode_int(cxid)) == cxid


@given(st.lists(st.tuples(_int64, _int32), max_size=4))
def test_touches_survive_a_round_trip(touches: list[tuple[int, int]]) -> None:
    assert m.decode_touches(m.encode_touches(touches)) == touches


def test_no_touches_are_no_data_or_empty_data() -> None:
    assert m.decode_touches(None) == m.decode_touches(b"") == []


@pytest.mark.parametrize(
    ("decode", "size"),
    [
        (m.decode_request, 16),
        (m.decode_revalidation, 12),
        (m.decode_revalidation_reply, 9),
        (m.decode_int, 4),
    ],
)
def test_data_that_is_too_short_is_refused(decode: Callable[[bytes | None], Any], size: int) -> None:
    decode(bytes(size))
    for raw in [None, *(bytes(short) for short in range(size))]:
        with pytest.raises(WireError):
            decode(raw)


def test_half_a_touch_is_refused() -> None:
    with pytest.raises(WireError):
        m.decode_touches(bytes(13))


def test_values_that_do_not_fit_are_not_encoded() -> None:
    for encode, value in [
        (m.encode_request, ForwardedRequest(1 << 63, 0, 0, b"")),
        (m.encode_revalidation, Revalidation(0, 1 << 31)),
        (m.encode_touches, [(0, 1 << 31)]),
        (m.encode_int, 1 << 31),
        (m.encode_learner_info, LearnerInfo(1 << 63)),
    ]:
        with pytest.raises(WireError):
            encode(value)  # type: ignore[operator]


# Notifications.


def test_a_notification_has_the_layout_of_zookeeper() -> None:
    notification = Notification(ServerState.FOLLOWING, 3, 0, 1, 1, 2, CONFIG)
    raw = m.encode_notification(notification)
    head = "00000001 0000000000000003 0000000000000000 0000000000000001 0000000000000001 00000002"
    assert raw == bytes.fromhex(head) + len(CONFIG).to_bytes(4, "big") + CONFIG.encode()
    assert m.decode_notification(raw) == notification


def test_the_example_of_four_members_has_the_length_that_was_seen() -> None:
    text = "\n".join(
        [f"server.{sid}=127.0.0.1:2491{sid}:2501{sid}:participant" for sid in (1, 2, 3)]
        + ["server.4=127.0.0.1:24914:25014:observer", "version=0"]
    )
    no_vote = -(1 << 63)
    notification = Notification(ServerState.LOOKING, no_vote, no_vote, 1, no_vote, 2, text)
    assert len(m.encode_notification(notification)) == 222


@given(st.sampled_from(ServerState), _int64, _int64, _int64, _int64, st.text(min_size=1, max_size=40))
def test_notifications_survive_a_round_trip(
    state: ServerState, leader: int, zxid: int, round_number: int, epoch: int, config: str
) -> None:
    notification = Notification(state, leader, zxid, round_number, epoch, 2, config)
    raw = m.encode_notification(notification)
    assert m.decode_notification(raw) == notification
    for size in range(len(raw)):
        if size not in (28, 40):
            with pytest.raises(WireError):
                m.decode_notification(raw[:size])


def test_the_oldest_form_takes_its_epoch_from_the_zxid() -> None:
    raw = bytes.fromhex("00000000 0000000000000002 0000000300000007 0000000000000009")
    assert m.decode_notification(raw) == Notification(ServerState.LOOKING, 2, 0x300000007, 9, 3, 0)


def test_the_form_of_forty_bytes_has_no_version() -> None:
    notification = Notification(ServerState.LOOKING, 2, 0x300000007, 9, 4, 1)
    raw = m.encode_notification(notification)
    assert len(raw) == 40
    assert m.decode_notification(raw) == notification._replace(version=0)
    # With more behind it the number counts as what it is.
    assert m.decode_notification(raw + b"?") == notification


@pytest.mark.parametrize("state", [-1, 4, 1 << 30])
def test_an_unknown_state_is_no_notification(state: int) -> None:
    raw = m.encode_notification(Notification(ServerState.LOOKING, 1, 0, 1, 0, 2, CONFIG))
    with pytest.raises(WireError, match="no state"):
        m.decode_notification(state.to_bytes(4, "big", signed=True) + raw[4:])


@pytest.mark.parametrize("length", [-1, -(1 << 31), len(CONFIG) + 1, (1 << 31) - 1])
def test_a_configuration_of_another_length_is_refused(length: int) -> None:
    raw = m.encode_notification(Notification(ServerState.LOOKING, 1, 0, 1, 0, 2, CONFIG))
    with pytest.raises(WireError, match="configuration of length"):
        m.decode_notification(raw[:40] + length.to_bytes(4, "big", signed=True) + raw[44:])


def test_a_configuration_that_is_no_text_does_not_cost_the_vote() -> None:
    raw = m.encode_notification(Notification(ServerState.LOOKING, 1, 5, 1, 0, 2, CONFIG))
    notification = m.decode_notification(raw[:-1] + b"\xff")
    assert notification.zxid == 5
    assert notification.config == CONFIG[:-1] + "\ufffd"


@pytest.mark.parametrize("config", [None, ""])
def test_no_notification_leaves_without_a_configuration(config: str | None) -> None:
    with pytest.raises(WireError, match="without a configuration"):
        m.encode_notification(Notification(ServerState.LOOKING, 1, 0, 1, 0, 2, config))


# Hellos.


def test_a_hello_is_zookeepers() -> None:
    raw = bytes.fromhex("ffffffffffff000000000000000000010000000f3132372e302e302e313a3235303131")
    hello = Hello(1, (("127.0.0.1", 25011),))
    assert m.encode_hello(hello) == raw
    assert m.decode_hello(raw + b"what follows") == (hello, len(raw))


def test_a_hello_may_name_many_addresses() -> None:
    hello = Hello(300, (("one.example", 1), ("::1", 2), ("10.0.0.3", 65535)))
    raw = m.encode_hello(hello, many=True)
    assert raw[:8] == bytes.fromhex("ffffffffffff0001")
    assert raw.endswith(b"one.example:1|[::1]:2|10.0.0.3:65535")
    assert m.decode_hello(raw) == (hello, len(raw))
    first = m.decode_hello(m.encode_hello(hello))
    assert first is not None
    assert first[0].addresses == hello.addresses[:1]


def test_the_oldest_hello_is_a_bare_sid() -> None:
    assert m.decode_hello(bytes(7) + b"\x05more") == (Hello(5, ()), 8)


def test_an_incomplete_hello_is_waited_for() -> None:
    raw = m.encode_hello(Hello(1, (("127.0.0.1", 25011),)))
    assert [m.decode_hello(raw[:size]) for size in range(len(raw))] == [None] * len(raw)


@pytest.mark.parametrize(
    "raw",
    [
        bytes.fromhex("fffffffffffffffe0000000000000001"),
        bytes.fromhex("ffffffffffff0000000000000000000100000000"),
        bytes.fromhex("ffffffffffff000000000000000000010000080161"),
        bytes.fromhex("ffffffffffff00000000000000000001ffffffff"),
        *(
            bytes.fromhex("ffffffffffff00000000000000000001") + len(text).to_bytes(4, "big") + text
            for text in [b"a", b":1", b"a:", b"a:-1", b"a:65536", b"a:1|", b"a:\xd9\xa3", b"a:999999", b"\xff:1"]
        ),
    ],
)
def test_what_is_no_hello_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        m.decode_hello(raw)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_hello_or_not(raw: bytes) -> None:
    for head in (b"", bytes.fromhex("ffffffffffff0000"), bytes.fromhex("ffffffffffff000100000000000000010000000a")):
        try:
            m.decode_hello(head + raw)
        except WireError:
            pass


def test_a_hello_without_an_address_or_with_too_long_a_list_is_not_sent() -> None:
    with pytest.raises(WireError):
        m.encode_hello(Hello(1, ()))
    with pytest.raises(WireError):
        m.encode_hello(Hello(1, (("h" * 2048, 1),)))


def test_a_learner_sends_no_snapshot() -> None:
    reader = PacketReader(takes_snapshots=False)
    snap = m.encode_packet(QuorumPacket(T.SNAP, 5))
    with pytest.raises(WireError, match="SNAP came from a learner"):
        reader.feed(snap)
    with pytest.raises(WireError):
        PacketReader(100, takes_snapshots=False).feed(m.encode_packet(QuorumPacket(T.REQUEST, -1, b"x" * 101)))
