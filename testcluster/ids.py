"""Numbers that name things across the ensemble: zxids, session ids, and the passwords that go with session ids.

Arithmetic only. Who hands a number out, and when, is decided elsewhere; clocks and secrets come in as arguments.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

PASSWORD_SIZE = 16
"""Bytes of a session password; the C client reads exactly that many."""

COUNTER_MAX = 0xFFFFFFFE
"""Last counter that a leader hands out in one epoch; the next write needs a new leader (ZooKeeper 3.4 and later)."""

_SIGN = 1 << 63
_MASK64 = (1 << 64) - 1
_MASK48 = (1 << 48) - 1
_MULTIPLIER = 0x5DEECE66D
_PASSWORD_SEED = 0xB3415C00
_SESSION_ID = struct.Struct(">q")


def signed64(value: int) -> int:
    """The lower 64 bits as a signed number, which is what the wire carries."""
    value &= _MASK64
    return value - (1 << 64) if value & _SIGN else value


def signed32(value: int) -> int:
    """The lower 32 bits as a signed number: versions wrap like this."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def make_zxid(epoch: int, counter: int) -> int:
    """The zxid of the `counter`-th transaction of an epoch."""
    return signed64(epoch << 32 | counter & 0xFFFFFFFF)


def epoch_of(zxid: int) -> int:
    """The epoch in which a zxid was proposed."""
    return zxid >> 32


def counter_of(zxid: int) -> int:
    """The position of a zxid within its epoch, from 1 on."""
    return zxid & 0xFFFFFFFF


def first_session_id(server_id: int, elapsed_ms: int) -> int:
    """The id before the first one that a server gives out in this life.

    The server's id is the highest byte, then 40 bits of a monotonic clock, then 16 bits to count in.

    Args:
        server_id: 1 for a standalone server, else the server's id in the ensemble, 0 to 255.
        elapsed_ms: any monotonic clock in milliseconds; it only keeps two lives of a server apart.
    """
    first = signed64(server_id << 56 | (elapsed_ms & (1 << 40) - 1) << 16)
    # The smallest number of all marks container znodes.
    return first + 1 if first == -_SIGN else first


def session_password(session_id: int, secret: bytes | None = None) -> bytes:
    """The password of a session, which every server of the ensemble can compute.

    Without a secret it is ZooKeeper's own: the first bytes of `java.util.Random` seeded with the public id, so anyone
    can compute it; sessions can then move to Java servers and back. With a secret it is an HMAC-SHA-256 of the id.
    """
    if secret is not None:
        return hmac.new(secret, _SESSION_ID.pack(session_id), hashlib.sha256).digest()[:PASSWORD_SIZE]
    state = ((session_id ^ _PASSWORD_SEED) ^ _MULTIPLIER) & _MASK48
    password = bytearray()
    for _ in range(PASSWORD_SIZE // 4):
        state = (state * _MULTIPLIER + 0xB) & _MASK48
        password += (state >> 16 & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(password)


def is_session_password(session_id: int, password: bytes | None, secret: bytes | None = None) -> bool:
    """Whether a client may have this session. Id 0 names none."""
    if session_id == 0 or password is None:
        return False
    return hmac.compare_digest(password, session_password(session_id, secret))
