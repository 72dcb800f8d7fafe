"""The transition table: nothing unreachable, nothing forgotten, and the session moves through it and no other way.

One scenario a row drives a real session over it; a new row without a scenario fails.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from terzetto.client._effects import SessionConfig
from terzetto.client._phases import TERMINAL, TRANSITIONS, Input, Phase
from terzetto.client.wire import Opcode
from terzetto.client.wire.operations import SYNC

from .server_link import Code, every
from .session_pair import SessionPair

SECRET = b"user:password"

DIAGRAM = """
DISCONNECTED  --LINK_UP-->      HANDSHAKING
DISCONNECTED  --REJECTED-->     EXPIRED
DISCONNECTED  --CLOSED-->       CLOSED
HANDSHAKING   --ACCEPTED-->     RESTORING
HANDSHAKING   --REJECTED-->     EXPIRED
HANDSHAKING   --LINK_LOST-->    DISCONNECTED
HANDSHAKING   --CLOSED-->       CLOSED
RESTORING     --RESTORED-->     CONNECTED
RESTORING     --AUTH_REFUSED--> AUTH_FAILED
RESTORING     --LINK_LOST-->    DISCONNECTED
RESTORING     --CLOSED-->       CLOSED
CONNECTED     --AUTH_REFUSED--> AUTH_FAILED
CONNECTED     --LINK_LOST-->    DISCONNECTED
CONNECTED     --CLOSED-->       CLOSED
EXPIRED       --RENEWED-->      DISCONNECTED
EXPIRED       --CLOSED-->       CLOSED
AUTH_FAILED   --CLOSED-->       CLOSED
"""


def draw() -> str:
    lines = [
        f"{before.name:<13} {f'--{moved.name}-->':<17} {after.name}"
        for before, row in TRANSITIONS.items()
        for moved, after in row.items()
    ]
    return "\n" + "\n".join(lines) + "\n"


def test_the_diagram_is_the_table() -> None:
    assert draw() == DIAGRAM


def test_every_phase_has_a_row_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(Phase)
    reached, pending = {Phase.DISCONNECTED}, [Phase.DISCONNECTED]
    while pending:
        for after in TRANSITIONS[pending.pop()].values():
            if after not in reached:
                reached.add(after)
                pending.append(after)
    assert reached == set(Phase)


def test_every_input_moves_something() -> None:
    assert {moved for row in TRANSITIONS.values() for moved in row} == set(Input)


def test_the_shell_can_end_the_session_in_every_phase() -> None:
    assert [phase for phase, row in TRANSITIONS.items() if row.get(Input.CLOSED) is not Phase.CLOSED] == [Phase.CLOSED]


def test_from_a_terminal_phase_no_connection_is_made() -> None:
    assert all(Input.LINK_UP not in TRANSITIONS[phase] for phase in TERMINAL)


# --- each row, on a real session


def _pair(
    *, auth: bool = False, unknown_session: bool = False, renew: bool = True, refused: frozenset[bytes] = frozenset()
) -> SessionPair:
    credentials = (("digest", SECRET),) if auth else ()
    client_id = (77, bytes(16)) if unknown_session else None
    pair = SessionPair(SessionConfig(auth=credentials, client_id=client_id, renew_session=renew))
    pair.refused_credentials = refused
    return pair


def _disconnected() -> SessionPair:
    return _pair()


def _handshaking() -> SessionPair:
    """The credential keeps the session in RESTORING for a while once it is accepted."""
    pair = _pair(auth=True)
    pair.link_up()
    return pair


def _restoring(refused: frozenset[bytes] = frozenset()) -> SessionPair:
    pair = _pair(auth=True, refused=refused)
    pair.link_up()
    pair.send()
    pair.receive()
    return pair


def _connected() -> SessionPair:
    pair = _pair()
    pair.connect()
    return pair


def _suspended(renew: bool) -> SessionPair:
    pair = _pair(renew=renew)
    pair.connect()
    pair.cut()
    return pair


def _rejected(renew: bool) -> SessionPair:
    pair = _pair(unknown_session=True, renew=renew)
    pair.link_up()
    return pair


def _expired() -> SessionPair:
    pair = _rejected(renew=False)
    pair.pump()
    return pair


def _auth_failed() -> SessionPair:
    pair = _restoring(refused=frozenset({SECRET}))
    pair.pump()
    return pair


def _ends(pair: SessionPair) -> None:
    pair.apply(pair.session.end())


def _loses_its_link(pair: SessionPair) -> None:
    pair.apply(pair.session.link_lost(None, pair.now))


def _is_refused_for_want_of_sasl(pair: SessionPair) -> None:
    pair.rules.append(every(Opcode.SYNC, Code(-124)))
    pair.call(SYNC, "/")


def _hears_from_the_server(pair: SessionPair) -> None:
    pair.send()
    pair.receive()


def _gives_up(pair: SessionPair) -> None:
    pair.apply(pair.session.give_up("no server"))


Scenario = tuple[Callable[[], SessionPair], Callable[[SessionPair], object]]

ROWS: dict[tuple[Phase, Input], Scenario] = {
    (Phase.DISCONNECTED, Input.LINK_UP): (_disconnected, lambda pair: pair.link_up()),
    (Phase.DISCONNECTED, Input.REJECTED): (lambda: _suspended(renew=False), _gives_up),
    (Phase.DISCONNECTED, Input.CLOSED): (_disconnected, _ends),
    (Phase.HANDSHAKING, Input.ACCEPTED): (_handshaking, _hears_from_the_server),
    (Phase.HANDSHAKING, Input.REJECTED): (lambda: _rejected(renew=False), lambda pair: pair.pump()),
    (Phase.HANDSHAKING, Input.LINK_LOST): (_handshaking, _loses_its_link),
    (Phase.HANDSHAKING, Input.CLOSED): (_handshaking, _ends),
    (Phase.RESTORING, Input.RESTORED): (_restoring, lambda pair: pair.pump()),
    (Phase.RESTORING, Input.AUTH_REFUSED): (lambda: _restoring(frozenset({SECRET})), lambda pair: pair.pump()),
    (Phase.RESTORING, Input.LINK_LOST): (_restoring, _loses_its_link),
    (Phase.RESTORING, Input.CLOSED): (_restoring, _ends),
    (Phase.CONNECTED, Input.AUTH_REFUSED): (_connected, _is_refused_for_want_of_sasl),
    (Phase.CONNECTED, Input.LINK_LOST): (_connected, _loses_its_link),
    (Phase.CONNECTED, Input.CLOSED): (_connected, _ends),
    (Phase.EXPIRED, Input.CLOSED): (_expired, _ends),
    (Phase.AUTH_FAILED, Input.CLOSED): (_auth_failed, _ends),
}
# A session that may be renewed leaves EXPIRED within the same call, so only its states show that it was there.
PASSING_THROUGH = {(Phase.EXPIRED, Input.RENEWED)}


def test_every_row_has_a_scenario() -> None:
    rows = {(before, moved) for before, row in TRANSITIONS.items() for moved in row}
    assert rows == set(ROWS) | PASSING_THROUGH


@pytest.mark.parametrize(("before", "moved"), ROWS)
def test_a_row(before: Phase, moved: Input) -> None:
    begin, act = ROWS[before, moved]
    pair = begin()
    assert pair.is_in(before)
    act(pair)
    assert pair.is_in(TRANSITIONS[before][moved])


RENEWED: list[Scenario] = [
    (lambda: _rejected(renew=True), lambda pair: pair.pump()),
    (lambda: _suspended(renew=True), _gives_up),
]


@pytest.mark.parametrize(("begin", "act"), RENEWED)
def test_a_session_that_may_be_renewed_passes_through_expired(
    begin: Callable[[], SessionPair], act: Callable[[SessionPair], object]
) -> None:
    pair = begin()
    act(pair)
    assert pair.is_in(Phase.DISCONNECTED)
    assert pair.states[-2:] == [("LOST", "EXPIRED_SESSION"), ("LOST", "CONNECTING")]
    pair.connect()
    assert pair.is_in(Phase.CONNECTED)


@pytest.mark.parametrize(
    "begin", [_handshaking, _restoring, _connected, _expired, _auth_failed], ids=lambda begin: begin.__name__
)
def test_an_illegal_move_raises_and_changes_nothing(begin: Callable[[], SessionPair]) -> None:
    pair = begin()
    before = pair.session.phase
    assert Input.LINK_UP not in TRANSITIONS[before]
    with pytest.raises(AssertionError, match=f"LINK_UP is not possible in phase {before.name}"):
        pair.session.link_up(pair.now, 1.0)
    assert pair.is_in(before)


def test_the_end_is_final() -> None:
    pair = _connected()
    _ends(pair)
    seen = len(pair.log)
    _ends(pair)
    _loses_its_link(pair)
    _gives_up(pair)
    pair.tick()
    assert len(pair.log) == seen
    with pytest.raises(AssertionError):
        pair.session.link_up(pair.now, 1.0)
    assert pair.is_in(Phase.CLOSED)
