"""ZooKeeper's frames in WebSocket messages, without input or output.

Decides where a message may begin and end: it holds one or more whole frames, at most `MESSAGE_MAX` bytes of them, or a
single frame of any length. Checks what clients send, cuts what servers send. Refuses to know what is in a frame, but
for its length.
"""

from __future__ import annotations

from collections.abc import Collection

from terzetto.client.wire.primitives import LENGTH

MESSAGE_MAX = 1024 * 1024
"""Bytes of whole frames that may be joined in one message."""

FIRST_FRAME_MAX = 1024
"""Bytes of a client's first frame, its connect request, which has 45."""

HOLD_MAX = 64 * 1024
"""Bytes of an incomplete frame that are kept until its rest is there; a longer one is sent in pieces."""

_BINARY = 0x82
_MASKED = 0x80
_LENGTH_16, _LENGTH_64 = 126, 127
_MASK = 4

_SPLIT = 1007
_NOT_ALLOWED = 1008
_TOO_LONG = 1009
_PREFIX = LENGTH.size


def whole_messages(data: bytes) -> list[bytes] | None:
    """The messages of a client, where the bytes are nothing but binary messages in one masked frame each.

    That is what clients send nearly always, and reading it so takes a tenth of the time that wsproto takes. For all
    else, and for whatever may be wrong, it gives `None`: then wsproto is to judge. The bytes begin where a frame does.
    """
    messages: list[bytes] = []
    position, size = 0, len(data)
    while position < size:
        start = position + 2
        if size < start or data[position] != _BINARY:
            return None
        length = data[position + 1] - _MASKED
        if length == _LENGTH_16:
            start += 2
            length = int.from_bytes(data[start - 2 : start], "big")
            if length < _LENGTH_16:
                return None
        elif not 0 <= length < _LENGTH_16:
            return None
        position = start + _MASK + length
        if position > size:
            return None
        key = data[start : start + _MASK] * (length // _MASK + 1)
        masked = int.from_bytes(data[start + _MASK : position], "little")
        messages.append((masked ^ int.from_bytes(key[:length], "little")).to_bytes(length, "little"))
    return messages


def frame_size(payload: int) -> int:
    """Bytes of a client's frame with a payload of so many bytes."""
    if payload < _LENGTH_16:
        return 2 + _MASK + payload
    return (4 if payload < 1 << 16 else 10) + _MASK + payload


def binary_frame(payload: bytes, *, first: bool, last: bool) -> bytes:
    """A server's frame, which has no mask: the first one of its message, the last one, or both."""
    begin = (_BINARY & 0x0F if first else 0) | (_BINARY & 0xF0 if last else 0)
    length = len(payload)
    if length < _LENGTH_16:
        return bytes((begin, length)) + payload
    if length < 1 << 16:
        return bytes((begin, _LENGTH_16)) + length.to_bytes(2, "big") + payload
    return bytes((begin, _LENGTH_64)) + length.to_bytes(8, "big") + payload


class BadMessage(Exception):
    """A message that a client may not send.

    Attributes:
        code: WebSocket's close code for it.
        reason: what is wrong, for the client.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class MessageCheck:
    """Looks at everything that one client sends, before anything of it is passed on.

    Args:
        limit: longest frame in bytes, without its length.
        words: four letter words that may come instead of a session; `None` for any.

    Attributes:
        word: the four letter word that has come.
        is_introduced: whether the first frame has come, or a word.
    """

    __slots__ = ("_begun", "_limit", "_missing", "_prefix", "_size", "_words", "is_introduced", "word")

    def __init__(self, limit: int, words: Collection[bytes] | None = None) -> None:
        self._limit = limit
        self._words = words
        self._prefix = b""
        self._missing = 0
        self._size = 0
        self._begun = 0
        self.is_introduced = False
        self.word: bytes | None = None

    def take(self, data: bytes, finished: bool) -> None:
        """The next piece of a message, and whether it was the last.

        Raises:
            BadMessage: the connection must be closed, and nothing of this piece be passed on.
        """
        if self.word is not None:
            raise BadMessage(_NOT_ALLOWED, "nothing may follow a four letter word")
        if not (self.is_introduced or self._size or self._missing) and finished and len(data) == _PREFIX:
            self._take_word(bytes(data))
            return
        self._size += len(data)
        if finished and not self._size:
            raise BadMessage(_SPLIT, "an empty message holds no frame")
        self._walk(data)
        if self._begun > 1 and self._size > MESSAGE_MAX:
            raise BadMessage(_TOO_LONG, f"several frames are longer than {MESSAGE_MAX} bytes together")
        if finished:
            if self._missing or self._prefix:
                raise BadMessage(_SPLIT, "a frame goes on behind the end of its message")
            self._size = 0
            self._begun = 0

    def _take_word(self, word: bytes) -> None:
        if not (word.isalpha() and word.islower()):
            raise BadMessage(_SPLIT, "a frame goes on behind the end of its message")
        if self._words is not None and word not in self._words:
            raise BadMessage(_NOT_ALLOWED, f"the command {word.decode()} is not passed on")
        self.word = word
        self.is_introduced = True

    def _walk(self, data: bytes) -> None:
        position, size = 0, len(data)
        if self._missing:
            if self._missing > size:
                self._missing -= size
                return
            position, self._missing = self._missing, 0
            self.is_introduced = True
        if self._prefix:
            needed = _PREFIX - len(self._prefix)
            self._prefix += data[position : position + needed]
            position += needed
            if len(self._prefix) < _PREFIX:
                return
            position = self._pass(self._prefix, 0, position, size)
            self._prefix = b""
        while size - position >= _PREFIX:
            position = self._pass(data, position, position + _PREFIX, size)
        if position < size:
            self._prefix = bytes(data[position:])

    def _pass(self, data: bytes, at: int, start: int, size: int) -> int:
        """Checks the length at `at`; where the frame ends whose body begins at `start`, or the data do."""
        (length,) = LENGTH.unpack_from(data, at)
        self._begun += 1
        limit = self._limit if self.is_introduced else min(FIRST_FRAME_MAX, self._limit)
        if not 0 <= length <= limit:
            raise BadMessage(_TOO_LONG, f"a frame of {length} bytes, at most {limit} are allowed")
        end = start + int(length)
        if end > size:
            self._missing = end - size
            return size
        self.is_introduced = True
        return end


class MessageCutter:
    """Puts what a server sends into messages: whole frames together, a long frame in pieces of one message.

    Attributes:
        is_raw: these are no frames but a four letter word's answer, passed on as it comes.
    """

    __slots__ = ("_missing", "_rest", "is_raw")

    def __init__(self) -> None:
        self._rest: bytes = b""
        self._missing = 0
        self.is_raw = False

    def cut(self, data: bytes) -> list[tuple[bytes, bool]]:
        """The next bytes, however they were cut; pieces of messages, each with whether it is the last of its message.

        Raises:
            ValueError: a negative length.
        """
        if self.is_raw:
            return [(data, True)]
        pieces: list[tuple[bytes, bool]] = []
        if self._missing:
            missing = self._missing
            if len(data) < missing:
                self._missing -= len(data)
                return [(data, False)]
            pieces.append((data[:missing], True))
            data = data[missing:]
            self._missing = 0
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position, size, length = 0, len(data), 0
        while size - position >= _PREFIX:
            length = int(LENGTH.unpack_from(data, position)[0])
            if length < 0:
                raise ValueError(f"a frame of negative length {length}")
            end = position + _PREFIX + length
            if end > size:
                break
            position = end
        else:
            length = 0
        if position:
            pieces.append((data if position == size else data[:position], True))
        if position < size:
            tail = data[position:]
            if length > HOLD_MAX:
                self._missing = _PREFIX + length - len(tail)
                pieces.append((tail, False))
            else:
                self._rest = tail
        return pieces
