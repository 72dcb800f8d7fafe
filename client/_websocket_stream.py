"""The bytes below trio-websocket: why they ended, and the way past it for plain messages.

Decides who may send and who may read at which moment, so that no frame ends up inside another one and none overtakes
another. Refuses to know HTTP, and what is in a message.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ._transport import Connection, ConnectionStream
from ._websocket_frames import FrameWalk

ANSWER_MAX = 64 * 1024
"""Bytes that a gateway may say before it has accepted the handshake."""


class WatchedStream(trio.abc.Stream):
    """What trio-websocket reads from and writes to. Keeps why it ended, which trio-websocket does not.

    Args:
        connection: carries the bytes. Some go to it directly, between two frames of trio-websocket's.

    Attributes:
        ended: set when nothing more can come.
        failure: what it ended with, `None` for an end of file.
        is_bounded: nothing long may come yet.
        head: the first bytes.
        walk: follows what trio-websocket has been given since the handshake.
        is_parked: trio-websocket waits at a place where others may read: behind the end of a message. They `read`, and
            `hand` it whatever is not a plain message.
        on_park: called when that begins.
        sends_at_once: whether `send_nowait` is worth calling.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stream = ConnectionStream(connection)
        self.sends_at_once = connection.sends_at_once
        # A frame of trio-websocket's, or the rest of one of ours, is on its way; another one would end up inside it.
        # True for good where that was broken off: a closing frame would be taken for the end of a request.
        self._is_sending = False
        self._rest = b""
        self._rest_is_sent = trio.Event()
        self._received = 0
        self.ended = trio.Event()
        self.failure: BaseException | None = None
        self.is_bounded = True
        self.head = b""
        self.walk = FrameWalk()
        self.is_parked = False
        self.on_park: Callable[[], None] = lambda: None
        # Only where it is certain at which byte the frames begin.
        self._may_park = False
        self._wake = trio.Event()
        self._handed: bytes | BaseException | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        while self._rest:
            await self._rest_is_sent.wait()
        if self._is_sending:
            # trio-websocket sends one frame at a time, so this is no frame that may still be finished.
            raise trio.BrokenResourceError("half a frame was sent")
        self._is_sending = True
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            self._end(error.__cause__ or error)
            raise
        self._is_sending = False

    def send_nowait(self, frame: bytes) -> bool | None:
        """Sends a frame between two others: `True` for all of it, `False` for a part, so that `send_rest` must follow.

        `None` where nothing could be sent: it must be waited for, or the connection is broken.
        """
        if not self.sends_at_once or self._is_sending or self._rest:
            return None
        try:
            sent = self._connection.send_nowait(frame)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            # Whoever waits learns why, and in whose words.
            return None
        if not sent:
            return None
        self._rest = frame[sent:]
        if self._rest:
            self._rest_is_sent = trio.Event()
        return not self._rest

    async def send_rest(self) -> None:
        """Sends what is left of a frame."""
        self._is_sending = True
        try:
            await self._stream.send_all(self._rest)
            self._is_sending = False
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._end(error.__cause__ or error)
        finally:
            self._rest = b""
            self._rest_is_sent.set()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """For trio-websocket alone."""
        data = await self._park() if self._may_park and self.walk.is_between and not self.is_bounded else None
        if data is None:
            data = await self.read()
        if not self.is_bounded:
            self.walk.take(data)
        elif data:
            self._received += len(data)
            self.head = self.head or data[:64]
            self._may_park = data.endswith(b"\r\n\r\n")
            if self._received > ANSWER_MAX:
                self._end(ConnectionError(f"the answer to the handshake is longer than {ANSWER_MAX} bytes"))
                return b""
        return data

    async def read(self) -> bytes:
        """What comes next, b"" at the end."""
        try:
            data = bytes(await self._stream.receive_some())
        except trio.BrokenResourceError as error:
            self._end(error.__cause__ or error)
            raise
        if not data:
            self._end(None)
        return data

    async def _park(self) -> bytes | None:
        self._wake, self._handed, self.is_parked = trio.Event(), None, True
        self.on_park()
        try:
            await self._wake.wait()
        finally:
            self.is_parked = False
        if isinstance(self._handed, BaseException):
            raise self._handed
        return self._handed

    def hand(self, found: bytes | BaseException | None) -> None:
        """Has trio-websocket go on, with what somebody else has read; `None` for nothing."""
        self._handed, self.is_parked = found, False
        self._wake.set()

    def release(self) -> None:
        """Has trio-websocket read for itself from now on."""
        self._may_park = False
        self.hand(None)

    async def aclose(self) -> None:
        self._end(None)
        self.release()
        await trio.aclose_forcefully(self._stream)

    def _end(self, failure: BaseException | None) -> None:
        if not self.ended.is_set():
            self.failure = failure
            self.ended.set()
