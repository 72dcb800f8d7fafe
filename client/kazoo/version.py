"""The release of kazoo whose API the drop-in has."""

from __future__ import annotations

__version__ = "2.11.0"
