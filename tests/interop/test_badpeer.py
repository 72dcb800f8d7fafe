"""The bad peer itself: each script puts on the wire what it promises, and a connection always ends."""

from __future__ import annotations

import struct

import pytest
import trio
import trio.testing

from tests.vectors.raw_client import RawClient, ServerClosed
from tests.vectors.recorder import Connection

from . import badpeer
from .badpeer import Script, open_bad_peer, serve_badly


async def _dial(hosts: str) -> trio.SocketStream:
    host, port = hosts.split(":")
    return await trio.open_tcp_stream(host, int(port))


async def _client(hosts: str) -> RawClient:
    return RawClient(await _dial(hosts), Connection("test"))


async def _everything_after_a_handshake(script: Script) -> bytes:
    """What the peer sends until it closes or the stream has been silent for a virtual minute."""
    mine, theirs = trio.testing.memory_stream_pair()
    received = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_badly, theirs, script)
        handshake = struct.pack(">iiqiqi", 44, 0, 0, 6000, 0, 16) + bytes(16)
        exists = struct.pack(">iiii", 14, 1, 3, 1) + b"/\0"
        await mine.send_all(handshake + exists)
        with trio.move_on_after(60):
            while piece := await mine.receive_some():
                received += piece
        nursery.cancel_scope.cancel()
    return received


GREETING = struct.pack(">iiiqi", 36, 0, 6000, badpeer.SESSION_ID, 16) + badpeer.PASSWORD
NO_NODE = struct.pack(">iiqi", 16, 1, 1, -101)


@pytest.mark.parametrize(
    ("script", "octets"),
    [
        (badpeer.never_answers(), b""),
        (badpeer.never_reads(), GREETING),
        (badpeer.mute_after_handshake(), GREETING),
        (badpeer.mute_after_handshake(1), GREETING + NO_NODE),
        (badpeer.garbage(b"\xff" * 7), b"\xff" * 7),
        (badpeer.garbage(b"no frame", greeted=True, then="close"), GREETING + b"no frame"),
        (badpeer.oversized_length(), b"\x7f\xff\xff\xff" + bytes(8)),
        (badpeer.oversized_length(-5, greeted=True), GREETING + b"\xff\xff\xff\xfb" + bytes(8)),
        (badpeer.half_frame(), GREETING[:20]),
        (badpeer.half_frame(greeted=True, then="close"), GREETING + NO_NODE[:10]),
        (badpeer.unknown_error(-4711), GREETING + struct.pack(">iiqi", 16, 1, 1, -4711)),
        (badpeer.wrong_xid(5), GREETING + struct.pack(">iiqi", 16, 6, 1, -101)),
        (badpeer.unasked_reply(9), GREETING + struct.pack(">iiqi", 16, 9, 1, 0)),
        (badpeer.truncated_record(b"ab"), GREETING + struct.pack(">iiqi", 18, 1, 1, 0) + b"ab"),
        (badpeer.closes_after(0), GREETING),
        (badpeer.expires_session(), struct.pack(">iiiqi", 36, 0, 0, 0, 16) + bytes(16)),
        (badpeer.dribbles(), GREETING + NO_NODE),
        (badpeer.polite(), GREETING + NO_NODE),
    ],
)
async def test_a_script_sends_exactly_its_fault(
    script: Script, octets: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    assert await _everything_after_a_handshake(script) == octets


@pytest.mark.parametrize(
    "script",
    [
        badpeer.never_answers(),
        badpeer.mute_after_handshake(),
        badpeer.garbage(),
        badpeer.half_frame(greeted=True),
        badpeer.wrong_xid(),
        badpeer.polite(),
    ],
)
async def test_a_connection_is_over_when_the_client_leaves(script: Script) -> None:
    async with open_bad_peer(script) as peer:
        async with await _dial(peer.hosts):
            await peer.wait_until(lambda peer: peer.accepted == 1)
        await peer.wait_until(lambda peer: peer.left == 1)


async def test_a_polite_peer_serves_a_session() -> None:
    async with open_bad_peer(badpeer.polite()) as peer, await _client(peer.hosts) as client:
        session = await client.handshake(time_out=7000)
        assert session["time_out"] == 7000
        assert (await client.request("ping"))["err"] == 0
        assert (await client.request("exists", path="/", watch=False))["err"] == -101
        await client.close_session()
        assert len(peer.frames) == 4


async def test_scripts_go_by_connection_and_the_last_one_stays() -> None:
    async with open_bad_peer(badpeer.closes_after(0), badpeer.expires_session()) as peer:
        async with await _client(peer.hosts) as client:
            await client.handshake()
            with pytest.raises(ServerClosed):
                await client.request("ping")
        for _ in range(2):
            async with await _client(peer.hosts) as client:
                assert (await client.handshake(session_id=5))["session_id"] == 0
                await client.await_close()
        assert peer.accepted == 3


async def test_reset_is_seen_as_a_broken_connection() -> None:
    async with open_bad_peer(badpeer.closes_after(1, then="reset")) as peer, await _client(peer.hosts) as client:
        await client.handshake()
        await client.request("ping")
        with pytest.raises(trio.BrokenResourceError):
            await client.request("ping")


async def test_an_exception_in_the_block_leaves_it_bare() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_bad_peer(badpeer.never_answers()):
            raise LookupError("mine")


async def test_a_script_is_required() -> None:
    with pytest.raises(ValueError, match="needs a script"):
        async with open_bad_peer():
            pass
