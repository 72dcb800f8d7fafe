"""The four letter words, against what ZooKeeper 3.8.0 printed in the same situation (see vectors/).

The situation: one client with /a, an ephemeral /e and watches on /a, / and /zz, a second with a watch on /a, and the
one that asks. Numbers, dates and addresses are masked on both sides; everything else must be the same, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from terzetto.client.wire import operations as o
from terzetto.testcluster import fourletter
from terzetto.testcluster.config import ServerConfig

from .shell import Client, Shell, serving

CAPTURED: dict[str, str] = json.loads((Path(__file__).parent / "vectors" / "zookeeper_3_8_0_words.json").read_text())


@asynccontextmanager
async def situation(**settings: Any) -> AsyncIterator[Shell]:
    async with serving(tick_ms=300, max_session_ms=60_000, **settings) as shell:
        one, two = await shell.connect(timeout_ms=10_000), await shell.connect(timeout_ms=10_000)
        await one.create("/a", b"x")
        await one.create("/e", flags=1)
        await one.ask(o.GET_DATA, "/a", True)
        await one.ask(o.GET_CHILDREN, "/", True)
        await one.ask(o.EXISTS, "/zz", True)
        await one.create("/a")
        await two.ask(o.GET_DATA, "/a", True)
        yield shell


def masked(text: str) -> list[str]:
    text = re.sub(r"Zookeeper version: .*", "Zookeeper version: V", text)
    text = re.sub(r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d \w+ \d{4}", "DATE", text)
    text = re.sub(r"(data(Log)?Dir)=.*", r"\1=PATH", text)
    text = re.sub(r"0x[0-9a-f]+", "0xX", text)
    text = re.sub(r"/[0-9.]+:\d+", "/ADDRESS", text)
    text = re.sub(r"lop=\w+", "lop=OP", text)
    text = re.sub(r"\b-?\d+(\.\d+)?\b", "N", text)
    return text.split("\n")


@pytest.mark.parametrize("word", ["ruok", "isro", "srvr", "conf", "dirs", "gtmk", "hash", "wchs", "crst", "srst"])
async def test_words_print_as_there(word: str, autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        assert masked(await shell.say(word.encode())) == masked(CAPTURED[word])


@pytest.mark.parametrize("word", ["stat", "cons", "wchc", "wchp"])
async def test_words_with_rows_in_no_order(word: str, autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        assert sorted(masked(await shell.say(word.encode()))) == sorted(masked(CAPTURED[word]))


async def test_dump(autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        # How many sessions share a bucket depends on the moment; which lines there are does not.
        assert set(masked(await shell.say(b"dump"))) == set(masked(CAPTURED["dump"]))


async def test_envi(autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        text = await shell.say(b"envi")
    assert re.sub(r"=.*", "=", text) == CAPTURED["envi"]


async def test_mntr(autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        here, there = (
            dict(line.split("\t") for line in text.splitlines())
            for text in (await shell.say(b"mntr"), CAPTURED["mntr"])
        )
    assert set(here) <= set(there)
    exact = (
        "server_state ephemerals_count num_alive_connections outstanding_requests znode_count global_sessions "
        "watch_count approximate_data_size local_sessions auth_failed_count connection_drop_probability"
    )
    assert {key: here[f"zk_{key}"] for key in exact.split()} == {key: there[f"zk_{key}"] for key in exact.split()}
    for key, value in here.items():
        # Whole numbers where ZooKeeper has whole numbers, decimals where it has decimals.
        assert re.fullmatch(r"-?\d+", value) or not re.fullmatch(r"-?\d+", there[key]), key


async def test_what_is_not_allowed_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(four_letter_words=frozenset({"ruok"})) as shell:
        assert await shell.say(b"ruok") == "imok"
        assert await shell.say(b"mntr") == "mntr is not executed because it is not in the whitelist.\n"
        assert (await shell.say(b"srvr")).startswith("Zookeeper version:")


async def test_statistics_are_reset(autojump_clock: trio.testing.MockClock) -> None:
    async with situation() as shell:
        assert "Received: 1\n" not in await shell.say(b"srvr")
        await shell.say(b"srst")
        # The words themselves count, as they do there.
        assert "Received: 1\nSent: 1\n" in await shell.say(b"srvr")
        await shell.say(b"crst")
        assert "recved=0,sent=0" in await shell.say(b"cons")


async def test_the_trace_mask_can_be_set(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        assert await shell.say(b"stmk" + (514).to_bytes(8, "big")) == "514"
        assert await shell.say(b"gtmk") == "514"
        assert await shell.say(b"stmk") == ""


async def test_an_interrupt_of_telnet_ends_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        assert await shell.say(fourletter.TELNET_CLOSE) == ""


async def test_words_mean_nothing_behind_the_handshake(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = await shell.connect()
        await client.send(b"ruok")
        assert await client.ended()


async def test_digests_are_listed_every_128_transactions(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = await shell.connect()
        for number in range(300):
            await client.create(f"/{number}")
        lines = (await shell.say(b"hash")).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["80", "100"]


@pytest.mark.parametrize("word", sorted(CAPTURED))
def test_every_word_is_known(word: str) -> None:
    assert fourletter.is_word(word.encode())
    assert not fourletter.is_word(word.upper().encode())


@pytest.mark.parametrize(("word", "text"), [("ruok", "imok"), ("isro", "null"), ("hash", None), ("srvr", None)])
async def test_before_it_serves(word: str, text: str | None) -> None:
    from terzetto.testcluster.server import ZooKeeperServer
    from terzetto.testcluster.storage import MemoryStorage

    config = ServerConfig(client_port=0, four_letter_words=frozenset({"*"}))
    server = ZooKeeperServer(config, storage=MemoryStorage())
    answer = fourletter.answer(server.view, word.encode())
    assert answer.rstrip("\n") == (text or "This ZooKeeper instance is not currently serving requests")
    assert answer.endswith("\n") == (word == "srvr")


async def test_a_connection_that_only_asks_has_no_session(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        asking = Client(shell.transport)
        await asking.send(b"cons")
        line = (await asking.connection.receive()).decode()
    assert re.fullmatch(r" /10\.0\.0\.9:\d+\[\d\]\(queued=0,recved=\d,sent=\d\)\n\n", line), line
