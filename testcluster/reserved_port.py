"""A loopback port that stays this process's own while no server listens on it.

On Linux a socket that is bound with SO_REUSEADDR and never listens keeps the kernel from giving the port to others,
while another SO_REUSEADDR socket may bind it by number and listen. Elsewhere that second bind is refused; there the
number is only looked up, and a killed server may in theory find its port taken when it starts again.
"""

from __future__ import annotations

import socket
import sys


class ReservedPort:
    """One port.

    Args:
        host: numeric address.
        port: 0 picks a free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self.number: int = self._socket.getsockname()[1]
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"port {port} of {host} cannot be had: {error.strerror}") from error
        if sys.platform != "linux":
            self._socket.close()

    def close(self) -> None:
        """Gives the port back. May be called twice."""
        self._socket.close()
