"""Servers as processes of their own, forked from one parent that has imported everything.

Decides how the processes are started, watched and ended: none outlives the parent, and one that dies is reported and
does not touch the others. Refuses to know what a server does. The parent runs no event loop and no thread, so that
what it forks is in a known state; what it has loaded is shared by all of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

_log = logging.getLogger("terzetto")

STOP_TIMEOUT = 10.0
"""Seconds that the servers have to stop by themselves before they are killed."""

READY = b"r"
"""What a server writes once it serves."""

_PR_SET_PDEATHSIG = 1
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_ASKED = frozenset({0, -signal.SIGTERM, -signal.SIGINT})
"""How a process ends that was told to: also by a signal that comes before it listens to it, or, sent once more by who
signals the whole group, when it no longer does."""

Body = Callable[[int, int], int]
"""What a process runs: takes the file descriptor that hears `READY` and one that ends with the parent; its status."""


class _Child:
    """One process."""

    def __init__(self, sid: int, pid: int, ready: int) -> None:
        self.sid = sid
        self.pid = pid
        self.ready = ready
        self.is_serving = False
        self.status: int | None = None


class Family:
    """The processes of one ensemble.

    Args:
        bodies: what each runs, by sid.
        announce: called once, when all of them serve.
    """

    def __init__(self, bodies: Mapping[int, Body], announce: Callable[[], None]) -> None:
        self._bodies = bodies
        self._announce = announce
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._life: tuple[int, int] = (-1, -1)
        self._wakeups: tuple[int, int] = (-1, -1)
        self._announced = False
        self._stopping = False
        self._failed = False

    def run(self) -> int:
        """Runs until a signal ends it, or every process has ended; the exit status, 0 if none has failed."""
        # Garbage is collected before, not in every process after: that would copy the pages that they share.
        gc.collect()
        gc.freeze()
        self._life = os.pipe()
        try:
            with self._signals():
                for sid, body in self._bodies.items():
                    self._fork(sid, body)
                self._watch()
                return int(self._failed)
        finally:
            self._kill_the_rest()
            for descriptor in (*self._life, *(child.ready for child in self._children.values())):
                if descriptor >= 0:
                    os.close(descriptor)
            self._selector.close()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in _HANDLED}
        self._wakeups = os.pipe()
        for descriptor in self._wakeups:
            os.set_blocking(descriptor, False)
        woken = signal.set_wakeup_fd(self._wakeups[1], warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, _nothing)
        self._selector.register(self._wakeups[0], selectors.EVENT_READ)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            for descriptor in self._wakeups:
                os.close(descriptor)

    def _fork(self, sid: int, body: Body) -> None:
        hears, tells = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os._exit(self._be_child(body, parent, hears, tells))
        os.close(tells)
        self._children[pid] = _Child(sid, pid, hears)
        self._selector.register(hears, selectors.EVENT_READ, pid)
        _log.info("server %d is process %d", sid, pid)

    def _be_child(self, body: Body, parent: int, hears: int, tells: int) -> int:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _HANDLED:
                signal.signal(number, signal.SIG_DFL)
            for descriptor in (hears, self._life[1], *self._wakeups, *(c.ready for c in self._children.values())):
                os.close(descriptor)
            self._selector.close()
            _die_with(parent)
            status = body(tells, self._life[0])
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            # Nothing of the parent's is to be unwound here.
            os._exit(status)

    def _watch(self) -> None:
        while any(child.status is None for child in self._children.values()):
            for key, _ in self._selector.select():
                if key.data is None:
                    self._take_signals()
                else:
                    self._take_word(self._children[key.data])
            if self._stopping:
                return

    def _take_signals(self) -> None:
        # An end that was asked for comes first, or processes that have heard of it too would count as failed.
        for number in sorted(set(os.read(self._wakeups[0], 4096)), key=signal.SIGCHLD.__eq__):
            if number == signal.SIGCHLD:
                self._reap()
            else:
                _log.info("%s: stopping", signal.Signals(number).name)
                self._stop()

    def _take_word(self, child: _Child) -> None:
        word = os.read(child.ready, 1)
        self._selector.unregister(child.ready)
        child.is_serving = word == READY
        if not self._announced and all(each.is_serving for each in self._children.values()):
            self._announced = True
            self._announce()

    def _reap(self) -> None:
        for child in self._children.values():
            if child.status is not None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            child.status = os.waitstatus_to_exitcode(status)
            if self._stopping and child.status in _ASKED:
                continue
            self._failed = True
            print(f"terzetto: server {child.sid} (process {child.pid}) {_cause(child.status)}", file=sys.stderr)
            if not self._announced and not self._stopping:
                self._stop()

    def _stop(self) -> None:
        """Has every process end, and waits for that."""
        if self._stopping:
            return
        self._stopping = True
        for number in (signal.SIGTERM, signal.SIGCONT):
            self._send(number)
        # Nothing more is heard of those that have ended already.
        self._reap()
        deadline = time.monotonic() + STOP_TIMEOUT
        while any(child.status is None for child in self._children.values()):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if any(key.data is None for key, _ in self._selector.select(left)):
                os.read(self._wakeups[0], 4096)
                self._reap()

    def _send(self, number: signal.Signals) -> None:
        for child in self._children.values():
            if child.status is None:
                os.kill(child.pid, number)

    def _kill_the_rest(self) -> None:
        self._send(signal.SIGKILL)
        for child in self._children.values():
            if child.status is None:
                self._failed = True
                child.status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the signal reaches the wake-up descriptor."""


def _cause(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"has ended with status {status}"


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies, also while it is stopped (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
