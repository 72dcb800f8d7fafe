"""Takes the connection away at each request of a recipe, before or after the server has done it. Knows no recipe.

    async for loss in losses(ensemble):
        ...one whole use of the recipe, by any number of clients, and what must hold afterwards

Each round begins with an empty tree and loses one request: the first one, the second one, and so on until a round has
no more requests than that; then the same with the reply lost instead. A recipe promises that each change is made
once, or that its error says that this is unknown (`outcome_unknown`).
"""

from __future__ import annotations

from dataclasses import dataclass

from terzetto.client.wire import Opcode
from tests.client.memory_server import MemoryEnsemble, settle
from tests.client.server_link import Fault, Received

from .walking import forget_tree

_OWN = (Opcode.PING, Opcode.CLOSE_SESSION, Opcode.SET_WATCHES, Opcode.SET_WATCHES2, Opcode.AUTH)


@dataclass
class Loss:
    """One lost request. As a rule of the ensemble it befalls the request number `at`.

    Attributes:
        fault: CUT loses the request, DO_AND_CUT the reply.
        at: which request, from 0.
        lost: the request, once it has come.
    """

    fault: Fault
    at: int
    lost: Received | None = None
    seen: int = 0

    def __call__(self, request: Received) -> Fault | None:
        if request.opcode in _OWN:
            return None
        self.seen += 1
        if self.seen != self.at + 1:
            return None
        self.lost = request
        return self.fault

    def __str__(self) -> str:
        what = "reply" if self.fault is Fault.DO_AND_CUT else "request"
        return f"{what} {self.at} lost: {self.lost}"


class losses:  # noqa: N801 - read as a function; a generator that a failure leaves open would warn of itself
    """See the module. A round's clients must be closed when it ends."""

    def __init__(self, ensemble: MemoryEnsemble) -> None:
        self._ensemble = ensemble
        self._loss: Loss | None = None

    def __aiter__(self) -> losses:
        return self

    async def __anext__(self) -> Loss:
        last = self._loss
        self._ensemble.rules.clear()
        await settle()
        if last is None:
            self._loss = Loss(Fault.CUT, 0)
        elif last.lost is not None:
            self._loss = Loss(last.fault, last.at + 1)
        elif last.fault is Fault.CUT:
            assert last.at > 0, "the work has made no request"
            self._loss = Loss(Fault.DO_AND_CUT, 0)
        else:
            raise StopAsyncIteration
        forget_tree(self._ensemble)
        self._ensemble.rules.append(self._loss)
        return self._loss
