"""Each intended difference, shown on both servers: what ZooKeeper 3.8.0 does, and what this server does instead."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator

import pytest

from terzetto.client.values import ACL, OPEN_ACL_UNSAFE, Id
from terzetto.client.wire import Opcode, codec, operations as o, records as r
from terzetto.client.wire.multi import MULTI, MultiOp
from terzetto.testcluster import start_ensemble
from terzetto.testcluster.ids import session_password

from .conftest import OwnZooKeeper
from .differences import DIFFERENCES
from .rawclient import Closed, Frame, RawClient, request
from .zookeeper import TICK_TIME, RealZooKeeper

EVENT, SILENCE, CLOSED = -1, "silence", "closed"
CHANGED, CHILDREN = 3, 4
Scenario = Callable[[int], object]


@pytest.fixture(scope="module")
def here() -> Iterator[int]:
    with start_ensemble(tick_time=TICK_TIME) as ensemble:
        yield int(ensemble.hosts.rpartition(":")[2])


@pytest.fixture
def there(zookeeper: RealZooKeeper) -> int:
    return zookeeper.port


class Session:
    """A client with a session, one request at a time."""

    def __init__(self, port: int) -> None:
        self.raw = RawClient(port)
        greeting = self.raw.connect()
        self.session_id, self.password = greeting.session_id, greeting.password
        self.events: list[tuple[int, int, str]] = []
        self._xid = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    def ask(self, operation: o.Operation, *fields: object) -> Frame:
        """The reply; events before it are kept as (type, zxid, path)."""
        self._xid += 1
        self.raw.send(operation.frame(self._xid, *fields))
        *before, reply = self.raw.read_until(self._xid)
        self._keep(before)
        return reply

    def ask_raw(self, opcode: int, body: bytes) -> object:
        """The error code, `SILENCE` where a ping behind it is answered first, and `CLOSED` at the end."""
        self._xid += 1
        self.raw.send(request(self._xid, opcode, body))
        try:
            frames = self.raw.barrier()
        except Closed as closed:
            return [frame.err for frame in closed.frames if frame.xid == self._xid] + [CLOSED]
        codes = [frame.err for frame in frames if frame.xid == self._xid]
        return codes or [SILENCE]

    def hear(self) -> list[tuple[int, int, str]]:
        """Events that were there before a ping was answered."""
        self._keep(self.raw.barrier())
        events, self.events = self.events, []
        return events

    def _keep(self, frames: list[Frame]) -> None:
        for frame in frames:
            event, _ = codec(r.WatcherEvent).decode(frame.body, 0, len(frame.body))
            self.events.append((event.type, frame.zxid, event.path))

    def create(self, path: str, flags: int = 0, acl: list[ACL] = OPEN_ACL_UNSAFE) -> Frame:
        return self.ask(o.CREATE, path, b"", acl, flags)


def test_event_zxid(there: int, here: int) -> None:
    def scenario(port: int) -> list[bool]:
        with Session(port) as session:
            session.create("/zxid", 1)
            session.ask(o.EXISTS, "/zxid", True)
            zxid = session.ask(o.SET_DATA, "/zxid", b"", -1).zxid
            (event,) = session.hear()
            session.ask(o.SET_WATCHES, 0, ["/zxid"], [], [])
            (restored,) = session.hear()
            return [event == (CHANGED, zxid, "/zxid"), event == (CHANGED, -1, "/zxid"), restored[1] == -1]

    assert scenario(there) == [False, True, True]
    assert scenario(here) == [True, False, True]


def test_watch_modes(there: int, here: int) -> None:
    def scenario(port: int) -> int:
        with Session(port) as session:
            session.create("/modes", 4)
            session.ask(o.ADD_WATCH, "/modes", 0)
            session.ask(o.GET_CHILDREN, "/modes", True)
            for number in range(3):
                session.create(f"/modes/{number}", 1)
            return sum(kind == CHILDREN for kind, _, path in session.hear() if path == "/modes")

    assert scenario(there) == 1
    assert scenario(here) == 3


def test_remove_by_kind(there: int, here: int) -> None:
    def scenario(port: int) -> tuple[list[int], int]:
        with Session(port) as session:
            session.create("/kinds", 1)
            session.ask(o.ADD_WATCH, "/kinds", 0)
            codes = [session.ask(o.REMOVE_WATCHES, "/kinds", kind).err for kind in (2, 4)]
            session.ask(o.SET_DATA, "/kinds", b"", -1)
            return codes, len(session.hear())

    assert scenario(there) == ([0, -5], 0)
    assert scenario(here) == ([-121, 0], 0)


def test_check_watches(there: int, here: int) -> None:
    def scenario(port: int) -> list[int]:
        with Session(port) as watching, Session(port) as asking:
            watching.ask(o.EXISTS, "/checked", True)
            return [session.ask(o.CHECK_WATCHES, "/checked", 2).err for session in (watching, asking)]

    assert scenario(there) == [0, 0]
    assert scenario(here) == [0, -121]


def test_exists_read(there: int, here: int) -> None:
    def scenario(port: int) -> int:
        with Session(port) as session:
            session.create("/hidden", 1, [ACL(30, Id("world", "anyone"))])
            return session.ask(o.EXISTS, "/hidden", False).err

    assert scenario(there) == 0
    assert scenario(here) == -102


def test_create2_in_multi(there: int, here: int) -> None:
    def scenario(port: int) -> list[tuple[int, bool]]:
        with Session(port) as session:
            create = MultiOp(Opcode.CREATE2, r.CreateRequest("/in-multi", b"", OPEN_ACL_UNSAFE, 1))
            reply = session.ask(MULTI, [create])
            assert MULTI.decode is not None
            results, _ = MULTI.decode(reply.body, 0, len(reply.body))
            return [(result.type, hasattr(result.value, "stat")) for result in results]

    assert scenario(there) == [(Opcode.CREATE, False)]
    assert scenario(here) == [(Opcode.CREATE2, True)]


def test_check_alone(there: int, here: int) -> None:
    def scenario(port: int) -> object:
        with Session(port) as session:
            return session.ask_raw(Opcode.CHECK, codec(r.CheckVersionRequest).encode(r.CheckVersionRequest("/", -1)))

    assert scenario(there) == [SILENCE]
    assert scenario(here) == [-6, CLOSED]


def test_negative_ttl(own_zookeeper: OwnZooKeeper, here: int) -> None:
    doomed = own_zookeeper(zoo_cfg={"extendedTypesEnabled": "true"})
    body = codec(r.CreateTTLRequest).encode(r.CreateTTLRequest("/doom", b"", OPEN_ACL_UNSAFE, 0, -1))

    def scenario(port: int) -> object:
        with Session(port) as session:
            return session.ask_raw(Opcode.CREATE_TTL, body)

    assert scenario(doomed.port) == [CLOSED]
    assert doomed.mode() is None
    assert scenario(here) == [-8]
    with Session(here) as other:
        assert other.ask(o.EXISTS, "/", False).err == 0


def test_wrong_password(there: int, here: int) -> None:
    def scenario(port: int) -> tuple[int, object]:
        with Session(port) as rightful, RawClient(port) as thief:
            greeting = thief.connect(session_id=rightful.session_id, password=b"x" * 16)
            try:
                rightful.raw.barrier()
            except Closed:
                return greeting.session_id, CLOSED
            return greeting.session_id, "served"

    assert scenario(there) == (0, CLOSED)
    assert scenario(here) == (0, "served")


def test_session_password(there: int, here: int) -> None:
    def scenario(port: int) -> bool:
        with Session(port) as session:
            return session.password == session_password(session.session_id)

    assert scenario(there)
    assert not scenario(here)


def test_client_create_session(there: int, here: int) -> None:
    def scenario(port: int) -> object:
        with Session(port) as session:
            session.raw.send(request(1, Opcode.CREATE_SESSION, struct.pack(">i", 10_000)))
            try:
                # There, a ConnectResponse: 37 bytes with the session's id behind version and timeout.
                return struct.unpack_from(">q", session.raw.read_frame(), 8)[0] == session.session_id
            except Closed:
                return CLOSED

    assert scenario(there) is True
    with Session(here) as session:
        assert session.ask_raw(Opcode.CREATE_SESSION, struct.pack(">i", 10_000)) == [-6, CLOSED]


def test_client_delete_container(there: int, here: int) -> None:
    def scenario(port: int) -> tuple[object, int]:
        with Session(port) as owner:
            owner.create("/protected", 0, [ACL(1, Id("world", "anyone"))])
            with Session(port) as stranger:
                code = stranger.ask_raw(Opcode.DELETE_CONTAINER, b"/protected")
            left = owner.ask(o.EXISTS, "/protected", False).err
            owner.ask(o.DELETE, "/protected", -1)
            return code, left

    assert scenario(there) == ([-8], 0)
    assert scenario(here) == ([-6, CLOSED], 0)


def test_null_watch(there: int, here: int) -> None:
    def scenario(port: int) -> tuple[object, bool]:
        with Session(port) as session, RawClient(port) as asking:
            code = session.ask_raw(Opcode.ADD_WATCH, struct.pack(">ii", -1, 0))
            return code, "null" in asking.four_letter(b"wchp")

    assert scenario(there) == ([0], True)
    assert scenario(here) == ([-5], False)


def test_in_order(there: int, here: int) -> None:
    auth = o.AUTH.frame(-4, 0, "digest", b"a:b")

    def scenario(port: int) -> tuple[bool, int]:
        with Session(port) as session:
            session.create("/order", 1)
            writes = [o.SET_DATA.frame(xid, "/order", b"", -1) for xid in range(1000, 1200)]
            session.raw.send(b"".join(writes) + auth)
            xids = [session.raw.next_reply().xid for _ in range(201)]
            session.raw.send(b"".join(writes) + request(2000, 77))
            answered = 0
            try:
                while session.raw.next_reply().xid != 2000:
                    answered += 1
            except Closed:
                pass
            return xids[-1] == -4, answered

    overtaken, lost = scenario(there)
    assert not overtaken
    assert lost < 200
    assert scenario(here) == (True, 200)


def test_not_utf8(there: int, here: int) -> None:
    def scenario(port: int) -> object:
        with Session(port) as session:
            return session.ask_raw(Opcode.DELETE, struct.pack(">i", 3) + b"/\xff\xfe" + struct.pack(">i", -1))

    assert scenario(there) == [-101]
    assert scenario(here) == [-5]


def test_every_difference_is_shown() -> None:
    tests = {name for name in vars(sys.modules[__name__]) if name.startswith("test_")}
    missing = [row.name for row in DIFFERENCES if f"test_{row.name.replace('-', '_')}" not in tests]
    assert missing == []
    assert len({row.name for row in DIFFERENCES}) == len(DIFFERENCES)
