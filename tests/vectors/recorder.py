"""Turns what a proxy saw into conversations with every frame explained, and writes them as JSON.

Decides the form of the files (README.md describes it). Refuses to drop, mask or change a byte: a frame whose
explanation does not encode to the very same bytes is not written.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.interop.proxy import CuttableProxy, RecordedFrame

from . import jute

FORM = 1
_REPLY_HEADER_LENGTH = 16


@dataclass
class Connection:
    """What the capture knows of one connection beyond its bytes.

    Attributes:
        name: what happens on it.
        comments: one for each frame of the client, in order; fewer are fine.
    """

    name: str
    comments: list[str] = field(default_factory=list[str])


def conversations(proxy: CuttableProxy, connections: dict[int, Connection]) -> list[dict[str, Any]]:
    """All connections of a proxy, explained, in the order in which clients made them."""
    result: list[dict[str, Any]] = []
    for number in range(proxy.accepted):
        frames = [frame for frame in proxy.frames if frame.connection == number]
        connection = connections.get(number, Connection(f"connection {number}"))
        if frames:
            explained = _Explanation(connection.comments).of(frames)
            result.append({"name": connection.name, "ended_by": proxy.ends.get(number), "frames": explained})
    return result


class _Explanation:
    """Reads one connection's frames in order; a reply needs its request to be understood."""

    def __init__(self, comments: Iterable[str]) -> None:
        self._comments = deque(comments)
        self._pending: list[tuple[int, int, str]] = []
        self._greeted = False
        self._answered = False

    def of(self, frames: Sequence[RecordedFrame]) -> list[dict[str, Any]]:
        explained: list[dict[str, Any]] = []
        for frame in frames:
            entry = self._request(frame.body) if frame.sender == "client" else self._answer(frame.body)
            explained.append({"from": frame.sender, **entry, "hex": frame.body.hex()})
            _require_same_bytes(explained[-1], frame.body)
        return explained

    def _request(self, body: bytes) -> dict[str, Any]:
        comment = self._comments.popleft() if self._comments else ""
        if not self._greeted:
            self._greeted = True
            return _entry("connect", comment or "handshake", None, "ConnectRequest", body, 0)
        header, offset = jute.decode("RequestHeader", body)
        operation = jute.OPERATIONS.get(header["type"])
        name = operation.name if operation else f"unknown {header['type']}"
        entry = _entry(name, comment, header, operation.request if operation else None, body, offset)
        fields: dict[str, Any] = entry["value"] or {}
        entry["comment"] = comment or f"{name} {fields.get('path') or ''}".rstrip()
        self._pending.append((header["xid"], header["type"], entry["comment"]))
        return entry

    def _answer(self, body: bytes) -> dict[str, Any]:
        if not self._answered:
            self._answered = True
            if len(body) > _REPLY_HEADER_LENGTH:
                return _entry("connect", "answer to the handshake", None, "ConnectResponse", body, 0)
            # A read-only server without local sessions refuses the handshake with a bare reply header.
            header, offset = jute.decode("ReplyHeader", body)
            return _entry("connect", "the handshake refused", header, None, body, offset)
        header, offset = jute.decode("ReplyHeader", body)
        if header["xid"] == -1:
            return _entry("notification", "a watch has fired", header, "WatcherEvent", body, offset)
        kind, comment = self._settle(header["xid"])
        operation = jute.OPERATIONS.get(kind)
        name = operation.name if operation else f"unknown {kind}"
        record = operation.response if operation else None
        if header["err"] != 0 and offset == len(body):
            record = None
        return _entry(name, f"answer: {comment}", header, record, body, offset)

    def _settle(self, xid: int) -> tuple[int, str]:
        """Finds the request that a reply answers: auth and sasl overtake, a ping's reply always bears -2."""
        for index, (pending_xid, kind, comment) in enumerate(self._pending):
            if pending_xid == xid or (xid == -2 and kind == 11):
                del self._pending[index]
                return kind, comment
        raise AssertionError(f"a reply with xid {xid} answers nothing: {self._pending}")


def _entry(
    operation: str, comment: str, header: dict[str, Any] | None, record: str | None, body: bytes, offset: int
) -> dict[str, Any]:
    return {"operation": operation, "comment": comment, "header": header, **_body(record, body, offset)}


def _body(record: str | None, body: bytes, offset: int) -> dict[str, Any]:
    if record is None:
        return {"record": None, "value": None, **_trailing(body, offset)}
    try:
        value, end = jute.decode(record, body, offset)
    except (jute.Malformed, KeyError) as error:
        # Only the raw client writes such frames, to see the server refuse them.
        return {"record": record, "value": None, "malformed": str(error)}
    return {"record": record, "value": value, **_trailing(body, end)}


def _trailing(body: bytes, end: int) -> dict[str, Any]:
    return {"trailing": body[end:]} if end < len(body) else {}


def _require_same_bytes(entry: dict[str, Any], body: bytes) -> None:
    if "malformed" in entry:
        return
    header = "RequestHeader" if entry["from"] == "client" else "ReplyHeader"
    again = b"" if entry["header"] is None else jute.encode(header, entry["header"])
    if entry["record"] is not None:
        again += jute.encode(entry["record"], entry["value"])
    again += entry.get("trailing", b"")
    if again != body and entry["from"] == "client":
        # Such as a bool of 7: readable, but nobody would write it so.
        entry["canonical"] = False
    elif again != body:
        raise AssertionError(f"{body.hex()} is explained as {entry}, which is {again.hex()}")


def write(path: Path, server: str, client: str, recorded: list[dict[str, Any]]) -> None:
    """Writes one vector file, a frame a line."""
    lines = [
        "{",
        f' "form": {FORM},',
        f' "server": {json.dumps(f"Apache ZooKeeper {server}")},',
        f' "client": {json.dumps(client)},',
        ' "conversations": [',
    ]
    for conversation in recorded:
        head = {key: value for key, value in conversation.items() if key != "frames"}
        lines.append(f'  {json.dumps(head, ensure_ascii=False)[:-1]}, "frames": [')
        frames = [json.dumps(frame, default=_hex, ensure_ascii=False) for frame in conversation["frames"]]
        lines.append(",\n".join(f"   {frame}" for frame in frames))
        lines.append("  ]}" + ("," if conversation is not recorded[-1] else ""))
    lines += [" ]", "}", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _hex(value: object) -> str:
    assert isinstance(value, bytes)
    return value.hex()
