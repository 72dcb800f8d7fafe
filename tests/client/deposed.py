"""A leader that was deposed and does not know it yet, as the next server of a client whose reply was lost.

    ensemble.rules.append(DeposedLeader(ensemble, Opcode.MULTI))

The first request of that kind is done, and its reply is lost. The next connection leads to a server that has not heard
of it: it answers reads and `sync` at once from the tree that it knows, and has no quorum for anything else. The
connection goes with the first request that needs one, or after so many reads; then all servers are as they should be.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from terzetto.client.wire import Opcode

from .memory_server import MemoryEnsemble
from .server_link import Fault, Received

_READS = (Opcode.EXISTS, Opcode.GET_DATA, Opcode.GET_CHILDREN, Opcode.GET_CHILDREN2)
_ANSWERED = (*_READS, Opcode.SYNC, Opcode.PING, Opcode.SET_WATCHES, Opcode.SET_WATCHES2)


class DeposedLeader:
    """See the module. A rule of the ensemble.

    Attributes:
        asked: requests that it got.
        reads: how many reads it still answers.
    """

    def __init__(self, ensemble: MemoryEnsemble, opcode: int, reads: int = 1) -> None:
        self.asked: list[Received] = []
        self.reads = reads
        self._ensemble = ensemble
        self._opcode = opcode
        self._present = ensemble.realm
        self._lost = False

    def __call__(self, request: Received) -> Fault | None:
        ensemble = self._ensemble
        if not self._lost and request.opcode == self._opcode:
            self._lost = True
            ensemble.realm = replace(
                self._present,
                znodes=copy.deepcopy(self._present.znodes),
                sessions=dict(self._present.sessions),
                watchers=[],
                on_session_end=[],
            )
            return Fault.DO_AND_CUT
        if ensemble.realm is self._present:
            return None
        self.asked.append(request)
        if request.opcode in _ANSWERED and not (request.opcode in _READS and self.reads == 0):
            self.reads -= request.opcode in _READS
            return None
        ensemble.realm = self._present
        return Fault.CUT
