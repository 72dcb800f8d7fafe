"""kazoo's blocking API on the native client: change an import, or nothing at all."""

from __future__ import annotations

from ._install import install as install
from .exceptions import ForkedError as ForkedError
from .version import __version__ as __version__

__all__ = ["ForkedError", "__version__", "install"]
