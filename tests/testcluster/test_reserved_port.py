"""A reserved port: nobody else gets it, and its owner may listen at it."""

from __future__ import annotations

import socket
import sys

import pytest

from terzetto.testcluster.reserved_port import ReservedPort


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the number is only looked up")
def test_the_owner_listens_again_and_again_and_nobody_else_gets_it() -> None:
    reserved = ReservedPort()
    try:
        for _ in range(3):
            with socket.create_server(("127.0.0.1", reserved.number)):
                with pytest.raises(OSError, match="cannot be had"):
                    ReservedPort(port=reserved.number)
            with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
                stranger.bind(("127.0.0.1", reserved.number))
    finally:
        reserved.close()
    with socket.create_server(("127.0.0.1", reserved.number)):
        pass


def test_closing_twice_is_harmless() -> None:
    reserved = ReservedPort()
    reserved.close()
    reserved.close()
