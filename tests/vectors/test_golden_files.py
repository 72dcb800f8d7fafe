"""The golden files are whole: every frame is what its explanation says, and no operation or client is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from . import FOLDER, Frame, conversations, frames, jute


def _normal(value: Any) -> Any:
    """As JSON holds it."""
    return json.loads(json.dumps(value, default=bytes.hex))


@pytest.mark.parametrize("frame", frames(), ids=lambda frame: frame.name)
def test_a_frame_is_what_its_explanation_says(frame: Frame) -> None:
    header = "RequestHeader" if frame.sender == "client" else "ReplyHeader"
    offset = 0
    if frame.header is not None:
        fields, offset = jute.decode(header, frame.body)
        assert fields == frame.header
    if frame.record is None:
        assert frame.value is None
    elif frame.malformed is not None:
        with pytest.raises(jute.Malformed):
            jute.decode(frame.record, frame.body, offset)
        return
    else:
        value, offset = jute.decode(frame.record, frame.body, offset)
        assert _normal(value) == frame.value
    assert frame.body[offset:] == frame.trailing


def test_every_operation_was_asked_for_and_answered() -> None:
    # check travels inside multi only: alone, 3.8.0 never answers it.
    names = {operation.name for operation in jute.OPERATIONS.values()} - {"check"}
    for sender in ("client", "server"):
        assert {frame.operation for frame in frames() if frame.sender == sender} >= names


def test_every_record_occurs_with_a_value() -> None:
    # Headers are read by hand, multi's operations inside their record.
    nested = {"RequestHeader", "ReplyHeader", "MultiHeader", "CheckVersionRequest"}
    assert {frame.record for frame in frames() if frame.value is not None} >= set(jute.RECORDS) - nested


def test_every_error_that_a_server_can_be_made_to_answer_occurs() -> None:
    codes = {frame.header["err"] for frame in frames() if frame.sender == "server" and frame.header is not None}
    assert codes >= {
        *(-5, -6, -8, -13),
        *(-101, -102, -103, -108, -110, -111, -114, -115, -119, -120, -121, -123, -124, -125),
    }


def test_a_server_answers_only_what_was_asked() -> None:
    for conversation in conversations():
        xids: list[int] = []
        for frame in conversation:
            if frame.sender == "client" and frame.header is not None:
                xids.append(-2 if frame.operation == "ping" else frame.header["xid"])
            elif frame.header is not None and frame.operation not in ("notification", "connect"):
                xids.remove(frame.header["xid"])


def test_the_files_stay_small_and_know_their_peers() -> None:
    files = sorted(FOLDER.glob("*.json"))
    assert sum(path.stat().st_size for path in files) < 300_000
    for path in files:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["form"] == 1
        assert content["server"].startswith("Apache ZooKeeper 3.")
    assert {path.stem for path in files} >= {"java", "java-sasl", "c", "kazoo"}
