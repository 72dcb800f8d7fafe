"""The seam to the network: dial, listen, and a connection that is narrow enough to be a raw socket.

The only place of the client that opens sockets. A connection can try to send at once, send with waiting, and receive;
everything above runs as well on `StreamConnection` over an in-memory stream, on virtual time.
"""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import replace
from typing import Any, Protocol

import trio

from ._hosts import Endpoint

RECEIVE_SIZE = 128 * 1024


class Connection(Protocol):
    """A byte stream to one peer. One task receives, one at a time sends."""

    peer: str
    """Who is at the other end, for messages."""

    sends_at_once: bool
    """Whether `send_nowait` is worth calling."""

    def send_nowait(self, data: bytes) -> int:
        """Hands over what the link takes at once; returns how many bytes that was, 0 when it must be waited for.

        Raises:
            OSError: the link is broken.
        """
        ...

    async def send(self, data: bytes) -> None:
        """Hands over everything. Raises `OSError` or `trio.BrokenResourceError` when the link is broken."""
        ...

    async def receive(self) -> bytes:
        """At least one byte, or b"" at the end of the stream. Raises as `send`."""
        ...

    async def aclose(self) -> None:
        """Closes without waiting for the peer. May be called twice, and while another task waits in `receive`."""
        ...


class Listener(Protocol):
    """A place where connections arrive."""

    endpoint: Endpoint
    """Where it listens; the port is the real one."""

    async def accept(self) -> Connection:
        """The next connection."""
        ...

    def close(self) -> None:
        """Listens no more."""
        ...


class Transport(Protocol):
    """How to reach servers, and be reached."""

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        """All addresses of a server, at least one. Raises `OSError`."""
        ...

    async def dial(self, endpoint: Endpoint) -> Connection:
        """Connects to one address. Raises `OSError`, or `trio.BrokenResourceError` for a failed TLS handshake."""
        ...

    async def listen(self, endpoint: Endpoint) -> Listener:
        """Listens at an address; port 0 picks a free one. Raises `OSError`."""
        ...


class SocketConnection:
    """A connection on a raw non-blocking socket: one system call to send, one to receive, no stream in between."""

    __slots__ = ("_recv", "_send", "peer", "socket")
    sends_at_once = True

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self._send = sock.send
        self._recv = sock.recv
        self.peer = peer

    def send_nowait(self, data: bytes) -> int:
        """See `Connection`."""
        try:
            return self._send(data)
        except BlockingIOError:
            return 0

    async def send(self, data: bytes) -> None:
        """See `Connection`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while data:
            sent = self.send_nowait(data)
            data = data[sent:]
            if data:
                await trio.lowlevel.wait_writable(self.socket)

    async def receive(self) -> bytes:
        """See `Connection`."""
        # Waiting first is right nearly always; trying first would fail nearly always, at the price of a system call.
        while True:
            await trio.lowlevel.wait_readable(self.socket)
            try:
                return self._recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue

    async def aclose(self) -> None:
        """See `Connection`."""
        if self.socket.fileno() != -1:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
        await trio.lowlevel.checkpoint()


class StreamConnection:
    """A connection on any `trio.abc.Stream`: TLS, and memory streams in tests."""

    __slots__ = ("_stream", "peer")
    sends_at_once = False

    def __init__(self, stream: trio.abc.Stream, peer: str) -> None:
        self._stream = stream
        self.peer = peer

    def send_nowait(self, data: bytes) -> int:
        """Always 0: a stream can only be waited for."""
        return 0

    async def send(self, data: bytes) -> None:
        """See `Connection`."""
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        """See `Connection`."""
        return bytes(await self._stream.receive_some(RECEIVE_SIZE))

    async def aclose(self) -> None:
        """See `Connection`."""
        await trio.aclose_forcefully(self._stream)


class ConnectionStream(trio.abc.Stream):
    """The way back: a connection as any other code's kind of stream, for TLS and for trio-websocket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # A closed connection is not to be asked again; TLS and trio-websocket do so.
        self._is_closed = False

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("the connection was closed by this end")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        self._check_open()
        try:
            await self._connection.send(bytes(data))
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`. The seam cannot tell."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`. What comes at once is given at once, however long."""
        self._check_open()
        try:
            return await self._connection.receive()
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        self._is_closed = True
        await self._connection.aclose()


class TcpTransport:
    """TCP, and TLS over TCP where a context is given.

    Args:
        tls: context for outgoing connections; the certificate must carry the name of the connect string if the context
            checks host names.
        server_tls: context for incoming connections.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, server_tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.server_tls = server_tls

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        """See `Transport`."""
        try:
            found = await trio.socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError(f"{endpoint.host!r} is no host name: {error}") from error
        addresses = dict.fromkeys(str(address[0]) for _, _, _, _, address in found)
        return [replace(endpoint, host=address) for address in addresses]

    async def dial(self, endpoint: Endpoint) -> Connection:
        """See `Transport`."""
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            await sock.connect((endpoint.host, endpoint.port))
        except BaseException:
            sock.close()
            raise
        if self.tls is None:
            return SocketConnection(_detached(sock), str(endpoint))
        stream = trio.SSLStream(
            trio.SocketStream(sock), self.tls, server_hostname=endpoint.server_name, https_compatible=True
        )
        try:
            await stream.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error.__cause__, ssl.SSLEOFError):
                raise cut_handshake(str(endpoint)) from error
            raise
        return StreamConnection(stream, str(endpoint))

    async def listen(self, endpoint: Endpoint) -> Listener:
        """See `Transport`."""
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        sock = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await sock.bind((endpoint.host, endpoint.port))
            sock.listen(1024)
        except BaseException:
            sock.close()
            raise
        return _TcpListener(sock, self.server_tls)


def cut_handshake(peer: str) -> ConnectionResetError:
    """What it means that a peer ends a TLS handshake without an alert; OpenSSL calls it a violation of protocol."""
    return ConnectionResetError(
        f"{peer} closed the connection during the TLS handshake: it may speak no TLS there, or take no such certificate"
    )


def _detached(sock: trio.socket.SocketType) -> socket.socket:
    """The standard library's socket behind trio's; trio's own object must not be used any more."""
    plain = socket.socket(fileno=sock.detach())
    plain.setblocking(False)
    return plain


# A peer that goes away between its arrival and our accept, or a shortage that passes, is no reason to stop listening.
_ACCEPT_AGAIN = {errno.ECONNABORTED, errno.EPERM, errno.EPROTO}
_ACCEPT_LATER = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_ACCEPT_PAUSE = 0.1


class _TcpListener:
    def __init__(self, sock: trio.socket.SocketType, tls: ssl.SSLContext | None) -> None:
        self._socket = sock
        self._tls = tls
        host, port = sock.getsockname()[:2]
        self.endpoint = Endpoint(host, port, host)

    async def accept(self) -> Connection:
        sock, address = await self._accepted()
        peer = str(Endpoint(address[0], address[1], ""))
        if self._tls is None:
            return SocketConnection(_detached(sock), peer)
        stream = trio.SSLStream(trio.SocketStream(sock), self._tls, server_side=True, https_compatible=True)
        return StreamConnection(stream, peer)

    async def _accepted(self) -> tuple[trio.socket.SocketType, Any]:
        while True:
            try:
                return await self._socket.accept()
            except OSError as error:
                if error.errno in _ACCEPT_LATER:
                    await trio.sleep(_ACCEPT_PAUSE)
                elif error.errno not in _ACCEPT_AGAIN:
                    raise

    def close(self) -> None:
        self._socket.close()
