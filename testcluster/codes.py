"""ZooKeeper's error codes as the server uses them, and how a refusal travels from a rule to the reply.

The codes come from the one table of the exception tree, so that both ends mean the same number.
"""

from __future__ import annotations

from typing import Final

from terzetto.client import errors as e


def code_of(cls: type[e.ZookeeperError]) -> int:
    """The number of an error class. Raises `TypeError` for one that has none."""
    code = cls.code
    if code is None:
        raise TypeError(f"{cls.__name__} has no code")
    return code


OK: Final = 0
RUNTIME_INCONSISTENCY: Final = code_of(e.RuntimeInconsistency)
MARSHALLING_ERROR: Final = code_of(e.MarshallingError)
UNIMPLEMENTED: Final = code_of(e.UnimplementedError)
BAD_ARGUMENTS: Final = code_of(e.BadArgumentsError)
NO_NODE: Final = code_of(e.NoNodeError)
NO_AUTH: Final = code_of(e.NoAuthError)
BAD_VERSION: Final = code_of(e.BadVersionError)
NO_CHILDREN_FOR_EPHEMERALS: Final = code_of(e.NoChildrenForEphemeralsError)
NODE_EXISTS: Final = code_of(e.NodeExistsError)
NOT_EMPTY: Final = code_of(e.NotEmptyError)
SESSION_EXPIRED: Final = code_of(e.SessionExpiredError)
INVALID_ACL: Final = code_of(e.InvalidACLError)
AUTH_FAILED: Final = code_of(e.AuthFailedError)
SESSION_MOVED: Final = code_of(e.SessionMovedError)
NOT_READ_ONLY: Final = code_of(e.NotReadOnlyCallError)
EPHEMERAL_ON_LOCAL_SESSION: Final = code_of(e.EphemeralOnLocalSessionError)
NO_WATCHER: Final = code_of(e.NoWatcherError)
RECONFIG_DISABLED: Final = code_of(e.ReconfigDisabledError)
SESSION_CLOSED_REQUIRE_SASL: Final = code_of(e.SessionClosedRequireSaslError)
QUOTA_EXCEEDED: Final = code_of(e.QuotaExceededError)


class Refused(Exception):
    """A rule refuses a request, or one operation of a multi, with a code for the client.

    Attributes:
        code: the error code of the reply.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Unprocessable(Exception):
    """A field is null where ZooKeeper trips over null: the whole request, multi or not, is answered -5."""
