"""A million hostile packets before authentication, in process: nothing falls, nobody becomes anybody, nothing is kept.

Packets are mutations of right conversations, so that they get as far as the comparison of proofs; it fails when too few
do. Repeat a failure with the seed that is printed.
"""

from __future__ import annotations

import logging
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from terzetto.client._sasl import DigestMd5Conversation
from terzetto.client.wire import Opcode
from terzetto.testcluster.auth import digest_id
from terzetto.testcluster.digest_md5 import DigestMd5
from tests.testcluster.port import Peer, Port, framed

PACKETS = 1_000_000
PACKETS_OF_A_CONNECTION = 6
WARM_UP = 20_000
GROWTH_MAX = 8 << 20
"""Bytes that may be held more than after the warm-up."""

SLOWEST = 0.2
"""Seconds of processor time for one packet."""

REASONS = (
    "malformed",
    "wrong password",
    "unknown user",
    "realm",
    "nonce",
    "cnonce",
    "over already",
    "too long",
    "UTF-8",
)
"""Parts of the reasons for which a conversation must have failed in the end, each."""

SECRET = "t0p"


def token(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


class Stranger:
    """Makes packets that nobody should send."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def packet(self, challenge: bytes) -> tuple[int, bytes]:
        """Opcode and body."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.3:
            scheme = chance.choice([b"digest", b"sasl", b"x509", b"super", b"world", b"ip", b"\xff", b""])
            body = struct.pack(">i", 0) + token(scheme) + token(self._mutated(b"super:guess"))
            return Opcode.AUTH, self._mutated(body) if chance.random() < 0.2 else body
        if kind < 0.5 or not challenge:
            return Opcode.SASL, token(chance.choice([b"", b"", b"x", None]))
        user = chance.choice(["bob", "nobody", "super", "b\u00fcb", ""])
        password = chance.choice(["guess", "", "t0", "t0pp"])
        right = DigestMd5Conversation(user, password, lambda: "cnonce").respond(challenge) or b""
        return Opcode.SASL, token(self._mutated(right) if chance.random() < 0.6 else right)

    def _mutated(self, data: bytes) -> bytes:
        chance, changed = self._chance, bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            where = chance.randrange(len(changed) + 1)
            how = chance.randrange(5)
            if how == 0:
                changed[where:where] = chance.randbytes(chance.randrange(1, 6))
            elif how == 1:
                del changed[where : where + chance.randrange(1, 12)]
            elif how == 2 and where < len(changed):
                changed[where] = chance.choice(b'",=\\ \0a0:')
            elif how == 3:
                other = chance.randrange(len(changed) + 1)
                changed[where:where] = changed[other : other + chance.randrange(40)]
            elif chance.random() < 0.02:
                changed += b"," + chance.randbytes(8) * 1000
        return bytes(changed)


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def connect(port: Port) -> Peer:
    port.now_ms += 1
    return port.connect(timeout_ms=4000)


def challenge_of(said: bytes) -> bytes:
    start = said.rfind(b"realm=")
    return said[start:] if start >= 0 else b""


class Reasons(logging.Filter):
    """Counts why a server refused, and keeps a million lines from everybody else."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        self.counts[record.getMessage().rpartition(": ")[2]] += 1
        return False


@pytest.fixture
def reasons() -> Iterator[Counter[str]]:
    """Why the server refused."""
    logger, counting = logging.getLogger("terzetto.testcluster.auth"), Reasons()
    logger.addFilter(counting)
    yield counting.counts
    logger.removeFilter(counting)


def test_a_million_packets_of_strangers(reasons: Counter[str]) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    stranger = Stranger(chance)
    port = Port(
        sasl_exchange=DigestMd5({"bob": SECRET, "super": SECRET}, chance.randbytes),
        digest_super=digest_id(f"super:{SECRET}".encode()),
        sasl_super=("super",),
        sasl_failed_allowed=True,
    )
    sent, slowest, baseline = 0, 0.0, 0
    while sent < PACKETS:
        if baseline == 0 and sent >= WARM_UP:
            baseline = resident()
        peer, challenge = connect(port), b""
        for xid in range(1, PACKETS_OF_A_CONNECTION + 1):
            opcode, body = stranger.packet(challenge)
            began = time.process_time()
            peer.send(framed(struct.pack(">ii", xid, opcode) + body))
            slowest = max(slowest, time.process_time() - began)
            sent += 1
            while peer.frames:
                challenge = challenge_of(peer.frames.pop()) or challenge
            held = {identity.scheme for identity in peer.connection.ids}
            assert not held & {"sasl", "super"}, (seed, sent)
            if peer.closed:
                break
        else:
            port.machine.hang_up(peer.connection)
        port.machine.expire_session(peer.session_id)
        port.pump()
        # What the test itself keeps.
        port.peers.clear()
        port.log.clear()
    growth = resident() - baseline
    print(f"{sent} packets, slowest {slowest:.4f} s, {growth} bytes more held; {reasons.most_common(20)}")
    assert [reason for reason in REASONS if not any(reason in found for found in reasons)] == []
    assert reasons["wrong password"] > PACKETS // 200
    assert slowest < SLOWEST
    assert growth < GROWTH_MAX
    assert not port.machine.connections
    assert not port.tree.sessions
