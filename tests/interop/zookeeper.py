"""Real Apache ZooKeeper servers for tests and demonstrations: one alone, or an ensemble, on free loopback ports.

Decides what configuration a test server gets, and how a caller starts it, breaks it
and learns that it serves. Refuses to know any client: it speaks the four letter words only. Standard library only, so
that `python -m tests.interop.zookeeper --servers 3 -- COMMAND {hosts}` works where nothing is installed.

`installation` finds ZooKeeper, `processes` owns the process and its ports.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from .installation import PeerMissing, find_classpath, find_java
from .processes import ChildProcess, PortReservation, temporary_folder

SUPER_AUTH = "super:test"
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
SUPER_DIGEST_PROPERTY = "zookeeper.DigestAuthenticationProvider.superDigest"

# Start time counts here, peak speed does not: a measurement passes flags of its own.
QUICK_JVM_FLAGS = ("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xmx192m")

TICK_TIME = 0.3
START_DEADLINE = 60.0
_POLL_INTERVAL = 0.02
_LOOPBACK = "127.0.0.1"


class StartFailed(Exception):
    """A server ended, or did not serve in time; the text holds the end of its log."""


def _polls(deadline: float) -> Iterator[None]:
    """Yields until `deadline` seconds have passed, pausing between: for loops that wait for a foreign process."""
    end = time.monotonic() + deadline
    while True:
        yield
        if time.monotonic() > end:
            return
        time.sleep(_POLL_INTERVAL)


def _folder(cleanup: ExitStack, directory: Path | None) -> Path:
    if directory is None:
        return cleanup.enter_context(temporary_folder("terzetto-zookeeper-"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a server is configured; the same for every member of an ensemble.

    Attributes:
        tick_time: seconds; the shortest session timeout is two ticks.
        zoo_cfg: lines for zoo.cfg, over the defaults in `RealServer.write_configuration`.
        jvm_properties: -D properties, for what zoo.cfg cannot set (readonlymode.enabled, jute.maxbuffer, ...).
        jvm_flags: replaces the flags for a quick start.
        secure: also listens on a TLS port, through Netty; give the ssl.* keys in `zoo_cfg`.
    """

    tick_time: float = TICK_TIME
    zoo_cfg: Mapping[str, object] = field(default_factory=dict[str, object])
    jvm_properties: Mapping[str, object] = field(default_factory=dict[str, object])
    jvm_flags: Sequence[str] = QUICK_JVM_FLAGS
    secure: bool = False


_DEFAULTS = ServerOptions()


