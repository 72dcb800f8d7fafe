"""Random request sequences for two servers at once: valid, invalid and malformed, from one seed.

Decides what is asked, and leaves out what the table of intended differences (`differences.py`) names, so that
everything that is left must be answered alike. Refuses to know any answer but the last zxid.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from terzetto.client.values import ACL, Id
from terzetto.client.wire import Opcode, codec, records as r
from terzetto.client.wire.multi import READ_REQUESTS, WRITE_REQUESTS, MultiOp, encode_requests

PATHS: Sequence[str] = ("/a", "/b", "/a/x", "/a/y", "/a/x/deep", "/b/z", "/c", "/é", "/a/x/deep/er", "/q", "/q/1")
OPEN_PATHS = ("/c", "/q")
PERSISTENT_PATHS: Sequence[str] = ("/p", "/p/1", "/p/2", "/p/1/in")
BAD_PATHS = (
    "", "a", "/a/", "/a//b", "/a/../b", "/./a", "/a\x00b", "/a\x01", "/\ud7ff\uf8ff", "/zookeeper",
    "/zookeeper/config", "/zookeeper/quota", "/", "/nowhere/at/all", "//", "/...",
)  # fmt: skip
WORLD = [ACL(31, Id("world", "anyone"))]
ACLS: Sequence[list[ACL] | None] = (
    WORLD, WORLD, WORLD, WORLD, WORLD, WORLD,
    [ACL(1, Id("world", "anyone"))],
    [ACL(31, Id("auth", ""))],
    [ACL(15, Id("digest", "ann:RYbu6l5aZwqon8VWmkcGvezdzfc="))],
    [ACL(16, Id("world", "anyone")), ACL(1, Id("world", "anyone")), ACL(16, Id("world", "anyone"))],
    [ACL(31, Id("ip", "127.0.0.1")), ACL(1, Id("world", "anyone"))],
    [ACL(31, Id("ip", "10.0.0.0/8"))],
    [ACL(31, Id("ip", "1.2.3.4/33"))],
    [ACL(31, Id("digest", "nocolon"))],
    [ACL(31, Id("world", "nobody"))],
    [ACL(31, Id("super", ""))],
    [ACL(31, Id("unheard", "of"))],
    [ACL(0, Id("world", "anyone"))],
    [],
    None,
)  # fmt: skip
_PERSISTENT = (Opcode.EXISTS, Opcode.GET_DATA, Opcode.GET_CHILDREN, Opcode.GET_CHILDREN2)
_UNKNOWN = (0, -1, 10, 23, 77, 99, 108, -12, 2**31 - 1, -(2**31))


@dataclass(frozen=True)
class Step:
    """One thing that a client does.

    Attributes:
        who: the connection's number.
        data: the bytes it sends.
        opcode: of the request in them.
        xid: of the request in them.
        subs: opcodes of a multi's operations.
        note: what it is, for the report of a difference.
    """

    who: int
    data: bytes
    opcode: int
    xid: int
    subs: tuple[int, ...] = ()
    note: str = ""


@dataclass
class Requests:
    """A source of steps.

    Args:
        chance: decides everything.
        clients: how many connections there are.
    """

    chance: random.Random
    clients: int
    last_zxid: int = 0
    _xid: int = field(default=0, init=False)

    def step(self) -> Step:
        """The next step."""
        chance = self.chance
        who = chance.randrange(self.clients)
        self._xid += 1
        make = chance.choices(_MAKERS, _WEIGHTS)[0]
        opcode, body, subs = make(self)
        note = f"{_name(opcode)} {body[:60]!r}"
        if body and chance.random() < 0.04:
            body = self._damaged(opcode, body)
            note = f"damaged {note}"
        if chance.random() < 0.02:
            body += bytes(chance.randrange(1, 9))
        data = struct.pack(">iii", 8 + len(body), self._xid, opcode) + body
        return Step(who, data, opcode, self._xid, subs, note)

    def _damaged(self, opcode: int, body: bytes) -> bytes:
        # Cut only: a flipped byte could make the request that ends a real server for good.
        return body[: self.chance.randrange(len(body))]

    # -- parts

    def path(self) -> str:
        """A path, mostly a good one."""
        roll = self.chance.random()
        if roll < 0.1:
            return self.chance.choice(BAD_PATHS)
        if roll < 0.35:
            return self.chance.choice(PERSISTENT_PATHS)
        return self.chance.choice(PATHS)

    def some_path(self) -> str | None:
        """A path, or rarely null."""
        return None if self.chance.random() < 0.02 else self.path()

    def data(self) -> bytes | None:
        """A znode's data."""
        return self.chance.choice((None, b"", b"x", b"data", bytes(200)))

    def version(self) -> int:
        """A version that is often right."""
        return self.chance.choice((-1, -1, -1, 0, 0, 1, 2, 7, -2, 2**31 - 1))

    def acl(self, path: str | None) -> list[ACL] | None:
        """An ACL, mostly open; always so where exists may leave a watch (see `differences`)."""
        if path is None or path.startswith(OPEN_PATHS):
            return WORLD
        return self.chance.choice(ACLS) if self.chance.random() < 0.4 else WORLD

    # -- operations

    def create(self) -> tuple[int, bytes, tuple[int, ...]]:
        """create and create2 in all modes."""
        opcode = self.chance.choice((Opcode.CREATE, Opcode.CREATE2))
        return opcode, self._create(), ()

    def _create(self) -> bytes:
        flags = self.chance.choice((0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, -1))
        path = self.some_path()
        if path is not None and flags in (2, 3, 6) and self.chance.random() < 0.3:
            path += "/"
        return codec(r.CreateRequest).encode(r.CreateRequest(path, self.data(), self.acl(path), flags))

    def create_container(self) -> tuple[int, bytes, tuple[int, ...]]:
        """createContainer; its flags are read and of no account."""
        path = self.path()
        record = r.CreateRequest(path, self.data(), self.acl(path), self.chance.choice((4, 4, 4, 0, 1)))
        return Opcode.CREATE_CONTAINER, codec(r.CreateRequest).encode(record), ()

    def create_ttl(self) -> tuple[int, bytes, tuple[int, ...]]:
        """createTTL."""
        return Opcode.CREATE_TTL, self._create_ttl(), ()

    def _create_ttl(self) -> bytes:
        flags = self.chance.choice((5, 5, 6))
        ttl = self.chance.choice((10**9, 10**9, 2**40 - 1, 2**40, 0, -1))
        path = self.path()
        record = r.CreateTTLRequest(path, self.data(), self.acl(path), flags, ttl)
        return codec(r.CreateTTLRequest).encode(record)

    def delete(self) -> tuple[int, bytes, tuple[int, ...]]:
        """delete."""
        return Opcode.DELETE, codec(r.DeleteRequest).encode(r.DeleteRequest(self.some_path(), self.version())), ()

    def set_data(self) -> tuple[int, bytes, tuple[int, ...]]:
        """setData."""
        record = r.SetDataRequest(self.some_path(), self.data(), self.version())
        return Opcode.SET_DATA, codec(r.SetDataRequest).encode(record), ()

    def set_acl(self) -> tuple[int, bytes, tuple[int, ...]]:
        """setACL, mostly with what leaves the znode usable."""
        path = self.some_path()
        acl = self.acl(path) if self.chance.random() < 0.6 else WORLD
        record = r.SetACLRequest(path, acl, self.version())
        return Opcode.SET_ACL, codec(r.SetACLRequest).encode(record), ()

    def get_acl(self) -> tuple[int, bytes, tuple[int, ...]]:
        """getACL."""
        return Opcode.GET_ACL, codec(r.GetACLRequest).encode(r.GetACLRequest(self.some_path())), ()

    def read(self) -> tuple[int, bytes, tuple[int, ...]]:
        """The reads that may leave a watch; never one on a path with persistent watches (see `differences`)."""
        opcode = self.chance.choice(_PERSISTENT)
        path = self.some_path()
        watch = self.chance.random() < 0.5 and path not in PERSISTENT_PATHS
        if opcode == Opcode.EXISTS and not (path or "").startswith(OPEN_PATHS):
            watch = False
        return opcode, codec(r.GetDataRequest).encode(r.GetDataRequest(path, watch)), ()

    def sync(self) -> tuple[int, bytes, tuple[int, ...]]:
        """sync."""
        return Opcode.SYNC, codec(r.SyncRequest).encode(r.SyncRequest(self.some_path())), ()

    def count(self) -> tuple[int, bytes, tuple[int, ...]]:
        """getAllChildrenNumber and getEphemerals."""
        opcode = self.chance.choice((Opcode.GET_ALL_CHILDREN_NUMBER, Opcode.GET_EPHEMERALS))
        return opcode, codec(r.GetEphemeralsRequest).encode(r.GetEphemeralsRequest(self.some_path())), ()

    def who_am_i(self) -> tuple[int, bytes, tuple[int, ...]]:
        """whoAmI."""
        return Opcode.WHO_AM_I, b"", ()

    def ping(self) -> tuple[int, bytes, tuple[int, ...]]:
        """A ping under another xid than -2."""
        return Opcode.PING, b"", ()

    def multi(self) -> tuple[int, bytes, tuple[int, ...]]:
        """multi, sometimes with an operation that it may not hold."""
        ops: list[MultiOp] = []
        for _ in range(self.chance.choice((0, 1, 1, 2, 2, 3, 5))):
            opcode = self.chance.choice(_MULTI)
            if opcode in (Opcode.CREATE, Opcode.CREATE2, Opcode.CREATE_CONTAINER):
                flags = 4 if opcode == Opcode.CREATE_CONTAINER else self.chance.choice((0, 0, 1, 2, 3, 9))
                path = self.path()
                record: object = r.CreateRequest(path, self.data(), self.acl(path), flags)
            elif opcode == Opcode.CREATE_TTL:
                record = r.CreateTTLRequest(self.path(), self.data(), WORLD, 5, self.chance.choice((10**9, 0)))
            elif opcode == Opcode.SET_DATA:
                record = r.SetDataRequest(self.path(), self.data(), self.version())
            elif opcode == Opcode.DELETE:
                record = r.DeleteRequest(self.path(), self.version())
            else:
                record = r.CheckVersionRequest(self.path(), self.version())
            ops.append(MultiOp(opcode, record))
        body = encode_requests(ops, WRITE_REQUESTS)
        if self.chance.random() < 0.05:
            body = struct.pack(">ibi", self.chance.choice((4, 7, 99)), 0, -1) + body
        return Opcode.MULTI, body, tuple(op.opcode for op in ops)

    def multi_read(self) -> tuple[int, bytes, tuple[int, ...]]:
        """multiRead."""
        ops = [
            MultiOp(opcode, r.GetDataRequest(self.path(), False))
            for opcode in self.chance.choices((Opcode.GET_DATA, Opcode.GET_CHILDREN), k=self.chance.randrange(4))
        ]
        body = encode_requests(ops, READ_REQUESTS)
        if self.chance.random() < 0.1:
            body = struct.pack(">ibi", self.chance.choice((1, 3)), 0, -1) + body
        return Opcode.MULTI_READ, body, tuple(op.opcode for op in ops)

    def add_watch(self) -> tuple[int, bytes, tuple[int, ...]]:
        """addWatch, one mode a path for ever, and rarely a mode there is not."""
        path = self.chance.choice(PERSISTENT_PATHS)
        mode = PERSISTENT_PATHS.index(path) % 2 if self.chance.random() < 0.9 else self.chance.choice((2, -1))
        return Opcode.ADD_WATCH, codec(r.AddWatchRequest).encode(r.AddWatchRequest(path, mode)), ()

    def remove_watches(self) -> tuple[int, bytes, tuple[int, ...]]:
        """removeWatches: all of a path's, or one kind of standard watches."""
        path = self.path()
        kinds = (3,) if path in PERSISTENT_PATHS else (1, 2, 3, 0, 9)
        record = r.RemoveWatchesRequest(path, self.chance.choice(kinds))
        return Opcode.REMOVE_WATCHES, codec(r.RemoveWatchesRequest).encode(record), ()

    def set_watches(self) -> tuple[int, bytes, tuple[int, ...]]:
        """setWatches and setWatches2 as after a reconnect."""
        zxid = self.last_zxid - self.chance.randrange(4)
        lists = [self.chance.sample(PATHS, self.chance.randrange(4)) for _ in range(3)]
        if self.chance.random() < 0.5:
            return Opcode.SET_WATCHES, codec(r.SetWatches).encode(r.SetWatches(zxid, *lists)), ()
        plain = [path for path in PERSISTENT_PATHS if PERSISTENT_PATHS.index(path) % 2 == 0]
        deep = [path for path in PERSISTENT_PATHS if path not in plain]
        data, exist, child = lists
        record = r.SetWatches2(zxid, data, exist, child, plain[:1], deep[:1])
        return Opcode.SET_WATCHES2, codec(r.SetWatches2).encode(record), ()

    def auth(self) -> tuple[int, bytes, tuple[int, ...]]:
        """auth, mostly with a digest."""
        scheme, auth = self.chance.choice(
            (("digest", b"ann:pw"), ("digest", b"bob:pw"), ("digest", b"nocolon"), ("digest", b""), ("ip", b""),
             ("digest", None), ("world", b"anyone"), ("nosuch", b"x"), (None, b"x"), ("sasl", b"x"), ("x509", b"x"))
        )  # fmt: skip
        return Opcode.AUTH, codec(r.AuthPacket).encode(r.AuthPacket(0, scheme, auth)), ()

    def sasl(self) -> tuple[int, bytes, tuple[int, ...]]:
        """sasl where none is configured."""
        return Opcode.SASL, codec(r.GetSASLRequest).encode(r.GetSASLRequest(self.chance.choice((b"", b"token")))), ()

    def reconfig(self) -> tuple[int, bytes, tuple[int, ...]]:
        """reconfig of a standalone server."""
        record = r.ReconfigRequest("server.5=localhost:1:2;3", None, None, -1)
        return Opcode.RECONFIG, codec(r.ReconfigRequest).encode(record), ()

    def close_session(self) -> tuple[int, bytes, tuple[int, ...]]:
        """closeSession."""
        return Opcode.CLOSE_SESSION, b"", ()

    def unknown(self) -> tuple[int, bytes, tuple[int, ...]]:
        """An opcode that there is not."""
        return self.chance.choice(_UNKNOWN), b"", ()


