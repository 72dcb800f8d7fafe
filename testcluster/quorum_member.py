"""A server's part in its ensemble, on trio: the replica joined with its election port, its quorum port and its disk.

Decides when the replica is asked what it wants done, and hands that to those who do it: writes to the disk, packets to
links, notifications to the election port. Refuses to know Zab (`peer.py`) and what a client's request means.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Callable, Mapping

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._scopes import PlainNursery
from terzetto.client._transport import Listener, Transport
from terzetto.client.errors import ConfigurationError, WireError

from .config import ServerConfig
from .datatree import DataTree
from .durable_writes import DurableWrites, Outcome
from .election_port import ElectionPort
from .history import History
from .journal import Journal
from .messages import PacketType, QuorumPacket, ServerState, decode_notification, encode_notification, encode_packet
from .peer import PeerSettings
from .quorum import QuorumConfig
from .quorum_port import QuorumPort
from .ready import Dial, Hangup, Ready, Role, Send, SendNotification, SendPacket, SendSnapshot
from .replica import Replica
from .settings import ServerSettings
from .snapshot_body import SnapshotBody, encode_snapshot_body
from .txns import SnapshotSession

_log = logging.getLogger(__name__)

BIND_ATTEMPTS = 3
BIND_PAUSE = 1.0
"""How often, and how many seconds apart, a port is tried to be had (ZooKeeper's `electionPortBindRetry`)."""

EXACT_PIECES = 16
"""Pieces of a snapshot, of 64 KiB, that are made at once; the rest when they can leave."""

Addresses = Mapping[int, tuple[Endpoint, ...]]


class QuorumMember:
    """One member of an ensemble.

    Args:
        config: its members and this server's id.
        replica: the state machine, which has not been started.
        journal: recovered.
        transport: reaches the other servers.
        now_ms: the monotonic clock.
        wall_ms: milliseconds since the epoch.
        gate: what to wait for before anything is done, None while the server is not paused.
        take_role: called when the server has become something else.
        flush: called when clients may have to be sent something.

    Attributes:
        replica: see above.
        proposal_sizes: bytes of the last, the smallest and the largest proposal sent, -1 before the first.
    """

    def __init__(
        self,
        config: ServerConfig,
        replica: Replica,
        journal: Journal,
        transport: Transport,
        *,
        now_ms: Callable[[], int],
        wall_ms: Callable[[], int],
        gate: Callable[[], trio.Event | None],
        take_role: Callable[[Role], None],
        flush: Callable[[], None],
    ) -> None:
        self.replica = replica
        self.proposal_sizes = (-1, -1, -1)
        self._config = config
        self._journal = journal
        self._transport = transport
        self._now_ms = now_ms
        self._wall_ms = wall_ms
        self._gate = gate
        self._take_role = take_role
        self._flush = flush
        self._elections, self._quorums = _addresses(config)
        self._election = ElectionPort(
            config.sid,
            self._elections,
            transport,
            self._take_message,
            self._voter_absent,
            handshake_timeout=config.tick_ms * config.sync_limit / 1000,
            gate=gate,
        )
        self._quorum = QuorumPort(config.sid, self._quorums, transport, self, gate=gate)
        self._writes = DurableWrites(journal, self._durable, self._refused, gate)
        self._turning = False
        self._again = False
        self._tick = trio.CancelScope()
        self._encoded: tuple[QuorumPacket | None, bytes] = (None, b"")

    # -- life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Takes part until cancelled; reports when others can reach it.

        Raises:
            OSError: a port cannot be had, or a write failed.
            StorageError: a write failed.
        """
        sid = self._config.sid
        listeners: list[Listener] = []
        try:
            for addresses in (self._elections, self._quorums):
                listeners.append(await self._listen(addresses[sid][0]))
            async with PlainNursery() as nursery:
                # A follower dials as soon as the election has ended, so the leader listens before it begins.
                nursery.start_soon(self._quorum.serve, listeners[1])
                nursery.start_soon(self._election.serve, listeners[0])
                nursery.start_soon(self._writes.run)
                await trio.lowlevel.checkpoint()
                self.replica.start(self._now_ms())
                self.turn()
                task_status.started()
                await self._keep_time()
        finally:
            # A write may come to its end after this; nobody is left to do what it leads to.
            self._turning = True
            for listener in listeners:
                listener.close()

    async def _listen(self, place: Endpoint) -> Listener:
        if self._config.listen_on_all_ips:
            place = Endpoint("", place.port, place.host)
        for _ in range(BIND_ATTEMPTS - 1):
            try:
                return await self._transport.listen(place)
            except OSError as error:
                _log.warning("server %d cannot listen at %s yet: %s", self._config.sid, place, error)
            await trio.sleep(BIND_PAUSE)
        try:
            return await self._transport.listen(place)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen at {place}: {error.strerror or error}") from error

    async def finish(self) -> None:
        """Waits until everything that was received is durable."""
        await self._writes.wait_idle()

    # -- turns

    def turn(self) -> None:
        """Does what the replica wants done. What that leads to at once is done too."""
        if self._turning:
            self._again = True
            return
        self._turning = True
        try:
            while True:
                self._again = False
                while (ready := self.replica.take_ready(self._now_ms(), self._wall_ms())) is not None:
                    self._carry_out(ready)
                self._flush()
                self._quorum.flush()
                if not self._again:
                    break
        finally:
            self._turning = False
        due_ms = self.replica.next_due_ms
        due = math.inf if due_ms is None else trio.current_time() + max(0, due_ms - self._now_ms()) / 1000
        if due < self._tick.deadline:
            self._tick.deadline = due

    def _carry_out(self, ready: Ready) -> None:
        outcome = self._writes.submit(ready.number, ready.writes)
        if ready.role is not None:
            self._become(ready.role)
        for send in ready.sends:
            self._send(send)
        if outcome is Outcome.DURABLE:
            self.replica.durable(ready.number, self._now_ms())

    def _become(self, role: Role) -> None:
        self._journal.set_may_snapshot(role.may_snapshot)
        if role.state not in (ServerState.FOLLOWING, ServerState.OBSERVING):
            self._quorum.revoke_dial()
        self._take_role(role)

    def _send(self, send: Send) -> None:
        if isinstance(send, SendPacket):
            # A proposal goes to every follower: its bytes are made once.
            if send.packet is not self._encoded[0]:
                self._encoded = (send.packet, encode_packet(send.packet))
                if send.packet.type == PacketType.PROPOSAL:
                    self._note_size(len(send.packet.data or b""))
            self._quorum.send(send.link, self._encoded[1])
        elif isinstance(send, SendNotification):
            self._election.send(send.sid, encode_notification(send.notification))
        elif isinstance(send, SendSnapshot):
            tree = self.replica.tree
            sessions = [SnapshotSession(session_id, timeout) for session_id, timeout in tree.sessions.items()]
            pieces = encode_snapshot_body(sessions, tree.acls.dump(), tree.walk())
            # A small tree leaves as it is now. A large one has traces of later transactions, which is harmless; but
            # ZooKeeper counts a digest mismatch for each until it has them all.
            at_once = list(itertools.islice(pieces, EXACT_PIECES))
            self._quorum.send_pieces(send.link, itertools.chain(at_once, pieces))
        elif isinstance(send, Dial):
            self._quorum.dial(send.sid)
        else:
            assert isinstance(send, Hangup)
            _log.debug("server %d hangs up link %d: %s", self._config.sid, send.link, send.reason)
            self._quorum.hang_up(send.link)

    def _note_size(self, size: int) -> None:
        _, smallest, largest = self.proposal_sizes
        self.proposal_sizes = (size, size if smallest < 0 else min(size, smallest), max(size, largest))

    async def _keep_time(self) -> None:
        while True:
            due_ms = self.replica.next_due_ms
            wait = math.inf if due_ms is None else max(0, due_ms - self._now_ms()) / 1000
            with trio.CancelScope(deadline=trio.current_time() + wait) as self._tick:
                await trio.sleep_forever()
            if (closed := self._gate()) is not None:
                await closed.wait()
                # What has arrived meanwhile is heard before the time that has passed is judged.
                await trio.lowlevel.checkpoint()
                continue
            self.replica.tick(self._now_ms())
            self.turn()

    # -- the disk

    def _durable(self, number: int) -> None:
        self.replica.durable(number, self._now_ms())
        self.turn()

    def _refused(self, number: int) -> None:
        self.replica.truncation_failed(number, self._now_ms())
        self.turn()

    # -- the election port

    def _take_message(self, sid: int, message: bytes) -> None:
        try:
            notification = decode_notification(message)
        except WireError as error:
            _log.debug("server %d has sent no notification: %s", sid, error)
            return
        self.replica.notification(sid, notification, self._now_ms())
        self.turn()

    def _voter_absent(self, sid: int) -> None:
        self.replica.voter_absent(sid, self._now_ms())
        self.turn()

    # -- the quorum port, see `quorum_port.Ends`

    def link_accepted(self, link: int) -> None:
        """See `quorum_port.Ends`."""
        self.replica.link_accepted(link, self._now_ms())
        self.turn()

    def link_dialled(self, link: int) -> None:
        """See `quorum_port.Ends`."""
        self.replica.dialled(link, self._now_ms())
        self.turn()

    def dial_failed(self, sid: int, reason: str) -> None:
        """See `quorum_port.Ends`."""
        self.replica.dial_failed(sid, reason, self._now_ms())
        self.turn()

    def arrived(self, link: int, items: list[QuorumPacket | SnapshotBody]) -> None:
        """See `quorum_port.Ends`."""
        now_ms = self._now_ms()
        for item in items:
            if isinstance(item, SnapshotBody):
                self.replica.snapshot_received(link, item, now_ms)
            else:
                self.replica.packet(link, item, now_ms)
        self.turn()

    def link_closed(self, link: int) -> None:
        """See `quorum_port.Ends`."""
        self.replica.link_closed(link, self._now_ms())
        self.turn()

    def congestion(self) -> trio.Event | None:
        """See `quorum_port.Ends`."""
        return self._writes.congestion()


def _addresses(config: ServerConfig) -> tuple[Addresses, Addresses]:
    """Where each member's election port and quorum port are."""
    elections: dict[int, tuple[Endpoint, ...]] = {}
    quorums: dict[int, tuple[Endpoint, ...]] = {}
    for member in config.members:
        elections[member.sid] = tuple(Endpoint(host, port, host) for host, _, port in member.addresses)
        quorums[member.sid] = tuple(Endpoint(host, port, host) for host, port, _ in member.addresses)
    return elections, quorums


def peer_transport(config: ServerConfig, transport: Transport) -> Transport:
    """How the member reaches the others and is reached: as `transport` does, with TLS where the configuration says so.

    Raises:
        ConfigurationError: the certificates cannot be used.
    """
    if not config.quorum_tls.is_used and not config.quorum_tls.is_unified:
        return transport
    from .quorum_tls import QuorumTls  # ssl takes time that an ensemble without it does not have

    hosts = (host for member in config.members for host, _, _ in member.addresses)
    return QuorumTls(transport, config.quorum_tls, frozenset(hosts))


def make_replica(
    config: ServerConfig,
    settings: ServerSettings,
    journal: Journal,
    tree: DataTree,
    chance: random.Random,
    *,
    now_ms: int,
    wall_ms: int,
) -> Replica:
    """The state machine of a member, with what its journal has recovered.

    Raises:
        ConfigurationError: the members are no ensemble.
    """
    members = {member.sid: member for member in config.members}
    try:
        quorum = QuorumConfig(members, config.config_version, config.groups, config.weights)
    except ValueError as error:
        raise ConfigurationError(f"the configuration is no ensemble: {error}") from error
    storage = journal.storage
    return Replica(
        config.sid,
        quorum,
        settings=settings,
        peer_settings=PeerSettings(tick_ms=config.tick_ms, init_limit=config.init_limit, sync_limit=config.sync_limit),
        tree=tree,
        history=History(storage.last_zxid, journal.recent),
        accepted_epoch=storage.accepted_epoch,
        current_epoch=storage.current_epoch,
        chance=chance,
        now_ms=now_ms,
        wall_ms=wall_ms,
        read_only_mode=config.read_only_mode,
    )


def described(role: Role) -> str:
    """What a server has become, in words."""
    if role.state is ServerState.LOOKING:
        return "is looking for a leader"
    if role.state is ServerState.LEADING:
        doing = "leads"
    else:
        doing = f"{'observes' if role.state is ServerState.OBSERVING else 'follows'} server {role.leader}"
    return f"{doing} in epoch {role.epoch}" + ("" if role.serving else " and does not serve yet")
