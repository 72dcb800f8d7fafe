"""What a client holds inside, counted: for tests that nothing is left behind. Reads private attributes only."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import NamedTuple

from terzetto.client import ZooKeeper

from .server_link import ServerLink


class Holdings(NamedTuple):
    """Counts of what a call may leave in a client."""

    sent: int
    unsent: int
    control: int
    watches: int
    streams: int
    listeners: int
    deletions: int
    proof_holders: int
    guarded: int


def holdings(zk: ZooKeeper) -> Holdings:
    """What the client holds now; withdrawn requests do not count."""
    core = zk._core
    queue = core.session.queue
    return Holdings(
        sum(not request.withdrawn for request in queue.sent),
        sum(not request.withdrawn for request in queue.unsent),
        len(queue.control),
        len(core.session.watches),
        len(core.streams),
        len(core.runner.listeners),
        core.janitor.pending,
        core.session.proof.holders,
        len(core.guard._guarded),
    )


def watched_by_server(link: ServerLink, path: str) -> bool:
    """Whether the server keeps any registration for the path on this connection."""
    return bool(link.watches.data.modes_of(path) or link.watches.child.modes_of(path))


async def drained(zk: ZooKeeper) -> Holdings:
    """The holdings after everything sent so far was answered."""
    await zk.sync("/")
    return holdings(zk)


def answer_some(link: ServerLink, count: int) -> None:
    """A paused server works on the oldest requests that wait, and stays paused."""
    waiting = link._backlog
    link._backlog = waiting[count:]
    for request in waiting[:count]:
        link._work(request)
