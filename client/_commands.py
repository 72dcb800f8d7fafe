"""Four-letter words: a question to the server, on a connection of its own, and what its answer says."""

from __future__ import annotations

import re

import trio

from ._runner import SessionRunner
from .errors import ConnectionLoss, KazooException, OperationTimeoutError
from .values import ServerVersion

COMMAND_TIMEOUT = 10.0
"""Bound of a four-letter word's connection and answer, in seconds."""

_VERSION = re.compile(r"^(?:Zookeeper version: |zookeeper\.version=)(\d+)\.(\d+)\.(\d+)", re.MULTILINE)


async def ask_server(runner: SessionRunner, cmd: bytes | str) -> str:
    """See `ZooKeeper.command`."""
    raw = cmd.encode(errors="replace") if isinstance(cmd, str) else cmd
    if not isinstance(raw, bytes) or not re.fullmatch(rb"[a-z]{4}", raw):
        raise ValueError(f"a command has four lower-case letters, like 'ruok', not {cmd!r}")
    endpoint = runner.endpoint
    if endpoint is None:
        raise ConnectionLoss("there is no connection to send a command to")
    try:
        with trio.fail_after(COMMAND_TIMEOUT):
            answer = await runner.four_letter(endpoint, raw)
    except trio.TooSlowError:
        raise OperationTimeoutError(f"{endpoint} did not answer {cmd!r} within {COMMAND_TIMEOUT} s") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise ConnectionLoss(f"{endpoint} did not answer {cmd!r}: {error}") from error
    return answer.decode("utf-8", "replace")


def release_in(answer: str) -> ServerVersion:
    """The release that an answer to `srvr` or `envi` names.

    Raises:
        KazooException: it names none.
    """
    found = _VERSION.search(answer)
    if found is None:
        raise KazooException(f"the server's answer names no version: {answer[:200]!r}")
    return ServerVersion(*(int(number) for number in found.groups()))
