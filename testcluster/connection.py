"""One client's connection as the state machine sees it: its phase, what waits in it, what goes out.

Holds state and keeps its output bounded. What a request means is the processor's business, and no byte is moved here.
"""

from __future__ import annotations

import enum
from collections import deque

from terzetto.client.values import Id
from terzetto.client.wire import FrameBuffer

from .sessions import NO_SESSION
from .settings import SaslExchange

OUTPUT_SOFT_MAX = 1 << 20
"""Bytes of output after which no more requests of the connection are answered until it has been flushed."""

OUTPUT_HARD_MAX = 64 << 20
"""Bytes of output (watch events above all) after which a client that does not read is dropped; ZooKeeper never does."""


READS_WAITING_MAX = 48
"""Requests that may wait in a connection behind its writes; the next ones are not looked at before."""


class Phase(enum.Enum):
    """Where a connection is in its life.

    NEW: nothing has been read yet. HANDSHAKING: its ConnectRequest waits for an answer. OPEN: it has a session.
    ENDING: nothing more is read; what was read is answered. CLOSING: what is to be sent is sent, then it is closed.
    CLOSED: gone.
    """

    NEW = "NEW"
    HANDSHAKING = "HANDSHAKING"
    OPEN = "OPEN"
    ENDING = "ENDING"
    CLOSING = "CLOSING"
    CLOSED = "CLOSED"


