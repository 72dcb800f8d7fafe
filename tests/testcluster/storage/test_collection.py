"""The collector stands still inside, and runs again behind, whatever happened."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from terzetto.testcluster.storage.collection import no_collection


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


def test_it_stands_still_inside_and_runs_behind() -> None:
    with no_collection():
        assert not gc.isenabled()
        with no_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_runs_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="damaged"), no_collection():
        raise ValueError("damaged")
    assert gc.isenabled()


def test_it_stays_off_where_the_program_wants_none() -> None:
    gc.disable()
    with no_collection():
        pass
    assert not gc.isenabled()


def test_overlapping_threads_leave_it_running() -> None:
    first, second = no_collection(), no_collection()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert gc.isenabled()
