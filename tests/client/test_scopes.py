"""What becomes of exceptions at the edge of a block with background tasks."""

from __future__ import annotations

import sys

import pytest
import trio
import trio.testing

from terzetto.client._scopes import PlainNursery

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


async def run(body: BaseException | None) -> None:
    """Runs a block with a task; its body raises what is given."""
    async with PlainNursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()
        if body is not None:
            raise body


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
async def test_what_the_body_raises_leaves_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        await run(error)
    assert caught.value is error


async def test_a_group_of_the_bodys_own_is_not_put_into_another() -> None:
    group = ExceptionGroup("mine", [ValueError(1), KeyError(2)])
    with pytest.raises(BaseExceptionGroup) as caught:
        await run(group)
    assert sorted(type(error).__name__ for error in caught.value.exceptions) == ["KeyError", "ValueError"]


async def test_nothing_raised_is_nothing_raised() -> None:
    await run(None)


async def fail(error: Exception) -> None:
    raise error


async def block_with_failing_task(task: Exception, body: Exception | None) -> None:
    async with PlainNursery() as nursery:
        nursery.start_soon(fail, task)
        await trio.lowlevel.cancel_shielded_checkpoint()
        if body is not None:
            raise body
        await trio.sleep_forever()


async def test_a_tasks_error_leaves_bare() -> None:
    error = ValueError("a bug of ours")
    with pytest.raises(ValueError, match="a bug of ours") as caught:
        await block_with_failing_task(error, None)
    assert caught.value is error


async def test_a_tasks_error_leaves_bare_where_it_cancels_a_nursery_of_the_body() -> None:
    error = ValueError("a bug of ours")

    async def block() -> None:
        async with PlainNursery() as outer, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            outer.start_soon(fail, error)

    with pytest.raises(ValueError, match="a bug of ours") as caught:
        await block()
    assert caught.value is error


async def test_two_errors_leave_together() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await block_with_failing_task(ValueError("the task's"), KeyError("the body's"))
    assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyError}


async def test_cancellation_from_outside_passes() -> None:
    with trio.CancelScope() as scope:
        async with PlainNursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
