"""Peers on the bench that have come to a role: followers and observers whose leader is the test, leaders whose learners
are."""

from __future__ import annotations

from terzetto.testcluster.messages import LearnerInfo, PacketType as P, ServerState, encode_int, encode_learner_info
from terzetto.testcluster.ready import Role

from .bench import Bench, Disk, config, zxid

E = zxid(2, 0)
OLD = [zxid(1, 1), zxid(1, 2), zxid(1, 3)]
PROTOCOL = encode_int(0x10000)

# Learners.


def follower(disk: Disk | None = None) -> tuple[Bench, int]:
    """A follower that has dialled server 3."""
    bench = Bench(1, disk=disk or Disk(OLD, accepted=1, current=1))
    bench.lose(3)
    assert bench.dials == [3]
    link = bench.dialled()
    return bench, link


def observer(disk: Disk | None = None) -> tuple[Bench, int]:
    bench = Bench(4, config(3, 1), disk or Disk(OLD, accepted=1, current=1))
    bench.wait(200)
    bench.lose(3)
    return bench, bench.dialled()


def promised(bench: Bench, link: int) -> None:
    bench.say(link, P.LEADERINFO, E, PROTOCOL)
    assert bench.heard(link)[-1][0] == P.ACKEPOCH


def in_step(bench: Bench, link: int) -> None:
    """Brought into step by an empty DIFF."""
    promised(bench, link)
    bench.say(link, P.DIFF, bench.disk.last_zxid)
    bench.say(link, P.NEWLEADER, E, b"")
    bench.say(link, P.UPTODATE)
    assert bench.role.serving
    bench.heard(link)


def kinds(bench: Bench) -> list[str]:
    return [type(write).__name__ for write in bench.writes]


def assert_gave_up(bench: Bench, link: int) -> None:
    assert bench.peer.state is ServerState.LOOKING
    assert bench.role == Role(ServerState.LOOKING, bench.disk.current, None, serving=False, may_snapshot=False)
    assert link in bench.hung_up


# Leaders.


def greet(bench: Bench, sid: int, accepted: int = 1, *, observer: bool = False) -> int:
    link = bench.accept()
    kind = P.OBSERVERINFO if observer else P.FOLLOWERINFO
    bench.say(link, kind, accepted << 32, encode_learner_info(LearnerInfo(sid)))
    return link


def answer(bench: Bench, link: int, last: int = OLD[-1], current: int = 1) -> None:
    bench.say(link, P.ACKEPOCH, last, encode_int(current))


def elected(disk: Disk | None = None, voters: int = 3, observers: int = 0, recent_max: int = 500) -> Bench:
    bench = Bench(1, config(voters, observers), disk or Disk(OLD, accepted=1, current=1), recent_max=recent_max)
    bench.win()
    return bench


def join(bench: Bench, sid: int, last: int = OLD[-1], current: int = 1, *, observer: bool = False) -> int:
    """A learner comes, up to the ACK of NEWLEADER and of all that it was sent."""
    link = greet(bench, sid, observer=observer)
    answer(bench, link, last, current)
    bench.say(link, P.ACK, zxid(bench.peer.epoch, 0))
    for kind, number in bench.heard(link):
        if kind == P.PROPOSAL and not observer:
            bench.say(link, P.ACK, number)
    return link


def leading(disk: Disk | None = None, voters: int = 3, observers: int = 0) -> tuple[Bench, list[int]]:
    """An established leader whose other voters are all in step."""
    bench = elected(disk, voters, observers)
    last = bench.disk.last_zxid
    links = [greet(bench, sid) for sid in range(2, voters + 1)]
    for link in links:
        answer(bench, link, last)
    for link in links:
        bench.say(link, P.ACK, zxid(bench.peer.epoch, 0))
    assert bench.role.serving
    for link in links:
        bench.packets(link)
    return bench, links
