"""What clients asked and were told, judged against the committed transactions.

Decides whether a history of clients could come from one znode tree: writes linearizable, reads sequentially consistent
within a session, reads behind a sync linearizable. That needs no search, because each answer names its zxid: the order
is given, and what remains is whether it agrees with time, with each session and with the states along it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from terzetto.client.wire import Opcode, codec, operations as o
from terzetto.client.wire.records import ExistsResponse
from terzetto.testcluster.codes import NO_NODE, SESSION_EXPIRED
from terzetto.testcluster.opcodes import WRITES
from terzetto.testcluster.storage.zxids import show

from .ledger import Ledger, Violation
from .reference import Seen

_encode_stat = codec(ExistsResponse).encode
_IDENTITY_SIZE = 16
_CREATES = (Opcode.CREATE, Opcode.CREATE2, Opcode.CREATE_CONTAINER, Opcode.CREATE_TTL)


class Watched(NamedTuple):
    """A one-shot data watch, and the zxid of the read that left it."""

    path: str
    zxid: int


@dataclass
class Asked:
    """A request under way.

    Attributes:
        session_id, xid, opcode, path: what it is.
        operation: how its answer is read.
        floor: the answer must show at least everything up to this zxid.
        watch: whether it leaves a watch.
    """

    session_id: int
    xid: int
    opcode: int
    path: str
    operation: o.Operation | None
    floor: int
    watch: bool = False


class Observations:
    """All clients' histories together.

    Args:
        ledger: what is committed.

    Attributes:
        acknowledged: the last zxid that any client was told its write has.
        answers: how many answers of each kind there were ("write", "read", "sync", "event", "session", "expiry").
    """

    def __init__(self, ledger: Ledger) -> None:
        self.acknowledged = 0
        self.answers = dict.fromkeys(("write", "read", "sync", "event", "session", "expiry"), 0)
        self._ledger = ledger
        # By session: the last zxid shown to it, and of its own last write.
        self._shown: dict[int, int] = {}
        self._written: dict[int, int] = {}

    def ask(self, session_id: int, xid: int, opcode: int, path: str, operation: o.Operation | None) -> Asked:
        """A client sends a request."""
        if opcode == Opcode.SYNC:
            # Everything committed by now, whether anyone has been told or not: a leader that a quorum still follows
            # has committed it.
            floor = self._ledger.committed
        else:
            floor = self.acknowledged if opcode in WRITES else 0
        return Asked(session_id, xid, opcode, path, operation, floor)

    def unasked(self, session_id: int, xid: int) -> None:
        """An answer that nobody waits for."""
        raise Violation("I18", f"session {session_id:#x} gets an answer {xid} to nothing")

    def welcomed(self, wanted: int, session_id: int) -> None:
        """A client has a session: the one it came with, or a new one."""
        ledger = self._ledger
        if wanted not in (0, session_id):
            raise Violation("I18", f"a client came with session {wanted:#x} and got {session_id:#x}")
        if wanted == 0 and session_id in self._shown:
            raise Violation("I19", f"session {session_id:#x} was given twice")
        if wanted == 0 and session_id not in ledger.sessions_created:
            raise Violation("I19", f"session {session_id:#x} was given, but nothing committed made it")
        self._shown.setdefault(session_id, 0)
        self.answers["session"] += 1

    def expired(self, session_id: int) -> None:
        """A client was told that its session is over."""
        if session_id not in self._ledger.sessions_closing:
            raise Violation("I19", f"session {session_id:#x} was called over, and nobody has closed it")
        self.answers["expiry"] += 1

    def answered(self, asked: Asked, xid: int, zxid: int, err: int, value: Any) -> None:
        """A client gets an answer."""
        ledger = self._ledger
        who = f"session {asked.session_id:#x}, request {asked.xid}"
        if xid != asked.xid:
            raise Violation("I18", f"{who}: answer {xid} comes first")
        real = ledger.real(zxid)
        if not ledger.within(real, ledger.committed):
            raise Violation("I18", f"{who}: shows {show(zxid)}, which is not committed")
        if real < asked.floor or (real == asked.floor and asked.opcode in WRITES):
            raise Violation("I18", f"{who} of type {asked.opcode}: {show(zxid)}, but {show(asked.floor)} came before")
        shown = self._shown[asked.session_id]
        if real < shown:
            raise Violation("I18", f"{who}: {show(zxid)} after {show(shown)}")
        self._shown[asked.session_id] = real
        if asked.opcode in WRITES:
            self._check_write(who, asked, real, err, value)
        elif asked.opcode == Opcode.SYNC:
            self.answers["sync"] += 1
        else:
            self._check_read(who, asked, real, err, value)

    def _check_write(self, who: str, asked: Asked, zxid: int, err: int, value: Any) -> None:
        txn = self._ledger.transaction(zxid)
        header = txn.header
        if (header.client_id, header.cxid) != (asked.session_id, asked.xid):
            raise Violation("I18", f"{who}: {show(zxid)} is request {header.cxid} of {header.client_id:#x}")
        if zxid <= self._written.get(asked.session_id, 0):
            raise Violation("I18", f"{who}: written in {show(zxid)}, before an earlier request of the session")
        self._written[asked.session_id] = zxid
        self.acknowledged = max(self.acknowledged, zxid)
        self.answers["write"] += 1
        if err != (txn.record.err if header.type == Opcode.ERROR else 0):
            raise Violation("I18", f"{who}: answered {err}, but {show(zxid)} is {txn}")
        if err or value is None:
            return
        if asked.opcode in _CREATES and value.path != txn.record.path:
            raise Violation("I18", f"{who}: made {value.path}, but {show(zxid)} is {txn}")
        stat = getattr(value, "stat", None)
        if stat is not None and _encode_stat(ExistsResponse(stat)) != self._seen(txn.record.path, zxid).stat:
            raise Violation("I18", f"{who}: answered {stat}, which {show(zxid)} did not make")

    def _check_read(self, who: str, asked: Asked, zxid: int, err: int, value: Any) -> None:
        self.answers["read"] += 1
        seen = self._seen(asked.path, zxid)
        exists = bool(seen.stat)
        if err == SESSION_EXPIRED and asked.session_id in self._ledger.sessions_closing:
            return
        if err:
            if err != NO_NODE or exists:
                raise Violation("I18", f"{who}: {asked.path} answered {err} at {show(zxid)}, where it is {seen}")
            return
        right = _encode_stat(ExistsResponse(value.stat)) == seen.stat
        if asked.opcode == Opcode.GET_DATA:
            right = right and value.data == seen.data
        elif asked.opcode == Opcode.GET_CHILDREN2:
            right = right and tuple(sorted(value.children)) == seen.children
        if not right:
            raise Violation("I18", f"{who}: {asked.path} answered {value} at {show(zxid)}, where it is {seen}")

    def _seen(self, path: str, zxid: int) -> Seen:
        return self._ledger.reference.at(path, zxid)

    # Watches.

    def event(self, watched: dict[str, Watched], path: str) -> None:
        """A watch has fired."""
        if watched.pop(path, None) is None:
            raise Violation("I18", f"an event for {path}, which was not watched")
        self.answers["event"] += 1

    def order(self, watched: dict[str, Watched], zxid: int) -> None:
        """An answer that shows a change comes behind the event of a watch that waits for the change."""
        now = self._ledger.real(zxid)
        for path, before in watched.values():
            then = self._seen(path, self._ledger.real(before)).stat[:_IDENTITY_SIZE]
            if now > before and self._seen(path, now).stat[:_IDENTITY_SIZE] != then:
                raise Violation("I18", f"an answer shows {show(zxid)}, but the watch on {path} has not fired")
