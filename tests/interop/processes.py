"""Child processes that cannot be left behind, and loopback ports that cannot be lost.

Decides how a foreign server process is started, signalled, reaped and, whatever happens to this process, ended; and
how a port number is kept free for it. Refuses to know what the process is.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_UNDERTAKER = """
import os, shutil, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
left = {"group": set(), "folder": set()}
for line in sys.stdin:
    action, kind, name = line.rstrip("\\n").split(" ", 2)
    getattr(left[kind], action)(name)
for group in left["group"]:
    try:
        os.killpg(int(group), signal.SIGKILL)
    except ProcessLookupError:
        pass
for folder in left["folder"]:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Undertaker:
    """Kills the processes and removes the folders that this process leaves behind, even when it dies of a SIGKILL.

    A tiny child holds the reading end of a pipe and learns from its end of file that this process died. The kernel's
    own PR_SET_PDEATHSIG is no use here: it fires when the *thread* that forked ends, and a server may well be started
    from a worker thread.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def watch(self, left: int | Path) -> None:
        """Makes the death of a process group, or the end of a folder, follow this process's death."""
        self._tell("add", left)

    def forget(self, left: int | Path) -> None:
        """Takes back `watch`, since a reaped group's number may be given to a stranger."""
        self._tell("discard", left)

    def _tell(self, action: str, left: int | Path) -> None:
        with self._lock:
            if self._process is None or self._owner != os.getpid():
                self._owner = os.getpid()
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _UNDERTAKER],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                    text=True,
                    cwd="/",
                )
                atexit.register(self._dismiss)
            assert self._process.stdin is not None
            self._process.stdin.write(f"{action} {'group' if isinstance(left, int) else 'folder'} {left}\n")
            self._process.stdin.flush()

    def _dismiss(self) -> None:
        if self._process is not None and self._owner == os.getpid():
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None


undertaker = Undertaker()


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder for the block; it goes at the block's end, or with this process."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        folder = Path(name)
        undertaker.watch(folder)
        try:
            yield folder
        finally:
            undertaker.forget(folder)


class PortReservation:
    """A loopback port that no other socket is given, before, between and after the lives of the server that uses it.

    On Linux a socket that is bound with SO_REUSEADDR and never listens keeps the kernel from handing the port out
    again, while another SO_REUSEADDR socket (Java sets it) may still bind it by number and listen. Elsewhere that
    second bind is refused, so there the port is only looked up and released.

    Args:
        address: the numeric address to reserve on.
    """

    def __init__(self, address: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, 0))
        self.port: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    def close(self) -> None:
        """Gives the port back. May be called twice."""
        self._socket.close()


class ChildProcess:
    """One foreign process in a process group of its own, its output appended to a file.

    Args:
        command: the program and its arguments.
        log: the file that takes standard output and standard error.
        directory: its working directory.
        environment: variables added to this process's own.
    """

    def __init__(
        self, command: Sequence[str], log: Path, directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._paused = False
        undertaker.watch(self.pid)
        _living.add(self)

    @property
    def pid(self) -> int:
        """The process id, which is its group's id too."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        if self._process.poll() is None:
            return True
        self._bury()
        return False

    @property
    def paused(self) -> bool:
        """Whether `pause` was called and `resume` was not."""
        return self._paused

    def exited_within(self, seconds: float) -> bool:
        """Waits until the process exits, for at most `seconds`; whether it did."""
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        self._bury()
        return True

    def terminate(self, grace: float = 10.0) -> None:
        """Ends the process by SIGTERM and, when `grace` seconds were not enough, by SIGKILL. No-op once it is gone."""
        if self.running:
            if self._paused:
                self.resume()
            self._process.terminate()
            if self.exited_within(grace):
                return
        self.kill()

    def kill(self) -> None:
        """Ends the whole group by SIGKILL, also a paused one, and waits until it is gone. No-op once it is gone."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._bury()

    def pause(self) -> None:
        """Stops the process by SIGSTOP; returns when the kernel has reported it as stopped.

        Raises:
            ProcessLookupError: the process has ended.
        """
        self._require_running()
        if not self._paused:
            os.kill(self.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self._paused = True

    def resume(self) -> None:
        """Continues a paused process by SIGCONT.

        Raises:
            ProcessLookupError: the process has ended.
        """
        self._require_running()
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def _require_running(self) -> None:
        if not self.running:
            raise ProcessLookupError(f"process {self.pid} has ended with status {self._process.returncode}")

    def _bury(self) -> None:
        # Once only: a second message could be about a stranger that got the number since.
        if self in _living:
            _living.remove(self)
            undertaker.forget(self.pid)


_living: set[ChildProcess] = set()


@atexit.register
def _kill_the_living() -> None:
    for process in list(_living):
        process.kill()
