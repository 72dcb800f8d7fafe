"""A member off duty: it serves nobody, and follows what is applied."""

from __future__ import annotations

from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.duties import Duties
from terzetto.testcluster.messages import PacketType, QuorumPacket
from terzetto.testcluster.processor import RequestProcessor
from terzetto.testcluster.sessions import SessionIds, SessionTracker
from terzetto.testcluster.settings import ServerSettings


def off_duty() -> tuple[RequestProcessor, Duties]:
    sessions = SessionTracker(server_id=1, tick_ms=2000, now_ms=5)
    processor = RequestProcessor(DataTree(), ServerSettings(), sessions)
    return processor, Duties(processor, SessionIds(1, 5))


def test_nobody_gets_a_session() -> None:
    processor, duties = off_duty()
    new, old = processor.open("127.0.0.1", 5), processor.open("127.0.0.1", 5)
    duties.begin_session(new, 4000, 5)
    duties.resume_session(old, 7, 4000, 5)
    assert (new.closing, old.closing) == (True, True)
    assert (new.take_output(), old.take_output()) == (b"", b"")


def test_it_has_nothing_to_do_and_nothing_to_say() -> None:
    processor, duties = off_duty()
    duties.learner_joined(1, 2)
    duties.packet(1, 2, QuorumPacket(PacketType.REQUEST, -1), 5, 5)
    duties.leadership_confirmed(1, 5)
    duties.learner_left(1)
    duties.ordered(5)
    duties.tick(10**6)
    duties.sweep(5)
    assert duties.next_due_ms is None
    assert duties.take_touches() == []
    assert not duties.expire_session(7)
    assert processor.take_requests() == []
