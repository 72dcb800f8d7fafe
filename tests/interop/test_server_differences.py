"""Each intended difference, shown on both servers: what ZooKeeper 3.8.0 does, and what this server does instead."""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from terzetto.client._sasl import DigestMd5Conversation
from terzetto.client.values import ACL, OPEN_ACL_UNSAFE, Id
from terzetto.client.wire import Opcode, codec, operations as o, records as r
from terzetto.client.wire.multi import MULTI, MultiOp
from terzetto.testcluster import start_ensemble
from terzetto.testcluster.ids import session_password

from ..testcluster.cli.test_running import running
from .conftest import OwnZooKeeper
from .differences import DIFFERENCES
from .processes import PortReservation
from .rawclient import Closed, Frame, RawClient, request
from .zookeeper import TICK_TIME, RealZooKeeper, StartFailed

EVENT, SILENCE, CLOSED = -1, "silence", "closed"
CHANGED, CHILDREN = 3, 4
FRAME_MAX = 0xFFFFF
DEADLINE = 30.0
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


def ends_for_good(server: RealZooKeeper, scenario: Scenario) -> bool:
    """Whether a server ends of this, and at once again when it is started on what it has written."""
    try:
        scenario(server.port)
    except Closed:
        pass
    end = time.monotonic() + DEADLINE
    while server.running and time.monotonic() < end:
        # Its main thread waits for the others before it leaves.
        server.mode()
    ended = not server.running
    server.kill()
    server.start()
    with pytest.raises(StartFailed, match="ended"):
        server.wait_serving()
    return ended


def serves(port: int) -> bool:
    with Session(port) as other:
        return other.ask(o.EXISTS, "/", False).err == 0


def test_negative_ttl(own_zookeeper: OwnZooKeeper, here: int) -> None:
    body = codec(r.CreateTTLRequest).encode(r.CreateTTLRequest("/doom", b"", OPEN_ACL_UNSAFE, 0, -1))

    def scenario(port: int) -> object:
        with Session(port) as session:
            return session.ask_raw(Opcode.CREATE_TTL, body)

    assert ends_for_good(own_zookeeper(zoo_cfg={"extendedTypesEnabled": "true"}), scenario)
    assert scenario(here) == [-8]
    assert serves(here)


def test_quota_limits_of_nothing(own_zookeeper: OwnZooKeeper, here: int) -> None:
    def scenario(port: int) -> int:
        with Session(port) as session:
            return session.create("/zookeeper/quota/zookeeper_limits").err

    assert ends_for_good(own_zookeeper(), scenario)
    assert scenario(here) == -8
    assert serves(here)


def test_quota_statistics_of_no_numbers(own_zookeeper: OwnZooKeeper, here: int) -> None:
    def scenario(port: int) -> list[int]:
        with Session(port) as session:
            below = "/zookeeper/quota/counted"
            codes = [session.create(path).err for path in ("/counted", below, f"{below}/zookeeper_stats")]
            codes.append(session.ask(o.CREATE, f"{below}/zookeeper_limits", b"count=9,bytes=9", OPEN_ACL_UNSAFE, 0).err)
            codes.append(session.ask(o.SET_DATA, f"{below}/zookeeper_stats", b"count=many", -1).err)
            codes.append(session.ask(o.SET_DATA, f"{below}/zookeeper_stats", None, -1).err)
            codes.append(session.create("/counted/child").err)
            return codes

    assert ends_for_good(own_zookeeper(), scenario)
    assert scenario(here) == [0, 0, 0, 0, -8, -8, 0]
    assert serves(here)


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