def _name(opcode: int) -> str:
    try:
        return Opcode(opcode).name
    except ValueError:
        return str(opcode)


_MULTI = (
    Opcode.CREATE, Opcode.CREATE, Opcode.DELETE, Opcode.SET_DATA, Opcode.CHECK, Opcode.CREATE2, Opcode.CREATE_CONTAINER,
    Opcode.CREATE_TTL,
)  # fmt: skip

_TABLE: tuple[tuple[Callable[[Requests], tuple[int, bytes, tuple[int, ...]]], float], ...] = (
    (Requests.create, 24),
    (Requests.create_container, 3),
    (Requests.create_ttl, 4),
    (Requests.delete, 12),
    (Requests.set_data, 10),
    (Requests.set_acl, 4),
    (Requests.get_acl, 4),
    (Requests.read, 22),
    (Requests.sync, 2),
    (Requests.count, 4),
    (Requests.who_am_i, 2),
    (Requests.ping, 1),
    (Requests.multi, 10),
    (Requests.multi_read, 4),
    (Requests.add_watch, 4),
    (Requests.remove_watches, 4),
    (Requests.set_watches, 3),
    (Requests.auth, 3),
    (Requests.sasl, 0.5),
    (Requests.reconfig, 0.5),
    (Requests.close_session, 1),
    (Requests.unknown, 0.7),
)
_MAKERS = [maker for maker, _ in _TABLE]
_WEIGHTS = [weight for _, weight in _TABLE]
