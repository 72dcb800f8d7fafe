"""What the roles of one peer share: who it is, its promises, its history, and where its work goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .history import History
from .ids import epoch_of
from .messages import PacketType, QuorumPacket
from .outbox import Outbox
from .quorum import QuorumConfig
from .ready import Entry, Hangup, SendPacket, WriteAcceptedEpoch, WriteCurrentEpoch

EPOCH_MAX = (1 << 31) - 2
"""Last epoch; zxids are signed numbers of 64 bits."""


class ProtocolViolationError(Exception):
    """The other end of a link said what it may not say; the link is to be closed."""


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """How patient a peer is.

    Attributes:
        tick_ms: `tickTime`.
        init_limit: `initLimit`, ticks for discovery and for synchronization.
        sync_limit: `syncLimit`, ticks of silence, or without an ACK, in the steady state.
    """

    tick_ms: int = 2000
    init_limit: int = 10
    sync_limit: int = 5

    @property
    def init_ms(self) -> int:
        """How long discovery, and then synchronization, may take."""
        return self.init_limit * self.tick_ms

    @property
    def sync_ms(self) -> int:
        """How long a server in step may be silent."""
        return self.sync_limit * self.tick_ms


@dataclass(slots=True)
class _Mark:
    """The last transaction that is in a Ready."""

    number: int
    zxid: int


class Local:
    """One server, whatever its role.

    Args:
        sid: its id.
        config: the ensemble.
        settings: how patient it is.
        history: what it has logged.
        accepted_epoch: the last promise on disk.
        current_epoch: the epoch of the last leader followed, on disk.
        touches: encoded touches of sessions since the last call, for the answer to a PING.

    Attributes:
        now_ms: the clock, as the input that is being dealt with brought it.
        outbox: where its work goes.
        accepted_epoch: the last promise, perhaps not durable yet.
        current_epoch: the last epoch whose initial history is in the log, perhaps not durable yet.
        on_logged: called when `history.last_durable` has risen; the role's.
        highest_epoch: the last epoch that anybody is known to have promised; the next own one will be later.
    """

    def __init__(
        self,
        sid: int,
        config: QuorumConfig,
        settings: PeerSettings,
        *,
        history: History,
        accepted_epoch: int,
        current_epoch: int,
        touches: Callable[[], bytes],
    ) -> None:
        self.sid = sid
        self.config = config
        self.settings = settings
        self.history = history
        self.accepted_epoch = accepted_epoch
        self.current_epoch = current_epoch
        self._mark: _Mark | None = None
        # Not that of a snapshot, from which a restart would know the epoch too.
        self._written_epoch = current_epoch
        self.touches = touches
        self.now_ms = 0
        self.outbox = Outbox()
        self.on_logged: Callable[[], None] | None = None
        self.highest_epoch = accepted_epoch

    @property
    def is_voter(self) -> bool:
        """Whether it has a vote."""
        return self.config.is_voter(self.sid)

    def accept_epoch(self, epoch: int) -> None:
        """Promises to follow no leader of an earlier epoch."""
        assert epoch > self.accepted_epoch, (epoch, self.accepted_epoch)
        self.accepted_epoch = epoch
        self.outbox.write(WriteAcceptedEpoch(epoch))

    def enter_epoch(self, epoch: int) -> None:
        """Notes that the log has the initial history of an epoch, or will have it when this is durable."""
        assert self.current_epoch <= epoch <= self.accepted_epoch, (self.current_epoch, epoch, self.accepted_epoch)
        self.current_epoch = epoch
        if epoch > self._written_epoch:
            self._written_epoch = epoch
            self.outbox.write(WriteCurrentEpoch(epoch))

    def installed(self, zxid: int) -> None:
        """A leader's snapshot, with everything up to a zxid, has taken the place of tree and history."""
        self.history.replaced(zxid)
        self.current_epoch = max(self.current_epoch, epoch_of(zxid))

    def end_role(self) -> None:
        """What the role waited for is not to happen any more."""
        self.outbox.end_role()
        self.on_logged = None

    def log(self, entries: list[Entry]) -> None:
        """Appends to the history."""
        self.history.append(entries)
        self.outbox.append(entries)
        zxid, mark = entries[-1].zxid, self._mark
        if mark is not None and mark.number == self.outbox.number:
            mark.zxid = zxid
        else:
            self._mark = mark = _Mark(self.outbox.number, zxid)
            self.outbox.when_durable(partial(self._logged, mark), outlives_role=True)

    def _logged(self, mark: _Mark) -> None:
        self.history.made_durable(mark.zxid)
        if self.on_logged is not None:
            self.on_logged()

    def commit(self, zxid: int) -> None:
        """Applies what is logged up to a zxid."""
        txns = self.history.take_committed(zxid)
        if txns:
            self.outbox.apply(txns)

    def send(self, link: int, kind: PacketType, zxid: int, data: bytes | None = None) -> None:
        """Sends a packet on a link."""
        self.outbox.send(SendPacket(link, QuorumPacket(kind, zxid, data)))

    def hang_up(self, link: int, reason: str) -> None:
        """Closes a link."""
        self.outbox.send(Hangup(link, reason))
