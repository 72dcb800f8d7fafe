"""Ports in a row for tests that must name them before anything listens there.

Decides where they are looked for: below those that the kernel hands out, so that neither a listener without a number
nor the near end of a connection takes one in between; and by the process, so that two workers do not find the same.
"""

from __future__ import annotations

import contextlib
import os
import socket

_FIRST, _BEHIND = 26_000, 32_000
_SHARE = 12
_HOST = "127.0.0.1"


def free_ports(count: int) -> int:
    """The first of so many free ports, at most twelve.

    Raises:
        AssertionError: there are none.
    """
    assert 0 < count <= _SHARE
    places = (_BEHIND - _FIRST) // _SHARE
    for turn in range(places):
        base = _FIRST + _SHARE * ((os.getpid() + turn) % places)
        with contextlib.suppress(OSError), contextlib.ExitStack() as free:
            for port in range(base, base + count):
                free.enter_context(socket.create_server((_HOST, port)))
            return base
    raise AssertionError(f"there are no {count} free ports in a row")
