"""One ZooKeeper server on trio: client ports, clocks, disk and the replicated state machine, joined.

Decides when the state machine is asked what: a turn after each pass over the ports, a sync before each reply to a
write, ticks for sessions, sweeps for containers and TTL znodes. Refuses to know what a request means (`processor.py`),
how a connection is carried (`epoll_port.py`, `stream_port.py`), what a file looks like (`storage`), and how a member of
an ensemble agrees with the others (`quorum_member.py`).
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from terzetto.client._scopes import PlainNursery
from terzetto.client._transport import TcpTransport, Transport

from . import fourletter
from .client_ports import ClientPorts
from .config import ServerConfig
from .connection import Connection
from .datatree import DataTree
from .journal import Journal
from .links import Link
from .processor_settings import processor_settings
from .ready import Role
from .standalone import Standalone
from .storage.interface import Storage
from .storage.schedule import SnapshotSchedule
from .txns import Txn
from .view import View

if TYPE_CHECKING:
    from .quorum_member import QuorumMember
    from .replica import Replica

_log = logging.getLogger(__name__)

DEADLINE_CHECK = 0.5
"""Seconds between two looks at connections that must soon have a session and be identified, or be gone."""

STOP_TIMEOUT = 5.0
"""Seconds that a graceful stop may take to sync and answer what was received."""

DIGEST_INTERVAL = 128
DIGEST_LOG_MAX = 1024


class ZooKeeperServer:
    """One server, alone or a member of an ensemble. `run` it in a nursery; it runs until `stop` or `kill`.

    Args:
        config: what a configuration file says; `data_dir` is of no account here.
        storage: where the history is kept.
        transport: listens for clients; None is TCP, on Linux by way of a private epoll object.
        peers: reaches the other servers of an ensemble; None is `transport`, or TCP.
        secret: session passwords are made with it; None makes them as ZooKeeper does.
        chance: randomness for what is not secret.
        clock: a monotonic clock in seconds.
        wall_clock: seconds since the epoch.
        on_change: called when the server begins or ends to serve, or becomes something else.

    Attributes:
        config: see above.
        is_serving: whether clients are served now.
        has_served: whether they ever were in this life.
        has_ended: whether `run` is over.
        role: what it is in its ensemble; None for a standalone server, and before the first.
        client_ports: where clients connect, as soon as `run` has started.
        processor: the state machine, as soon as `run` has started.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        storage: Storage,
        transport: Transport | None = None,
        peers: Transport | None = None,
        secret: bytes | None = None,
        chance: random.Random | None = None,
        clock: Callable[[], float] = trio.current_time,
        wall_clock: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.tree = DataTree()
        self.chance = random.Random() if chance is None else chance
        schedule = SnapshotSchedule(
            self.chance, snap_count=config.snap_count, snap_size=config.snap_size_limit_kb * 1024
        )
        self.journal = Journal(storage, self.tree, schedule)
        self.digests: list[tuple[int, int]] = []
        self.connections_rejected = 0
        self.sessionless_expired = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.started_ms = 0
        self.is_serving = False
        self.has_served = False
        self.has_ended = False
        self.view = View(self)
        self.links: dict[Connection, Link] = {}
        self.role: Role | None = None
        self.member: QuorumMember | None = None
        self.processor: Standalone | Replica
        self._standalone: Standalone | None = None
        self._peers = peers or transport
        self._on_change = on_change
        self._secret = secret
        self._clock = clock
        self._wall_clock = wall_clock
        self.client_ports = ClientPorts(
            self,
            config,
            transport,
            admit=self._admit,
            turn=self.turn,
            is_serving=lambda: self.is_serving,
            gate=self.client_gate,
        )
        self._admin_listeners: list[trio.SocketListener] = []
        self._clients: dict[str, int] = {}
        self._touched: list[Link] = []
        self._paused: set[Link] = set()
        self._watched: set[Link] = set()
        self._watch = trio.Event()
        self._stalled: set[Link] = set()
        self._go_on = trio.Event()
        self._gate: trio.Event | None = None
        self._island: trio.Event | None = None
        self._isolations = 0
        self._stop = trio.Event()
        self._killed = False
        self._scope = trio.CancelScope()

    # -- clocks

    def now_ms(self) -> int:
        """The monotonic clock in milliseconds."""
        return int(self._clock() * 1000)

    def wall_ms(self) -> int:
        """The wall clock in milliseconds since the epoch."""
        return int(self._wall_clock() * 1000)

    # -- life

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Recovers, serves, and returns after `stop` or `kill`. Reports the client port when clients may connect.

        Raises:
            OSError: a port cannot be had.
            StorageError: the history cannot be used, or a write failed.
        """
        is_told = False
        try:
            with self._scope:
                await self.journal.recover()
                self._make_processor()
                await self._listen()
                async with PlainNursery() as nursery:
                    self._start_tasks(nursery)
                    if self.member is not None:
                        await nursery.start(self.member.run)
                    else:
                        self._set_serving(True)
                    is_told = True
                    task_status.started(self.client_ports.numbers[0] or self.client_ports.numbers[1] or 0)
                    await self._stop.wait()
                    await self._finish()
                    nursery.cancel_scope.cancel()
        finally:
            self._set_serving(False)
            self._close_ports()
            # What a killed server had not synced must not be synced by its end; files are let go of in any case.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_TIMEOUT):
                await (self.journal.crash() if self._killed else self.journal.close())
            self.has_ended = True
            self._on_change()
        if not is_told:
            # It was killed before; whoever waits for a port hears of an end, not of a mistake in this program.
            task_status.started(0)

    def _close_ports(self) -> None:
        self.client_ports.close()
        for listener in self._admin_listeners:
            listener.socket.close()

    def _set_serving(self, serving: bool) -> None:
        self.is_serving = serving
        self.has_served |= serving
        self._on_change()

    def _take_role(self, role: Role) -> None:
        """What a member of an ensemble has become."""
        if self.role is None or role[:3] != self.role[:3]:
            from .quorum_member import described

            _log.info("server %d: %s", self.config.sid, described(role))
        if role.serving and (self.role is None or not self.role.serving):
            self.started_ms = self.now_ms()
        self.role = role
        self._set_serving(self.processor.serving)

    def _make_processor(self) -> None:
        config = self.config
        settings = processor_settings(config, secret=self._secret, random_bytes=os.urandom)
        self.started_ms = self.now_ms()
        if config.is_standalone:
            self.processor = self._standalone = Standalone(self.tree, settings, now_ms=self.started_ms)
            return
        # A server on its own starts the faster without Zab.
        from .quorum_member import QuorumMember, make_replica, peer_transport

        self.processor = make_replica(
            config, settings, self.journal, self.tree, self.chance, now_ms=self.started_ms, wall_ms=self.wall_ms()
        )
        self.member = QuorumMember(
            config,
            self.processor,
            self.journal,
            peer_transport(config, self._peers or TcpTransport()),
            now_ms=self.now_ms,
            wall_ms=self.wall_ms,
            gate=self.gate,
            take_role=self._take_role,
            flush=self._flush,
        )

    def _start_tasks(self, nursery: trio.Nursery) -> None:
        config = self.config
        self.client_ports.start(nursery)
        if self._admin_listeners:
            from .admin_port import AdminPort

            admin = AdminPort(self.view, config.admin_url, self.client_gate)
            nursery.start_soon(admin.serve, self._admin_listeners)
        if self._standalone is not None:
            nursery.start_soon(self._expire_sessions, self._standalone)
            if self.journal.storage.blocks:
                nursery.start_soon(self.journal.run, self._commit, self.gate)
        nursery.start_soon(self._sweep_znodes)
        nursery.start_soon(self._check_deadlines)
        nursery.start_soon(self._serve_stalled)
        nursery.start_soon(self.journal.run_snapshots)
        if config.purge_hours:
            nursery.start_soon(self.journal.run_purges, config.purge_hours * 3600.0)

    async def _listen(self) -> None:
        config = self.config
        await self.client_ports.open()
        if config.admin_enabled:
            from .admin_port import open_admin_listeners  # h11 and json take time that a server without does not have

            self._admin_listeners = await open_admin_listeners(config.admin_address, config.admin_port)

    async def _finish(self) -> None:
        """Takes no more, and answers what was taken."""
        self.client_ports.stop_listening()
        with trio.move_on_after(STOP_TIMEOUT):
            await (self.journal.wait_idle() if self.member is None else self.member.finish())
        self.turn()
        for link in list(self.links.values()):
            link.finish()

    def stop(self) -> None:
        """Ends `run` gracefully: what was received is made durable and answered, sessions live on."""
        self.resume()
        self._stop.set()

    def kill(self) -> None:
        """Ends `run` at once, as SIGKILL would: what is not durable is lost."""
        self._killed = True
        self._scope.cancel()

    def pause(self) -> None:
        """Does nothing at all until `resume`, as after SIGSTOP: connections stay open and nobody is answered."""
        if self._gate is None:
            self._gate = trio.Event()

    def resume(self) -> None:
        """Goes on."""
        if self._gate is not None:
            self._gate.set()
            self._gate = None

    def gate(self) -> trio.Event | None:
        """What to wait for while the server is paused."""
        return self._gate

    def drop_connections(self) -> int:
        """Cuts every client off; the sessions live on. Returns how many there were."""
        links = list(self.links.values())
        alive = sum(not link.is_closing for link in links)
        for link in links:
            link.drop()
        return alive

    def expire_session(self, session_id: int) -> bool:
        """Ends a session as if its client had been silent; False when there is no such session."""
        found = self.processor.expire_session(session_id)
        self.turn()
        return found

    # -- what links ask (see `links.Service`)

    def open_connection(self, link: Link) -> Connection:
        """See `links.Service`."""
        now_ms = self.now_ms()
        connection = self.processor.open(link.ip, now_ms=now_ms, certificate_subject=link.subject)
        self.links[connection] = link
        self._clients[link.ip] = self._clients.get(link.ip, 0) + 1
        link.deadline_ms = now_ms + self.config.handshake_timeout_ms
        self.watch(link)
        return connection

    def close_connection(self, link: Link) -> None:
        """See `links.Service`."""
        self.links.pop(link.connection, None)
        self._watched.discard(link)
        self._paused.discard(link)
        self._stalled.discard(link)
        left = self._clients.get(link.ip, 1) - 1
        if left:
            self._clients[link.ip] = left
        else:
            self._clients.pop(link.ip, None)
        self.processor.hang_up(link.connection)

    def receive(self, link: Link, data: bytes) -> None:
        """See `links.Service`."""
        self.bytes_received += len(data)
        self.processor.receive(link.connection, data, self.now_ms())
        self._touched.append(link)

    def is_word(self, head: bytes) -> bool:
        """See `links.Service`."""
        return fourletter.is_word(head)

    def answer_word(self, link: Link, word: bytes, argument: bytes) -> bytes:
        """See `links.Service`."""
        for traffic in (self.processor.traffic, link.connection.traffic):
            traffic.received += 1
        answer = fourletter.answer(self.view, word, argument).encode()
        self.processor.traffic.sent += 1
        return answer

    def go_on(self, link: Link) -> None:
        """Its output has left: what the processor kept of its input is looked at in the next pass."""
        self._stalled.add(link)
        self._go_on.set()

    def watch(self, link: Link) -> None:
        """Looks after a link's deadline from now on."""
        self._watched.add(link)
        self._watch.set()

    def _admit(self, ip: str) -> bool:
        config = self.config
        full = 0 < config.max_client_connections <= self._clients.get(ip, 0)
        if full or 0 < config.max_connections <= len(self.links):
            self.connections_rejected += 1
            return False
        return True

    @property
    def state(self) -> str:
        """What it is doing, in words."""
        if self.member is not None:
            from .quorum_member import described

            read_only = ", serves reads" if self.processor.read_only else ""
            return f"{described(self.role) if self.role is not None else 'is starting'}{read_only}"
        return "is on its own, and serves" if self.is_serving else "does not serve"

    def isolate(self) -> None:
        """Cuts the server off from its clients: connections stay open and nothing passes. Adds up; see `rejoin`."""
        self._isolations += 1
        if self._island is None:
            self._island = trio.Event()

    def rejoin(self) -> None:
        """Takes back one `isolate`."""
        self._isolations -= 1
        if self._isolations <= 0 and self._island is not None:
            self._island.set()
            self._island = None
            self.turn()

    def client_gate(self) -> trio.Event | None:
        """What clients' connections wait for while the server is paused or cut off from them."""
        return self._island if self._gate is None else self._gate

    # -- turns

    def turn(self) -> None:
        """Orders what was received, commits what need not wait for a disk, sends what there is to send."""
        if self.member is not None:
            self.member.turn()
            return
        processor, journal = self._standalone, self.journal
        assert processor is not None
        while txns := processor.prepare(self.wall_ms()):
            journal.append(txns)
            if journal.storage.blocks:
                break
            self._apply(journal.take_durable())
        self._flush()

    def _commit(self, txns: list[Txn]) -> None:
        """Goes on after a sync."""
        self._apply(txns)
        self.turn()

    def _apply(self, txns: list[Txn]) -> None:
        assert self._standalone is not None
        self._standalone.commit(txns, self.now_ms())
        for txn in txns:
            if txn.header.zxid % DIGEST_INTERVAL == 0:
                # The tree may be ahead of this transaction by the rest of the batch.
                digest = txn.digest.tree_digest if txn.digest is not None else self.tree.digest
                self.digests.append((txn.header.zxid, digest))
                del self.digests[:-DIGEST_LOG_MAX]

    def _flush(self) -> None:
        if self.is_serving != self.processor.serving and self.member is not None:
            # Without a leader it may begin to serve reads.
            self._set_serving(self.processor.serving)
        if self._island is not None:
            return
        links = self.links
        for connection in self.processor.take_flushable():
            link = links.get(connection)
            if link is not None:
                link.flush()
                if link.is_closing:
                    self.watch(link)
                elif connection.stalled and not link.unsent:
                    self.go_on(link)
        touched, self._touched = self._touched, []
        if self._paused:
            touched += self._paused
        elif self.processor.outstanding == 0:
            return
        for link in touched:
            wanted = self._must_wait(link.connection)
            if wanted != link.is_paused:
                link.set_paused(wanted)
                (self._paused.add if wanted else self._paused.discard)(link)

    def _must_wait(self, connection: Connection) -> bool:
        if connection.paused:
            return True
        return connection.queued > 0 and self.processor.outstanding > self.config.global_outstanding_limit

    async def _serve_stalled(self) -> None:
        """Goes on with input that had to wait for output to leave, a bounded portion of each connection at a time."""
        while True:
            if not self._stalled:
                self._go_on = trio.Event()
                await self._go_on.wait()
            await self._pass_gate()
            stalled, self._stalled = self._stalled, set()
            for link in stalled:
                if link.is_open:
                    self.receive(link, b"")
            self.turn()
            await trio.lowlevel.checkpoint()

    # -- clocks' tasks

    async def _pass_gate(self) -> None:
        while self._gate is not None:
            await self._gate.wait()

    async def _expire_sessions(self, standalone: Standalone) -> None:
        tick_ms = self.config.tick_ms
        while True:
            wait_ms = min(max(0, standalone.next_expiry_ms - self.now_ms()), tick_ms)
            await trio.sleep(wait_ms / 1000)
            await self._pass_gate()
            now_ms = self.now_ms()
            if now_ms < standalone.next_expiry_ms:
                continue
            # After a long pause of the process, pings wait in the sockets that must count before anyone expires.
            self.client_ports.drain()
            await trio.lowlevel.checkpoint()
            standalone.expire(self.now_ms())
            self.turn()

    async def _sweep_znodes(self) -> None:
        while True:
            await trio.sleep(self.config.container_check_ms / 1000)
            await self._pass_gate()
            self.processor.sweep(self.wall_ms())
            self.turn()

    async def _check_deadlines(self) -> None:
        while True:
            if not self._watched:
                self._watch = trio.Event()
                await self._watch.wait()
            await trio.sleep(DEADLINE_CHECK)
            await self._pass_gate()
            now_ms = self.now_ms()
            for link in list(self._watched):
                if self.processor.is_settled(link.connection) and not link.is_closing:
                    self._watched.discard(link)
                elif now_ms >= link.deadline_ms:
                    self.sessionless_expired += not link.is_closing
                    link.drop()
