"""What servers say to one another: packets between leader and learner, notifications and greetings of an election.

Decides the bytes, which are those of ZooKeeper 3.8, in both directions, and refuses what a peer of bad will could use
to make this server wait for, or hold, more than a limit. When a message is sent, and what it does, stands in
`election.py` and `peer.py`; connections are the shell's.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from typing import Annotated, NamedTuple

from terzetto.client.errors import WireError
from terzetto.client.values import Id
from terzetto.client.wire import codec
from terzetto.client.wire.primitives import OPT_VECTOR, Buffer, Int, Long

from .snapshot_body import SnapshotBody, SnapshotBodyReader

PROTOCOL_VERSION = 0x10000
"""Zab 1.0, in LearnerInfo and LEADERINFO."""

PACKET_DATA_MAX = 64 << 20
"""Longest data of a packet that is read. (ZooKeeper: 2 MiB, twice `jute.maxbuffer`; a closeSession may exceed that.)"""

AUTHINFO_MAX = 1024
"""Most identities of a client that a packet may carry."""

NOTIFICATION_MAX = 524_288
"""Longest message between two election ports, without its length (ZooKeeper's own bound)."""

HELLO_ADDRESSES_MAX = 2048
"""Longest list of addresses in a hello, in bytes (ZooKeeper's own bound)."""

NOTIFICATION_VERSION = 2
"""Version of the notifications that carry a configuration (ZooKeeper 3.5 and later)."""

_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_HEAD = struct.Struct(">iqi")
_MINIMAL = struct.Struct(">iqii")
_NULL = _INT.pack(-1)
_unpack_head = _HEAD.unpack_from
_unpack_minimal = _MINIMAL.unpack_from
_int_at = _INT.unpack_from


class PacketType(enum.IntEnum):
    """What a `QuorumPacket` is (zookeeper's Leader.java)."""

    REQUEST = 1
    PROPOSAL = 2
    ACK = 3
    COMMIT = 4
    PING = 5
    REVALIDATE = 6
    SYNC = 7
    INFORM = 8
    COMMITANDACTIVATE = 9
    NEWLEADER = 10
    FOLLOWERINFO = 11
    UPTODATE = 12
    DIFF = 13
    TRUNC = 14
    SNAP = 15
    OBSERVERINFO = 16
    LEADERINFO = 17
    ACKEPOCH = 18
    INFORMANDACTIVATE = 19


class QuorumPacket(NamedTuple):
    """The one message between leader and learner; what `zxid` and `data` hold depends on `type`."""

    type: Int
    zxid: Long
    data: Buffer = None
    authinfo: Annotated[list[Id] | None, OPT_VECTOR] = None


_encode_any = codec(QuorumPacket).encode
_decode_any = codec(QuorumPacket).decode


def encode_packet(packet: QuorumPacket) -> bytes:
    """Bytes of a packet, which ends where its fields end. Raises `WireError`."""
    kind, zxid, data, authinfo = packet
    if authinfo is not None:
        return _encode_any(packet)
    try:
        if data is None:
            return _MINIMAL.pack(kind, zxid, -1, -1)
        return _HEAD.pack(kind, zxid, len(data)) + data + _NULL
    except struct.error as error:
        raise WireError(f"cannot encode {packet}: {error}") from error


class PacketReader:
    """Cuts the stream of a quorum link into packets; behind a SNAP stands a snapshot, which it reads as well.

    After a `WireError` the stream makes no sense any more: close the link.

    Args:
        limit: longest data of a packet, or of a znode in a snapshot.
        takes_snapshots: whether a SNAP may come at all: only a leader sends one, and whoever else does could fill the
            memory with it.
    """

    def __init__(self, limit: int = PACKET_DATA_MAX, *, takes_snapshots: bool = True) -> None:
        self._limit = limit
        self._takes_snapshots = takes_snapshots
        self._rest = bytearray()
        # Invariant: with a rest that is not empty, fewer than `_need` bytes make nothing whole.
        self._need = 0
        self._body: SnapshotBodyReader | None = None

    def feed(self, data: bytes) -> list[QuorumPacket | SnapshotBody]:
        """Takes bytes in any portions; returns what they complete, in order. A `SnapshotBody` follows each SNAP.

        Raises:
            WireError: a length beyond the limit, or no snapshot where one must be.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data = bytes(self._rest)
            self._rest = bytearray()
        arrived: list[QuorumPacket | SnapshotBody] = []
        pos = 0
        while True:
            if self._body is not None:
                pos = self._body.read(data, pos)
                if self._body.body is None:
                    self._need = self._body.need
                    break
                arrived.append(self._body.body)
                self._body = None
            pos = self._read_plain(data, pos, arrived)
            if self._stands_in_body():
                continue
            end = self._packet_end(data, pos)
            if end > len(data):
                self._need = end - pos
                break
            packet, pos = _decode_any(data, pos, end)
            self._add(packet, arrived)
        self._rest += memoryview(data)[pos:]
        return arrived

    def _add(self, packet: QuorumPacket, arrived: list[QuorumPacket | SnapshotBody]) -> None:
        arrived.append(packet)
        if packet.type == PacketType.SNAP:
            if not self._takes_snapshots:
                raise WireError("a SNAP came from a learner")
            self._body = SnapshotBodyReader(self._limit)

    def _stands_in_body(self) -> bool:
        return self._body is not None

    def _read_plain(self, data: bytes, pos: int, arrived: list[QuorumPacket | SnapshotBody]) -> int:
        """Reads packets without identities, which nearly all are, as long as they come; returns where it stopped."""
        size, limit = len(data), self._limit
        while size - pos >= _MINIMAL.size and self._body is None:
            kind, zxid, length, count = _unpack_minimal(data, pos)
            if length == -1:
                if count != -1:
                    break
                self._add(QuorumPacket(kind, zxid, None, None), arrived)
                pos += _MINIMAL.size
                continue
            start = pos + _HEAD.size
            end = start + length
            if not 0 <= length <= limit or data[end : end + _INT.size] != _NULL:
                break
            self._add(QuorumPacket(kind, zxid, data[start:end], None), arrived)
            pos = end + _INT.size
        return pos

    def _packet_end(self, data: bytes, pos: int) -> int:
        """Where the packet at `pos` ends, or how far the stream must be known to tell."""
        end = pos + _HEAD.size
        if end > len(data):
            return end
        length = self._checked(_unpack_head(data, pos)[2], self._limit)
        pos = end + length
        end = pos + _INT.size
        if end > len(data):
            return end
        for _ in range(self._checked(_int_at(data, pos)[0], AUTHINFO_MAX)):
            for _ in range(2):
                pos, end = end, end + _INT.size
                if end > len(data):
                    return end
                end += self._checked(_int_at(data, pos)[0], self._limit)
        return end

    def _checked(self, length: int, limit: int) -> int:
        if not -1 <= length <= limit:
            raise WireError(f"a packet announces a length of {length}, with {limit} allowed")
        return max(length, 0)


# What stands in the data of a packet.


class LearnerInfo(NamedTuple):
    """Data of FOLLOWERINFO and OBSERVERINFO: who joins. `config_version` is that of the configuration it knows."""

    server_id: Long
    protocol_version: Int = PROTOCOL_VERSION
    config_version: Long = 0


class ForwardedRequest(NamedTuple):
    """Data of a REQUEST: what a learner's client has asked; `body` is the client's record as it came."""

    session_id: int
    cxid: int
    opcode: int
    body: bytes


class Revalidation(NamedTuple):
    """Data of a REVALIDATE to the leader: a client has come back to the sender with this session."""

    session_id: Long
    timeout_ms: Int


class RevalidationReply(NamedTuple):
    """Data of a REVALIDATE from the leader."""

    session_id: int
    valid: bool


_LEARNER_INFO = struct.Struct(">qiq")
_REQUEST = struct.Struct(">qii")
_REVALIDATION = struct.Struct(">qi")
_REVALIDATION_REPLY = struct.Struct(">q?")


def encode_learner_info(info: LearnerInfo) -> bytes:
    """Bytes of the form of ZooKeeper 3.5 and later."""
    return _pack(_LEARNER_INFO, info)


def decode_learner_info(data: bytes | None) -> LearnerInfo:
    """Reads the forms of all releases: 8, 12 or 20 bytes. Raises `WireError`."""
    if data is None or len(data) not in (8, 12, 20):
        raise WireError(f"no form of LearnerInfo has {None if data is None else len(data)} bytes")
    # The missing fields of the older forms are zeros: before 3.3.3 there was no version of the protocol.
    return LearnerInfo(*_LEARNER_INFO.unpack(data + bytes(_LEARNER_INFO.size - len(data))))


def encode_request(request: ForwardedRequest) -> bytes:
    """Data of a REQUEST. Raises `WireError`."""
    return _pack(_REQUEST, request[:3]) + request.body


def decode_request(data: bytes | None) -> ForwardedRequest:
    """Reads the data of a REQUEST. Raises `WireError`."""
    if data is None or len(data) < _REQUEST.size:
        raise WireError("a REQUEST has no request")
    session_id, cxid, opcode = _REQUEST.unpack_from(data)
    return ForwardedRequest(session_id, cxid, opcode, data[_REQUEST.size :])


def encode_revalidation(revalidation: Revalidation) -> bytes:
    """Data of a REVALIDATE to the leader. Raises `WireError`."""
    return _pack(_REVALIDATION, revalidation)


def decode_revalidation(data: bytes | None) -> Revalidation:
    """Reads the data of a REVALIDATE to the leader. Raises `WireError`."""
    return Revalidation(*_unpack(_REVALIDATION, data))


def encode_revalidation_reply(reply: RevalidationReply) -> bytes:
    """Data of a REVALIDATE from the leader. Raises `WireError`."""
    return _pack(_REVALIDATION_REPLY, reply)


def decode_revalidation_reply(data: bytes | None) -> RevalidationReply:
    """Reads the data of a REVALIDATE from the leader. Raises `WireError`."""
    session_id, valid = _unpack(_REVALIDATION_REPLY, data)
    return RevalidationReply(session_id, bool(valid))


def encode_touches(touches: Iterable[tuple[int, int]]) -> bytes:
    """Data of a PING's answer: (session id, timeout in ms) of the sessions that were heard of. Raises `WireError`."""
    return b"".join([_pack(_REVALIDATION, touch) for touch in touches])


def decode_touches(data: bytes | None) -> list[tuple[int, int]]:
    """Reads the data of a PING's answer; whole entries only, as ZooKeeper does. Raises `WireError`."""
    if data is None:
        return []
    if len(data) % _REVALIDATION.size:
        raise WireError(f"touches of sessions in {len(data)} bytes")
    return list(_REVALIDATION.iter_unpack(data))


def encode_int(value: int) -> bytes:
    """Data of LEADERINFO (the protocol's version) and ACKEPOCH (the current epoch, or -1). Raises `WireError`."""
    return _pack(_INT, (value,))


def decode_int(data: bytes | None) -> int:
    """Reads the data of LEADERINFO and ACKEPOCH. Raises `WireError`."""
    value: int = _unpack(_INT, data)[0]
    return value


def _pack(form: struct.Struct, values: Iterable[object]) -> bytes:
    try:
        return form.pack(*values)
    except struct.error as error:
        raise WireError(f"cannot encode {values}: {error}") from error


def _unpack(form: struct.Struct, data: bytes | None) -> tuple[int, ...]:
    if data is None or len(data) < form.size:
        raise WireError(f"data of {form.size} bytes is expected, not {data!r}")
    return form.unpack_from(data)


# Between election ports.


class ServerState(enum.IntEnum):
    """What a server is doing, as notifications say it."""

    LOOKING = 0
    FOLLOWING = 1
    LEADING = 2
    OBSERVING = 3


class Notification(NamedTuple):
    """A vote on its way.

    Attributes:
        state: what the sender is doing.
        leader: sid of the server that it votes for, or follows.
        zxid: that server's last transaction.
        election_epoch: the round of the vote.
        peer_epoch: that server's current epoch.
        version: 2; 0 and 1 carry no configuration.
        config: text of the sender's configuration. It must be whole and valid: ZooKeeper 3.8.0 never elects again after
            it has read one without servers.
    """

    state: ServerState
    leader: int
    zxid: int
    election_epoch: int
    peer_epoch: int
    version: int = NOTIFICATION_VERSION
    config: str | None = None


class Hello(NamedTuple):
    """The first bytes of who dials an election port: its sid, and (host, port) where its own election port is."""

    sid: int
    addresses: tuple[tuple[str, int], ...]


_SHORT_VOTE = struct.Struct(">iqqq")
_VOTE = struct.Struct(">iqqqqi")
_HELLO_HEAD = struct.Struct(">qqi")
_ONE_ADDRESS = -65536
_MANY_ADDRESSES = -65535


def encode_notification(notification: Notification) -> bytes:
    """The message without its length. Raises `WireError`."""
    state, leader, zxid, election_epoch, peer_epoch, version, config = notification
    vote = _pack(_VOTE, (state, leader, zxid, election_epoch, peer_epoch, version))
    if version < NOTIFICATION_VERSION:
        return vote
    if not config:
        raise WireError("a notification of version 2 without a configuration would harm its receiver")
    text = config.encode()
    return vote + _INT.pack(len(text)) + text


def decode_notification(data: bytes) -> Notification:
    """Reads the forms of all releases. Raises `WireError`: ignore the message, the connection may stay."""
    size = len(data)
    if size == _SHORT_VOTE.size:
        state, leader, zxid, election_epoch = _SHORT_VOTE.unpack(data)
        return Notification(_state(state), leader, zxid, election_epoch, zxid >> 32, 0)
    state, leader, zxid, election_epoch, peer_epoch, version = _unpack(_VOTE, data)
    # The form of 40 bytes is older than versions.
    if size == _VOTE.size:
        version = 0
    config = None
    if version >= NOTIFICATION_VERSION:
        start = _VOTE.size + _INT.size
        (length,) = _unpack(_INT, data[_VOTE.size :])
        if not 0 <= length <= size - start:
            raise WireError(f"a configuration of length {length} in a notification of {size} bytes")
        config = data[start : start + length].decode(errors="replace")
    return Notification(_state(state), leader, zxid, election_epoch, peer_epoch, version, config)


def _state(state: int) -> ServerState:
    try:
        return ServerState(state)
    except ValueError:
        raise WireError(f"{state} is no state of a server") from None


def encode_hello(hello: Hello, *, many: bool = False) -> bytes:
    """The hello with the first address; with all where `many`, which ZooKeeper 3.6 and later understand.

    To be sent in one piece: ZooKeeper reads the addresses with a single call.
    """
    places = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hello.addresses]
    if not places:
        raise WireError("a hello needs an address")
    text = ("|".join(places) if many else places[0]).encode()
    if len(text) > HELLO_ADDRESSES_MAX:
        raise WireError(f"addresses of {len(text)} bytes, with {HELLO_ADDRESSES_MAX} allowed")
    return _pack(_HELLO_HEAD, (_MANY_ADDRESSES if many else _ONE_ADDRESS, hello.sid, len(text))) + text


def decode_hello(data: bytes) -> tuple[Hello, int] | None:
    """Reads a hello of any release.

    Returns:
        The hello and where the messages behind it begin; `None` while it is incomplete.

    Raises:
        WireError: it is none; close the connection.
    """
    if len(data) < _LONG.size:
        return None
    (version,) = _LONG.unpack_from(data)
    if version >= 0:
        return Hello(version, ()), _LONG.size
    if version not in (_ONE_ADDRESS, _MANY_ADDRESSES):
        raise WireError(f"a hello of version {version}")
    if len(data) < _HELLO_HEAD.size:
        return None
    _, sid, length = _HELLO_HEAD.unpack_from(data)
    if not 0 < length <= HELLO_ADDRESSES_MAX:
        raise WireError(f"a hello with addresses of {length} bytes")
    end = _HELLO_HEAD.size + length
    if len(data) < end:
        return None
    try:
        text = data[_HELLO_HEAD.size : end].decode()
    except UnicodeDecodeError as error:
        raise WireError(f"a hello with an address that is no text: {error}") from error
    return Hello(sid, tuple(_address(place) for place in text.split("|"))), end


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise WireError(f"a hello with the address {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)
