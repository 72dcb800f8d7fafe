"""What a server answered, in a form that can be compared with what another one did.

Decides what is left out of a comparison: clocks, session ids (replaced by the order in which they were given out), the
order of what has none, and the few spellings that `differences.py` names. Everything else is kept as it came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from terzetto.client.errors import WireError
from terzetto.client.values import ACL, ZnodeStat
from terzetto.client.wire import Opcode, codec, records as r
from terzetto.client.wire.multi import MultiResult, decode_results

from .rawclient import Closed, Frame, RawClient
from .request_sequences import Step

Observation = tuple[Any, ...]

CLOSED_WITHIN = 20.0
"""Seconds in which a server that is to end the connection does so; a busy one may answer many pings before."""

_UNIMPLEMENTED = -6


@dataclass
class World:
    """One server under test and the clients on it.

    Args:
        port: the server's.
        clients: how many.
    """

    port: int
    clients: int
    last_zxid: int = 0
    sessions: dict[int, int] = field(default_factory=dict[int, int])
    _clients: list[RawClient] = field(default_factory=list[RawClient])
    _sessions: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])

    def open(self) -> None:
        """Connects every client, in order."""
        for _ in range(self.clients):
            client = RawClient(self.port)
            greeting = client.connect()
            self._clients.append(client)
            self._sessions.append((greeting.session_id, greeting.password))
            self.sessions[greeting.session_id] = len(self.sessions)

    def close(self) -> None:
        """Ends every connection; the sessions stay."""
        for client in self._clients:
            client.close()

    def play(self, step: Step) -> list[Observation]:
        """Does one step, and reports what every client hears of it."""
        heard: list[Observation] = []
        client = self._clients[step.who]
        client.send(step.data)
        # The reply to a ping has the xid -2 whatever the request had.
        expected = -2 if step.opcode == Opcode.PING else step.xid
        try:
            frames = client.read_until(expected)
            ended = False
        except Closed as closed:
            frames, ended = closed.frames, True
        heard += [self._observe(step, step.who, frame) for frame in frames]
        unknown = bool(frames) and frames[-1].err == _UNIMPLEMENTED
        for who in range(self.clients):
            if who == step.who and ended:
                heard.append((who, "closed"))
                heard += self._come_back(who)
                continue
            frames, gone = self._behind(who, until_closed=who == step.who and unknown)
            heard += [self._observe(step, who, frame) for frame in frames]
            if gone:
                heard.append((who, "closed behind"))
                heard += self._come_back(who)
        if step.opcode == Opcode.CLOSE_SESSION:
            # The order in which a session's ephemeral znodes go, and their events with them, is unspecified.
            heard.sort(key=repr)
        return heard

    def _behind(self, who: int, *, until_closed: bool) -> tuple[list[Frame], bool]:
        """What comes up to the answer of a ping, and whether the connection ended before that.

        Java ends the connection of an opcode that it does not know a moment after its answer, and may answer pings
        until then.
        """
        frames: list[Frame] = []
        try:
            ends_at = time.monotonic() + (CLOSED_WITHIN if until_closed else 0)
            frames += self._clients[who].barrier()
            while time.monotonic() < ends_at:
                frames += self._clients[who].barrier()
        except Closed as closed:
            return frames + closed.frames, True
        return frames, False

    def _come_back(self, who: int) -> list[Observation]:
        """Connects a client again: to its session, or to a new one where that is over."""
        self._clients[who].close()
        client = self._clients[who] = RawClient(self.port)
        session_id, password = self._sessions[who]
        greeting = client.connect(session_id=session_id, password=password)
        heard: list[Observation] = [(who, "greeted", greeting.timeout_ms, self.sessions.get(greeting.session_id))]
        if greeting.session_id == 0:
            client.close()
            client = self._clients[who] = RawClient(self.port)
            greeting = client.connect()
            self._sessions[who] = (greeting.session_id, greeting.password)
            self.sessions[greeting.session_id] = len(self.sessions)
            heard.append((who, "new", greeting.timeout_ms))
        return heard

    def _observe(self, step: Step, who: int, frame: Frame) -> Observation:
        if frame.xid == -1:
            event, _ = codec(r.WatcherEvent).decode(frame.body, 0, len(frame.body))
            return (who, "event", tuple(event))
        self.last_zxid = max(self.last_zxid, frame.zxid)
        if frame.body and frame.err:
            return (who, frame.xid, frame.zxid, frame.err, frame.body.hex())
        return (who, frame.xid, frame.zxid, frame.err, self._body(step, frame.body) if frame.body else None)

    def _body(self, step: Step, body: bytes) -> Any:
        try:
            if step.opcode in (Opcode.MULTI, Opcode.MULTI_READ):
                results, end = decode_results(body, 0, len(body))
                parts = list(step.subs) if len(step.subs) == len(results) else [0] * len(results)
                value: Any = [self._result(sub, result) for sub, result in zip(parts, results, strict=True)]
            else:
                record, end = codec(_RESPONSES[step.opcode]).decode(body, 0, len(body))
                value = self.mask(record)
        except (KeyError, WireError):
            return ("undecodable", body.hex())
        return value if end == len(body) else (value, "and", body[end:].hex())

    def _result(self, sub: int, result: MultiResult) -> Any:
        kind, err, value = result
        if kind == Opcode.CREATE2 and sub == Opcode.CREATE2:
            # 3.8.0 answers a create2 in a multi as a create (see `differences`).
            kind, value = int(Opcode.CREATE), r.CreateResponse(value.path)
        return (kind, err, self.mask(value))

    def mask(self, value: Any) -> Any:
        """A record without clocks and session ids, and with what has no order in order."""
        if isinstance(value, ZnodeStat):
            owner = value.ephemeralOwner
            return value._replace(ctime=0, mtime=0, ephemeralOwner=self.sessions.get(owner, owner) + 1 if owner else 0)
        masked = _MASKS.get(cast("type[object]", type(value)))
        if masked is not None:
            return masked(self, value)
        parts: Any = value
        if isinstance(value, tuple):
            return tuple(self.mask(part) for part in parts)
        return value


def _sorted_children(world: World, value: Any) -> Any:
    return (sorted(value[0]), *(world.mask(part) for part in value[1:]))


def _sorted_acl(world: World, value: r.GetACLResponse) -> Any:
    # Only an ACL that was expanded from `auth` has no order of its own; sorting all is cheap and hides little.
    acl: list[ACL] = value.acl
    return (sorted(acl, key=repr), world.mask(value.stat))


_MASKS: Mapping[type, Callable[[World, Any], Any]] = {
    r.GetChildrenResponse: _sorted_children,
    r.GetChildren2Response: _sorted_children,
    r.GetEphemeralsResponse: _sorted_children,
    r.WhoAmIResponse: _sorted_children,
    r.GetACLResponse: _sorted_acl,
}

_RESPONSES: Mapping[int, type[Any]] = {
    Opcode.CREATE: r.CreateResponse,
    Opcode.CREATE2: r.Create2Response,
    Opcode.CREATE_CONTAINER: r.Create2Response,
    Opcode.CREATE_TTL: r.Create2Response,
    Opcode.EXISTS: r.ExistsResponse,
    Opcode.GET_DATA: r.GetDataResponse,
    Opcode.SET_DATA: r.SetDataResponse,
    Opcode.GET_ACL: r.GetACLResponse,
    Opcode.SET_ACL: r.SetACLResponse,
    Opcode.GET_CHILDREN: r.GetChildrenResponse,
    Opcode.GET_CHILDREN2: r.GetChildren2Response,
    Opcode.SYNC: r.SyncResponse,
    Opcode.GET_ALL_CHILDREN_NUMBER: r.GetAllChildrenNumberResponse,
    Opcode.GET_EPHEMERALS: r.GetEphemeralsResponse,
    Opcode.ADD_WATCH: r.ErrorResponse,
    Opcode.WHO_AM_I: r.WhoAmIResponse,
    Opcode.SASL: r.SetSASLResponse,
}
