"""The processor of a learner: its clients' writes are prepared by another server."""

from __future__ import annotations

import struct
from typing import Any

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster import txns as t
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.processor import RequestProcessor
from terzetto.testcluster.sessions import SessionTracker
from terzetto.testcluster.settings import ServerSettings

from .port import Port, connect_frame, create, multi_frame


class Learner:
    """A processor whose writes are prepared by another server."""

    def __init__(self) -> None:
        self.leader = Port()
        self.tree = DataTree()
        sessions = SessionTracker(server_id=2, tick_ms=2000, now_ms=5)
        self.processor = RequestProcessor(self.tree, ServerSettings(server_id=2), sessions)

    def connect(self) -> Any:
        connection = self.processor.open("127.0.0.1", 5)
        self.processor.receive(connection, connect_frame(), 5)
        self.forward()
        assert len(connection.take_output()) == 41
        return connection

    def propose(self) -> list[t.Txn]:
        """The leader's transactions for what this server forwards."""
        for request in self.processor.take_requests():
            forwarded = type(request)(
                request.session_id, request.cxid, request.opcode, request.body, ids=request.ids, received_ms=5
            )
            self.leader.machine.add_request(forwarded)
        before = len(self.leader.log)
        self.leader.pump()
        return self.leader.log[before:]

    def forward(self) -> None:
        for txn in self.propose():
            self.processor.apply(txn, 6)


def test_a_learner_answers_its_own_clients_when_their_writes_come_back() -> None:
    learner = Learner()
    first, second = learner.connect(), learner.connect()
    learner.processor.receive(first, o.CREATE.frame(1, "/a", b"", OPEN_ACL_UNSAFE, 0), 5)
    learner.processor.receive(second, o.CREATE.frame(1, "/a", b"", OPEN_ACL_UNSAFE, 0), 5)
    remote = learner.leader.connect()
    before = len(learner.leader.log)
    remote.create("/remote")
    learner.processor.apply(learner.leader.log[before - 1], 6)
    learner.processor.apply(learner.leader.log[before], 6)
    assert first.take_output() == second.take_output() == b""
    learner.forward()
    assert first.take_output()[4:20] == struct.pack(">iqi", 1, 5, 0)
    assert second.take_output()[4:20] == struct.pack(">iqi", 1, 6, -110)
    assert learner.tree.digest == learner.leader.tree.digest
    assert remote.session_id in learner.processor.sessions.sessions


def test_a_learner_closes_a_connection_whose_session_has_moved() -> None:
    learner = Learner()
    connection = learner.connect()
    learner.processor.receive(connection, o.DELETE.frame(1, "/a", -1), 5)
    learner.leader.machine.sessions.sessions[connection.session_id].owner = "another server"
    learner.forward()
    assert (connection.take_output(), connection.closing) == (b"", True)


def test_a_learner_closes_it_also_when_a_multi_says_so() -> None:
    learner = Learner()
    connection = learner.connect()
    learner.processor.receive(connection, multi_frame(1, (1, create("/a"))), 5)
    learner.leader.machine.sessions.sessions[connection.session_id].owner = "another server"
    learner.forward()
    assert (connection.take_output(), connection.closing) == (b"", True)


def test_a_learner_s_expired_session_loses_its_connection() -> None:
    learner = Learner()
    connection = learner.connect()
    learner.processor.receive(connection, o.CREATE.frame(0, "/a", b"", OPEN_ACL_UNSAFE, 0), 5)
    assert learner.leader.machine.expire_session(connection.session_id)
    learner.leader.pump()
    learner.processor.apply(learner.leader.log[-1], 6)
    assert connection.closing
    learner.forward()
    assert connection.take_output() == b""
    assert "/a" not in learner.tree.nodes
