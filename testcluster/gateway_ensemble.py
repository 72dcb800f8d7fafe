"""The ensemble as a gateway sees it: which of its servers serve, and a connection to one of them.

Decides which server a client gets and how the servers are asked how they are. Refuses to know clients.
"""

from __future__ import annotations

import enum
import logging
import random
import re
from collections.abc import Sequence

import trio

from terzetto.client._hosts import Endpoint
from terzetto.client._transport import Connection, Transport

_log = logging.getLogger(__name__)

PROBE_INTERVAL = 5.0
"""Seconds between two questions to a server."""

PROBE_TIMEOUT = 3.0
"""Seconds that a server has to answer one."""

DIAL_TIMEOUT = 3.0
"""Seconds to connect to one server for a client."""

ANSWER_MAX = 64 * 1024
"""Bytes of an answer that are read."""

_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class Health(enum.Enum):
    """What is known of a server, the best first."""

    SERVES = "serves"
    UNKNOWN = "was not asked yet"
    HAS_NO_QUORUM = "is reachable, and does not serve"
    UNREACHABLE = "is not reachable"


class EnsembleView:
    """The servers behind a gateway.

    Args:
        endpoints: the servers.
        transport: reaches them.
        chance: which server a client gets.

    Attributes:
        health: of each server.
    """

    def __init__(self, endpoints: Sequence[Endpoint], transport: Transport, chance: random.Random) -> None:
        self.health = dict.fromkeys(endpoints, Health.UNKNOWN)
        self._transport = transport
        self._chance = chance

    @property
    def serves(self) -> bool:
        """Whether a server is known to serve."""
        return Health.SERVES in self.health.values()

    async def run(self) -> None:
        """Asks every server how it is, again and again, until cancelled."""
        async with trio.open_nursery() as nursery:
            for endpoint in self.health:
                nursery.start_soon(self._ask_always, endpoint)

    async def _ask_always(self, endpoint: Endpoint) -> None:
        while True:
            await self.ask(endpoint)
            await trio.sleep(PROBE_INTERVAL)

    async def ask(self, endpoint: Endpoint) -> None:
        """Asks one server by the command srvr, which every ZooKeeper answers unless it is forbidden."""
        found = Health.UNREACHABLE
        try:
            with trio.fail_after(PROBE_TIMEOUT):
                connection = await self._dial(endpoint)
                try:
                    await connection.send(b"srvr")
                    answer = b""
                    while len(answer) < ANSWER_MAX and (data := await connection.receive()):
                        answer += data
                finally:
                    with trio.CancelScope(shield=True):
                        await connection.aclose()
            idle = b"not currently serving" in answer
            # An answer without a mode is one that says that the command is not allowed: the server is there.
            found = Health.HAS_NO_QUORUM if idle else Health.SERVES if re.search(rb"\S", answer) else found
        except _BROKEN as error:
            _log.debug("%s did not answer: %s", endpoint, error)
        self._found(endpoint, found)

    def _found(self, endpoint: Endpoint, health: Health) -> None:
        if self.health[endpoint] is not health:
            self.health[endpoint] = health
            _log.log(logging.INFO if health is Health.SERVES else logging.WARNING, "%s %s", endpoint, health.value)

    async def connect(self) -> tuple[Endpoint, Connection]:
        """A connection to a server, chosen by chance among the best; the others are tried where those fail.

        Raises:
            OSError: none can be reached.
        """
        order = list(self.health)
        self._chance.shuffle(order)
        ranks = {health: rank for rank, health in enumerate(Health)}
        failure: BaseException | None = None
        for endpoint in sorted(order, key=lambda each: ranks[self.health[each]]):
            try:
                with trio.fail_after(DIAL_TIMEOUT):
                    return endpoint, await self._dial(endpoint)
            except _BROKEN as error:
                failure = error
                self._found(endpoint, Health.UNREACHABLE)
        raise ConnectionRefusedError("no server of the ensemble can be reached") from failure

    async def _dial(self, endpoint: Endpoint) -> Connection:
        failure: BaseException | None = None
        for address in await self._transport.resolve(endpoint):
            try:
                return await self._transport.dial(address)
            except (OSError, trio.BrokenResourceError) as error:
                failure = error
        raise failure or ConnectionRefusedError(f"{endpoint} has no address")
