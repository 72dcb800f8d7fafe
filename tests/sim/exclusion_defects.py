"""Clients with one defect each: what the ledger must find.

A defect is a small change of the product's own code, or of the clock that a client is given, for the length of a test.
"""

# A defect reaches into what it breaks.
# pyright: reportPrivateUsage=false, reportUnknownLambdaType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from terzetto.client._core import LapseGuard
from terzetto.client._proof import OwnershipProof
from terzetto.client._session import Session
from terzetto.recipes._ownership import GuardedTransaction, Ownership

from .exclusion import Plan, Run, draw_plan
from .stack_processes import Process

Function = Callable[..., Any]

# Owner, name of an attribute, and what makes the replacement of it.
Patch = tuple[Any, str, Callable[[Any], Any]]


@dataclass(frozen=True)
class Defect:
    """One defect.

    Attributes:
        name: what is wrong.
        breaks: the rules by which it may be found.
        patches: what has it.
        stress: makes a seed's plan one in which the defect can show itself often.
        clock_of: the clock that a client of a process is given.
        bound: seeds within which it must be found.
    """

    name: str
    breaks: tuple[str, ...]
    patches: tuple[Patch, ...] = ()
    stress: Callable[[Plan], Plan] = lambda plan: plan
    clock_of: Callable[[Process], Any] = lambda process: process
    bound: int = 60

    def run(self, seed: int) -> Run:
        """The run of a seed in which clients have the defect, once it is `present`."""
        return Run(seed, self.stress(draw_plan(seed)), self.clock_of)

    @contextmanager
    def present(self) -> Iterator[None]:
        """The code has the defect."""
        before = [(owner, name, vars(owner)[name]) for owner, name, _ in self.patches]
        try:
            for owner, name, replacement in self.patches:
                setattr(owner, name, replacement(vars(owner)[name]))
            yield
        finally:
            for owner, name, original in before:
                setattr(owner, name, original)


# Plans ----------------------------------------------------------------------------------------------------------------


def _of(
    recipe: str,
    *kinds: str,
    clients: int = 3,
    ticks: int | None = None,
    one_server: bool = False,
    quiet: bool = False,
) -> Callable[[Plan], Plan]:
    """One recipe and few kinds of faults."""

    def stress(plan: Plan) -> Plan:
        tick = plan.tick if ticks is None else plan.timeout / ticks
        plan = replace(plan, recipe=recipe, kinds=kinds, clients=clients, tick=tick, sync_limit=20)
        return replace(plan, one_server=one_server, quiet=quiet)

    return stress


# What proves ----------------------------------------------------------------------------------------------------------


def _proves(proof: OwnershipProof, now: float) -> None:
    """Takes it for granted that the leader knows of the session as of `now`."""
    proof.told_at = proof.proven_at = max(now, proof.proven_at)
    proof.deadline = max(proof.deadline, proof._end())


def _by_pings(receive_data: Function) -> Function:
    def receiving(session: Session, data: bytes, now: float) -> Any:
        _proves(session.proof, now)
        return receive_data(session, data, now)

    return receiving


def _by_reads(heard: Function) -> Function:
    def hearing(proof: OwnershipProof, sent_at: float, now: float) -> None:
        heard(proof, sent_at, now)
        if proof.proven_at > -inf:
            _proves(proof, sent_at)

    return hearing


def _over_a_reconnect(connecting: Function) -> Function:
    def dialled(proof: OwnershipProof, now: float) -> None:
        connecting(proof, now)
        if proof.proven_at > -inf:
            _proves(proof, now)

    return dialled


def _as_asked_for(negotiated: Function) -> Function:
    return lambda proof, timeout, now: negotiated(proof, 4 * timeout, now)


def _by_one_request(answered: Function) -> Function:
    def proving(proof: OwnershipProof, sent_at: float, xid: int, newest_xid: int) -> None:
        answered(proof, sent_at, xid, newest_xid)
        _proves(proof, sent_at)

    return proving


def _unseen(after_io_wait: Function) -> Function:
    return lambda guard, timeout: None


# What follows from the end --------------------------------------------------------------------------------------------


def _uncancelled(bind: Function) -> Function:
    return lambda owned, scope: None


def _unguarded(init: Function) -> Function:
    def make(transaction: GuardedTransaction, owners: Any) -> None:
        init(transaction, owners)
        transaction._inner = owners[0].client.transaction()
        transaction._owners = ()
        transaction._checked = []
        transaction.create = transaction._inner.create

    return make


def _by_sequence(init: Function) -> Function:
    def make(owned: Ownership, zk: Any, path: str, znode: str, stat: Any, terms: Any) -> None:
        init(owned, zk, path, znode, stat, terms)
        owned.fencing_token = int(znode[-10:])

    return make


class StoppingClock:
    """Stands still while its process is stopped, as CLOCK_MONOTONIC does while the machine sleeps."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now(self) -> float:
        """Seconds."""
        return self._process.now() - self._process.stopped_for


_NO_RENEWALS: Patch = (OwnershipProof, "renewal_due", lambda renewal_due: lambda proof: inf)
"""A server answers nothing behind a write that no quorum orders; who trusts pings has no need to write."""

_PROOFS = ("E1", "E2", "E3")

ONE_REQUEST = Defect(
    "one request proves, wherever the follower's reports are",
    _PROOFS,
    patches=((OwnershipProof, "answered", _by_one_request),),
)
"""Needs two faults in the right order within a moment, as in `test_exclusion_scenarios.py`: too rare to look for."""

DEFECTS = (
    Defect(
        "the deadline counts from pings",
        _PROOFS,
        patches=((Session, "receive_data", _by_pings), _NO_RENEWALS),
        stress=_of("Lock", "lone follower", ticks=8, quiet=True),
    ),
    Defect(
        "the deadline counts from reads",
        _PROOFS,
        patches=((OwnershipProof, "heard", _by_reads), _NO_RENEWALS),
        stress=_of("Lock", "lone follower", ticks=8, quiet=True),
    ),
    Defect(
        "a reconnect extends the deadline",
        _PROOFS,
        patches=((OwnershipProof, "connecting", _over_a_reconnect),),
        stress=_of("Lock", "island", ticks=8, one_server=True),
    ),
    Defect(
        "the clock stops while the process does",
        _PROOFS,
        clock_of=StoppingClock,
        stress=_of("Lock", "client sleeps", ticks=8),
    ),
    Defect(
        "a sleep of the machine is seen a while after it",
        _PROOFS,
        patches=((LapseGuard, "after_io_wait", _unseen),),
        stress=_of("Lock", "client sleeps", ticks=8),
    ),
    Defect(
        "the timeout that was asked for counts, and not the one that was granted",
        _PROOFS,
        patches=((OwnershipProof, "negotiated", _as_asked_for),),
        stress=_of("Lock", "cut client from all", ticks=8),
    ),
    Defect(
        "nothing cancels the body",
        _PROOFS,
        patches=((Ownership, "bind", _uncancelled),),
        stress=_of("Lock", "cut client from all", ticks=8),
    ),
    Defect(
        "guarded writes are not guarded",
        ("E4",),
        patches=((GuardedTransaction, "__init__", _unguarded),),
        stress=_of("Lock", "stop client", ticks=8),
    ),
    Defect(
        "the token is the sequence number",
        ("E5",),
        patches=((Ownership, "__init__", _by_sequence),),
        stress=_of("Lock below a container", "cut client from all", clients=2),
    ),
)
