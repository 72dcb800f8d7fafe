"""Exceptions under kazoo's names: the client's own classes, so that either import catches them, and kazoo's aliases."""

from __future__ import annotations

from ..errors import (
    EXCEPTIONS as _CLASSES,
    APIError,
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    CancelledError,
    ConfigurationError,
    ConnectionClosedError,
    ConnectionLoss,
    DataInconsistency,
    EphemeralOnLocalSessionError,
    InvalidACLError,
    InvalidCallbackError,
    KazooException,
    LockTimeout,
    MarshallingError,
    NewConfigNoQuorumError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NotReadOnlyCallError,
    NoWatcherError,
    OperationTimeoutError,
    QuotaExceededError,
    ReconfigDisabledError,
    ReconfigInProcessError,
    RequestTimeoutError,
    RolledBackError,
    RuntimeInconsistency,
    SessionClosedRequireSaslError,
    SessionExpiredError,
    SessionMovedError,
    SystemZookeeperError,
    ThrottledOpError,
    UnimplementedError,
    UnknownSessionError,
    ZookeeperError,
)


class _Codes(dict[int, type[ZookeeperError]]):
    """Exceptions by their codes. A code that nobody knows raises `RuntimeError`, as kazoo's map does."""

    def __missing__(self, code: int) -> type[ZookeeperError]:
        raise RuntimeError(f"no exception has the code {code}")


EXCEPTIONS = _Codes(_CLASSES)


class ZookeeperStoppedError(KazooException):
    """The client was stopped. kazoo has the class and never raises it; nor does the drop-in."""


class ConnectionDropped(KazooException):
    """kazoo's word to itself that a connection went; programs name it in `except` clauses."""


class WriterNotClosedException(KazooException):
    """kazoo's word for a connection that could not be closed; `stop` of the drop-in is bounded, and never raises it."""


class ForkedError(KazooException, RuntimeError):
    """A client was used in a process other than the one that started it: its connection stayed behind."""


class SASLException(KazooException):
    """SASL authentication cannot begin, or has failed."""


ConnectionLossException = ConnectionLoss
MarshallingErrorException = MarshallingError
SystemErrorException = SystemZookeeperError
RuntimeInconsistencyException = RuntimeInconsistency
DataInconsistencyException = DataInconsistency
UnimplementedException = UnimplementedError
OperationTimeoutException = OperationTimeoutError
BadArgumentsException = BadArgumentsError
ApiErrorException = APIError
NoNodeException = NoNodeError
NoAuthException = NoAuthError
BadVersionException = BadVersionError
NoChildrenForEphemeralsException = NoChildrenForEphemeralsError
NodeExistsException = NodeExistsError
InvalidACLException = InvalidACLError
AuthFailedException = AuthFailedError
NotEmptyException = NotEmptyError
SessionExpiredException = SessionExpiredError
InvalidCallbackException = InvalidCallbackError

__all__ = [
    "EXCEPTIONS",
    "APIError",
    "ApiErrorException",
    "AuthFailedError",
    "AuthFailedException",
    "BadArgumentsError",
    "BadArgumentsException",
    "BadVersionError",
    "BadVersionException",
    "CancelledError",
    "ConfigurationError",
    "ConnectionClosedError",
    "ConnectionDropped",
    "ConnectionLoss",
    "ConnectionLossException",
    "DataInconsistency",
    "DataInconsistencyException",
    "EphemeralOnLocalSessionError",
    "ForkedError",
    "InvalidACLError",
    "InvalidACLException",
    "InvalidCallbackError",
    "InvalidCallbackException",
    "KazooException",
    "LockTimeout",
    "MarshallingError",
    "MarshallingErrorException",
    "NewConfigNoQuorumError",
    "NoAuthError",
    "NoAuthException",
    "NoChildrenForEphemeralsError",
    "NoChildrenForEphemeralsException",
    "NoNodeError",
    "NoNodeException",
    "NoWatcherError",
    "NodeExistsError",
    "NodeExistsException",
    "NotEmptyError",
    "NotEmptyException",
    "NotReadOnlyCallError",
    "OperationTimeoutError",
    "OperationTimeoutException",
    "QuotaExceededError",
    "ReconfigDisabledError",
    "ReconfigInProcessError",
    "RequestTimeoutError",
    "RolledBackError",
    "RuntimeInconsistency",
    "RuntimeInconsistencyException",
    "SASLException",
    "SessionClosedRequireSaslError",
    "SessionExpiredError",
    "SessionExpiredException",
    "SessionMovedError",
    "SystemErrorException",
    "SystemZookeeperError",
    "ThrottledOpError",
    "UnimplementedError",
    "UnimplementedException",
    "UnknownSessionError",
    "WriterNotClosedException",
    "ZookeeperError",
    "ZookeeperStoppedError",
]
