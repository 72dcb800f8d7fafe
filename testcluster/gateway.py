"""The gateway: a WebSocket door in front of any ensemble, Apache ZooKeeper's included.

Decides how a client's connection and one to a server are joined, when either is given up, and how a gateway leaves.
Keeps no session and reads no request: bytes pass, after a look at the lengths of frames where they come from a client.
Each direction is a loop of receive and send, so that whoever is slow slows the other end down, and a connection never
holds more than a few chunks.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection, Listener, Transport

from .gateway_ensemble import EnsembleView
from .websocket_connection import STALL_TIMEOUT, DoorConnection
from .websocket_door import DoorLimits, Visitor, WebSocketDoor
from .websocket_rules import DoorRules, Refusal, Tokens

_log = logging.getLogger(__name__)

QUIET = 0.05
"""Seconds without a byte after which a connection is between two requests, as far as a gateway can see."""

GOING_AWAY = 1001
INTERNAL = 1011
TRY_LATER = 1013

_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)

WORDS = frozenset({b"isro", b"ruok", b"srvr"})
"""Four letter words that are passed on unless told otherwise: what clients ask, and nothing about other clients."""


@dataclass(frozen=True)
class GatewaySettings:
    """How a gateway behaves.

    Attributes:
        ensemble: the servers behind it.
        rules: who may come in.
        limits: what clients may cost.
        words: four letter words that are passed on; `None` for all.
        drain_timeout: seconds for the connections to end once the gateway leaves.
    """

    ensemble: tuple[Endpoint, ...]
    rules: DoorRules = field(default_factory=DoorRules)
    limits: DoorLimits = field(default_factory=DoorLimits)
    words: frozenset[bytes] | None = WORDS
    drain_timeout: float = 10.0


def cannot_keep(settings: GatewaySettings) -> list[str]:
    """What ZooKeeper's servers cannot know behind a gateway, a line each; to be reported at the start."""
    return [
        "all clients share this gateway's address: ACLs of the scheme ip match it, and not the clients' own",
        "the servers' maxClientCnxns counts all clients of this gateway together"
        + (f", which lets {settings.limits.connections} in" if settings.limits.connections else ""),
        "clients' TLS certificates end at this gateway: the servers give nobody an id of the scheme x509 for them",
    ]


class Gateway:
    """A WebSocket door and the ensemble behind it. `run` it; it runs until it is cancelled, or has drained.

    Args:
        settings: how it behaves.
        listener: where bytes arrive, after TLS where there is TLS.
        transport: reaches the ensemble.
        tokens: gives the tokens that are good now; `None` asks for none.
        chance: which server a client gets.

    Attributes:
        endpoint: where it listens.
        view: the ensemble.
        door: where clients come in.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        listener: Listener,
        transport: Transport,
        *,
        tokens: Callable[[], Tokens] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.endpoint = listener.endpoint
        self.view = EnsembleView(settings.ensemble, transport, chance or random.Random())
        self.door = WebSocketDoor(
            listener,
            settings.rules,
            self._enter,
            health=self.health,
            limits=settings.limits,
            tokens=tokens,
            words=settings.words,
        )
        self._settings = settings
        self._listener = listener
        self._passages: set[_Passage] = set()
        self._leave = trio.Event()

    def health(self) -> tuple[int, str]:
        """HTTP status and one line."""
        return (200, "serving") if self.view.serves else (503, "no server of the ensemble serves")

    def drain(self) -> None:
        """Lets nobody in any more, and ends `run` when all have left or `drain_timeout` is over."""
        self.door.is_draining = True
        self._leave.set()

    async def run(self, *, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves. Reports where, once the servers have been asked for the first time."""
        try:
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as questions:
                    for endpoint in self.view.health:
                        questions.start_soon(self.view.ask, endpoint)
                nursery.start_soon(self.view.run)
                nursery.start_soon(self.door.serve)
                task_status.started(self.endpoint)
                await self._leave.wait()
                await self._drain()
                nursery.cancel_scope.cancel()
        finally:
            self._listener.close()

    async def _drain(self) -> None:
        _log.info("draining %d connections", len(self._passages))
        ends_at = trio.current_time() + self._settings.drain_timeout
        # New connections are refused meanwhile by the door, in words that a load balancer understands.
        with trio.move_on_at(ends_at):
            async with trio.open_nursery() as nursery:
                for passage in list(self._passages):
                    nursery.start_soon(passage.leave, (ends_at + trio.current_time()) / 2)
        if self._passages:
            _log.warning("%d connections are cut", len(self._passages))

    async def _enter(self, visitor: Visitor) -> None:
        # Before the handshake is accepted, so that a client without a server hears it in HTTP.
        try:
            endpoint, server = await self.view.connect()
        except OSError as error:
            raise Refusal(503, str(error), [("Retry-After", "1")]) from error
        try:
            client = await visitor.accept()
            passage = _Passage(client, server, self._settings.limits.handshake_timeout)
            self._passages.add(passage)
            try:
                _log.debug("%s is on %s", client.peer, endpoint)
                await passage.run()
            finally:
                self._passages.discard(passage)
                with trio.CancelScope(shield=True):
                    await client.aclose()
        finally:
            with trio.CancelScope(shield=True):
                await server.aclose()


