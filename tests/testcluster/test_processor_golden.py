"""What clients once said to Apache ZooKeeper 3.8.0 is said to this server: it must answer alike, frame for frame.

The frames are explained by the vectors' own reading of the protocol, not by terzetto's codec. Masked are clocks, ids of
sessions and their passwords, the order of what has no order, and the differences that are on purpose: they are named in
`_on_purpose` and `MEANT_ERRORS`.
"""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest

from terzetto.testcluster.ids import PASSWORD_SIZE
from tests.vectors import Frame, conversations, jute

from .port import Port, framed

SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
SETTINGS: dict[str, dict[str, Any]] = {
    "raw-nodes": {"extended_types": True},
    "raw-multi": {"extended_types": True},
    "raw-watches": {},
    "raw-quota": {"enforce_quota": True},
    "raw-sessions": {"tick_ms": 300, "max_session_timeout_ms": 60_000},
    "raw-auth": {"digest_super": SUPER},
    "raw-unsupported": {"reconfig_enabled": True},
    "raw-refusals": {},
    "raw-authentication-enforced": {"required_schemes": ("digest",)},
    "java": {"extended_types": True},
    "kazoo": {"extended_types": True},
    "c": {"extended_types": True},
}
MEANT_ERRORS = {
    # removeWatches as in 3.9: type 4 removes a persistent watch, which types 1, 2 and 3 then do not find.
    "raw-watches-1-29": 0,
    "raw-watches-1-31": -121,
    "raw-watches-1-33": -121,
    "raw-watches-1-35": -121,
}
_UNORDERED = ("children", "ephemerals", "client_info", "acl")
_SESSION_FIELDS = struct.Struct(">iqiqi")


def _conversations(file: str) -> list[list[Frame]]:
    return [frames for frames in conversations() if frames[0].name.rpartition("-")[0].rpartition("-")[0] == file]


class Mask:
    """Turns what differs between two runs into what does not."""

    def __init__(self) -> None:
        self.sessions: dict[int, int] = {}

    def fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: self.value(item, name) for name, item in fields.items()}

    def value(self, value: Any, key: str = "") -> Any:
        if isinstance(value, bytes):
            value = value.hex()
        if isinstance(value, dict):
            return self.fields(cast("dict[str, Any]", value))
        if key == "stat" and value is not None:
            czxid, mzxid, ctime, mtime, *rest = value
            rest[3] = self.session(rest[3])
            return [czxid, mzxid, bool(ctime), bool(mtime), *rest]
        if key == "session_id":
            return self.session(cast("int", value))
        if key == "passwd":
            password = cast("str", value)
            return len(password), set(password) == {"0"}
        if not isinstance(value, list):
            return value
        masked = [self.value(item) for item in cast("list[Any]", value)]  # type: ignore[redundant-cast]
        return sorted(masked, key=repr) if key in _UNORDERED else masked

    def session(self, session_id: int) -> int:
        return 0 if session_id == 0 else self.sessions.setdefault(session_id, len(self.sessions) + 1)


class Explained:
    """A server's frame as (operation, header, value), masked."""

    def __init__(self, mask: Mask, operation: str, header: dict[str, Any] | None, value: Any) -> None:
        self.operation = operation
        self.header = None if header is None else dict(header)
        self.value = mask.value(value)

    def __repr__(self) -> str:
        return f"{self.operation} {self.header} {self.value}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Explained) and repr(self) == repr(other)

    __hash__ = None  # type: ignore[assignment]


def _on_purpose(explained: Explained) -> Explained:
    """Undoes the differences to 3.8.0 that are meant."""
    if explained.operation == "notification" and explained.header is not None:
        # Since 3.9 with the zxid of its transaction.
        explained.header["zxid"] = -1
    if explained.operation == "multi" and explained.value is not None:
        for result in explained.value["operations"]:
            # A create2 in a multi is answered as one since 3.7.2 and 3.8.2.
            if result["type"] == 15:
                result |= {"type": 1, "record": "CreateResponse"}
                result["value"].pop("stat", None)
    return explained


