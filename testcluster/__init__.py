"""A ZooKeeper ensemble small enough to start inside a test.

It shares the client's codec and values and none of its session logic, so that a mistake there cannot cancel itself out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ensemble import (
        BlockingEnsemble as BlockingEnsemble,
        Ensemble as Ensemble,
        EnsembleError as EnsembleError,
        open_ensemble as open_ensemble,
        start_ensemble as start_ensemble,
    )

__all__ = ["BlockingEnsemble", "Ensemble", "EnsembleError", "open_ensemble", "start_ensemble"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Type checkers read the imports above; seeing this function, they would take any name at all.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # The ensemble is imported when it is first asked for: a pytest plugin that is not used must cost nothing.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import ensemble

        value = globals()[name] = getattr(ensemble, name)
        return value
