"""The server's end of one WebSocket, as a connection of the transport's kind that carries ZooKeeper's frames.

Decides how wsproto's frames and the frames of ZooKeeper meet, when control frames go out, how long a slow reader is
waited for and how a connection ends. Refuses to know HTTP, and what is in a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import trio
from wsproto.connection import Connection as Frames, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from terzetto.client._transport import Connection

from .websocket_frames import BadMessage, MessageCheck, MessageCutter, binary_frame, frame_size, whole_messages

STALL_TIMEOUT = 60.0
"""Seconds for a client to take what one send hands over; then it is given up."""

CLOSE_TIMEOUT = 2.0
"""Seconds for a client to answer the closing handshake."""

CLOSE_GRACE = 0.5
"""Seconds to hand over a closing frame where nobody waits for the answer."""

CONTROL_MAX = 16 * 1024
"""Bytes of pongs that may wait for a client to read them."""

_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
_UNSUPPORTED = 1003


class DoorConnection:
    """A WebSocket after its handshake. Bytes come and go as on a plain connection.

    Args:
        inner: carries the bytes.
        frames: wsproto's end, open.
        check: looks at what the client sends.
        peer: who the client is.
        on_close: called once, when it is closed.
        early: bytes behind the handshake that `frames` has been given already.

    Attributes:
        peer: "ip:port" of the client.
        certificate_subject: of its TLS certificate, `None` without one; there only where there is TLS.
        refused: why the client's end came, where it broke a rule: close code and reason.
        check: see above.
    """

    def __init__(
        self,
        inner: Connection,
        frames: Frames,
        check: MessageCheck,
        peer: str,
        on_close: Callable[[], None] = lambda: None,
        early: int = 0,
    ) -> None:
        self.peer = peer
        subject: object = getattr(inner, "certificate_subject", self)
        if subject is not self:
            self.certificate_subject = cast("str | None", subject)
        self.sends_at_once = inner.sends_at_once
        self.refused: tuple[int, str] | None = None
        self.check = check
        self._inner = inner
        self._frames = frames
        self._cutter = MessageCutter()
        self._on_close: Callable[[], None] | None = on_close
        self._lock = trio.Lock()
        self._control = b""
        self._ended = False
        # At first there may be bytes that came with the handshake.
        self._unseen = True
        # What `send_nowait` has encoded and could not hand over, and of how many of its bytes that is.
        self._unsent = b""
        self._owed = 0
        # Somebody left in the middle of a send: whatever followed would be taken for the rest of a frame.
        self._is_torn = False
        # Bytes that wsproto was given, and those of them that were whole frames; equal when it is between two frames.
        self._given = early
        self._framed = 0
        self._in_frame = 0
        self._is_whole = True
        self._is_between = not early
        # Behind a breach of the protocol are no frames any more; wsproto would keep all that follows.
        self._is_garbled = False
        # A message of ours that is not at its end.
        self._is_open = False

    # -- receiving

    async def receive(self) -> bytes:
        """See `Connection`: whole messages or pieces of them. Pings are answered meanwhile."""
        while True:
            payload = self._take_events() if self._unseen and not self._ended else b""
            if self._control:
                await self._put(b"")
            if payload or self._ended:
                return payload
            data = await self._inner.receive()
            if not data:
                self._ended = True
            elif self._is_between and (messages := whole_messages(data)) is not None:
                if payload := self._take_messages(messages):
                    return payload
            elif self._frames.state is not ConnectionState.CLOSED:
                self._is_between = False
                self._given += len(data)
                self._frames.receive_data(data)
                self._unseen = True

    def _take_messages(self, messages: list[bytes]) -> bytes:
        try:
            for data in messages:
                self.check.take(data, True)
        except BadMessage as bad:
            self._refuse(bad.code, bad.reason)
            return b""
        if self.check.word is not None:
            self._cutter.is_raw = True
        return messages[0] if len(messages) == 1 else b"".join(messages)

    def _count(self, event: BytesMessage) -> None:
        """Notes how far wsproto has come, to know when it is between two messages."""
        self._in_frame += len(event.data)
        if event.frame_finished:
            self._framed += frame_size(self._in_frame)
            self._in_frame = 0
            self._is_whole = event.message_finished

    def _take_events(self) -> bytes:
        self._unseen = False
        parts: list[bytes] = []
        try:
            for event in self._frames.events():
                if isinstance(event, BytesMessage):
                    data = bytes(event.data)
                    self._count(event)
                    self.check.take(data, event.message_finished)
                    parts.append(data)
                elif isinstance(event, Ping):
                    self._framed += frame_size(len(event.payload))
                    self._say(self._frames.send(event.response()))
                elif isinstance(event, Pong):
                    self._framed += frame_size(len(event.payload))
                elif isinstance(event, CloseConnection):
                    self._take_close(event)
                    break
                elif isinstance(event, TextMessage):
                    raise BadMessage(_UNSUPPORTED, "messages must be binary")
        except BadMessage as bad:
            self._refuse(bad.code, bad.reason)
            return b""
        if self._is_whole and self._given == self._framed:
            self._is_between = True
        if self.check.word is not None:
            self._cutter.is_raw = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_close(self, event: CloseConnection) -> None:
        if self._frames.state is ConnectionState.REMOTE_CLOSING:
            self._say(self._frames.send(event.response()))
        elif self._frames.state is ConnectionState.OPEN:
            # No frame of the client's, but wsproto's word for a breach of the protocol.
            self._is_garbled = True
            self._refuse(int(event.code), event.reason or "")
        self._ended = True

    def _refuse(self, code: int, reason: str) -> None:
        self.refused = (code, reason)
        self._ended = True
        if self._frames.state is ConnectionState.OPEN:
            self._say(self._frames.send(CloseConnection(code=code, reason=reason)))

    def _say(self, control: bytes) -> None:
        self._control += control
        if len(self._control) > CONTROL_MAX:
            raise trio.BrokenResourceError(f"{self.peer} sends pings and reads no answers")

    # -- sending

    def send_nowait(self, data: bytes) -> int:
        """See `Connection`. Whoever is told 0 must send the same bytes next."""
        if self._lock.locked() or self._unsent or self._owed or self._frames.state is not ConnectionState.OPEN:
            return 0
        encoded = self._encoded(data)
        sent = self._inner.send_nowait(encoded)
        if sent == len(encoded):
            return len(data)
        self._unsent, self._owed = encoded[sent:], len(data)
        return 0

    async def send(self, data: bytes) -> None:
        """See `Connection`. Raises `trio.BrokenResourceError` also for a client that does not read."""
        owed = min(self._owed, len(data))
        if owed:
            self._owed -= owed
            data = data[owed:]
        if self._frames.state is not ConnectionState.OPEN:
            raise trio.BrokenResourceError(f"{self.peer} is closing")
        await self._put(self._encoded(data) if data else b"")

    def _encoded(self, data: bytes) -> bytes:
        encoded: list[bytes] = []
        for piece, last in self._cutter.cut(data):
            encoded.append(binary_frame(piece, first=not self._is_open, last=last))
            self._is_open = not last
        return encoded[0] if len(encoded) == 1 else b"".join(encoded)

    async def _put(self, data: bytes) -> None:
        """Hands bytes over behind all that is on its way, and control frames behind them."""
        lock = self._lock
        if lock.locked():
            await lock.acquire()
        else:
            lock.acquire_nowait()
        try:
            while data or self._control or self._unsent:
                if self._is_torn:
                    raise trio.BrokenResourceError(f"{self.peer} has half a frame")
                data = self._unsent + data + self._control
                self._unsent = self._control = b""
                if self._inner.sends_at_once:
                    data = data[self._inner.send_nowait(data) :]
                if data:
                    self._is_torn = True
                    with trio.move_on_after(STALL_TIMEOUT) as patience:
                        await self._inner.send(data)
                    if patience.cancelled_caught:
                        raise trio.BrokenResourceError(f"{self.peer} does not read")
                    self._is_torn = False
                data = b""
        finally:
            lock.release()

    # -- the end

    async def close(self, code: int, reason: str) -> None:
        """Ends the connection with a closing handshake, within `CLOSE_TIMEOUT`. Nobody else may receive meanwhile."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
            try:
                if self._frames.state is ConnectionState.OPEN:
                    await self._put(self._frames.send(CloseConnection(code=code, reason=reason)))
                await self._wait_answered()
            except _BROKEN:
                pass
        self.refused = None
        await self.aclose()

    async def _wait_answered(self) -> None:
        """Reads on until the closing frame is answered: closed over unread bytes, it would be lost to a reset."""
        while self._frames.state is ConnectionState.LOCAL_CLOSING:
            data = await self._inner.receive()
            if not data:
                break
            if not self._is_garbled:
                self._frames.receive_data(data)
                # The answer, or a breach.
                self._is_garbled = any(isinstance(event, CloseConnection) for event in self._frames.events())

    async def aclose(self) -> None:
        """See `Connection`. The client is told as far as that is possible without waiting for it.

        One that was refused is waited for, within `CLOSE_TIMEOUT`.
        """
        on_close, self._on_close = self._on_close, None
        if on_close is None:
            return
        self._ended = True
        try:
            if self._frames.state is ConnectionState.OPEN and not (self._lock.locked() or self._is_torn):
                farewell = self._frames.send(CloseConnection(code=1000))
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_GRACE):
                    await self._inner.send(self._unsent + self._control + farewell)
            elif self.refused is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
                    await self._wait_answered()
        except _BROKEN:
            pass
        finally:
            on_close()
            await self._inner.aclose()
