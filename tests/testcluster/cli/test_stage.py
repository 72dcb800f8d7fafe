"""What the demonstration makes of steps that succeed, fail and hang."""

from __future__ import annotations

import io

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from terzetto.client import NoNodeError
from terzetto.testcluster.cli.stage import STEP_TIMEOUT, Stage, expect


async def works() -> str:
    return "it did"


async def fails() -> str:
    expect(False, "it did not")
    return "never said"


async def is_refused() -> str:
    raise NoNodeError("/gone")


async def hangs() -> str:
    await trio.sleep_forever()


async def fails_twice() -> str:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails)
        nursery.start_soon(is_refused)
    return "never said"


async def has_a_mistake() -> str:
    raise ZeroDivisionError


async def test_every_step_is_told_and_no_failure_hides(autojump_clock: MockClock) -> None:
    out = io.StringIO()
    stage = Stage(Console(file=out, width=120), "127.0.0.1:1", "/demo")
    await stage.step("first", works)
    assert [ok for _, ok, _ in stage.results] == [stage.succeeded]
    for title, work in (("second", fails), ("third", is_refused), ("fourth", hangs)):
        await stage.step(title, work)
    assert not stage.succeeded
    assert trio.current_time() == pytest.approx(STEP_TIMEOUT)
    assert [(title, ok) for title, ok, _ in stage.results] == [
        ("first", True),
        ("second", False),
        ("third", False),
        ("fourth", False),
    ]
    assert stage.results[1][2] == "StepFailed: it did not"
    assert stage.results[2][2].startswith("NoNodeError")
    assert stage.results[3][2] == "TooSlowError"
    await stage.step("fifth", fails_twice)
    assert stage.results[4][2] in ("StepFailed: it did not", stage.results[2][2])
    stage.console.print(stage.summary())
    assert out.getvalue().count("FAILED") == 4


async def test_a_bug_is_no_failed_step(autojump_clock: MockClock) -> None:
    stage = Stage(Console(file=io.StringIO()), "127.0.0.1:1", "/demo")
    with pytest.raises(ZeroDivisionError):
        await stage.step("sixth", has_a_mistake)
