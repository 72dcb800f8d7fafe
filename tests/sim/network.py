"""Links between the simulated machines: in order inside one connection, and broken in every way a connection can break.

Decides when what is sent arrives: delay, slow links, partitions one way or both, connections that break and lose what
was on its way, peers that never learn of it. It knows no message. Never reorders or drops inside a live connection,
because TCP does not; election messages go by a slot of one between two servers, as they do in the election's links.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from .world import MILLISECOND, World

DIAL_TIMEOUT = 400 * MILLISECOND
"""After this a dial into a partition fails."""


class Node(Protocol):
    """A machine as its links see it. None of these is called while `alive` is false."""

    @property
    def alive(self) -> bool:
        """Whether its process runs; a paused one does."""
        ...

    def accepted(self, link: int, peer: int) -> None:
        """Somebody has connected."""
        ...

    def dialled(self, link: int, peer: int) -> None:
        """Its own dial succeeded."""
        ...

    def dial_failed(self, peer: int, reason: str) -> None:
        """Its own dial failed."""
        ...

    def arrived(self, link: int, message: Any) -> None:
        """The next message of a link."""
        ...

    def closed(self, link: int) -> None:
        """The link is gone: nothing arrives any more, and nothing sent has to arrive."""
        ...

    def letter(self, sender: int, message: Any) -> None:
        """An election message."""
        ...


class _Mark:
    """Something a link carries that is no message."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


_OPENED = _Mark("opened")
_CLOSED = _Mark("closed")


@dataclass
class _Pipe:
    """One direction of a link."""

    link: int
    source: int
    target: int
    lives: tuple[int, int]
    waiting: deque[Any] = field(default_factory=deque[Any])
    last_arrival: int = 0
    held: int = 0
    # Nothing more is taken in; what waits may still arrive.
    shut: bool = False


@dataclass
class _Slot:
    """The election's link from one server to another."""

    flying: deque[Any] = field(default_factory=deque[Any])
    last_arrival: int = 0
    kept: Any = None


@dataclass
class Conditions:
    """How the network is, in microseconds.

    Attributes:
        latency: shortest time of a message.
        jitter: what may come on top.
        hiccup: chance that a message takes `pause` longer, and with it everything behind it.
        pause: see above.
        letter_loss: chance that an election message is lost with its connection where one is cut or held.
        resets: chance that a link which one end closes loses a suffix of what that end had sent.
    """

    latency: int = 300
    jitter: int = 700
    hiccup: float = 0.002
    pause: int = 60 * MILLISECOND
    letter_loss: float = 0.3
    resets: float = 0.2