class _Passage:
    """One client and one server, joined."""

    def __init__(self, client: DoorConnection, server: Connection, patience: float) -> None:
        self._client = client
        self._server = server
        self._patience = patience
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._passed = 0
        self._answered = False
        self._is_introduced = False
        self._stall: trio.CancelScope | None = None
        # What the client is told at the end: close code and reason; `None` where it has ended by itself.
        self._farewell: tuple[int, str] | None = None

    async def run(self) -> None:
        """Passes bytes until one end is gone; then the other one learns it."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._upwards, nursery.cancel_scope)
                    await self._downwards()
                    nursery.cancel_scope.cancel()
            if self._farewell is not None or self._client.refused is not None:
                await self._client.close(*(self._client.refused or self._farewell or (GOING_AWAY, "")))
        finally:
            self._ended.set()

    async def leave(self, deadline: float) -> None:
        """Waits for a moment between two requests, until `deadline` at most, and ends the connection."""
        with trio.move_on_at(deadline):
            passed = -1
            while passed != self._passed:
                passed = self._passed
                await trio.sleep(QUIET)
        self._farewell = GOING_AWAY, "the gateway is leaving"
        self._scope.cancel()
        await self._ended.wait()

    async def _upwards(self, scope: trio.CancelScope) -> None:
        client, server = self._client, self._server
        try:
            with trio.move_on_after(self._patience) as patience:
                while data := await client.receive():
                    if not self._is_introduced and client.check.is_introduced:
                        self._is_introduced = True
                        patience.deadline = float("inf")
                    self._passed += 1
                    sent = server.send_nowait(data) if server.sends_at_once else 0
                    if sent < len(data):
                        await self._push(data[sent:])
                # Closed, or refused: either way the client has been told.
                scope.cancel()
                return
            self._farewell = 1008, f"no connect request within {self._patience:g} s"
        except _BROKEN:
            # Whichever end broke: if it was the server, the other direction would say so soon.
            self._farewell = TRY_LATER, "the connection to the server was lost"
        scope.cancel()

    async def _push(self, data: bytes) -> None:
        """Sends to a server that is slow; gives it up once it has taken nothing, and said nothing, for long.

        Nobody sees the client leave meanwhile.
        """
        with trio.move_on_after(STALL_TIMEOUT) as stall:
            self._stall = stall
            await self._server.send(data)
        self._stall = None
        if stall.cancelled_caught:
            raise trio.BrokenResourceError("the server takes nothing")

    async def _downwards(self) -> None:
        client, server = self._client, self._server
        try:
            while data := await server.receive():
                if self._stall is not None:
                    # It does not take requests because the client is slow to take its answers.
                    self._stall.deadline = trio.current_time() + STALL_TIMEOUT
                self._passed += 1
                self._answered = True
                # Told 0, it wants the same bytes again.
                if not (client.sends_at_once and client.send_nowait(data)):
                    await client.send(data)
        except _BROKEN:
            self._farewell = TRY_LATER, "the connection to the server was lost"
        except ValueError:
            self._farewell = INTERNAL, "the server does not speak ZooKeeper's protocol"
        else:
            # A server without room (maxClientCnxns), or without a quorum, closes before it has said anything.
            told = (1000, "") if self._answered else (TRY_LATER, "the server closed the connection without a word")
            self._farewell = self._farewell or told
