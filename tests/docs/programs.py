"""The examples as modules, whose parts tests use, and as processes, which tests stop and kill."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import ModuleType

import trio

from tests.architecture.tree import ROOT

EXAMPLES = ROOT / "docs" / "examples"
PATIENCE = 60.0
"""Seconds after which a test gives up; nothing here takes more than a few on a quiet machine."""


def load(name: str) -> ModuleType:
    """An example as a module."""
    specification = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their module up by its name.
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


class Programs:
    """Processes of an example, by the argument that tells them apart. Killed at the end of their block."""

    def __init__(self, nursery: trio.Nursery, example: str, hosts: str) -> None:
        self._nursery = nursery
        self._command = [sys.executable, "-W", "error", str(EXAMPLES / f"{example}.py"), hosts]
        self._running: dict[str, trio.Process] = {}

    async def start(self, name: object) -> None:
        """Starts one."""
        run = partial(
            trio.run_process,
            [*self._command, str(name)],
            stdin=subprocess.DEVNULL,
            check=False,
            deliver_cancel=_kill,
        )
        self._running[str(name)] = await self._nursery.start(run)

    def signal(self, name: object, number: signal.Signals) -> None:
        """Sends one a signal."""
        process = self._running[str(name)]
        assert process.returncode is None, f"{name} has ended with {process.returncode}"
        process.send_signal(number)

    async def ended(self, name: object) -> int:
        """The status of one, once it has ended."""
        return await self._running[str(name)].wait()


async def _kill(process: trio.Process) -> None:
    process.kill()


@asynccontextmanager
async def programs(example: str, hosts: str) -> AsyncIterator[Programs]:
    """Processes of an example, which end with the block."""
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            yield Programs(nursery, example, hosts)
        nursery.cancel_scope.cancel()


async def eventually(condition: Callable[[], bool], look: Callable[[], Awaitable[object]]) -> None:
    """Returns once the condition holds, which is asked again after each `look()`."""
    while not condition():
        await look()
