"""A ZooKeeper ensemble small enough to start inside a test.

It shares the client's codec and values and none of its session logic, so that a mistake there cannot cancel itself out.
"""

from __future__ import annotations

from .ensemble import (
    BlockingEnsemble as BlockingEnsemble,
    Ensemble as Ensemble,
    EnsembleError as EnsembleError,
    open_ensemble as open_ensemble,
    start_ensemble as start_ensemble,
)

__all__ = ["BlockingEnsemble", "Ensemble", "EnsembleError", "open_ensemble", "start_ensemble"]
