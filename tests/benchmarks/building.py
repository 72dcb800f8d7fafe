"""Compiles the C programs of this folder.

Decides the compiler and its flags. Refuses to know what the programs do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).parent


class BuildFailed(Exception):
    """There is no compiler, or it refused the program; the text says which, and what it said."""


def build(source: str, directory: Path, libraries: Sequence[str] = ()) -> Path:
    """Compiles one file of this folder; returns the program.

    Args:
        source: name of the file.
        directory: where the program goes.
        libraries: to link with.

    Raises:
        BuildFailed: no compiler, no such library, or an error in the program.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BuildFailed("there is no C compiler; on Debian or Ubuntu install gcc and libc6-dev")
    program = directory / Path(source).stem
    command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-DTHREADED", "-o", str(program), str(_HERE / source)]
    done = subprocess.run(
        [*command, *(f"-l{library}" for library in libraries)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildFailed(f"{compiler} did not take {source}:\n{done.stderr.strip()}")
    return program
