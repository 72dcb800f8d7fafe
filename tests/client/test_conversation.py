"""A SASL conversation inside a session: mechanisms that take their time, and what happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from terzetto.client import AuthFailedError, ConnectionLoss, SaslMechanism
from terzetto.client._effects import SaslTurn, SessionConfig
from terzetto.client._phases import Phase
from terzetto.client.wire import Opcode
from terzetto.client.wire.operations import EXISTS

from .server_link import Fault, every
from .session_pair import SessionPair


class Slow:
    """A mechanism that may wait for something outside, and says what it is told to."""

    blocks = True

    def __init__(self) -> None:
        self.says: bytes | Exception | None = b"hello"

    def _say(self) -> bytes | None:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def initial(self) -> bytes:
        return self._say() or b""

    def respond(self, challenge: bytes | None) -> bytes | None:
        return self._say()


class Names:
    """Makes mechanisms, and remembers for which servers."""

    def __init__(self, make: Callable[[], SaslMechanism]) -> None:
        self.asked: list[str] = []
        self._make = make

    def __call__(self, server: str) -> SaslMechanism:
        self.asked.append(server)
        return self._make()


def connecting(make: Callable[[], SaslMechanism]) -> tuple[SessionPair, Names]:
    """A session that has been accepted and must identify itself; the server keeps silent about that."""
    names = Names(make)
    pair = SessionPair(SessionConfig(sasl=names))
    pair.rules.append(every(Opcode.SASL, Fault.IGNORE))
    pair.session.server_name = "zk1.example.org"
    pair.link_up()
    pair.send()
    pair.receive()
    return pair, names


def turn_of(pair: SessionPair) -> SaslTurn:
    turn = pair.log.pop()
    assert isinstance(turn, SaslTurn)
    return turn


def test_a_turn_that_may_wait_is_taken_by_the_shell() -> None:
    pair, names = connecting(Slow)
    assert names.asked == ["zk1.example.org"]
    turn = turn_of(pair)
    assert turn.blocks
    assert not pair.session.queue.has_output
    pair.apply(pair.session.sasl_turn_taken(turn, turn.take()))
    assert pair.session.queue.take(1000) != b""
    # Its outcome counts once.
    pair.apply(pair.session.sasl_turn_taken(turn, None))
    assert pair.is_in(Phase.RESTORING)


def test_the_outcome_of_a_turn_of_a_lost_connection_changes_nothing() -> None:
    pair, _ = connecting(Slow)
    turn = turn_of(pair)
    pair.cut()
    pair.apply(pair.session.sasl_turn_taken(turn, None))
    assert pair.is_in(Phase.DISCONNECTED)
    pair.link_up()
    pair.send()
    pair.receive()
    later = turn_of(pair)
    pair.apply(pair.session.sasl_turn_taken(turn, AuthFailedError("too late")))
    assert pair.is_in(Phase.RESTORING)
    pair.apply(pair.session.sasl_turn_taken(later, None))
    assert pair.is_in(Phase.CONNECTED)


@pytest.mark.parametrize(
    ("error", "phase", "expected", "text"),
    [
        (AuthFailedError("no ticket"), Phase.AUTH_FAILED, AuthFailedError, "no ticket"),
        (RuntimeError("a bug"), Phase.AUTH_FAILED, AuthFailedError, "a bug"),
        (TimeoutError("no Kerberos server"), Phase.DISCONNECTED, ConnectionLoss, "no Kerberos server"),
    ],
)
def test_what_a_failed_turn_means(error: Exception, phase: Phase, expected: type[Exception], text: str) -> None:
    mechanism = Slow()
    mechanism.says = error
    pair, _ = connecting(lambda: mechanism)
    waiting = pair.submit(EXISTS, "/", False)
    turn = turn_of(pair)
    pair.apply(pair.session.sasl_turn_taken(turn, turn.take()))
    assert isinstance(pair.dropped, expected)
    assert text in str(pair.dropped)
    pair.cut(pair.dropped)
    assert pair.is_in(phase)
    # Who waits is told where nothing else can help, and goes on waiting where something may.
    assert isinstance(waiting.error, AuthFailedError) == (phase is Phase.AUTH_FAILED)


def test_a_mechanism_that_cannot_be_made_is_a_refusal() -> None:
    def make() -> SaslMechanism:
        raise RuntimeError("no such thing")

    pair, _ = connecting(make)
    assert pair.is_in(Phase.AUTH_FAILED)
    assert "cannot be made: RuntimeError('no such thing')" in str(pair.dropped)


def test_nothing_is_sent_before_the_end_not_even_a_ping() -> None:
    """A server that demands SASL takes any request before it for a refusal to identify."""
    pair, _ = connecting(Slow)
    pair.submit(EXISTS, "/", False)
    accepted_at = pair.now
    while pair.dropped is None:
        pair.now = max(pair.session.next_deadline(), pair.now)
        # Were a ping due and not sent, the shell would go round without a pause.
        assert pair.now > accepted_at
        pair.tick()
        assert not pair.session.queue.has_output
    assert "nothing heard" in str(pair.dropped)
    assert pair.now - accepted_at == pytest.approx(pair.session.timeout * 2 / 3)


@pytest.mark.parametrize(("err", "text"), [(-115, "(-115)"), (-124, "(-124)"), (-5, "MarshallingError")])
def test_a_refusal_says_which(err: int, text: str) -> None:
    mechanism = Slow()
    pair, _ = connecting(lambda: mechanism)
    turn = turn_of(pair)
    pair.apply(pair.session.sasl_turn_taken(turn, turn.take()))
    pair.send()
    assert pair.server is not None
    pair.server.take()
    pair.server.reply(pair.server.received[-1].xid, 0, err, b"")
    pair.receive()
    assert pair.is_in(Phase.AUTH_FAILED)
    assert text in str(pair.dropped)


def test_turns_show_no_token() -> None:
    mechanism = Slow()
    assert "hello" not in repr(SaslTurn(mechanism, b"hello"))
