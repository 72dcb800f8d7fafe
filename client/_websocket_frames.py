"""WebSocket frames as a client and a gateway exchange them nearly always: a binary message in one frame each.

Decides how such a frame is made, read, and followed from one to the next. Refuses to judge anything else: for that
there is a whole implementation, which takes several times as long.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

MESSAGE_MAX = 1024 * 1024
"""Bytes of whole frames that may be joined in one message; a longer frame has a message of its own."""

_BINARY = 0x82
_MASKED = 0x80
_LENGTH_16, _LENGTH_64 = 126, 127
_OPCODE, _CLOSE = 0x0F, 8
# The length before a frame of ZooKeeper's.
_PREFIX = 4


def masked_message(data: bytes) -> bytes:
    """A binary message in one frame, masked as a client's must be (RFC 6455, section 5.3)."""
    length = len(data)
    if length < _LENGTH_16:
        head = bytes((_BINARY, _MASKED | length))
    elif length < 1 << 16:
        head = b"\x82\xfe" + length.to_bytes(2, "big")
    else:
        head = b"\x82\xff" + length.to_bytes(8, "big")
    # As an application's own bytes must not be chosen by it on the wire, the key comes from the kernel, for each frame.
    key = os.urandom(4)
    mask = int.from_bytes((key * (length // 4 + 1))[:length], "little")
    return head + key + (int.from_bytes(data, "little") ^ mask).to_bytes(length, "little")


def messages_of(data: bytes) -> Iterator[bytes]:
    """Whole frames of ZooKeeper's in messages of `MESSAGE_MAX` bytes at most; a longer frame has one of its own."""
    begin = end = 0
    while len(data) - begin > MESSAGE_MAX and end < len(data):
        position = end
        end += _PREFIX + int.from_bytes(data[position : position + _PREFIX], "big")
        if begin < position and end - begin > MESSAGE_MAX:
            yield data[begin:position]
            begin = position
    yield data[begin:]


def plain_payload(data: bytes) -> bytes | None:
    """What a server's bytes carry, where they are nothing but binary messages in one frame each; `None` otherwise.

    The bytes begin where a frame does, outside of a message.
    """
    parts: list[bytes] = []
    position, size = 0, len(data)
    while position < size:
        start = position + 2
        if size < start or data[position] != _BINARY:
            return None
        length = data[position + 1]
        if length == _LENGTH_16:
            start += 2
            length = int.from_bytes(data[start - 2 : start], "big")
            if length < _LENGTH_16:
                return None
        elif length > _LENGTH_16:
            # A longer frame, or one with a mask.
            return None
        position = start + length
        if position > size:
            return None
        parts.append(data[start:position])
    return parts[0] if len(parts) == 1 else b"".join(parts)


class FrameWalk:
    """Follows a server's bytes from frame to frame.

    Attributes:
        messages: how many have begun their last frame.
    """

    __slots__ = ("_head", "_is_closing", "_is_open", "_left", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self._head = b""
        self._left = 0
        self._is_open = False
        self._is_closing = False

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a frame outside of a message. Never again behind a closing frame."""
        return not (self._left or self._head or self._is_open or self._is_closing)

    def take(self, data: bytes) -> None:
        """The next bytes, however they were cut."""
        position, size = 0, len(data)
        while position < size:
            if self._left:
                step = min(self._left, size - position)
                self._left -= step
            else:
                step = min(self._head_size() - len(self._head), size - position)
                self._head += data[position : position + step]
                if len(self._head) == self._head_size():
                    self._begin()
            position += step

    def _head_size(self) -> int:
        if len(self._head) < 2:
            return 2
        longer = {_LENGTH_16: 2, _LENGTH_64: 8}.get(self._head[1] & ~_MASKED, 0)
        return 2 + longer + (4 if self._head[1] & _MASKED else 0)

    def _begin(self) -> None:
        head, self._head = self._head, b""
        is_last, opcode = head[0] & 0x80, head[0] & _OPCODE
        length = head[1] & ~_MASKED
        if length >= _LENGTH_16:
            length = int.from_bytes(head[2 : 4 if length == _LENGTH_16 else 10], "big")
        self._left = length
        if opcode == _CLOSE:
            self._is_closing = True
        elif opcode < _CLOSE:
            self._is_open = not is_last
            self.messages += bool(is_last)
