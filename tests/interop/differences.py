"""Where this server answers otherwise than ZooKeeper 3.8.0 on purpose. Nothing else may differ.

Each row says what differs and why. `test_server_differences.py` shows for each that both servers really do as the row
says; `request_sequences.py` leaves out what would only show a row again, and `is_intended` forgives the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from terzetto.client.wire import Opcode

from .request_sequences import Step


class Difference(NamedTuple):
    """One intended difference.

    Attributes:
        name: what tests call it.
        there: what ZooKeeper 3.8.0 does.
        here: what this server does.
        why: the reason.
    """

    name: str
    there: str
    here: str
    why: str


DIFFERENCES: Sequence[Difference] = (
    Difference(
        "event-zxid",
        "notifications carry the zxid -1",
        "they carry the zxid of their transaction, and -1 only when setWatches fires them",
        "as 3.9 does; clients can tell what they have seen",
    ),
    Difference(
        "watch-modes",
        "one mode a connection and path: a standard watch turns a persistent one into a one-shot",
        "standard, persistent and recursive watches of one connection on one path are independent",
        "as 3.9 does (fixed 3.9.0)",
    ),
    Difference(
        "remove-by-kind",
        "removeWatches types 1 and 2 strip half of a persistent watch; 4 and 5 are answered -5",
        "1 and 2 take standard watches only, 4 and 5 persistent and recursive ones",
        "as 3.9 does",
    ),
    Difference(
        "check-watches",
        "checkWatches answers 0 when any session watches the path",
        "it answers for the caller's own watches",
        "as 3.9 does; the answer tells of others' watches",
    ),
    Difference(
        "exists-read",
        "exists gives the Stat to everyone",
        "exists needs READ, -102 without, and then leaves no watch",
        "as 3.8.4 and 3.9.2 do; the Stat leaks",
    ),
    Difference(
        "create2-in-multi",
        "create2 in a multi is answered as a create, without Stat",
        "it is answered with type 15 and the Stat",
        "as 3.8.2 and 3.9 do",
    ),
    Difference(
        "check-alone",
        "a check outside of a multi that succeeds is never answered",
        "-6, and the connection is closed",
        "as 3.8.5 and 3.9.3 do; a slot that hangs for ever helps nobody",
    ),
    Difference(
        "negative-ttl",
        "createTTL with a mode that has no TTL and a negative ttl ends the server, for good",
        "-8",
        "unfixed there; one request of any client takes the ensemble's data",
    ),
    Difference(
        "quota-limits-of-nothing",
        "a create of /zookeeper/quota/zookeeper_limits ends the server, for good: it ends at every later start too",
        "-8",
        "unfixed there; one request of any client takes the ensemble's data",
    ),
    Difference(
        "quota-statistics-of-no-numbers",
        "when statistics of a quota are set to no numbers, the next write below ends the server, for good",
        "-8 to who sets them",
        "unfixed there; two requests of any client take the ensemble's data",
    ),
    Difference(
        "wrong-password",
        "an attempt to re-attach closes the session's connection before the password is looked at",
        "only the right password moves a session",
        "unfixed there; the public id is enough to cut a client off",
    ),
    Difference(
        "session-password",
        "a session's password can be computed from its id",
        "it is an HMAC with a secret of the ensemble, except in `terzetto server` without sessionSecretFile",
        "unfixed there; the public id is enough to take a session over",
    ),
    Difference(
        "client-create-session",
        "opcode -10 from a client is answered by a second ConnectResponse",
        "-6, and the connection is closed",
        "no client can make sense of it",
    ),
    Difference(
        "client-delete-container",
        "opcode 20 from a client is taken for a write: -8 (its path is misread), which costs a zxid",
        "-6, and the connection is closed",
        "it belongs to the server's own sweep, which asks no ACL",
    ),
    Difference(
        "null-watch",
        "addWatch with a null path is answered 0 and leaves an entry that nobody can remove",
        "-5, and nothing is left",
        "a leak",
    ),
    Difference(
        "unknown-sasl-user",
        "a name that no user has is let in, and believed, with the password of the user who came last",
        "-115",
        "fixed later (ZOOKEEPER-4839); one password would be good for every name that has none",
    ),
    Difference(
        "in-order",
        "auth and sasl overtake the replies of earlier requests; an unknown opcode loses them",
        "every reply comes in the order of the requests, that of the request that ends the connection last",
        "kazoo counts on it, and others do not mind",
    ),
    Difference(
        "not-utf8",
        "bytes that are no UTF-8 become U+FFFD in a string: as a path -8, -101, an echo, or a watch on such a name",
        "-5, whatever the request",
        "two different names would become one",
    ),
    Difference(
        "multi-null-path",
        "a multi or multiRead with a null path is answered -5 and an empty list; the multi's zxid has no transaction",
        "-5 alone; the multi's zxid is that of an error transaction",
        "the log has no gaps",
    ),
    Difference(
        "quota-statistics-stat",
        "the Stat in the reply to create2 of a quota's statistics has the length of the data that was sent",
        "it has the length of what was put in its place",
        "the Stat of the znode that there is",
    ),
    Difference(
        "ipv6-acl",
        "an ACL with an IPv6 address is refused with -114",
        "it is taken, with or without a prefix length",
        "as 3.9.4 does",
    ),
)

_HERE_ONLY_NO_AUTH = -102


def is_intended(step: Step, there: Sequence[tuple[Any, ...]], here: Sequence[tuple[Any, ...]]) -> bool:
    """Whether what two servers answered to a step differs by `exists-read` only; the other rows cannot come up."""
    if step.opcode != Opcode.EXISTS or len(there) != 1 or len(here) != 1:
        return False
    (who, xid, zxid, err, _), (*same, code, body) = there[0], here[0]
    return [who, xid, zxid] == same and err == 0 and code == _HERE_ONLY_NO_AUTH and body is None
