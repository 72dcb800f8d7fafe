"""Golden frames: what real ZooKeeper peers sent, and what each frame says. README.md describes the files.

`frames()` is what a test needs. Decides how the files are read; refuses to know any codec.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Frame:
    """One captured frame, explained.

    Attributes:
        name: unique among all frames, fit for a test's id: file, conversation and index, as in "raw-nodes-0-12".
        sender: who sent it.
        operation: the opcode's name as in ZooKeeper's own code; "connect", "notification" or "unknown 77".
        comment: what it is about.
        header: the fields of RequestHeader or ReplyHeader; None in a handshake.
        record: the record after the header; None if nothing follows.
        value: the record's fields by their snake_case names, buffers in hex; None where `record` is, or if malformed.
        body: the frame's bytes, without the length prefix.
        trailing: bytes after the record, which receivers ignore.
        malformed: why the body cannot be read as the record; None if it can.
        canonical: False if the fields would be written with other bytes.
    """

    name: str
    sender: Literal["client", "server"]
    operation: str
    comment: str
    header: dict[str, int] | None
    record: str | None
    value: dict[str, Any] | None
    body: bytes
    trailing: bytes
    malformed: str | None
    canonical: bool


def conversations() -> Iterator[list[Frame]]:
    """Each captured connection's frames, in the order in which they were sent."""
    for path in sorted(FOLDER.glob("*.json")):
        for number, conversation in enumerate(json.loads(path.read_text(encoding="utf-8"))["conversations"]):
            yield [_frame(f"{path.stem}-{number}-{i}", entry) for i, entry in enumerate(conversation["frames"])]


def frames() -> list[Frame]:
    """All frames of all files."""
    return [frame for conversation in conversations() for frame in conversation]


def _frame(name: str, entry: dict[str, Any]) -> Frame:
    return Frame(
        name=name,
        sender=entry["from"],
        operation=entry["operation"],
        comment=entry["comment"],
        header=entry["header"],
        record=entry["record"],
        value=entry["value"],
        body=bytes.fromhex(entry["hex"]),
        trailing=bytes.fromhex(entry.get("trailing", "")),
        malformed=entry.get("malformed"),
        canonical=entry.get("canonical", True),
    )
