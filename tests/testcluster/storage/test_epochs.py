"""acceptedEpoch and currentEpoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from terzetto.testcluster.storage.epochs import EpochFiles
from terzetto.testcluster.storage.errors import DataDirectoryError

E3 = 3 << 32


def loaded(directory: Path, last_zxid: int = 0, *, replicated: bool = False) -> tuple[int, int]:
    epochs = EpochFiles(directory, replicated=replicated)
    epochs.load(last_zxid)
    return epochs.accepted, epochs.current


def test_they_are_zookeepers_files(tmp_path: Path) -> None:
    epochs = EpochFiles(tmp_path, replicated=True)
    epochs.write_accepted(7)
    epochs.write_current(5)
    assert (tmp_path / "acceptedEpoch").read_bytes() == b"7"
    assert (tmp_path / "currentEpoch").read_bytes() == b"5"
    assert len(list(tmp_path.iterdir())) == 2
    assert loaded(tmp_path) == (7, 5)


def test_missing_files_stand_for_the_last_transaction(tmp_path: Path) -> None:
    assert loaded(tmp_path) == (0, 0)
    assert loaded(tmp_path, E3 + 9) == (3, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_current_epoch_below_the_log_is_raised(tmp_path: Path) -> None:
    (tmp_path / "acceptedEpoch").write_text("5")
    (tmp_path / "currentEpoch").write_text("1\n")
    assert loaded(tmp_path, E3 + 1) == (5, 3)
    (tmp_path / "acceptedEpoch").write_text("1")
    assert loaded(tmp_path, E3 + 1) == (3, 3)


def test_a_member_of_an_ensemble_writes_down_what_the_log_has_raised(tmp_path: Path) -> None:
    assert loaded(tmp_path, replicated=True) == (0, 0)
    assert list(tmp_path.iterdir()) == []
    assert loaded(tmp_path, E3 + 1, replicated=True) == (3, 3)
    # The log was cut.
    assert loaded(tmp_path, 1, replicated=True) == (3, 3)
    (tmp_path / "currentEpoch").write_text("1")
    assert loaded(tmp_path, E3 + 1, replicated=True) == (3, 3)
    assert (tmp_path / "currentEpoch").read_text() == "3"


def test_no_epoch_is_written_for_a_server_without_data(tmp_path: Path) -> None:
    assert loaded(tmp_path, -1, replicated=True) == (-1, -1)
    assert list(tmp_path.iterdir()) == []


def test_an_accepted_epoch_below_the_current_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "acceptedEpoch").write_text("1")
    (tmp_path / "currentEpoch").write_text("2")
    with pytest.raises(DataDirectoryError, match="acceptedEpoch holds 1, which is less than the 2 in currentEpoch"):
        loaded(tmp_path)


@pytest.mark.parametrize("content", [b"", b"three", b"1 2", b"\xff"])
def test_a_file_without_a_number_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "currentEpoch").write_bytes(content)
    with pytest.raises(DataDirectoryError, match="currentEpoch holds no epoch"):
        loaded(tmp_path)


def test_promises_are_never_taken_back(tmp_path: Path) -> None:
    epochs = EpochFiles(tmp_path, replicated=True)
    epochs.write_accepted(4)
    with pytest.raises(ValueError, match="smaller than 4"):
        epochs.write_accepted(3)
    with pytest.raises(ValueError, match="not between 0 and 4"):
        epochs.write_current(5)
    epochs.write_current(4)
    with pytest.raises(ValueError, match="not between 4 and 4"):
        epochs.write_current(3)
    assert loaded(tmp_path) == (4, 4)
