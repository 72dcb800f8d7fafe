"""What clients may be told: the right answers pass, and each wrong one is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE, ZnodeStat
from terzetto.client.wire import Opcode, codec, operations as o, records as r
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.ids import make_zxid
from terzetto.testcluster.ready import Entry
from terzetto.testcluster.txns import CloseSessionTxn, CreateTxn, SetDataTxn, Txn, TxnDigest, TxnHeader, encode_txn

from .histories import Script, session_txn
from .ledger import Violation
from .observations import Asked, Observations, Watched

E1 = make_zxid(1, 0)
ALICE, BOB = 71, 72


class Story:
    """Two sessions; Alice has created /a in transaction 3 and changed it in 4."""

    def __init__(self) -> None:
        self.script = Script()
        self.script.lead(1, 1, 2, 3)
        self.ledger = self.script.ledger
        self.observations = Observations(self.ledger)
        self._tree = DataTree()
        self._last = E1
        for session_id in (ALICE, BOB):
            self.commit(session_txn(self._last + 1, session_id))
            self.observations.welcomed(0, session_id)
        self.created = self.ask(ALICE, 1, Opcode.CREATE)
        self.write(ALICE, 1, Opcode.CREATE, CreateTxn("/a", b"one", OPEN_ACL_UNSAFE, False, 1))
        self.changed = self.ask(ALICE, 2, Opcode.SET_DATA)
        self.write(ALICE, 2, Opcode.SET_DATA, SetDataTxn("/a", b"two", 1))

    def commit(self, entry: Entry) -> None:
        self.script.log(entry.zxid, 1, 2, entry=entry)
        self.script.sync(entry.zxid, 1, 2)
        self.ledger.committed_by(1, entry.zxid)
        self._last = entry.zxid

    def write(self, session_id: int, cxid: int, kind: int, record: object) -> None:
        zxid = self._last + 1
        txn = Txn(TxnHeader(session_id, cxid, zxid, 1000, kind), record, None)
        self._tree.apply(txn)
        txn = txn._replace(digest=TxnDigest(2, self._tree.digest))
        self.commit(Entry(zxid, txn, encode_txn(txn)))

    def ask(self, session_id: int, xid: int, opcode: int, path: str = "/a") -> Asked:
        operation = o.OPERATIONS.get(opcode)
        return self.observations.ask(session_id, xid, opcode, path, operation)

    def stat(self, zxid: int) -> ZnodeStat:
        data = self.ledger.reference.at("/a", zxid).stat
        return codec(r.ExistsResponse).decode(data, 0, len(data))[0].stat

    def read(self, session_id: int, zxid: int, data: bytes | None = None, *, xid: int = 9) -> None:
        """The session reads /a and is told what it was at a zxid."""
        seen = self.ledger.reference.at("/a", zxid)
        asked = self.ask(session_id, xid, Opcode.GET_DATA)
        value = r.GetDataResponse(seen.data if data is None else data, self.stat(zxid))
        self.observations.answered(asked, xid, zxid, 0, value)

    def answer_write(self, asked: Asked, zxid: int, err: int = 0, value: object = None) -> None:
        self.observations.answered(asked, asked.xid, zxid, err, value)


CREATED, CHANGED = E1 + 3, E1 + 4


def test_right_answers_are_accepted() -> None:
    story = Story()
    story.answer_write(story.created, CREATED, value=r.CreateResponse("/a"))
    story.answer_write(story.changed, CHANGED, value=r.SetDataResponse(story.stat(CHANGED)))
    # Bob's server is behind: that is allowed, until Bob has seen more.
    story.read(BOB, CREATED)
    story.read(BOB, CHANGED)
    story.read(ALICE, CHANGED)
    assert story.observations.acknowledged == CHANGED
    assert story.observations.answers["read"] == 3


def a_write_answered_with_another_zxid(story: Story) -> None:
    story.answer_write(story.created, CHANGED)


def a_write_answered_with_a_wrong_code(story: Story) -> None:
    story.answer_write(story.created, CREATED, err=-110)


def a_write_answered_with_a_wrong_path(story: Story) -> None:
    story.answer_write(story.created, CREATED, value=r.CreateResponse("/b"))


def a_write_answered_with_a_wrong_stat(story: Story) -> None:
    story.answer_write(story.created, CREATED, value=r.CreateResponse("/a"))
    story.answer_write(story.changed, CHANGED, value=r.SetDataResponse(story.stat(CREATED)))


def an_answer_before_its_turn(story: Story) -> None:
    story.observations.answered(story.created, 2, CREATED, 0, None)


def a_write_that_happened_before_it_was_asked_for(story: Story) -> None:
    story.answer_write(story.created, CREATED, value=r.CreateResponse("/a"))
    story.answer_write(story.changed, CHANGED)
    late = story.ask(BOB, 1, Opcode.SET_DATA)
    story.answer_write(late, CHANGED)


def a_read_of_what_is_not_committed(story: Story) -> None:
    asked = story.ask(BOB, 9, Opcode.GET_DATA)
    story.observations.answered(asked, 9, CHANGED + 1, -101, None)


def a_read_of_something_else(story: Story) -> None:
    story.read(BOB, CREATED, b"two")


def a_read_that_misses_a_znode(story: Story) -> None:
    story.observations.answered(story.ask(BOB, 9, Opcode.GET_DATA), 9, CREATED, -101, None)


def a_session_that_goes_back_in_time(story: Story) -> None:
    story.read(BOB, CHANGED)
    story.read(BOB, CREATED)


def a_session_that_does_not_see_its_own_write(story: Story) -> None:
    story.answer_write(story.created, CREATED, value=r.CreateResponse("/a"))
    story.answer_write(story.changed, CHANGED)
    story.read(ALICE, CREATED)


def a_sync_that_is_behind(story: Story) -> None:
    story.observations.answered(story.ask(BOB, 1, Opcode.SYNC), 1, CREATED, 0, None)


def a_read_behind_a_sync_that_is_behind(story: Story) -> None:
    sync = story.ask(BOB, 1, Opcode.SYNC)
    read = story.ask(BOB, 2, Opcode.EXISTS)
    read.floor = sync.floor
    story.observations.answered(read, 2, CREATED, 0, r.ExistsResponse(story.stat(CREATED)))


def a_session_called_over_that_nobody_has_closed(story: Story) -> None:
    story.observations.expired(BOB)


def a_session_that_becomes_another(story: Story) -> None:
    story.observations.welcomed(ALICE, BOB)


def a_session_that_nothing_made(story: Story) -> None:
    story.observations.welcomed(0, 99)


def a_watch_passed_over(story: Story) -> None:
    story.observations.order({"/a": Watched("/a", CREATED)}, CHANGED)


def an_event_for_nothing(story: Story) -> None:
    story.observations.event({}, "/a")


@pytest.mark.parametrize(
    ("deed", "invariant"),
    [
        (a_write_answered_with_another_zxid, "I18"),
        (a_write_answered_with_a_wrong_code, "I18"),
        (a_write_answered_with_a_wrong_path, "I18"),
        (a_write_answered_with_a_wrong_stat, "I18"),
        (an_answer_before_its_turn, "I18"),
        (a_write_that_happened_before_it_was_asked_for, "I18"),
        (a_read_of_what_is_not_committed, "I18"),
        (a_read_of_something_else, "I18"),
        (a_read_that_misses_a_znode, "I18"),
        (a_session_that_goes_back_in_time, "I18"),
        (a_session_that_does_not_see_its_own_write, "I18"),
        (a_sync_that_is_behind, "I18"),
        (a_read_behind_a_sync_that_is_behind, "I18"),
        (a_session_called_over_that_nobody_has_closed, "I19"),
        (a_session_that_becomes_another, "I18"),
        (a_session_that_nothing_made, "I19"),
        (a_watch_passed_over, "I18"),
        (an_event_for_nothing, "I18"),
    ],
)
def test_a_wrong_answer_is_found(deed: Callable[[Story], None], invariant: str) -> None:
    story = Story()
    with pytest.raises(Violation) as caught:
        deed(story)
    assert caught.value.invariant == invariant


def test_a_closed_session_may_be_called_over_and_its_reads_refused() -> None:
    story = Story()
    story.write(BOB, 0, Opcode.CLOSE_SESSION, CloseSessionTxn([]))
    story.observations.answered(story.ask(BOB, 9, Opcode.GET_DATA), 9, CHANGED + 1, -112, None)
    story.observations.expired(BOB)
    assert story.observations.answers["expiry"] == 1


def test_the_children_of_a_znode_are_compared_whatever_their_order() -> None:
    story = Story()
    stat = codec(r.ExistsResponse).decode(story.ledger.reference.at("/", CHANGED).stat, 0, 68)[0].stat
    asked = story.ask(BOB, 9, Opcode.GET_CHILDREN2, "/")
    story.observations.answered(asked, 9, CHANGED, 0, r.GetChildren2Response(["zookeeper", "a"], stat))
    with pytest.raises(Violation):
        story.observations.answered(asked, 9, CHANGED, 0, r.GetChildren2Response(["zookeeper"], stat))