class RealServer:
    """One ZooKeeper server process and the folder it lives in.

    Built by `RealZooKeeper` and `RealEnsemble`. Every method blocks for a bounded time and may be called from any
    thread, so that an async test may call it through `trio.to_thread.run_sync`.

    Attributes:
        sid: the server's id in the ensemble; 0 for a standalone server.
        directory: holds zoo.cfg, data/ and server.log, which all lives of the server append to.
        port: the client port.
        secure_port: the TLS client port, or None.
    """

    def __init__(self, sid: int, directory: Path, options: ServerOptions = _DEFAULTS) -> None:
        self.sid = sid
        self.directory = directory
        self._options = options
        self._java = find_java()
        self._classpath = find_classpath()
        self._process: ChildProcess | None = None
        self._started = False
        self._ports = [PortReservation(_LOOPBACK) for _ in range((1 if sid == 0 else 3) + options.secure)]
        self.port = self._ports[0].port
        self.secure_port = self._ports[-1].port if options.secure else None

    # -- identity
    @property
    def address(self) -> str:
        """The client address as "127.0.0.1:port"."""
        return f"{_LOOPBACK}:{self.port}"

    def hosts_at(self, address: str) -> str:  # as through a proxy
        return address

    @property
    def secure_address(self) -> str:
        """The TLS client address as "127.0.0.1:port".

        Raises:
            ValueError: the server was built without `secure=True`.
        """
        if self.secure_port is None:
            raise ValueError(f"server {self.sid} has no TLS port; build it with secure=True")
        return f"{_LOOPBACK}:{self.secure_port}"

    def specification(self, role: str = "participant") -> str:
        """The member's value in `server.N=...`, as reconfig takes it; of a member of an ensemble only."""
        quorum, election = self._ports[1].port, self._ports[2].port
        return f"{_LOOPBACK}:{quorum}:{election}:{role};{_LOOPBACK}:{self.port}"

    # -- life
    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.running

    @property
    def started(self) -> bool:
        """Whether it is meant to run: started, and neither stopped nor killed since."""
        return self._started

    @property
    def paused(self) -> bool:
        """Whether `pause` was called and `resume` was not."""
        return self.running and self._living_process().paused

    @property
    def pid(self) -> int:
        """The process id of the current life.

        Raises:
            ProcessLookupError: the server is not running.
        """
        return self._living_process().pid

    def write_configuration(self, members: Sequence[str] = ()) -> None:
        """Writes zoo.cfg and myid, once: a later start must find what a reconfig has made of them."""
        data = self.directory / "data"
        data.mkdir(parents=True)
        settings: dict[str, object] = {
            "dataDir": data,
            "tickTime": round(self._options.tick_time * 1000),
            "maxSessionTimeout": 60_000,
            "maxClientCnxns": 0,
            "4lw.commands.whitelist": "*",
            "admin.enableServer": "false",
            # A log file of 64 MiB per life and an fsync per write buy a test nothing: SIGKILL does not lose what
            # the kernel has taken.
            "preAllocSize": 256,
            "forceSync": "no",
        }
        if self.sid == 0:
            settings |= {"clientPort": self.port, "clientPortAddress": _LOOPBACK}
        else:
            # A leader that lost its voters to a rival just after its election waits initLimit before it gives up.
            settings |= {"initLimit": 15, "syncLimit": 10, "standaloneEnabled": "false"}
            (data / "myid").write_text(f"{self.sid}\n")
        if self.secure_port is not None:
            settings |= {
                "secureClientPort": self.secure_port,
                "secureClientPortAddress": _LOOPBACK,
                "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            }
        settings |= self._options.zoo_cfg
        lines = [f"{key}={value}" for key, value in settings.items()]
        (self.directory / "zoo.cfg").write_text("\n".join([*lines, *members]) + "\n")

    def start(self) -> None:
        """Starts the process and returns at once; `wait_serving` waits. The data of an earlier life is kept.

        Raises:
            RuntimeError: it is running.
        """
        if self.running:
            raise RuntimeError(f"server {self.sid} is running already")
        properties = {
            "org.slf4j.simpleLogger.showDateTime": "true",
            "org.slf4j.simpleLogger.dateTimeFormat": "HH:mm:ss.SSS",
            **self._options.jvm_properties,
        }
        self._process = ChildProcess(
            [
                self._java,
                *self._options.jvm_flags,
                *(f"-D{key}={value}" for key, value in properties.items()),
                "-cp",
                self._classpath,
                "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                "zoo.cfg",
            ],
            log=self.directory / "server.log",
            directory=self.directory,
        )
        self._started = True

    def stop(self) -> None:
        """Ends the server by SIGTERM. No-op when it is not running."""
        self._started = False
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """Ends the server by SIGKILL, paused or not. No-op when it is not running."""
        self._started = False
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Stops the process by SIGSTOP: its sockets stay open and nothing answers. Returns once it has stopped."""
        self._living_process().pause()

    def resume(self) -> None:
        """Continues the process by SIGCONT."""
        self._living_process().resume()

    def restart(self, deadline: float = START_DEADLINE) -> None:
        """`stop`, `start` and `wait_serving`."""
        self.stop()
        self.start()
        self.wait_serving(deadline)

    def close(self) -> None:
        """Kills the server and gives its ports back; it cannot be started again."""
        self.kill()
        for reservation in self._ports:
            reservation.close()

    def _living_process(self) -> ChildProcess:
        if self._process is None:
            raise ProcessLookupError(f"server {self.sid} was not started")
        return self._process

    # -- four letter words
    def four_letter(self, command: str, timeout: float = 20.0) -> str:
        """Sends one of ZooKeeper's four letter commands and returns the whole answer.

        Args:
            command: such as "srvr", "mntr", "cons", "dump", "wchp".
            timeout: for the connection and for each piece of the answer, in seconds.

        Raises:
            OSError: refused, reset or, as TimeoutError, not answered in time.
        """
        with socket.create_connection((_LOOPBACK, self.port), timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(command.encode("ascii"))
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer.decode("utf-8")

    def mode(self) -> str | None:
        """What it says it is: "standalone", "leader", "follower", "observer", "read-only"; None if it serves nobody."""
        if not self.running or self.paused:
            return None
        try:
            # Short: a connection made in the instant between bind and the start of the server's threads may hang.
            answer = self.four_letter("srvr", timeout=1.0)
            if self.secure_port is not None:
                # A standalone server opens it after the plain one.
                socket.create_connection((_LOOPBACK, self.secure_port), 1.0).close()
        except OSError:
            return None
        for line in answer.splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return None

    def version(self) -> str:
        """The release that runs, such as "3.8.0"."""
        return self.four_letter("srvr").removeprefix("Zookeeper version: ").partition("-")[0]

    def wait_listening(self, deadline: float = START_DEADLINE) -> None:
        """Waits until the client port is open, serving or not, for at most `deadline` seconds.

        Raises:
            StartFailed: it ended, or the deadline passed.
        """
        for _ in _polls(deadline):
            try:
                socket.create_connection((_LOOPBACK, self.port), 1.0).close()
            except OSError:
                if not self.running:
                    raise StartFailed(f"server {self.sid} ended\n{self.log_tail()}") from None
            else:
                return
        raise StartFailed(f"server {self.sid} did not listen in {deadline:g} s\n{self.log_tail()}")

    def wait_serving(self, deadline: float = START_DEADLINE) -> str:
        """Waits until the server serves clients, for at most `deadline` seconds; returns its `mode`.

        Raises:
            StartFailed: it ended, or the deadline passed.
        """
        return self._wait_mode(lambda mode: mode is not None, "serve", deadline)

    def wait_mode(self, mode: str, deadline: float = START_DEADLINE) -> None:
        """Waits until `mode()` is this, for at most `deadline` seconds: "read-only" once the quorum is gone, ...

        Raises:
            StartFailed: it ended, or the deadline passed.
        """
        self._wait_mode(lambda current: current == mode, f"become {mode}", deadline)

    def _wait_mode(self, condition: Callable[[str | None], bool], goal: str, deadline: float) -> str:
        mode = None
        for _ in _polls(deadline):
            mode = self.mode()
            if condition(mode):
                assert mode is not None
                return mode
            if not self.running:
                raise StartFailed(f"server {self.sid} ended\n{self.log_tail()}")
        raise StartFailed(f"server {self.sid} did not {goal} in {deadline:g} s, it is {mode}\n{self.log_tail()}")

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the server's log, under a line that names the file."""
        log = self.directory / "server.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        return "\n".join([f"--- end of {log}", *text.splitlines()[-lines:]])


class RealZooKeeper(RealServer):
    """One standalone server, a context manager: serving inside the block, gone after it.

    Args:
        options: the configuration.
        directory: where the server lives; by default a temporary folder that goes with the server.

    Raises:
        PeerMissing: no ZooKeeper or no Java on this machine.
    """

    def __init__(self, options: ServerOptions = _DEFAULTS, *, directory: Path | None = None) -> None:
        self._cleanup = ExitStack()
        super().__init__(0, _folder(self._cleanup, directory), options)
        self.write_configuration()

    @property
    def hosts(self) -> str:
        """The connect string."""
        return self.address

    def close(self) -> None:
        """Kills the server, gives its port back and removes its temporary folder."""
        super().close()
        self._cleanup.close()

    def __enter__(self) -> RealZooKeeper:
        try:
            self.start()
            self.wait_serving()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RealEnsemble:
    """An ensemble of `n` servers with ids 1 to n, a context manager: all serving inside the block, gone after it.

    `start`, `stop`, `kill`, `pause`, `resume` and `restart` take a server's id, or mean all servers.

    Args:
        n: how many.
        options: the configuration of each.
        directory: where the servers live; by default a temporary folder that goes with them.

    Attributes:
        servers: the `RealServer`s by id.

    Raises:
        PeerMissing: no ZooKeeper or no Java on this machine.
    """

    def __init__(self, n: int = 3, options: ServerOptions = _DEFAULTS, *, directory: Path | None = None) -> None:
        self._cleanup = ExitStack()
        self._directory = _folder(self._cleanup, directory)
        self._options = options
        self.servers: dict[int, RealServer] = {}
        for sid in range(1, n + 1):
            self.servers[sid] = self._new_server(sid)
        members = self._members()
        for server in self.servers.values():
            server.write_configuration(members)

    def _new_server(self, sid: int) -> RealServer:
        server = RealServer(sid, self._directory / f"server-{sid}", self._options)
        self._cleanup.callback(server.close)
        return server

    def _members(self) -> list[str]:
        return [f"server.{sid}={server.specification()}" for sid, server in self.servers.items()]

    @property
    def hosts(self) -> str:
        """The connect string with all servers."""
        return ",".join(server.address for server in self.servers.values())

    def __getitem__(self, sid: int) -> RealServer:
        return self.servers[sid]

    def add_server(self) -> RealServer:
        """Prepares one more server, not started.

        Once started it follows the leader without a vote, until a reconfig adds its `specification()`.
        """
        sid = max(self.servers) + 1
        server = self._new_server(sid)
        # The newcomer must not count itself as a voter, or it could elect with a minority of the others.
        server.write_configuration([*self._members(), f"server.{sid}={server.specification('observer')}"])
        self.servers[sid] = server
        return server

    def start(self, sid: int | None = None) -> None:
        """Starts what is not running and returns at once."""
        # The highest id first: with equal histories it wins, and if it came late two lower ones could have elected.
        for server in reversed(self._selected(sid)):
            if sid is not None or not server.running:
                server.start()

    def stop(self, sid: int | None = None) -> None:
        """SIGTERM."""
        for server in self._selected(sid):
            server.stop()

    def kill(self, sid: int | None = None) -> None:
        """SIGKILL."""
        for server in self._selected(sid):
            server.kill()

    def pause(self, sid: int | None = None) -> None:
        """SIGSTOP."""
        for server in self._selected(sid):
            server.pause()

    def resume(self, sid: int | None = None) -> None:
        """SIGCONT."""
        for server in self._selected(sid):
            server.resume()

    def restart(self, sid: int | None = None, deadline: float = START_DEADLINE) -> None:
        """Stops, starts, and waits until the ensemble serves."""
        self.stop(sid)
        self.start(sid)
        self.wait_serving(deadline)

    def _selected(self, sid: int | None) -> list[RealServer]:
        return list(self.servers.values()) if sid is None else [self.servers[sid]]

    def _awake(self) -> list[RealServer]:
        return [server for server in self.servers.values() if server.running and not server.paused]

    def modes(self) -> dict[int, str | None]:
        """Each server's `RealServer.mode`, by id."""
        return {sid: server.mode() for sid, server in self.servers.items()}

    def wait_serving(self, deadline: float = START_DEADLINE) -> None:
        """Waits until every server that runs and is not paused serves, under exactly one leader.

        Raises:
            StartFailed: one ended meanwhile, none runs, or the deadline passed.
        """
        for _ in _polls(deadline):
            modes = [server.mode() for server in self._awake()]
            if None not in modes and modes.count("leader") == 1:
                return
            for server in self.servers.values():
                if server.started and not server.running:
                    raise StartFailed(f"server {server.sid} ended\n{server.log_tail()}")
        logs = "\n".join(server.log_tail() for server in self.servers.values())
        raise StartFailed(f"no single leader after {deadline:g} s: {self.modes()}\n{logs}")

    def leader(self, deadline: float = START_DEADLINE) -> RealServer:
        """The one server that leads and serves, waited for.

        Raises:
            StartFailed: there was none by the deadline.
        """
        for _ in _polls(deadline):
            leaders = [server for server in self.servers.values() if server.mode() == "leader"]
            if len(leaders) == 1:
                return leaders[0]
        raise StartFailed(f"no single leader after {deadline:g} s: {self.modes()}")

    def followers(self, deadline: float = START_DEADLINE) -> list[RealServer]:
        """The servers that follow, in the order of their ids, once all that run serve."""
        self.wait_serving(deadline)
        # One look may find a server too busy to answer.
        return [server for server in self._awake() if server.wait_serving(deadline) == "follower"]

    def close(self) -> None:
        """Kills all servers, gives their ports back and removes the temporary folder."""
        self._cleanup.close()

    def __enter__(self) -> RealEnsemble:
        try:
            self.start()
            self.wait_serving()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _settings(values: Sequence[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for value in values:
        key, separator, setting = value.partition("=")
        if not separator:
            raise argparse.ArgumentTypeError(f"{value!r} is not KEY=VALUE")
        settings[key] = setting
    return settings


def _then(action: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    return lambda signum, frame: action()


def _run(command: Sequence[str]) -> int:
    """Runs the command to its end; its status as a shell reports it. SIGTERM is passed on, however early it comes."""
    asked: list[bool] = []
    signal.signal(signal.SIGTERM, _then(lambda: asked.append(True)))
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGTERM, _then(process.terminate))
        if asked:
            process.terminate()
        while True:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                # The terminal has sent it to the command too, which decides when to leave.
                continue
            return status if status >= 0 else 128 - status


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command against a real ZooKeeper that lives as long as the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.interop.zookeeper",
        description="Start a real ZooKeeper on free loopback ports, run COMMAND with every {hosts} in it replaced by "
        "the connect string, stop the servers, exit with COMMAND's status (3: no ZooKeeper, 4: it did not start).",
    )
    parser.add_argument("--servers", type=int, default=1, metavar="N", help="1 is standalone, more are an ensemble")
    for option, meaning in (("--zoo-cfg", "a line for zoo.cfg"), ("--jvm-property", "a -D property")):
        parser.add_argument(option, action="append", default=[], metavar="KEY=VALUE", help=f"{meaning}; repeatable")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    chosen = parser.parse_args(arguments)
    if chosen.servers < 1:
        parser.error(f"--servers {chosen.servers}: at least 1")
    try:
        options = ServerOptions(zoo_cfg=_settings(chosen.zoo_cfg), jvm_properties=_settings(chosen.jvm_property))
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    # Before the servers exist, so that a SIGTERM while they start still stops them.
    signal.signal(signal.SIGTERM, _then(lambda: sys.exit(128 + signal.SIGTERM)))
    try:
        with RealZooKeeper(options) if chosen.servers == 1 else RealEnsemble(chosen.servers, options) as zookeeper:
            return _run([word.replace("{hosts}", zookeeper.hosts) for word in chosen.command])
    except PeerMissing as missing:
        print(f"this command {missing}", file=sys.stderr)
        return 3
    except StartFailed as failed:
        print(failed, file=sys.stderr)
        return 4
    except FileNotFoundError as error:
        print(f"cannot run {chosen.command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
