"""The names of the package that need trio, gathered for `__init__.py`, which imports them at first use."""

from __future__ import annotations

from ._client import ZooKeeper
from ._clock import (
    BootClock,
    Clock,
    RunClock,
)
from ._core import SessionProof
from ._effects import SaslMechanism
from ._hosts import Endpoint
from ._open import open_zookeeper
from ._pipeline import (
    Pipeline,
    PipelineResult,
)
from ._retry import RetryPolicy
from ._scopes import PlainNursery
from ._transaction import (
    ReadChildren,
    ReadData,
    Transaction,
)
from ._transport import (
    Connection,
    Listener,
    StreamConnection,
    TcpTransport,
    Transport,
)
from ._watching import (
    StateStream,
    WatchCallback,
    WatchStream,
)

__all__ = [
    "BootClock",
    "Clock",
    "Connection",
    "Endpoint",
    "Listener",
    "Pipeline",
    "PipelineResult",
    "PlainNursery",
    "ReadChildren",
    "ReadData",
    "RetryPolicy",
    "RunClock",
    "SaslMechanism",
    "SessionProof",
    "StateStream",
    "StreamConnection",
    "TcpTransport",
    "Transaction",
    "Transport",
    "WatchCallback",
    "WatchStream",
    "ZooKeeper",
    "open_zookeeper",
]
