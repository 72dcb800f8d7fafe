"""TLS on a connection of the seam, without a stream in between: it sends at once where the connection below does.

Decides when records go out and what an end of them means. Refuses to know certificates and their rules, which are the
context's, and what is in the bytes. The records are made by `ssl` in memory.
"""

from __future__ import annotations

import ssl
from typing import Any, cast

import trio

from ._transport import RECEIVE_SIZE, Connection, cut_handshake

_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class TlsConnection:
    """A connection with TLS over another connection. The handshake comes with the first byte, or by `do_handshake`.

    Args:
        inner: carries the records.
        context: of the side that this is.
        server_hostname: whom the certificate must name, where the context checks that.
        server_side: this end answers the handshake.

    Attributes:
        peer: who is at the other end.
        sends_at_once: as the inner connection.
    """

    def __init__(
        self,
        inner: Connection,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
    ) -> None:
        self.peer = inner.peer
        self.sends_at_once = inner.sends_at_once
        self._inner = inner
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._is_shaken = False
        self._is_over = False
        self._failure: ssl.SSLError | None = None
        # A record is on its way; for good where that was broken off, since nothing can follow it.
        self._is_broken = False
        self._shaking = trio.Lock()
        # Records must go out in the order in which they were made.
        self._lock = trio.Lock()
        # Records of `send_nowait` that are still to go out, and of how many bytes the caller has not been told.
        self._unsent = b""
        self._owed = 0

    async def do_handshake(self) -> None:
        """Shakes hands, where that has not been done.

        Raises:
            trio.BrokenResourceError: it failed; the cause says why.
        """
        async with self._shaking:
            if self._is_shaken:
                return
            try:
                while not self._step():
                    await self._put(b"")
                    data = await self._inner.receive()
                    if data:
                        self._incoming.write(data)
                    else:
                        self._incoming.write_eof()
            except ssl.SSLEOFError:
                raise trio.BrokenResourceError(f"no TLS with {self.peer}") from cut_handshake(self.peer)
            except ssl.SSLError as error:
                await self._tell()
                raise trio.BrokenResourceError(f"no TLS with {self.peer}") from error
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            await self._put(b"")
            self._is_shaken = True

    def certificate(self) -> dict[str, Any] | None:
        """What the other end has shown, as `ssl.SSLSocket.getpeercert` gives it; `None` for nothing, or not yet.

        Raises:
            ValueError: its names are no text.
        """
        return cast("dict[str, Any] | None", self._tls.getpeercert()) if self._is_shaken else None

    def _step(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    async def _tell(self) -> None:
        """Hands over what TLS itself has to say, as far as that is possible. Reading finds out why it is not."""
        try:
            await self._put(b"")
        except _BROKEN:
            pass

    # -- receiving

    async def receive(self) -> bytes:
        """See `Connection`. An end without TLS's own word for it is an end; lengths are the protocol's business."""
        if not self._is_shaken:
            await self.do_handshake()
        while True:
            data = b"" if self._is_over else self._read()
            if self._outgoing.pending:
                await self._tell()
            if data or self._is_over:
                return data
            if self._failure is not None:
                raise trio.BrokenResourceError(f"TLS with {self.peer} failed") from self._failure
            received = await self._inner.receive()
            if received:
                self._incoming.write(received)
            else:
                self._incoming.write_eof()

    def _read(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            while size < RECEIVE_SIZE and self._failure is None:
                part = self._tls.read(RECEIVE_SIZE)
                if not part:
                    self._is_over = True
                    break
                parts.append(part)
                size += len(part)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._is_over = True
        except ssl.SSLError as error:
            # OpenSSL says it only once.
            self._failure = error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # -- sending

    def send_nowait(self, data: bytes) -> int:
        """See `Connection`. What has become records is sent in any case; its last byte counts as sent with the rest."""
        if not data or not self._is_shaken or self._unsent or self._owed or self._lock.locked() or self._is_broken:
            return 0
        records = self._encrypted(data)
        sent = self._inner.send_nowait(records)
        if sent == len(records):
            return len(data)
        # Whoever has sent a part must send the rest next, and nobody may take that back.
        self._unsent, self._owed = records[sent:], 1
        return len(data) - 1

    async def send(self, data: bytes) -> None:
        """See `Connection`."""
        if not self._is_shaken:
            await self.do_handshake()
        owed = min(self._owed, len(data))
        self._owed -= owed
        await self._put(data[owed:])

    def _encrypted(self, data: bytes) -> bytes:
        if data:
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(f"TLS with {self.peer} failed") from error
        return self._outgoing.read()

    async def _put(self, data: bytes) -> None:
        async with self._lock:
            if self._is_broken:
                raise trio.BrokenResourceError(f"a record for {self.peer} was broken off")
            records = self._unsent + self._encrypted(data)
            self._unsent = b""
            if records:
                self._is_broken = True
                await self._inner.send(records)
                self._is_broken = False

    # -- the end

    async def aclose(self) -> None:
        """See `Connection`. Without a word: the protocol inside has said what there was to say."""
        self._is_over = True
        await self._inner.aclose()