class Network:
    """All links of the run.

    Args:
        world: time and chance.
        conditions: how the links are when nothing is done to them.
    """

    def __init__(self, world: World, conditions: Conditions) -> None:
        self._world = world
        self.conditions = conditions
        self._random = world.chance("network")
        self._nodes: dict[int, Node] = {}
        self._lives: dict[int, int] = {}
        self._pipes: dict[tuple[int, int], _Pipe] = {}
        self._ends: dict[int, tuple[int, int]] = {}
        self._slots: dict[tuple[int, int], _Slot] = {}
        self._blocked: dict[tuple[int, int], int] = {}
        self._slow: dict[tuple[int, int], int] = {}
        self._next_link = 0

    def add(self, number: int, node: Node) -> None:
        """Adds a machine."""
        self._nodes[number] = node
        self._lives[number] = 0

    # What machines do.

    def dial(self, source: int, target: int) -> None:
        """Connects; the answer comes to the node."""
        self._world.after(self._delay(source, target), self._knock, source, self._lives[source], target)

    def send(self, link: int, source: int, message: Any) -> None:
        """Sends on a link, behind everything sent before."""
        pipe = self._pipes.get((link, source))
        if pipe is not None and not pipe.shut:
            self._put(pipe, message)

    def hang_up(self, link: int, source: int) -> None:
        """Closes a link; what was sent before arrives, or a prefix of it where the link is reset."""
        incoming = self._pipes.pop((link, self._other(link, source)), None)
        if incoming is not None:
            incoming.shut = True
            incoming.waiting.clear()
        outgoing = self._pipes.get((link, source))
        if outgoing is not None and not outgoing.shut:
            if self._random.random() < self.conditions.resets:
                self._lose_suffix(outgoing)
            self._put(outgoing, _CLOSED)
            outgoing.shut = True

    def post(self, source: int, target: int, message: Any) -> None:
        """Sends an election message: it arrives, or the last one of several does."""
        slot = self._slots.setdefault((source, target), _Slot())
        if (source, target) in self._blocked or (target, source) in self._blocked or not self._nodes[target].alive:
            slot.kept = message
            return
        slot.flying.append(message)
        slot.last_arrival = max(slot.last_arrival, self._world.now + self._delay(source, target))
        self._world.after(slot.last_arrival - self._world.now, self._deliver_letter, source, target)

    # What is done to them.

    def block(self, source: int, target: int) -> None:
        """Nothing arrives in this direction, until `unblock`; may be nested."""
        self._blocked[source, target] = self._blocked.get((source, target), 0) + 1

    def unblock(self, source: int, target: int) -> None:
        """Takes one `block` back; what was held arrives."""
        self._blocked[source, target] -= 1
        if self._blocked[source, target]:
            return
        del self._blocked[source, target]
        for pipe in list(self._pipes.values()):
            if (pipe.source, pipe.target) == (source, target) and pipe.held:
                held, pipe.held = pipe.held, 0
                for _ in range(held):
                    self._plan(pipe)
        for pair in ((source, target), (target, source)):
            self._post_again(*pair)

    def slow(self, source: int, target: int, factor: int) -> None:
        """Multiplies delays; 1 is normal again."""
        if factor == 1:
            self._slow.pop((source, target), None)
        else:
            self._slow[source, target] = factor

    def links(self) -> list[tuple[int, int, int]]:
        """Every live link as (link, one end, other end)."""
        ends: dict[int, tuple[int, int]] = {}
        for pipe in self._pipes.values():
            if not pipe.shut:
                ends.setdefault(pipe.link, (pipe.source, pipe.target))
        return [(link, *pair) for link, pair in ends.items()]

    def cut(self, link: int, *, told: tuple[bool, bool]) -> None:
        """Breaks a link: in each direction a prefix of what is on its way arrives.

        Args:
            link: which.
            told: whether each end learns of it; one that does not must find out by itself.
        """
        for pipe, learns in zip([pipe for pipe in self._pipes.values() if pipe.link == link], told, strict=False):
            self._lose_suffix(pipe)
            if learns:
                self._put(pipe, _CLOSED)
            pipe.shut = True

    def sever(self, link: int) -> None:
        """Breaks a link at once: nothing that is on its way arrives, and both ends learn of it."""
        for pipe in [pipe for pipe in self._pipes.values() if pipe.link == link]:
            self._lose(pipe, 0)
            self._put(pipe, _CLOSED)
            pipe.shut = True

    def stop(self, number: int, *, silent: bool) -> None:
        """The machine's process has died.

        Args:
            number: which.
            silent: the whole machine stopped, so that nobody is told; what was on its way is lost in part.
        """
        self._lives[number] += 1
        for pipe in list(self._pipes.values()):
            if pipe.target == number:
                pipe.waiting.clear()
                pipe.shut = True
                del self._pipes[pipe.link, pipe.source]
            elif pipe.source == number:
                if silent:
                    self._lose_suffix(pipe)
                elif not pipe.shut:
                    self._put(pipe, _CLOSED)
                pipe.shut = True
        for (source, target), slot in self._slots.items():
            if source == number:
                slot.kept = None
                if silent:
                    slot.flying.clear()
            elif target == number:
                slot.flying.clear()

    def started(self, number: int) -> None:
        """The machine runs again: whoever still believes in an old link of its learns better."""
        for pipe in list(self._pipes.values()):
            if pipe.source == number and pipe.lives[0] != self._lives[number] and _CLOSED not in pipe.waiting:
                self._put(pipe, _CLOSED)
        for source in self._nodes:
            self._post_again(source, number)

    # How it gets there.

    def _delay(self, source: int, target: int) -> int:
        conditions, draw = self.conditions, self._random.random
        delay = conditions.latency + int(conditions.jitter * draw())
        if draw() < conditions.hiccup:
            delay += int(conditions.pause * draw())
        if self._slow:
            delay *= self._slow.get((source, target), 1)
        return delay

    def _other(self, link: int, source: int) -> int:
        first, second = self._ends[link]
        return second if source == first else first

    def _lose_suffix(self, pipe: _Pipe) -> None:
        self._lose(pipe, self._random.randint(0, len(pipe.waiting)))

    def _lose(self, pipe: _Pipe, kept: int) -> None:
        while len(pipe.waiting) > kept:
            if pipe.waiting.pop() is _OPENED:
                # Nobody answers the dial any more.
                self._world.after(DIAL_TIMEOUT, self._fail, pipe.target, pipe.lives[1], pipe.source, "timed out")

    def _put(self, pipe: _Pipe, message: Any) -> None:
        pipe.waiting.append(message)
        self._plan(pipe)

    def _plan(self, pipe: _Pipe) -> None:
        world = self._world
        arrival = max(pipe.last_arrival, world.now + self._delay(pipe.source, pipe.target))
        pipe.last_arrival = arrival
        world.after(arrival - world.now, self._arrive, pipe)

    def _arrive(self, pipe: _Pipe) -> None:
        if not pipe.waiting or self._lives[pipe.target] != pipe.lives[1]:
            return
        if (pipe.source, pipe.target) in self._blocked:
            pipe.held += 1
            return
        message = pipe.waiting.popleft()
        node = self._nodes[pipe.target]
        if message is _OPENED:
            node.dialled(pipe.link, pipe.source)
        elif message is _CLOSED:
            self._pipes.pop((pipe.link, pipe.source), None)
            # What this end has sent already may still arrive.
            back = self._pipes.get((pipe.link, pipe.target))
            if back is not None:
                back.shut = True
            node.closed(pipe.link)
        else:
            node.arrived(pipe.link, message)

    def _knock(self, source: int, life: int, target: int) -> None:
        if self._lives[source] != life:
            return
        if (source, target) in self._blocked or (target, source) in self._blocked:
            self._world.after(DIAL_TIMEOUT, self._fail, source, life, target, "timed out")
            return
        node = self._nodes[target]
        if not node.alive:
            self._world.after(self._delay(target, source), self._fail, source, life, target, "refused")
            return
        self._next_link += 1
        link = self._next_link
        there = _Pipe(link, source, target, (life, self._lives[target]))
        back = _Pipe(link, target, source, (self._lives[target], life))
        self._ends[link] = (source, target)
        self._pipes[link, source] = there
        self._pipes[link, target] = back
        self._put(back, _OPENED)
        node.accepted(link, source)

    def _fail(self, source: int, life: int, target: int, reason: str) -> None:
        if self._lives[source] == life:
            self._nodes[source].dial_failed(target, reason)

    def _deliver_letter(self, source: int, target: int) -> None:
        slot = self._slots[source, target]
        if not slot.flying:
            return
        message = slot.flying.popleft()
        blocked = (source, target) in self._blocked or (target, source) in self._blocked
        if not self._nodes[target].alive or blocked:
            # The last message is sent again with the next connection; what was before it is not.
            if not slot.flying and slot.kept is None and self._random.random() >= self.conditions.letter_loss:
                slot.kept = message
            return
        self._nodes[target].letter(source, message)

    def _post_again(self, source: int, target: int) -> None:
        slot = self._slots.get((source, target))
        if slot is not None and slot.kept is not None and self._nodes[source].alive:
            message, slot.kept = slot.kept, None
            self.post(source, target, message)
