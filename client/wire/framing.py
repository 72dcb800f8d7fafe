"""Cuts a byte stream into frames: a four-byte length, then that many bytes.

Holds at most one incomplete frame, and refuses a length over the limit as soon as its four bytes are there, so that a
peer cannot make it hold more. Knows nothing of what is in a frame.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import FrameTooLargeError, WireError
from .primitives import LENGTH


class FrameBuffer:
    """Re-assembles frames from arbitrary chunks.

    `feed` gives back bytes that begin at a frame boundary; the reader walks them by offset (no copy a frame) and hands
    what is left to `keep`. `frames` does both for readers that need no more. Each repeats its error when called again.

    Args:
        limit: longest frame in bytes, without its length prefix.
    """

    __slots__ = ("_need", "_rest", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rest = bytearray()
        self._need = 0

    def __len__(self) -> int:
        """Bytes held of an incomplete frame."""
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        """Takes a chunk; returns bytes from a frame boundary on, empty while the first frame is incomplete.

        Raises:
            WireError: a negative length.
            FrameTooLargeError: a length over the limit.
        """
        rest = self._rest
        if not rest:
            return data
        # A bytearray grows in place, so a large frame in small chunks costs linear time, not quadratic.
        rest += data
        if len(rest) < self._need:
            return b""
        if self._need == LENGTH.size:
            self._need += self.checked_length(rest, 0)
            if len(rest) < self._need:
                return b""
        whole = bytes(rest)
        self._rest = bytearray()
        return whole

    def keep(self, data: bytes, start: int) -> None:
        """Stores what is left of `data` from `start` on: the beginning of a frame, or nothing."""
        if start >= len(data):
            return
        self._rest = bytearray(data[start:])
        self._need = LENGTH.size
        if len(self._rest) >= LENGTH.size:
            self._need += self.checked_length(self._rest, 0)

    def checked_length(self, data: bytes | bytearray, start: int) -> int:
        """The length at `start`, after the checks that `feed` names."""
        (length,) = LENGTH.unpack_from(data, start)
        if length < 0:
            raise WireError(f"a frame of negative length {length} was announced")
        if length > self.limit:
            raise FrameTooLargeError(length, self.limit)
        result: int = length
        return result

    def frames(self, data: bytes) -> Iterator[tuple[bytes, int, int]]:
        """Takes a chunk; yields (buffer, start, end) of every whole frame, without its length prefix.

        Must be exhausted. What comes before a bad length is yielded first, however the bytes were cut into chunks.

        Raises:
            WireError: a negative length.
            FrameTooLargeError: a length over the limit.
        """
        data = self.feed(data)
        position, size = 0, len(data)
        while size - position >= LENGTH.size:
            (length,) = LENGTH.unpack_from(data, position)
            start = position + LENGTH.size
            end = start + length
            if not 0 <= length <= self.limit or end > size:
                break
            yield data, start, end
            position = end
        # It checks the length, and holds on to a bad one, so that no later byte passes for the beginning of a frame.
        self.keep(data, position)
