"""Hosts on one machine: network namespaces on a bridge, whose links to one another can be cut one way without a word.

Decides how packets get lost. Knows nothing of the programs that run in the namespaces. Needs root and `ip` (iproute2).

A direction is cut by a wrong hardware address for the receiver in the sender's neighbour table: the packets leave and
nobody takes them, as behind a dead switch. No connection is reset, and no error is seen.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

NOWHERE = "02:00:00:00:00:99"
"""A hardware address that nobody has."""


def missing() -> str | None:
    """Why there can be no namespaces here, `None` where there can."""
    if shutil.which("ip") is None:
        return "the soak with partitions needs `ip`: apt-get install iproute2"
    if os.geteuid() != 0:
        return "the soak with partitions makes network namespaces, which only root may"
    return None


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


class Hosts:
    """Some hosts in namespaces, numbered from 1, and this process outside of them. Made by `open_hosts`."""

    def __init__(self, count: int) -> None:
        number = os.getpid() % 100_000
        self.numbers = range(1, count + 1)
        self._name = f"tz{number}"
        self._net = f"10.{200 + number % 50}.{number // 50 % 250}"
        self._hardware: dict[int, str] = {}

    def address(self, host: int) -> str:
        """A host's IP address; 0 is this process's own."""
        return f"{self._net}.{host or 254}"

    def namespace(self, host: int) -> str:
        """The name of a host's namespace."""
        return f"{self._name}-{host}"

    def command(self, host: int, arguments: Sequence[str]) -> list[str]:
        """The command line that runs a program on a host."""
        return ["ip", "netns", "exec", self.namespace(host), *arguments]

    def cut(self, sender: int, receiver: int) -> None:
        """Loses everything that one host sends to another, or to this process (0), from now on."""
        self._neighbour(sender, receiver, NOWHERE)

    def mend(self, sender: int, receiver: int) -> None:
        """Takes back `cut`."""
        self._neighbour(sender, receiver, self._hardware[receiver])

    def _neighbour(self, sender: int, receiver: int, hardware: str) -> None:
        table = ("neigh", "replace", self.address(receiver), "lladdr", hardware, "dev", "eth0", "nud", "permanent")
        _ip("-n", self.namespace(sender), *table)

    def build(self) -> None:
        """Makes the bridge, the namespaces and the links."""
        _ip("link", "add", self._name, "type", "bridge")
        _ip("addr", "add", f"{self.address(0)}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")
        for host in self.numbers:
            outside, inside = f"{self._name}v{host}", f"{self._name}w{host}"
            _ip("netns", "add", self.namespace(host))
            _ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            _ip("link", "set", outside, "master", self._name, "up")
            _ip("link", "set", inside, "netns", self.namespace(host), "name", "eth0")
            _ip("-n", self.namespace(host), "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", self.namespace(host), "link", "set", device, "up")
            self._hardware[host] = self._address_of("-n", self.namespace(host), "-j", "link", "show", "eth0")
        self._hardware[0] = self._address_of("-j", "link", "show", self._name)

    def _address_of(self, *arguments: str) -> str:
        return str(json.loads(_ip(*arguments))[0]["address"])

    def remove(self) -> None:
        """Takes everything down that was made, also after half of it failed."""
        for command in [["netns", "del", self.namespace(host)] for host in self.numbers]:
            subprocess.run(["ip", *command], capture_output=True, check=False)
        for host in self.numbers:
            subprocess.run(["ip", "link", "del", f"{self._name}v{host}"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._name], capture_output=True, check=False)


@contextmanager
def open_hosts(count: int) -> Iterator[Hosts]:
    """Hosts for the block.

    Raises:
        OSError: the machine does not let us.
    """
    hosts = Hosts(count)
    try:
        hosts.build()
        yield hosts
    finally:
        hosts.remove()