@pytest.mark.slow
def test_session_passwords_of_a_server_from_a_file(tmp_path: Path) -> None:
    """`terzetto server` makes Java's passwords; with sessionSecretFile those of its secret, also after a restart."""
    secret, configuration = tmp_path / "secret", tmp_path / "zoo.cfg"
    secret.write_bytes(b"sixteen or more bytes")
    with closing(PortReservation()) as port:
        lines = [f"dataDir={tmp_path / 'data'}", f"clientPort={port.port}", "clientPortAddress=127.0.0.1"]
        lines += ["tickTime=300", "admin.enableServer=false"]
        configuration.write_text("\n".join(lines))
        with running(["server", str(configuration)]), Session(port.port) as session:
            assert session.password == session_password(session.session_id)
        configuration.write_text("\n".join([*lines, f"sessionSecretFile={secret}"]))
        with running(["server", str(configuration)]), Session(port.port) as session:
            assert session.password == session_password(session.session_id, secret.read_bytes())
        with running(["server", str(configuration)]), RawClient(port.port) as thief, RawClient(port.port) as again:
            computed = session_password(session.session_id)
            assert thief.connect(session_id=session.session_id, password=computed).session_id == 0
            greeting = again.connect(session_id=session.session_id, password=session.password)
            assert greeting.session_id == session.session_id


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


