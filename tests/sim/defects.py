"""Servers with one defect each, most of them bugs that ZooKeeper had: what the checkers must find.

A defect is a small change of the product's own code, or of the disk below it, for the length of a test. Each says which
bug it re-enacts; the numbers are ZooKeeper's issues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from terzetto.client.wire import Opcode
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.election import Election, Vote
from terzetto.testcluster.history import History, Meeting
from terzetto.testcluster.ids import counter_of
from terzetto.testcluster.leader import Leading as Leader
from terzetto.testcluster.leader_duties import LeaderDuties
from terzetto.testcluster.learner import Learning as Learner
from terzetto.testcluster.learner_link import LinkPhase
from terzetto.testcluster.proposals import Proposals
from terzetto.testcluster.ready import AppendTxns, Ready, Role, WriteAcceptedEpoch, WriteCurrentEpoch
from terzetto.testcluster.sessions import SessionTracker

from .disk import Disk, SyncedLater
from .plan import Plan, draw_plan
from .server import SimulatedServer
from .simulation import Simulation
from .world import MILLISECOND, SECOND, World

Function = Callable[..., Any]

# Class, name of a method, and what makes the method's replacement of it.
Patch = tuple[type[Any], str, Callable[[Function], Function]]


@dataclass(frozen=True)
class Defect:
    """One defect.

    Attributes:
        name: what is wrong.
        breaks: the rules by which it may be found.
        bug: which bug of ZooKeeper's it is, or is near to; "" where it is none of them.
        server_class: servers that have it.
        patches: methods that have it.
        stress: makes a seed's plan one in which the defect can show itself often.
        bound: seeds within which it must be found.
    """

    name: str
    breaks: tuple[str, ...]
    bug: str = ""
    server_class: type[SimulatedServer] = SimulatedServer
    patches: tuple[Patch, ...] = ()
    stress: Callable[[Plan], Plan] | None = None
    bound: int = 60

    def simulation(self, seed: int) -> Simulation:
        """The run of a seed in which servers have the defect, once it is `present`."""
        plan = draw_plan(World(seed).chance("plan"))
        return Simulation(seed, plan=plan if self.stress is None else self.stress(plan), server_class=self.server_class)

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


def _leaders_stand_still(plan: Plan) -> Plan:
    """Leaders are deposed without knowing, and have clients that write nothing themselves."""
    return replace(
        plan,
        clients=4,
        tick_ms=100,
        sync_limit=3,
        faults=("pause leader",),
        fault_gap=400 * MILLISECOND,
        duration=9 * SECOND,
        client_timeout_ms=(8000,) * 4,
        client_pause=(60 * MILLISECOND,) * 4,
        client_reads=(False, True, True, True),
    )


def _leaders_are_cut_off(plan: Plan) -> Plan:
    """Leaders log what is never committed, die, and come back as candidates."""
    faults = ("isolate leader", "crash leader", "crash", "blackout")
    return replace(plan, faults=faults, fault_gap=200 * MILLISECOND, duration=9 * SECOND)


def _clients_wander(plan: Plan) -> Plan:
    """Clients change their server while their requests are under way."""
    faults = ("client leaves", "slow link", "one way")
    return replace(plan, faults=faults, fault_gap=50 * MILLISECOND, duration=9 * SECOND)


# The disk, and its order.


class _Impatient(SimulatedServer):
    """Calls some of what it has just begun to write durable."""

    def _trusts(self, ready: Ready) -> bool:
        raise NotImplementedError

    def _write(self, ready: Ready) -> None:
        super()._write(ready)
        if self._trusts(ready):
            self.world.after(0, self._durable, ready.number)


class _AcknowledgesBeforeSync(_Impatient):
    def _trusts(self, ready: Ready) -> bool:
        return not self.leads and all(isinstance(write, AppendTxns) for write in ready.writes)


class _CountsItselfBeforeSync(_Impatient):
    def _trusts(self, ready: Ready) -> bool:
        return self.leads


class _FollowsBeforeSync(_Impatient):
    def _trusts(self, ready: Ready) -> bool:
        return any(isinstance(write, WriteCurrentEpoch) for write in ready.writes)


class _PromisesBeforeSync(_Impatient):
    def _trusts(self, ready: Ready) -> bool:
        return any(isinstance(write, WriteAcceptedEpoch) for write in ready.writes)


class _KeepsItsTree(SimulatedServer):
    def _replaced(self) -> None:
        self.disk.recover(DataTree())
        self.ledger.loaded(self.sid, self.tree, 0)


class _CutsLogOnly(SyncedLater):
    def truncate_to(self, zxid: int) -> None:
        kept = dict(self._snapshots)
        super().truncate_to(zxid)
        self._snapshots = kept


class _CutsLogOnlyDisk(Disk):
    storage_class = _CutsLogOnly


class _SnapshotsAnything(SimulatedServer):
    disk_class = _CutsLogOnlyDisk

    def _become(self, role: Role) -> None:
        super()._become(role)
        # As ZooKeeper does when it begins to lead, before anybody follows.
        self.role = role._replace(may_snapshot=True)
        if not role.serving:
            self.snapshot()


class _CutsOneMore(SyncedLater):
    def truncate_to(self, zxid: int) -> None:
        super().truncate_to(self.floor_zxid(zxid - 1) or zxid)


class _CutsOneMoreDisk(Disk):
    storage_class = _CutsOneMore


class _TruncatesOneMore(SimulatedServer):
    disk_class = _CutsOneMoreDisk


class _LosesLast(SyncedLater):
    def crash(self, survivors: int = 0) -> None:
        self._synced = max(0, self._synced - 1)
        super().crash(survivors)


class _LosesLastDisk(Disk):
    storage_class = _LosesLast


class _SyncsNothing(SimulatedServer):
    disk_class = _LosesLastDisk


# Zab. The arguments are those of the methods that are replaced.


def _by_sid(_: Function) -> Function:
    def beats(_self: Any, new: Vote, current: Vote) -> bool:
        return new.leader > current.leader

    return beats


def _by_counter_first(_: Function) -> Function:
    def beats(_self: Any, new: Vote, current: Vote) -> bool:
        return _counter_first(new) > _counter_first(current)

    return beats


def _counter_first(vote: Vote) -> tuple[int, int, int]:
    return counter_of(vote.zxid), vote.peer_epoch, vote.leader


def _on_first_ack(_: Function) -> Function:
    def take_committed(self: Any) -> list[Any]:
        committed: list[Any] = []
        while len(self) and self._outstanding[0].acks:
            committed.append(self._outstanding.popleft().entry)
            self.last_committed = committed[-1].zxid
        return committed

    return take_committed


def _commits_at_once(original: Function) -> Function:
    def propose(self: Any, payload: bytes | None, *, is_committed: bool) -> None:
        original(self, payload, is_committed=is_committed)
        self._commit(self._last)

    return propose


def _knows_every_zxid(original: Function) -> Function:
    def meeting(self: Any, zxid: int, *arguments: Any) -> Meeting:
        found: Meeting = original(self, zxid, *arguments)
        return Meeting(zxid, is_ahead=False) if 0 < zxid <= self.last_logged and found.is_ahead else found

    return meeting


def _misses_the_last(original: Function) -> Function:
    def between(self: Any, after: int, last: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = original(self, after, last)
        return found[:-1]

    return between


def _epoch_before_history(original: Function) -> Function:
    def append(self: Any) -> None:
        # The transactions wait until the epoch is written.
        self._local.enter_epoch(self.epoch)
        self._local.outbox.when_durable(lambda: original(self))

    return append


def _with_anyone(original: Function) -> Function:
    def count_synced(self: Any) -> None:
        self._synced.update(self._local.config.voters)
        original(self)

    return count_synced


def _whoever_is_ahead(_: Function) -> Function:
    def epoch_answered(self: Any, learner: Any, packet: Any) -> None:
        learner.zxid = packet.zxid
        learner.enter(LinkPhase.ADMITTED, learner.since_ms)
        self._promised.add(learner.sid)
        self._count_promises()
        self._synchronize(learner)

    return epoch_answered


# Clients.


def _trusts_itself(original: Function) -> Function:
    def ordered(self: Any, now_ms: int) -> None:
        original(self, now_ms)
        self._confirmed = 1 << 60
        self._give_answers(now_ms)

    return ordered


def _owner_does_not_matter(_: Function) -> Function:
    def check(self: Any, session_id: int, _owner: object) -> None:
        assert self.sessions or session_id

    return check


def _nobody_is_heard(original: Function) -> Function:
    def touch(self: Any, session: Any, now_ms: int) -> None:
        if not session.expires_ms:
            original(self, session, now_ms)

    return touch


def _ephemerals_stay(_: Function) -> Function:
    def close(self: Any, header: Any, _record: Any) -> int:
        self.sessions.pop(header.client_id, None)
        return 0

    return close


def _first_half_only(original: Function) -> Function:
    def apply_multi(self: Any, header: Any, record: Any) -> int:
        half = record._replace(txns=record.txns[: (len(record.txns) + 1) // 2])
        failed = any(sub.type == Opcode.ERROR for sub in record.txns)
        code: int = original(self, header, record if failed else half)
        return code

    return apply_multi


DEFECTS = (
    Defect("a proposal is acknowledged before it is synced", ("I11",), "2678", _AcknowledgesBeforeSync),
    Defect("the leader counts itself before its own sync", ("I11",), server_class=_CountsItselfBeforeSync),
    Defect(
        "NEWLEADER is acknowledged before what came with it is synced",
        ("I13", "I17"),
        "4646, 3023",
        _FollowsBeforeSync,
    ),
    Defect("an epoch is promised before the promise is on disk", ("I2",), "335", _PromisesBeforeSync),
    Defect(
        "currentEpoch is written before the history that it stands for",
        ("I14",),
        "4643",
        patches=((Learner, "_append", _epoch_before_history),),
    ),
    Defect("the tree stays when the history is cut or replaced", ("I5", "I13", "I16"), "2845, 3642", _KeepsItsTree),
    Defect(
        "uncommitted transactions get into snapshots, and stay",
        ("I5", "I13", "I16", "I17"),
        "1549",
        _SnapshotsAnything,
        stress=_leaders_are_cut_off,
    ),
    Defect(
        "a cut takes one transaction too much",
        ("I5", "I13", "I15"),
        "1156",
        _TruncatesOneMore,
        stress=_leaders_are_cut_off,
    ),
    Defect("the disk loses what it had synced", ("I17",), server_class=_SyncsNothing),
    Defect("votes are compared by sid", ("L1",), patches=((Election, "_beats", _by_sid),)),
    Defect("votes are compared by counter before epoch", ("L1",), patches=((Election, "_beats", _by_counter_first),)),
    Defect(
        "nobody looks who is ahead",
        ("I12",),
        "1154",
        patches=((Leader, "_epoch_answered", _whoever_is_ahead), (Election, "_beats", _by_sid)),
    ),
    Defect("one ACK commits", ("I11",), patches=((Proposals, "take_committed", _on_first_ack),)),
    Defect("a follower applies what is only proposed", ("I11",), patches=((Learner, "_propose", _commits_at_once),)),
    Defect(
        "a transaction that is not in the history is taken for one that is",
        ("I7", "I16", "I13"),
        "1154",
        patches=((History, "meeting", _knows_every_zxid),),
    ),
    Defect(
        "a DIFF lacks its last proposal", ("I13", "I14", "L1"), "962", patches=((History, "between", _misses_the_last),)
    ),
    Defect(
        "an epoch is established without a quorum",
        ("I1", "I13"),
        "1192",
        patches=((Leader, "_count_synced", _with_anyone),),
    ),
    Defect(
        "a sync is answered by whoever believes that it leads",
        ("I18",),
        "the sync of ZooKeeper itself",
        patches=((LeaderDuties, "ordered", _trusts_itself),),
        stress=_leaders_stand_still,
    ),
    Defect(
        "requests are carried out for sessions that have moved",
        ("I18",),
        patches=((SessionTracker, "check", _owner_does_not_matter),),
        stress=_clients_wander,
    ),
    Defect("sessions end although they are heard of", ("I19",), patches=((SessionTracker, "touch", _nobody_is_heard),)),
    Defect(
        "ephemerals outlive their session",
        ("I16", "I19"),
        "1367",
        patches=((DataTree, "_apply_close_session", _ephemerals_stay),),
    ),
    Defect("half a multi is applied", ("I16",), "3127", patches=((DataTree, "_apply_multi", _first_half_only),)),
)
"""Every defect."""
