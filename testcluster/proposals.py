"""What a leader needs a quorum for while it leads: its proposals, and the proof that it still leads.

Decides the commit rule (in order, each with a quorum of voters that have it on disk) and when a round of PINGs has come
back from a quorum. It sends nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from .quorum import QuorumConfig
from .ready import Entry


class _Outstanding:
    __slots__ = ("acks", "entry")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.acks: set[int] = set()


class Proposals:
    """What one leader has proposed in its epoch.

    Args:
        config: who votes.
        zxid: that of the epoch itself, before its first transaction.

    Attributes:
        last_proposed: the last proposal, committed or not.
        last_committed: the last one with a quorum.
    """

    def __init__(self, config: QuorumConfig, zxid: int) -> None:
        self.last_proposed = zxid
        self.last_committed = zxid
        self._config = config
        # Invariant: contiguous, from `last_committed` + 1 to `last_proposed`.
        self._outstanding: deque[_Outstanding] = deque()

    def add(self, entry: Entry) -> None:
        """A new proposal."""
        assert entry.zxid == self.last_proposed + 1, (entry.zxid, self.last_proposed)
        self.last_proposed = entry.zxid
        self._outstanding.append(_Outstanding(entry))

    def acknowledge(self, sid: int, zxid: int) -> bool:
        """A server has a proposal on disk. Of what is no proposal, or is committed, nothing is noted.

        Returns:
            Whether it is the next to be committed, so that it is worth asking whether it can be.
        """
        index = zxid - self.last_committed - 1
        if 0 <= index < len(self._outstanding) and self._config.is_voter(sid):
            self._outstanding[index].acks.add(sid)
            return index == 0
        return False

    def resume(self, sid: int, zxid: int) -> None:
        """A server has come back, with everything on disk up to a zxid; what it said before counts no more.

        ZooKeeper lets the old acknowledgements count while it has the server cut off what they were for.
        """
        if not self._config.is_voter(sid):
            return
        for outstanding in self._outstanding:
            if outstanding.entry.zxid <= zxid:
                outstanding.acks.add(sid)
            else:
                outstanding.acks.discard(sid)

    def take_committed(self) -> list[Entry]:
        """The proposals that have their quorum now, and so have all before them."""
        committed: list[Entry] = []
        outstanding = self._outstanding
        while outstanding and self._config.has_quorum(outstanding[0].acks):
            entry = outstanding.popleft().entry
            self.last_committed = entry.zxid
            committed.append(entry)
        return committed

    def __iter__(self) -> Iterator[Entry]:
        """The outstanding ones, in order."""
        return (outstanding.entry for outstanding in self._outstanding)

    def __len__(self) -> int:
        return len(self._outstanding)


class Rounds:
    """Rounds of PINGs that show that a quorum still followed the leader when they came back.

    Only one is under way at a time. Who wants the proof while it is gets the next one: a PING that was sent before
    proves nothing about what came after it.

    Args:
        sid: the leader.
        config: who votes.

    Attributes:
        current: the last round begun.
        is_wanted: whether somebody waits for the next one.
    """

    def __init__(self, sid: int, config: QuorumConfig) -> None:
        self.current = 0
        self.is_wanted = False
        self._sid = sid
        self._config = config
        self._confirmed = 0
        self._echoes: set[int] = set()

    def want(self) -> tuple[int, bool]:
        """The round that will prove that the server leads now, and whether it is to be begun at once."""
        is_idle = self._confirmed == self.current
        self.is_wanted = True
        return self.current + 1, is_idle

    def begin(self) -> None:
        """The next round begins: its PINGs bear the number `current`."""
        assert self._confirmed == self.current, (self._confirmed, self.current)
        self.current += 1
        self.is_wanted = False
        self._echoes = {self._sid}

    def echoed(self, sid: int, number: int) -> None:
        """A voter has answered a PING of a round."""
        if number == self.current and self._config.is_voter(sid):
            self._echoes.add(sid)

    def take_confirmed(self) -> int | None:
        """The round under way, once a quorum has answered."""
        if self._confirmed == self.current or not self._config.has_quorum(self._echoes):
            return None
        self._confirmed = self.current
        return self.current