class Traffic:
    """Counters of one connection, or of the whole server, for the four-letter words. Latencies in milliseconds."""

    __slots__ = ("answered", "latency_max", "latency_min", "latency_total", "received", "sent")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As the commands crst and srst do."""
        self.received = self.sent = self.answered = 0
        self.latency_total = self.latency_max = 0
        self.latency_min: int | None = None

    def add_answers(self, count: int, latency_ms: int) -> None:
        """Some requests were answered after this time."""
        self.answered += count
        self.latency_total += count * latency_ms
        if latency_ms > self.latency_max:
            self.latency_max = latency_ms
        if self.latency_min is None or latency_ms < self.latency_min:
            self.latency_min = latency_ms

    @property
    def latency_average(self) -> float:
        """Mean latency, 0 before the first answer."""
        return self.latency_total / self.answered if self.answered else 0.0


class Turn(enum.Enum):
    """What a waiting request needs to be answered.

    ORDERED: a write or a sync, whose outcome is not known yet. READ: to be read when all before it is answered.
    ANSWER: its answer is known.
    """

    ORDERED = "ORDERED"
    READ = "READ"
    ANSWER = "ANSWER"


class Request:
    """A request that waits its turn: a write until it is applied, anything behind one until that is answered.

    Attributes:
        connection: where the answer goes; `None` for the server's own requests and those of another server's clients.
        session_id: for whom it acts.
        cxid: the client's number for it.
        opcode: what it asks.
        turn: what it needs to be answered.
        body: the encoded record behind the header; once the answer is known, its frame, or nothing for a mere code.
        code: the error that is the answer when its turn comes.
        ids: who the client was when the request was read.
        owner: through whom it came, compared with the session's owner.
        received_ms: when, by the monotonic clock.
        zxid: its transaction's, once it has one.
        floor_zxid: where it was forwarded, the last transaction known then: its own must come behind.
    """

    __slots__ = (
        "body",
        "code",
        "connection",
        "cxid",
        "floor_zxid",
        "ids",
        "opcode",
        "owner",
        "received_ms",
        "session_id",
        "turn",
        "zxid",
    )

    def __init__(
        self,
        session_id: int,
        cxid: int,
        opcode: int,
        body: bytes,
        *,
        ids: tuple[Id, ...] = (),
        connection: Connection | None = None,
        owner: object | None = None,
        received_ms: int = 0,
        turn: Turn = Turn.ORDERED,
    ) -> None:
        self.turn = turn
        self.connection = connection
        self.session_id = session_id
        self.cxid = cxid
        self.opcode = opcode
        self.body = body
        self.code = 0
        self.ids = ids
        self.owner = owner
        self.received_ms = received_ms
        self.zxid = self.floor_zxid = 0

    def __repr__(self) -> str:
        return f"<Request {self.opcode} cxid={self.cxid} session={self.session_id:#x} {len(self.body)} bytes>"


class Connection:
    """One client's connection.

    Attributes:
        peer_ip: the peer's address, which is also its first identity.
        certificate_subject: RFC 2253 subject of its TLS certificate, `None` without one.
        ids: its identities now.
        auth_packets: auth packets and SASL tokens so far.
        phase: where it is in its life.
        session: its session as tracked here, `NO_SESSION` before the handshake is over.
        session_id: its session, 0 before the handshake is over.
        session_timeout_ms: negotiated timeout, 0 before the handshake is over.
        sends_read_only: whether its ConnectRequest had the byte for read-only mode, which the answer then has too.
        stalled: it has input that is not looked at yet; `receive` with b"" goes on once its output has left.
        waiting: requests not answered yet, the oldest first; `None` for none.
        reads_waiting: how many of them are reads.
        out: frames to be sent.
        out_size: their bytes.
        must_flush: whether it stands among the connections to be flushed.
        data_watches, child_watches, watches_size: its half of the watch tables.
        traffic: its counters.
        established_ms: when it was opened.
        last_opcode, last_cxid, last_zxid, last_response_ms, last_latency_ms: of its last answer.
    """

    __slots__ = (
        "auth_packets",
        "certificate_subject",
        "child_watches",
        "data_watches",
        "established_ms",
        "frames",
        "ids",
        "last_cxid",
        "last_latency_ms",
        "last_opcode",
        "last_response_ms",
        "last_zxid",
        "must_flush",
        "out",
        "out_size",
        "peer_ip",
        "phase",
        "reads_waiting",
        "sasl",
        "sends_read_only",
        "session",
        "session_id",
        "session_timeout_ms",
        "stalled",
        "traffic",
        "waiting",
        "watches_size",
    )

    def __init__(self, peer_ip: str, ids: tuple[Id, ...], *, max_frame: int, now_ms: int) -> None:
        self.peer_ip = peer_ip
        self.certificate_subject: str | None = None
        self.ids = ids
        self.auth_packets = 0
        self.phase = Phase.NEW
        self.frames = FrameBuffer(max_frame)
        self.session = NO_SESSION
        self.session_id = 0
        self.session_timeout_ms = 0
        self.sends_read_only = False
        self.sasl: SaslExchange | None = None
        self.waiting: deque[Request] | None = None
        self.reads_waiting = 0
        self.stalled = False
        self.out: list[bytes] = []
        self.out_size = 0
        self.must_flush = False
        self.data_watches: dict[str, int] = {}
        self.child_watches: dict[str, int] = {}
        self.watches_size = 0
        self.traffic = Traffic()
        self.established_ms = now_ms
        self.last_opcode: int | None = None
        self.last_cxid = -1
        self.last_zxid = -1
        self.last_response_ms = 0
        self.last_latency_ms = 0

    def __repr__(self) -> str:
        return f"<Connection {self.peer_ip} session={self.session_id:#x} {self.phase.value}>"

    @property
    def paused(self) -> bool:
        """Whether nothing is to be read from it now."""
        return self.stalled or self.phase is Phase.HANDSHAKING

    @property
    def queued(self) -> int:
        """Requests that were read and are not answered."""
        return len(self.waiting) if self.waiting else 0

    @property
    def closing(self) -> bool:
        """Whether it is to be closed once `take_output` has been sent."""
        return self.phase is Phase.CLOSING or self.phase is Phase.CLOSED

    def take_output(self) -> bytes:
        """Everything to be sent, in one piece."""
        out = self.out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.out_size = 0
        return data
