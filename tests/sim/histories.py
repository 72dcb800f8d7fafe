"""Histories written by hand, for tests of the checkers: three servers, and what they do in a line each."""

from __future__ import annotations

from terzetto.client.wire import Opcode
from terzetto.testcluster.ids import epoch_of, make_zxid
from terzetto.testcluster.ready import Entry
from terzetto.testcluster.txns import CreateSessionTxn, ErrorTxn, Txn, TxnHeader, encode_txn

from .ledger import Ledger


def error_txn(zxid: int, *, client: int = 7, cxid: int = 1, err: int = -101) -> Entry:
    """A transaction that changes nothing."""
    txn = Txn(TxnHeader(client, cxid, zxid, 0, Opcode.ERROR), ErrorTxn(err), None)
    return Entry(zxid, txn, encode_txn(txn))


def session_txn(zxid: int, session_id: int) -> Entry:
    """A transaction that makes a session."""
    txn = Txn(TxnHeader(session_id, 0, zxid, 0, Opcode.CREATE_SESSION), CreateSessionTxn(5000), None)
    return Entry(zxid, txn, encode_txn(txn))


class Script:
    """Three voters of a ledger, moved by hand."""

    def __init__(self) -> None:
        self.ledger = Ledger([1, 2, 3], [])
        self._cxid = 0

    def promise(self, epoch: int, *sids: int) -> None:
        """They accept an epoch, on disk."""
        for sid in sids:
            self.ledger.accepted_written(sid, epoch)

    def follow(self, epoch: int, *sids: int) -> None:
        """They say on disk that they have its initial history."""
        for sid in sids:
            self.ledger.current_written(sid, epoch)

    def lead(self, epoch: int, sid: int, *followers: int) -> None:
        """A server begins to lead, with followers that have what it has."""
        self.ledger.loaded(sid, self.ledger.reference.tree, 0)
        self.promise(epoch, sid, *followers)
        for follower in followers:
            self.ledger.led(100 * epoch + follower, sid, epoch)
        self.ledger.founded(sid, epoch)
        self.follow(epoch, sid, *followers)
        self.ledger.serves(sid, epoch, self.ledger.reference.tree, leading=True)

    def log(self, zxid: int, *sids: int, entry: Entry | None = None) -> Entry:
        """They log a transaction."""
        self._cxid += 1
        entry = entry or error_txn(zxid, cxid=self._cxid)
        for sid in sids:
            self.ledger.appended(sid, entry)
        return entry

    def sync(self, zxid: int, *sids: int) -> None:
        """It is durable there."""
        for sid in sids:
            self.ledger.synced(sid, zxid)

    def write(self, counter: int, leader: int, *followers: int, epoch: int = 1) -> Entry:
        """A transaction goes all the way to its commit."""
        zxid = make_zxid(epoch, counter)
        assert epoch_of(zxid) == epoch
        entry = self.log(zxid, leader, *followers)
        self.sync(zxid, leader, *followers)
        self.ledger.committed_by(leader, zxid)
        return entry