def _explain(mask: Mask, body: bytes, asked: list[tuple[int, int]]) -> Explained:
    header, offset = jute.decode("ReplyHeader", body)
    if header["xid"] == -1:
        return _on_purpose(Explained(mask, "notification", header, jute.decode("WatcherEvent", body, offset)[0]))
    number = next(
        i for i, (xid, kind) in enumerate(asked) if xid == header["xid"] or (kind == 11 and header["xid"] == -2)
    )
    _, kind = asked.pop(number)
    operation = jute.OPERATIONS.get(kind)
    name = operation.name if operation else f"unknown {kind}"
    value = None
    if operation is not None and operation.response is not None and offset < len(body):
        value, end = jute.decode(operation.response, body, offset)
        assert end == len(body)
    else:
        assert offset == len(body)
    return _on_purpose(Explained(mask, name, header, value))


class Replay:
    """Says a recorded conversation to a server of ours."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.recorded, self.ours = Mask(), Mask()
        self.sessions: dict[int, tuple[int, bytes]] = {}
        self.passwords: dict[int, bytes] = {}

    def run(self, frames: list[Frame]) -> None:
        peer = self.port.open()
        asked: list[tuple[int, int]] = []
        sent = [self._sent(frame) for frame in frames if frame.sender == "client"]
        for body in sent[1:]:
            asked.append(struct.unpack_from(">ii", body) if len(body) >= 8 else (0, 0))
        for body in sent:
            peer.send(framed(body))
        expected = [frame for frame in frames if frame.sender == "server"]
        if expected and expected[0].operation == "connect":
            self._compare_handshakes(expected.pop(0), peer.frames.pop(0))
        answers = [_explain(self.ours, body, asked) for body in peer.frames]
        for frame, answer in zip(expected, answers, strict=False):
            header = frame.header
            if header is not None and frame.name in MEANT_ERRORS:
                header = {**header, "err": MEANT_ERRORS[frame.name]}
            recorded = _on_purpose(Explained(self.recorded, frame.operation, header, frame.value))
            assert repr(answer) == repr(recorded), f"{frame.name}: {frame.comment}"
        # The C client does not wait for the answer to its closeSession.
        assert [answer.operation for answer in answers[len(expected) :]] in ([], ["closeSession"])
        assert len(answers) >= len(expected), expected[len(answers) :]
        if not peer.closed:
            peer.hang_up()

    def _sent(self, frame: Frame) -> bytes:
        if frame.operation != "connect":
            return frame.body
        version, last_zxid, timeout, session_id, size = _SESSION_FIELDS.unpack_from(frame.body)
        if session_id in self.sessions:
            ours, password = self.sessions[session_id]
            recorded_password = frame.body[_SESSION_FIELDS.size :][:PASSWORD_SIZE]
            if recorded_password != self.passwords[session_id]:
                password = recorded_password
            rest = frame.body[_SESSION_FIELDS.size + PASSWORD_SIZE :]
            return _SESSION_FIELDS.pack(version, last_zxid, timeout, ours, size) + password + rest
        return frame.body

    def _compare_handshakes(self, frame: Frame, answer: bytes) -> None:
        ours, end = jute.decode("ConnectResponse", answer)
        assert end == len(answer)
        assert frame.value is not None
        recorded = frame.value
        self.passwords[recorded["session_id"]] = bytes.fromhex(recorded["passwd"])
        self.sessions[recorded["session_id"]] = (ours["session_id"], ours["passwd"])
        assert self.ours.value(ours) == self.recorded.value(recorded), frame.name


@pytest.mark.parametrize("file", SETTINGS)
def test_recorded_conversations_go_the_same_way(file: str) -> None:
    found = _conversations(file)
    assert found
    terms: dict[str, Any] = {"tick_ms": 300, "max_session_timeout_ms": 60_000, **SETTINGS[file]}
    replay = Replay(Port(None, **terms))
    for frames in found:
        replay.run(frames)
    assert replay.port.tree.digest_mismatches == 0