def multi_of_size(xid: int, path: str, size: int) -> bytes:
    """A multi of so many bytes at most, one setData after another: to do it is tens of times the work of reading it."""
    sub = MultiOp(Opcode.SET_DATA, r.SetDataRequest(path, b"", -1))
    one = len(MULTI.frame(xid, [sub, sub])) - len(MULTI.frame(xid, [sub]))
    return MULTI.frame(xid, [sub] * ((size - 1024) // one))


def test_in_order(there: int, here: int) -> None:
    before = [1001, 1002, 1003]

    def scenario(port: int, size: int, last: bytes, xid: int) -> list[int]:
        with Session(port) as session:
            session.create("/order", 1)
            session.raw.send(multi_of_size(1001, "/order", size) + multi_of_size(1002, "/order", size))
            session.raw.send(o.SET_DATA.frame(1003, "/order", b"", -1) + last)
            wanted, xids = {*before, xid}, list[int]()
            try:
                while wanted - set(xids):
                    xids.append(session.raw.next_reply().xid)
            except Closed:
                pass
            return xids

    auth, unknown = o.AUTH.frame(-4, 0, "digest", b"a:b"), request(2000, 77)
    # The largest frames that there are: the thread that does them needs hundreds of milliseconds for each, and what
    # overtakes is answered by the thread that reads.
    authenticated = scenario(there, FRAME_MAX, auth, -4)
    assert authenticated.index(-4) < authenticated.index(1002)
    assert [xid for xid in authenticated if xid != -4] == before
    lost = scenario(there, FRAME_MAX, unknown, 2000)
    assert lost[-1] == 2000
    assert lost[:-1] in ([], before[:1])
    assert scenario(here, FRAME_MAX // 10, auth, -4) == [*before, -4]
    assert scenario(here, FRAME_MAX // 10, unknown, 2000) == [*before, 2000]


def test_not_utf8(there: int, here: int) -> None:
    text = struct.pack(">i", 3) + b"/\xff\xfe"
    requests = {
        Opcode.EXISTS: text + b"\1",
        Opcode.GET_DATA: text + b"\0",
        Opcode.GET_CHILDREN: text + b"\0",
        Opcode.GET_ACL: text,
        Opcode.SYNC: text,
        Opcode.GET_EPHEMERALS: text,
        Opcode.ADD_WATCH: text + struct.pack(">i", 1),
        Opcode.DELETE: text + struct.pack(">i", -1),
        Opcode.SET_DATA: text + struct.pack(">ii", 0, -1),
    }

    def scenario(port: int) -> tuple[list[object], bool]:
        with Session(port) as session, RawClient(port) as asking:
            codes = [session.ask_raw(opcode, body) for opcode, body in requests.items()]
            return codes, "\ufffd" in asking.four_letter(b"wchp")

    assert scenario(there) == ([[-101], [-101], [-101], [-101], [0], [0], [0], [-101], [-8]], True)
    assert scenario(here) == ([[-5]] * len(requests), False)


def test_multi_null_path(there: int, here: int) -> None:
    ends = struct.pack(">ibi", -1, True, -1)
    multi = struct.pack(">ibi", Opcode.DELETE, False, -1) + struct.pack(">ii", -1, -1) + ends
    multi_read = struct.pack(">ibi", Opcode.GET_DATA, False, -1) + struct.pack(">ib", -1, 0) + ends

    def scenario(port: int) -> list[tuple[int, int, bytes]]:
        with Session(port) as session:
            before = session.create("/null", 1).zxid
            session.raw.send(request(101, Opcode.MULTI, multi) + request(102, Opcode.MULTI_READ, multi_read))
            session.raw.send(o.DELETE.frame(103, "/null", -1))
            frames = session.raw.read_until(103)
            return [(frame.err, frame.zxid - before, frame.body) for frame in frames]

    assert scenario(there) == [(-5, 0, ends), (-5, 0, ends), (0, 2, b"")]
    assert scenario(here) == [(-5, 1, b""), (-5, 1, b""), (0, 2, b"")]


def test_quota_statistics_stat(there: int, here: int) -> None:
    def scenario(port: int) -> tuple[int, int]:
        with Session(port) as session:
            paths = ["/counts", "/zookeeper/quota/counts", "/zookeeper/quota/counts/zookeeper_stats"]
            for path in paths[:2]:
                session.create(path)
            made = session.ask(o.CREATE2, paths[2], b"", OPEN_ACL_UNSAFE, 0)
            read = session.ask(o.EXISTS, paths[2], False)
            for path in reversed(paths):
                session.ask(o.DELETE, path, -1)
        created, _ = codec(r.Create2Response).decode(made.body, 0, len(made.body))
        found, _ = codec(r.ExistsResponse).decode(read.body, 0, len(read.body))
        return created.stat.dataLength, found.stat.dataLength

    size = len("count=1,bytes=0")
    assert scenario(there) == (0, size)
    assert scenario(here) == (size, size)


def test_ipv6_acl(there: int, here: int) -> None:
    def scenario(port: int) -> list[int]:
        with Session(port) as session:
            ids = ("::1", "2001:db8::/32", "fe80::1%lo", "127.0.0.1/32")
            return [session.create(f"/ipv6-{number}", 1, [ACL(31, Id("ip", id))]).err for number, id in enumerate(ids)]

    assert scenario(there) == [-114, -114, -114, 0]
    assert scenario(here) == [0, 0, -114, 0]


def test_unknown_sasl_user(own_zookeeper: OwnZooKeeper, tmp_path: Path) -> None:
    login = tmp_path / "jaas.conf"
    module = "org.apache.zookeeper.server.auth.DigestLoginModule"
    login.write_text(f'Server {{ {module} required user_bob="bobsecret"; }};\n')

    def answer(port: int, user: str) -> int:
        with Session(port) as session:
            challenge = session.ask(o.SASL, b"").body[4:]
            return session.ask(o.SASL, DigestMd5Conversation(user, "bobsecret").respond(challenge)).err

    there = own_zookeeper(jvm_properties={"java.security.auth.login.config": login}).port
    assert [answer(there, user) for user in ("bob", "admin")] == [0, 0]
    with start_ensemble(tick_time=TICK_TIME, settings={"java.security.auth.login.config": login}) as ensemble:
        here = int(ensemble.hosts.rpartition(":")[2])
        assert [answer(here, user) for user in ("bob", "admin")] == [0, -115]


def test_every_difference_is_shown() -> None:
    tests = {name for name in vars(sys.modules[__name__]) if name.startswith("test_")}
    missing = [row.name for row in DIFFERENCES if f"test_{row.name.replace('-', '_')}" not in tests]
    assert missing == []
    assert len({row.name for row in DIFFERENCES}) == len(DIFFERENCES)
