"""A Curator process led from Python: Apache's recipes for tests of recipes and of servers.

Decides how a command is sent and its answer waited for. The program is `java/curator`; what an answer means is the
test's business.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import defaultdict, deque
from types import TracebackType

from .installation import find_java
from .java_programs import compiled, find_curator_classpath
from .processes import undertaker

START_DEADLINE = 60.0
ANSWER_DEADLINE = 30.0

_FLAGS = ("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xmx128m")


class CuratorError(Exception):
    """A command ended in an exception. The text is a code of ZooKeeper ("NONODE"), or Java's text of the exception."""


class Answer:
    """What a command that was sent will answer."""

    def __init__(self, peer: CuratorPeer, name: str, line: str) -> None:
        self._peer = peer
        self._name = name
        self._line = line

    def wait(self, timeout: float = ANSWER_DEADLINE) -> str:
        """The answer. Answers of one subject are taken in the order of its commands, each once.

        Args:
            timeout: seconds.

        Raises:
            CuratorError: the command ended in an exception.
            TimeoutError: there was no answer in time, or the process has ended.
        """
        return self._peer.take(self._name, self._line, timeout)


class CuratorPeer:
    """A process with one Curator client and any number of recipes on it; a context manager.

    `ask("a acquire 5000")` sends a line and returns the answer; `send` returns an `Answer` to wait for later. The first
    word names a subject, and each subject has a thread of its own in the process: commands to one are done one after
    another, commands to several at the same time. Times are whole milliseconds, DATA and TEXT the rest of the line,
    PATH and all other words have no spaces. An answer is one line: "ok", "true", "false", a number, a text, "null",
    "[a, b]", "{key=value}"; after a `KeeperException` or another one `CuratorError` is raised.

    The subject "-" is the client (`CuratorFramework`):
        session | states COUNT MS (waits for so many changes of the connection's state, and forgets them)
        create MODE PATH DATA | create-with-parents MODE PATH DATA | create-with-containers MODE PATH DATA |
        create-protected MODE PATH DATA | create-ttl MS PATH DATA | create-or-set PATH DATA
            (MODE is one of Java's `CreateMode`: PERSISTENT, EPHEMERAL_SEQUENTIAL, CONTAINER, ...)
        get PATH | set VERSION PATH DATA | delete VERSION PATH | delete-tree PATH | exists PATH | children PATH |
        acl PATH | set-acl VERSION PERMS:SCHEME:ID PATH | sync PATH (is sent, and not waited for) |
        tree PATH (all znodes at and below it)
        multi OP | OP | ... with OP one of: create PATH DATA, set PATH DATA, delete PATH, check VERSION PATH

    Any other subject is made by `NAME new KIND ...`. The kinds and their commands:
        mutex PATH, semaphore-mutex PATH, multi-lock PATH PATH ...:
            acquire MS | release | held | participants (of a mutex)
        read-write-lock PATH: read COMMAND | write COMMAND, with the commands of a mutex
        semaphore PATH LEASES: acquire MS | acquire-many COUNT MS | release (of the newest lease) | participants
        latch PATH ID: await MS | leading | leader | participants | close
        selector PATH ID (queues again after a term): terms COUNT MS | leading | leader | participants | yield | close
        count PATH SEED: get | set N | try N | close            value PATH SEED: get | set DATA | try DATA | close
        long PATH, integer PATH (`DistributedAtomic...`): get | increment | decrement | add N
        barrier PATH: set | remove | wait MS                    double-barrier PATH MEMBERS: enter MS | leave MS
        member PATH ID DATA (`GroupMember`): members | set DATA | close
        node MODE PATH DATA (`PersistentNode`): await MS | path | set DATA | close
        ttl-node PATH MS DATA (`PersistentTtlNode`): await MS | close
        simple-queue PATH: put DATA | poll MS | peek
        queue PATH [put-only] [lock PATH]: put TEXT | events COUNT MS (what was consumed) | close
        priority-queue PATH [put-only] [lock PATH]: put PRIORITY TEXT | events COUNT MS | close
        delay-queue PATH [put-only] [lock PATH]: put MS TEXT | events COUNT MS | close
        discovery PATH: register SERVICE | update SERVICE | unregister SERVICE | instances NAME | names | watch NAME |
            watched NAME (of the `ServiceCache`) | close, with SERVICE: NAME ID ADDRESS PORT PAYLOAD
        cache PATH (`CuratorCache`): nodes | events COUNT MS | close
        tree-cache PATH: nodes PATH | events COUNT MS | close
        watcher PATH [recursive] (`PersistentWatcher`): events COUNT MS | close
    `events COUNT MS` waits until there are COUNT, for at most MS, and returns and forgets those that there are.

    Every call blocks for a bounded time; an async test calls `trio.to_thread.run_sync(peer.ask, line)`.

    Args:
        hosts: the connect string.
        session_timeout: seconds.

    Raises:
        PeerMissing: no Curator, no ZooKeeper or no Java compiler on this machine.
        TimeoutError: no server answered.
    """

    def __init__(self, hosts: str, *, session_timeout: float = 10.0) -> None:
        classpath = compiled("curator/*.java", find_curator_classpath())
        self._answers: defaultdict[str, deque[str]] = defaultdict(deque)
        self._told = threading.Condition()
        self._silent = False
        self._process = subprocess.Popen(
            [find_java(), *_FLAGS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", classpath,
             "curator.Peer", hosts, str(round(session_timeout * 1000))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        undertaker.watch(self._process.pid)
        self._reader = threading.Thread(target=self._read, daemon=True, name="curator-answers")
        self._reader.start()
        try:
            self.session_id = int(self.take("-", "start", START_DEADLINE), 16)
        except BaseException:
            self.kill()
            raise

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, _, answer = line.rstrip("\n").partition(" ")
            with self._told:
                self._answers[name].append(answer)
                self._told.notify_all()
        with self._told:
            self._silent = True
            self._told.notify_all()

    def send(self, line: str) -> Answer:
        """Sends a command; its answer is waited for elsewhere."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return Answer(self, line.partition(" ")[0], line)

    def ask(self, line: str, timeout: float = ANSWER_DEADLINE) -> str:
        """Sends a command and returns its answer; see `Answer.wait` for what is raised."""
        return self.send(line).wait(timeout)

    def take(self, name: str, line: str, timeout: float) -> str:
        """The next answer of a subject."""
        with self._told:
            self._told.wait_for(lambda: self._answers[name] or self._silent, timeout)
            if not self._answers[name]:
                state = "the process has ended" if self._silent else f"waited {timeout:g} s"
                raise TimeoutError(f"no answer to {line!r}: {state}")
            answer = self._answers[name].popleft()
        if answer.startswith("ERROR "):
            raise CuratorError(answer.removeprefix("ERROR "))
        return answer

    def pause(self) -> None:
        """Stops the process by SIGSTOP."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continues the process by SIGCONT."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Ends the process by SIGKILL: its session stays until it expires. May be called again."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        undertaker.forget(self._process.pid)
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass

    def close(self) -> None:
        """Closes the session and ends the process, by SIGKILL where that takes more than ten seconds."""
        try:
            self.send("quit")
            self._process.wait(10.0)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            pass
        self.kill()

    def __enter__(self) -> CuratorPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
