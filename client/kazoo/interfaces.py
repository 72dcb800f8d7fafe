"""What a handler and an asynchronous result offer, as `kazoo.interfaces` names it. For type annotations and reading."""

from __future__ import annotations

from .handlers.threading import SequentialThreadingHandler
from .handlers.utils import AsyncResult

IHandler = SequentialThreadingHandler
IAsyncResult = AsyncResult

__all__ = ["IAsyncResult", "IHandler"]
