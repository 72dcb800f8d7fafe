"""The clients of the comparison: which of them this machine has, and how one of them measures one workload.

Decides that each measurement has a process of its own, bounded in time. Refuses to know what the workloads do and what
the numbers mean.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from .building import BuildFailed, build
from .driving import PROFILE_OPTION
from .results import Measurement
from .workloads import DROPIN, KAZOO, TERZETTO, C, Plan

_ROOT = Path(__file__).parents[2]
_SECONDS_MAX = 300.0
_C_LIBRARIES = ("zookeeper_mt", "pthread")
_C_ADVICE = "on Debian or Ubuntu install libzookeeper-mt-dev"


class DriverFailed(Exception):
    """A driver process failed or took too long; the text says which, and what it wrote to standard error."""


@dataclass(frozen=True)
class Contender:
    """One client.

    Attributes:
        name: `TERZETTO`, `DROPIN`, `KAZOO` or `C`.
        version: its name and release, with that of what it stands on.
        command: the driver, without the plan.
        environment: the driver's.
    """

    name: str
    version: str
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def measure(self, plan: Plan) -> Measurement:
        """Runs the driver once.

        Raises:
            DriverFailed: it did not end well.
        """
        output = self._run([*self.command, *plan.arguments()], plan, stderr=subprocess.PIPE).stdout
        return Measurement(operations=plan.operations * plan.batches, **json.loads(output))

    def profile(self, plan: Plan) -> Measurement:
        """Runs the driver under a profiler, which writes to standard error; of the Python drivers only.

        Raises:
            DriverFailed: it did not end well.
        """
        output = self._run([*self.command, PROFILE_OPTION, *plan.arguments()], plan, stderr=None).stdout
        return Measurement(operations=plan.operations * plan.batches, **json.loads(output))

    def _run(self, command: Sequence[str], plan: Plan, stderr: int | None) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=_ROOT,
                env=self.environment,
                timeout=_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DriverFailed(f"{self.name} did not finish {plan.workload} in {_SECONDS_MAX:g} s") from error
        if done.returncode != 0:
            raise DriverFailed(f"{self.name} failed at {plan.workload} with {done.returncode}\n{done.stderr or ''}")
        return done


def find_contenders(directory: Path) -> tuple[list[Contender], list[str]]:
    """The clients of this machine, and a line for each one that is missing.

    Args:
        directory: where the drivers are compiled to.
    """
    # Compiled once, and not into the tree: a process that compiles its imports first takes seconds to get going.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(directory / "pycache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found: list[Contender] = []
    missing: list[str] = []
    for name, runner, module, distributions in (
        (TERZETTO, (), "drive_terzetto", ("terzetto", "trio")),
        (DROPIN, ("-m", "terzetto.client.kazoo"), "drive_kazoo", ("terzetto",)),
        (KAZOO, (), "drive_kazoo", ("kazoo",)),
    ):
        try:
            importlib.import_module(f"{__package__}.{module}")
        except ImportError as error:
            missing.append(f"{name} is not measured: {error}")
            continue
        versions = ", ".join(f"{distribution} {version(distribution)}" for distribution in distributions)
        versions += " in kazoo's place" if name == DROPIN else ""
        command = (sys.executable, *runner, "-m", f"{__package__}.{module}")
        found.append(Contender(name, versions, command, environment))
    try:
        program = str(build("c_client.c", directory, _C_LIBRARIES))
    except BuildFailed as error:
        missing.append(f"the C client is not measured ({_C_ADVICE}): {error}")
    else:
        release = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        found.append(Contender(C, f"ZooKeeper's C client {release}", (program,), environment))
    return found, missing
