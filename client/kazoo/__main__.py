"""`python -m terzetto.client.kazoo [-m MODULE | SCRIPT] ARGS...`: runs a program with kazoo answered by the drop-in."""

from __future__ import annotations

import os
import runpy
import sys

from ._install import install

_USAGE = "usage: python -m terzetto.client.kazoo [-m MODULE | SCRIPT] ARGS..."


def main(arguments: list[str]) -> None:
    """Runs the program as `python` would: its own `sys.argv`, its folder first on `sys.path`."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stderr.write(_USAGE + "\nRuns a program that imports kazoo with terzetto in its place.\n")
        sys.exit(0 if arguments else 2)
    install()
    if arguments[0] == "-m":
        if len(arguments) < 2:
            sys.stderr.write(_USAGE + "\n-m needs the name of a module\n")
            sys.exit(2)
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    if not os.path.exists(arguments[0]):
        sys.stderr.write(f"{_USAGE}\nthere is no file {arguments[0]!r}\n")
        sys.exit(2)
    sys.argv = arguments
    sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
