"""Ways to a server by WebSocket: terzetto's gateway as a process, nginx in front of it, and what stands behind them.

Decides how they are started, and that they end. Everything here is given the shape of a `RealZooKeeper`, as far as
tests of the client use one: hosts, an address for a TCP proxy, and a server that can be broken.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, TypeVar

import trustme

from terzetto.testcluster import BlockingEnsemble, start_ensemble

from .installation import PeerMissing
from .processes import ChildProcess, PortReservation

START_DEADLINE = 30.0
_POLL_INTERVAL = 0.02
_COMMAND = (sys.executable, "-c", "import sys; from terzetto.testcluster.cli import main; sys.exit(main())")


class Breakable(Protocol):
    """A server that a test may break."""

    @property
    def address(self) -> str: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def restart(self) -> None: ...


def _looks() -> Iterator[None]:
    """For loops that wait for a foreign process: yields until the deadline, pausing between."""
    end = time.monotonic() + START_DEADLINE
    while time.monotonic() < end:
        yield
        time.sleep(_POLL_INTERVAL)


T = TypeVar("T")


def _outside(function: Callable[[], T]) -> T:
    """Runs a blocking call in a thread without an event loop, and waits for it: tests call from within theirs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


class EmbeddedZooKeeper:
    """terzetto's own server with the face of a real one. Its settings take the place of zoo.cfg and -D properties."""

    def __init__(self, cleanup: ExitStack, **settings: object) -> None:
        opened = start_ensemble(tick_time=0.3, websocket=True, settings=settings)
        self.ensemble: BlockingEnsemble = _outside(opened.__enter__)
        cleanup.callback(_outside, lambda: opened.__exit__(None, None, None))

    @property
    def address(self) -> str:
        """The client address as "127.0.0.1:port"."""
        return self.ensemble.hosts

    def kill(self) -> None:
        """Ends it as SIGKILL would."""
        _outside(lambda: self.ensemble.kill(1))

    def pause(self) -> None:
        """Answers nobody any more."""
        _outside(lambda: self.ensemble.pause(1))

    def resume(self) -> None:
        """Goes on."""
        _outside(lambda: self.ensemble.resume(1))

    def restart(self) -> None:
        """Starts it again where it does not run."""
        _outside(lambda: self.ensemble.start(1))


class GatewayProcess:
    """`terzetto gateway` in a process of its own.

    Args:
        cleanup: ends it.
        ensemble: the servers behind it.
        directory: for its log.
        options: of its command line.

    Attributes:
        url: what it has said to be ready at.
    """

    def __init__(self, cleanup: ExitStack, ensemble: str, directory: Path, options: Sequence[str] = ()) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "gateway.log"
        command = [*_COMMAND, "gateway", "--listen", "127.0.0.1:0", "--ensemble", ensemble, *options]
        self.process = ChildProcess(command, self.log, directory)
        cleanup.callback(self.process.kill)
        self.url = self._ready()

    def _ready(self) -> str:
        for _ in _looks():
            said = self.log.read_text(encoding="utf-8")
            for line in said.splitlines(keepends=True):
                if line.startswith("ready ") and line.endswith("\n"):
                    return line.split()[1]
            if not self.process.running:
                break
        raise AssertionError(f"the gateway is not ready\n{self.log.read_text(encoding='utf-8')}")


def nginx_missing() -> str | None:
    """Why nginx cannot be used here, None where it can."""
    return None if shutil.which("nginx", path=_path()) else "needs nginx (Debian: nginx-light)"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


_NGINX = """
daemon off; master_process off; worker_processes 1; error_log stderr warn; pid {directory}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {directory}/nginx.pem;
        ssl_certificate_key {directory}/nginx.pem;
{locations}
    }}
}}
"""

INGRESS = """
        location /zk {
            proxy_pass http://GATEWAY/;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_buffering off;
            proxy_read_timeout 90s;
        }
"""
"""The location that docs/guides/gateway.md shows, in front of GATEWAY."""


class Nginx:
    """nginx as an ingress with TLS.

    Args:
        cleanup: ends it.
        authority: issues its certificate.
        directory: where it lives.
        locations: what it serves.

    Attributes:
        port: where it listens.
    """

    def __init__(self, cleanup: ExitStack, authority: trustme.CA, directory: Path, locations: str) -> None:
        missing = nginx_missing()
        if missing is not None:
            raise PeerMissing(missing)
        directory.mkdir(parents=True, exist_ok=True)
        reservation = PortReservation()
        self.port = reservation.port
        # nginx binds without SO_REUSEPORT but with SO_REUSEADDR, so that the reservation may stay.
        cleanup.callback(reservation.close)
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
            str(directory / "nginx.pem")
        )
        (directory / "nginx.conf").write_text(
            _NGINX.format(directory=directory, port=self.port, locations=locations), encoding="utf-8"
        )
        binary = shutil.which("nginx", path=_path())
        assert binary is not None
        self.log = directory / "nginx.log"
        self.process = ChildProcess(
            [binary, "-p", str(directory), "-c", str(directory / "nginx.conf")], self.log, directory
        )
        cleanup.callback(self.process.kill)
        self._wait_listening()

    def _wait_listening(self) -> None:
        for _ in _looks():
            if not self.process.running:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                continue
        raise AssertionError(f"nginx does not listen\n{self.log.read_text(encoding='utf-8')}")


class Door:
    """A server that is reached by WebSocket, with the face of a `RealZooKeeper`."""

    def __init__(self, server: Breakable, url: str) -> None:
        self.server = server
        self.hosts = url
        scheme, _, rest = url.partition("://")
        self.address, slash, path = rest.partition("/")
        self._around = (f"{scheme}://", slash + path)

    def hosts_at(self, address: str) -> str:
        """The same door behind a TCP proxy that listens at an address."""
        before, after = self._around
        return f"{before}{address}{after}"

    def kill(self) -> None:
        """Ends the server; the gateway stays."""
        self.server.kill()

    def pause(self) -> None:
        """Stops the server."""
        self.server.pause()

    def resume(self) -> None:
        """Lets it go on."""
        self.server.resume()

    def restart(self) -> None:
        """Starts it again."""
        self.server.restart()
