"""The one exception tree of terzetto, drawn below, and the registry from ZooKeeper's error codes to classes.

The names are kazoo's, so that `terzetto.client.kazoo` can re-export the same class objects. This module knows no
protocol state: whether an outcome is unknown is decided by the session and stored on the error it raises.

    KazooException
    +-- ConfigurationError                 an argument or a connect string that cannot mean anything
    +-- CancelledError                     a recipe was cancelled by its owner
    +-- LockTimeout
    +-- ConnectTimeoutError                no server answered within `connect_timeout`
    +-- ClientCrashedError                 a bug in the client's own shell; the cause is attached
    +-- WireError                          bytes that are not the protocol
    |   +-- FrameTooLargeError             a frame longer than the limit
    +-- ZookeeperError                     every outcome of a request other than success
        +-- ConnectionLoss                 the link went; see `outcome_unknown`
        |   +-- ReplyTooLargeError         the reply to this very request was longer than the limit
        +-- SessionExpiredError            the session is over
        |   +-- ConnectionClosedError      the client was closed, or never opened
        +-- AuthFailedError
        +-- NoNodeError, NodeExistsError, BadVersionError, ...     one a server code
        +-- UnknownServerError             a code that no release up to 3.9 sends
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar


class KazooException(Exception):
    """Base of everything that terzetto raises on purpose. (kazoo's name for the same thing.)"""


class ConfigurationError(KazooException, ValueError):
    """An argument, a connect string or a combination of options that cannot be used; names the value and the rule."""


class CancelledError(KazooException):
    """A recipe was cancelled by its owner while it waited (kazoo's `cancel()`); never trio's cancellation."""


class LockTimeout(KazooException):
    """A lock, semaphore or similar was not acquired within the time that the caller gave."""


class ConnectTimeoutError(KazooException):
    """No server of the connect string gave a session within `connect_timeout`; the last failure is its cause."""


class ClientCrashedError(KazooException):
    """The client's own background task failed, which is a bug in terzetto; the original error is the `__cause__`."""


class WireError(KazooException):
    """Bytes that do not follow ZooKeeper's protocol (a truncated record, a negative length, a wrong xid), or a value
    that it cannot carry.
    """


# What another protocol's first four bytes are as a length.
_MEANT = {
    int.from_bytes(b"HTTP", "big"): '; these are the letters "HTTP": a WebSocket gateway is named by ws:// or wss://',
    int.from_bytes(b"\x15\x03\x01\x00", "big"): "; this is an alert of TLS",
    int.from_bytes(b"\x15\x03\x03\x00", "big"): "; this is an alert of TLS",
}


class FrameTooLargeError(WireError):
    """A frame was announced with a length over the limit.

    Attributes:
        length: announced length in bytes.
        limit: the limit in bytes.
    """

    def __init__(self, length: int, limit: int) -> None:
        meant = _MEANT.get(length, "")
        super().__init__(f"a frame of {length} bytes was announced, the limit is {limit} bytes{meant}")
        self.length = length
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.length, self.limit), self.__dict__


class ZookeeperError(KazooException):
    """A request did not succeed.

    Attributes:
        code: ZooKeeper's error code, `None` for errors without one.
        path: the znode's path as the caller gave it (chroot stripped), where one is known.
        outcome_unknown: True when the request may have taken effect all the same.
    """

    code: ClassVar[int | None] = None

    def __init__(self, *args: object, path: str | None = None, outcome_unknown: bool = False) -> None:
        super().__init__(*args)
        self.path = path
        self.outcome_unknown = outcome_unknown

    def __str__(self) -> str:
        text = super().__str__()
        if self.path is None:
            return text
        return f"{text} ({self.path})" if text else self.path


_E = TypeVar("_E", bound=type[ZookeeperError])
_registry: dict[int, type[ZookeeperError]] = {}

EXCEPTIONS: Mapping[int, type[ZookeeperError]] = MappingProxyType(_registry)
"""ZooKeeper's error code to exception class, one entry a code of releases 3.5 to 3.9."""


def _code(code: int) -> Callable[[_E], _E]:
    def register(cls: _E) -> _E:
        cls.code = code
        _registry[code] = cls
        return cls

    return register


@_code(0)
class RolledBackError(ZookeeperError):
    """An operation of a failed transaction that stood before the one that failed; it was not applied."""


@_code(-1)
class SystemZookeeperError(ZookeeperError):
    """A system error inside the server."""


@_code(-2)
class RuntimeInconsistency(ZookeeperError):
    """An operation of a failed transaction that stood after the one that failed; it was not attempted."""


@_code(-3)
class DataInconsistency(ZookeeperError):
    """The server found its data inconsistent."""


