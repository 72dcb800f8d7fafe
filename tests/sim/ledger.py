"""What the servers do to their histories, written down from outside, and what of it Zab forbids.

Decides from three sources only: what reaches a disk, what a server sends, what it applies. It asks no server what it
believes. Histories form a tree in which a zxid has one place: a transaction always follows the same one, because one
leader proposes an epoch's transactions on top of one initial history. So a server's whole durable history is known by
its last zxid, and each question here is a walk over a few epochs.

The names I1 to I20 are those of docs/design/simulation.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from terzetto.client.wire import Opcode
from terzetto.testcluster.codes import SESSION_EXPIRED, SESSION_MOVED
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.ids import counter_of, epoch_of
from terzetto.testcluster.messages import PacketType, QuorumPacket, decode_int
from terzetto.testcluster.ready import Entry
from terzetto.testcluster.snapshot_body import SnapshotBody
from terzetto.testcluster.storage.zxids import follows, show
from terzetto.testcluster.txns import DIGEST_VERSION, MultiTxn, Txn, decode_txn, encode_txn

from .reference import Reference


class Violation(AssertionError):
    """Something happened that must never happen.

    Args:
        invariant: its name.
        what: who did what.
    """

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(invariant, what)  # what it is made of again, in the process that asked for the run
        self.invariant = invariant
        self.what = what

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


@dataclass
class Replica:
    """One server, as its disk and its tree are known from outside.

    Attributes:
        accepted, current: its epochs on disk.
        durable: last zxid that a crash cannot take.
        named: the epoch in that zxid, as the disk has it: a snapshot may bear an epoch without a transaction.
        logged: last zxid appended.
        applied: last zxid in its tree.
        fuzzy_until: its tree is exact only from this zxid on.
        serving: whether it answers clients.
        offering: the epoch that it offers to learners, if it does.
        leading: the epoch whose transactions it proposes, if it does.
    """

    accepted: int = 0
    current: int = 0
    durable: int = 0
    named: int = 0
    logged: int = 0
    applied: int = 0
    fuzzy_until: int = 0
    serving: bool = False
    offering: int | None = None
    leading: int | None = None

    @property
    def reached(self) -> int:
        """The last epoch whose initial history it has: whoever has logged a transaction of an epoch has it, too."""
        return max(self.current, self.named)


class Ledger:
    """Everything known of the ensemble's histories.

    Args:
        voters: sids of the servers whose majority is a quorum.
        observers: sids of the others.

    Attributes:
        replicas: by sid.
        reference: what the committed transactions make of an empty tree.
        committed: the last zxid that some leader has committed.
        founders: epoch to the server that proposed itself for it with NEWLEADER.
        initial: epoch to the last zxid of the history it began with.
        established: epoch to the server that led it with a quorum.
        sessions_created: ids of sessions that a committed transaction has made.
        sessions_closing: ids of sessions that some leader wanted to end.
    """

    def __init__(self, voters: Collection[int], observers: Collection[int]) -> None:
        self.voters = frozenset(voters)
        self.replicas = {sid: Replica() for sid in sorted({*voters, *observers})}
        self.reference = Reference()
        self.committed = 0
        self.founders: dict[int, int] = {}
        self.initial: dict[int, int] = {0: 0}
        self.established: dict[int, int] = {}
        self.sessions_created: set[int] = set()
        self.sessions_closing: set[int] = set()
        # By session: its last request that was carried out.
        self._last_cxid: dict[int, int] = {}
        self._payloads: dict[int, bytes] = {}
        self._txns: dict[int, Txn] = {}
        self._before: dict[int, int] = {}
        # Epoch to the zxid that its first transaction follows.
        self._base: dict[int, int] = {}
        self._digests: dict[int, int] = {0: self.reference.tree.digest}
        self._link_epochs: dict[int, int] = {}
        self._bodies: list[tuple[SnapshotBody, int]] = []

    # Histories.

    def real(self, zxid: int) -> int:
        """The transaction that a zxid stands for: that of an epoch's start names the history it began with."""
        return zxid if counter_of(zxid) else self.initial.get(epoch_of(zxid), zxid)

    def within(self, zxid: int, last: int) -> bool:
        """Whether the history that ends with `last` contains `zxid`."""
        epoch = epoch_of(zxid)
        while epoch_of(last) > epoch:
            last = self._base[epoch_of(last)]
        return epoch_of(last) == epoch and zxid <= last

    def shared(self, one: int, other: int) -> int:
        """The last transaction that two histories have in common."""
        while epoch_of(one) != epoch_of(other):
            if epoch_of(one) > epoch_of(other):
                one = self._base[epoch_of(one)]
            else:
                other = self._base[epoch_of(other)]
        return min(one, other)

    def is_quorum(self, sids: Collection[int]) -> bool:
        """Whether these servers are a majority of those who vote."""
        return len(self.voters.intersection(sids)) * 2 > len(self.voters)

    def holders(self, zxid: int) -> list[int]:
        """Voters that have the transaction where no crash can take it."""
        return [sid for sid in sorted(self.voters) if self.within(zxid, self.replicas[sid].durable)]

    def transaction(self, zxid: int) -> Txn:
        """The transaction that was proposed under a zxid."""
        return self._txns[zxid]

    def proposed(self, sid: int, entry: Entry) -> None:
        """A server has seen a transaction for the first time, or again: it must be the same, and its leader's."""
        zxid, txn, payload = entry
        known = self._payloads.get(zxid)
        if known is None:
            if self.founders.get(epoch_of(zxid)) != sid:
                raise Violation("I4", f"server {sid} has {show(zxid)}, which nobody proposed")
            self._payloads[zxid] = payload
            self._txns[zxid] = txn
            if txn.header.type == Opcode.CLOSE_SESSION:
                self.sessions_closing.add(txn.header.client_id)
        elif known != payload:
            raise Violation("I4", f"server {sid} has another transaction {show(zxid)} than its leader proposed")

    # What a disk does.

    def appended(self, sid: int, entry: Entry) -> None:
        """A transaction was added to a log, still volatile."""
        replica, zxid = self.replicas[sid], entry.zxid
        if not follows(zxid, replica.logged):
            raise Violation("I10", f"server {sid} logs {show(zxid)} behind {show(replica.logged)}")
        self.proposed(sid, entry)
        before = self._before.setdefault(zxid, replica.logged)
        if before != replica.logged:
            raise Violation("I7", f"server {sid} logs {show(zxid)} behind {show(replica.logged)}, not {show(before)}")
        if counter_of(zxid) == 1:
            self._base[epoch_of(zxid)] = before
            if before != self.initial.get(epoch_of(zxid)):
                raise Violation("I9", f"{show(zxid)} does not follow its leader's initial history")
        if zxid not in self._digests:
            digest = entry.txn.digest
            known = digest is not None and digest.version == DIGEST_VERSION
            self._digests[zxid] = digest.tree_digest if digest is not None and known else self._digests[before]
        replica.logged = zxid

    def synced(self, sid: int, zxid: int) -> None:
        """Everything up to a zxid is durable."""
        replica = self.replicas[sid]
        replica.durable, replica.named = self.real(zxid), epoch_of(zxid)

    def cut(self, sid: int, zxid: int) -> None:
        """A log and its snapshots were cut behind a zxid, or replaced by a snapshot of it."""
        replica = self.replicas[sid]
        replica.named = epoch_of(zxid)
        zxid = self.real(zxid)
        for last in (replica.logged, replica.durable):
            kept = self.shared(self.committed, last)
            if not self.within(kept, zxid):
                raise Violation("I15", f"server {sid} gives up {show(kept)}, which is committed, for {show(zxid)}")
        replica.logged = replica.durable = zxid
        self.check_durability()

    def crashed(self, sid: int, durable: int) -> None:
        """A server's memory is gone, and of its log what was not synced, in part."""
        replica = self.replicas[sid]
        replica.named = epoch_of(durable)
        durable = self.real(durable)
        if not self.within(replica.durable, durable):
            raise Violation("I17", f"server {sid} had synced {show(replica.durable)}, and has {show(durable)}")
        replica.durable = replica.logged = durable
        self.retires(sid)

    def accepted_written(self, sid: int, epoch: int) -> None:
        """A promise is on disk."""
        replica = self.replicas[sid]
        if epoch < replica.accepted:
            raise Violation("I2", f"server {sid} accepts epoch {epoch} after {replica.accepted}")
        replica.accepted = epoch

    def current_written(self, sid: int, epoch: int) -> None:
        """A server says on disk that it has the initial history of an epoch."""
        replica = self.replicas[sid]
        if not replica.current <= epoch <= replica.accepted:
            raise Violation("I2", f"server {sid}: epoch {epoch} after {replica.current}, accepted {replica.accepted}")
        replica.current = epoch
        if epoch in self.initial and not self.within(self.initial[epoch], replica.durable):
            raise Violation("I14", f"server {sid} writes current epoch {epoch}, but has only {show(replica.durable)}")

    # What a server sends.

    def sent(self, sid: int, link: int, packet: QuorumPacket) -> None:
        """A server sends a packet on a quorum link."""
        kind, zxid, data, _ = packet
        if kind in (PacketType.PROPOSAL, PacketType.INFORM):
            self.sent_proposal(sid, data or b"")
        if kind in (PacketType.COMMIT, PacketType.INFORM):
            self.sent_commit(sid, zxid)
        elif kind == PacketType.ACK:
            self.acknowledged(sid, link, zxid)
        elif kind == PacketType.LEADERINFO:
            self.led(link, sid, epoch_of(zxid))
        elif kind == PacketType.ACKEPOCH:
            self.told_epochs(sid, link, zxid, decode_int(data))
        elif kind == PacketType.NEWLEADER:
            self.founded(sid, epoch_of(zxid))

    def body_arrived(self, body: SnapshotBody, reach: int) -> None:
        """A learner has a leader's tree, with traces of transactions up to `reach`."""
        self._bodies.append((body, reach))

    def body_reach(self, body: SnapshotBody) -> int:
        """See `body_arrived`."""
        return next(reach for known, reach in self._bodies if known is body)

    def led(self, link: int, sid: int, epoch: int) -> None:
        """A leader offers its epoch (LEADERINFO) on a link."""
        self._link_epochs[link] = epoch
        self.replicas[sid].offering = epoch
        if self.replicas[sid].accepted < epoch:
            raise Violation("I2", f"server {sid} offers epoch {epoch} before it has promised it itself")

    def link_epoch(self, link: int) -> int:
        """The epoch that was offered on a link."""
        return self._link_epochs.get(link, 0)

    def told_epochs(self, sid: int, link: int, zxid: int, current: int) -> None:
        """A learner answers the offer with what it has (ACKEPOCH)."""
        replica = self.replicas[sid]
        if replica.accepted < self.link_epoch(link):
            raise Violation("I2", f"server {sid} promises epoch {self.link_epoch(link)}, on disk is {replica.accepted}")
        if current != -1:
            self._check_epoch(sid, current)
        self._check_claim(sid, zxid)

    def voted(self, sid: int, zxid: int, current: int) -> None:
        """A server votes for itself."""
        self._check_epoch(sid, current)
        self._check_claim(sid, zxid)

    def _check_epoch(self, sid: int, current: int) -> None:
        # What a restart would raise the epoch to, a server that goes on may say already.
        replica = self.replicas[sid]
        if not replica.current <= current <= replica.reached:
            raise Violation("I17", f"server {sid} claims epoch {current}, on disk is {replica.current}")

    def _check_claim(self, sid: int, zxid: int) -> None:
        replica = self.replicas[sid]
        if zxid < 0:
            # It claims nothing: its history cannot be relied on.
            return
        if not self.within(self.real(zxid), replica.durable):
            raise Violation("I17", f"server {sid} claims {show(zxid)}, durable is {show(replica.durable)}")
        if not counter_of(zxid) and epoch_of(zxid) > replica.reached:
            raise Violation("I17", f"server {sid} claims {show(zxid)}, its epoch is {replica.reached}")

    def founded(self, sid: int, epoch: int) -> None:
        """A leader sends its first NEWLEADER of an epoch, so its initial history is decided."""
        replica = self.replicas[sid]
        founder = self.founders.setdefault(epoch, sid)
        if founder != sid or (epoch in self.initial and replica.leading != epoch):
            raise Violation("I1", f"servers {founder} and {sid} lead epoch {epoch}, or one of them twice")
        if replica.leading == epoch:
            return
        replica.leading = epoch
        self.initial[epoch] = self._base[epoch] = replica.logged
        self._check_complete(sid, epoch)

    def acknowledged(self, sid: int, link: int, zxid: int) -> None:
        """A follower sends an ACK, of NEWLEADER or of a proposal."""
        replica, epoch = self.replicas[sid], self.link_epoch(link)
        if replica.accepted > epoch:
            raise Violation("I3", f"server {sid} acks {show(zxid)} of epoch {epoch} after promising {replica.accepted}")
        rule = "I11" if counter_of(zxid) else "I13"
        if not self.within(self.real(zxid), replica.durable):
            raise Violation(rule, f"server {sid} acks {show(zxid)}, durable is {show(replica.durable)}")

    def sent_proposal(self, sid: int, payload: bytes) -> None:
        """A leader sends PROPOSAL or INFORM; also of earlier epochs, while it brings a learner into step."""
        txn = decode_txn(payload)
        zxid = txn.header.zxid
        offering = self.replicas[sid].offering
        if offering is None or epoch_of(zxid) > offering:
            raise Violation("I1", f"server {sid} proposes {show(zxid)} while it offers epoch {offering}")
        if self._payloads.get(zxid) != payload:
            raise Violation("I4", f"server {sid} sends another transaction {show(zxid)} than was proposed")
        if not self.within(zxid, self.replicas[sid].logged):
            raise Violation("I7", f"server {sid} sends {show(zxid)}, which is not in its own history")

    def sent_commit(self, sid: int, zxid: int) -> None:
        """A leader sends COMMIT or INFORM.

        Of an earlier epoch it says that while it brings a learner into step, maybe before its own epoch is established:
        then it is committed with the initial history, or not at all.
        """
        replica = self.replicas[sid]
        if replica.offering is None or epoch_of(zxid) >= replica.offering:
            self.committed_by(sid, zxid)
        elif not self.within(zxid, replica.logged):
            raise Violation("I7", f"server {sid} commits {show(zxid)}, which is not in its own history")

    def committed_by(self, sid: int, zxid: int) -> None:
        """A leader has committed everything up to a zxid: it says so, or applies it."""
        if self.within(zxid, self.committed):
            return
        leading = self.replicas[sid].leading
        if leading not in self.established or self.established[leading] != sid:
            raise Violation("I11", f"server {sid} commits {show(zxid)} without an established epoch")
        self._advance(zxid)

    def _advance(self, zxid: int) -> None:
        if not self.within(self.committed, zxid):
            raise Violation("I6", f"{show(zxid)} is committed on a history without {show(self.committed)}")
        path: list[int] = []
        place = zxid
        while place != self.committed:
            path.append(place)
            place = self._before[place]
        for step in reversed(path):
            if counter_of(step) != 1 and not follows(step, self.committed):
                raise Violation("I10", f"{show(step)} is committed behind {show(self.committed)}")
            txn = self._txns[step]
            self._check_request(txn)
            self.reference.apply(txn)
            if self.reference.tree.digest != self._digests[step]:
                raise Violation("I16", f"the leader's digest of {show(step)} is not what its transactions make")
            self.committed = step
        self.check_durability()

    def _check_request(self, txn: Txn) -> None:
        """A session's requests are carried out in its order, and each at most once."""
        session_id, cxid, zxid, _, kind = txn.header
        if kind == Opcode.CREATE_SESSION:
            if session_id in self.sessions_created:
                raise Violation("I19", f"{show(zxid)} makes session {session_id:#x} again")
            self.sessions_created.add(session_id)
        elif session_id and cxid > 0 and not _is_disowned(txn):
            if cxid <= self._last_cxid.get(session_id, 0):
                raise Violation("I18", f"{show(zxid)} is request {cxid} of {session_id:#x}, which did more already")
            self._last_cxid[session_id] = cxid

    def check_durability(self) -> None:
        """I11: a quorum has all that is committed where no crash can take it."""
        holders = self.holders(self.committed)
        if not self.is_quorum(holders):
            raise Violation("I11", f"{show(self.committed)} is committed, but durable only on {holders}")

    # What a server applies.

    def loaded(self, sid: int, tree: DataTree, fuzzy_until: int) -> None:
        """A tree was built from a snapshot and the log behind it; up to `fuzzy_until` it has traces of what follows."""
        replica = self.replicas[sid]
        replica.applied = self.real(tree.last_zxid)
        replica.fuzzy_until = self.real(fuzzy_until)
        self._check_tree(sid, tree)

    def applied(self, sid: int, txn: Txn, tree: DataTree) -> None:
        """A transaction was applied to a tree."""
        replica, zxid = self.replicas[sid], txn.header.zxid
        if self._before.get(zxid) != replica.applied:
            before = show(replica.applied)
            raise Violation("I5", f"server {sid} applies {show(zxid)} behind {before}, where nobody logged it")
        if txn is not self._txns[zxid] and encode_txn(txn) != self._payloads[zxid]:
            raise Violation("I4", f"server {sid} applies another transaction {show(zxid)} than its leader proposed")
        replica.applied = zxid
        if replica.serving:
            if replica.leading is not None:
                self.committed_by(sid, zxid)
            elif not self.within(zxid, self.committed):
                raise Violation("I11", f"server {sid} applies {show(zxid)}, which is not committed")
        self._check_tree(sid, tree)

    def _check_tree(self, sid: int, tree: DataTree) -> None:
        replica = self.replicas[sid]
        # A fuzzy snapshot has traces of what comes behind it, until that has been applied too.
        if not self.within(replica.fuzzy_until, replica.applied):
            return
        if tree.digest != self._digests[replica.applied]:
            raise Violation("I16", f"server {sid}: the tree at {show(replica.applied)} is not what its history makes")
        for session_id in tree.ephemerals:
            if session_id not in tree.sessions:
                raise Violation("I19", f"server {sid}: {tree.ephemerals[session_id]} of no session {session_id:#x}")

    # What a server becomes.

    def serves(self, sid: int, epoch: int, tree: DataTree, *, leading: bool) -> None:
        """A server begins to answer clients."""
        replica = self.replicas[sid]
        if leading:
            founder = self.established.setdefault(epoch, sid)
            if founder != sid or self.founders.get(epoch) != sid or replica.leading != epoch:
                raise Violation("I1", f"servers {founder} and {sid} lead epoch {epoch}")
            self._check_established(sid, epoch)
            if not self.within(self.initial[epoch], self.committed):
                self._advance(self.initial[epoch])
        if not self.within(replica.applied, self.committed):
            raise Violation("I16", f"server {sid} serves {show(replica.applied)}, which is not committed")
        if not self.within(replica.fuzzy_until, replica.applied):
            raise Violation("I16", f"server {sid} serves a fuzzy tree at {show(replica.applied)}")
        self._check_tree(sid, tree)
        if tree.sessions != self.reference.sessions_at(replica.applied):
            raise Violation("I19", f"server {sid} serves {show(replica.applied)} with other sessions than it has")
        if epoch not in self.established:
            raise Violation("I1", f"server {sid} serves in epoch {epoch}, which nobody has established")
        if not self.within(self.initial[epoch], replica.applied):
            raise Violation("I13", f"server {sid} serves epoch {epoch} without its initial history")
        replica.serving = True

    def _check_established(self, sid: int, epoch: int) -> None:
        ready = [voter for voter in self.holders(self.initial[epoch]) if self.replicas[voter].current >= epoch]
        if not self.is_quorum(ready):
            raise Violation("I13", f"server {sid} establishes epoch {epoch}, but only {ready} are in step on disk")
        self._check_complete(sid, epoch)

    def _check_complete(self, sid: int, epoch: int) -> None:
        before = self.committed
        # A leader that stood still may come after the next one; what that one has committed it cannot have.
        while epoch_of(before) >= epoch:
            before = self._base[epoch_of(before)]
        if not self.within(before, self.initial[epoch]):
            raise Violation("I12", f"server {sid} leads epoch {epoch} without {show(before)}")

    def retires(self, sid: int) -> None:
        """A server stops answering clients, or leading."""
        replica = self.replicas[sid]
        replica.serving = False
        replica.offering = replica.leading = None


def _is_disowned(txn: Txn) -> bool:
    """Whether the request was refused because its session had moved on, or ended: then it may come late."""
    records = [sub.record for sub in txn.record.txns] if isinstance(txn.record, MultiTxn) else [txn.record]
    return any(getattr(record, "err", 0) in (SESSION_MOVED, SESSION_EXPIRED) for record in records)
