"""A throw-away Kerberos realm: MIT's KDC on a free loopback port, with principals, keytabs and a ticket cache.

Decides what the realm's configuration says. Refuses to know who uses it: whoever does gets `environment`, and Java
servers `krb5_conf`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from .installation import PeerMissing
from .processes import ChildProcess, PortReservation, temporary_folder
from .zookeeper import StartFailed

REALM = "TERZETTO.TEST"
HOW_TO_GET = "needs MIT Kerberos: on Debian or Ubuntu install the packages krb5-kdc, krb5-admin-server and krb5-user"

_SBIN = "/usr/sbin"
_START_DEADLINE = 20.0
_COMMAND_DEADLINE = 30.0
_POLL_INTERVAL = 0.02

_KRB5_CONF = """
[libdefaults]
    default_realm = {realm}
    dns_lookup_realm = false
    dns_lookup_kdc = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
    kdc_timeout = 2s
    max_retries = 1
    default_ccache_name = FILE:{folder}/tickets
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
[domain_realm]
    localhost = {realm}
"""
_KDC_CONF = """
[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {folder}/principal
        key_stash_file = {folder}/stash
        acl_file = {folder}/kadm5.acl
        max_life = 1h
    }}
[logging]
    kdc = FILE:{folder}/kdc.log
"""


def find_program(name: str) -> str:
    """A program of MIT Kerberos.

    Raises:
        PeerMissing: it is not on this machine.
    """
    found = shutil.which(name) or shutil.which(name, path=_SBIN)
    if found is None:
        raise PeerMissing(HOW_TO_GET)
    return found


class KerberosRealm:
    """A realm with its KDC, a context manager: serving inside the block, gone after it.

    Every method blocks for a bounded time.

    Attributes:
        folder: holds everything of the realm.
        krb5_conf: its configuration for clients and servers.
        environment: what a process needs to be of the realm.

    Raises:
        PeerMissing: no MIT Kerberos on this machine.
    """

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        find_program("krb5kdc")
        self.folder = self._cleanup.enter_context(temporary_folder("terzetto-kerberos-"))
        self._port = PortReservation()
        self._cleanup.callback(self._port.close)
        names = {"realm": REALM, "folder": self.folder, "port": self._port.port}
        self.krb5_conf = self.folder / "krb5.conf"
        self.krb5_conf.write_text(_KRB5_CONF.format(**names))
        (self.folder / "kdc.conf").write_text(_KDC_CONF.format(**names))
        (self.folder / "kadm5.acl").touch()
        self.environment = {
            "KRB5_CONFIG": str(self.krb5_conf),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{self.folder}/tickets",
        }
        self._kdc: ChildProcess | None = None

    def __enter__(self) -> KerberosRealm:
        try:
            self._run("kdb5_util", "create", "-r", REALM, "-s", "-P", secrets.token_hex(8))
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Starts the KDC; returns when it serves.

        Raises:
            StartFailed: it ended, or does not serve in time.
        """
        # In the foreground, so that it ends with this process.
        self._kdc = ChildProcess(
            [find_program("krb5kdc"), "-n", "-r", REALM],
            log=self.folder / "output.log",
            directory=self.folder,
            environment=self.environment,
        )
        end = time.monotonic() + _START_DEADLINE
        while self._kdc.running and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self._port.port), 1.0).close()
            except OSError:
                time.sleep(_POLL_INTERVAL)
            else:
                return
        raise StartFailed(f"the KDC does not serve\n{self.log()}")

    def stop(self) -> None:
        """Ends the KDC; the realm's data stay."""
        if self._kdc is not None:
            self._kdc.kill()

    def close(self) -> None:
        """Ends the KDC and removes everything."""
        self.stop()
        self._cleanup.close()

    def log(self) -> str:
        """What the KDC said."""
        return "".join(
            (self.folder / name).read_text(errors="replace")
            for name in ("output.log", "kdc.log")
            if (self.folder / name).exists()
        )

    def add(self, principal: str) -> Path:
        """A new principal with a random key; returns its keytab."""
        keytab = self.folder / f"{principal.replace('/', '-')}.keytab"
        self._run("kadmin.local", "-r", REALM, "-q", f"addprinc -randkey {principal}@{REALM}")
        self._run("kadmin.local", "-r", REALM, "-q", f"ktadd -k {keytab} {principal}@{REALM}")
        return keytab

    def take_ticket(self, principal: str, keytab: Path) -> None:
        """`kinit`: the ticket cache holds a ticket of the principal from now on."""
        self._run("kinit", "-k", "-t", str(keytab), f"{principal}@{REALM}")

    def drop_tickets(self) -> None:
        """`kdestroy`: the ticket cache is empty."""
        self._run("kdestroy", "-q")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [find_program(program), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=_COMMAND_DEADLINE,
            check=False,
        )
        if done.returncode:
            raise StartFailed(f"{program} failed\n{done.stdout}{done.stderr}{self.log()}")
