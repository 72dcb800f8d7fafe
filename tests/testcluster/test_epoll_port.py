"""The epoll port on real sockets: chunks answered in one piece, slow and hostile clients, ends of connections."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster import BlockingEnsemble, start_ensemble
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.epoll_port import CHUNK, EpollPort
from terzetto.testcluster.links import UNSENT_PAUSE
from terzetto.testcluster.server import ZooKeeperServer
from terzetto.testcluster.storage import MemoryStorage

from .port import connect_frame

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")

TIMEOUT = 10.0


@pytest.fixture(scope="module")
def ensemble() -> Iterator[BlockingEnsemble]:
    with start_ensemble(settings={"jute.maxbuffer": 200_000}) as running:
        yield running


class Wire:
    """A blocking client."""

    def __init__(self, ensemble: BlockingEnsemble) -> None:
        host, _, port = ensemble.hosts.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), TIMEOUT)
        self._rest = b""
        self._xid = 0

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def handshake(self) -> Wire:
        self.socket.sendall(connect_frame())
        assert struct.unpack_from(">q", self.frame(), 8)[0] != 0
        return self

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError
            self._rest += data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def frame(self) -> bytes:
        return self.read(struct.unpack(">i", self.read(4))[0])

    def ask(self, operation: o.Operation, *fields: object) -> tuple[int, bytes]:
        """Error code and body of a reply."""
        self._xid += 1
        self.socket.sendall(operation.frame(self._xid, *fields))
        frame = self.frame()
        xid, _, err = struct.unpack_from(">iqi", frame)
        assert xid == self._xid
        return err, frame[16:]

    def ended(self) -> bool:
        try:
            return not self.socket.recv(1)
        except ConnectionResetError:
            return True


@contextmanager
def connected(ensemble: BlockingEnsemble) -> Iterator[Wire]:
    with Wire(ensemble) as wire:
        yield wire.handshake()


@pytest.fixture
def wire(ensemble: BlockingEnsemble) -> Iterator[Wire]:
    with connected(ensemble) as found:
        yield found


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    frames = [o.EXISTS.frame(xid, "/", False) for xid in range(1, 2001)]
    wire.socket.sendall(b"".join(frames))
    assert [struct.unpack_from(">i", wire.frame())[0] for _ in frames] == list(range(1, 2001))


def test_bytes_one_by_one(wire: Wire) -> None:
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in o.EXISTS.frame(7, "/zookeeper", False):
        wire.socket.sendall(bytes([byte]))
    assert struct.unpack_from(">iqi", wire.frame())[::2] == (7, 0)


def test_a_request_larger_than_a_chunk(wire: Wire) -> None:
    data = bytes(range(256)) * 700
    assert len(data) > CHUNK
    assert wire.ask(o.CREATE, "/large", data, OPEN_ACL_UNSAFE, 1)[0] == 0
    err, body = wire.ask(o.GET_DATA, "/large", False)
    assert (err, body[4 : 4 + len(data)]) == (0, data)


def test_a_frame_over_the_limit_ends_the_connection(ensemble: BlockingEnsemble) -> None:
    with connected(ensemble) as fits:
        assert fits.ask(o.CREATE, "/fits", bytes(199_000), OPEN_ACL_UNSAFE, 1)[0] == 0
    with connected(ensemble) as huge:
        huge.socket.sendall(struct.pack(">i", 200_001))
        assert huge.ended()


@pytest.mark.parametrize("data", [b"\x00\x00\x00\x04abcd", b"\xff\xff\xff\xff", b"GET / HTTP/1.0\r\n\r\n"])
def test_noise_ends_its_own_connection_only(ensemble: BlockingEnsemble, wire: Wire, data: bytes) -> None:
    with Wire(ensemble) as stranger:
        stranger.socket.sendall(data)
        assert stranger.ended()
    assert wire.ask(o.EXISTS, "/", False)[0] == 0


def test_a_client_that_does_not_read_is_not_read_either(wire: Wire, ensemble: BlockingEnsemble) -> None:
    size, count = 100_000, 400
    assert wire.ask(o.CREATE, "/slow", bytes(size), OPEN_ACL_UNSAFE, 1)[0] == 0
    assert size * count > 10 * UNSENT_PAUSE
    wire.socket.sendall(b"".join(o.GET_DATA.frame(xid, "/slow", False) for xid in range(count)))
    # Meanwhile nobody else has to wait.
    with connected(ensemble) as other:
        assert other.ask(o.EXISTS, "/slow", False)[0] == 0
    for xid in range(count):
        frame = wire.frame()
        assert struct.unpack_from(">iqi", frame)[::2] == (xid, 0)
        assert len(frame) == 16 + 4 + size + 68


def test_close_session_is_answered_before_the_end(wire: Wire) -> None:
    wire.socket.sendall(o.CLOSE_SESSION.frame(5) + o.EXISTS.frame(6, "/", False))
    assert struct.unpack_from(">iqi", wire.frame())[::2] == (5, 0)
    assert wire.ended()


def test_a_word_with_the_end_of_file_behind_it(ensemble: BlockingEnsemble) -> None:
    text = b""
    with Wire(ensemble) as asking:
        asking.socket.sendall(b"mntr")
        asking.socket.shutdown(socket.SHUT_WR)
        while data := asking.socket.recv(4096):
            text += data
    assert text.startswith(b"zk_version\t")
    assert text.endswith(b"\n")


def test_many_clients_come_and_go(ensemble: BlockingEnsemble) -> None:
    wires = [Wire(ensemble) for _ in range(200)]
    for each in wires:
        each.socket.sendall(connect_frame())
    for each in wires:
        assert len(each.frame()) == 37
    for each in wires[::2]:
        each.socket.close()
    for each in wires[1::2]:
        assert each.ask(o.EXISTS, "/", False)[0] == 0
        each.socket.close()


class _Exhausted(socket.socket):
    """A listening socket of a process without file descriptors to spare."""

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        raise OSError(errno.EMFILE, "too many open files")


async def test_a_want_of_descriptors_pauses_the_accepting(autojump_clock: trio.testing.MockClock) -> None:
    server = ZooKeeperServer(ServerConfig(client_port=0), storage=MemoryStorage())
    turns: list[float] = []
    port = EpollPort(server, lambda ip: True, lambda: turns.append(trio.current_time()))
    listener = _Exhausted()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port.adopt(listener)
    with socket.create_connection(listener.getsockname()):
        with trio.move_on_after(1.05):
            await port.serve(server.gate)
    port.close()
    # Ten tries in a second, not as many as the processor can make.
    assert 9 <= len(turns) <= 12
