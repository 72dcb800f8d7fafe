"""Who takes part in the comparison of recipes: the clients of the other comparison that have recipes.

Decides which driver measures the recipes of a client. Refuses to know what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .contenders import Contender

_DRIVERS = {
    f"{__package__}.drive_terzetto": f"{__package__}.drive_terzetto_recipes",
    f"{__package__}.drive_kazoo": f"{__package__}.drive_kazoo_recipes",
}


def recipe_contenders(contenders: Sequence[Contender]) -> list[Contender]:
    """The same clients, driven through their recipes, without those that have none."""
    return [
        replace(contender, command=tuple(_DRIVERS.get(part, part) for part in contender.command))
        for contender in contenders
        if not _DRIVERS.keys().isdisjoint(contender.command)
    ]