@_code(-4)
class ConnectionLoss(ZookeeperError):
    """The connection was lost before the answer came.

    `outcome_unknown` is False when no byte of the request can have left, so that it certainly did not happen.
    """


class ReplyTooLargeError(ConnectionLoss):
    """The reply to this request was longer than `max_reply_size`, so the connection was dropped. Do not ask again."""


@_code(-5)
class MarshallingError(ZookeeperError):
    """The server could not decode the request, or failed while processing it."""


@_code(-6)
class UnimplementedError(ZookeeperError):
    """The server does not know the operation, or the feature is switched off there."""


@_code(-7)
class OperationTimeoutError(ZookeeperError):
    """An operation took too long."""


@_code(-8)
class BadArgumentsError(ZookeeperError):
    """The server refused the arguments: an invalid path, create flag or TTL, or a reserved znode."""


@_code(-12)
class UnknownSessionError(ZookeeperError):
    """The server does not know the session."""


@_code(-13)
class NewConfigNoQuorumError(ZookeeperError):
    """A reconfiguration was refused: no quorum of the new ensemble is up to date."""


@_code(-14)
class ReconfigInProcessError(ZookeeperError):
    """Another reconfiguration is under way."""


@_code(-100)
class APIError(ZookeeperError):
    """An API error (range marker of the protocol)."""


@_code(-101)
class NoNodeError(ZookeeperError):
    """The znode, or the parent of a znode to be created, does not exist."""


@_code(-102)
class NoAuthError(ZookeeperError):
    """The ACL grants this connection no such permission."""


@_code(-103)
class BadVersionError(ZookeeperError):
    """The version given is not the znode's version."""


@_code(-108)
class NoChildrenForEphemeralsError(ZookeeperError):
    """An ephemeral znode cannot have children."""


@_code(-110)
class NodeExistsError(ZookeeperError):
    """The znode exists already."""


@_code(-111)
class NotEmptyError(ZookeeperError):
    """The znode has children."""


@_code(-112)
class SessionExpiredError(ZookeeperError):
    """The session is over, and its ephemeral znodes with it."""


class ConnectionClosedError(SessionExpiredError):
    """The client was closed, so that it takes no more requests."""


@_code(-113)
class InvalidCallbackError(ZookeeperError):
    """Invalid callback (only other clients raise it)."""


@_code(-114)
class InvalidACLError(ZookeeperError):
    """The ACL is empty, malformed, or names a scheme that the server does not have."""


@_code(-115)
class AuthFailedError(ZookeeperError):
    """The server refused the credentials."""


@_code(-118)
class SessionMovedError(ZookeeperError):
    """The session has moved to another server."""


@_code(-119)
class NotReadOnlyCallError(ZookeeperError):
    """A write was sent to a read-only server."""


@_code(-120)
class EphemeralOnLocalSessionError(ZookeeperError):
    """An ephemeral znode cannot be created on a local session that may not be upgraded."""


@_code(-121)
class NoWatcherError(ZookeeperError):
    """There is no such watch to remove."""


@_code(-122)
class RequestTimeoutError(ZookeeperError):
    """The request timed out."""


@_code(-123)
class ReconfigDisabledError(ZookeeperError):
    """Reconfiguration is switched off (`reconfigEnabled=false`, the default since 3.5.3)."""


@_code(-124)
class SessionClosedRequireSaslError(ZookeeperError):
    """The server requires SASL authentication and closed the connection."""


@_code(-125)
class QuotaExceededError(ZookeeperError):
    """A hard quota was reached (`enforceQuota=true`, since 3.7)."""


@_code(-127)
class ThrottledOpError(ZookeeperError):
    """The request waited too long in the server and was dropped (since 3.7); it may be tried again."""


class UnknownServerError(ZookeeperError):
    """The server answered with a code that terzetto does not know.

    Attributes:
        server_code: the code as the server sent it.
    """

    def __init__(self, server_code: int, *, path: str | None = None) -> None:
        super().__init__(f"unknown error code {server_code} from the server", path=path)
        self.server_code = server_code

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.server_code,), self.__dict__


_TEXTS: Mapping[int, str] = {
    -101: "no such znode",
    -102: "not permitted by the ACL",
    -103: "version does not match",
    -108: "an ephemeral znode cannot have children",
    -110: "znode exists",
    -111: "znode has children",
    -114: "invalid ACL",
    -119: "the server is read-only",
    -121: "no such watch",
    -123: "reconfiguration is disabled on the server",
    -125: "quota exceeded",
}


def error_from_code(code: int, path: str | None = None) -> ZookeeperError:
    """Builds the error for a server's code. Never fails: a code nobody knows becomes `UnknownServerError`."""
    cls = _registry.get(code)
    if cls is None:
        return UnknownServerError(code, path=path)
    text = _TEXTS.get(code)
    return cls(path=path) if text is None else cls(text, path=path)
