"""How a learner is brought into step: by what it lacks, by a cut before that, or by the whole tree.

Decides the method for one learner, from the leader's history and the learner's last zxid. A leader cannot tell
ZooKeeper's learners from ours, so the choice is right for both. It sends nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from .history import History
from .messages import PacketType


class Synchronization(NamedTuple):
    """What the learner is sent first.

    Attributes:
        method: DIFF, TRUNC or SNAP.
        zxid: the zxid of that packet.
        start: the last transaction that the learner has then; what is committed behind it follows.
    """

    method: PacketType
    zxid: int
    start: int


def choose_synchronization(
    history: History,
    zxid: int,
    *,
    known_epochs: tuple[int, int],
    last_committed: int,
    is_established: bool,
    can_wait: bool,
) -> Synchronization | None:
    """The method for a learner whose last transaction is `zxid`.

    A learner that has something which is not in this history gets the tree of the established leader. ZooKeeper's
    learners cut their log off and leave a snapshot with what was cut, which comes back when they restart
    (ZOOKEEPER-1549). Before the leader is established, its snapshot would have to bear the zxid of an epoch that
    perhaps nobody will have followed, and a leader of ZooKeeper's takes that for a part of its own history. So such a
    learner waits. If it cannot, it is cut, as ZooKeeper would do; only where that is impossible, it gets the epoch's
    snapshot.

    Args:
        history: the leader's.
        zxid: -1 where the learner has nothing that can be relied on.
        known_epochs: the epoch that the leader was in before, and its own.
        last_committed: the last proposal with a quorum; the own epoch's zxid while there is none.
        is_established: whether a quorum has the leader's history.
        can_wait: whether the leader can be established without this learner.

    Returns:
        The method; None where the learner has to wait for an established leader.
    """
    meeting = history.meeting(zxid, known_epochs)
    if meeting.is_ahead and not is_established and can_wait:
        return None
    if meeting.zxid is not None and not meeting.is_ahead:
        lacking = history.between(meeting.zxid, last_committed)
        return Synchronization(PacketType.DIFF, lacking[-1][0] if lacking else meeting.zxid, meeting.zxid)
    if meeting.zxid is not None and not is_established:
        return Synchronization(PacketType.TRUNC, meeting.zxid, meeting.zxid)
    # Not before anything that the learner has logged: ZooKeeper would find that behind the snapshot when it restarts.
    label = history.last_logged if not is_established and zxid <= history.last_logged else last_committed
    return Synchronization(PacketType.SNAP, label, last_committed)
