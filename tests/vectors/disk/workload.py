"""Writes of every kind to a real server, by kazoo and, for what kazoo lacks, by a raw socket; and the tree they make.

Decides what a data directory must hold to be worth reading back. Refuses to know the server's files.
"""

from __future__ import annotations

import base64
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.security import make_acl

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import Opcode, codec
from terzetto.client.wire.records import ConnectRequest, CreateRequest, CreateTTLRequest

_SESSION_TIMEOUT = 40.0
_CONTAINER, _TTL = 4, 5


class RawSession:
    """A session on a plain socket, for creates that kazoo has no call for. A context manager; leaves its session open.

    Args:
        port: of a server on this machine.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10.0)
        self._exchange(codec(ConnectRequest).encode(ConnectRequest(0, 0, 40_000, 0, bytes(16), False)))

    def __enter__(self) -> RawSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _exchange(self, body: bytes) -> bytes:
        self._socket.sendall(struct.pack(">i", len(body)) + body)
        (length,) = struct.unpack(">i", self._receive(4))
        return self._receive(length)

    def _receive(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = self._socket.recv(count - len(found))
            if not piece:
                raise ConnectionError("the server closed the connection")
            found += piece
        return found

    def _write(self, opcode: int, body: bytes) -> None:
        _, _, code = struct.unpack_from(">iqi", self._exchange(struct.pack(">ii", 1, opcode) + body))
        if code:
            raise AssertionError(f"the server answered operation {opcode} with {code}")

    def create(self, path: str, data: bytes | None) -> None:
        """A plain create, also of null data."""
        self._write(Opcode.CREATE, codec(CreateRequest).encode(CreateRequest(path, data, OPEN_ACL_UNSAFE, 0)))

    def create_container(self, path: str, data: bytes) -> None:
        """createContainer."""
        record = CreateRequest(path, data, OPEN_ACL_UNSAFE, _CONTAINER)
        self._write(Opcode.CREATE_CONTAINER, codec(CreateRequest).encode(record))

    def create_ttl(self, path: str, data: bytes, ttl: int) -> None:
        """createTTL, `ttl` in milliseconds."""
        record = CreateTTLRequest(path, data, OPEN_ACL_UNSAFE, _TTL, ttl)
        self._write(Opcode.CREATE_TTL, codec(CreateTTLRequest).encode(record))


@contextmanager
def superuser(hosts: str) -> Iterator[Any]:
    """A kazoo client that sees every ACL as it is and may read what is guarded (super:test)."""
    zk = KazooClient(hosts, timeout=_SESSION_TIMEOUT)
    zk.start()
    try:
        zk.add_auth("digest", "super:test")
        yield zk
    finally:
        zk.stop()
        zk.close()


def write_kinds(zk: Any, raw: RawSession) -> None:
    """Every kind of znode, and every operation outside of a multi."""
    zk.create("/plain", b"data")
    zk.create("/empty", b"")
    raw.create("/null", None)
    zk.create("/gr\u00fc\u00dfe", "sch\u00f6n".encode())
    zk.create("/plain/child", b"x" * 300)
    zk.create("/plain/sequence-", b"", sequence=True)
    zk.create("/plain/sequence-", b"", sequence=True)
    zk.create("/ephemeral", b"e", ephemeral=True)
    raw.create_container("/container", b"c")
    raw.create_ttl("/ttl", b"t", 86_400_000)
    zk.create("/guarded", b"g", acl=[make_acl("digest", "bob:I/hTOpyLQrU1YnlBsFJ8ASi9OcM=", all=True)])
    zk.set("/plain", b"changed")
    zk.set("/plain", b"changed again")
    zk.set_acls("/plain/child", [make_acl("world", "anyone", read=True), make_acl("ip", "127.0.0.1", all=True)])
    zk.create("/gone", b"")
    zk.delete("/gone")


def write_refused(zk: Any) -> None:
    """Writes that the server refuses and logs as errors."""
    calls: list[Callable[[], object]] = [
        lambda: zk.create("/plain", b""),
        lambda: zk.delete("/plain"),
        lambda: zk.set("/plain", b"", version=9),
    ]
    for call in calls:
        try:
            call()
        except KazooException:
            continue
        raise AssertionError("the server did not refuse")


def write_multis(zk: Any) -> None:
    """A multi that succeeds and one that fails."""
    good = zk.transaction()
    good.create("/multi", b"1")
    good.create("/multi/child", b"2")
    good.set_data("/multi", b"3")
    good.check("/plain", 2)
    good.delete("/multi/child")
    good.commit()
    bad = zk.transaction()
    bad.create("/never", b"")
    bad.set_data("/plain", b"never")
    bad.check("/plain", 77)
    bad.delete("/plain")
    bad.commit()


def read_tree(zk: Any, path: str = "/") -> dict[str, Any]:
    """Everything at and below a path, in the form of expected.json."""
    data, stat = zk.get(path)
    acls, _ = zk.get_acls(path)
    found: dict[str, Any] = {
        path: {
            "data": None if data is None else base64.b64encode(data).decode(),
            "stat": list(stat),
            "acl": [[acl.perms, acl.id.scheme, acl.id.id] for acl in acls],
        }
    }
    for child in sorted(zk.get_children(path)):
        found |= read_tree(zk, f"{path.rstrip('/')}/{child}")
    return found
