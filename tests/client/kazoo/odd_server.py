"""A server of one's own in a thread: it gives sessions, and answers requests as a test says."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

from terzetto.client.wire import codec, records as r
from terzetto.client.wire.operations import PING_XID, Opcode

Answer = Callable[[int], int | None]


class OddServer:
    """Speaks just enough of the protocol; for the block.

    Args:
        answer: opcode to the error code of the reply, `None` for no reply at all.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def hosts(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> OddServer:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for sock in self._open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already, or never was connected
            sock.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as incoming:
                self._converse(connection, incoming.read)
        except OSError:
            return  # the client went, or the test has ended

    def _converse(self, connection: socket.socket, read: Callable[[int], bytes]) -> None:
        def next_frame() -> bytes:
            prefix = read(4)
            return read(struct.unpack(">i", prefix)[0]) if len(prefix) == 4 else b""

        def send(body: bytes) -> None:
            connection.sendall(struct.pack(">i", len(body)) + body)

        first = next_frame()
        if not first:
            return
        asked, _ = codec(r.ConnectRequest).decode(first, 0, len(first))
        session = r.ConnectResponse(0, asked.timeout, asked.session_id or 0x1234, b"p" * 16, False)
        send(codec(r.ConnectResponse).encode(session))
        while frame := next_frame():
            xid, opcode = struct.unpack_from(">ii", frame)
            error = 0 if xid == PING_XID or opcode == Opcode.CLOSE_SESSION else self._answer(opcode)
            if error is not None:
                send(codec(r.ReplyHeader).encode(r.ReplyHeader(xid, 1, error)))
