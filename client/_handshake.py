"""The first frame in each direction: the connect request, and what a server may answer. Sans-IO."""

from __future__ import annotations

from .errors import WireError, error_from_code
from .wire import codec
from .wire.primitives import LENGTH, REPLY_HEADER
from .wire.records import ConnectRequest, ConnectResponse, ShortConnectResponse

NO_PASSWD = bytes(16)

_REQUEST = codec(ConnectRequest)
_RESPONSE = codec(ConnectResponse)
_SHORT_RESPONSE = codec(ShortConnectResponse)
_TIMEOUT_MAX_MS = 2**31 - 1
_RESPONSE_SIZE = 37
_PASSWD_SIZE = 16


def connect_frame(last_zxid: int, timeout: float, session_id: int, passwd: bytes, read_only: bool) -> bytes:
    """The connect request with its length. `timeout` in seconds."""
    record = ConnectRequest(0, last_zxid, int(min(timeout * 1000, _TIMEOUT_MAX_MS)), session_id, passwd, read_only)
    body = _REQUEST.encode(record)
    return LENGTH.pack(len(body)) + body


def decode_connect_response(data: bytes, start: int, end: int) -> ConnectResponse:
    """The server's answer, which occupies data[start:end].

    Raises:
        WireError: it is none; also when a read-only server without local sessions (3.7 and later) answers with a bare
            reply header, which means that another server must be tried.
    """
    size = end - start
    if size == REPLY_HEADER.size:
        _, _, err = REPLY_HEADER.unpack_from(data, start)
        raise WireError(f"the server refused the session: {error_from_code(err)!r}")
    # Checked to the byte, because zeros mean that the session is over: that must not be read out of garbage.
    if size == _RESPONSE_SIZE:
        response = _RESPONSE.decode(data, start, end)[0]
    elif size == _RESPONSE_SIZE - 1:
        response = ConnectResponse(*_SHORT_RESPONSE.decode(data, start, end)[0], False)
    else:
        raise WireError(f"the answer to the connect request has {size} bytes, expected {_RESPONSE_SIZE}")
    if len(response.passwd or b"") != _PASSWD_SIZE:
        raise WireError("the answer to the connect request holds no password of 16 bytes")
    return response


def is_rejection(response: ConnectResponse, asked_for: int) -> bool:
    """Whether the answer says that the session `asked_for` (0: a new one) is over.

    A server that rejects sets timeout and id to 0; Java and kazoo go by the timeout, the C client by the id.
    """
    other = asked_for != 0 and response.session_id != asked_for and not response.read_only
    return response.timeout <= 0 or response.session_id == 0 or other
