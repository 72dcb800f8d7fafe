"""Where the demonstration takes place: its servers, its live output, its results."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import cast

import trio
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from terzetto.client import KazooException, ZooKeeper, open_zookeeper

if sys.version_info < (3, 11):  # trio depends on the backport there
    from exceptiongroup import ExceptionGroup

STEP_TIMEOUT = 60.0
"""Bound of one step, in seconds."""


class StepFailed(Exception):
    """A step did not end as it must; the message says how."""


def expect(condition: bool, otherwise: str) -> None:
    """Raises `StepFailed` unless the condition holds."""
    if not condition:
        raise StepFailed(otherwise)


@dataclass
class Stage:
    """One run: where the servers are, where its znodes are, and what has happened."""

    console: Console
    hosts: str
    chroot: str
    results: list[tuple[str, bool, str]] = field(default_factory=list[tuple[str, bool, str]])

    def client(self) -> AbstractAsyncContextManager[ZooKeeper]:
        """A client with a session of its own, below the demonstration's znode."""
        return open_zookeeper(self.hosts, chroot=self.chroot)

    def say(self, who: str, what: str) -> None:
        """One line of the live output."""
        self.console.print(f"  [cyan]{who:<10}[/] {what}", highlight=False)

    async def step(self, title: str, work: Callable[[], Awaitable[str]]) -> None:
        """Runs one step and notes its outcome; a failure does not keep the next ones from running."""
        self.console.print(f"\n[bold]{title}[/]")
        try:
            with trio.fail_after(STEP_TIMEOUT):
                evidence = await work()
        except (StepFailed, KazooException, trio.TooSlowError) as error:
            self._failed(title, error)
        except ExceptionGroup as group:
            _, unexpected = group.split((StepFailed, KazooException, trio.TooSlowError))
            if unexpected is not None:
                raise
            self._failed(title, group)
        else:
            self.results.append((title, True, evidence))

    def _failed(self, title: str, error: Exception) -> None:
        if isinstance(error, ExceptionGroup):
            # Of several that failed at once, one is enough to tell.
            group = cast("ExceptionGroup[Exception]", error)
            self._failed(title, group.exceptions[0])
            return
        self.results.append((title, False, f"{type(error).__name__}: {error}".removesuffix(": ")))

    @property
    def succeeded(self) -> bool:
        """Whether every step did."""
        return all(succeeded for _, succeeded, _ in self.results)

    def summary(self) -> Table:
        """Every step with its outcome."""
        table = Table(title="summary", title_justify="left", title_style="bold")
        table.add_column("")
        table.add_column("step")
        table.add_column("what happened")
        for title, succeeded, evidence in self.results:
            table.add_row("[green]ok[/]" if succeeded else "[red]FAILED[/]", title, escape(evidence))
        return table
