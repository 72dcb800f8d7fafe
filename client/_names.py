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
from ._gssapi import Gssapi
from ._hosts import Endpoint
from ._open import open_zookeeper
from ._pipeline import (
    Pipeline,
    PipelineResult,
)
from ._retry import RetryPolicy
from ._sasl import DigestMd5
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
from ._websocket import (
    GatewayRefusedError,
    WebSocketOptions,
)

__all__ = [
    "BootClock",
    "Clock",
    "Connection",
    "DigestMd5",
    "Endpoint",
    "GatewayRefusedError",
    "Gssapi",
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
    "WebSocketOptions",
    "ZooKeeper",
    "open_zookeeper",
]
