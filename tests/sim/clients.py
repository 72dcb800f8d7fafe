"""Clients of the simulated ensemble: sessions that speak ZooKeeper's frames and note what they were told.

Decides what a client asks and when, when it leaves a server for another, and that one connection's answers come in
order. What an answer may say is judged in `observations.py`.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import Opcode, codec, multi, operations as o, records as r

from .network import Network
from .observations import Asked, Observations, Watched
from .world import MILLISECOND, World

_LENGTH = struct.Struct(">i")
_REPLY = struct.Struct(">iqi")
_DATA_KEYS = ("/a", "/b", "/c", "/d/x", "/d/y")
_PARENTS = ("/a", "/d", "/q", "/t0", "/")
_PING_FRAME = o.PING.frame(o.PING_XID)
PIPELINE_MAX = 6
"""Requests that a client has under way at most."""


class SimulatedClient:
    """One client, with one session after the other.

    Args:
        number: its node in the network.
        world: time and chance.
        network: links to servers.
        servers: nodes of the servers it may connect to.
        observations: what clients were told.
        timeout_ms: session timeout that it asks for.
        pause: mean time between two bursts of requests, in microseconds; 0 for a client that asks what it is told to.

        reads_only: whether it never writes.

    Attributes:
        number: see above.
        servers: see above.
        session_id: its session, 0 where it has none.
    """

    def __init__(
        self,
        number: int,
        world: World,
        network: Network,
        servers: list[int],
        observations: Observations,
        *,
        timeout_ms: int,
        pause: int,
        reads_only: bool,
    ) -> None:
        self.number = number
        self.servers = servers
        self._world = world
        self._network = network
        self._observations = observations
        self._random: random.Random = world.chance(f"client {number}")
        self._timeout_ms = timeout_ms
        self._pause = pause
        self._link = 0
        self._open = False
        self._rest = b""
        self.session_id = 0
        self._password: bytes | None = bytes(16)
        self._last_zxid = 0
        self._xid = 0
        self._asked: deque[Asked] = deque()
        self._pings = 0
        self._watched: dict[str, Watched] = {}
        self._heard = 0
        self._ending = False
        self._stopped = False
        self._asleep = False
        self._negotiated_ms = timeout_ms
        self._versions: dict[str, int] = {}
        self._requests: list[Callable[[], None]] = self._kinds(reads_only)

    @property
    def alive(self) -> bool:
        """See `Node`."""
        return True

    def start(self) -> None:
        """Begins to live."""
        self._world.after(self._random.randrange(100 * MILLISECOND), self._connect)
        if self._pause:
            self._world.after(self._random.randrange(self._pause), self._act)
        self._world.after(self._timeout_ms * MILLISECOND // 3, self._keep_alive)

    def stop(self) -> None:
        """Asks nothing any more; answers still come."""
        self._stopped = True

    # Connections.

    def _connect(self) -> None:
        if not self._link and not self._asleep:
            self._network.dial(self.number, self._random.choice(self.servers))

    def dialled(self, link: int, peer: int) -> None:
        """See `Node`."""
        if self._link or self._asleep:
            self._network.hang_up(link, self.number)
            return
        self._link = link
        self._open = False
        self._rest = b""
        self._heard = self._world.now
        request = r.ConnectRequest(0, self._last_zxid, self._timeout_ms, self.session_id, self._password, False)
        self._send(_framed(codec(r.ConnectRequest).encode(request)))

    def dial_failed(self, peer: int, reason: str) -> None:
        """See `Node`."""
        self._connect_later()

    def closed(self, link: int) -> None:
        """See `Node`."""
        if link == self._link:
            self._lost()

    def accepted(self, link: int, peer: int) -> None:
        """See `Node`."""
        raise AssertionError("nobody dials a client")

    def letter(self, sender: int, message: Any) -> None:
        """See `Node`."""
        raise AssertionError("clients elect nobody")

    def _lost(self) -> None:
        self._link = 0
        self._open = False
        self._asked.clear()
        self._watched.clear()
        self._pings = 0
        if self._ending:
            # Whether the session was closed is not known; it is not used again.
            self.forget_session()
        self._connect_later()

    def _connect_later(self) -> None:
        self._world.after(self._random.randrange(1, 100) * MILLISECOND, self._connect)

    def forget_session(self) -> None:
        """Comes back as somebody else."""
        self.session_id = self._last_zxid = self._xid = 0
        self._password = bytes(16)
        self._ending = False

    def sleep(self) -> None:
        """Falls silent, until it wakes; its session may end meanwhile."""
        self._asleep = True
        self.leave()

    def wake(self) -> None:
        """See `sleep`."""
        if self._asleep:
            self._asleep = False
            self._connect()

    def leave(self) -> None:
        """Drops its connection and looks for another server, with its session."""
        if self._link:
            self._network.hang_up(self._link, self.number)
            self._lost()

    def _keep_alive(self) -> None:
        self._world.after(self._negotiated_ms * MILLISECOND // 3, self._keep_alive)
        if not self._link:
            return
        if self._world.now - self._heard > self._negotiated_ms * MILLISECOND * 2 // 3:
            self.leave()
        elif self._open:
            self._pings += 1
            self._send(_PING_FRAME)

    def _send(self, data: bytes) -> None:
        self._network.send(self._link, self.number, data)

    # Answers.

    def arrived(self, link: int, message: bytes) -> None:
        """See `Node`."""
        if link != self._link:
            return
        self._heard = self._world.now
        data = self._rest + message if self._rest else message
        pos = 0
        while len(data) - pos >= 4:
            end = pos + 4 + _LENGTH.unpack_from(data, pos)[0]
            if len(data) < end:
                break
            self._frame(data[pos + 4 : end])
            if link != self._link:
                return
            pos = end
        self._rest = data[pos:]

    def _frame(self, frame: bytes) -> None:
        if not self._open:
            self._welcomed(frame)
            return
        xid, zxid, err = _REPLY.unpack_from(frame)
        if xid == o.WATCH_XID:
            event, _ = codec(r.WatcherEvent).decode(frame, _REPLY.size, len(frame))
            self._observations.event(self._watched, event.path)
            return
        self._observations.order(self._watched, zxid)
        if xid == o.PING_XID:
            self._pings -= 1
            return
        if not self._asked:
            self._observations.unasked(self.session_id, xid)
        asked = self._asked.popleft()
        value = None
        if not err and len(frame) > _REPLY.size and asked.operation is not None and asked.operation.decode is not None:
            value, _ = asked.operation.decode(frame, _REPLY.size, len(frame))
        elif not err and asked.opcode == Opcode.MULTI:
            value, _ = multi.decode_results(frame, _REPLY.size, len(frame))
        self._observations.answered(asked, xid, zxid, err, value)
        self._last_zxid = max(self._last_zxid, zxid)
        if asked.watch and not err:
            self._watched[asked.path] = Watched(asked.path, zxid)
        if isinstance(value, r.SetDataResponse):
            self._versions[asked.path] = value.stat.version
        if asked.opcode == Opcode.CLOSE_SESSION:
            self._lost()

    def _welcomed(self, frame: bytes) -> None:
        answer, _ = codec(r.ShortConnectResponse).decode(frame, 0, len(frame))
        if answer.session_id == 0:
            self._observations.expired(self.session_id)
            self._world.note("expired", self.number, self.session_id)
            self.forget_session()
            self._network.hang_up(self._link, self.number)
            self._lost()
            return
        self._observations.welcomed(self.session_id, answer.session_id)
        self.session_id, self._password = answer.session_id, answer.passwd
        self._negotiated_ms = answer.timeout
        self._open = True
        self._act_now()

    # Requests.

    def _act(self) -> None:
        if self._stopped:
            return
        self._world.after(1 + int(self._random.expovariate(1 / self._pause)), self._act)
        self._act_now()

    def _act_now(self) -> None:
        if not self._pause:
            return
        for _ in range(self._random.choice((1, 1, 2, 4))):
            if self._stopped or not self._open or self._ending or len(self._asked) >= 3 * PIPELINE_MAX:
                return
            if len(self._asked) < PIPELINE_MAX:
                self._random.choice(self._requests)()
            elif self._random.random() < 0.3:
                # A server that does not answer may be a leader that was deposed while it stood still.
                self._sync_and_get()

    def _kinds(self, reads_only: bool) -> list[Callable[[], None]]:
        """Every kind of request, as often as it is to be drawn."""
        if reads_only:
            return [self._get, self._exists, self._children, self._sync_and_get]
        weights = [
            (self._create, 4),
            (self._create_ephemeral, 3),
            (self._create_sequential, 2),
            (self._create_container, 1),
            (self._create_with_ttl, 1),
            (self._set_acl, 1),
            (self._set, 7),
            (self._delete, 2),
            (self._multi, 3),
            (self._get, 6),
            (self._exists, 2),
            (self._children, 2),
            (self._sync_and_get, 3),
            (self._close, 0.3),
        ]
        return [kind for kind, weight in weights for _ in range(int(weight * 10))]

    def probe(self) -> None:
        """Asks for one write now, if it is connected."""
        if self._pause and self._open and not self._ending and len(self._asked) < 2 * PIPELINE_MAX:
            self._set()

    @property
    def connected(self) -> bool:
        """Whether it has a session on a live connection."""
        return self._open

    def ask(
        self, operation: o.Operation, path: str, *rest: Any, watch: bool = False, sync_floor: int | None = None
    ) -> None:
        """Asks for something with a path."""
        self._xid += 1
        self._submit(operation.frame(self._xid, path, *rest), operation.opcode, path, operation, watch, sync_floor)

    def _submit(
        self,
        frame: bytes,
        opcode: int,
        path: str,
        operation: o.Operation | None = None,
        watch: bool = False,
        sync_floor: int | None = None,
    ) -> None:
        asked = self._observations.ask(self.session_id, self._xid, opcode, path, operation)
        asked.watch = watch
        if sync_floor is not None:
            asked.floor = sync_floor
        self._asked.append(asked)
        self._world.note("ask", self.number, self._xid, Opcode(opcode).name, path)
        self._send(frame)

    def _data(self) -> bytes:
        return f"{self.number}.{self._xid}".encode()

    def _create(self) -> None:
        self.ask(o.CREATE2, self._random.choice((*_DATA_KEYS, "/d", "/q")), self._data(), OPEN_ACL_UNSAFE, 0)

    def _create_ephemeral(self) -> None:
        self.ask(o.CREATE, f"/e{self._random.randrange(4)}", self._data(), OPEN_ACL_UNSAFE, 1)

    def _create_sequential(self) -> None:
        self.ask(o.CREATE, "/q/s", b"", OPEN_ACL_UNSAFE, self._random.choice((2, 3)))

    def _create_container(self) -> None:
        path = self._random.choice(("/t0", "/t0/x", "/t1"))
        self.ask(o.CREATE_CONTAINER, path, b"", OPEN_ACL_UNSAFE, 4)

    def _create_with_ttl(self) -> None:
        path = self._random.choice(("/t0/y", "/t2", "/t3"))
        self.ask(o.CREATE_TTL, path, self._data(), OPEN_ACL_UNSAFE, 5, self._random.randrange(1, 4000))

    def _set_acl(self) -> None:
        acl = self._random.choice((OPEN_ACL_UNSAFE, [*OPEN_ACL_UNSAFE, *OPEN_ACL_UNSAFE]))
        self.ask(o.SET_ACL, self._random.choice(_DATA_KEYS), acl, -1)

    def _set(self) -> None:
        path = self._random.choice(_DATA_KEYS)
        version = self._versions.get(path, -1) if self._random.random() < 0.3 else -1
        self.ask(o.SET_DATA, path, self._data(), version)

    def _delete(self) -> None:
        self.ask(o.DELETE, self._random.choice((*_DATA_KEYS, "/e0", "/e1", "/d")), -1)

    def _multi(self) -> None:
        self._xid += 1
        key, other = self._random.choice(_DATA_KEYS), self._random.choice(_DATA_KEYS)
        ops = [
            multi.MultiOp(Opcode.CHECK, r.CheckVersionRequest(key, self._random.choice((-1, -1, 0)))),
            multi.MultiOp(Opcode.SET_DATA, r.SetDataRequest(other, self._data(), -1)),
            multi.MultiOp(Opcode.CREATE, r.CreateRequest("/a/m", self._data(), OPEN_ACL_UNSAFE, 0)),
            multi.MultiOp(Opcode.DELETE, r.DeleteRequest("/a/m", -1)),
        ]
        kept = ops[: self._random.randint(1, len(ops))]
        body = struct.pack(">ii", self._xid, Opcode.MULTI) + multi.encode_requests(kept, multi.WRITE_REQUESTS)
        self._submit(_framed(body), Opcode.MULTI, "")

    def _get(self) -> None:
        watch = self._random.random() < 0.3
        self.ask(o.GET_DATA, self._random.choice(_DATA_KEYS), watch, watch=watch)

    def _exists(self) -> None:
        self.ask(o.EXISTS, f"/e{self._random.randrange(4)}", False)

    def _children(self) -> None:
        self.ask(o.GET_CHILDREN2, self._random.choice(_PARENTS), False)

    def _sync_and_get(self) -> None:
        path = self._random.choice(_DATA_KEYS)
        self.ask(o.SYNC, path)
        self.ask(o.GET_DATA, path, False, sync_floor=self._asked[-1].floor)

    def _close(self) -> None:
        self._xid += 1
        self._ending = True
        self._submit(o.CLOSE_SESSION.frame(self._xid), Opcode.CLOSE_SESSION, "", o.CLOSE_SESSION)


def _framed(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body
