"""What a peer of the ensemble wants done: written to disk, sent, applied, told to the replica.

Decides the form and the order only, and moves no byte. A `Ready` is carried out like this, one after the other by
their numbers:

1. hand `writes` to the disk, in their order. They are durable later: `Peer.durable(number)` says so, and then means
   every Ready up to that number;
2. `applies`, to the tree and to the clients' side, in their order;
3. `role`, where it is not None;
4. `upcalls`, in their order;
5. `sends`, in their order on each link. They need not wait for the writes: whatever must not leave before something is
   durable stands in a later Ready, which the peer gives after it has heard of that. So the shell cannot get that wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .messages import Notification, QuorumPacket, ServerState
from .snapshot_body import SnapshotBody
from .txns import Txn


class Entry(NamedTuple):
    """A transaction and its bytes, which are the same in a PROPOSAL and in a log.

    They are kept together since decoding loses what ZooKeeper before 3.9 leaves behind in a failed multi.
    """

    zxid: int
    txn: Txn
    payload: bytes


# Writes.


class WriteAcceptedEpoch(NamedTuple):
    """The promise to follow no leader of an earlier epoch."""

    epoch: int


class WriteCurrentEpoch(NamedTuple):
    """The epoch whose initial history is in the log; everything written before this is durable before it."""

    epoch: int


class AppendTxns(NamedTuple):
    """More of the history, following what is there."""

    entries: list[Entry]


class TruncateHistory(NamedTuple):
    """Cut everything behind `zxid` out of the storage and build the tree anew from what is left.

    Until `durable` the peer gives nothing to apply. Where the storage cannot (`zxid` is not in it, or it has no
    snapshot from before), call `Peer.truncation_failed` in place of `durable`; nothing else may have changed.
    """

    zxid: int


class InstallSnapshot(NamedTuple):
    """Replace tree and storage, at once, by a leader's tree with `entries` applied to it.

    The tree is loaded from `snapshot` at `zxid`, then `entries` are applied to it, then it is written as a snapshot
    that replaces the history. What `entries` has may have been acknowledged by this server before, so that there must
    be no moment at which a crash leaves the snapshot without them. Until `durable` the peer gives nothing to apply.

    Attributes:
        zxid: the leader's last transaction in the snapshot; traces of later ones may be in it. With the counter 0 it
            names an epoch and stands behind everything before that epoch.
        snapshot: the leader's tree.
        entries: committed transactions behind `zxid`, in order.
    """

    zxid: int
    snapshot: SnapshotBody
    entries: list[Entry]

    @property
    def last_zxid(self) -> int:
        """The last transaction of tree and history afterwards; what is appended next follows it."""
        return self.entries[-1].zxid if self.entries else self.zxid


Write = WriteAcceptedEpoch | WriteCurrentEpoch | AppendTxns | TruncateHistory | InstallSnapshot


# Sends. `link` is a number by which shell and peer name one quorum connection; it is never used again.


class SendPacket(NamedTuple):
    """A packet for the other end of a quorum link."""

    link: int
    packet: QuorumPacket


class SendSnapshot(NamedTuple):
    """The body of a SNAP, whose packet went before; what is sent on this link afterwards waits until it has left.

    The body is the tree as it is after this Ready's applies, or later.
    """

    link: int
    zxid: int


class SendNotification(NamedTuple):
    """A vote for another server; only the last one for each server matters."""

    sid: int
    notification: Notification


class Dial(NamedTuple):
    """Connect to a server's quorum port; answer with `Peer.dialled` or `Peer.dial_failed`.

    There is at most one dial on its way. A newer one, or a role other than FOLLOWING and OBSERVING, revokes it.
    """

    sid: int


class Hangup(NamedTuple):
    """Close a quorum link after what was sent on it, waiting for nothing. `Peer.link_closed` is not expected."""

    link: int
    reason: str


Send = SendPacket | SendSnapshot | SendNotification | Dial | Hangup


# Upcalls: what Zab itself does not understand.


class PacketArrived(NamedTuple):
    """A packet for the replica.

    On the leader: REQUEST, REVALIDATE, and a PING, which holds touches of sessions; `sid` is the learner's. On a
    learner: REVALIDATE and SYNC; `sid` is the leader's.
    """

    link: int
    sid: int
    packet: QuorumPacket


class LearnerJoined(NamedTuple):
    """On the leader: a learner is in step; its requests may come."""

    link: int
    sid: int


class LearnerLeft(NamedTuple):
    """On the leader: a learner that had joined is gone. Not said when the leader itself steps down."""

    link: int
    sid: int


class LeadershipConfirmed(NamedTuple):
    """On the leader: a quorum of voters followed it at some time after `Peer.confirm_leadership` gave this number."""

    round: int


Upcall = PacketArrived | LearnerJoined | LearnerLeft | LeadershipConfirmed


class Role(NamedTuple):
    """What this server has become.

    Told when a role begins, by which what belonged to the last one is over; and once more when it begins to serve.

    Attributes:
        state: LOOKING, FOLLOWING, LEADING or OBSERVING.
        epoch: the leader's once it serves, before that the last one that was followed.
        leader: the leader's sid, None while LOOKING.
        serving: whether clients are served: everything that they may see is in the tree by then.
        may_snapshot: whether the tree holds nothing but committed transactions, so that it may be written as a
            snapshot.
    """

    state: ServerState
    epoch: int
    leader: int | None
    serving: bool
    may_snapshot: bool


@dataclass(slots=True)
class Ready:
    """One portion of work. See the module for the order in which it is done.

    Attributes:
        number: 1 for the first, then one more each time.
    """

    number: int
    writes: list[Write] = field(default_factory=list[Write])
    applies: list[Txn] = field(default_factory=list[Txn])
    role: Role | None = None
    upcalls: list[Upcall] = field(default_factory=list[Upcall])
    sends: list[Send] = field(default_factory=list[Send])
