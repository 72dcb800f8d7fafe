"""Repeats one run: `python -m tests.sim SEED` prints its trace, plan and what it reached, and how it failed."""

from __future__ import annotations

import argparse

from .simulation import Simulation


def main() -> None:
    """Runs a seed; a violation ends the program with its traceback, behind the trace."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--last", type=int, default=None, metavar="N", help="only the last N lines of the trace")
    parser.add_argument("--fingerprint", action="store_true", help="only the hash of the trace")
    arguments = parser.parse_args()
    simulation = Simulation(arguments.seed)
    try:
        simulation.run()
    finally:
        if arguments.fingerprint:
            print(simulation.world.fingerprint())
        else:
            lines = list(simulation.world.trace())
            print(*(lines if arguments.last is None else lines[-arguments.last :]), sep="\n")
            print(simulation.plan, *simulation.reached().lines(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
