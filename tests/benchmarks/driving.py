"""What the Python drivers share: the command line, the clock, the answer on standard output.

Decides what is counted: wall time, and this process's CPU time (user and system, all threads), between `start` and
`stop`. Refuses to know the client and the workloads.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import resource
import sys
import threading
import time
from collections.abc import Callable

from .workloads import Plan

PROFILE_OPTION = "--profile"
_PROFILED_FUNCTIONS = 35


def _cpu_ns() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return round((usage.ru_utime + usage.ru_stime) * 1e9)


class Stopwatch:
    """Runs from `start` to `stop`, any number of times; the times add up.

    Args:
        profile: runs while the stopwatch does.

    Attributes:
        samples_ns: the latencies that the workload has noted.
        threads: beside the main one, when the stopwatch was last stopped.
    """

    def __init__(self, profile: cProfile.Profile | None = None) -> None:
        self.wall_ns = 0
        self.cpu_ns = 0
        self.samples_ns: list[int] = []
        self.threads = 0
        self._profile = profile

    def start(self) -> None:
        """From here on everything counts."""
        if self._profile is not None:
            self._profile.enable()
        self.cpu_ns -= _cpu_ns()
        self.wall_ns -= time.perf_counter_ns()

    def stop(self) -> None:
        """Nothing counts any more."""
        self.wall_ns += time.perf_counter_ns()
        self.cpu_ns += _cpu_ns()
        self.threads = threading.active_count() - 1
        if self._profile is not None:
            self._profile.disable()


def run_driver(work: Callable[[Plan, Stopwatch], None]) -> None:
    """Runs the workload of the command line and prints what the stopwatch has, as one line of JSON.

    With `--profile` as the first argument a profile of what was measured goes to standard error.
    """
    arguments = sys.argv[1:]
    profile = None
    if arguments[0] == PROFILE_OPTION:
        del arguments[0]
        profile = cProfile.Profile()
    stopwatch = Stopwatch(profile)
    work(Plan.from_arguments(arguments), stopwatch)
    if profile is not None:
        pstats.Stats(profile, stream=sys.stderr).strip_dirs().sort_stats("tottime").print_stats(_PROFILED_FUNCTIONS)
    found = {name: getattr(stopwatch, name) for name in ("wall_ns", "cpu_ns", "samples_ns", "threads")}
    print(json.dumps(found))


def check_value(value: bytes | None, expected: bytes) -> None:
    """An answer that is not what was written would make a fast client out of a wrong one.

    Raises:
        RuntimeError: it is something else.
    """
    if value != expected:
        raise RuntimeError(f"read {value!r:.200}")
