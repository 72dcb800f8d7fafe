"""A link's own decisions: what comes before the protocol, and how a connection ends."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from terzetto.client.wire import operations as o
from terzetto.testcluster import stream_port
from terzetto.testcluster.links import LINGER_MS, UNSENT_PAUSE

from .port import connect_frame
from .shell import Client, serving


async def test_the_first_bytes_decide(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = Client(shell.transport)
        data = connect_frame()
        # The length of a ConnectRequest in pieces, as a word would come.
        for byte in data[:4]:
            await client.send(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        await client.send(data[4:])
        assert len(await client.frame()) == 37


async def test_nothing_is_read_behind_a_word(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = Client(shell.transport)
        await client.send(b"ruok" + connect_frame())
        assert await client.connection.receive() == b"imok"
        assert await client.connection.receive() == b""
        assert not shell.server.tree.sessions


async def test_a_closing_client_gets_its_last_reply_and_the_end(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = await shell.connect()
        assert (await client.ask(o.CLOSE_SESSION)).err == 0
        assert await client.ended()
        await trio.sleep(LINGER_MS / 1000 + 1)
        assert not shell.server.links


async def test_a_client_that_does_not_read_is_not_read_either(autojump_clock: trio.testing.MockClock) -> None:
    size, count = 100_000, 100
    async with serving(lockstep=True) as shell:
        slow, other = await shell.connect(), await shell.connect()
        await other.create("/large", bytes(size))
        frames = b"".join(o.GET_DATA.frame(xid, "/large", False) for xid in range(count))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.send, frames)
            await trio.sleep(1)
            # What waits is bounded, and so is what was read; the others are served.
            held = sum(link.unsent for link in shell.server.links.values())
            assert UNSENT_PAUSE < held < 3 * UNSENT_PAUSE
            assert (await other.ping()).xid == -2
            for xid in range(count):
                assert (await slow.reply()).xid == xid


async def test_a_client_that_never_reads_is_dropped(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_port, "UNSENT_MAX", 100_000)
    path = "/" + "long" * 500
    async with serving(lockstep=True) as shell:
        deaf, writer = await shell.connect(), await shell.connect()
        await deaf.ask(o.ADD_WATCH, path, 0)
        await writer.create(path)
        for _ in range(100):
            assert (await writer.ask(o.SET_DATA, path, b"", -1)).err == 0
        assert len(shell.server.links) == 1
        assert await deaf.ended() or await _ends(deaf)


async def _ends(client: Client) -> bool:
    while not await client.ended():
        pass
    return True
