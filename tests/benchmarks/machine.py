"""What the numbers were measured on, without names of machines and people.

Decides which facts matter for a comparison.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from .contenders import Contender
from .server_kinds import ServerKind
from .servers import Server


def describe_machine() -> list[str]:
    """Interpreter, processor and kernel, a line each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        f"Machine: {cores} cores ({_processor()}), {platform.system()} {platform.release()}, everything on loopback",
        f"Python: {platform.python_implementation()} {platform.python_version()}",
    ]


def describe_server(server: Server, contenders: Sequence[Contender]) -> list[str]:
    """The clients and the server that they are compared on."""
    return [
        f"Clients: {'; '.join(contender.version for contender in contenders)}",
        f"Their server: {server.description}",
    ]


def describe_server_kinds(kinds: Sequence[ServerKind]) -> list[str]:
    """The servers that are compared, a line each."""
    return [f"Server, {kind.name}: {kind.description}" for kind in kinds]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(names)) or platform.machine()
