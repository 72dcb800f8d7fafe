"""A SASL conversation as the session leads it: whose turn it is, and what each outcome means. Sans-IO.

Decides what a server's answer says of the conversation. Refuses to know any mechanism: tokens are bytes to it, and a
turn that may wait for something outside is handed to the shell, which takes it in a thread.
"""

from __future__ import annotations

from collections.abc import Callable

from ._effects import SaslMechanism, SaslTurn, TurnOutcome
from ._pending import Request
from .errors import AuthFailedError, KazooException, SessionClosedRequireSaslError
from .wire.operations import SASL


class SaslConversation:
    """The client's half of the conversation on one connection.

    Args:
        next_xid: the number of the next token.
        say: queues a token's request, or has the shell take a turn.
        ended: told once: `None` when the mechanism is content, else why not. `AuthFailedError` is final, anything else
            is the connection's fault.
    """

    def __init__(
        self,
        next_xid: Callable[[], int],
        say: Callable[[Request | SaslTurn], None],
        ended: Callable[[KazooException | None], None],
    ) -> None:
        self._next_xid = next_xid
        self._say = say
        self._ended = ended
        self._mechanism: SaslMechanism
        self._turn: SaslTurn | None = None

    def begin(self, make: Callable[[str], SaslMechanism], server_name: str) -> None:
        """Takes the first turn, of a mechanism made for this server."""
        try:
            self._mechanism = make(server_name)
        except Exception as error:  # noqa: BLE001 - the mechanism is not ours; whatever it cannot do is a refusal
            self._ended(AuthFailedError(f"the SASL mechanism cannot be made: {error!r}"))
        else:
            self._take(SaslTurn(self._mechanism, None, is_first=True))

    def _take(self, turn: SaslTurn) -> None:
        self._turn = turn
        if turn.blocks:
            self._say(turn)
        else:
            self.taken(turn, turn.take())

    def taken(self, turn: SaslTurn, outcome: TurnOutcome) -> None:
        """A turn is over. One that is no longer awaited (the connection went meanwhile) changes nothing."""
        if turn is not self._turn:
            return
        self._turn = None
        if outcome is None or isinstance(outcome, KazooException):
            self._ended(outcome)
        else:
            xid = self._next_xid()
            request = Request(SASL, xid, SASL.frame(xid, outcome))
            request.after = self._answered
            self._say(request)

    def _answered(self, request: Request, zxid: int) -> None:
        error = request.error
        if error is None:
            self._take(SaslTurn(self._mechanism, request.value.token))
        elif isinstance(error, AuthFailedError | SessionClosedRequireSaslError):
            self._ended(AuthFailedError(f"the server refused the SASL credentials ({error.code})"))
        else:
            self._ended(AuthFailedError(f"the server refused the SASL conversation: {error!r}"))
